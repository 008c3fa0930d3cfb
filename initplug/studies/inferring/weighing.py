"""Weighing: how probable each hypothesis is of each parameter, where parameters that are alike speak for each other.

Bayes' rule, with a prior that is learned from the other parameters of a class and of a name: what has drawn most of
them is more probable of one more. A law that nobody knows is among the hypotheses. It explains values 1/(2√p) times as
well as the others do, where p is the p-value of what fits them best: a factor whose mean is 1 where that is right.

Source: Vovk and Wang 2021, E-values: calibration, combination and applications, Annals of Statistics 49.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from initplug.planning.slots import Tree
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform
from initplug.schemes.initializers import TRUNCATION_SHRINK as SHRINK
from initplug.studies.inferring.hypotheses import SHARES, Hypothesis
from initplug.studies.inferring.plausibility import IMPOSSIBLE, ROOT, log_likelihood, p_value
from initplug.studies.inferring.samples import Sample

Array = NDArray[np.float64]

FREE: Mapping[str, float] = {
    "normal": 0.4,
    "uniform": 0.25,
    "truncated": 0.2,
    "normal with a mean": 0.1,
    "uniform between ends": 0.05,
}
"""Families with numbers that no formula gives, and how often it is one of them."""

NATURAL_RANGE = math.log(1e5)
"""The logarithms of deviations lie in an interval of this length, all equally probable."""

NEAREST = 3.0
"""Log likelihoods within which hypotheses count as equally good: their best p-value counts."""

CONSIDERED = 30.0
"""Log likelihoods below the best beyond which nobody asks for a p-value."""

EXCLUDED = 1e-8
"""The p-value below which a hypothesis is none of these values."""

ROUNDS = 8
"""Rounds in which parameters are asked anew what they say of each other."""

WIDELY = 0.3
"""The share of a class by which a hypothesis is held beside the parameter that holds it most."""

OWN_CLASS, OWN_NAME = 1.0, 1.0
"""The numbers of parameters that the prior of a class, and that of a name, count for."""


class Weighed(NamedTuple):
    """The outcome for one parameter.

    Args:
        best: the hypothesis that is most probable; None where it is a family of a free number, or no law at all.
        drawn: what it gives; None where values are like nothing that is known.
        chance: of that, and of all that says the same at every width, among all hypotheses; and no more than that of
            its having drawn all parameters of the class that it is the most probable of, by priors that nothing was
            learned for.
        fit: p-value of the values under it; of what fits best where nothing does.
        others: further hypotheses with their chances, the most probable first.
        unexplained: the chance of a free number, of a number that is one of many, or of no law.
    """

    best: Hypothesis | None
    drawn: Drawn | None
    chance: float
    fit: float
    others: tuple[tuple[Hypothesis, float], ...]
    unexplained: float


def weighed(tree: Tree, samples: Mapping[int, Sample], hypotheses: Sequence[Hypothesis]) -> dict[int, Weighed]:
    """Return how probable hypotheses are of the parameters that vary.

    Args:
        tree: the model.
        samples: of these parameters, by place.
        hypotheses: that are thought of.
    """
    if not samples:
        return {}
    places = [*samples]
    table = _Table(tree, places, [samples[place] for place in places], hypotheses)
    chances = table.posterior()
    odd = table.odd(chances)
    return {place: table.outcome(row, chances, odd) for row, place in enumerate(places)}


class _Table:
    """The likelihoods of hypotheses, free families and no law, of every parameter."""

    def __init__(
        self, tree: Tree, places: Sequence[int], samples: Sequence[Sample], hypotheses: Sequence[Hypothesis]
    ) -> None:
        self.tree, self.places, self.samples, self.hypotheses = tree, places, samples, hypotheses
        self.free = [_free_families(sample) for sample in samples]
        self.first_free, self.unlike = len(hypotheses), len(hypotheses) + len(FREE)
        self.logs = np.full((len(places), self.unlike + 1), IMPOSSIBLE)
        self.fits: list[dict[int, float]] = []
        self.best_fits: list[float] = []
        for row, sample in enumerate(samples):
            self._judge(row, sample)
        names = [tree.slots[place].name for place in places]
        slots = [tree.slots[place] for place in places]
        self.classes = _codes([f"<{tree.nodes[slot.node].cls.__name__}>.{slot.key}" for slot in slots])
        self.names = _codes([re.sub(r"\d+", "*", name) for name in names])
        free = [SHARES["free"] * share for share in FREE.values()]
        prior = np.array([*(one.prior for one in hypotheses), *free, SHARES["unlike"]])
        self.prior = prior / prior.sum()

    def _judge(self, row: int, sample: Sample) -> None:
        """Fill a row of likelihoods; what a p-value excludes is impossible."""
        known: dict[Drawn, float] = {}
        logs = self.logs[row]
        place = self.places[row]
        for index, one in enumerate(self.hypotheses):
            drawn = one.planned[place]
            if drawn is not None:
                if drawn not in known:
                    known[drawn] = log_likelihood(drawn, sample)
                logs[index] = known[drawn]
        for index, (_, log) in enumerate(self.free[row]):
            logs[self.first_free + index] = log
        top = float(logs[: self.unlike].max())
        fits: dict[int, float] = {}
        tested: dict[Drawn, float] = {}
        for index in np.flatnonzero(logs >= top - CONSIDERED).tolist():
            drawn = self.drawn(row, index)
            if drawn is not None:
                if drawn not in tested:
                    tested[drawn] = p_value(drawn, sample)
                fits[index] = tested[drawn]
        near = max((fit for index, fit in fits.items() if logs[index] >= top - NEAREST), default=0.0)
        for index, fit in fits.items():
            if fit < EXCLUDED:
                logs[index] = IMPOSSIBLE
        self.fits.append(fits)
        self.best_fits.append(near)

    def drawn(self, row: int, index: int) -> Drawn | None:
        """Return what a hypothesis, or a free family, gives a parameter."""
        if index < self.first_free:
            return self.hypotheses[index].planned[self.places[row]]
        return self.free[row][index - self.first_free][0] if index < self.unlike else None

    def posterior(self) -> Array:
        """Return the chances of every parameter's hypotheses."""
        tops = self.logs.max(1, keepdims=True)
        shares = np.exp(self.logs - np.where(np.isfinite(tops), tops, 0.0))
        against = np.array([evidence_against(fit) for fit in self.best_fits])
        against[~np.isfinite(tops[:, 0])] = MOST_EVIDENCE
        chances = self._updated(shares, against, self.prior)
        heard = np.ones(chances.shape, np.bool_)
        for turn in range(2 * ROUNDS):
            if turn == ROUNDS:
                heard = self._worth_hearing(chances)
            told = chances * heard
            wide = _normed(OWN_CLASS * self.prior + _others(told, self.classes))
            chances = self._updated(shares, against, _normed(OWN_NAME * wide + _others(told, self.names)))
        return chances

    def _worth_hearing(self, chances: Array) -> NDArray[np.bool_]:
        """Return of which hypotheses parameters may speak for each other in a class.

        Many parameters cannot tell 0.0099 from 0.01. What they leave to it would add up, and speak for it where one of
        them happens to look so. A hypothesis counts that some others hold, too, or that explains enough by itself to
        be thought of beside those which explain the class.
        """
        groups = int(self.classes.max()) + 1
        count = np.bincount(self.classes, minlength=groups)[:, None]
        held, most, gain = (np.zeros((groups, chances.shape[1])) for _ in range(3))
        np.add.at(held, self.classes, chances)
        np.maximum.at(most, self.classes, chances)
        np.add.at(gain, self.classes, -np.log1p(-np.minimum(chances, 1 - 1e-15)))
        worth = (held - most >= WIDELY * count) | (gain >= -np.log(self.prior / (count + 1)))
        found: NDArray[np.bool_] = worth[self.classes]
        return found

    def _updated(self, shares: Array, against: Array, prior: Array) -> Array:
        """Return chances by Bayes' rule; that of no law by what speaks against all others."""
        found = shares * prior
        sums = found.sum(1, keepdims=True)
        known = found / np.where(sums > 0, sums, 1.0)
        unknown = np.broadcast_to(prior, found.shape)[:, self.unlike]
        unlike = unknown * against / (unknown * against + 1 - unknown)
        known *= (1 - unlike)[:, None]
        known[:, self.unlike] = unlike
        return known

    def odd(self, chances: Array) -> NDArray[np.bool_]:
        """Return which hypotheses explain nothing: no law, free numbers, and rare ones that few names come from."""
        groups = int(self.names.max()) + 1
        held = np.zeros((groups, chances.shape[1]))
        np.add.at(held, self.names, chances)
        held /= np.bincount(self.names, minlength=groups)[:, None]
        found: NDArray[np.bool_] = (self.prior < RARE) & ((held > HELD).sum(0) < SEVERAL)
        found[self.first_free :] = True
        return found

    def outcome(self, row: int, chances: Array, odd: NDArray[np.bool_]) -> Weighed:
        """Return what comes out for a parameter."""
        mine = chances[row]
        unexplained = float(mine[odd].sum())
        meanings: dict[Any, list[int]] = defaultdict(list)
        for index in [*np.flatnonzero(np.isfinite(self.logs[row])).tolist(), self.unlike]:
            meanings[self._meaning(row, index)].append(index)
        sums = {meaning: float(mine[indices].sum()) for meaning, indices in meanings.items()}
        meaning = max(sums, key=sums.__getitem__)
        same = meanings.pop(meaning)
        index = max(same, key=lambda one: mine[one])
        chance, drawn = sums.pop(meaning), self.drawn(row, index)
        best = self.hypotheses[index] if index < self.first_free else None
        fit = self.fits[row].get(index, self.best_fits[row])
        equal = np.zeros(self.unlike, np.bool_)
        if best is not None:
            off = self._off(row, index, chances)
            equal = off >= -EQUAL
            together = self.prior[: self.unlike] * np.exp(np.minimum(off, MOST_OFF))
            mine_too = [index, *(one for one in same if one < self.first_free)]
            chance = min(chance, float(together[[*dict.fromkeys(mine_too)]].sum() / together.sum()))
        others = [
            (self.hypotheses[max(indices, key=lambda one: mine[one])], sums[other])
            for other, indices in meanings.items()
            if indices[0] < self.first_free and (sums[other] >= TOLD or equal[indices].any())
        ]
        others.sort(key=lambda pair: -pair[1])
        return Weighed(best, drawn, chance, fit, tuple(others), unexplained)

    def _meaning(self, row: int, index: int) -> Any:
        """Return a key of hypotheses that say the same of a parameter at every width."""
        if index >= self.first_free:
            return index
        one = self.hypotheses[index]
        drawn = one.planned[self.places[row]]
        if one.text == "default":
            slot = self.tree.slots[self.places[row]]
            fan_like = isinstance(self.tree.nodes[slot.node].module, LINEAR) and isinstance(drawn, Uniform)
            if isinstance(self.tree.nodes[slot.node].module, nn.Embedding):
                return "normal std=1"
            return (*DEFAULT, _size(drawn)) if fan_like else one.text
        # Rules that count fans alike here, do so in every layer of the kind.
        return (one.meaning[:-1], _size(drawn)) if isinstance(one.meaning, tuple) else one.meaning

    def _off(self, row: int, index: int, chances: Array) -> Array:
        """Return how much better hypotheses explain all parameters of a class that one is most probable of."""
        alike = np.flatnonzero((self.classes == self.classes[row]) & (chances.argmax(1) == index))
        rows = self.logs[alike if row in alike else [row]]
        off: Array = (rows - rows[:, [index]]).sum(0)[: self.unlike]
        return off


