"""Rows of blocks that repeat -> one row for all that agree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
        rows: their positions, in order.
    """

    parts: list[str]
    facts: Hashable
    rows: list[int]


class Block(NamedTuple):
    """Rows that agree, in the place of the first.

    Args:
        name: of all, with the numbers in which they differ.
        rows: their positions.
    """

    name: str
    rows: list[int]


def blocks(names: Sequence[str], facts: Iterable[Hashable | None]) -> list[Block]:
    """Return the rows by blocks: those whose names differ in numbers alone and whose facts agree are one.

    Args:
        names: of the rows.
        facts: of every row, in which those of a block agree; None for a row that stands alone.

    Example:
        >>> blocks(["h.0.w", "h.0.b", "h.1.w", "h.1.b"], [1, 0, 1, 0])
        [Block(name='h.0-1.w', rows=[0, 2]), Block(name='h.0-1.b', rows=[1, 3])]
    """
    listed = [*facts]
    groups = _grouped_by_numbers(names, listed, SEGMENTS)
    if len(groups) > SCREEN:
        groups = _grouped_by_numbers(names, listed, NUMBERS)
    return [Block("".join(group.parts), group.rows) for group in groups]


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
    found = blocks([row["name"] for row in listed], map(facts, listed))
    return [
        {**listed[block.rows[0]], "name": block.name, "slots": len(block.rows)}
        | pooled([listed[row] for row in block.rows])
        for block in found
    ]


def _grouped_by_numbers(names: Sequence[str], facts: Sequence[Hashable | None], seams: re.Pattern[str]) -> list[_Group]:
    """Return the groups of rows whose names, cut at the seams, differ in parts that are numbers."""
    groups = [
        _Group(seams.split(name), (place,) if agreed is None else (None, agreed), [place])
        for place, (name, agreed) in enumerate(zip(names, facts, strict=True))
    ]
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


def pooled(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the measured moments of all elements of some rows together; nothing of a single row, or of none measured.

    Example:
        >>> halves = [dict.fromkeys(POOLED, value) for value in (1.0, 3.0)]
        >>> pooled([half | {"measured_count": 8, "measured_std": 0.0} for half in halves])["measured_std"]
        1.0
    """
    if len(rows) == 1 or rows[0].get("measured_count") is None:
        return {}
    means, stds, lows, highs, counts = ([each[key] for each in rows] for key in POOLED)
    if any(value is None for value in (*means, *stds, *lows, *highs, *counts)):
        return dict.fromkeys(POOLED[:4]) | {"measured_count": sum(count or 0 for count in counts)}
    total = sum(counts)
    shares = [count / total for count in counts]  # squares and sums may be more than a double holds, these are not
    mean = math.fsum(share * mean for share, mean in zip(shares, means, strict=True))
    if min(means) == max(means):
        mean = means[0]
    offs = (math.sqrt(share) * math.hypot(std, own - mean) for share, std, own in zip(shares, stds, means, strict=True))
    values = (mean, math.hypot(*offs), min(lows), max(highs), total)
    return dict(zip(POOLED, values, strict=True))
