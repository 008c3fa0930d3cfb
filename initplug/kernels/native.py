"""The kernels of kernel.c, called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from initplug.kernels.reference import Addresses, Draw, Keys, Runs, table

NAME = "native"

ABI = 1
"""The version of what kernel.c exports."""

DTYPES = {"float32": 0, "float64": 1, "bfloat16": 2, "float16": 3}

BINARY = Path(__file__).with_name({"win32": "kernel.dll", "darwin": "kernel.dylib"}.get(sys.platform, "kernel.so"))

DIGEST = BINARY.with_name("kernel.blake2b")
"""Holds the digest of the binary."""


class _Draw(ctypes.Structure):
    """A `Draw` as kernel.c reads it."""

    _fields_ = (
        ("uniform", ctypes.c_int32),
        ("begin", ctypes.c_uint32),
        ("count", ctypes.c_uint64),
        ("scale", ctypes.c_float),
        ("shift", ctypes.c_float),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Return what kernel.c exports.

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
    loaded.fill.restype = loaded.measure.restype = None
    return loaded


def fill(
    addresses: Addresses,
    dtype: str,
    draw: Draw,
    keys: Keys,
    runs: Runs,
    begin: int,
    count: int,
    measured: NDArray[Any] | None = None,
) -> None:
    """Fill stretches of tensors that are alike, as `reference.fill` does."""
    (firsts, length), structure = runs, _read_draw(draw)
    library().fill(
        len(addresses),
        _address(addresses),
        DTYPES[dtype],
        ctypes.addressof(structure),
        _address(table()),
        _address(keys),
        _address(firsts),
        length,
        begin,
        count,
        None if measured is None else _address(measured),
    )


def measure(addresses: Addresses, dtype: str, count: int, measured: NDArray[Any]) -> None:
    """Measure tensors that are alike, as `reference.measure` does."""
    library().measure(len(addresses), _address(addresses), DTYPES[dtype], count, _address(measured))


def _address(array: NDArray[Any]) -> int:
    """Return where an array without gaps begins in memory."""
    address: int = array.__array_interface__["data"][0]
    return address


@lru_cache(maxsize=4096)
def _read_draw(draw: Draw) -> _Draw:
    """Return a draw as kernel.c reads it."""
    return _Draw(draw.uniform, draw.begin, draw.count, draw.scale, draw.shift, draw.low, draw.high)
