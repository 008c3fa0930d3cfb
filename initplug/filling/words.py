"""Random words: element i of a tensor takes the 32-bit word i of the Philox stream that its name and the seed select.

Any words of any stream are had at any time: one after another, of many streams at once, of rows from many places.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]
StreamKey = NDArray[np.uint64]

STEP = 1 << 17
"""Elements that one of several threads computes at a time: few steps, since between their calls threads wait for the
interpreter, yet what they take lies in the second-level cache."""

BLOCK = 8
"""32-bit words that one step of Philox4x64 gives."""

SEEDS = 1 << 64
"""How many seeds there are."""


def key_of(seed: int, name: str, tag: str = "") -> StreamKey:
    """Return the Philox key of a stream: two 64-bit words of blake2b.

    Args:
        seed: 0 to 2^64 - 1.
        name: canonical name of the tensor.
        tag: of a further stream of the same tensor, such as `imag`.

    Example:
        >>> [hex(word) for word in key_of(0, "fc.weight").tolist()]
        ['0x191211bed268c8e9', '0x79fff1d168e35348']
    """
    return keys_of(seed, [f"{name}\0{tag}" if tag else name]).reshape(2)


def keys_of(seed: int, names: Iterable[str]) -> StreamKey:
    """Return the keys of many streams, (streams, 2)."""
    begun = hashlib.blake2b(f"initplug/1\0{seed}\0".encode(), digest_size=16)
    digests = bytearray()
    for name in names:
        one = begun.copy()
        one.update(name.encode())
        digests += one.digest()
    return np.frombuffer(bytes(digests), "<u8").astype(np.uint64).reshape(-1, 2)


class WordSource:
    """A Philox generator that is set to any key and place, with the memory that drawing needs. One thread's own.

    Args:
        step: elements that are computed at a time, which changes no value.
    """

    __slots__ = ("_counter", "_key", "_philox", "_scratch", "_state", "step")

    def __init__(self, step: int = STEP) -> None:
        self.step = step
        self._philox = np.random.Philox(key=0)
        self._counter, self._key = np.zeros(4, np.uint64), np.zeros(2, np.uint64)
        self._state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter, "key": self._key},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        wide = np.empty(step, np.uint64)
        self._scratch = Scratch(wide.view(np.int64), wide)

    def words(self, key: StreamKey, start: int, count: int) -> Words:
        """Return the 32-bit words `start` to `start + count` of a stream.

        Philox steps before it gives words, so block b, words 8b to 8b + 7, needs the counter b - 1, modulo 2^256.
        """
        block, offset = divmod(start, BLOCK)
        self._counter[0] = (block - 1) % SEEDS
        self._counter[1:] = 0 if block else SEEDS - 1
        self._key[:] = key
        self._philox.state = self._state
        words = as_words(self._philox.random_raw((offset + count + 1) // 2))
        return words if len(words) == count else words[offset : offset + count]

    def fill_rows(self, key: StreamKey, firsts: NDArray[np.int64], out: Words) -> None:
        """Write words from each of many places on, as many as a row of `out` has."""
        philox, counter, state, length = self._philox, self._counter, self._state, out.shape[1]
        self._key[:] = key
        counter[1:] = 0
        for row, first in zip(out, firsts.tolist(), strict=True):
            if first < BLOCK:  # its counter is below zero
                row[:] = self.words(key, first, length)
                counter[1:] = 0
                continue
            offset = first % BLOCK
            counter[0] = first // BLOCK - 1
            philox.state = state
            row[:] = as_words(philox.random_raw((offset + length + 1) // 2))[offset : offset + length]

    def scratch(self, count: int) -> Scratch:
        """Return memory for at most `step` elements."""
        if count == self.step:
            return self._scratch
        places, long = self._scratch
        return Scratch(places[:count], long[:count])


class Scratch(NamedTuple):
    """Memory for as many elements as are computed at a time, the same under two types."""

    places: NDArray[np.int64]
    long: NDArray[np.uint64]


def as_words(raw: NDArray[np.uint64]) -> Words:
    """Return 64-bit words as twice as many 32-bit ones, the low half first."""
    return raw.astype("<u8", copy=False).view("<u4").astype(np.uint32, copy=False)


BIG_END = int(sys.byteorder == "big")
Constants = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]


def _constant_words(*numbers: int) -> Any:
    """Return 64-bit constants, as arrays without dimensions, which numpy takes faster than numbers."""
    return tuple(np.array(number, np.uint64) for number in numbers)


HALF, MASK = _constant_words(32, 0xFFFFFFFF)
FACTORS: tuple[Constants, Constants] = (
    _constant_words(0xD2E7470EE14C6C93, 0xE14C6C93, 0xD2E7470E),
    _constant_words(0xCA5A826395121157, 0x95121157, 0xCA5A8263),
)
"""The multipliers, each with its low and its high half."""

WEYL = _constant_words(0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10


def words_of_many(
    keys: StreamKey, counts: Sequence[int] | NDArray[np.int64], starts: Sequence[int] | NDArray[np.int64] | None = None
) -> tuple[Words, NDArray[np.int64]]:
    """Return words of many streams at once, as `WordSource.words` gives them one by one.

    Args:
        keys: (streams, 2), a key each.
        counts: words wanted of each.
        starts: the first word of each; by default those at the beginning.

    Returns:
        All words, and where those of each stream begin; each stream fills whole blocks.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    skipped, offsets = np.divmod(np.asarray([0] * len(counts) if starts is None else starts, np.int64), BLOCK)
    blocks = (offsets + np.asarray(counts, np.int64) + BLOCK - 1) // BLOCK
    ends = np.cumsum(blocks)
    first = ends - blocks
    places = np.arange(int(ends[-1]) if len(ends) else 0)
    places += np.repeat(skipped - first, blocks)
    words = _blocks(places.view(np.uint64), *(np.repeat(half, blocks) for half in np.ascontiguousarray(keys.T)))
    return words, first * BLOCK + offsets


