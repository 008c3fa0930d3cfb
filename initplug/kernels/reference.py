"""The streams of version 1 and moments, to be read: what every other kernel gives to the bit.

Element i of a tensor takes the 32-bit word i of the Philox stream that the tensor's key selects. A word becomes a value
by integer operations, gathers, IEEE products and sums alone, so that the bits are the same on every machine and for
every order, thread count, chunk, memory layout and sharding.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from initplug.kernels.qr_reference import orthonormalize as orthonormalize

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]
Addresses = NDArray[np.uintp]
Keys = NDArray[np.uint64]
Draws = NDArray[np.void]
Runs = tuple[NDArray[np.int64], int]

WORD_COUNT = 1 << 32
"""The number of words there are."""


class Draw(NamedTuple):
    """The way of a word to a value, before the cast: a standard number times `scale`, plus `shift`, cut at the bounds.

    Args:
        uniform: whether standard numbers are uniform in [0, 1); else they are normal.
        scale: as all bounds and sums rounded to float32, in which values are computed.
        shift: what is added; -0.0 adds nothing to any number.
        low: values below are raised to it.
        high: values above are lowered to it.
        first: word that normals are made of.
        number: of words that they are made of: all words are mapped onto these, in order.
    """

    uniform: bool = False
    scale: float = 1.0
    shift: float = -0.0
    low: float = -math.inf
    high: float = math.inf
    first: int = 0
    number: int = WORD_COUNT


DRAW = np.dtype(
    [
        ("uniform", np.int32),
        ("scale", np.float32),
        ("shift", np.float32),
        ("low", np.float32),
        ("high", np.float32),
        ("first", np.uint32),
        ("number", np.uint64),
    ]
)
"""A `Draw` in memory."""


def table_of(draws: Iterable[Draw]) -> Draws:
    """Return draws in memory; what is beyond float32 is infinite."""
    with np.errstate(over="ignore"):
        return np.array([*draws], DRAW)


# Words -----------------------------------------------------------------------------------------------------------


def words(key: Keys, start: int, count: int) -> Words:
    """Return words of a stream from `start` on.

    A block of Philox4x64-10 gives eight words, the low halves first. NumPy steps before it gives words, so that block b
    needs the counter b - 1.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    block, skipped = divmod(start, 8)
    low, high = key.tolist()
    philox = np.random.Philox(key=high << 64 | low, counter=(block - 1) % (1 << 256))
    raw = philox.random_raw((skipped + count + 1) // 2).astype("<u8")
    return raw.view("<u4").astype(np.uint32)[skipped : skipped + count]


def words_of_box(key: Keys, runs: Runs, begin: int, count: int) -> Words:
    """Return the words of elements of a box, counted inside it from `begin` on.

    Args:
        key: of the stream.
        runs: where the box's runs of elements begin in the whole tensor, and how long each of them is.
        begin: first element.
        count: of elements.
    """
    firsts, length = runs
    run, inside = divmod(begin, length)
    parts = []
    while count:
        held = min(length - inside, count)
        parts.append(words(key, int(firsts[run]) + inside, held))
        run, inside, count = run + 1, 0, count - held
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)


# Values ----------------------------------------------------------------------------------------------------------

SHIFT = 14
"""Bits of a float that are less than a segment of the table."""

TOP = np.float32(6.337957923)
"""The largest normal: -Φ⁻¹(2^-33)."""


@lru_cache(maxsize=1)
def normal_table() -> Floats:
    """Return intercept and slope of the inverse normal distribution for the high bits of every word as a float."""
    stored = np.load(Path(__file__).with_name("normal.npy"), allow_pickle=False)
    first = int(np.float32(1).view(np.uint32)) >> SHIFT
    expanded = np.zeros((2, 2, 1 << (31 - SHIFT)), np.float32)  # intercepts and slopes, by sign
    expanded[:, :, first : first + stored.shape[2]] = stored
    # The word 0, whose float has no octave: the normal above which lies half a word's probability.
    expanded[0, 0, 0] = TOP
    return np.ascontiguousarray(expanded.reshape(2, -1).T)


def normals(drawn: Words) -> Floats:
    """Return standard normals, falling as the words rise: -Φ⁻¹((u + 1/2) / 2^32) to 5e-7, |z| up to 6.34."""
    floats = drawn.view(np.int32).astype(np.float32)
    intercepts, slopes = normal_table()[floats.view(np.uint32) >> SHIFT].T
    result: Floats = intercepts + slopes * floats
    return result


def uniforms(drawn: Words) -> Floats:
    """Return numbers in [0, 1), multiples of 2^-24."""
    return (drawn >> 8).astype(np.float32) * np.float32(2.0**-24)


def values(drawn: Words, draw: Draw) -> Floats:
    """Return the values that words become."""
    if draw.uniform:
        standard = uniforms(drawn)
    else:
        within = drawn.astype(np.uint64) * np.uint64(draw.number) >> np.uint64(32)
        standard = normals((within + np.uint64(draw.first)).astype(np.uint32))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = standard * np.float32(draw.scale) + np.float32(draw.shift)
    cut: Floats = np.clip(scaled, np.float32(draw.low), np.float32(draw.high))
    return cut


