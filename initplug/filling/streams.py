"""Random streams, version 1: every value depends on (seed, name, index, distribution) and on nothing else.

Element i of a tensor takes the 32-bit word i of the Philox stream that its name and the seed select. Words become
normals by a table of the inverse distribution, with integer operations, gathers, IEEE products and sums alone, so that
the bits are the same on every machine and for every order, thread count, chunk, memory layout and sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from initplug import kernels
from initplug.filling.words import BIG_END, Floats, StreamKey, Words, WordSource, words_of_box
from initplug.regions import Box
from initplug.schemes.distributions import Elementwise

DRAWN_AT_A_TIME = 1 << 18
"""Elements drawn at a time, whatever the tensor's size."""

# Normals ----------------------------------------------------------------------------------------------------

SHIFT = 14
"""Bits of a float that are less than a segment of the table."""


@lru_cache(maxsize=1)
def _table() -> tuple[Floats, Floats]:
    """Return intercepts and slopes of the inverse normal distribution, by the high bits of the float of a word."""
    stored = np.load(Path(kernels.__file__).with_name("normal.npy"), allow_pickle=False)
    first = int(np.float32(1).view(np.uint32)) >> SHIFT
    expanded = np.zeros((2, 2, 1 << (31 - SHIFT)), np.float32)
    expanded[:, :, first : first + stored.shape[2]] = stored
    # The word 0, whose float has no octave: the normal above which lies half a word's probability.
    expanded[0, 0, 0] = TOP
    intercepts, slopes = expanded.reshape(2, -1)
    return intercepts, slopes


TOP = np.float32(6.337957923)
"""The largest normal: -Φ⁻¹(2^-33)."""


def make_normal(words: Words, out: Floats, source: WordSource) -> None:
    """Write standard normals, falling as the words rise: -Φ⁻¹((u + 1/2) / 2^32) to 5e-7, |z| up to 6.34.

    Args:
        words: 32-bit words, at most the source's step; overwritten.
        out: as many floats, written.
        source: whose memory is used.
    """
    # Words and the floats of them share memory: the less is touched, the more of it the cache holds.
    words.view(np.float32)[...] = words.view(np.int32)
    _look_up(words, out, source.scratch(len(words)).places)


def _look_up(words: Words, out: Floats, places: NDArray[np.int64]) -> None:
    """Overwrite words, whose floats lie in their memory as signed numbers, with their normals."""
    # Between two calls a thread holds the interpreter, for which others wait: calls are few, and made directly.
    intercepts, slopes = _table()
    floats = words.view(np.float32)
    np.right_shift(words, SHIFT, places, casting="unsafe")
    # Places lie inside the table; `wrap` spares numpy the buffer that it needs to raise for others.
    slopes.take(places, None, out, "wrap")
    np.multiply(floats, out, floats)
    intercepts.take(places, None, out, "wrap")
    np.add(out, floats, out)


@lru_cache(maxsize=4096)
def _words_within(low: float, high: float) -> tuple[int, int]:
    """Return the first word whose normal lies in [low, high], and how many words do; at least one."""
    source = WordSource()
    z = np.empty(1, np.float32)

    def first_below(bound: float, strictly: bool) -> int:
        """Return the first word whose normal is at most `bound`, or below it."""
        start, end = 0, 1 << 32
        while start < end:
            middle = (start + end) // 2
            make_normal(np.array([middle], np.uint32), z, source)
            below = float(z[0]) < bound if strictly else float(z[0]) <= bound
            start, end = (start, middle) if below else (middle + 1, end)
        return start

    begin, end = first_below(high, False), first_below(low, True)
    if begin >= end:  # between two neighbours
        return min(begin, (1 << 32) - 1), 1
    return begin, end - begin


# Distributions ----------------------------------------------------------------------------------------------

Sampler = Callable[[Words, Floats, WordSource], None]
"""Turns words, which it overwrites, into the elements of a distribution."""


@lru_cache(maxsize=4096)
def sampler(distribution: Elementwise) -> Sampler:
    """Return a sampler of a distribution, whose numbers are computed in double precision and rounded to float32.

    Args:
        distribution: of every element.

    Example:
        >>> from initplug.schemes.distributions import Uniform
        >>> out = np.empty(2, np.float32)
        >>> sampler(Uniform(0.0, 1.0))(np.array([0, 1 << 31], np.uint32), out, WordSource())
        >>> out.tolist()
        [0.0, 0.5]
    """
    standard, scale, shift, cut, mapped = distribution.sampling
    if mapped is not None:
        return _mapped_sampler(make_normal if standard == "normal" else _multiples(np.float32(2.0**-24)), mapped)
    if cut is not None:
        return _cut_sampler(scale, shift, cut)
    if standard == "normal":
        return _elementwise_sampler(make_normal, [scale], shift)
    # A product with a power of two is exact, so that one multiplication does, but where it leads out of floats.
    exact = scale > 2.0**-64
    first, *rest = [2.0**-24 * float(np.float32(scale))] if exact else [2.0**-24, scale]
    return _elementwise_sampler(_multiples(np.float32(first)), rest, shift)


