"""Random streams, version 1: every value depends on (seed, name, index, distribution) and on nothing else.

Element i of a tensor takes the 32-bit word i of the Philox stream that its name and the seed select. Words become
normals by a table of the inverse distribution, with integer operations, gathers, IEEE products and sums alone, so that
the bits are the same on every machine and for every order, thread count, chunk, memory layout and sharding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]
Key = NDArray[np.uint64]

CHUNK = 1 << 18
"""Elements drawn at a time, whatever the tensor's size: as few as threads that wait for the interpreter can do with."""

BLOCK = 8
"""32-bit words that one step of Philox4x64 gives."""

SEEDS = 1 << 64
"""How many seeds there are."""

# Words ------------------------------------------------------------------------------------------------------


def key_of(seed: int, name: str, tag: str = "") -> Key:
    """The Philox key of a stream: two 64-bit words of blake2b.

    Args:
        seed: 0 to 2^64 - 1.
        name: canonical name of the tensor.
        tag: of a further stream of the same tensor, such as `imag`.

    Example:
        >>> [hex(word) for word in key_of(0, "fc.weight").tolist()]
        ['0x191211bed268c8e9', '0x79fff1d168e35348']
    """
    text = f"{seed}\0{name}\0{tag}" if tag else f"{seed}\0{name}"
    digest = hashlib.blake2b(b"initplug/1\0" + text.encode(), digest_size=16).digest()
    return np.frombuffer(digest, "<u8").astype(np.uint64)


STEP = 1 << 17
"""Elements that are computed at a time: their scratch lies in the second-level cache."""


