"""Verdicts on what was measured: the limits of moments and extremes under a distribution, and what lies beyond them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from initplug.auditing.extremes import Extremes, extremes, outer
from initplug.auditing.moments import Measured, Moments
from initplug.columns import Coded, Rows, paired
from initplug.planning.dtypes import finest
from initplug.schemes.compositions import Batched, Planned, Single
from initplug.schemes.laws import Law

Verdict = Literal["ok", "differs", "untestable", "exact"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

ROUNDINGS = 64
"""How many units in the last place a constant may be off that was computed from others."""

SIGMAS_OF_ONE = 6.0
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


OK, UNTESTABLE, EXACT = Judgement("ok"), Judgement("untestable"), Judgement("exact")

NOT_FINITE = "NaN or infinite elements"


def judged(distribution: Planned | None, moments: Moments | None, dtype: torch.dtype, *, exact: bool = True) -> Verdict:
    """Return whether measured moments agree with a distribution.

    Constants must agree exactly after the cast to the dtype; means and variances within six standard errors of
    that distribution; extremes must lie inside its support, and neither further out nor further in than samples of
    that size reach, each by itself and both together. A tensor that was drawn differs with a probability below 1e-7.

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
    """Return the verdict of `judged`, with what speaks against the distribution.

    Example:
        >>> from initplug.schemes.distributions import Constant
        >>> judgement(Constant(1.0), Moments(8, 0.5, 0.0, 0.5, 0.5), torch.float32).problem
        'every element is 0.5, not 1'
    """
    if not isinstance(distribution, Single | Batched) or moments is None:
        return UNTESTABLE
    return _within(_limits(distribution, moments.numel, dtype), moments, dtype, exact)


Question = tuple[Planned | None, torch.dtype]
"""The distribution and the dtype that tensors are judged by."""


def judged_together(asked: Coded[Question], measured: Measured) -> Iterator[tuple[Verdict, Rows, Rows]]:
    """Yield verdicts, the rows of tensors that they are on, and of these the ones on which `judgement` is another.

    Args:
        asked: of each tensor.
        measured: of each.

    Example:
        >>> from initplug.columns import coded
        >>> from initplug.schemes.distributions import Constant
        >>> found, one = Measured.none(2), (Constant(1.0), torch.float32)
        >>> found[0], found[1] = Moments(8, 1.0, 0.0, 1.0, 1.0), Moments(8, 0.5, 0.0, 0.5, 0.5)
        >>> for verdict, rows, apart in judged_together(coded([one, one]), found):
        ...     print(verdict, rows.tolist(), apart.tolist())
        ok [0, 1] [1]
    """
    table = measured.table
    numels, places = np.unique(table["numel"], return_inverse=True)
    told = paired(asked, Coded(numels.tolist(), places)).each(_told)
    for form, rows in told.alike(lambda one: None if one is None else one.form).groups():
        if form is None:
            continue
        limits, dtype = _columns(told.taken(rows).packed()), form[0]
        columns = Moments._make(table[field][rows] for field in Moments._fields)
        known = _is_something(limits, columns) if limits.unknown else _keeps(limits, columns, dtype, exact=True)
        yield "untestable" if limits.unknown else "ok", rows, rows[~(_is_finite(columns) & known)]


class _Told(NamedTuple):
    """The limits of tensors, and their dtype."""

    limits: Limits
    dtype: torch.dtype

    @property
    def form(self) -> tuple[torch.dtype, bool, bool, bool]:
        """The numbers that tensors which are judged together share."""
        return self.dtype, self.limits.constant is None, self.limits.rms is None, self.limits.unknown


def _told(asked: tuple[Question, int]) -> _Told | None:
    (distribution, dtype), numel = asked
    return _Told(_limits(distribution, numel, dtype), dtype) if isinstance(distribution, Single | Batched) else None


