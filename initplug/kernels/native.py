"""The kernels of kernel.c and qr.c, called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.kernels.binary import library
from initplug.kernels.qr_reference import PANEL
from initplug.kernels.reference import Addresses, Draw, Keys, Runs, normal_table

DTYPE_CODES = {"float32": 0, "float64": 1, "bfloat16": 2, "float16": 3}


class _Draw(ctypes.Structure):
    """A `Draw` as kernel.c reads it."""

    _fields_ = (
        ("uniform", ctypes.c_int32),
        ("first", ctypes.c_uint32),
        ("number", ctypes.c_uint64),
        ("scale", ctypes.c_float),
        ("shift", ctypes.c_float),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


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
        DTYPE_CODES[dtype],
        ctypes.addressof(structure),
        _address(normal_table()),
        _address(keys),
        _address(firsts),
        length,
        begin,
        count,
        None if measured is None else _address(measured),
    )


def measure(addresses: Addresses, dtype: str, count: int, measured: NDArray[Any]) -> None:
    """Measure tensors that are alike, as `reference.measure` does."""
    library().measure(len(addresses), _address(addresses), DTYPE_CODES[dtype], count, _address(measured))


def orthonormalize(strips: NDArray[np.float64], columns: int) -> None:
    """Replace a matrix by its Q, as `qr_reference.orthonormalize` does, in steps, between which it can be stopped."""
    panels, rows, _ = strips.shape
    grams, signs = np.zeros((panels, PANEL, PANEL)), np.ones((panels, PANEL))
    addresses = _address(strips), _address(grams), _address(signs)
    for step in range(2 * panels):
        library().orthonormalize(*addresses, rows, columns, step)


def _address(array: NDArray[Any]) -> int:
    """Return where an array without gaps begins in memory."""
    address: int = array.__array_interface__["data"][0]
    return address


@lru_cache(maxsize=4096)
def _read_draw(draw: Draw) -> _Draw:
    """Return a draw as kernel.c reads it."""
    return _Draw(draw.uniform, draw.first, draw.number, draw.scale, draw.shift, draw.low, draw.high)
