"""Rows as the columns that a page embeds: what many rows have in common stands there once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from initplug.schemes.compositions import Planned, closed_form
from initplug.schemes.densities import curve
from initplug.tables.grouping import POOLED, blocks, pooled

OWN = ("measured_mean", "measured_std", "measured_min", "measured_max", "measured_count")
"""The numbers that every row has of its own."""

CODED = ("status", "verdict", "reason", "problem", "twin")
"""The texts that a row may have of its own, though most rows have the same."""

NAMES = ("name", "aliases")
BEYOND = {*NAMES, *OWN, *CODED}

DIGITS = 6
"""Significant digits of the numbers of rows."""

CURVE_DIGITS = 4
"""Significant digits of a density, which is a few hundred points wide."""

FEW = 16
"""The most rows of a block whose histograms the page puts together by itself."""

LEVELS = 64**2 - 1
"""The highest number of a bin: counts beyond are told as shares of the largest."""

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

Drawn = Mapping[str, Sequence[Planned | None]]
"""By side of a comparison, or by an empty text where there is one, the distribution of every row."""


def packed(
    rows: Sequence[Mapping[str, Any]],
    facts: Sequence[Hashable | None],
    drawn: Drawn,
    histograms: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return rows as columns: names, shares, the numbers of each, densities and histograms, and which rows agree.

    Args:
        rows: plain data, all with the same keys.
        facts: of every row, in which rows of repeated blocks agree; None for one that stands alone.
        drawn: distributions, of which densities are drawn.
        histograms: counts by name of row.

    Example:
        >>> rows = [{"name": f"h.{place}.w", "aliases": [], "rule": "all"} for place in range(3)]
        >>> found = packed(rows, [()] * 3, {}, {})
        >>> found["names"], found["share"], found["shares"]["rule"], found["blocks"]["name"], found["blocks"]["rows"]
        (['h.0.w', 'h.1.w', 'h.2.w'], 0, [['all'], 0], ['h.0-2.w'], [[0, 1, 3]])
    """
    names = [row["name"] for row in rows]
    curves = Curves()
    densities = {side: curves.places(planned) for side, planned in drawn.items()}
    shared = [key for key in (rows[0] if rows else ()) if key not in BEYOND]
    known: dict[Hashable, int] = {}
    firsts: list[int] = []
    shares = []
    for place, row in enumerate(rows):
        alike = (*(_hashable(row[key]) for key in shared), *(column[place] for column in densities.values()))
        if alike not in known:
            known[alike] = len(firsts)
            firsts.append(place)
        shares.append(known[alike])
    kinds = {key: coded([short(rows[first][key]) for first in firsts]) for key in shared}
    kinds |= {f"curve{side}": coded([column[first] for first in firsts]) for side, column in densities.items()}
    found = {
        "names": names,
        "ranks": _ranks(names),
        "aliases": {place: row["aliases"] for place, row in enumerate(rows) if row.get("aliases")},
        "share": _constant(shares),
        "shares": kinds,
        "curves": curves.drawn,
        "blocks": _blocks(rows, names, facts, histograms),
        "histograms": {place: _bins(histograms[name]) for place, name in enumerate(names) if name in histograms},
    }
    for key in OWN:
        if rows and key in rows[0]:
            found[key] = [short(row[key]) for row in rows]
    for key in CODED:
        if rows and key in rows[0]:
            found[key] = coded([row[key] for row in rows])
    return found


def coded(values: Iterable[Any]) -> list[Any]:
    """Return distinct values, and of every row the place of its own; one number where there is one value.

    Where most rows have a value of their own these are the values of all rows, and there are no places.

    Example:
        >>> coded(["a", "b", "a", "a"]), coded([[1], [1]])
        ([['a', 'b'], [0, 1, 0, 0]], [[[1]], 0])
        >>> coded([1, 2, 3])
        [[1, 2, 3], None]
    """
    places: dict[Hashable, int] = {}
    distinct: list[Any] = []
    codes = []
    rows = [*values]
    for value in rows:
        key = _hashable(value)
        if key not in places:
            places[key] = len(distinct)
            distinct.append(value)
        codes.append(places[key])
    return [rows, None] if len(distinct) > max(len(rows) / 2, 1) else [distinct, _constant(codes)]


def _constant(codes: list[int]) -> Any:
    return 0 if codes and not any(codes) else codes


def _hashable(value: Any) -> Hashable:
    """Return a value that is equal where another is the same to the type: 1, 1.0 and True are three."""
    return (type(value), tuple(value) if isinstance(value, list) else value)


def short(value: Any) -> Any:
    """Return a number with as many digits as are shown; one that is not finite is None, as it is in JSON.

    Example:
        >>> short(0.123456789), short(float("inf")), short("text")
        (0.123457, None, 'text')
    """
    return _rounded(value, DIGITS) if isinstance(value, float) else value


