"""Random streams, version 1: every value depends on (seed, name, index, distribution) and on nothing else.

What is drawn of a distribution is said here in the numbers that kernels take; how a word becomes a value is said in
`initplug.kernels.reference`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.auditing.moments import address_of
from initplug.filling.words import StreamKey
from initplug.kernels import kernel
from initplug.kernels.reference import WORD_COUNT, Draw, Draws, normals, table_of
from initplug.regions import Box
from initplug.schemes.distributions import Elementwise

DRAWN_AT_A_TIME = 1 << 18
"""Elements drawn at a time, whatever the tensor's size."""


@lru_cache(maxsize=4096)
def draw_of(distribution: Elementwise) -> Draw:
    """Return how kernels draw a distribution; where it is mapped, the standard numbers that it is made of.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> draw_of(Normal(0.5, 0.02))._replace(low=0, high=0)
        Draw(uniform=False, scale=0.02, shift=0.5, low=0, high=0, first=0, number=4294967296)
    """
    standard, scale, shift, cut, mapped = distribution.sampling
    uniform = standard == "uniform"
    if mapped is not None:
        return Draw(uniform)
    shift = shift or -0.0  # which leaves every number as it is, -0 too
    if cut is None:
        return Draw(uniform, scale, shift)
    low, high = cut
    begin, count = _words_within((low - shift) / scale, (high - shift) / scale)
    return Draw(uniform, scale, shift, low, high, begin, count)


@lru_cache(maxsize=4096)
def _words_within(low: float, high: float) -> tuple[int, int]:
    """Return the first word whose normal lies in [low, high], and how many words do; at least one."""

    def first_below(bound: float, strictly: bool) -> int:
        """Return the first word whose normal is at most `bound`, or below it."""
        start, end = 0, WORD_COUNT
        while start < end:
            middle = (start + end) // 2
            normal = float(normals(np.array([middle], np.uint32))[0])
            below = normal < bound if strictly else normal <= bound
            start, end = (start, middle) if below else (middle + 1, end)
        return start

    begin, end = first_below(high, False), first_below(low, True)
    if begin >= end:  # between two neighbours
        return min(begin, WORD_COUNT - 1), 1
    return begin, end - begin


def fill_memory(
    addresses: NDArray[np.uintp],
    dtype: str,
    draws: Draws,
    keys: StreamKey,
    box: Box,
    begin: int,
    count: int,
    measured: NDArray[Any] | None = None,
) -> None:
    """Write elements of a box into the memory of tensors that are alike, in its own order, from `begin` on.

    Args:
        addresses: of each stretch.
        dtype: of all, by its name.
        draws: of the elements of each.
        keys: (tensors, 2), of their streams.
        box: the part of the whole tensors that the elements are counted in.
        begin: place in the box of the first element.
        count: of elements.
        measured: takes the moments of each stretch.
    """
    kernel().fill(addresses, dtype, draws, keys, box.runs, begin, count, measured)


def fill_box(out: NDArray[np.float32], distribution: Elementwise, key: StreamKey, box: Box, begin: int = 0) -> None:
    """Write elements of a box, in its own order, from `begin` on: as many as `out` holds.

    Args:
        out: contiguous, written.
        distribution: of every element.
        key: of the stream.
        box: the part of the whole tensor that the elements are counted in.
        begin: place in the box of the first element.

    Example:
        >>> from initplug.filling.words import key_of
        >>> from initplug.schemes.distributions import Normal
        >>> whole, part, key = np.empty(100, np.float32), np.empty(40, np.float32), key_of(0, "fc.weight")
        >>> fill_box(whole, Normal(0.0, 1.0), key, Box.whole((10, 10)))
        >>> fill_box(part, Normal(0.0, 1.0), key, Box.whole((10, 10)).part(1, 6, 4))
        >>> bool((whole.reshape(10, 10)[:, 6:] == part.reshape(10, 4)).all())
        True
    """
    if not out.size:
        return
    addresses = np.array([address_of(out)], np.uintp)
    draws = table_of([draw_of(distribution)])
    fill_memory(addresses, "float32", draws, key.reshape(1, 2), box, begin, out.size)
    mapped = distribution.sampling.mapped
    if mapped is not None:
        for first in range(0, out.size, MAPPED_AT_A_TIME):
            piece = out[first : first + MAPPED_AT_A_TIME]
            piece[...] = mapped(piece.astype(np.float64))


MAPPED_AT_A_TIME = 1 << 15
"""Elements that are made of standard numbers at a time, in double precision: what that takes lies in the cache."""
