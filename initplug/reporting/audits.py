"""The page of an audit or a plan: from their plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from html import escape
from typing import Any

from initplug.errors import visible
from initplug.language.yaml import written
from initplug.reporting.opening import SHOWN, Fact, Names, Rule, line_of, summary
from initplug.reporting.page import Report
from initplug.reporting.pictures import Picture, of_depth, of_modules
from initplug.reporting.wording import bytes_told, compact, name, number, plural, whole
from initplug.schemes.compositions import Planned
from initplug.tables.text import Column, spread

VERDICTS = ("exact", "ok", "differs", "untestable")
TONES = ("exact", "ok", "untestable", "other", "kept", "differs")
"""The sorts of rows that the bar tells apart, in this order."""

NO_RULE, FROZEN = "none", "frozen"
"""The value in the filter of rules of rows without one; others have an equals sign and their rule's name."""

COLUMNS = (
    Column("parameter", "name"),
    Column("shape", "shape"),
    Column("rule", "rule"),
    Column("initializer", "init"),
    Column("expected", "expected"),
)
MEASURED_COLUMNS = (*COLUMNS, Column("measured", "measured"), Column("verdict", "verdict"))


def audit_report(
    data: Mapping[str, Any],
    recipe: Mapping[str, Any],
    locations: Mapping[str, str | None],
    distributions: Sequence[Planned | None],
    agreed: Sequence[Hashable | None],
    left: str = "",
) -> Report:
    """Return the contents of the page of an audit, or of a plan, whose rows have neither verdict nor moments.

    Args:
        data: what `to_dict` gives, with `histograms` or without.
        recipe: what `Recipe.plain` gives.
        locations: file and line of every rule, where known.
        distributions: of every row.
        agreed: of every row, in which rows of repeated blocks agree.
        left: a line on the kept slots, where they are shown on demand.
    """
    rows = data["rows"]
    measured = "versions" in data
    kind = "audit" if measured else "plan"
    rules = _rules(recipe, locations, rows)
    plain = [
        {**row, "expected": spread(row["mean"], row["std"])}
        | ({"measured": spread(row["measured_mean"], row["measured_std"]), "verdict": judged(row)} if measured else {})
        for row in rows
    ]
    return Report(
        kind=kind,
        about=f"initialization {kind} of <b>{name(data['model'])}</b>",
        heading=data["recipe"] or "recipe",
        facts=_origin(data) if measured else [],
        summary=_summary(data, rules, measured),
        rows=rows,
        agreed=agreed,
        drawn={"": distributions},
        columns=MEASURED_COLUMNS if measured else COLUMNS,
        plain=plain,
        histograms=data.get("histograms", {}),
        recipe=recipe,
        rules=rules,
        pictures=_pictures(data),
        footer=f"recipe digest {data['digest']}",
        data={"counted": "histograms" in data, "left": left},
    )


def judged(row: Mapping[str, Any]) -> str:
    """Return in a word what became of a row: the verdict on what was written or read, of others the status."""
    return str(row["verdict"] if row["status"] in ("initialized", "read") else row["status"])


def _origin(data: Mapping[str, Any]) -> list[str]:
    read = any(row["status"] == "read" for row in data["rows"])
    seeded = "torch's generator" if data["seed"] is None else f"seed {data['seed']}"
    made = [
        "the model as it stands" if read else seeded,
        *([f"seed {data['seed']}"] if read and data["seed"] is not None else []),
    ]
    return [*made, *(f"{package} {data['versions'][package]}" for package in ("torch", "initplug"))]


def _pictures(data: Mapping[str, Any]) -> list[Picture]:
    depth = of_depth(data["depths"])
    return [of_modules(data["modules"]), *([] if depth is None else [depth])] if data["rows"] else []


def _rules(
    recipe: Mapping[str, Any], locations: Mapping[str, str | None], rows: Sequence[Mapping[str, Any]]
) -> list[Rule]:
    won = Counter(row["rule"] for row in rows)
    shadowed = Counter(rule for row in rows for rule in row["shadowed"])
    return [
        Rule(key, written({key: rule}), locations.get(key), won[key], shadowed[key], rule is None)
        for key, rule in recipe["rules"].items()
    ]


