"""Agreement: whether what a plan gives is what was recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from initplug.planning.closed_forms import BEYOND
from initplug.schemes.compositions import Copy, Drawn, Keep, Planned, Stacked
from initplug.schemes.distributions import Constant, Elementwise, Normal, TruncatedNormal, Uniform
from initplug.schemes.log_uniform import LogUniform
from initplug.studies.recording.rows import Row

NEAR = 1e-6
"""The relative distance within which numbers are one: code computes many in single precision."""


def agrees(planned: Planned | None, row: Row) -> bool:
    """Return whether a plan gives a parameter what was recorded of it.

    What has no closed form agrees with `keep` alone, and a copy with a copy of the same.

    Args:
        planned: of the parameter; None where nothing is drawn.
        row: what was recorded.
    """
    if not row.numel:
        return True
    if row.distribution is None:
        return isinstance(planned, Keep)
    if row.twin is not None:
        return isinstance(planned, Copy) and planned.source == row.twin
    if isinstance(planned, Copy):  # a number is the same, wherever it comes from
        planned = planned.drawn if isinstance(row.distribution, Constant) else None
    if not isinstance(planned, Drawn):
        return False
    return alike(planned, row.distribution)


@lru_cache(maxsize=65536)
def alike(one: Drawn, other: Drawn) -> bool:
    """Return whether two distributions are one, but for rounding and for bounds that nothing comes to.

    Example:
        >>> alike(Normal(0.0, 0.02), TruncatedNormal(0.0, 0.02, -2.0, 2.0))
        True
    """
    one, other = _plainly(one), _plainly(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, Stacked) and isinstance(other, Stacked):
        parts, others = _equal_parts(one), _equal_parts(other)
        count = math.lcm(len(parts), len(others))
        pairs = zip(_parts(parts, count), _parts(others, count), strict=True)
        return one.dim == other.dim and all(_same(*pair) for pair in pairs)
    if isinstance(one, Constant) and isinstance(other, Constant):  # as their values are compared
        with np.errstate(over="ignore"):
            return bool(np.float32(one.value) == np.float32(other.value))
    names = (field.name for field in fields(one))  # type: ignore[arg-type]  # every distribution is a dataclass
    return all(_near(getattr(one, name), getattr(other, name), one) for name in names)


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, Drawn) and isinstance(other, Drawn) and alike(one, other)


def _equal_parts(stacked: Stacked) -> list[Any]:
    """Return the parts, those of several sizes as often as they are larger than what divides all sizes."""
    unit = math.gcd(*stacked.sizes) if stacked.sizes else 1
    lengths = [size // unit for size in stacked.sizes] or [1] * len(stacked.parts)
    return [part for part, length in zip(stacked.parts, lengths, strict=True) for _ in range(length)]


def _parts(parts: Sequence[Any], count: int) -> list[Any]:
    return [part for part in parts for _ in range(count // len(parts))]


def _plainly(drawn: Drawn) -> Drawn:
    """Return a distribution in the simplest of the forms that say the same."""
    match drawn:
        case Normal(mean, 0.0):
            return Constant(mean)
        case Uniform(low, high) if low == high:
            return Constant(low)
        case TruncatedNormal(loc, scale, low, high) if low <= loc - BEYOND * scale and high >= loc + BEYOND * scale:
            return Normal(loc, scale)
        case LogUniform(low, _, _, floor) if floor is not None and floor <= low:
            return replace(drawn, floor=None)
        case Stacked(parts) if isinstance(parts[0], Constant | Elementwise) and len(set(parts)) == 1:
            return _plainly(parts[0])
    return drawn


def _near(one: Any, other: Any, of: Drawn) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        # A mean of nothing is far from one that is small, beside what it is the mean of.
        reach = NEAR * max(abs(one), abs(other), abs(of.std))
        return one == other or abs(one - other) <= reach
    if isinstance(one, Drawn) and isinstance(other, Drawn):
        return alike(one, other)
    return bool(one == other)