def _rounded(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def embedded(data: Mapping[str, Any]) -> str:
    r"""Return JSON that no browser takes for anything else: it holds no `<`.

    Example:
        >>> embedded({"name": "</script>"})
        '{"name":"\\u003c/script>"}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# Order ----------------------------------------------------------------------------------------------------------------

NUMBERS = re.compile(r"([0-9]+)")


def _ranks(names: Sequence[str]) -> list[int] | None:
    """Return the place of every name where numbers in them count as such; None where that is the order they are in."""
    # A text before and after every number, so that what is compared is always of one type.
    keys = [
        [part if place % 2 == 0 else (len(part.lstrip("0")), part.lstrip("0")) for place, part in enumerate(parts)]
        for parts in map(NUMBERS.split, names)
    ]
    order = sorted(range(len(names)), key=keys.__getitem__)
    if order == [*range(len(names))]:
        return None
    ranks = [0] * len(names)
    for rank, place in enumerate(order):
        ranks[place] = rank
    return ranks


def _blocks(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    facts: Sequence[Hashable | None],
    histograms: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the blocks of several rows: their names, rows, and the moments of all their elements.

    Histograms of blocks that have few rows are put together by the page.
    """
    found = [block for block in blocks(names, facts) if len(block.rows) > 1]
    told = [pooled([rows[row] for row in block.rows]) for block in found]
    return {
        "name": [block.name for block in found],
        "rows": [_progression(sorted(block.rows)) for block in found],
        "histograms": {
            place: _bins(_together(counted))
            for place, block in enumerate(found)
            if len(block.rows) > FEW
            and (counted := [histograms[names[row]] for row in block.rows if names[row] in histograms])
        },
        **{key: [short(one.get(key)) for one in told] for key in POOLED},
    }


def _progression(rows: Sequence[int]) -> list[int]:
    """Return rows at one distance as first, distance and number, others as a list that begins with -1."""
    step = rows[1] - rows[0]
    even = all(after - before == step for before, after in pairwise(rows))
    return [rows[0], step, len(rows)] if even else [-1, *rows]


# Figures --------------------------------------------------------------------------------------------------------------


class Curves:
    """Densities in units of their own deviation, about their mean: those of one form are one curve."""

    def __init__(self) -> None:
        self.drawn: list[Any] = []
        self._places: dict[str, int] = {}
        self._known: dict[int, int | None] = {}

    def places(self, distributions: Sequence[Planned | None]) -> list[int | None]:
        """Return of every distribution the place of its curve; None where there is none."""
        return [self._place(one) for one in distributions]

    def _place(self, distribution: Planned | None) -> int | None:
        if id(distribution) not in self._known:  # they live as long as the rows that they are of
            self._known[id(distribution)] = self._found(distribution)
        return self._known[id(distribution)]

    def _found(self, distribution: Planned | None) -> int | None:
        known = closed_form(distribution)
        found = None if known is None else curve(known)
        if known is None or found is None or not (math.isfinite(known.mean) and math.isfinite(known.std)):
            return None
        mean, unit = known.mean, known.std or 1.0
        points = [
            [(x - mean) / unit for x in found.x],
            [y * unit for y in found.y],
            *zip(*(((value - mean) / unit, share) for value, share in found.atoms), strict=True),
        ]
        # Far from the mean there are fewer digits: what is rounding there would make curves of one form several.
        told = [[round(value, CURVE_DIGITS) + 0.0 for value in column] for column in points]
        if not all(math.isfinite(value) for column in told for value in column):
            return None
        drawn = [*told[:2], [[*atom] for atom in zip(*told[2:], strict=True)]]
        return self._places.setdefault(repr(drawn), self._added(drawn))

    def _added(self, drawn: list[Any]) -> int:
        if repr(drawn) not in self._places:
            self.drawn.append(drawn)
        return len(self.drawn) - 1


def _bins(counted: Mapping[str, Any]) -> list[Any]:
    """Return a histogram: its ends, the elements below, above and in all, and two letters for each bin."""
    counts = counted["counts"]
    top = max(counts, default=0)
    exact = top <= LEVELS and all(isinstance(count, int) for count in counts)
    levels = counts if exact else [max(1, round(count / top * LEVELS)) if count else 0 for count in counts]
    letters = "".join(ALPHABET[level >> 6] + ALPHABET[level & 63] for level in levels)
    total = round(sum(counts)) + counted["below"] + counted["above"]
    return [short(counted["low"]), short(counted["high"]), counted["below"], counted["above"], total, letters]


def _together(counted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one histogram of several, whose counts are spread evenly over each of their own bins."""
    low, high = min(one["low"] for one in counted), max(one["high"] for one in counted)
    edges = np.linspace(low, high, len(counted[0]["counts"]) + 1)
    total = np.zeros(len(edges))
    for one in counted:
        own = np.linspace(one["low"], one["high"], len(one["counts"]) + 1)
        total += np.interp(edges, own, np.concatenate([[0], np.cumsum(one["counts"])]))
    outside = {side: sum(one[side] for one in counted) for side in ("below", "above")}
    return {"low": low, "high": high, "counts": np.diff(total).clip(0).tolist(), **outside}
