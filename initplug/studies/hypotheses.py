"""Hypotheses: initializers that may have drawn the values of a model, each planned on all its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.planning.references import layout_of
from initplug.planning.resets import Replays
from initplug.planning.slots import Tree
from initplug.schemes.compositions import Drawn, Planned
from initplug.schemes.distributions import Complex, Normal
from initplug.schemes.fans import FanError, fans_of
from initplug.schemes.initializers import TRUNCATION_SHRINK, Mode, fan_of
from initplug.studies.depths import attribute_factors, depth_factors
from initplug.studies.formulas import given_to_all, rule_for_all, text_of
from initplug.studies.rows import Row
from initplug.studies.samples import Sample
from initplug.studies.scales import KINDS, RULES
from initplug.studies.spelling import spelled_number

REACH = 5.0
"""Standard errors within which a measured deviation is looked for among those that formulas give."""

SHARES: Mapping[str, float] = {
    "default": 0.35,
    "number": 0.25,
    "fan": 0.25,
    "depth": 0.06,
    "attribute": 0.03,
    "steps": 0.01,
    "free": 0.04,
    "unlike": 0.01,
}
"""How often initializers are of a kind before any value is seen: the resets of layers, numbers, fans, numbers over the
depth, over an attribute, Mamba's time steps, a deviation that no formula gives, and no law that is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """An initializer that may have drawn values.

    Args:
        form: as a recipe has it.
        text: in one line.
        prior: how probable it is before any value is seen.
        planned: what it gives every parameter; None where it gives nothing.
        meaning: a key that it has in common with those which say the same at every width; its own by default.
    """

    form: Any
    text: str
    prior: float
    planned: tuple[Drawn | None, ...]
    meaning: Any


class Hypotheses:
    """The initializers that are thought of for the parameters of a model."""

    def __init__(self, tree: Tree, replays: Replays) -> None:
        self.found: dict[str, Hypothesis] = {}
        self._tree, self._replays = tree, replays

    def add(self, form: Any, prior: float, meaning: Any = None) -> None:
        """Plan an initializer on all parameters; one that is thought of already is passed over."""
        recipe = rule_for_all(form)
        if recipe is None or (text := text_of(recipe)) in self.found:
            return
        given = given_to_all(self._tree, recipe, self._replays)
        planned = given.each(
            lambda share: _of_parts(share.distribution, share.dtype) if share.rule is not None else None
        )
        self.found[text] = Hypothesis(form, text, prior, tuple(planned), text if meaning is None else meaning)


def _of_parts(planned: Planned | None, dtype: str) -> Drawn | None:
    """Return the distribution of real elements, or of both parts of complex ones; None where there is no such."""
    match planned:
        case Complex(real, imaginary):
            return real if real == imaginary else None
        case Normal(0.0, std) if dtype.startswith("complex"):
            return Normal(0.0, std / math.sqrt(2))
    return planned if isinstance(planned, Drawn) else None


def first_hypotheses(tree: Tree, samples: Mapping[int, Sample], replays: Replays) -> Hypotheses:
    """Return what is thought of first: resets, numbers and fans.

    Args:
        tree: the model.
        samples: of the parameters that vary, by place.
        replays: what resets draw, added to.
    """
    found = Hypotheses(tree, replays)
    found.add("default", SHARES["default"])
    for form, prior in _numbers(samples.values()):
        found.add(form, SHARES["number"] * prior)
    for form, prior, meaning in _fans(tree, samples):
        found.add(form, SHARES["fan"] * prior, meaning)
    if any(_like_steps(sample) for sample in samples.values()):
        for form in STEPS:
            found.add(form, SHARES["steps"] / len(STEPS))
    return found


STEPS: tuple[Mapping[str, Any], ...] = (
    {"fn": "log_uniform", "low": 0.001, "high": 0.1, "link": "inverse_softplus"},
    {"fn": "log_uniform", "low": 0.001, "high": 0.1},
    {"fn": "log_uniform", "low": 0.001, "high": 0.1, "link": "exp"},
)
"""Time steps of state-space models."""


def _like_steps(sample: Sample) -> bool:
    """Return whether all elements lie where some time steps do."""
    low, high = sample.moments.min, sample.moments.max
    return -6.92 < low <= high < -2.24 or 0.00099 < low <= high < 0.101 or 1.0009 < low <= high < 1.11


# Numbers --------------------------------------------------------------------------------------------------------------

COMMON: Mapping[float, float] = {0.02: 0.4, 0.01: 0.15, 0.001: 0.05, 1.0: 0.08, 0.05: 0.03, 0.1: 0.03, 0.006: 0.02}
"""How often a number of few digits is one of these."""

DIGITS: tuple[float, ...] = (0.15, 0.07, 0.02)
"""How often a number has one digit, two, or three, where it is none of these."""

DECADES = 5
"""Powers of ten that deviations lie in."""

FAMILIES: Mapping[str, float] = {"normal": 0.5, "trunc_normal": 0.3, "uniform": 0.2}
"""How often numbers are of a family."""


def _numbers(samples: Any) -> Iterator[tuple[Any, float]]:
    """Yield normal, truncated and uniform initializers by numbers that a person writes down, with their priors."""
    wanted: dict[tuple[str, float], float] = {}
    for sample in samples:
        std, error = sample.moments.std, relative_error(sample)
        for family, size in (("normal", std), ("trunc_normal", std / SHRINK), ("uniform", _reach_of(sample))):
            near = 2 / sample.numel if family == "uniform" else REACH * error
            if math.isfinite(size) and size > 0:
                for number, prior in _short_numbers(size, max(near, 1e-6)):
                    wanted.setdefault((family, number), FAMILIES[family] * prior)
    for (family, number), prior in wanted.items():
        yield _numbered(family, number), prior
    ends = {_ends(sample) for sample in samples}
    for low, high in sorted(one for one in ends if one is not None):
        yield {"fn": "uniform", "low": low, "high": high}, 0.01
    for mean, std in sorted(_shifted(samples)):
        yield {"fn": "normal", "mean": mean, "std": std}, 0.005


SHRINK = TRUNCATION_SHRINK
"""The deviation of a normal draw that is cut at two deviations, over that before the cut."""


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


def _outward(end: float, slack: float, towards: Any) -> float | None:
    """Return the number of few digits that an end is before rounding, on its far side."""
    for digits in range(3):
        unit = 10.0 ** (math.floor(math.log10(max(abs(end), slack))) + 1 - digits)
        number = towards(end / unit) * unit
        if abs(number - end) <= slack:
            return float(f"{number:.3g}")
    return None


def _shifted(samples: Any) -> set[tuple[float, float]]:
    """Return means and deviations of few digits of samples that do not lie around 0."""
    found = set()
    for sample in samples:
        mean, std = sample.moments.mean, sample.moments.std
        error = std / math.sqrt(sample.numel)
        if abs(mean) > 6 * error and sample.numel >= 16:
            means = [float(f"{mean:.{digits}g}") for digits in (1, 2)]
            near = next((one for one in means if abs(one - mean) <= 4 * error), None)
            if near is not None:
                found |= {(near, number) for number, _ in _short_numbers(std, REACH * relative_error(sample))}
    return found


# Fans -----------------------------------------------------------------------------------------------------------------

NAMES: Mapping[tuple[str, Any, Mode], tuple[Any, float]] = {
    ("normal", 2, "fan_in"): ({"fn": "kaiming_normal"}, 0.15),
    ("normal", 2, "fan_out"): ({"fn": "kaiming_normal", "mode": "fan_out"}, 0.15),
    ("uniform", 2, "fan_in"): ({"fn": "kaiming_uniform"}, 0.05),
    ("uniform", 2, "fan_out"): ({"fn": "kaiming_uniform", "mode": "fan_out"}, 0.01),
    ("uniform", "1/3", "fan_in"): ({"fn": "fan_uniform"}, 0.05),
    ("uniform", "1/3", "fan_out"): ({"fn": "fan_uniform", "mode": "fan_out"}, 0.01),
    ("uniform", 1, "fan_avg"): ({"fn": "xavier_uniform"}, 0.2),
    ("normal", 1, "fan_avg"): ({"fn": "xavier_normal"}, 0.08),
    ("corrected", 1, "fan_in"): ({"fn": "lecun_normal"}, 0.08),
    ("uniform", 1, "fan_in"): ({"fn": "lecun_uniform"}, 0.03),
    ("normal", 1, "fan_in"): ({"fn": "variance_scaling", "distribution": "normal"}, 0.08),
    ("normal", 1, "fan_out"): ({"fn": "variance_scaling", "distribution": "normal", "mode": "fan_out"}, 0.02),
}
"""Initializers that have a name, with how often a variance over a fan is one of them."""

OTHERS: tuple[Any, ...] = (1, 2, 3, 4, 6, 0.5, 0.25, 0.125, 0.02, "1/3", "1/6", "2/5", 0.4, 0.1, "25/9", 0.01, 0.2)
"""Scales of others."""

OTHER = 0.0003
"""How often it is any one of these."""

RARER = 0.2
"""How much rarer fans are that are counted in another way than torch's."""

