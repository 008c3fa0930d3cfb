"""Elementary functions of the same bits on every machine: sums, products and quotients in a fixed order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64, int32
    from numpy.typing import NDArray

LN2 = (0.6931471803691238, 1.9082149292705877e-10)
"""The logarithm of 2 in two parts, of which whole multiples of the first are exact."""


def exp(x: NDArray[float64]) -> NDArray[float64]:
    """Return eˣ to a few units in the last place."""
    import numpy as np

    power, less = _reduced(x)
    found: NDArray[float64] = np.ldexp(1 + less, power)
    return found


def expm1(x: NDArray[float64]) -> NDArray[float64]:
    """Return eˣ - 1 to a few units in the last place."""
    import numpy as np

    power, less = _reduced(x)
    found: NDArray[float64] = np.ldexp(less, power) + (np.ldexp(1.0, power) - 1)
    return found


def _reduced(x: NDArray[float64]) -> tuple[NDArray[int32], NDArray[float64]]:
    """Return k and eʳ - 1 of x = k·ln 2 + r, by the series of eʳ."""
    import numpy as np

    x = np.maximum(x, -750.0)  # whose exponential is 0
    whole = np.rint(x / (LN2[0] + LN2[1]))
    rest = (x - whole * LN2[0]) - whole * LN2[1]
    series = np.full_like(rest, 1 / math.factorial(14))
    for power in range(13, 0, -1):
        series = series * rest + 1 / math.factorial(power)
    return whole.astype(np.int32), series * rest


def log(x: NDArray[float64]) -> NDArray[float64]:
    """Return ln x to a few units in the last place, by the series of artanh((m - 1)/(m + 1)) for x = m·2ᵏ."""
    import numpy as np

    mantissa, power = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa, power = np.where(small, 2 * mantissa, mantissa), power - small
    ratio = (mantissa - 1) / (mantissa + 1)
    square, series = ratio * ratio, np.full_like(ratio, 1 / 25)
    for odd in range(23, 0, -2):
        series = series * square + 1 / odd
    found: NDArray[float64] = power * LN2[0] + (2 * ratio * series + power * LN2[1])
    return found