def _size(drawn: Drawn | None) -> str:
    return "" if drawn is None else f"{drawn.std:.6g}"


MOST_OFF = 500.0
"""A log likelihood that is as good as any that is larger."""

RARE = 1e-4
"""The prior below which a hypothesis, such as one of the many numbers of two digits, explains too little."""

HELD, SEVERAL = 0.3, 3
"""The chance from which parameters of a name come from a hypothesis; names that do so by no chance."""

TOLD = 0.005
"""The chance from which another hypothesis is told of."""

EQUAL = 2.0
"""The log likelihood that a hypothesis may be worse and still explain values as well."""

LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
"""Modules whose resets draw U(±1/√fan_in)."""

DEFAULT = (("fan", "uniform", "1/3", "fan_in"),)
"""The same in other words."""


def evidence_against(p: float) -> float:
    """Return how many times as well a law that nobody knows explains values whose p-value is `p`.

    Example:
        >>> evidence_against(0.25), round(evidence_against(1e-4), 6)
        (1.0, 50.0)
    """
    return min(0.5 / math.sqrt(p), MOST_EVIDENCE) if p > 0 else MOST_EVIDENCE


MOST_EVIDENCE = 1e12
"""The outcome where nothing that is known is possible."""


def _free_families(sample: Sample) -> list[tuple[Drawn | None, float]]:
    """Return each family with the numbers that suit it best, and the mean of its likelihood over all numbers."""
    moments, count = sample.moments, sample.numel
    reach, around = max(abs(moments.min), abs(moments.max)), math.hypot(moments.std, moments.mean)
    width = ROOT / math.sqrt(2 * count) / NATURAL_RANGE
    found: list[tuple[Drawn | None, float]] = []
    before = max(around / SHRINK, reach / 2)
    cut = before * SHRINK <= around * (1 + 4 / math.sqrt(count))
    options: list[tuple[Drawn | None, float]] = [
        (Normal(0.0, around), width),
        (Uniform(-reach, reach), 1 / (count * NATURAL_RANGE)),
        (TruncatedNormal(0.0, before, -2 * before, 2 * before) if cut else None, width),
        (Normal(moments.mean, moments.std) if moments.std else None, width * ROOT / (10 * math.sqrt(count))),
        (Uniform(moments.min, moments.max), 1 / (count**2 * NATURAL_RANGE)),
    ]
    for drawn, mean in options:
        log = IMPOSSIBLE if drawn is None else log_likelihood(drawn, sample)
        found.append((drawn, log + math.log(mean)))
    return found


