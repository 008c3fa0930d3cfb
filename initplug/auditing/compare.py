"""An audit beside an older one: which rows changed, in what, under which rule."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from initplug.errors import InitplugError, visible
from initplug.tables.grouping import POOLED, collapsed
from initplug.tables.text import cell, spread

FACTS = (
    "shape",
    "dtype",
    "kind",
    "trainable",
    "rule",
    "init",
    "distribution",
    "fan_in",
    "fan_out",
    "status",
    "verdict",
)
"""What is compared as it stands, where both audits have it."""

SUM_ROUNDING = 1e-5
"""How far measured moments may lie apart, in standard deviations, lest the way they were summed counts as a change."""

ALIKE = {"read": "initialized", "exact": "ok"}
"""Words that say of a slot's values what another does: who wrote them and how they were judged is not compared."""


def load_report(path: Path) -> dict[str, Any]:
    """Return the rows of an audit that was saved as JSON.

    Raises:
        InitplugError: the file cannot be read, or holds no audit.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InitplugError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InitplugError(f"{path}: is no audit saved as .json: {str(error).partition(chr(10))[0]}") from None
    rows = data.get("rows") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(_is_report_row(row) for row in rows):
        raise InitplugError(f"{path}: is no audit saved as .json: it has no rows with a name and a rule")
    schema = data.get("schema")
    if schema != 1:
        raise InitplugError(f"{path}: its schema is {cell(schema)}, and this version reads schema 1")
    return {"rows": rows}


def _is_report_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return False
    numbers = (row.get(f"{side}{field}") for side in ("", "measured_") for field in ("mean", "std", "min", "max"))
    texts = (row.get(key) for key in ("rule", "init", "status"))
    return (
        "rule" in row
        and all(value is None or isinstance(value, int | float) for value in numbers)
        and all(value is None or isinstance(value, str) for value in texts)
    )


class Change(NamedTuple):
    """A row that is not what it was.

    Args:
        name: of the slot.
        rule: that it is under, or was where it is gone.
        facts: what changed, as texts.
        before: measured moments, where those changed.
        after: likewise.
    """

    name: str
    rule: str | None
    facts: tuple[str, ...]
    before: Mapping[str, Any] = MappingProxyType({})
    after: Mapping[str, Any] = MappingProxyType({})


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the rows that are not what they were; those that came and went too.

    Args:
        old: what `Audit.to_dict` gave.
        new: what it gives.

    Example:
        >>> row = {"name": "fc.bias", "rule": "bias", "init": "constant 0"}
        >>> changes({"rows": [row]}, {"rows": [row | {"init": "constant 1"}]})[0].facts
        ('init: constant 0 → constant 1',)
    """
    earlier = {row["name"]: row for row in old["rows"]}
    found = []
    for row in new["rows"]:
        before = earlier.pop(row["name"], None)
        if before is None:
            found.append(Change(row["name"], row["rule"], ("new",)))
            continue
        facts = tuple(_changed(before, row))
        if "measured_mean" in before and "measured_mean" in row and not _same_values(before, row):
            moments = ({key: side.get(key) for key in POOLED} for side in (before, row))
            found.append(Change(row["name"], row["rule"], facts, *moments))
        elif facts:
            found.append(Change(row["name"], row["rule"], facts))
    return found + [Change(row["name"], row["rule"], ("gone",)) for row in earlier.values()]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    for key in FACTS:
        if key == "distribution" and old.get("init") != new.get("init"):
            continue  # said already
        if key in old and key in new and _value_meant(old[key]) != _value_meant(new[key]):
            yield f"{key}: {cell(old[key])} → {cell(new[key])}"


def _value_meant(value: Any) -> Any:
    return ALIKE.get(value, value) if isinstance(value, str) else value


def _same_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether measured moments are those of the same values: extremes to the bit, sums up to their rounding."""
    pairs = [(old[key], new[key]) for key in (f"measured_{field}" for field in ("mean", "std", "min", "max"))]
    if any(one is None or other is None for one, other in pairs):
        return all(one is None and other is None for one, other in pairs)
    (mean, _), (std, _), *extremes = pairs
    limit = SUM_ROUNDING * (abs(std) + abs(mean))
    return all(math.isclose(one, other, rel_tol=0, abs_tol=limit) for one, other in pairs[:2]) and all(
        one == other for one, other in extremes
    )


def comparison(changed: Sequence[Change], name: str, *, every: bool = False) -> str:
    """Return what changed as text, by rule, one line for the rows of repeated blocks that changed alike.

    Args:
        changed: what `changes` found.
        name: of the older audit.
        every: a line for every row.

    Example:
        >>> print(comparison([Change(f"h.{block}.bias", "bias", ("new",)) for block in range(12)], "old.json"))
        12 rows are not what they were in old.json
        rule bias: 12
          h.0-11.bias  new
    """
    if not changed:
        return f"every row is what it was in {visible(name)}"
    verb = "row is not what it was" if len(changed) == 1 else "rows are not what they were"
    lines = [f"{len(changed)} {verb} in {visible(name)}"]
    by_rule: dict[str | None, list[Change]] = {}
    for change in changed:
        by_rule.setdefault(change.rule, []).append(change)
    for rule, group in by_rule.items():
        lines.append(f"{'no rule' if rule is None else f'rule {visible(rule)}'}: {len(group)}")
        shown = list(_lines(group, every))
        width = max(len(name) for name, _ in shown)
        lines += [f"  {name:{width}}  {told}" for name, told in shown]
    return "\n".join(lines)


def _lines(group: Sequence[Change], every: bool) -> Iterable[tuple[str, str]]:
    """Yield names, and what changed; values of rows that changed alike are told as those of one sample."""

    def alike(row: Mapping[str, Any]) -> Hashable | None:
        return None if every else (row["facts"], row["values"])

    sides = [
        collapsed(
            (
                {"name": each.name, "facts": each.facts, "values": bool(each.after), **moments}
                for each, moments in pairs
            ),
            alike,
        )
        for pairs in (
            [(each, each.before) for each in group],
            [(each, each.after) for each in group],
        )
    ]
    for before, after in zip(*sides, strict=True):
        facts = list(after["facts"])
        if after["values"]:
            texts = [spread(side["measured_mean"], side["measured_std"]) or "–" for side in (before, after)]
            facts.append(f"values: {texts[0]} → {texts[1]}")
        yield visible(after["name"]), "; ".join(facts)
