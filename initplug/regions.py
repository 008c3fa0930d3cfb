"""Parts of a tensor that are held: global indices, whatever was cut along which dimension."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """A part of a tensor: along every dimension a stretch of the whole.

    Args:
        shape: sizes of the whole tensor.
        starts: where the part begins along each dimension.
        sizes: sizes of the part.

    Example:
        >>> part = Box.whole((4, 6)).part(1, 3, 2)
        >>> part.runs[0].tolist(), part.runs[1]
        ([3, 9, 15, 21], 2)
    """

    shape: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """Return all of a tensor."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    def part(self, dim: int, start: int, size: int) -> Box:
        """Return a stretch of the box along a dimension."""
        starts, sizes = list(self.starts), list(self.sizes)
        starts[dim] += start
        sizes[dim] = size
        return Box(self.shape, tuple(starts), tuple(sizes))

    @property
    def count(self) -> int:
        """The number of its elements."""
        return math.prod(self.sizes)

    def shared_with(self, other: Box) -> Box:
        """Return what it has in common with another box of the same tensor."""
        starts = tuple(map(max, self.starts, other.starts))
        ends = [
            min(start + size, begin + length)
            for start, size, begin, length in zip(self.starts, self.sizes, other.starts, other.sizes, strict=True)
        ]
        return Box(self.shape, starts, tuple(max(end - start, 0) for start, end in zip(starts, ends, strict=True)))

    def within(self, other: Box) -> tuple[slice, ...]:
        """Return where it lies in another box that it is a part of."""
        return tuple(
            slice(start - begin, start - begin + size)
            for start, size, begin in zip(self.starts, self.sizes, other.starts, strict=True)
        )

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], int]:
        """Stretches of consecutive indices that make up the box: where each begins, in order, and how long it is."""
        dim = len(self.shape)
        length = 1  # of a run, which grows over all dimensions that the box fills, and one more
        strides = [1] * len(self.shape)
        for inner in range(len(self.shape) - 2, -1, -1):
            strides[inner] = strides[inner + 1] * self.shape[inner + 1]
        while dim > 0:
            dim -= 1
            length = self.sizes[dim] * strides[dim]
            if self.sizes[dim] != self.shape[dim]:
                break
        firsts = np.zeros(1, np.int64)
        for outer in range(dim):
            along = (self.starts[outer] + np.arange(self.sizes[outer], dtype=np.int64)) * strides[outer]
            firsts = (firsts[:, None] + along).reshape(-1)
        return firsts + (self.starts[dim] * strides[dim] if self.shape else 0), length


def split(extent: Box, sizes: Sequence[int], dim: int) -> list[Box]:
    """Return an extent in parts of these sizes along a dimension.

    Example:
        >>> [box.starts for box in split(Box.whole((6, 2)), (3, 1, 2), 0)]
        [(0, 0), (3, 0), (4, 0)]
    """
    along = dim % len(extent.sizes)
    begins = itertools.accumulate(sizes, initial=0)
    return [extent.part(along, begin, size) for begin, size in zip(begins, sizes, strict=False)]


Stretches = tuple[tuple[int, int], ...]
"""Stretches of consecutive indices as (begin, size), in order."""


def stretches_of(indices: NDArray[np.int64]) -> Stretches:
    """Return rising indices as stretches.

    Example:
        >>> stretches_of(np.array([0, 1, 2, 6, 7]))
        ((0, 3), (6, 2))
    """
    if not indices.size:
        return ()
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    firsts = indices[[0, *breaks]].tolist()
    sizes = np.diff([0, *breaks, indices.size]).tolist()
    return tuple(zip(firsts, sizes, strict=True))


@dataclass(frozen=True)
class Region:
    """The part of a tensor that somebody holds, packed without gaps: the product of what is held along each dimension.

    Args:
        shape: sizes of the whole tensor.
        stretches: the indices that are held, along each dimension.

    Example:
        >>> region = Region((4, 6), (((0, 4),), ((0, 1), (3, 1))))
        >>> region.sizes
        (4, 2)
        >>> [(place, box.starts, box.sizes) for place, box in region.boxes]
        [((0, 0), (0, 0), (4, 1)), ((0, 1), (0, 3), (4, 1))]
    """

    shape: tuple[int, ...]
    stretches: tuple[Stretches, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """Return all of a tensor."""
        return cls(tuple(shape), tuple(((0, size),) for size in shape))

    @property
    def is_whole(self) -> bool:
        """True where nothing is missing."""
        return self.sizes == self.shape

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of what is held."""
        return tuple(sum(size for _, size in along) for along in self.stretches)

    @property
    def count(self) -> int:
        """The number of elements that are held."""
        return math.prod(self.sizes)

    @cached_property
    def boxes(self) -> tuple[tuple[tuple[int, ...], Box], ...]:
        """The boxes that make it up, each after where it begins in what is held."""
        along: list[list[tuple[int, int, int]]] = []
        for stretches in self.stretches:
            before = itertools.accumulate((size for _, size in stretches), initial=0)
            along.append([(place, begin, size) for place, (begin, size) in zip(before, stretches, strict=False)])
        found: list[tuple[tuple[int, ...], Box]] = []
        for parts in itertools.product(*along):
            places, starts, sizes = (tuple(part[which] for part in parts) for which in range(3))
            found.append((places, Box(self.shape, starts, sizes)))
        return tuple(found)

    def place(self, dim: int, index: int) -> int | None:
        """Return where an index along a dimension lies in what is held; None if it is not."""
        before = 0
        for begin, size in self.stretches[dim]:
            if begin <= index < begin + size:
                return before + index - begin
            before += size
        return None
