"""Checks before the first write: slots that cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import compress

import numpy as np
import torch
from torch import Tensor, nn

from initplug.auditing.audit import Status, to_write
from initplug.collectives import ranked
from initplug.columns import Coded
from initplug.errors import ApplyError, Finding, headed
from initplug.filling.copies import Redrawn, ValueSource, transfer
from initplug.filling.owners import doubtful, refusal, rehearsed
from initplug.filling.replicas import Replicas
from initplug.filling.sharding import is_sharded, undivided
from initplug.filling.torch_draws import filler
from initplug.language.yaml import has_surrogate
from initplug.planning.dtypes import check_dtype
from initplug.planning.elsewhere import MARKS, elsewhere
from initplug.planning.evaluation import LAZY
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Slots, Tree
from initplug.schemes.calls import MisfitError
from initplug.schemes.distributions import (
    Batched,
    Constant,
    Copy,
    Elementwise,
    Planned,
    Single,
    parts_of,
    singles,
    text,
)
from initplug.schemes.laws import Sampling


def refuse(
    plan: Plan,
    slots: Slots,
    statuses: Coded[Status],
    sources: Mapping[int, ValueSource],
    found: Sequence[Finding],
) -> None:
    """Raise for every slot that is to be written and cannot be.

    Args:
        plan: of the slots.
        slots: in its order.
        statuses: of the slots.
        sources: of the slots that are copied or loaded.
        found: what was found before, such as sources that hold no values.

    Raises:
        ApplyError: with all findings together; nothing has been written.
    """
    findings = [
        Finding(slot.name, reason)
        for slot in doubtful(slots.taken(to_write(statuses)))
        if (reason := refusal(slot)) is not None
    ]
    findings += found
    if not findings:
        findings += _rehearse(plan, slots, statuses, sources)
    if findings:
        of_slots = all(finding.path in plan for finding in findings)
        tensors = f"{len(findings)} tensor{'s' * (len(findings) > 1)}"
        counted = f"{len(findings)} of {len(slots)} slots" if of_slots else tensors
        raise ApplyError(headed(f"{counted} cannot be written", findings), findings)


def unnamed(slots: Slots, statuses: Coded[Status]) -> list[Finding]:
    """Return the slots whose names select no stream."""
    return [
        Finding(name, "its name holds half a character (a surrogate), so that it has no stream under a seed")
        for name in slots.taken(to_write(statuses)).names
        if has_surrogate(name)
    ]


def unshaped(plan: Plan, statuses: Coded[Status], reasons: Mapping[int, str]) -> list[Finding]:
    """Find the slots that wait for a first batch, unless they are left out or nothing was to be written to them."""
    return [
        Finding(plan.names[row], "it waits for a first batch to learn its shape", hint=UNSHAPED)
        for row in statuses.where(lambda status: status == "lazy").tolist()
        if plan.shares[row].reason == LAZY and row not in reasons
    ]


def unreachable(plan: Plan, tree: Tree, slots: Slots, statuses: Coded[Status]) -> list[Finding]:
    """Find the slots that are to be written, and whose values lie elsewhere; placeholders are empty."""
    wanted = {*to_write(statuses).tolist(), *statuses.where(lambda status: status == "empty").tolist()}
    found = elsewhere(tree, slots).items()
    return [finding for row, finding in found if row in wanted and plan.shares[row].reason is None]


def unplaced(plan: Plan, slots: Slots, statuses: Coded[Status]) -> list[Finding]:
    """Find plain tensors that are this rank's part of a whole: all ranks would give theirs the same values.

    Megatron marks them by `tensor_model_parallel`, and experts of which each rank has its own by `allreduce=False`.
    A constant is right on every rank, and so is a copy of a tensor that is cut alike.
    """
    rows = {*compress(range(len(slots)), map(MARKS, slots.tensors)), *slots.computed}
    marks = {row: mark for row in sorted(rows) if statuses[row] == "initialized" and (mark := _mark(slots, row))}
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


def beyond_streams(plan: Plan, slots: Slots, statuses: Coded[Status]) -> list[Finding]:
    """Return the slots that are to be drawn from what streams, which are of single precision, cannot resolve."""
    reasons = plan.shares.each(lambda share: _beyond_single(share.distribution, double=share.dtype in DOUBLES))
    names = slots.names
    rows = to_write(statuses)
    lacking = np.intersect1d(rows, reasons.where(lambda reason: reason is not None))
    hint = "under a seed values are drawn in float32"
    return [Finding(names[row], str(reasons[row]), hint=hint) for row in lacking.tolist()]


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
        try:
            check_dtype(part, torch.float32, str(text(part)))
        except MisfitError as reason:
            return str(reason)
    return None


def _is_narrow(sampling: Sampling) -> bool:
    return sampling.cut is not None and sampling.cut[1] - sampling.cut[0] < NARROW_STDS * sampling.scale


def unseeded(plan: Plan, slots: Slots, statuses: Coded[Status], replicas: Replicas) -> list[Finding]:
    """Return the slots that ranks share and are to be written without a seed: torch's generator is each rank's own.

    Shards would get the same numbers of it, or each its own; replicas as well, but for what needs no generator.
    """
    written = to_write(statuses)
    findings = [
        Finding(slot.name, "it is sharded, and only a seed gives its parts the values of one whole", hint="seed=0")
        for slot in slots.taken(written)
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


def _rehearse(plan: Plan, slots: Slots, statuses: Coded[Status], sources: Mapping[int, ValueSource]) -> list[Finding]:
    """Return what keeps computed slots from being written, found on copies."""
    findings = []
    for row in slots.computed:
        if statuses[row] == "initialized":
            outcome = rehearsed(slots[row], _filling(sources[row]) if row in sources else filler(plan.shares[row]))
            if isinstance(outcome, str):
                findings.append(Finding(slots[row].name, outcome))
    return findings


def _filling(source: ValueSource) -> Callable[[Tensor], object]:
    """Return what gives a tensor the values of a source, or any while the source has none."""
    if isinstance(source, Redrawn):
        return nn.init.normal_
    on_meta = isinstance(source, Slot) and source.on_meta
    return nn.init.normal_ if on_meta else partial(transfer, source)