def _columns(told: Coded[_Told | None]) -> Limits:
    """Return the limits of tensors by columns; what says of which form they are is that of all."""

    def column(values: tuple[Any, ...]) -> Any:
        if isinstance(values[0], tuple):
            return type(values[0])(*map(column, zip(*values, strict=True)))
        return None if values[0] is None else np.array(values)[told.codes]

    limits = [one.limits for one in told.values if one is not None]
    return Limits(*map(column, zip(*limits, strict=True)))._replace(unknown=limits[0].unknown)


class Limits(NamedTuple):
    """The limits that the moments of a tensor must keep to.

    Args:
        constant: the one value of all elements, as the dtype holds it; None where they are drawn.
        ends: where the smallest and the largest element must lie.
        mean_low: least mean.
        mean_high: largest mean.
        std_low: least standard deviation.
        std_high: largest standard deviation.
        rms: root mean square that a structure fixes; None where none does.
        varied: whether elements cannot be equal by chance.
        unknown: whether nobody knows the moments; then `varied` says whether there must be elements beside 0.
    """

    constant: float | None
    ends: Extremes = Extremes()
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
        return UNTESTABLE if _is_something(limits, moments) else Judgement("differs", "every element is 0")
    if _keeps(limits, moments, dtype, exact):
        return OK
    if limits.constant is not None:
        return _no_constant(limits.constant, moments)
    return Judgement("differs", "; ".join(_beyond(limits, moments)))


# Both are asked of one tensor, and of the columns of a table of tensors, where they answer for each.


def _is_finite(moments: Moments) -> Any:
    """Return whether nothing is infinite or NaN."""
    return (abs(moments.std) < math.inf) & (abs(moments.min) < math.inf) & (abs(moments.max) < math.inf)


def _is_something(limits: Limits, moments: Moments) -> Any:
    """Return whether what nobody knows the moments of has elements beside 0, unless it may be without."""
    return np.logical_not(limits.varied) | (moments.min != 0) | (moments.max != 0)


def _keeps(limits: Limits, moments: Moments, dtype: torch.dtype, exact: bool) -> Any:
    """Return whether moments keep to limits that are known."""
    if limits.constant is not None:
        return _is_constant(limits.constant, moments, dtype, exact)
    return (
        (limits.ends.min_low <= moments.min)
        & (moments.min <= limits.ends.min_high)
        & (limits.ends.max_low <= moments.max)
        & (moments.max <= limits.ends.max_high)
        & ((moments.min <= limits.ends.inner_low) | (limits.ends.inner_high <= moments.max))
        & (limits.mean_low <= moments.mean)
        & (moments.mean <= limits.mean_high)
        & (np.logical_not(limits.varied) | (moments.min != moments.max))
        & (limits.std_low <= moments.std)
        & (moments.std <= limits.std_high)
        & (limits.rms is None or _rms_agrees(limits.rms, moments, dtype))
    )


def _no_constant(value: float, moments: Moments) -> Judgement:
    if moments.min == moments.max:
        return Judgement("differs", f"every element is {moments.min:.6g}, not {value:.6g}")
    return Judgement("differs", f"elements are {moments.min:.6g} to {moments.max:.6g}, not {value:.6g} throughout")


def _beyond(limits: Limits, moments: Moments) -> Iterator[str]:
    """Yield what lies beyond a limit."""
    if limits.varied and moments.min == moments.max:
        yield f"every element is {moments.min:.6g}"
        return
    before = False
    for what, value, low, high in (
        ("mean", moments.mean, limits.mean_low, limits.mean_high),
        ("std", moments.std, limits.std_low, limits.std_high),
        ("smallest element", moments.min, limits.ends.min_low, limits.ends.min_high),
        ("largest element", moments.max, limits.ends.max_low, limits.ends.max_high),
    ):
        if not low <= value <= high:
            before = True
            yield f"{what} {value:.6g}, not {_range_text(low, high)}"
    if not before and limits.ends.inner_low < moments.min and moments.max < limits.ends.inner_high:
        reached = f"{limits.ends.inner_low:.6g} below or {limits.ends.inner_high:.6g} above"
        yield f"elements are {moments.min:.6g} to {moments.max:.6g}, where some should reach {reached}"
    elif not before:
        assert limits.rms is not None  # nothing else is left
        yield f"root mean square {math.hypot(moments.std, moments.mean):.6g}, not {limits.rms:.6g}"


