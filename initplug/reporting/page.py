"""An audit as one HTML file: its data as a block of JSON, one style sheet and one script, and no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from initplug.errors import visible
from initplug.language.yaml import written
from initplug.schemes.compositions import Planned, closed_form
from initplug.schemes.densities import curve
from initplug.tables.text import Column, cell

WEB = Path(__file__).parent / "web"

SCRIPTS = ("elements", "rows", "figures", "details", "summary", "tree", "table", "page")
"""The files of the script, which see each other and nobody sees: one function, in this order."""

OWN = ("name", "aliases", "measured_mean", "measured_std", "measured_min", "measured_max", "measured_count")
"""The keys that every row has of its own, beside its status and verdict."""

DIGITS = 8
"""Significant digits of the numbers that are drawn."""


def page(
    audit: Mapping[str, Any],
    recipe: Mapping[str, Any],
    locations: Mapping[str, str | None],
    distributions: Sequence[Planned | None],
    shares: Sequence[int],
) -> str:
    """Return the page of an audit.

    Args:
        audit: what `Audit.to_dict` gives, with `histograms` or without; and `left`, a line on the kept slots where they
            are shown on demand.
        recipe: what `Recipe.plain` gives.
        locations: file and line of every rule, where known.
        distributions: of what rows have in common by the plan.
        shares: of every row the place of its own among these.

    Example:
        >>> empty = {"recipe": "<b>", "rows": [], "summary": {}}
        >>> print(*page(empty, {"rules": {}}, {}, [], []).splitlines()[:2])
        <!doctype html> <html lang="en">
    """
    title = f"{visible(audit['recipe'] or 'recipe')} · initplug audit"
    scripts = "\n".join(_read_asset(f"{name}.js") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{scripts}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": escape(title),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "style": _read_asset("page.css"),
        "data": _embedded(_data(audit, recipe, locations, distributions, shares)),
        "script": script,
    }
    # One pass: what stands in the data is not looked at again.
    first, *others = _read_asset("page.html").split("{{")
    return first + "".join(parts[name] + rest for name, rest in (other.split("}}", 1) for other in others))


def _read_asset(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def fragment(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]], footer: Iterable[str]) -> str:
    """Return rows as an HTML table without script, for notebooks.

    Example:
        >>> print(fragment([Column("parameter", "name")], [{"name": "<b>"}], ["1 slot"]))
        <table><thead><tr><th>parameter</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table><p>1 slot</p>
    """
    listed = list(columns)
    head = "".join(f"<th>{escape(column.title)}</th>" for column in listed)
    lines = ("".join(f"<td>{escape(cell(row.get(column.key)))}</td>" for column in listed) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    below = "".join(f"<p>{escape(visible(line))}</p>" for line in footer)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _embedded(data: Mapping[str, Any]) -> str:
    """Return JSON that no browser takes for anything else: it holds no `<`."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data(
    audit: Mapping[str, Any],
    recipe: Mapping[str, Any],
    locations: Mapping[str, str | None],
    distributions: Sequence[Planned | None],
    shares: Sequence[int],
) -> dict[str, Any]:
    """Return what the script draws; what many rows have in common stands there once."""
    counted = audit.get("histograms", {})
    curves: dict[str, int] = {}
    drawn: list[Any] = []
    places: dict[tuple[int, str | None, str | None], int] = {}
    common: list[dict[str, Any]] = []
    rows = []
    for row, share in zip(audit["rows"], shares, strict=True):
        alike = (share, row["reason"], row["problem"])  # which an audit says of a row by itself
        if alike not in places:
            places[alike] = len(common)
            told = repr(distributions[share])  # exact, while those that hold others' arguments need not be hashable
            if told not in curves:
                curves[told] = len(drawn)
                drawn.append(_curve(distributions[share]))
            shown = {key: value for key, value in row.items() if key not in (*OWN, "status", "verdict")}
            common.append({**shown, "curve": curves[told]})
        own = [_short(row[key]) for key in OWN]
        rows.append([*own, row["status"], row["verdict"], places[alike], _histogram(counted.get(row["name"]))])
    rules = recipe["rules"]
    return {
        **{key: value for key, value in audit.items() if key not in ("rows", "histograms")},
        "counted": "histograms" in audit,
        "head": written({key: value for key, value in recipe.items() if key != "rules"}),
        "rules": [
            {
                "name": name,
                "text": written({name: rule}),
                "location": locations.get(name),
                "disabled": rule is None,
            }
            for name, rule in rules.items()
        ],
        "curves": drawn,
        "shares": common,
        "rows": rows,
    }


def _curve(distribution: Planned | None) -> list[Any] | None:
    known = closed_form(distribution)
    found = None if known is None else curve(known)
    if found is None:
        return None
    return [[*map(_short, found.x)], [*map(_short, found.y)], [[*map(_short, atom)] for atom in found.atoms]]


def _histogram(counted: Mapping[str, Any] | None) -> list[Any] | None:
    if counted is None:
        return None
    return [counted["low"], counted["high"], counted["below"], counted["above"], list(counted["counts"])]


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
