"""`infer`: what the values of a model look like, as rows with confidences and as a recipe that draws such values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initplug.auditing.repetition import repetition
from initplug.errors import Finding, InitplugError, headed
from initplug.filling.order import order
from initplug.filling.owners import needs_others, value_of
from initplug.filling.sharding import is_sharded
from initplug.filling.writable import untouchable
from initplug.language.loading import load
from initplug.planning.elsewhere import refuse_flat
from initplug.planning.references import padding_row
from initplug.planning.resets import Replays
from initplug.planning.slots import Slot, Tree
from initplug.planning.walk import walk
from initplug.schemes.compositions import Drawn, Stacked
from initplug.schemes.distributions import Complex, Normal, TruncatedNormal, Uniform
from initplug.studies.drafting.formulas import candidates, copies
from initplug.studies.drafting.induction import Proposal, rules_for
from initplug.studies.drafting.naming import names_of, recipe_data
from initplug.studies.inferring.certainties import Certainty, certainty
from initplug.studies.inferring.hypotheses import add_depths, add_splits, first_hypotheses
from initplug.studies.inferring.inference import LOW, Alternative, Inference, InferredRow
from initplug.studies.inferring.round_numbers import relative_error
from initplug.studies.inferring.samples import Sample, sample_of
from initplug.studies.inferring.weighing import Weighed, at_step_0, weighed
from initplug.studies.record import nearest_preset, ungiven
from initplug.studies.recording.forms import Computed, Given, Outcome, Unlike


def infer(model: nn.Module) -> Inference:
    """Say which initializers the values of a model look like, as those of a checkpoint at step 0.

    It is the weaker sibling of `record`, for values without the code that drew them. Each row has a confidence:

    confidence = chance · n / (n + 16) · step_0

    chance is the posterior probability of the formula, and of all that say the same at every width, among all that are
    thought of, a free number and a law that nobody knows included; parameters of one class and of one name speak for
    each other. n is the number of the parameter's elements. step_0 is the chance that the model was not trained, which
    is near 0 where much of it looks like nothing that is known. What is beyond chance (constants, tables, orthogonal
    matrices) has a confidence of 0.99, a constant that nobody would write down of 0.6.

    Args:
        model: with values, on any device.

    Raises:
        InitplugError: parameters without values to be read here: lazy, on meta, sharded; naming them.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> inference = infer(nn.Sequential(nn.Linear(64, 256), nn.LayerNorm(256)))
        >>> row = inference["0.weight"]
        >>> row.formula, round(row.distribution.high, 6), row.confidence > 0.8
        ('default', 0.125, True)

    Source: priors, tests and bounds are those of `weighing` and `plausibility` in `initplug.studies.inferring`.
    """
    tree = walk(model, buffers=False)
    refuse_flat([*tree.flat.values()])
    _refuse_without_values(tree)
    replays = Replays(tree)
    looked = _Looked(tree)
    outcomes = looked.weighed(replays)
    step_0 = at_step_0([slot.name for slot in tree.slots], looked.unexplained(outcomes))
    rows = _with_twins(tree, [looked.row(place, outcomes.get(place), step_0) for place in range(len(tree.slots))])
    named = {}
    if step_0 >= LOW:
        named = {one.best.text: one.best.form for one in outcomes.values() if one.best is not None}
    drawn = [replace(row, twin=None) for row in rows]
    tried = candidates(tree, drawn, replays, [*named.values()])
    kept = [replace(row, twin=None) if row.distribution is None else row for row in rows]  # whoever it is a copy of
    proposals = rules_for(tree, kept, tried, copies(tree, kept, replays))
    names = names_of(proposals, rows)
    cls = tree.nodes[0].cls.__name__
    recipe = load({"name": cls, "about": f"{cls} as its values look", "rules": recipe_data(proposals, names)})
    told = _with_rules(rows, proposals, names)
    differing, _, _ = ungiven(tree, recipe, told, replays)
    return Inference(
        model=cls,
        rows=told,
        recipe=recipe,
        comments={name: _comment(told, one) for name, one in zip(names, proposals, strict=True)},
        look=(lambda: nearest_preset(tree, told, replays)) if step_0 >= LOW else None,
        differing=differing,
        checked=True,
        step_0=step_0,
    )


# Values ---------------------------------------------------------------------------------------------------------------


def _refuse_without_values(tree: Tree) -> None:
    """Refuse a model of which some values cannot be looked at here.

    Raises:
        InitplugError: naming them.
    """
    findings = [Finding(slot.name, reason) for slot in tree.slots if (reason := _without_values(slot)) is not None]
    if findings:
        counted = "1 parameter has" if len(findings) == 1 else f"{len(findings)} parameters have"
        raise InitplugError(headed(f"{counted} no values that can be looked at here", findings))


def _without_values(slot: Slot) -> str | None:
    if slot.lazy:
        return "it waits for a first batch to learn its shape: run one, or give the sizes"
    if slot.on_meta:
        return "it is on meta, where there are no values: load a checkpoint first"
    if needs_others(slot) or any(is_sharded(tensor) for tensor in slot.stored):
        return "it is sharded, and this rank holds a part: save the model, and infer from the file in one process"
    return None


class _Looked:
    """The values of a model: what is beyond chance, what varies, and what cannot be a draw."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.certain: dict[int, Certainty] = {}
        self.varied: dict[int, Sample] = {}
        self.other: dict[int, Outcome] = {}
        self.samples: dict[int, Sample] = {}
        for place, slot in enumerate(tree.slots):
            found = self._look(slot)
            if isinstance(found, Sample):
                self.samples[place] = found
                sure = None if found.complex and found.moments.std else certainty(found)
                if sure is not None:
                    self.certain[place] = sure
                elif (odd := _no_draw(found)) is not None:
                    self.other[place] = Unlike(odd)
                else:
                    self.varied[place] = found
            else:
                self.other[place] = found

    def _look(self, slot: Slot) -> Sample | Outcome:
        """Return the sample of a parameter, or what it is instead of a draw."""
        if slot.computed is None and (reason := untouchable(slot.tensor)) is not None:
            return Computed(reason)
        value = value_of(slot).detach()
        if not value.numel():
            return Given()
        if not value.is_floating_point() and not value.is_complex():
            found = sample_of(value.double())
            kind = str(value.dtype).removeprefix("torch.")
            return Unlike(f"its elements are whole numbers ({kind})") if found.moments.std else found
        if value.is_complex():
            return _finite(torch.view_as_real(value.resolve_conj()), None, complex_=True)
        if value.itemsize < 2:
            value = value.float()
        row = padding_row(self.tree, slot)
        alone = row is not None and (len(value) < 2 or bool((value[row] != 0).any()))
        return _finite(value, None if alone else row)

    def weighed(self, replays: Replays) -> dict[int, Weighed]:
        """Return how probable hypotheses are of what varies: by numbers and fans, then by depths beside those."""
        thought = first_hypotheses(self.tree, self.varied, replays)
        found = weighed(self.tree, self.varied, [*thought.found.values()])
        drafts = [self.row(place, found.get(place), 1.0) for place in range(len(self.tree.slots))]
        wanted = np.array([place in self.varied for place in range(len(drafts))], np.bool_)
        reach = [
            8 * relative_error(self.varied[place]) if place in self.varied else 0.0 for place in range(len(drafts))
        ]
        before = len(thought.found)
        add_depths(thought, self.tree, drafts, reach, wanted)
        add_splits(thought, {place: self.varied[place] for place, one in found.items() if one.fit < UNFIT})
        if len(thought.found) == before:
            return found
        return weighed(self.tree, self.varied, [*thought.found.values()])

    def unexplained(self, outcomes: Mapping[int, Weighed]) -> dict[int, float]:
        """Return the chance that nothing explains a parameter, of those that have enough elements to tell."""
        found = {place: one.unexplained for place, one in outcomes.items()}
        found |= dict.fromkeys(self.certain, 0.0)
        found |= {place: 1.0 for place, held in self.other.items() if isinstance(held, Unlike)}
        return {place: chance for place, chance in found.items() if self.tree.slots[place].tensor.numel() >= LEAST_TOLD}

    def row(self, place: int, outcome: Weighed | None, step_0: float) -> InferredRow:
        """Return the row of a parameter."""
        slot = self.tree.slots[place]
        held: Outcome
        confidence, fit = 1.0, None
        others: tuple[Alternative, ...] = ()
        if outcome is not None:
            sample = self.varied[place]
            held = self._drawn(sample, outcome)
            if step_0 < LOW and isinstance(held, Drawn):
                held = Unlike(f"the model looks trained; nearest is {outcome.best.text if outcome.best else held.text}")
            confidence = outcome.chance * sample.numel / (sample.numel + FEW) * step_0
            fit = outcome.fit
            told = outcome.others
            if isinstance(held, Unlike) and outcome.best is not None:
                told = ((outcome.best, outcome.chance), *told)
            others = tuple(
                Alternative(one.text, _whole(drawn, sample), chance * step_0)
                for one, chance in told[:MOST_TOLD]
                if (drawn := one.planned[place]) is not None
            )
        elif place in self.certain:
            held, confidence = self.certain[place]
        else:
            held = self.other[place]
            confidence = 1.0 if isinstance(held, Given) else 0.0
        sample_ = self.samples.get(place)
        return InferredRow(
            name=slot.name,
            aliases=slot.aliases,
            module_type=self.tree.nodes[slot.node].cls.__name__,
            shape=tuple(slot.kin.shape),
            numel=slot.tensor.numel(),
            trainable=slot.tensor.requires_grad,
            outcome=held,
            places=(),
            confidence=0.0 if isinstance(held, Unlike) else confidence,
            fit=fit,
            formula=None if outcome is None or outcome.best is None or isinstance(held, Unlike) else outcome.best.text,
            alternatives=others,
            moments=None if sample_ is None or sample_.complex else sample_.moments,
            dtype=torch.float32 if sample_ is None else sample_.dtype,
        )

    @staticmethod
    def _drawn(sample: Sample, outcome: Weighed) -> Outcome:
        drawn = outcome.drawn
        if drawn is None:
            if outcome.fit > UNTOLD:
                return Unlike("so are others of its class")
            spread = f"{sample.moments.mean:.3g} ± {sample.moments.std:.3g}"
            return Unlike(f"{spread}, p = {outcome.fit:.1g} under what fits best")
        repeated = None if sample.complex else repetition(sample.tensor, drawn)
        if repeated is not None:
            return Unlike(repeated)
        return _whole(drawn if outcome.best is not None else _rounded(drawn, sample), sample)