# Casts -----------------------------------------------------------------------------------------------------------

STORED = {"float32": np.float32, "float64": np.float64, "bfloat16": np.uint16, "float16": np.float16}
"""The dtypes that are written and measured, and what NumPy sees in their memory: of a bfloat16 its bits."""


def as_dtype(drawn: Floats, dtype: str) -> NDArray[Any]:
    """Return values as a dtype, to nearest and to even."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return drawn.astype(STORED[dtype])
    bits = drawn.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(drawn), 0x7FC0, rounded).astype(np.uint16)


def widened(stored: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """Return what memory holds in double precision."""
    if dtype == "bfloat16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


# Moments ---------------------------------------------------------------------------------------------------------

MOMENTS = np.dtype(
    [("numel", np.int64), ("mean", np.float64), ("std", np.float64), ("min", np.float64), ("max", np.float64)]
)
"""Population moments and extremes of some elements."""

BLOCK = 2048
"""Elements that are added to each other; blocks are added one after another."""

LANES = 16
"""Sums that the elements of a block are dealt to."""


def moments_of(held: NDArray[np.float64], scale: float = 1.0) -> tuple[int, float, float, float, float]:
    """Return the moments of elements, one or more, whose squares `scale` keeps within double precision.

    Source: Chan, Golub, LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances; 1983,
    Algorithms for computing the sample variance.
    """
    numel, low, high = len(held), float(held.min()) + 0.0, float(held.max()) + 0.0
    if low == high:
        return numel, float(held[0]), 0.0, low, high
    mean = squares = 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite elements
        for begin in range(0, numel, BLOCK):
            block = held[begin : begin + BLOCK] * scale
            own_mean, own_squares = _moments_of_block(block)
            if not begin:
                mean, squares = own_mean, own_squares
                continue
            count, delta = float(begin + len(block)), own_mean - mean
            mean += delta * (len(block) / count)
            squares += own_squares + delta * delta * (begin * len(block) / count)
    return numel, mean / scale, math.sqrt(squares / numel) / scale, low, high


def _moments_of_block(block: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of a block, and the sum of squared deviations from it.

    What is added are deviations from the first element, which is one of them: so squares keep 12 digits or more.
    """
    first = float(block[0]) if np.isfinite(block[0]) else 0.0
    deviations = block - first
    total = _dealt_sum(deviations)
    mean = total / len(block)
    return first + mean, _dealt_sum(deviations * deviations) - total * mean


def _dealt_sum(block: NDArray[np.float64]) -> float:
    """Return the sum of a block whose element i goes to lane i % `LANES`: halves of the lanes are added to halves."""
    padded = np.zeros(-len(block) % LANES + len(block))
    padded[: len(block)] = block
    sums = np.zeros(LANES)
    for row in padded.reshape(-1, LANES):
        sums += row
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return float(sums[0])


def scale_of(held: NDArray[np.float64]) -> float:
    """Return a power of two that keeps the squares of elements from being infinite or 0."""
    largest = float(np.fmax.reduce(np.abs(held), initial=0.0))
    if 1e-120 < largest < 1e120 or largest in (0.0, math.inf):
        return 1.0
    return 2.0**600 if largest < 1 else 2.0**-600


# What kernels do -------------------------------------------------------------------------------------------------


def fill(
    addresses: Addresses,
    dtype: str,
    draws: Draws,
    keys: Keys,
    runs: Runs,
    begin: int,
    count: int,
    measured: NDArray[Any] | None = None,
) -> None:
    """Fill stretches of tensors that are alike: elements of a box, counted inside it from `begin` on.

    Args:
        addresses: of each stretch in memory, without gaps.
        dtype: of all.
        draws: of the elements of each.
        keys: (tensors, 2), of the streams.
        runs: of the box, in each of the whole tensors.
        begin: first element.
        count: of elements, one or more.
        measured: takes the `MOMENTS` of what each stretch holds then.
    """
    for place, (held, key, draw) in enumerate(zip(_arrays(addresses, dtype, count), keys, draws, strict=True)):
        held[...] = as_dtype(values(words_of_box(key, runs, begin, count), Draw(*draw.item())), dtype)
        if measured is not None:
            measured[place] = moments_of(widened(held, dtype))


def measure(addresses: Addresses, dtype: str, count: int, measured: NDArray[Any]) -> None:
    """Measure tensors that are alike.

    Args:
        addresses: of each in memory, without gaps.
        dtype: of all.
        count: of elements, one or more.
        measured: takes the `MOMENTS` of each.
    """
    for place, stored in enumerate(_arrays(addresses, dtype, count)):
        held = widened(stored, dtype)
        measured[place] = moments_of(held, scale_of(held) if dtype == "float64" else 1.0)


def _arrays(addresses: Addresses, dtype: str, count: int) -> Iterator[NDArray[Any]]:
    """Yield the memory at addresses as arrays."""
    size = count * np.dtype(STORED[dtype]).itemsize
    for address in addresses.tolist():
        yield np.asarray((ctypes.c_uint8 * size).from_address(address)).view(STORED[dtype])
