"""Limits from order statistics for the smallest and the largest of many independent elements.

The largest of n elements lies below q with probability F(q)^n, and beyond q with at most n·(1 - F(q)). Both ends lie
within [p, q] with (F(q) - F(p))^n.

Source: David and Nagaraja 2003, Order Statistics, section 2.1.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import torch

from initplug.planning.dtypes import finest
from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform
from initplug.schemes.truncation import mass

STANDARD = NormalDist()

FINEST = 2.0**-22
"""The least probability that the quantile of a draw is taken at: the uniform numbers below it are a grid."""


class Extremes(NamedTuple):
    """Limits of the ends of a sample; those that are infinite limit nothing.

    Args:
        min_low: least of what the smallest element may be.
        min_high: most of it.
        max_low: least of what the largest element may be.
        max_high: most of it.
        inner_low: what the smallest element must reach, if the largest does not reach `inner_high`.
        inner_high: what the largest element must reach, if the smallest does not reach `inner_low`.
    """

    min_low: float = -math.inf
    min_high: float = math.inf
    max_low: float = -math.inf
    max_high: float = math.inf
    inner_low: float = math.inf
    inner_high: float = -math.inf


def extremes(distribution: object, numel: int, dtype: torch.dtype, tail: float) -> Extremes:
    """Return the limits that the ends of a sample keep to, each but for a share `tail` of all samples.

    Args:
        distribution: of every element; of others than normal, truncated normal and uniform nothing is known.
        numel: how many independent elements there are.
        dtype: that they are rounded to.
        tail: how improbable it is that a limit is exceeded.

    Example:
        >>> found = extremes(Normal(0.0, 1.0), 10_000, torch.float32, 1e-9)
        >>> round(found.max_low, 2), round(found.inner_high, 2), round(found.max_high, 2)
        (2.87, 3.08, 7.35)
    """
    if dtype.is_complex or not isinstance(distribution, Normal | Uniform | TruncatedNormal):
        return Extremes()
    inside = -math.expm1(math.log(tail) / numel)  # 1 - F(q) where F(q)^numel is the tail
    limits = torch.finfo(dtype)
    step = 8 * finest(dtype)  # what draws are scaled by is rounded to one, and reaches some six times as far
    width = distribution.high - distribution.low
    grain = limits.eps * (width if isinstance(distribution, Uniform) else distribution.std) + step

    def within(share: float) -> tuple[float, float]:
        """Return the values that such a share of the elements lies below, and beyond, less what rounding moves them."""
        low, high = _quantiles(distribution, share)
        return low + grain + limits.eps * abs(low), high - grain - limits.eps * abs(high)

    min_high, max_low = within(inside)
    inner_low, inner_high = within(inside / 2)
    low, high = outer(distribution, tail / numel)
    return Extremes(
        low - grain - limits.eps * abs(low) if math.isfinite(low) else low,
        min_high,
        max_low,
        high + grain + limits.eps * abs(high) if math.isfinite(high) else high,
        inner_low,
        inner_high,
    )


def _quantiles(distribution: Normal | Uniform | TruncatedNormal, tail: float) -> tuple[float, float]:
    """Return the values that a share `tail` of the elements lies below, and beyond."""
    match distribution:
        case Normal(mean, std):
            reach = std * -STANDARD.inv_cdf(tail)
            return mean - reach, mean + reach
        case Uniform(low, high):
            share = max(tail, FINEST) * (high - low)
            return low + share, high - share
        case TruncatedNormal(loc, scale, low, high):
            start, end = (low - loc) / scale, (high - loc) / scale
            return loc + scale * _quantile_between(start, end, tail), loc - scale * _quantile_between(
                -end, -start, tail
            )


def outer(distribution: Normal | Uniform | TruncatedNormal, tail: float) -> tuple[float, float]:
    """Return the values that a share `tail` of the elements lies below, and beyond, where no bound comes before.

    Example:
        >>> [round(end, 3) for end in outer(TruncatedNormal(0.0, 0.02, -2.0, 0.02), 1e-12)]
        [-0.141, inf]
    """
    match distribution:
        case Normal():
            return _quantiles(distribution, tail)
        case TruncatedNormal(loc, scale, low, high):
            start, end = (low - loc) / scale, (high - loc) / scale
            return loc + scale * _far(start, end, tail), loc - scale * _far(-end, -start, tail)
    return -math.inf, math.inf


def _share_below(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def _far(start: float, end: float, tail: float) -> float:
    """Return what a share `tail` of a standard normal between two cuts lies below; none where the cut is the limit."""
    share = tail * mass(start, end)
    return STANDARD.inv_cdf(_share_below(start) + share) if _share_below(start) < share else -math.inf


def _quantile_between(start: float, end: float, tail: float) -> float:
    """Return the value that a share `tail` of a standard normal between two cuts lies below."""
    share = min(max(_share_below(start) + tail * mass(start, end), FINEST), 1 - FINEST)
    return min(max(STANDARD.inv_cdf(share), start), end)