UNTOLD = 0.01
"""The p-value from which it is no reason by itself."""

LEAST_TOLD = 32
"""Elements from which a tensor tells whether a model was trained."""

UNFIT = 1e-6
"""The p-value below which a tensor is looked at part by part."""

FEW = 16
"""Elements with which a confidence is halved."""

MOST_TOLD = 8
"""Alternatives that a row has."""


def _finite(value: Tensor, row: int | None, *, complex_: bool = False) -> Sample | Outcome:
    sample = sample_of(value, row, complex_=complex_)
    moments = sample.moments
    if not all(map(math.isfinite, (moments.std, moments.min, moments.max))):
        return Unlike("NaN or infinite elements")
    return sample


def _no_draw(sample: Sample) -> str | None:
    """Return what shows that values are no draw: an order, or more equal elements than draws have."""
    moments = sample.moments
    if sample.numel <= FEW or sample.complex:
        return None
    drawn = Normal(moments.mean, moments.std)
    if (ordered := order(sample.tensor, drawn)) is not None:
        return ordered
    if sample.dtype not in (torch.float32, torch.float64):
        return None
    grid = max(abs(moments.min), abs(moments.max)) * float(torch.finfo(sample.dtype).eps)
    if sample.repeated <= 0.05 + len(sample.ordered) * grid / moments.std:
        return None
    return repetition(sample.tensor, drawn) or "its elements take few values, as quantized ones do"


