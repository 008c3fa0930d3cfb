"""The kernels of kernel.c, called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from initplug.kernels.binary import library
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
    library().fill(
        len(addresses),
        addresses.ctypes.data,
        DTYPE_CODES[dtype],
        draws.ctypes.data,
        normal_table().ctypes.data,
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