def _blocks(places: NDArray[np.uint64], low: Any, high: Any) -> Words:
    """Return the words of blocks, eight of each.

    Args:
        places: of the blocks.
        low: first half of their keys, of each or of all.
        high: second half.
    """
    words = np.empty((len(places), 4), np.uint64)
    for start in range(0, len(places), BLOCKS):
        step = slice(start, start + BLOCKS)
        own = step if len(low) > 1 else slice(1)
        _encipher(places[step].copy(), low[own].copy(), high[own].copy(), words[step])
    return as_words(words.reshape(-1))


BLOCKS = 1 << 13
"""Blocks that are computed at a time: what they take lies in the second-level cache."""


def _encipher(
    a: NDArray[np.uint64], low: NDArray[np.uint64], high: NDArray[np.uint64], out: NDArray[np.uint64]
) -> None:
    """Encipher some blocks by Philox4x64, in place, since memory would take longer than the arithmetic.

    Args:
        a: the first words of their counters; the others are 0. Overwritten, as are the keys.
        low: first half of their keys, of each or of all.
        high: second half.
        out: (blocks, 4), the four words of each.
    """
    b, c, d, up, over, *scratch = np.zeros((8, len(a)), np.uint64)
    for _ in range(ROUNDS):
        _multiply_words(a, FACTORS[0], up, scratch)
        _multiply_words(c, FACTORS[1], over, scratch)
        for high_half, other, key in ((over, b, low), (up, d, high)):
            np.bitwise_xor(high_half, other, high_half)
            np.bitwise_xor(high_half, key, high_half)
        a, b, c, d, up, over = over, c, up, a, b, d
        np.add(low, WEYL[0], low)
        np.add(high, WEYL[1], high)
    for column, word in enumerate((a, b, c, d)):
        out[:, column] = word


def _multiply_words(
    factor: NDArray[np.uint64], constant: Constants, high: NDArray[np.uint64], scratch: Sequence[NDArray[np.uint64]]
) -> None:
    """Multiply 64-bit words by products of their halves: the low half in place, the high half in `high`."""
    below, middle, over = scratch
    whole, lower, upper = constant
    np.bitwise_and(factor, MASK, below)
    np.right_shift(factor, HALF, high)
    np.multiply(below, lower, middle)
    np.right_shift(middle, HALF, middle)
    np.multiply(high, lower, over)
    np.add(middle, over, middle)
    np.multiply(below, upper, below)
    np.bitwise_and(middle, MASK, over)
    np.add(below, over, below)
    np.multiply(high, upper, high)
    for part in (middle, below):
        np.right_shift(part, HALF, part)
        np.add(high, part, high)
    np.multiply(factor, whole, factor)


def words_of_box(
    key: StreamKey, runs: tuple[NDArray[np.int64], int], begin: int, end: int, source: WordSource
) -> Words:
    """Return the words of elements `begin` to `end` of a box, counted inside it.

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
    row, inside = divmod(begin, length)
    rows = firsts[row : -(-end // length)]
    gathered = np.empty((len(rows), length), np.uint32)
    (_fill_short_rows if length <= SHORT else source.fill_rows)(key, rows, gathered)
    return gathered.reshape(-1)[inside : inside + end - begin]


SHORT = 96
"""Words of a row up to which many rows at once are faster than one after another."""

SHORT_ROWS_AT_A_TIME = 1 << 12
"""Blocks that are computed at a time: what they take lies in the second-level cache."""


def _fill_short_rows(key: StreamKey, firsts: NDArray[np.int64], out: Words) -> None:
    """Write words from each of many places on, as many as a row of `out` has."""
    length = out.shape[1]
    each = (length + 2 * BLOCK - 2) // BLOCK  # blocks that hold a row, wherever it begins
    step = max(SHORT_ROWS_AT_A_TIME // each, 1)
    for start in range(0, len(firsts), step):
        first, offset = np.divmod(firsts[start : start + step], BLOCK)
        places = (first[:, None] + np.arange(each)).astype(np.uint64)
        words = _blocks(places.reshape(-1), key[:1], key[1:]).reshape(len(first), -1)
        if (offset == offset[0]).all():
            out[start : start + step] = words[:, offset[0] : offset[0] + length]
        else:
            out[start : start + step] = np.take_along_axis(words, offset[:, None] + np.arange(length), axis=1)