def _summary(data: Mapping[str, Any], rules: Sequence[Rule], measured: bool) -> str:
    rows, totals = data["rows"], data["summary"]
    by = Counter(row["verdict"] for row in rows) if measured else Counter[str]()
    line = _judgement(len(rows), by) if measured else _matched(len(rows), len(data["unmatched"]))
    tones = Counter(tone if (tone := judged(row)) in TONES else "other" for row in rows) if measured else Counter[str]()
    covered = sum(row["numel"] for row in rows if row["rule"] is not None)
    dtypes = totals["dtypes"]
    told = ", ".join(
        key if len(dtypes) == 1 else f"{key} {bytes_told(one['bytes'])}" for key, one in [*dtypes.items()][:4]
    )
    facts = [
        Fact(whole(len(rows)), "parameters"),
        Fact(compact(totals["numel"]), "elements"),
        Fact(bytes_told(totals["bytes"]), told + (", …" if len(dtypes) > 4 else "") or "bytes"),
        Fact(f"{number(100 * covered / totals['numel']) if totals['numel'] else 0} %", "of them under a rule"),
    ]
    facts += [Fact(whole(by[word]), word, word, {"verdict": word}) for word in VERDICTS if by[word]]
    for word, count in totals.get("status", {}).items():
        if word != "initialized":
            facts.append(Fact(whole(count), word, word, {"status": word}))
    unmatched, unused = data["unmatched"], data["unused"]
    if unmatched:
        facts.append(Fact(whole(len(unmatched)), "unmatched", "unmatched", {"rule": NO_RULE}))
    places = {rule.name: place for place, rule in enumerate(rules)}
    if unused:
        word = "unused rule" if len(unused) == 1 else "unused rules"
        facts.append(Fact(whole(len(unused)), word, "unused", {"to-rule": str(places[unused[0]])}))
    return summary(line, bool(by["differs"]), _ordered(tones), facts, _lists(data, places, measured))


def _ordered(tones: Mapping[str, int]) -> dict[str, int]:
    return {word: tones[word] for word in TONES if tones[word]}


def _judgement(count: int, by: Mapping[str, int]) -> str:
    bad, fine = by["differs"], by["ok"] + by["exact"]
    if bad:
        return f"{plural(bad, 'parameter')} of {whole(count)} {'is' if bad == 1 else 'are'} not what the recipe says"
    rest = f", {whole(by['untestable'])} cannot be tested" if by["untestable"] else ""
    bits = f", {'all' if by['exact'] == fine else whole(by['exact'])} of them to the bit" if by["exact"] else ""
    verb = "is" if fine == 1 else "are"
    return f"Nothing differs: {whole(fine)} of {plural(count, 'parameter')} {verb} as planned{bits}{rest}"


def _matched(count: int, unmatched: int) -> str:
    if unmatched:
        return f"{whole(count - unmatched)} of {plural(count, 'parameter')} match a rule"
    return f"All {plural(count, 'parameter')} match a rule" if count != 1 else "The one parameter matches a rule"


def _lists(data: Mapping[str, Any], places: Mapping[str, int], measured: bool) -> list[str]:
    rows = data["rows"]
    at = {row["name"]: place for place, row in enumerate(rows)}
    differ = [(row["name"], "row", place) for place, row in enumerate(rows) if measured and row["verdict"] == "differs"]
    lines = [
        Names("Differ", differ),
        Names("Unmatched", [(one, "row", at[one]) for one in data["unmatched"]]),
        Names("Unused", [(one, "rule", places[one]) for one in data["unused"]]),
    ]
    told = [line_of(line) for line in lines if line.names]
    notes = [note for note in data["notes"] if not note["shipped"]]
    for note in notes[:SHOWN]:
        place, rule = places.get(note["rule"]), name(note["rule"])
        button = rule if place is None else f'<button type="button" data-to-rule="{place}">{rule}</button>'
        told.append(f"Note: rule {button}: {escape(visible(note['message']))}")
    return told + ([f"… and {whole(len(notes) - SHOWN)} more notes"] if len(notes) > SHOWN else [])
