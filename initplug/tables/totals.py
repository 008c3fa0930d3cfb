"""Rows of plain data -> what they come to: elements by module, deviations by depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initplug.tables.grouping import blocks

MOST_MODULES = 12
"""Modules that are told apart."""

NOTABLE = 0.04
"""The share of all elements from which on a module is told by its parts."""

FEW = 4
"""The most blocks of a list that are told apart by themselves."""

MOST_KINDS = 6
"""Kinds of tensors whose deviations are told."""

MOST_POINTS = 400
"""Places that are told of one kind; of more, the lowest and the highest of every stretch."""


# Modules --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a model: its name, and what is below it."""

    name: str
    rows: list[tuple[tuple[str, ...], int]]  # the segments that follow, and the elements

    @property
    def numel(self) -> int:
        return sum(numel for _, numel in self.rows)

    @property
    def divisible(self) -> bool:
        return any(segments for segments, _ in self.rows)


def by_module(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the elements of at most a dozen modules that are the whole model, in its order; repeated blocks are one.

    Example:
        >>> rows = [{"name": f"h.{block}.{key}.w", "numel": 8} for block in range(9) for key in ("up", "down")]
        >>> for part in by_module([{"name": "wte.w", "numel": 4}, *rows]):
        ...     print(part)
        {'name': 'wte', 'slots': 1, 'numel': 4}
        {'name': 'h.0-8.up', 'slots': 9, 'numel': 72}
        {'name': 'h.0-8.down', 'slots': 9, 'numel': 72}
    """
    parts = [_Part("", [(tuple(row["name"].split(".")[:-1]), row["numel"]) for row in rows])]
    total, whole = parts[0].numel, set[str]()
    while True:
        open_ones = [part for part in parts if part.divisible and part.name not in whole]
        largest = max(open_ones, key=lambda part: part.numel, default=None)
        if largest is None or (largest.name and largest.numel < NOTABLE * total):
            break
        inner = _divided(largest)
        if len(parts) - 1 + len(inner) > MOST_MODULES:
            whole.add(largest.name)
            continue
        place = parts.index(largest)
        parts[place : place + 1] = inner
    return [{"name": part.name or "the model", "slots": len(part.rows), "numel": part.numel} for part in parts]


def _divided(part: _Part) -> list[_Part]:
    """Return the parts of a part, and what it holds itself; blocks that have numbers are one where there are many."""
    heads = list(dict.fromkeys(segments[0] for segments, _ in part.rows if segments))
    numbers = [head for head in heads if head.isascii() and head.isdigit()]
    label = {head: head for head in heads}
    if len(numbers) > FEW:
        (run,) = blocks(numbers, [()] * len(numbers))
        label |= dict.fromkeys(numbers, run.name if len(run.name) < 24 else f"{numbers[0]}…{numbers[-1]}")
    found: dict[str | None, list[tuple[tuple[str, ...], int]]] = {}
    for segments, numel in part.rows:
        found.setdefault(label[segments[0]] if segments else None, []).append((segments[1:], numel))
    before = f"{part.name}." if part.name else ""
    return [_Part(part.name if key is None else f"{before}{key}", rows) for key, rows in found.items()]


# Depth ----------------------------------------------------------------------------------------------------------------


def by_depth(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return by kind of tensor the standard deviations, expected and measured, by the place of their module.

    Args:
        rows: with `name`, `module_type` and `std`, which may have a `measured_std`; what is constant is passed over.

    Example:
        >>> rows = [{"name": f"{place}.weight", "module_type": "Linear", "std": 0.5 / (1 + place)} for place in (0, 1)]
        >>> by_depth(rows)
        [{'kind': 'Linear.weight', 'places': [0, 1], 'expected': [0.5, 0.25], 'measured': [None, None]}]
    """
    found: dict[str, list[tuple[int, float | None, float | None]]] = {}
    place, owner = -1, None
    for row in rows:
        expected, measured = row.get("std"), row.get("measured_std")
        if not (expected or measured):
            continue
        above, _, leaf = row["name"].rpartition(".")
        if above != owner:
            place, owner = place + 1, above
        found.setdefault(f"{row['module_type']}.{leaf}", []).append((place, expected, measured))
    most = sorted(found, key=lambda kind: -len(found[kind]))[:MOST_KINDS]
    told = {kind: points for kind, points in found.items() if kind in most}
    rest = [point for kind, points in found.items() if kind not in most for point in points]
    if rest:
        told["others"] = sorted(rest, key=lambda point: point[0])
    keys = ("places", "expected", "measured")
    return [
        {"kind": kind, **dict(zip(keys, map(list, zip(*_thinned(points), strict=True)), strict=True))}
        for kind, points in told.items()
    ]


def _thinned(points: Sequence[tuple[int, float | None, float | None]]) -> list[tuple[int, float | None, float | None]]:
    if len(points) <= MOST_POINTS:
        return [*points]
    size = -(-len(points) * 2 // MOST_POINTS)
    kept = []
    for start in range(0, len(points), size):
        stretch = sorted(points[start : start + size], key=lambda point: point[2] or point[1] or 0.0)
        kept += sorted({stretch[0], stretch[-1]}, key=lambda point: point[0])
    return kept
