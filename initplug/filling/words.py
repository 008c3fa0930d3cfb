"""Keys: the stream of random words that a name and a seed select."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

StreamKey = NDArray[np.uint64]

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
