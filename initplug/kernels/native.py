"""The kernels of kernel.c and qr.c, called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.kernels.binary import library
from initplug.kernels.qr_reference import PANEL
from initplug.kernels.reference import Addresses, Draws, Keys, Runs, normal_table

DTYPE_CODES = {"float32": 0, "float64": 1, "bfloat16": 2, "float16": 3}


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
    """Fill stretches of tensors that are alike, as `reference.fill` does."""
    firsts, length = runs
    table = normal_table()  # held until the call is over: threads that ask for it first each load one of their own
    library().fill(
        len(addresses),
        addresses.ctypes.data,
        DTYPE_CODES[dtype],
        draws.ctypes.data,
        table.ctypes.data,
        keys.ctypes.data,
        firsts.ctypes.data,
        length,
        begin,
        count,
        None if measured is None else measured.ctypes.data,
    )


def measure(addresses: Addresses, dtype: str, count: int, measured: NDArray[Any]) -> None:
    """Measure tensors that are alike, as `reference.measure` does."""
    library().measure(len(addresses), addresses.ctypes.data, DTYPE_CODES[dtype], count, measured.ctypes.data)


def orthonormalize(strips: NDArray[np.float64], columns: int) -> None:
    """Replace a matrix by its Q, as `qr_reference.orthonormalize` does, in steps, between which it can be stopped."""
    panels, rows, _ = strips.shape
    grams, signs = np.zeros((panels, PANEL, PANEL)), np.ones((panels, PANEL))
    addresses = strips.ctypes.data, grams.ctypes.data, signs.ctypes.data
    for step in range(2 * panels):
        library().orthonormalize(*addresses, rows, columns, step)