def _mapped_sampler(standard: Sampler, mapped: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Sampler:
    """Return a sampler of what is made of standard values in double precision."""

    def sample(words: Words, out: Floats, source: WordSource) -> None:
        for start in range(0, len(words), source.step):
            piece = out[start : start + source.step]
            standard(words[start : start + source.step], piece, source)
            piece[...] = mapped(piece.astype(np.float64))

    return sample


def _cut_sampler(scale: float, shift: float, cut: tuple[float, float]) -> Sampler:
    """Return a sampler of normals between two bounds."""
    low, high = cut
    begin, count = _words_within((low - shift) / scale, (high - shift) / scale)
    sample, ends = _elementwise_sampler(_confined(begin, count), [scale], shift), np.empty(2, np.float32)
    # The map is monotone: where its ends lie inside the bounds, which rounding may exceed, all values do.
    sample(np.array([0, (1 << 32) - 1], np.uint32), ends, WordSource(2))
    bounds = np.float32(low), np.float32(high)
    inside = bounds[0] <= ends.min() and ends.max() <= bounds[1]
    return sample if inside else _elementwise_sampler(_confined(begin, count), [scale], shift, bounds)


def _elementwise_sampler(
    standard: Sampler, factors: Sequence[float], shift: float, bounds: tuple[np.float32, np.float32] | None = None
) -> Sampler:
    """Return a sampler of standard values, step by step, times each factor plus `shift`, cut at the bounds."""
    scales, summand = [np.float32(factor) for factor in factors if np.float32(factor) != 1], np.float32(shift)
    shifts = bool(summand != 0)

    def sample(words: Words, out: Floats, source: WordSource) -> None:
        for start in range(0, len(words), source.step):
            piece = out[start : start + source.step]
            standard(words[start : start + source.step], piece, source)
            for scale in scales:
                np.multiply(piece, scale, piece)
            if shifts:
                np.add(piece, summand, piece)
            if bounds is not None:
                np.clip(piece, *bounds, out=piece)

    return sample


def _multiples(unit: np.float32) -> Sampler:
    """Return a sampler of the high 24 bits of every word, which a float holds, times a unit."""

    def sample(words: Words, out: Floats, source: WordSource) -> None:  # noqa: ARG001  # a sampler, which needs no memory
        np.right_shift(words, EIGHT, words)
        np.multiply(words.view(np.int32), unit, out, dtype=np.float32, casting="unsafe")

    return sample


EIGHT = np.uint32(8)


def _confined(begin: int, count: int) -> Sampler:
    """Return a sampler of normals of the words from `begin` on, onto which all words are mapped in order."""
    factor, first = np.uint64(count), np.uint32(begin).view(np.int32)

    def sample(words: Words, out: Floats, source: WordSource) -> None:
        places, long = source.scratch(len(words))
        np.multiply(words, factor, long, dtype=np.uint64)
        np.add(long.view(np.int32)[1 - BIG_END :: 2], first, words.view(np.float32), casting="unsafe", dtype=np.int32)
        _look_up(words, out, places)

    return sample


def fill_box(
    out: Floats,
    distribution: Elementwise,
    key: StreamKey,
    box: Box,
    source: WordSource,
    begin: int = 0,
) -> None:
    """Write elements of a box, in its own order, from `begin` on: as many as `out` holds.

    Args:
        out: contiguous, written.
        distribution: of every element.
        key: of the stream.
        box: the part of the whole tensor that the elements are counted in.
        source: whose generator and memory are used.
        begin: place in the box of the first element.

    Example:
        >>> from initplug.filling.words import key_of
        >>> from initplug.schemes.distributions import Normal
        >>> whole, part = np.empty(100, np.float32), np.empty(40, np.float32)
        >>> key, source = key_of(0, "fc.weight"), WordSource()
        >>> fill_box(whole, Normal(0.0, 1.0), key, Box.whole((10, 10)), source)
        >>> fill_box(part, Normal(0.0, 1.0), key, Box.whole((10, 10)).part(1, 6, 4), source)
        >>> bool((whole.reshape(10, 10)[:, 6:] == part.reshape(10, 4)).all())
        True
    """
    sample, runs = sampler(distribution), box.runs
    for first, last in spans(len(out)):
        sample(words_of_box(key, runs, begin + first, begin + last, source), out[first:last], source)


def spans(count: int) -> Iterator[tuple[int, int]]:
    """Return the chunks of `count` elements, as (begin, end)."""
    return ((begin, min(begin + DRAWN_AT_A_TIME, count)) for begin in range(0, count, DRAWN_AT_A_TIME))
