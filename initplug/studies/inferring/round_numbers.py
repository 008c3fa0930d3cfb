"""Round numbers: initializers by numbers that a person writes down, near to what was measured; how usual each is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform
from initplug.schemes.initializers import TRUNCATION_SHRINK as SHRINK
from initplug.studies.drafting.spelling import spelled_number
from initplug.studies.inferring.samples import Sample

REACH = 5.0
"""Standard errors within which a measured deviation is looked for among those that formulas give."""

COMMON: Mapping[float, float] = {
    **{0.02: 0.4, 0.01: 0.15, 0.001: 0.05, 1.0: 0.08, 0.05: 0.03, 0.1: 0.03, 0.006: 0.02},
    **{1e-6: 0.02, 1e-5: 0.005, 1e-4: 0.005, 0.002: 0.005, 0.005: 0.01, 0.5: 0.01, 0.2: 0.005},
}
"""The share of numbers of few digits that are one of these."""

DIGITS: tuple[float, ...] = (0.12, 0.06, 0.01)
"""The shares of numbers of one digit, two, and three, among those that are none of these."""

DECADES = 5
"""Powers of ten that deviations lie in."""

FAMILIES: Mapping[str, float] = {"normal": 0.5, "trunc_normal": 0.3, "uniform": 0.2}
"""The shares of families among numbers."""


def round_numbers(samples: Iterable[Sample]) -> Iterator[tuple[Any, float]]:
    """Yield normal, truncated and uniform initializers by numbers that a person writes down, with their priors.

    Args:
        samples: that the numbers are near to.
    """
    samples, wanted = [*samples], dict[tuple[str, float], float]()
    for sample in samples:
        std, error = sample.moments.std * (math.sqrt(2) if sample.complex else 1), relative_error(sample)
        for family, size in (("normal", std), ("trunc_normal", std / SHRINK), ("uniform", _reach_of(sample))):
            near = 8 / sample.numel if family == "uniform" else REACH * error
            if math.isfinite(size) and size > 0:
                for number, prior in _short_numbers(size, near + 2 * float(torch.finfo(sample.dtype).eps)):
                    wanted.setdefault((family, number), FAMILIES[family] * prior)
    for (family, number), prior in wanted.items():
        yield _numbered(family, number), prior
    ends = {_ends(sample) for sample in samples}
    for low, high in sorted(one for one in ends if one is not None):
        yield {"fn": "uniform", "low": spelled_number(low), "high": spelled_number(high)}, 0.01
    for (mean, std), prior in sorted(_shifted(samples).items()):
        yield {"fn": "normal", "mean": spelled_number(mean), "std": spelled_number(std)}, SHIFTED * prior


def relative_error(sample: Sample) -> float:
    """Return the standard error of a deviation, relative to it, and what rounding adds."""
    return 1 / math.sqrt(2 * max(sample.numel - 1, 1)) + 1e-6


def _reach_of(sample: Sample) -> float:
    return max(abs(sample.moments.min), abs(sample.moments.max))


def _short_numbers(size: float, near: float) -> Iterator[tuple[float, float]]:
    """Yield numbers of up to three digits near a size, with how often a number is one of them."""
    for number, prior in COMMON.items():
        if abs(number - size) <= near * size:
            yield number, prior
    for digits, prior in enumerate(DIGITS, 1):
        unit = 10.0 ** (math.floor(math.log10(size)) - digits + 1)
        first, last = math.ceil(size * (1 - near) / unit), math.floor(size * (1 + near) / unit)
        if last - first < MOST_NUMBERS:
            for whole in range(max(first, 1), last + 1):
                number = float(f"{whole * unit:.{digits}g}")
                if number not in COMMON:
                    yield number, prior / (9 * 10 ** (digits - 1) * DECADES)


MOST_NUMBERS = 12
"""Numbers of as many digits beyond which a sample says too little to choose among them."""


def _numbered(family: str, number: float) -> Mapping[str, Any]:
    number = spelled_number(number)
    if family == "uniform":
        return {"fn": "uniform", "low": -number, "high": number}
    return {"fn": family, "std": number}


def _ends(sample: Sample) -> tuple[float, float] | None:
    """Return the ends of few digits that uniform elements which are not around 0 may lie between."""
    low, high = sample.moments.min, sample.moments.max
    slack = 8 * (high - low) / sample.numel
    if sample.numel < 32 or abs(low + high) < 4 * slack:
        return None
    ends = [_outward(low, slack, math.floor), _outward(high, slack, math.ceil)]
    return (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None


def _outward(end: float, slack: float, towards: Callable[[float], int]) -> float | None:
    """Return the number of few digits that an end is before rounding, on its far side."""
    for digits in range(3):
        unit = 10.0 ** (math.floor(math.log10(max(abs(end), slack))) + 1 - digits)
        number = towards(end / unit) * unit
        if abs(number - end) <= slack:
            return float(f"{number:.3g}")
    return None


SHIFTED = 0.02
"""The share of numbers with a mean beside 0."""


def _shifted(samples: Iterable[Sample]) -> dict[tuple[float, float], float]:
    """Return means and deviations of few digits of samples that do not lie around 0, with the priors of the latter."""
    found: dict[tuple[float, float], float] = {}
    for sample in samples:
        mean, std = sample.moments.mean, sample.moments.std
        error = std / math.sqrt(sample.numel)
        if abs(mean) > 6 * error and sample.numel >= 16:
            means = [float(f"{mean:.{digits}g}") for digits in (1, 2)]
            near = next((one for one in means if abs(one - mean) <= 4 * error), None)
            if near is not None:
                for number, prior in _short_numbers(std, REACH * relative_error(sample)):
                    found[near, number] = prior
    return found


def form_distribution(form: Mapping[str, Any]) -> Drawn:
    """Return the distribution of an initializer by numbers.

    Example:
        >>> form_distribution({"fn": "normal", "std": 0.02})
        Normal(mean=0.0, std=0.02)
    """
    match form["fn"]:
        case "normal":
            return Normal(float(form.get("mean", 0)), float(form["std"]))
        case "uniform":
            return Uniform(float(form["low"]), float(form["high"]))
    std = float(form["std"])
    return TruncatedNormal(0.0, std, -2 * std, 2 * std)


def snapped(value: float, reach: float) -> float:
    """Return the shortest number within a relative distance of one, up to three digits; itself where there is none.

    Example:
        >>> snapped(0.0201, 0.01), snapped(0.0257, 0.0001)
        (0.02, 0.0257)
    """
    shorter = (float(f"{value:.{digits}g}") for digits in (1, 2, 3))
    return next((number for number in shorter if abs(number - value) <= reach * abs(value)), value)
