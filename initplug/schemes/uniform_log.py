"""Logarithms of uniform draws: decay rates that are even themselves, kept as their logarithms."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from initplug.schemes.distributions import Constant, Elementwise, over
from initplug.schemes.elementary import log
from initplug.schemes.laws import FINEST, Density, Law, Sampling, point

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class UniformLog(Elementwise):
    """Independent elements `gain`·ln x, where x is uniform.

    Args:
        least: of x, not negative.
        most: of x, positive.
        gain: what the result is multiplied by.

    Example:
        >>> UniformLog(0.0, 1.0).mean, UniformLog(0.0, 1.0).std
        (-1.0, 1.0)
    """

    least: float
    most: float
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.least < 0 or self.most <= 0:
            raise ValueError(f"logarithms are of positive numbers, and these go from {self.least:g} to {self.most:g}")
        if self.least > self.most:
            raise ValueError(f"low must not exceed high, they are {self.least:g} and {self.most:g}")

    @property
    def begin(self) -> float:
        """The least of x, or what 0 is taken for, whose logarithm is no number."""
        return max(self.least, FINEST / 16 * self.most)

    @property
    def law(self) -> Law:
        return _law(self)

    @property
    def text(self) -> str:
        call = f"log of uniform({self.least:g}, {self.most:g})"
        return call if self.gain == 1 else f"{self.gain:g}·{call}"

    @property
    def sampling(self) -> Sampling:
        return Sampling("uniform", mapped=self._mapped)

    def times(self, factor: float, divisor: float = 1.0) -> UniformLog | Constant:
        gain = self.gain * factor / divisor
        return replace(self, gain=gain) if gain else Constant(0.0)

    def value(self, x: float) -> float:
        """Return what comes of one x."""
        import numpy as np

        return self.gain * float(log(np.array([x]))[0])

    def _mapped(self, uniform: NDArray[float64]) -> NDArray[float64]:
        """Return what comes of uniform numbers."""
        import numpy as np

        x = np.maximum(self.least + uniform * (self.most - self.least), self.begin)
        return np.clip(self.gain * log(x), self.law.low, self.law.high)

    def _density(self, value: float) -> float:
        return over(math.exp(value / self.gain), (self.most - self.least) * abs(self.gain))

    def _quantiles(self, share: float) -> tuple[float, float]:
        beside = max(share, FINEST) * (self.most - self.least)
        low, high = self.value(max(self.least + beside, self.begin)), self.value(max(self.most - beside, self.begin))
        return (low, high) if self.gain > 0 else (high, low)


@lru_cache(maxsize=1024)
def _law(one: UniformLog) -> Law:
    low, high = sorted((one.value(one.begin), one.value(one.most)))
    if low == high:
        return point(high)
    mean, std, skewness, kurtosis = _moments(one.least / one.most)
    sign = math.copysign(1.0, one.gain)
    centre, spread = one.gain * mean + one.value(one.most), abs(one.gain) * std
    density = Density(centre, spread, low, high, one._density)
    return Law(centre, spread, low, high, sign * skewness, kurtosis, smooth=((1.0, density),), inner=one._quantiles)


NARROW = 0.5
"""The quotient of the ends from which sums over places are exact, and closed forms lose digits."""


def _moments(begin: float) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, skewness and kurtosis of ln t, where t is uniform between a number and 1."""
    import numpy as np

    if begin > NARROW:
        nodes, weights = np.polynomial.legendre.leggauss(30)
        values, shares = np.log1p((begin - 1) * (1 - nodes) / 2), weights / 2
        mean = float(shares @ values)
        variance, third, fourth = (float(shares @ (values - mean) ** power) for power in (2, 3, 4))
    else:
        # The integral of lnᵏ t is t·Pₖ(ln t), of which Pₖ(x) = xᵏ - k·Pₖ₋₁(x).
        logarithm, first, last = (math.log(begin) if begin else 0.0), 1.0, 1.0
        raw = []
        for power in (1, 2, 3, 4):
            first, last = (logarithm**power if begin else 0.0) - power * first, -power * last
            raw.append((last - begin * first) / (1 - begin))
        mean = raw[0]
        variance = raw[1] - mean**2
        third = raw[2] - 3 * mean * raw[1] + 2 * mean**3
        fourth = raw[3] - 4 * mean * raw[2] + 6 * mean**2 * raw[1] - 3 * mean**4
    if not variance > 0:
        return mean, 0.0, 0.0, 1.0
    return mean, math.sqrt(variance), third / variance**1.5, fourth / variance**2