MODES: tuple[Mode, ...] = ("fan_in", "fan_out", "fan_avg")


def _fans(tree: Tree, samples: Mapping[int, Sample]) -> Iterator[tuple[Any, float, Any]]:
    """Yield initializers of a variance over a fan that some sample comes near to."""
    wanted: dict[tuple[Any, ...], None] = {}
    scales = [(scale, _number(scale)) for scale in OTHERS]
    for place, sample in samples.items():
        shape = tuple(sample.tensor.shape)
        if len(shape) < 2:
            continue
        slot = tree.slots[place]
        layout = layout_of(tree.owner(slot), slot.key)
        variance, near = sample.moments.std**2, 2 * REACH * relative_error(sample)
        for rule in RULES:
            for mode in MODES:
                try:
                    fan = fan_of(fans_of(tuple(slot.kin.shape), layout, rule), mode)
                except FanError:
                    continue
                for scale, number in scales:
                    for kind in KINDS:
                        given = number / fan * (SHRINK**2 if kind == "cut" else 1)
                        if abs(given - variance) <= near * given:
                            wanted[kind, scale, mode, rule] = None
    for kind, scale, mode, rule in wanted:
        form, prior = _scaled(kind, scale, mode)
        meaning = ("fan", kind, scale, mode)
        if rule != "torch":
            form, prior = {**form, "fans": rule}, prior * RARER
        yield form, prior, (*meaning, rule)


