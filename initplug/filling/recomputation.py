"""Verdicts under a seed: slots compared to what it gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.verdicts import EXACT, OK, UNTESTABLE, Judgement
from initplug.errors import ApplyError, Finding, brief, headed
from initplug.filling.chunks import FillError
from initplug.filling.exact import Compared, compared_to_seed, difference
from initplug.filling.owners import Rehearsal, needs_others, rehearsal, same, value_of
from initplug.filling.padding import zero_padding
from initplug.filling.sources import drawn_from
from initplug.filling.work import Work
from initplug.filling.writable import unwritable
from initplug.filling.write import fill_alone, private_generator
from initplug.language.yaml import has_surrogate
from initplug.planning.assignment import Share
from initplug.planning.opaque import opaque
from initplug.planning.slots import PLAIN_TENSORS, Slot, Slots
from initplug.schemes.compositions import Batched, Copy, Drawn, Planned, Single
from initplug.schemes.distributions import Constant, Elementwise

ANOTHER_SEED = "another seed?"


def judged_exactly(work: Work) -> dict[int, Judgement]:
    """Return the verdicts on all slots that are read and whose values a seed gives.

    Raises:
        ApplyError: values cannot be computed again.
    """
    plan, slots, shares, names = work.plan, work.slots, work.plan.shares, work.plan.names
    seed, threads, progress = work.settings.seed, work.settings.threads, work.settings.progress
    assert seed is not None  # without one there is nothing to compute
    named = np.array([not has_surrogate(name) for name in names], np.bool_)  # half a character selects no stream
    read = work.statuses.mask(lambda status: status == "read") & named
    drawn = np.flatnonzero(read & shares.mask(lambda share: isinstance(share.distribution, Drawn)))
    copied = np.flatnonzero(read & shares.mask(lambda share: isinstance(share.distribution, Copy))).tolist()
    copies = {row: one for row in copied if (one := drawn_from(plan, slots, row)) is not None}
    own = _readable(slots)
    owned = drawn[own[drawn]]
    computed = [row for row in slots.computed if row in {*drawn.tolist()} and row not in work.projecting]
    copies = {row: one for row, one in copies.items() if own[row]}
    total, counter = len(owned) + len(copies) + len(computed), count(1)

    def done(more: int) -> None:
        if progress is not None:
            for _ in range(more):
                progress(next(counter), total)

    try:
        found = compared_to_seed(work, owned, copies, done)
    except FillError as stop:
        finding = Finding(names[stop.row], brief(stop.__cause__ or stop))
        raise ApplyError(headed("values cannot be computed again", [finding]), [finding]) from stop.__cause__
    judgements = {row: judgement_of(one, shares[row], seed) for row, one in found.items()}
    for row in computed:
        if not needs_others(slots[row]):
            judgements[row] = judged_computed(slots[row], names[row], shares[row], seed, threads)
        done(1)
    return _with_the_seed_doubted(judgements, found, shares)


def _readable(slots: Slots) -> NDArray[np.bool_]:
    """Return of every slot whether its owner holds the values itself and torch can compare them."""
    found = np.fromiter(
        (type(one) in PLAIN_TENSORS and opaque(one) is None for one in slots.tensors), np.bool_, len(slots)
    )
    for row in slots.kins.where(lambda kin: not kin.plain).tolist():
        found[row] = not slots[row].kin.lazy and unwritable(slots[row].tensor) is None
    found[slots.computed] = False
    return found


def _with_the_seed_doubted(
    judgements: dict[int, Judgement], found: Mapping[int, Compared], shares: Sequence[Share]
) -> dict[int, Judgement]:
    """Return the judgements, which ask for another seed where no tensor that varies holds half of what this gives."""
    varied = [one for row, one in found.items() if one.difference.total and _varies_with_seed(shares[row].distribution)]
    if not varied or any(2 * one.difference.unequal <= one.difference.total or one.rounded for one in varied):
        return judgements
    doubt = Judgement("differs", f"all drawn tensors differ: {ANOTHER_SEED}", ANOTHER_SEED)
    return {
        row: doubt._replace(problem=f"{judged.problem}; {doubt.problem}")
        if judged.verdict == "differs" and not isinstance(shares[row].distribution, Constant)
        else judged
        for row, judged in judgements.items()
    }


def _varies_with_seed(distribution: Planned | None) -> bool:
    """Return whether another seed gives other values nearly everywhere."""
    drawn = distribution.drawn if isinstance(distribution, Copy) else distribution
    return isinstance(drawn, Single | Batched) and drawn.law.continuous


def judged_computed(slot: Slot, name: str, share: Share, seed: int, threads: int) -> Judgement:
    """Judge a slot that its owner computes under a seed: by its public value, as the owner would make it of a draw."""
    distribution = share.distribution
    assert isinstance(distribution, Drawn)  # as everything that is compared here

    def fill(value: Tensor) -> None:
        fill_alone(value, distribution, name, seed, threads)
        zero_padding(value, share.padding_row, distribution)

    with private_generator(seed, name, slot.stored[0].device):
        outcome = rehearsal(slot, fill)
    if not isinstance(outcome, Rehearsal) or not outcome.kept:
        return UNTESTABLE
    value = value_of(slot).detach()
    if value.shape != outcome.read.shape or value.dtype != outcome.read.dtype:
        return UNTESTABLE
    found = difference(value, outcome.read.detach())
    if found.unequal and same(value, outcome.read):  # another machine rounds what owners compute in another way
        return OK
    return judgement_of(Compared(found), share, seed)


def judgement_of(compared: Compared, share: Share, seed: int) -> Judgement:
    """Return the verdict on a tensor that was compared, and what it is that differs."""
    unequal, total, place, found, expected, most = compared.difference
    if not total:
        return UNTESTABLE
    if not unequal:
        return EXACT
    source = "the plan" if isinstance(share.distribution, Constant) else f"seed {seed}"
    if compared.rounded is not None:
        word = str(compared.rounded).removeprefix("torch.")
        return Judgement("differs", f"elements are those of {source} rounded to {word}", f"rounded to {word}")
    told = f"at [{', '.join(map(str, place))}]: {found:.9g}, not {expected:.9g}"
    if total == 1:
        return Judgement("differs", f"its element is not that of {source}: {found:.9g}, not {expected:.9g}")
    drawn = share.distribution.drawn if isinstance(share.distribution, Copy) else share.distribution
    paired = isinstance(drawn, Elementwise) and share.dtype.startswith("complex")
    word = "real and imaginary parts" if paired else "elements"
    if unequal == 1:
        return Judgement("differs", f"1 of {total:,} {word} is not that of {source}, {told}")
    head = f"{unequal:,} of {total:,} {word} are not those of {source}"
    return Judgement("differs", f"{head}, the first {told}; off by {most:.3g} at most")
