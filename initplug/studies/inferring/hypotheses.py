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
from initplug.schemes.distributions import Complex, Normal, TruncatedNormal
from initplug.schemes.fans import FanError, fans_of
from initplug.schemes.initializers import TRUNCATION_SHRINK as SHRINK
from initplug.schemes.initializers import Mode, fan_of
from initplug.studies.drafting.depths import attribute_factors, depth_factors
from initplug.studies.drafting.formulas import given_to_all, rule_for_all, text_of
from initplug.studies.drafting.scales import KINDS, RULES
from initplug.studies.drafting.spelling import spelled_number
from initplug.studies.inferring.plausibility import log_likelihood
from initplug.studies.inferring.round_numbers import REACH, form_distribution, relative_error, round_numbers
from initplug.studies.inferring.samples import Sample, sample_of
from initplug.studies.recording.rows import Row

SHARES: Mapping[str, float] = {
    "default": 0.35,
    "number": 0.25,
    "fan": 0.25,
    "depth": 0.06,
    "attribute": 0.03,
    "steps": 0.01,
    "split": 0.001,
    "free": 0.04,
    "unlike": 0.01,
}
"""Shares of initializers by kind before any value is seen: the resets of layers, numbers, fans, numbers over the
depth, over an attribute, Mamba's time steps, any one split, deviations that no formula gives, no law that is known."""


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
        self._dtypes = [str(slot.tensor.dtype).removeprefix("torch.") for slot in tree.slots]

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

    def add_numbers(self, form: Mapping[str, Any], prior: float) -> None:
        """Think of an initializer by numbers, which gives every parameter the same and needs no plan."""
        recipe = rule_for_all(form)
        if recipe is None or (text := text_of(recipe)) in self.found:
            return
        drawn = form_distribution(form)
        by_dtype = {dtype: _of_parts(drawn, dtype) for dtype in set(self._dtypes)}
        planned = tuple(map(by_dtype.__getitem__, self._dtypes))
        self.found[text] = Hypothesis(form, text, prior, planned, text)


def _of_parts(planned: Planned | None, dtype: str) -> Drawn | None:
    """Return the distribution of real elements, or of both parts of complex ones; None where there is no such."""
    match planned:
        case Complex(real, imaginary):
            return real if real == imaginary else None
        case Normal(0.0, std) if dtype.startswith("complex"):
            return Normal(0.0, std / math.sqrt(2))
        case TruncatedNormal() if dtype.startswith("complex"):
            return None
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
    for form, prior in round_numbers(samples.values()):
        found.add_numbers(form, SHARES["number"] * prior)
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
    near = -6.92 < low <= high < -2.24 or 0.00099 < low <= high < 0.101 or 1.0009 < low <= high < 1.11
    return near and sample.numel >= LEAST_STEPS


LEAST_STEPS = 16
"""Elements from which some are looked for."""


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
"""The share of any one of these."""

RARER = 0.2
"""The factor by which fans are rarer that are counted in another way than torch's."""

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
            usual = _usual(form, found, rows) if share == "depth" else 1.0
            if usual:
                found.add(form, SHARES[share] * usual / max(len(forms), LEAST_FORMS), _without_class(form))


def _usual(form: Mapping[str, Any], found: Hypotheses, rows: Sequence[Row]) -> float:
    """Return how often a number is the one that is divided: by itself, and in the model."""
    recipe = rule_for_all({key: value for key, value in form.items() if key != "factor"})
    base = None if recipe is None else found.found.get(text_of(recipe))
    if base is None:
        return 0.0
    held = sum(row.outcome == drawn for row, drawn in zip(rows, base.planned, strict=True) if drawn is not None)
    return max(base.prior / SHARES["number"], held / len(rows))


MOST_FORMS = 200
"""Factors that are thought of."""

LEAST_FORMS = 12
"""Factors among which one is thought to be chosen, however few come near."""


def _without_class(form: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what a number over a depth says, whichever of the classes that are in each block is counted."""
    factor = form["factor"]
    counted = next((key for key in ("count", "place") if key in factor), None)
    if counted is None:
        return None
    plain = repr({key: value for key, value in form.items() if key != "factor"})
    return plain, counted, factor.get("times", 1), factor[counted]


def add_splits(found: Hypotheses, samples: Mapping[int, Sample]) -> None:
    """Think of parts along the first dimension, each of what explains it best.

    Args:
        found: added to.
        samples: of the parameters that nothing explains as a whole, by place.
    """
    known = [*found.found.values()]
    for place, sample in samples.items():
        for count in PARTS:
            size = sample.tensor.shape[0] if sample.tensor.ndim else 1
            if size % count or sample.numel < LEAST_SPLIT * count or sample.complex:
                continue
            parts = [sample_of(part) for part in sample.tensor.chunk(count)]
            forms = [_best_form(part, place, known) for part in parts]
            if None not in forms and len({repr(form) for form in forms}) > 1:
                found.add({"split": forms}, SHARES["split"])
                break


PARTS = (2, 3, 4)
"""Numbers of parts that are thought of."""

LEAST_SPLIT = 64
"""Elements from which a part tells what it is."""


def _best_form(part: Sample, place: int, known: Sequence[Hypothesis]) -> Any:
    """Return the initializer that explains a part best; None where none does."""
    low, high = part.moments.min, part.moments.max
    if low == high:
        return spelled_number(low, exactly=True)
    options = {one.text: (one.form, log_likelihood(one.planned[place], part) + math.log(one.prior)) for one in known}
    for form, prior in round_numbers([part]):
        drawn = form_distribution(form)
        options.setdefault(repr(form), (form, log_likelihood(drawn, part) + math.log(SHARES["number"] * prior)))
    form, log = max(options.values(), key=lambda option: option[1], default=(None, -math.inf))
    return form if math.isfinite(log) else None
