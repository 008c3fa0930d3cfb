"""Plausibility: how probable values are under a distribution, and whether they can be of it at all.

Two numbers are asked of a sample. Its log likelihood says which of two distributions explains it better. Its p-value
says whether a distribution explains it: F(x) maps it to uniform numbers if the distribution is right, and the normal
quantile maps those to standard normal ones, of which mean, variance, kurtosis, the distance of Kolmogorov and Smirnov
and the two extremes are looked at. The least p-value of these tests, times their number, is the sample's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from initplug.planning.dtypes import finest
from initplug.schemes.compositions import Planned, Stacked
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.log_uniform import LogUniform
from initplug.schemes.truncation import mass
from initplug.studies.inferring.samples import Sample

Array = NDArray[np.float64]

TESTS = 7
"""Tests of a sample, two of them of moments of all elements, two of its extremes."""

IMPOSSIBLE = -math.inf

CERTAIN = 40.0
"""The log likelihood of an element that is the very number which it is to be."""

GRAIN = 2.0**-24
"""The least probability of an element that draws tell apart."""


# Likelihood -----------------------------------------------------------------------------------------------------------


def log_likelihood(drawn: Planned | None, sample: Sample) -> float:
    """Return the logarithm of the probability density of a sample under a distribution; -inf where it is impossible.

    Example:
        >>> from initplug.studies.inferring.samples import sample_of
        >>> sample = sample_of(torch.tensor([-0.5, 0.5]))
        >>> log_likelihood(Uniform(-1.0, 1.0), sample) == -2 * math.log(2)
        True
        >>> log_likelihood(Uniform(-0.25, 0.25), sample)
        -inf
    """
    moments, count = sample.moments, sample.numel
    match drawn:
        case Constant(value):
            return CERTAIN * count if moments.min == moments.max == _held(value, sample) else IMPOSSIBLE
        case Normal(mean, std) if std > 0:
            return -count * math.log(std * ROOT) - _squares(sample, mean) / (2 * std**2)
        case Uniform(low, high) if high > low and _within(low, high, sample):
            # Short dtypes round the ends, or draw on a grid: no finer difference tells two intervals apart.
            return -count * math.log(max(high - low, moments.max - moments.min + 2 * _grain(low, high, sample)))
        case TruncatedNormal(loc, scale, low, high) if _within(low, high, sample):
            inside = mass((low - loc) / scale, (high - loc) / scale)
            if not inside:
                return IMPOSSIBLE
            return -count * math.log(scale * ROOT * inside) - _squares(sample, loc) / (2 * scale**2)
        case LogUniform() if drawn.floor is None and drawn.gain > 0 and _within(drawn.low, drawn.high, sample):
            logs, slopes = _unlinked(drawn, sample.ordered)
            if not np.isfinite(logs).all():
                return IMPOSSIBLE
            spread = math.log(drawn.most / drawn.least)
            return count * float(np.mean(slopes) - math.log(spread) - math.log(drawn.gain))
        case Stacked(parts):
            pieces = sample.parts(drawn)
            return IMPOSSIBLE if pieces is None else sum(map(log_likelihood, parts, pieces))
    return IMPOSSIBLE


ROOT = math.sqrt(2 * math.pi)


def _held(value: float, sample: Sample) -> float:
    """Return a number as the sample's dtype, or the tensor's, holds it."""
    held = torch.tensor(value, dtype=sample.tensor.dtype).to(sample.dtype)
    return float(held.double())


def _squares(sample: Sample, centre: float) -> float:
    moments = sample.moments
    return moments.numel * (moments.std**2 + (moments.mean - centre) ** 2)


def _within(low: float, high: float, sample: Sample) -> bool:
    """Return whether all elements are between bounds, but for rounding."""
    slack = _grain(low, high, sample) + finest(sample.dtype)
    return low - slack <= sample.moments.min and sample.moments.max <= high + slack


def _grain(low: float, high: float, sample: Sample) -> float:
    return 2 * _rounding(sample) * max((abs(end) for end in (low, high) if math.isfinite(end)), default=0.0)


def _rounding(sample: Sample) -> float:
    return float(torch.finfo(sample.dtype).eps)


def _unlinked(drawn: LogUniform, values: Array) -> tuple[Array, Array]:
    """Return ln x of values that a link made of x, and the logarithms of its slope over the values."""
    values = values / drawn.gain
    with np.errstate(all="ignore"):
        match drawn.link:
            case "exp":
                x = np.log(values)
                return np.log(x), -np.log(x * values)
            case "inverse_softplus":
                x = np.logaddexp(values, 0.0)
                return np.log(x), np.log(-np.expm1(-x) / x)
        return np.log(values), -np.log(values)


# Goodness of fit ------------------------------------------------------------------------------------------------------


def p_value(drawn: Planned | None, sample: Sample) -> float:
    """Return how often a sample of a distribution would be as unlike it as this one; 0 where it cannot be of it.

    Example:
        >>> from initplug.studies.inferring.samples import sample_of
        >>> sample = sample_of(torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 2 - 1)
        >>> p_value(Uniform(-1.0, 1.0), sample) > 0.01, p_value(Normal(0.0, 0.577), sample) < 1e-6
        (True, True)

    Source: Stephens 1970, JRSS B 32; Anscombe and Glynn 1983, Biometrika 70.
    """
    if isinstance(drawn, Constant):
        return float(log_likelihood(drawn, sample) > 0)
    if isinstance(drawn, Stacked):
        pieces = sample.parts(drawn)
        if pieces is None:
            return 0.0
        return min(1.0, len(pieces) * min(map(p_value, drawn.parts, pieces)))
    shares = _distribution_function(drawn)
    if shares is None or log_likelihood(drawn, sample) == IMPOSSIBLE:
        return 0.0
    one: Any = drawn
    values, moments = sample.ordered, sample.moments
    slack = 2 * _rounding(sample)
    edge = _share_of_a_bound(drawn, slack)
    below, above = (one.clip(edge, 1 - edge) for one in shares(values))
    normal = np.where(below < 0.5, _quantile(below), -_quantile(above))
    found = [_of_distance(below, slack), *_of_moments(drawn, sample, slack), _of_squares(normal, slack)]
    if edge < FINE:
        found.append(_of_kurtosis(normal))
    if not _on_a_far_bound(drawn, sample):
        off = slack * max(abs(moments.min), abs(moments.max), one.law.span or 0.0)
        below, _ = shares(moments.min + np.array([-off, off]))
        _, above = shares(moments.max + np.array([off, -off]))
        found += [_of_end(float(least), float(most), sample.numel) for least, most in (below, above)]
    return min(1.0, TESTS * min(found))


FINE = 1e-5
"""The share of elements that come out as a bound, up to which the kurtosis is not moved by them."""


def _share_of_a_bound(drawn: Any, slack: float) -> float:
    """Return the share of elements that are rounded to a bound, at least the least that draws tell apart."""
    (_, density), *_ = drawn.law.smooth
    bounds = (end for end in (density.low, density.high) if math.isfinite(end))
    return max((slack * abs(end) * density.at(end) for end in bounds), default=0.0) + GRAIN


Shares = Callable[[Array], tuple[Array, Array]]
"""The shares of a distribution that lie below values, and above them."""


def _distribution_function(drawn: Any) -> Shares | None:
    match drawn:
        case Normal(mean, std) if std > 0:
            return lambda values: (_normal((values - mean) / std), _normal((mean - values) / std))
        case Uniform(low, high) if high > low:
            return lambda values: ((values - low) / (high - low), (high - values) / (high - low))
        case TruncatedNormal(loc, scale, low, high):
            ends = (low - loc) / scale, (high - loc) / scale
            inside = mass(*ends)
            under, over = (float(_normal(np.array([end]))[0]) for end in (ends[0], -ends[1]))
            return lambda values: (
                (_normal((values - loc) / scale) - under) / inside,
                (_normal((loc - values) / scale) - over) / inside,
            )
        case LogUniform(least, most, _, None):
            spread = math.log(most / least)

            def shares(values: Array) -> tuple[Array, Array]:
                below = (_unlinked(drawn, values)[0] - math.log(least)) / spread
                return below, 1 - below

            return shares
    return None


def _normal(z: Array) -> Array:
    """Return the share of a standard normal below numbers."""
    found: Array = np.interp(z, *_bell())
    return found


def _quantile(share: Array) -> Array:
    """Return what a share of a standard normal lies below."""
    found: Array = np.interp(share, *_bell()[::-1])
    return found


@cache
def _bell() -> tuple[Array, Array]:
    """Return numbers, and the shares of a standard normal below them, dense enough to lay lines between.

    Torch would hand each call to a pool of threads, which beside busy neighbours takes a hundred times as long.
    """
    z = np.arange(-9 * 512, 9 * 512 + 1) / 512
    return z, np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in z.tolist()])


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def _of_distance(shares: Array, slack: float) -> float:
    """Return the p-value of the distance of Kolmogorov and Smirnov."""
    count = len(shares)
    steps = np.arange(count + 1) / count
    distance = max(float(np.max(steps[1:] - shares)), float(np.max(shares - steps[:-1]))) - slack
    root = math.sqrt(count)
    return kolmogorov((root + 0.12 + 0.11 / root) * max(distance, 0.0))


def kolmogorov(x: float) -> float:
    """Return how often the limit of √n times the distance of Kolmogorov and Smirnov exceeds a number.

    Example:
        >>> round(kolmogorov(1.3581), 4), kolmogorov(0.0)
        (0.05, 1.0)
    """
    if x < 0.3:
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 30))
    return min(max(math.fsum(terms), 0.0), 1.0)


def _of_moments(drawn: Any, sample: Sample, slack: float) -> list[float]:
    """Return the p-values of mean and variance of all elements; the latter of many alone, where it is normal."""
    law, moments, count = drawn.law, sample.moments, sample.numel
    grain = slack * max((abs(end) for end in (law.mean, law.low, law.high) if math.isfinite(end)), default=0.0)
    off = max(abs(moments.mean - law.mean) - max(grain, slack * law.std), 0.0)
    found = [_two_sided(off / law.std * math.sqrt(count))]
    if count >= FEW:
        ratio = abs((moments.std**2 + (moments.mean - law.mean) ** 2) / law.std**2 - 1)
        found.append(_two_sided(max(ratio - slack, 0.0) / math.sqrt((law.kurtosis - 1) / count)))
    return found


FEW = 200
"""Elements from which moments of a higher order are looked at."""


def _of_squares(normal: Array, slack: float) -> float:
    """Return the p-value of the sum of squares of what is to be standard normal, a χ² variable."""
    count = len(normal)
    squares = float(np.sum(normal**2))
    if abs(squares / count - 1) < 4 * slack:
        return 1.0
    half, at = (torch.tensor(number / 2, dtype=torch.float64) for number in (count, squares))
    return min(1.0, 2 * float(torch.minimum(torch.special.gammainc(half, at), torch.special.gammaincc(half, at))))


def _of_kurtosis(normal: Array) -> float:
    """Return the p-value of the kurtosis of what is to be standard normal."""
    n = len(normal)
    if n < FEW:
        return 1.0
    offs = normal - normal.mean()
    variance = float(np.mean(offs**2))
    if not variance:
        return 0.0
    kurtosis = float(np.mean(offs**4)) / variance**2
    expected = 3 * (n - 1) / (n + 1)
    spread = math.sqrt(24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5)))
    skew = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / skew * (2 / skew + math.sqrt(1 + 4 / skew**2))
    base = 1 + (kurtosis - expected) / spread * math.sqrt(2 / (a - 4))
    z = (1 - 2 / (9 * a) - math.copysign(abs((1 - 2 / a) / base) ** (1 / 3), base)) / math.sqrt(2 / (9 * a))
    return _two_sided(z)


def _of_end(least: float, most: float, count: int) -> float:
    """Return the p-value of an extreme that a share between two of the distribution lies beyond."""
    inside, outside = (
        math.exp(count * math.log1p(-min(max(share, GRAIN), 1 - GRAIN))) for share in (least, most)
    )  # how often there are none beyond
    return min(1.0, 2 * min(inside, 1 - outside))


def _on_a_far_bound(drawn: Any, sample: Sample) -> bool:
    """Return whether an element lies on a bound of a truncated draw, as one in 2^24 does however far it is."""
    if not isinstance(drawn, TruncatedNormal):
        return False
    return sample.moments.min == _held(drawn.low, sample) or sample.moments.max == _held(drawn.high, sample)