def _range_text(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:.6g} or more"
    return f"{high:.6g} or less" if math.isinf(low) else f"{low:.6g} to {high:.6g}"


MOST_LAWS = 1 << 14
"""Distributions of which limits are remembered: factors may give each tensor one of its own."""


@lru_cache(maxsize=MOST_LAWS)
def _limits(distribution: Single | Batched, numel: int, dtype: torch.dtype) -> Limits:
    """Return the limits of a sample of a distribution; tensors that are alike share them."""
    law = distribution.law
    if math.isnan(law.std):
        return Limits(None, unknown=True, varied=numel > 1 and law.low < law.high)
    if law.std == 0:
        return Limits(cast(law.mean, dtype))
    off = _mean_off(law, numel, dtype)
    rms = math.hypot(law.std, law.mean) if law.fixed else None
    least, most = _std_limits(law, numel, dtype) if rms is None else (0.0, math.inf)
    ends = extremes(law, numel, dtype, _chance_beyond_limits())
    return Limits(
        constant=None,
        ends=ends._replace(
            min_low=max(_end(law.low, dtype, min) - 2 * finest(dtype), ends.min_low),
            max_high=min(_end(law.high, dtype, max) + 2 * finest(dtype), ends.max_high),
        ),
        mean_low=law.mean - off,
        mean_high=law.mean + off,
        std_low=least,
        std_high=most,
        rms=rms,
        # A draw repeats itself with a probability of about eps, or that of an atom, numel - 1 times over.
        varied=rms is None
        and max(torch.finfo(dtype).eps, _most_common(law)) ** (numel - 1) < 1e-10
        and grain(law, dtype) < law.std,
    )


def _most_common(law: Law) -> float:
    """Return the probability of the most common value of independent elements; those of structures are no chances."""
    return max((share for _, share in law.atoms), default=0.0) if law.inner is not None else 0.0


# Bounds -----------------------------------------------------------------------------------------------------


def far_bounds(law: Law, numel: int, dtype: torch.dtype) -> list[float]:
    """Return the bounds that so many draws do not come to, as the dtype holds them."""
    ends = zip((law.low, law.high), outer(law, _chance_beyond_limits() / numel), strict=True)
    return [cast(bound, dtype) for bound, reach in ends if math.isfinite(reach)]


ON_A_BOUND = 2.0**-24
"""How often an element comes out as a bound where a uniform number of 24 bits is mapped to a normal, and then cut."""


def most_on_a_bound(numel: int) -> int:
    """Return how many of so many elements are on a bound at most, but for as rare a chance as other limits leave.

    Example:
        >>> most_on_a_bound(1000), most_on_a_bound(1 << 24)
        (2, 11)
    """
    count, rate = 0, numel * ON_A_BOUND
    share = total = math.exp(-rate)
    while 1 - total > _chance_beyond_limits():
        count += 1
        share *= rate / count
        total += share
    return count


def _chance_beyond_limits() -> float:
    """Return how improbable it is that a moment, or an end, exceeds a limit."""
    return math.erfc(SIGMAS_OF_ONE / math.sqrt(2)) / 2


# Moments ----------------------------------------------------------------------------------------------------


def _rms_agrees(expected: float, moments: Moments, dtype: torch.dtype) -> Any:
    """Return whether the root mean square is the one that the structure fixes, to rounding."""
    measured = np.hypot(moments.std, moments.mean)
    return abs(measured - expected) <= (2 * torch.finfo(dtype).eps + 5e-6) * expected + finest(dtype)


