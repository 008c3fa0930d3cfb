"""A page as one HTML file: its rows as a block of JSON, one style sheet and one script, and no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from initplug.errors import NAME, cut, visible
from initplug.reporting.fragment import fragment
from initplug.reporting.opening import Rule, recipe_listing
from initplug.reporting.packing import Drawn, embedded, packed
from initplug.reporting.pictures import Picture, drawn
from initplug.reporting.wording import name, whole
from initplug.tables.grouping import blocks
from initplug.tables.text import Column

WEB = Path(__file__).parent / "web"

STYLES = ("page", "opening", "table", "print")
"""The files of the style sheet, in this order."""

SCRIPTS = (*("elements", "rows", "columns", "view", "figures", "details", "table", "tools", "tree", "reading", "page"),)
"""The files of the script, which see each other and nobody sees: one function, in this order."""

PLAIN_LINES = 200
"""The most lines of the table that stands there for those who run no script."""


@dataclass(frozen=True, slots=True)
class Report:
    """The contents of a page.

    Args:
        kind: `audit`, `plan`, `recording`, `inference`, `diff` or `probe`, which says how rows are shown.
        about: of what it is one, a text that its kind begins: `initialization audit of ResNet`.
        heading: its name.
        facts: what stands below the heading: seed, versions.
        summary: the box that sums up, as markup.
        rows: plain data, all with the same keys.
        agreed: of every row, in which rows of repeated blocks agree; None for one that stands alone.
        drawn: distributions of the rows.
        columns: of the table that stands there for those who run no script.
        plain: rows of that table, from rows of the data.
        histograms: counts by name of row.
        recipe: what `Recipe.plain` gives; None where there is none.
        rules: its rules.
        pictures: beside the summary.
        footer: a last line.
        data: what else the script shows.
    """

    kind: str
    about: str
    heading: str
    facts: Sequence[str]
    summary: str
    rows: Sequence[Mapping[str, Any]]
    agreed: Sequence[Hashable | None]
    drawn: Drawn
    columns: Sequence[Column]
    plain: Sequence[Mapping[str, Any]]
    histograms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    rules: Sequence[Rule] = ()
    pictures: Sequence[Picture] = ()
    footer: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def page(
    report: Report,
    *,
    title: str | None = None,
    command: str | None = None,
    date: str | None = None,
    pictures: Iterable[Picture] = (),
) -> str:
    """Return the page of a report. The same report gives the same text, unless told of a command and a date.

    Args:
        report: its contents.
        title: the heading, instead of the report's own.
        command: the command that made it.
        date: when.
        pictures: further ones, after the report's own.
    """
    heading = report.heading if title is None else title
    scripts = "\n".join(_read_asset(f"script/{one}.js") for one in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{scripts}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = [*report.pictures, *pictures]
    meta = [*report.facts, *([] if date is None else [date])]
    parts = {
        "title": escape(f"{cut(heading, NAME)} · initplug {report.kind}"),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "style": "".join(_read_asset(f"style/{one}.css") for one in STYLES),
        "class": report.kind,
        "kind": report.about,
        "heading": name(heading),
        "meta": escape(" · ".join(map(visible, meta))),
        "command": "" if command is None else f'<p class="meta"><code>{escape(visible(command))}</code></p>',
        "summary": report.summary,
        "things": "layers" if report.kind == "probe" else "parameters",
        "Things": "Layers" if report.kind == "probe" else "Parameters",
        "pictures": f'<div id="pictures">{"".join(map(drawn, shown))}</div>' if shown else "",
        "plain": _without_script(report),
        "recipe": "" if report.recipe is None else _recipe(report.recipe, report.rules),
        "footer": escape(visible(report.footer)),
        "data": embedded(_data(report, shown)),
        "script": script,
    }
    # One pass: what stands in the data is not looked at again.
    first, *others = _read_asset("template/page.html").split("{{")
    return first + "".join(parts[key] + rest for key, rest in (other.split("}}", 1) for other in others))


def _read_asset(path: str) -> str:
    return (WEB / path).read_text(encoding="utf-8")


def _recipe(recipe: Mapping[str, Any], rules: Sequence[Rule]) -> str:
    hint = "hits beside each rule" if any(rule.won is not None for rule in rules) else ""
    return (
        '<section id="recipe" aria-labelledby="recipe-title">'
        f'<h2 id="recipe-title">Recipe <span class="hint">{hint}</span></h2>'
        f'<div class="listing" id="rules">{recipe_listing(recipe, rules)}</div></section>'
    )


def _without_script(report: Report) -> str:
    """Return the table for those who run no script: a line for rows that agree."""
    found = blocks([row["name"] for row in report.rows], report.agreed)
    lines = [{**report.plain[block.rows[0]], "name": block.name} for block in found[:PLAIN_LINES]]
    more = len(found) - PLAIN_LINES
    told = [f"… and {whole(more)} more lines, which a script shows, or .json, .csv and .md hold."] if more > 0 else []
    return fragment(report.columns, lines, told)


def _data(report: Report, pictures: Iterable[Picture]) -> dict[str, Any]:
    """Return what the script shows."""
    return {
        "kind": report.kind,
        **report.data,
        "rules": [rule.name for rule in report.rules],
        "pictures": {picture.name: picture.data for picture in pictures if picture.data is not None},
        **packed(report.rows, report.agreed, report.drawn, report.histograms),
    }