@dataclass(slots=True)
class Source:
    """A Philox generator that is set to any key and place, with the memory that drawing needs. One thread's own.

    Args:
        step: elements that are computed at a time, which changes no value.
    """

    step: int = STEP
    philox: np.random.Philox = field(default_factory=lambda: np.random.Philox(key=0))
    floats: Floats = field(init=False)
    slopes: Floats = field(init=False)
    places: NDArray[np.intp] = field(init=False)
    long: NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        self.floats, self.slopes = np.empty(self.step, np.float32), np.empty(self.step, np.float32)
        self.places, self.long = np.empty(self.step, np.intp), np.empty(self.step, np.uint64)

    def words(self, key: Key, start: int, count: int) -> Words:
        """The 32-bit words `start` to `start + count` of a stream.

        Philox steps before it gives words, so block b, words 8b to 8b + 7, needs the counter b - 1, modulo 2^256.
        """
        block, offset = divmod(start, BLOCK)
        counter = np.array([block - 1, 0, 0, 0] if block else [SEEDS - 1] * 4, np.uint64)
        self.philox.state = {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": key},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        raw = self.philox.random_raw((offset + count + 1) // 2)
        return as_words(raw)[offset : offset + count]


def as_words(raw: NDArray[np.uint64]) -> Words:
    """64-bit words as twice as many 32-bit ones, the low half first."""
    return raw.astype("<u8", copy=False).view("<u4")


MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
ROUNDS = 10


def words_of_many(keys: Key, counts: Sequence[int]) -> tuple[Words, NDArray[np.int64]]:
    """The first words of many streams at once, as `Source.words` gives them one by one.

    Args:
        keys: (streams, 2), a key each.
        counts: words wanted of each.

    Returns:
        All words, and where those of each stream begin; each stream fills whole blocks.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    blocks = (np.asarray(counts, np.int64) + BLOCK - 1) // BLOCK
    ends = np.cumsum(blocks)
    first = ends - blocks
    keyed = np.repeat(keys, blocks, axis=0)
    low, high = keyed[:, 0].copy(), keyed[:, 1].copy()
    a = (np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(first, blocks)).astype(np.uint64)
    b, c, d = np.zeros_like(a), np.zeros_like(a), np.zeros_like(a)
    for _ in range(ROUNDS):
        (up, down), (over, under) = _product(a, MULTIPLIERS[0]), _product(c, MULTIPLIERS[1])
        a, b, c, d = over ^ b ^ low, under, up ^ d ^ high, down
        low += np.uint64(WEYL[0])
        high += np.uint64(WEYL[1])
    return as_words(np.stack([a, b, c, d], axis=1).reshape(-1)), first * BLOCK


def _product(factor: NDArray[np.uint64], constant: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The high and the low half of a product of 64-bit words, from products of their halves."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    low, high = np.uint64(constant & 0xFFFFFFFF), np.uint64(constant >> 32)
    below, above = factor & mask, factor >> half
    middle = above * low + (below * low >> half)
    other = below * high + (middle & mask)
    return above * high + (middle >> half) + (other >> half), factor * np.uint64(constant)


# Normals ----------------------------------------------------------------------------------------------------

SHIFT = 14
"""Bits of a float that are less than a segment of the table."""


@lru_cache(maxsize=1)
def _table() -> tuple[Floats, Floats]:
    """Intercepts and slopes of the inverse normal distribution, by the high bits of the float of a word."""
    stored = np.load(Path(__file__).with_name("normal.npy"), allow_pickle=False)
    first = int(np.float32(1).view(np.uint32)) >> SHIFT
    expanded = np.zeros((2, 2, 1 << (31 - SHIFT)), np.float32)
    expanded[:, :, first : first + stored.shape[2]] = stored
    # The word 0, whose float has no octave: the normal above which lies half a word's probability.
    expanded[0, 0, 0] = TOP
    intercepts, slopes = expanded.reshape(2, -1)
    return intercepts, slopes


TOP = np.float32(6.337957923)
"""The largest normal: -Φ⁻¹(2^-33)."""


def to_normal(words: Words, out: Floats, source: Source) -> None:
    """Standard normals, falling as the words rise: -Φ⁻¹((u + 1/2) / 2^32) to 5e-7, |z| up to 6.34.

    Args:
        words: 32-bit words.
        out: as many floats, written.
        source: whose memory is used.
    """
    intercepts, slopes = _table()
    signed = words.view(np.int32)
    for start in range(0, len(words), source.step):
        piece, z = signed[start : start + source.step], out[start : start + source.step]
        floats, slope, place = source.floats[: len(z)], source.slopes[: len(z)], source.places[: len(z)]
        np.copyto(floats, piece, casting="unsafe")
        np.right_shift(floats.view(np.uint32), SHIFT, out=place, casting="unsafe")
        # Places lie inside the table; `wrap` spares numpy the buffer that it needs to raise for others.
        np.take(intercepts, place, out=z, mode="wrap")
        np.take(slopes, place, out=slope, mode="wrap")
        np.multiply(slope, floats, out=slope)
        np.add(z, slope, out=z)


@lru_cache(maxsize=4096)
def _cut(low: float, high: float) -> tuple[int, int]:
    """The first word whose normal lies in [low, high], and how many words do; at least one."""
    source = Source()
    z = np.empty(1, np.float32)

    def first_below(bound: float, strictly: bool) -> int:
        """The first word whose normal is at most `bound`, or below it."""
        start, end = 0, 1 << 32
        while start < end:
            middle = (start + end) // 2
            to_normal(np.array([middle], np.uint32), z, source)
            below = float(z[0]) < bound if strictly else float(z[0]) <= bound
            start, end = (start, middle) if below else (middle + 1, end)
        return start

    begin, end = first_below(high, False), first_below(low, True)
    if begin >= end:  # between two neighbours
        return min(begin, (1 << 32) - 1), 1
    return begin, end - begin


# Distributions ----------------------------------------------------------------------------------------------

Sampler = Callable[[Words, Floats, Source], None]
"""Turns words into the elements of a distribution."""

Elementwise = Normal | TruncatedNormal | Uniform
"""Distributions whose elements are independent, each from a word of its own."""


@lru_cache(maxsize=4096)
def sampler(distribution: Any) -> Sampler:
    """What turns words into elements of a distribution, its numbers computed in double and rounded to float32.

    Args:
        distribution: Normal, TruncatedNormal or Uniform.

    Example:
        >>> out = np.empty(2, np.float32)
        >>> sampler(Uniform(0.0, 1.0))(np.array([0, 1 << 31], np.uint32), out, Source())
        >>> out.tolist()
        [0.0, 0.5]
    """
    match distribution:
        case Normal(mean, std):
            return _affine(to_normal, np.float32(std), np.float32(mean))
        case Uniform(low, high):
            return _affine(_to_uniform, np.float32(high - low), np.float32(low))
        case TruncatedNormal(loc, scale, low, high):
            begin, count = _cut((low - loc) / scale, (high - loc) / scale)
            inner = _affine(_confined(begin, count), np.float32(scale), np.float32(loc))
            bounds = np.float32(low), np.float32(high)

            def truncated(words: Words, out: Floats, source: Source) -> None:
                inner(words, out, source)
                np.clip(out, *bounds, out=out)

            return truncated
    raise TypeError(f"{type(distribution).__name__} is not drawn element by element")


def _affine(standard: Sampler, scale: np.float32, shift: np.float32) -> Sampler:
    def sample(words: Words, out: Floats, source: Source) -> None:
        for start in range(0, len(words), source.step):
            piece = out[start : start + source.step]
            standard(words[start : start + source.step], piece, source)
            if scale != 1:
                np.multiply(piece, scale, out=piece)
            if shift != 0:
                np.add(piece, shift, out=piece)

    return sample


def _to_uniform(words: Words, out: Floats, source: Source) -> None:
    """Multiples of 2^-24 in [0, 1)."""
    high = source.slopes[: len(words)].view(np.uint32)
    np.right_shift(words, np.uint32(8), out=high)
    np.copyto(out, high, casting="unsafe")
    np.multiply(out, np.float32(2.0**-24), out=out)


def _confined(begin: int, count: int) -> Sampler:
    """Normals of the words from `begin` on, onto which all words are mapped in order."""

    def sample(words: Words, out: Floats, source: Source) -> None:
        long = source.long[: len(words)]
        np.multiply(words, np.uint64(count), out=long, dtype=np.uint64)
        np.right_shift(long, np.uint64(32), out=long)
        np.add(long, np.uint64(begin), out=long)
        to_normal(long.astype(np.uint32), out, source)

    return sample


# Regions ----------------------------------------------------------------------------------------------------


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
        """All of a tensor."""
        return cls(tuple(shape), (0,) * len(shape), tuple(shape))

    def part(self, dim: int, start: int, size: int) -> Box:
        """A stretch of the box along a dimension."""
        starts, sizes = list(self.starts), list(self.sizes)
        starts[dim] += start
        sizes[dim] = size
        return Box(self.shape, tuple(starts), tuple(sizes))

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], int]:
        """Where the stretches of consecutive indices that make up the box begin, in order, and how long each is."""
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


def words_of(key: Key, runs: tuple[NDArray[np.int64], int], begin: int, end: int, source: Source) -> Words:
    """The words of elements `begin` to `end` of a box, counted inside it.

    Args:
        key: of the stream.
        runs: of the box.
        begin: first element.
        end: behind the last element.
        source: whose generator is used.
    """
    firsts, length = runs
    if len(firsts) == 1:
        return source.words(key, int(firsts[0]) + begin, end - begin)
    gathered = np.empty(end - begin, np.uint32)
    done = begin
    while done < end:
        row, inside = divmod(done, length)
        count = min(length - inside, end - done)
        gathered[done - begin : done - begin + count] = source.words(key, int(firsts[row]) + inside, count)
        done += count
    return gathered


def fill(
    out: Floats,
    distribution: Elementwise,
    key: Key,
    box: Box,
    source: Source,
    begin: int = 0,
) -> None:
    """Elements of a box, in its own order, from `begin` on: as many as `out` holds.

    Args:
        out: contiguous, written.
        distribution: of every element.
        key: of the stream.
        box: the part of the whole tensor that the elements are counted in.
        source: whose generator and memory are used.
        begin: place in the box of the first element.

    Example:
        >>> whole, part = np.empty(100, np.float32), np.empty(40, np.float32)
        >>> key, source = key_of(0, "fc.weight"), Source()
        >>> fill(whole, Normal(0.0, 1.0), key, Box.whole((10, 10)), source)
        >>> fill(part, Normal(0.0, 1.0), key, Box.whole((10, 10)).part(1, 6, 4), source)
        >>> bool((whole.reshape(10, 10)[:, 6:] == part.reshape(10, 4)).all())
        True
    """
    sample, runs = sampler(distribution), box.runs
    for first, last in spans(len(out)):
        sample(words_of(key, runs, begin + first, begin + last, source), out[first:last], source)


def spans(count: int) -> Iterator[tuple[int, int]]:
    """The chunks of `count` elements, as (begin, end)."""
    return ((begin, min(begin + CHUNK, count)) for begin in range(0, count, CHUNK))
