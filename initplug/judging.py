"""Whether what was measured is what a distribution draws: limits of moments and extremes, and what lies beyond them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from initplug.moments import Measured, Moments
from initplug.schemes.distributions import Batched, Distribution, Normal, Planned, Single, TruncatedNormal, Uniform
from initplug.schemes.structures import Fixed

Verdict = Literal["ok", "differs", "untestable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

ROUNDINGS = 64
"""How many units in the last place a constant may be off that was computed from others."""

SIGMAS = 6.0
"""How many standard errors a measured moment may be off; extremes may be as improbable on either side."""


class Judgement(NamedTuple):
    """A verdict, and what speaks against the distribution where it differs.

    Args:
        verdict: on the whole.
        problem: a sentence, for a verdict of `differs`.
        reason: the same in a word or two, where it has a name, such as `twin of fc.weight`.
    """

    verdict: Verdict
    problem: str | None = None
    reason: str | None = None


OK, UNTESTABLE = Judgement("ok"), Judgement("untestable")

NOT_FINITE = "NaN or infinite elements"


def judged(distribution: Planned | None, moments: Moments | None, dtype: torch.dtype, *, exact: bool = True) -> Verdict:
    """Whether measured moments agree with a distribution.

    Constants must agree exactly after the cast to the dtype; means and variances within six standard errors of
    that distribution; extremes must lie inside its support, and neither further out nor further in than samples of
    that size reach. A tensor that was drawn differs with a probability below 1e-7.

    Args:
        distribution: what was to be drawn; the parts of a stacked one are judged one by one.
        moments: what was measured.
        dtype: of the tensor.
        exact: whether constants must be exact: those that an owner computes are rounded on their way.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> judged(Normal(0.0, 1.0), Moments(1000, 0.01, 0.99, -3.1, 3.2), torch.float32)
        'ok'
        >>> judged(Normal(0.0, 1.0), Moments(1000, 0.5, 0.99, -3.1, 3.2), torch.float32)
        'differs'
    """
    return judgement(distribution, moments, dtype, exact=exact).verdict


def judgement(
    distribution: Planned | None, moments: Moments | None, dtype: torch.dtype, *, exact: bool = True
) -> Judgement:
    """`judged`, with what speaks against the distribution.

    Example:
        >>> from initplug.schemes.distributions import Constant
        >>> judgement(Constant(1.0), Moments(8, 0.5, 0.0, 0.5, 0.5), torch.float32).problem
        'every element is 0.5, not 1'
    """
    if not isinstance(distribution, Single | Batched) or moments is None:
        return UNTESTABLE
    return _within(_limits(distribution, moments.numel, dtype), moments, dtype, exact)


def judged_together(
    distribution: Planned | None, measured: Measured, dtype: torch.dtype
) -> tuple[Verdict, NDArray[np.intp]]:
    """The verdict on tensors of one size that are alike, and the rows of those on which `judgement` is another.

    Example:
        >>> from initplug.schemes.distributions import Constant
        >>> found = Measured.none(2)
        >>> found[0], found[1] = Moments(8, 1.0, 0.0, 1.0, 1.0), Moments(8, 0.5, 0.0, 0.5, 0.5)
        >>> verdict, apart = judged_together(Constant(1.0), found, torch.float32)
        >>> verdict, apart.tolist()
        ('ok', [1])
    """
    if not isinstance(distribution, Single | Batched):
        return "untestable", np.empty(0, np.intp)
    table = measured.table
    limits = _limits(distribution, int(table["numel"][0]), dtype)
    columns = Moments._make(table[field] for field in Moments._fields)
    keeps = _is_finite(columns) & (limits.unknown or _keeps(limits, columns, dtype, exact=True))
    return "untestable" if limits.unknown else "ok", np.flatnonzero(~keeps)


class Limits(NamedTuple):
    """What the moments of a tensor must keep to.

    Args:
        constant: the one value of all elements, as the dtype holds it; None where they are drawn.
        min_low: least of what the smallest element may be.
        min_high: most of it.
        max_low: least of what the largest element may be.
        max_high: most of it.
        mean_low: least mean.
        mean_high: largest mean.
        std_low: least standard deviation.
        std_high: largest standard deviation.
        rms: root mean square that a structure fixes; None where none does.
        varied: whether elements cannot be equal by chance.
        unknown: whether nobody knows the moments.
    """

    constant: float | None
    min_low: float = 0.0
    min_high: float = 0.0
    max_low: float = 0.0
    max_high: float = 0.0
    mean_low: float = 0.0
    mean_high: float = 0.0
    std_low: float = 0.0
    std_high: float = 0.0
    rms: float | None = None
    varied: bool = False
    unknown: bool = False


def _within(limits: Limits, moments: Moments, dtype: torch.dtype, exact: bool) -> Judgement:
    if not _is_finite(moments):
        return Judgement("differs", NOT_FINITE)
    if limits.unknown:
        return UNTESTABLE
    if _keeps(limits, moments, dtype, exact):
        return OK
    if limits.constant is not None:
        return _no_constant(limits.constant, moments)
    return Judgement("differs", "; ".join(_beyond(limits, moments)))


# Both are asked of one tensor, and of the columns of a table of tensors, where they answer for each.


def _is_finite(moments: Moments) -> Any:
    """Whether nothing is infinite or NaN."""
    return (abs(moments.std) < math.inf) & (abs(moments.min) < math.inf) & (abs(moments.max) < math.inf)


def _keeps(limits: Limits, moments: Moments, dtype: torch.dtype, exact: bool) -> Any:
    """Whether moments keep to limits that are known."""
    if limits.constant is not None:
        return _is_constant(limits.constant, moments, dtype, exact)
    return (
        (limits.min_low <= moments.min)
        & (moments.min <= limits.min_high)
        & (limits.max_low <= moments.max)
        & (moments.max <= limits.max_high)
        & (limits.mean_low <= moments.mean)
        & (moments.mean <= limits.mean_high)
        & ((not limits.varied) | (moments.min != moments.max))
        & (limits.std_low <= moments.std)
        & (moments.std <= limits.std_high)
        & (limits.rms is None or _rms_agrees(limits.rms, moments, dtype))
    )


def _no_constant(value: float, moments: Moments) -> Judgement:
    if moments.min == moments.max:
        return Judgement("differs", f"every element is {moments.min:.6g}, not {value:.6g}")
    return Judgement("differs", f"elements are {moments.min:.6g} to {moments.max:.6g}, not {value:.6g} throughout")


def _beyond(limits: Limits, moments: Moments) -> Iterator[str]:
    """What keeps to no limit."""
    if limits.varied and moments.min == moments.max:
        yield f"every element is {moments.min:.6g}"
        return
    before = False
    for what, value, low, high in (
        ("mean", moments.mean, limits.mean_low, limits.mean_high),
        ("std", moments.std, limits.std_low, limits.std_high),
        ("smallest element", moments.min, limits.min_low, limits.min_high),
        ("largest element", moments.max, limits.max_low, limits.max_high),
    ):
        if not low <= value <= high:
            before = True
            yield f"{what} {value:.6g}, not {_range(low, high)}"
    if not before:
        assert limits.rms is not None  # nothing else is left
        yield f"root mean square {math.hypot(moments.std, moments.mean):.6g}, not {limits.rms:.6g}"


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:.6g} or more"
    return f"{high:.6g} or less" if math.isinf(low) else f"{low:.6g} to {high:.6g}"


@lru_cache(maxsize=4096)
def _limits(distribution: Single | Batched, numel: int, dtype: torch.dtype) -> Limits:
    """The limits of a sample of a distribution; tensors that are alike share them."""
    if math.isnan(distribution.std):
        return Limits(None, unknown=True)
    if distribution.std == 0:
        return Limits(_cast(distribution.mean, dtype))
    part = distribution.part if isinstance(distribution, Batched) else distribution
    off = _mean_off(distribution, numel, dtype)
    rms = math.hypot(distribution.std, distribution.mean) if isinstance(part, Fixed) else None
    least, most = _std_limits(distribution, numel, dtype) if rms is None else (0.0, math.inf)
    min_low, min_high, max_low, max_high = _extremes(distribution, numel, dtype)
    return Limits(
        constant=None,
        min_low=max(_end(distribution.low, dtype, min) - 2 * _finest(dtype), min_low),
        min_high=min_high,
        max_low=max_low,
        max_high=min(_end(distribution.high, dtype, max) + 2 * _finest(dtype), max_high),
        mean_low=distribution.mean - off,
        mean_high=distribution.mean + off,
        std_low=least,
        std_high=most,
        rms=rms,
        # A draw repeats itself with a probability of about eps, numel - 1 times over, if rounding leaves it as it is.
        varied=rms is None
        and torch.finfo(dtype).eps ** (numel - 1) < 1e-10
        and _grain(distribution, dtype) < distribution.std,
    )


# Extremes ---------------------------------------------------------------------------------------------------

STANDARD = NormalDist()

FINEST = 2.0**-22
"""The least probability that the quantile of a draw is taken at: the uniform numbers below it are a grid."""


def _extremes(distribution: Distribution, numel: int, dtype: torch.dtype) -> tuple[float, float, float, float]:
    """Least and most of the smallest element, then of the largest, of a sample of independent elements.

    The largest of n elements lies below q with probability F(q)^n, and beyond q with at most n·(1 - F(q)).

    Source: David and Nagaraja 2003, Order Statistics, section 2.1.
    """
    if dtype.is_complex or not isinstance(distribution, Normal | Uniform | TruncatedNormal):
        return -math.inf, math.inf, -math.inf, math.inf
    tail = math.erfc(SIGMAS / math.sqrt(2)) / 2
    inside = -math.expm1(math.log(tail) / numel)  # 1 - F(q) where F(q)^numel is the tail
    low, high = _quantiles(distribution, inside)
    limits = torch.finfo(dtype)
    step = 8 * _finest(dtype)  # what draws are scaled by is rounded to one, and reaches some six times as far
    width = distribution.high - distribution.low
    grain = limits.eps * (width if isinstance(distribution, Uniform) else distribution.std) + step
    min_high, max_low = low + grain + limits.eps * abs(low), high - grain - limits.eps * abs(high)
    if not isinstance(distribution, Normal):  # bounds of their own
        return -math.inf, min_high, max_low, math.inf
    reach = distribution.std * -STANDARD.inv_cdf(tail / numel)
    outer = reach * (1 + limits.eps) + grain + limits.eps * abs(distribution.mean)
    return distribution.mean - outer, min_high, max_low, distribution.mean + outer


def _quantiles(distribution: Normal | Uniform | TruncatedNormal, tail: float) -> tuple[float, float]:
    """The values that a share `tail` of the elements lies below, and beyond."""
    match distribution:
        case Normal(mean, std):
            reach = std * -STANDARD.inv_cdf(tail)
            return mean - reach, mean + reach
        case Uniform(low, high):
            share = max(tail, FINEST) * (high - low)
            return low + share, high - share
        case TruncatedNormal(loc, scale, low, high):
            start, end = (low - loc) / scale, (high - loc) / scale
            return loc + scale * _cut(start, end, tail), loc - scale * _cut(-end, -start, tail)


def _cut(start: float, end: float, tail: float) -> float:
    """The value that a share `tail` of a standard normal between two cuts lies below."""

    def below(z: float) -> float:
        return math.erfc(-z / math.sqrt(2)) / 2

    inside = below(end) - below(start) if start < 0 else below(-start) - below(-end)
    share = min(max(below(start) + tail * inside, FINEST), 1 - FINEST)
    return min(max(STANDARD.inv_cdf(share), start), end)


# Moments ----------------------------------------------------------------------------------------------------


def _rms_agrees(expected: float, moments: Moments, dtype: torch.dtype) -> Any:
    """Whether the root mean square is the one that the structure fixes, to rounding."""
    measured = np.hypot(moments.std, moments.mean)
    return abs(measured - expected) <= (2 * torch.finfo(dtype).eps + 5e-6) * expected + _finest(dtype)


def _is_constant(value: float, moments: Moments, dtype: torch.dtype, exact: bool) -> Any:
    if not exact:
        off = ROUNDINGS * torch.finfo(dtype).eps * abs(value)
        return (value - off <= moments.min) & (moments.max <= value + off)
    if dtype.is_complex:  # the extremes are those of both parts
        return (moments.mean == value) & (moments.std == 0.0)
    return (moments.min == value) & (moments.max == value)


def _mean_off(distribution: Distribution, numel: int, dtype: torch.dtype) -> float:
    """Six standard errors of the mean, and what a skewed distribution adds to them in small samples.

    Source: Cornish and Fisher 1938, Moments and cumulants in the specification of distributions.
    """
    error = distribution.std / math.sqrt(numel)
    sigmas = SIGMAS + (SIGMAS**2 - 1) / 6 * abs(distribution.skewness) / math.sqrt(numel)
    return sigmas * error + _grain(distribution, dtype)


def _std_limits(distribution: Distribution, numel: int, dtype: torch.dtype) -> tuple[float, float]:
    """Six standard errors on the cube root of the variance, where small samples are close to normal.

    The sample variance has relative variance κ/n - (n-3)/(n(n-1)), that of a chi-square with 2 over it degrees
    of freedom.

    Source: Wilson and Hilferty 1931, The distribution of chi-square.
    """
    if numel < 2:
        return 0.0, math.inf
    freedom = 2 / (distribution.kurtosis / numel - (numel - 3) / (numel * (numel - 1)))
    spread = 2 / (9 * freedom)
    # Rounding to a short dtype adds its own variance, near the smallest numbers most of all, and moves the bounds.
    finest = min(_finest(dtype) / distribution.std, 1.0)
    rounding = 1e-5 + torch.finfo(dtype).eps ** 2 + finest**2 + 2 * _grain(distribution, dtype) / distribution.std
    middle, reach = 1 - spread, SIGMAS * math.sqrt(spread)
    least, most = min(max(middle - reach, 0.0) ** 3, 1 - rounding), max((middle + reach) ** 3, 1 + rounding)
    sample = distribution.std * math.sqrt((numel - 1) / numel)
    return sample * math.sqrt(max(least, 0.0)), sample * math.sqrt(most)


def _grain(distribution: Distribution, dtype: torch.dtype) -> float:
    """How far rounding to a dtype can move a bound, or a mean."""
    ends = (abs(value) for value in (distribution.mean, distribution.low, distribution.high) if math.isfinite(value))
    return float(torch.finfo(dtype).eps * max(ends)) + _finest(dtype)


def _finest(dtype: torch.dtype) -> float:
    """The smallest number that a dtype holds."""
    limits = torch.finfo(dtype)
    return float(limits.smallest_normal * limits.eps)


def _end(bound: float, dtype: torch.dtype, further: Callable[[float, float], float]) -> float:
    """A bound as the dtype holds it, or as single precision does, in which streams draw, where that is further out."""
    exact = _cast(bound, dtype)
    if dtype is not torch.float64 or not abs(bound) < torch.finfo(torch.float32).max:
        return exact
    return further(exact, _cast(bound, torch.float32))


@lru_cache(maxsize=4096)
def _cast(value: float, dtype: torch.dtype) -> float:
    """A number as the dtype holds it."""
    if not math.isfinite(value):
        return value
    if not (dtype.is_floating_point or dtype.is_complex):
        return float(int(value))
    cast = torch.tensor(value, dtype=torch.float64, device="cpu").to(dtype)
    return float(cast.real if dtype.is_complex else cast)
