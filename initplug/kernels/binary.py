"""The binary of kernel.c and qr.c: where it is, whether it is whole, and what it exports."""

from __future__ import annotations

import ctypes
import hashlib
from functools import lru_cache
from pathlib import Path

ABI = 4
"""The version of what kernel.c and qr.c export."""

BINARY = Path(__file__).with_name("kernel.bin")

DIGEST = BINARY.with_name("kernel.blake2b")
"""Holds the digest of the binary."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Return what kernel.c and qr.c export.

    Raises:
        OSError: the binary is missing, damaged, of another platform or of another version.
    """
    # A system may end a program that maps less of a library than its header promises.
    if hashlib.blake2b(BINARY.read_bytes()).hexdigest() != DIGEST.read_text().strip():
        raise OSError("it is damaged")
    loaded = ctypes.CDLL(str(BINARY))
    version = int(loaded.abi())
    if version != ABI:
        raise OSError(f"its version is {version}, not {ABI}")
    whole, address, number = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32
    loaded.fill.argtypes = [whole, address, number, *[address] * 4, *[whole] * 3, address]
    loaded.measure.argtypes = [whole, address, number, whole, address]
    loaded.orthonormalize.argtypes = [*[address] * 3, *[whole] * 3]
    for function in (loaded.fill, loaded.measure, loaded.orthonormalize):
        function.restype = None
    return loaded