def _number(scale: Any) -> float:
    above, _, below = str(scale).partition("/")
    return float(above) / float(below or 1)


def _scaled(kind: str, scale: Any, mode: Mode) -> tuple[dict[str, Any], float]:
    """Return an initializer of a variance over a fan by its name, where it has one, and its prior."""
    named = NAMES.get((kind, scale, mode))
    if named is not None:
        return dict(named[0]), named[1]
    if mode == "fan_avg" and kind in ("normal", "uniform"):
        return {"fn": f"xavier_{kind}", "gain": spelled_number(math.sqrt(_number(scale)))}, OTHER
    mode_key = {} if mode == "fan_in" else {"mode": mode}
    scale_key = {} if scale == 1 else {"scale": scale}
    return {"fn": "variance_scaling", **scale_key, **mode_key, **KINDS[kind]}, OTHER


# Depths and attributes ------------------------------------------------------------------------------------------------


def add_depths(
    found: Hypotheses, tree: Tree, rows: Sequence[Row], reach: Sequence[float], wanted: NDArray[np.bool_]
) -> None:
    """Think of numbers over the root of a depth, of a block's place, or of a whole number that a module has.

    Args:
        found: added to.
        tree: the model.
        rows: what its parameters are most probably, by what was thought of before.
        reach: of every row how far its variance may be off, as a share of it.
        wanted: the rows that vary.
    """
    for share, forms in (
        ("depth", [*depth_factors(tree, rows, wanted, reach)]),
        ("attribute", [*attribute_factors(tree, rows, wanted, reach)]),
    ):
        for form in forms[:MOST_FORMS]:
            found.add(form, SHARES[share] / max(len(forms), LEAST_FORMS))


MOST_FORMS = 200
"""Factors that are thought of."""

LEAST_FORMS = 12
"""Factors among which one is thought to be chosen, however few come near."""