def _codes(keys: Sequence[str]) -> NDArray[np.intp]:
    places: dict[str, int] = {}
    return np.array([places.setdefault(key, len(places)) for key in keys], np.intp)


def _normed(weights: Array) -> Array:
    found: Array = weights / weights.sum(-1, keepdims=True)
    return found


def _others(chances: Array, groups: NDArray[np.intp]) -> Array:
    """Return the sum of the chances of all other parameters of a group."""
    sums = np.zeros((int(groups.max()) + 1, chances.shape[1]))
    np.add.at(sums, groups, chances)
    found: Array = np.maximum(sums[groups] - chances, 0.0)
    return found


def at_step_0(names: Sequence[str], unexplained: Mapping[int, float]) -> float:
    """Return the chance that the values are as they were drawn: of what a model holds then, little is unexplained.

    Names of repeated blocks count once each. Before any value is seen nine in ten models are at step 0. Of such a model
    about one name in forty is unexplained, of a trained one any share is as probable as another.

    Args:
        names: of the parameters.
        unexplained: the chance that nothing explains one, by place; without those that tell nothing.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for place, chance in unexplained.items():
        groups[re.sub(r"\d+", "*", names[place])].append(chance)
    count = len(groups)
    bad = math.fsum(math.fsum(group) / len(group) for group in groups.values())
    drawn = _log_beta(1 + bad, 40 + count - bad) - _log_beta(1, 40)
    trained = _log_beta(1 + bad, 1 + count - bad)
    odds = math.log(9) + drawn - trained
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
