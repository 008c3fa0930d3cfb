"""Checks before the first write, or before anything is read: slots that cannot be written, or hold no values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import compress

import numpy as np
import torch
from torch import Tensor, nn

from initplug.auditing.audit import to_write
from initplug.collectives import ranked
from initplug.errors import ApplyError, Finding, headed
from initplug.filling.copies import transfer
from initplug.filling.owners import rehearsed
from initplug.filling.replicas import Replicas
from initplug.filling.sharding import is_sharded, undivided
from initplug.filling.sources import Redrawn, ValueSource
from initplug.filling.torch_draws import filler
from initplug.filling.work import Work
from initplug.filling.writable import doubtful, refusal
from initplug.language.yaml import has_surrogate
from initplug.planning.advice import own_rule
from initplug.planning.assignment import LAZY
from initplug.planning.dtypes import misfit_of
from initplug.planning.elsewhere import MARKS, elsewhere
from initplug.planning.opaque import is_fake, opaque
from initplug.planning.plan import Plan
from initplug.planning.remarks import causes
from initplug.planning.slots import Slot, Slots
from initplug.schemes.compositions import Batched, Copy, Load, Planned, Single, parts_of, singles, text
from initplug.schemes.distributions import Constant, Elementwise
from initplug.schemes.laws import Sampling


def refuse(work: Work, found: Sequence[Finding]) -> None:
    """Raise for every slot that is to be written and cannot be.

    Args:
        work: that is to be done.
        found: what was found before, such as sources that hold no values.

    Raises:
        ApplyError: with all findings together; nothing has been written.
    """
    findings = [
        Finding(slot.name, reason)
        for slot in doubtful(work.slots.taken(to_write(work.statuses)))
        if (reason := refusal(slot)) is not None
    ]
    findings += found
    if not findings:
        findings += _rehearse(work)
    if findings:
        of_slots = all(finding.path in work.plan for finding in findings)
        tensors = f"{len(findings)} tensor{'s' * (len(findings) > 1)}"
        counted = f"{len(findings)} of {len(work.slots)} slots" if of_slots else tensors
        raise ApplyError(headed(f"{counted} cannot be written", findings), findings)


def refuse_unreadable(work: Work) -> None:
    """Raise for slots that are to be read and hold no values.

    Raises:
        ApplyError: with all findings of a kind together.
    """
    plan, slots = work.plan, work.slots
    read = work.statuses.mask(lambda status: status == "read")
    # The stand-in of a computed tensor is always on meta, so that this settles most.
    unread = [row for row, tensor in enumerate(slots.tensors) if tensor.is_meta and read[row]]
    on_meta = [slots[row].name for row in unread if slots[row].on_meta]
    away = [one for row, one in elsewhere(work.tree, slots).items() if work.statuses[row] in ("read", "empty")]
    if away:
        raise ApplyError(headed(f"{len(away)} of {len(slots)} slots hold no values", away), away)
    if on_meta:
        findings = [Finding(name, "it is on meta and holds no values") for name in on_meta]
        raise ApplyError(headed(f"{len(on_meta)} slots are on meta and hold no values", findings), findings)
    fake = [row for row in slots.kins.where(lambda kin: not kin.plain).tolist() if is_fake(slots[row].tensor)]
    findings = [Finding(slots[row].name, f"{opaque(slots[row].tensor)}") for row in fake if read[row]]
    if findings:
        raise ApplyError(headed(f"{len(findings)} of {len(slots)} slots hold no values", findings), findings)
    # A copy whose source lies outside this part of the model cannot be tested; a file could have been there.
    files = [row for row in work.lost if read[row] and isinstance(plan.shares[row].distribution, Load)]
    if files:
        findings = [Finding(slots[row].name, work.lost[row]) for row in files]
        head = f"{len(files)} of {len(slots)} slots cannot be compared with their file"
        raise ApplyError(headed(head, findings), findings)


def unsourced(work: Work) -> list[Finding]:
    """Return the slots that are to be written and whose source has no values to give."""
    slots, sources, lost = work.slots, work.sources, work.lost
    findings: list[Finding] = []
    if not sources and not lost:
        return findings
    writing = {slots[row] for row in to_write(work.statuses).tolist()}
    for index in sorted({*sources, *lost}):
        slot, source, reason = slots[index], sources.get(index), lost.get(index)
        if isinstance(source, Slot) and source.on_meta and source not in writing:
            reason = f"its source {source.name} is on meta and holds no values"
        if reason is not None and slot in writing:
            findings.append(Finding(slot.name, reason))
    return findings


def unnamed(work: Work) -> list[Finding]:
    """Return the slots whose names select no stream."""
    return [
        Finding(name, "its name holds half a character (a surrogate), so that it has no stream under a seed")
        for name in work.slots.taken(to_write(work.statuses)).names
        if has_surrogate(name)
    ]


def unshaped(work: Work) -> list[Finding]:
    """Find the slots that wait for a first batch, unless they are left out or nothing was to be written to them."""
    return [
        Finding(work.plan.names[row], "it waits for a first batch to learn its shape", hint=UNSHAPED)
        for row in work.statuses.where(lambda status: status == "lazy").tolist()
        if work.plan.shares[row].reason == LAZY and row not in work.reasons
    ]


def unreachable(work: Work) -> list[Finding]:
    """Find the slots that are to be written, and whose values lie elsewhere; placeholders are empty."""
    statuses, shares = work.statuses, work.plan.shares
    found = elsewhere(work.tree, work.slots).items()
    wanted = ((row, finding) for row, finding in found if statuses[row] in ("initialized", "empty"))
    return [finding for row, finding in wanted if shares[row].reason is None]


def unread_shards(work: Work, chosen: Collection[int]) -> list[Finding]:
    """Find DTensors that `default` would keep, of which nothing says that the ranks hold parts of one tensor."""
    plan, slots = work.plan, work.slots
    found = []
    for row in plan.shares.where(lambda share: bool(causes(share.distribution))).tolist():
        if row in chosen and is_sharded(slots.tensors[row]) and not slots.tensors[row].is_meta:
            told = "; ".join(causes(plan.shares[row].distribution))
            hint = f"give it a later rule of its own, such as `{own_rule(slots[row])}`"
            found.append(
                Finding(plan.names[row], f"`default` leaves it unwritten, and it is a DTensor: {told}", hint=hint)
            )
    return found


def unplaced(work: Work) -> list[Finding]:
    """Find plain tensors that are this rank's part of a whole: all ranks would give theirs the same values.

    Megatron marks them by `tensor_model_parallel`, and experts of which each rank has its own by `allreduce=False`.
    A constant is right on every rank, and so is a copy of a tensor that is cut alike.
    """
    plan, slots = work.plan, work.slots
    rows = {*compress(range(len(slots)), map(MARKS, slots.tensors)), *slots.computed}
    marks = {row: mark for row in sorted(rows) if work.statuses[row] == "initialized" and (mark := _mark(slots, row))}
    shares = plan.shares
    findings: list[Finding] = []
    for row, mark in marks.items():
        planned = shares[row].distribution
        source = plan.find(planned.source) if isinstance(planned, Copy) else None
        alike = source is not None and _mark(slots, source) == mark
        if not (isinstance(planned, Constant) or alike or undivided(experts=mark == EXPERT)):
            message = f"it is marked {mark}: ranks may hold different parts of it, and nothing says which this is"
            findings.append(Finding(plan.names[row], message, hint=None if findings else UNPLACED))
    return findings


EXPERT = "allreduce=False"


def _mark(slots: Slots, row: int) -> str | None:
    """Return what says of a plain tensor that ranks hold different ones under its name."""
    for tensor in slots[row].stored:
        marks = tensor.__dict__
        if is_sharded(tensor):
            continue
        if marks.get("tensor_model_parallel"):
            return f"tensor_model_parallel, cut along dimension {marks.get('partition_dim', 'unknown')}"
        if marks.get("allreduce") is False and marks.get("group_name") != "ep_size_1":  # so DeepSpeed calls no groups
            return EXPERT
    return None


UNPLACED = "make it a DTensor, or apply before the model is cut; check=False writes it all the same"
UNSHAPED = "run one batch first, or leave it out with only="


DOUBLES = frozenset({"float64", "complex128"})


def beyond_streams(work: Work) -> list[Finding]:
    """Return the slots that are to be drawn from what streams, which are of single precision, cannot resolve."""
    reasons = work.plan.shares.each(lambda share: _beyond_single(share.distribution, double=share.dtype in DOUBLES))
    names, lacking = work.slots.names, reasons.mask(lambda reason: reason is not None)
    lacking &= work.statuses.mask(lambda status: status == "initialized")
    hint = "under a seed values are drawn in float32"
    return [Finding(names[row], str(reasons[row]), hint=hint) for row in np.flatnonzero(lacking).tolist()]


NARROW_STDS = 1e-3
"""Standard deviations between bounds below which the table of normals, good to 5e-7, gives no truncated ones."""


def _beyond_single(distribution: Planned | None, *, double: bool) -> str | None:
    """Return what keeps a distribution from being drawn in single precision."""
    limits = torch.finfo(torch.float32)
    for part in parts_of(distribution):
        if isinstance(part, Elementwise) and _is_narrow(part.sampling):
            return f"{text(part)} is cut to less than {NARROW_STDS:g} std"
        if not double or not isinstance(part, Single | Batched) or isinstance(part, Constant):
            continue
        if 0 < part.std < max(limits.smallest_normal, 64 * limits.eps * abs(part.mean)):
            return f"{text(part)} is finer than float32"
        if (misfit := misfit_of(part, torch.float32, str(text(part)))) is not None:
            return misfit
    return None


def _is_narrow(sampling: Sampling) -> bool:
    return sampling.cut is not None and sampling.cut[1] - sampling.cut[0] < NARROW_STDS * sampling.scale


def unseeded(work: Work, replicas: Replicas) -> list[Finding]:
    """Return the slots that ranks share and are to be written without a seed: torch's generator is each rank's own.

    Shards would get the same numbers of it, or each its own; replicas as well, but for what needs no generator.
    """
    plan, slots = work.plan, work.slots
    written = to_write(work.statuses)
    doubtful_slots = slots.taken(written) if slots.computed or not slots.plain else ()
    findings = [
        Finding(slot.name, "it is sharded, and only a seed gives its parts the values of one whole", hint="seed=0")
        for slot in doubtful_slots
        if any(is_sharded(tensor) for tensor in slot.stored)
    ]
    hint: str | None = UNSEEDED
    sharing = replicas.by_row(slots)
    for row in written.tolist() if sharing else ():
        if row in sharing and not any(map(is_sharded, slots[row].stored)) and not _without_generator(plan, row):
            message = f"{ranked(sharing[row][0])} share it, and torch's generator is each rank's own"
            findings.append(Finding(plan.names[row], message, hint=hint))
            hint = None
    return findings


UNSEEDED = "seed=0, or check=False where all ranks have seeded torch alike"


def _without_generator(plan: Plan, row: int) -> bool:
    """Return whether what a slot gets is the same wherever it is computed."""
    planned = plan.shares[row].distribution
    while isinstance(planned, Copy):
        source = plan.find(planned.source)
        planned = None if source is None else plan.shares[source].distribution
    return not any(single.generated for single in singles(planned))


def _rehearse(work: Work) -> list[Finding]:
    """Return what keeps computed slots from being written, found on copies."""
    slots, sources, shares = work.slots, work.sources, work.plan.shares
    findings = []
    for row in slots.computed:
        if work.statuses[row] == "initialized":
            outcome = rehearsed(slots[row], _filling(sources[row]) if row in sources else filler(shares[row]))
            if isinstance(outcome, str):
                findings.append(Finding(slots[row].name, outcome))
    return findings


def _filling(source: ValueSource) -> Callable[[Tensor], object]:
    """Return what gives a tensor the values of a source, or any while the source has none."""
    if isinstance(source, Redrawn):
        return nn.init.normal_
    on_meta = isinstance(source, Slot) and source.on_meta
    return nn.init.normal_ if on_meta else partial(transfer, source)
