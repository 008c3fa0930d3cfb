"""Limits from order statistics for the smallest and the largest of many independent elements.

The largest of n elements lies below q with probability F(q)^n, and beyond q with at most n·(1 - F(q)). Both ends lie
within [p, q] with (F(q) - F(p))^n.

Source: David and Nagaraja 2003, Order Statistics, section 2.1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from initplug.planning.dtypes import finest
from initplug.schemes.laws import Law


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


def extremes(law: Law, numel: int, dtype: torch.dtype, tail: float) -> Extremes:
    """Return the limits that the ends of a sample keep to, each but for a share `tail` of all samples.

    Args:
        law: of every element; where elements belong together, nothing is known.
        numel: how many independent elements there are.
        dtype: that they are rounded to.
        tail: how improbable it is that a limit is exceeded.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> found = extremes(Normal(0.0, 1.0).law, 10_000, torch.float32, 1e-9)
        >>> round(found.max_low, 2), round(found.inner_high, 2), round(found.max_high, 2)
        (2.87, 3.08, 7.35)
    """
    quantiles = law.inner
    if dtype.is_complex or quantiles is None:
        return Extremes()
    inside = -math.expm1(math.log(tail) / numel)  # 1 - F(q) where F(q)^numel is the tail
    limits = torch.finfo(dtype)
    step = 8 * finest(dtype)  # what draws are scaled by is rounded to one, and reaches some six times as far
    grain = limits.eps * (law.std if law.span is None else law.span) + step

    def within(share: float) -> tuple[float, float]:
        """Return the values that such a share of the elements lies below, and beyond, less what rounding moves them."""
        low, high = quantiles(share)
        return low + grain + limits.eps * abs(low), high - grain - limits.eps * abs(high)

    min_high, max_low = within(inside)
    inner_low, inner_high = within(inside / 2)
    low, high = outer(law, tail / numel)
    return Extremes(
        low - grain - limits.eps * abs(low) if math.isfinite(low) else low,
        min_high,
        max_low,
        high + grain + limits.eps * abs(high) if math.isfinite(high) else high,
        inner_low,
        inner_high,
    )


def outer(law: Law, share: float) -> tuple[float, float]:
    """Return the values that a share of the elements lies below, and beyond, where no bound comes before."""
    return law.outer(share) if law.outer is not None else (-math.inf, math.inf)