def _is_constant(value: float, moments: Moments, dtype: torch.dtype, exact: bool) -> Any:
    if not exact:
        off = ROUNDINGS * torch.finfo(dtype).eps * abs(value)
        return (value - off <= moments.min) & (moments.max <= value + off)
    if dtype.is_complex:  # the extremes are those of both parts
        return (moments.mean == value) & (moments.std == 0.0)
    return (moments.min == value) & (moments.max == value)


def _mean_off(law: Law, numel: int, dtype: torch.dtype) -> float:
    """Return six standard errors of the mean, and what a skewed distribution adds to them in small samples.

    Source: Cornish and Fisher 1938, Moments and cumulants in the specification of distributions.
    """
    error = law.std / math.sqrt(numel)
    sigmas = SIGMAS_OF_ONE + (SIGMAS_OF_ONE**2 - 1) / 6 * abs(law.skewness) / math.sqrt(numel)
    return sigmas * error + grain(law, dtype)


WIDEST = 9.0
"""Variance of the cube root beyond which six standard errors say nothing, since they would close in again."""

FEW = 50
"""Elements beside the most common value that are expected at least where a sample's variance has a lower limit."""


def _std_limits(law: Law, numel: int, dtype: torch.dtype) -> tuple[float, float]:
    """Return six standard errors on the cube root of the variance, where small samples are close to normal.

    The sample variance has relative variance κ/n - (n-3)/(n(n-1)), that of a chi-square with 2 over it degrees
    of freedom.

    Source: Wilson and Hilferty 1931, The distribution of chi-square.
    """
    if numel < 2:
        return 0.0, math.inf
    freedom = 2 / (law.kurtosis / numel - (numel - 3) / (numel * (numel - 1)))
    spread, off = 2 / (9 * freedom), rounding(law, dtype)
    middle, reach = 1 - spread, SIGMAS_OF_ONE * math.sqrt(spread)
    least, most = min(max(middle - reach, 0.0) ** 3, 1 - off), max((middle + reach) ** 3, 1 + off)
    if spread > WIDEST:
        most = math.inf
    common = _most_common(law)
    if common and numel * (1 - common) < FEW:  # all of them may be equal
        least = 0.0
    sample = law.std * math.sqrt((numel - 1) / numel)
    return sample * math.sqrt(max(least, 0.0)), sample * math.sqrt(most)


def rounding(law: Law, dtype: torch.dtype) -> float:
    """Return the share of the variance that a dtype adds or takes: most near the smallest numbers, and at bounds."""
    smallest = min(finest(dtype) / law.std, 1.0)
    inside = 1e-5 + torch.finfo(dtype).eps ** 2 + smallest**2
    return float(inside + 2 * grain(law, dtype) / law.std)


def grain(law: Law, dtype: torch.dtype) -> float:
    """Return how far rounding to a dtype can move a bound, or a mean."""
    ends = (abs(value) for value in (law.mean, law.low, law.high) if math.isfinite(value))
    return float(torch.finfo(dtype).eps * max(ends)) + finest(dtype)


def _end(bound: float, dtype: torch.dtype, further: Callable[[float, float], float]) -> float:
    """Return a bound as the dtype holds it, or single precision, in which streams draw, where that is further out."""
    exact = cast(bound, dtype)
    if dtype is not torch.float64 or not abs(bound) < torch.finfo(torch.float32).max:
        return exact
    return further(exact, cast(bound, torch.float32))


@lru_cache(maxsize=4096)
def cast(value: float, dtype: torch.dtype) -> float:
    """Return a number as the dtype holds it."""
    if not math.isfinite(value):
        return value
    if not (dtype.is_floating_point or dtype.is_complex):
        return float(int(value))
    cast = torch.tensor(value, dtype=torch.float64, device="cpu").to(dtype)
    return float(cast.real if dtype.is_complex else cast)
