"""Rows of blocks that repeat -> one row for all that agree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

POOLED = tuple(f"measured_{field}" for field in ("mean", "std", "min", "max", "count"))
"""The keys that rows which agree have each of its own: moments of one sample; a group has those of all its elements."""


SCREEN = 40
"""Rows beyond which numbers inside a segment (`layer3`) count the blocks of a model too."""

SEGMENTS, NUMBERS = re.compile(r"(\.)"), re.compile(r"([0-9]+)")


@dataclass(slots=True)
class _Group:
    """Rows that agree, under one name.

    Args:
        parts: of the name; where the rows differ, all numbers in one text.
        facts: what they agree in.
        rows: in order.
    """

    parts: list[str]
    facts: Hashable
    rows: list[Mapping[str, Any]]


def collapsed(
    rows: Iterable[Mapping[str, Any]], facts: Callable[[Mapping[str, Any]], Hashable | None]
) -> list[dict[str, Any]]:
    """Return one row for all rows whose names differ in numbers alone and whose facts agree.

    Measured moments become those of all elements together. The row stands in the place of the first.

    Args:
        rows: with their `name`.
        facts: in which rows of a group agree; None for a row that stands alone.

    Example:
        >>> rows = [{"name": f"h.{block}.ln.{key}"} for block in (0, 1, 2, 5) for key in ("weight", "bias")]
        >>> [row["name"] for row in collapsed(rows, lambda row: ())]
        ['h.0-2,5.ln.weight', 'h.0-2,5.ln.bias']
    """
    listed = list(rows)
    groups = _grouped_by_numbers(listed, facts, SEGMENTS)
    if len(groups) > SCREEN:
        groups = _grouped_by_numbers(listed, facts, NUMBERS)
    return [_pooled(group) for group in groups]


def _grouped_by_numbers(
    rows: Sequence[Mapping[str, Any]], facts: Callable[[Mapping[str, Any]], Hashable | None], seams: re.Pattern[str]
) -> list[_Group]:
    """Return the groups of rows whose names, cut at the seams, differ in parts that are numbers."""
    groups = []
    for place, row in enumerate(rows):
        agreed = facts(row)
        groups.append(_Group(seams.split(row["name"]), (place,) if agreed is None else (None, agreed), [row]))
    for place in range(max((len(group.parts) for group in groups), default=0)):
        if any(len(group.parts) > place and _is_index(group.parts[place]) for group in groups):
            groups = _joined(groups, place)
    return groups


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")


def _joined(groups: Sequence[_Group], place: int) -> list[_Group]:
    """Return the groups, those of one that differ in one part of their names joined."""
    kept: list[_Group] = []
    first: dict[Hashable, tuple[_Group, list[int]]] = {}
    for group in groups:
        parts = group.parts
        if len(parts) <= place or not _is_index(parts[place]):
            kept.append(group)
            continue
        key = (*parts[:place], None, *parts[place + 1 :]), group.facts
        if key not in first:
            first[key] = group, []
            kept.append(group)
        else:
            first[key][0].rows.extend(group.rows)
        first[key][1].append(int(parts[place]))
    for group, numbers in first.values():
        group.parts[place] = _runs(sorted(numbers))
    return kept


def _runs(numbers: Sequence[int]) -> str:
    """Return numbers as runs: `0-11`, `0,2,4-6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _pooled(group: _Group) -> dict[str, Any]:
    row = {**group.rows[0], "name": "".join(group.parts), "slots": len(group.rows)}
    if len(group.rows) == 1 or row.get("measured_count") is None:
        return row
    means, stds, lows, highs, counts = ([each[key] for each in group.rows] for key in POOLED)
    if any(value is None for value in (*means, *stds, *lows, *highs, *counts)):
        return row | dict.fromkeys(POOLED[:4]) | {"measured_count": sum(count or 0 for count in counts)}
    total = sum(counts)
    shares = [count / total for count in counts]  # squares and sums may be more than a double holds, these are not
    mean = math.fsum(share * mean for share, mean in zip(shares, means, strict=True))
    if min(means) == max(means):
        mean = means[0]
    offs = (math.sqrt(share) * math.hypot(std, own - mean) for share, std, own in zip(shares, stds, means, strict=True))
    values = (mean, math.hypot(*offs), min(lows), max(highs), total)
    return row | dict(zip(POOLED, values, strict=True))