def _whole(drawn: Drawn, sample: Sample) -> Drawn:
    """Return the distribution of complex elements whose parts have one."""
    if not sample.complex:
        return drawn
    match drawn:
        case Normal(0.0, std):
            return Normal(0.0, std * math.sqrt(2))
        case Uniform() | TruncatedNormal():
            return Complex(drawn, drawn)
    return drawn


def _rounded(drawn: Drawn, sample: Sample) -> Drawn:
    """Return a distribution with the digits that a sample is enough for."""

    def short(number: float, error: float, up: bool = False) -> float:
        if not number:
            return number
        digits = min(max(math.ceil(-math.log10(max(error, 1e-7))) + 1, 2), 7)
        unit = 10.0 ** (math.floor(math.log10(abs(number))) - digits + 1)
        whole = math.ceil(abs(number) / unit) if up else round(abs(number) / unit)
        return math.copysign(float(f"{whole * unit:.{digits}g}"), number)

    error = relative_error(sample)
    match drawn:
        case Normal(mean, std):
            return Normal(short(mean, error * std / abs(mean)) if mean else 0.0, short(std, error))
        case Uniform(low, high) if low == -high:
            return Uniform(-(end := short(high, 1 / sample.numel, up=True)), end)
        case TruncatedNormal(loc, scale, low, high):
            scale = short(scale, error, up=True)
            return TruncatedNormal(loc, scale, -2 * scale, 2 * scale)
    return drawn


