"""Columns with few distinct values: each value held once, and for every row which one it has.

Tens of thousands of parameters are of a few dozen kinds. What holds of a kind is found once; what tells rows apart is
an array of small numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", covariant=True)
U = TypeVar("U")

Rows = NDArray[np.intp]
"""Positions of rows."""


class Coded(Sequence[T]):
    """A column whose rows share their values.

    Args:
        values: that rows may have, at least those that they do have.
        codes: of every row the place of its value.

    Example:
        >>> column = coded(["float32", "int64", "float32"])
        >>> column[2], len(column.values), column.where(lambda value: value == "float32").tolist()
        ('float32', 2, [0, 2])
    """

    __slots__ = ("codes", "values")

    def __init__(self, values: Sequence[T], codes: Rows) -> None:
        self.values = values
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Coded[T]: ...
    def __getitem__(self, index: int | slice) -> T | Coded[T]:
        if isinstance(index, slice):
            return Coded(self.values, self.codes[index])
        value: T = self.values[self.codes[index]]
        return value

    def __iter__(self) -> Iterator[T]:
        return map(self.values.__getitem__, self.codes.tolist())

    def each(self, function: Callable[[T], U]) -> Coded[U]:
        """Return what a function makes of every value; it is called once for each."""
        return Coded([function(value) for value in self.values], self.codes)

    def packed(self) -> Coded[T]:
        """Return the same column without the values that no row has."""
        occurs = np.bincount(self.codes, minlength=len(self.values)) > 0
        return Coded(self.distinct, (np.cumsum(occurs) - 1)[self.codes])

    def alike(self, function: Callable[[T], U]) -> Coded[U]:
        """Return what a function makes of every value that occurs, what is equal as one value.

        Example:
            >>> column = coded(["red", "blue", "green"]).taken([0, 1, 1]).alike(len)
            >>> column.values, column.codes.tolist()
            ([3, 4], [0, 1, 1])
        """
        packed = self.packed()
        places: dict[U, int] = defaultdict(count().__next__)  # which gives every new result the next number
        codes = np.array([places[function(value)] for value in packed.values], np.intp)
        return Coded([*places], codes[packed.codes])

    def taken(self, rows: Sequence[int] | Rows) -> Coded[T]:
        """Return some of the rows, in the order of their positions given."""
        return Coded(self.values, self.codes[rows])

    def then(self, other: Coded[U]) -> Coded[T | U]:
        """Return these rows, and after them those of another column."""
        codes = np.concatenate([self.codes, other.codes + len(self.values)])
        return Coded([*self.values, *other.values], codes)

    def replaced(self, values: Mapping[int, U]) -> Coded[T | U]:
        """Return the column with other values in some rows."""
        if not values:
            return self
        other = coded(values.values())
        codes = self.codes.copy()
        codes[list(values)] = other.codes + len(self.values)
        return Coded([*self.values, *other.values], codes)

    def numbers(self, function: Callable[[T], int]) -> NDArray[np.int64]:
        """Return the number that a function gives for the value of every row; only values that occur are asked of."""
        found = np.zeros(len(self.values), np.int64)
        for code in np.flatnonzero(np.bincount(self.codes, minlength=len(self.values))).tolist():
            found[code] = function(self.values[code])
        return found[self.codes]

    def table(self, width: int) -> NDArray[np.float64]:
        """Return rows of numbers as an array, (rows, `width`)."""
        return np.array(self.values, np.float64).reshape(-1, width)[self.codes]

    def mask(self, holds: Callable[[T], object]) -> NDArray[np.bool_]:
        """Return of every row whether a question holds of its value."""
        answers = np.fromiter(map(bool, map(holds, self.values)), np.bool_, len(self.values))
        return answers[self.codes]

    def where(self, holds: Callable[[T], object]) -> Rows:
        """Return the rows whose value a question holds of."""
        return np.flatnonzero(self.mask(holds))

    def groups(self) -> list[tuple[T, Rows]]:
        """Return the values that occur, in the order in which they first do, each with its rows."""
        short = self.codes.astype(np.min_scalar_type(len(self.values)))  # which numpy sorts many times as fast
        order = np.argsort(short, kind="stable")
        ends = np.flatnonzero(np.diff(self.codes[order])) + 1
        parts = np.split(order, ends) if len(order) else []
        parts.sort(key=lambda rows: int(rows[0]))
        return [(self.values[self.codes[rows[0]]], rows) for rows in parts]

    @property
    def distinct(self) -> list[T]:
        """The values that occur."""
        counts = np.bincount(self.codes, minlength=len(self.values))
        return [self.values[code] for code in np.flatnonzero(counts).tolist()]


def coded(values: Iterable[U]) -> Coded[U]:
    """Return a column of values, of which those count as one that are the same object."""
    rows = [*values]
    distinct = {id(value): value for value in rows}
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return Coded([*distinct.values()], np.fromiter(map(places.__getitem__, map(id, rows)), np.intp, len(rows)))


def paired(one: Coded[T], other: Coded[U]) -> Coded[tuple[T, U]]:
    """Return two columns side by side; a value is a pair that occurs.

    Example:
        >>> paired(coded("aab"), coded("xyx")).values
        [('a', 'x'), ('a', 'y'), ('b', 'x')]
    """
    width = max(len(other.values), 1)
    both = one.codes * width + other.codes
    if len(one.values) * width <= 4 * len(both):  # a place for every pair there could be is faster than sorting
        occurs = np.zeros(len(one.values) * width, np.bool_)
        occurs[both] = True
        pairs, codes = np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[both]
    else:
        pairs, codes = np.unique(both, return_inverse=True)
    firsts, seconds = np.divmod(pairs, width)
    values = [(one.values[a], other.values[b]) for a, b in zip(firsts.tolist(), seconds.tolist(), strict=True)]
    return Coded(values, codes)
