"""Scales: variances that go with the fans of the tensors, as initializers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.planning.references import layout_of
from initplug.planning.slots import Tree
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.fans import FanError, FanRule, fans_of
from initplug.schemes.initializers import Mode, fan_of
from initplug.studies.drafting.spelling import is_short, spelled_number
from initplug.studies.recording.rows import Row

NAMED: tuple[Mapping[str, Any], ...] = (
    {"fn": "kaiming_normal"},
    {"fn": "kaiming_normal", "mode": "fan_out"},
    {"fn": "kaiming_uniform"},
    {"fn": "kaiming_uniform", "mode": "fan_out"},
    {"fn": "fan_uniform"},
    {"fn": "fan_uniform", "mode": "fan_out"},
    {"fn": "lecun_normal"},
    {"fn": "lecun_uniform"},
    {"fn": "variance_scaling", "distribution": "normal"},
    {"fn": "variance_scaling", "distribution": "normal", "mode": "fan_out"},
    {"fn": "xavier_uniform"},
    {"fn": "xavier_normal"},
)
"""Initializers by their fans alone: those of one fan first, which the mean of both may equal by chance."""

USUAL = frozenset({1, 2, 3, 4, 6, 0.5, 0.25, 0.125, 0.02, "1/3", "1/6", "2/5", 0.4, 0.1})
"""Scales that need no second fan to be believed."""

MODES: tuple[Mode, ...] = ("fan_in", "fan_out", "fan_avg")
RULES: tuple[FanRule, ...] = ("torch", "effective", "flat")


def scales(tree: Tree, rows: Sequence[Row], wanted: NDArray[np.bool_]) -> Iterator[Any]:
    """Yield initializers of a variance that is a number over a fan: round numbers, and those of several fans.

    Args:
        tree: the recorded model.
        rows: of its parameters.
        wanted: the rows that nothing else gives.
    """
    found: dict[tuple[Any, ...], set[float]] = defaultdict(set)
    for place in np.flatnonzero(wanted).tolist():
        row, slot = rows[place], tree.slots[place]
        family = None if row.distribution is None or row.twin is not None else _family(row.distribution)
        if family is None or len(row.shape) < 2:
            continue
        layout = layout_of(tree.owner(slot), slot.key)
        for rule in RULES:
            for mode in MODES:
                try:
                    fan = fan_of(fans_of(row.shape, layout, rule), mode)
                except FanError:
                    continue
                found[(family[0], spelled_number(family[1] * fan), mode, rule)].add(fan)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), not is_short(item[0][1]), RULES.index(item[0][3])))
    for (kind, scale, mode, rule), fans in ranked[:MOST]:
        if len(fans) > 1 or scale in USUAL:
            fans_key = {} if rule == "torch" else {"fans": rule}
            yield {"fn": "variance_scaling", "scale": scale, "mode": mode, **KINDS[kind], **fans_key}


MOST = 24
"""Initializers that are tried: those of the most fans first."""

KINDS: Mapping[str, Mapping[str, str]] = {
    "normal": {"distribution": "normal"},
    "uniform": {"distribution": "uniform"},
    "cut": {"correction": "none"},
    "corrected": {},
}


def _family(drawn: Drawn) -> tuple[str, float] | None:
    """Return the kind of a distribution without a mean, and its variance; None of any other."""
    match drawn:
        case Normal(0.0, std):
            return "normal", std**2
        case Uniform(low, high) if abs(low + high) <= 1e-7 * high:
            return "uniform", (high - low) ** 2 / 12
        case TruncatedNormal(0.0, scale, low, high) if abs(high / scale - 2) < 1e-5 and abs(low / scale + 2) < 1e-5:
            exact = drawn.std**2
            return ("corrected", exact) if scale > 0 else None
    return None


def priors(rows: Sequence[Row], wanted: NDArray[np.bool_]) -> Iterator[Any]:
    """Yield the biases of classifiers that predict a probability which a person would write down, or that of chance."""
    numbers = {drawn.value for place in np.flatnonzero(wanted).tolist() if (drawn := _constant(rows[place]))}
    if numbers:
        yield {"fn": "prior_bias", "p": "uniform", "link": "log"}
        yield {"fn": "prior_bias", "p": "uniform"}
    for number in sorted(numbers):
        if -20 < number < 0:
            p = spelled_number(1 / (1 + math.exp(-number)))
            if is_short(p):
                yield {"fn": "prior_bias", "p": p}


def _constant(row: Row) -> Constant | None:
    return row.distribution if isinstance(row.distribution, Constant) else None