# Rows -----------------------------------------------------------------------------------------------------------------


def _with_twins(tree: Tree, rows: Sequence[InferredRow]) -> list[InferredRow]:
    """Return the rows, of which those that hold the values of an earlier one say so."""
    found = list(rows)
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        drawn = row.distribution
        parts = drawn.drawn if isinstance(drawn, Stacked) else [drawn]
        generated = any(part is not None and part.generated for part in parts)
        if row.numel >= LEAST_COPIED and row.moments is not None and (generated or isinstance(row.outcome, Unlike)):
            groups[row.shape, row.moments].append(place)
    for first, *others in groups.values():
        for other in others:
            one, two = tree.slots[first], tree.slots[other]
            if one.computed is None and two.computed is None and torch.equal(one.tensor.detach(), two.tensor.detach()):
                mine = found[first]
                found[other] = replace(
                    found[other], outcome=mine.outcome, twin=mine.name, confidence=mine.confidence, formula=mine.formula
                )
    return found


LEAST_COPIED = 4
"""Elements that are equal by no chance."""


def _with_rules(
    rows: Sequence[InferredRow], proposals: Sequence[Proposal], names: Sequence[str]
) -> tuple[InferredRow, ...]:
    """Return the rows with the rules that give them, and the initializers of these as their formulas."""
    found = list(rows)
    for name, one in zip(names, proposals, strict=True):
        for place in one.wins:
            row = rows[place]
            known = row.formula is not None or (row.distribution is not None and row.fit is None)
            text = one.init.text if known or one.init.text == "default" else None
            others = tuple(other for other in row.alternatives if other.init != one.init.text)
            found[place] = replace(row, rule=name, formula=text, alternatives=others)
    return tuple(found)


def _comment(rows: Sequence[InferredRow], one: Proposal) -> str:
    """Return how many parameters a rule takes, how sure that is, and what would say the same."""
    mine = [rows[place] for place in one.wins]
    told = [str(len(mine)) + (" parameter" if len(mine) == 1 else " parameters")]
    if mine:
        least, most = (int(100 * find(row.confidence for row in mine)) / 100 for find in (min, max))
        told.append(f"confidence {least:.2f}" + (f" to {most:.2f}" if most > least else ""))
    chances: dict[str, list[float]] = defaultdict(list)
    for row in mine:
        for other in row.alternatives:
            chances[other.init].append(other.chance)
    everywhere = [init for init, found in chances.items() if len(found) == len(mine) > 0]
    if everywhere:
        told.append(f"{max(everywhere, key=lambda init: sum(chances[init]))} fits, too")
    return "; ".join(told)
