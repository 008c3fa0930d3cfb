"""Moments and quantiles of a standard normal distribution that is cut to an interval."""

from __future__ import annotations

import math
from statistics import NormalDist

NARROW = 0.5
"""Intervals shorter than this many standard deviations get their moments by quadrature."""


def moments(a: float, b: float) -> tuple[float, float, float, float]:
    """Return the mean, variance, skewness and kurtosis of a standard normal conditioned on [a, b].

    The raw moments follow E[z^k] = (k-1)·E[z^(k-2)] - (b^(k-1)·φ(b) - a^(k-1)·φ(a)) / Z.

    Example:
        >>> [round(moment, 4) for moment in moments(-2.0, 2.0)]
        [0.0, 0.7737, 0.0, 2.3655]

    Source: Johnson, Kotz, Balakrishnan, Continuous Univariate Distributions 1, section 10.1.
    """
    if b - a < NARROW:
        return _narrow_moments(a, b)
    within = mass(a, b)
    raw = [1.0, 0.0, 0.0, 0.0, 0.0]
    for k in range(1, 5):
        before = raw[k - 2] * (k - 1) if k > 1 else 0.0
        raw[k] = before - (_edge(b, k - 1) - _edge(a, k - 1)) / within
    mean = raw[1]
    variance = raw[2] - mean**2
    third = raw[3] - 3 * mean * raw[2] + 2 * mean**3
    fourth = raw[4] - 4 * mean * raw[3] + 6 * mean**2 * raw[2] - 3 * mean**4
    return mean, variance, third / variance**1.5, fourth / variance**2


def mass(a: float, b: float) -> float:
    """Return P(a < Z < b) of the standard normal.

    Example:
        >>> round(mass(-2.0, 2.0), 4)
        0.9545
    """
    # Both erfc differences are exact where the other cancels: choose the tail that the interval lies in.
    return _tail(a) - _tail(b) if a > 0 else _tail(-b) - _tail(-a)


def quantiles(a: float, b: float, share: float, finest: float) -> tuple[float, float]:
    """Return the values that a share of a standard normal conditioned on [a, b] lies below, and beyond.

    Args:
        a: lower bound.
        b: upper bound.
        share: of the elements.
        finest: the least probability, before the cut, that a quantile is taken at.
    """
    return _quantile(a, b, share, finest), -_quantile(-b, -a, share, finest)


def _quantile(a: float, b: float, share: float, finest: float) -> float:
    below = min(max(_tail(-a) + share * mass(a, b), finest), 1 - finest)
    return min(max(standard_quantile(below), a), b)


def outer_quantiles(a: float, b: float, share: float) -> tuple[float, float]:
    """Return the values that a share lies below, and beyond, where no bound comes before.

    Example:
        >>> [round(end, 3) for end in outer_quantiles(-100.0, 1.0, 1e-12)]
        [-7.059, inf]
    """
    return _far(a, b, share), -_far(-b, -a, share)


def _far(a: float, b: float, share: float) -> float:
    """Return what a share lies below; none where the cut is the limit."""
    below = share * mass(a, b)
    return standard_quantile(_tail(-a) + below) if _tail(-a) < below else -math.inf


def standard_quantile(share: float) -> float:
    """Return what a share of a standard normal lies below."""
    return _STANDARD.inv_cdf(share)


_STANDARD = NormalDist()


def bell(z: float) -> float:
    """Return the standard normal density."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _narrow_moments(a: float, b: float) -> tuple[float, float, float, float]:
    """Return the mean, variance, skewness, kurtosis of a standard normal in [a, b], by quadrature about the midpoint.

    The closed form subtracts nearly equal numbers when the interval is short; every term here is small.
    """
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(24)
    middle, half = (a + b) / 2, (b - a) / 2
    offsets = half * nodes
    density = weights * np.exp(-middle * offsets - offsets**2 / 2)
    density /= density.sum()
    # In units of half the interval, whose powers may be too small for a double.
    shift = float(density @ nodes)
    variance = float(density @ (nodes - shift) ** 2)
    third = float(density @ (nodes - shift) ** 3)
    fourth = float(density @ (nodes - shift) ** 4)
    return middle + half * shift, half**2 * variance, third / variance**1.5, fourth / variance**2


def _tail(z: float) -> float:
    """Return P(Z > z) of the standard normal."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def _edge(z: float, power: int) -> float:
    """Return z^power times the standard normal density; 0 far out."""
    if abs(z) > 40:
        return 0.0
    return float(z**power * math.exp(-z * z / 2) / math.sqrt(2 * math.pi))
