"""What is found before the first write: slots that cannot be written, and slots that share memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from torch import Tensor, nn

from initplug.auditing import Status
from initplug.errors import ApplyError, Finding, listed, warn
from initplug.filling.generator import filler
from initplug.filling.sharding import is_sharded, local_of
from initplug.filling.transferring import Redrawn, Source, transfer
from initplug.filling.writing import doubtful, refusal, rehearsed
from initplug.moments import is_dense
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Slots


def refuse(
    plan: Plan,
    slots: Slots,
    statuses: Sequence[Status],
    sources: Mapping[int, Source],
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
    writing = [row for row, status in enumerate(statuses) if status == "initialized"]
    findings = [
        Finding(slots[row].name, reason)
        for row in doubtful(slots, writing)
        if (reason := refusal(slots[row])) is not None
    ]
    findings += found
    if not findings:
        findings += _rehearse(plan, slots, statuses, sources)
    if findings:
        of_slots = all(finding.path in plan for finding in findings)
        tensors = f"{len(findings)} tensor{'s' * (len(findings) > 1)}"
        counted = f"{len(findings)} of {len(slots)} slots" if of_slots else tensors
        raise ApplyError(listed(f"{counted} cannot be written", findings), findings)


SURROGATE = re.compile("[\ud800-\udfff]")


def unnamed(slots: Slots, statuses: Sequence[Status]) -> list[Finding]:
    """The slots whose names select no stream."""
    names = slots.names
    if all(map(str.isascii, names)):
        return []
    return [
        Finding(name, "its name holds half a character (a surrogate), so that it has no stream under a seed")
        for name, status in zip(names, statuses, strict=True)
        if status == "initialized" and SURROGATE.search(name)
    ]


def unseeded(slots: Slots, statuses: Sequence[Status]) -> list[Finding]:
    """The sharded slots that are to be written without a seed: torch's generator gives every rank the same numbers."""
    return [
        Finding(slot.name, "it is sharded, and only a seed gives its parts the values of one whole", hint="seed=0")
        for slot, status in zip(slots, statuses, strict=True)
        if status == "initialized" and any(is_sharded(tensor) for tensor in slot.stored)
    ]


def _rehearse(plan: Plan, slots: Slots, statuses: Sequence[Status], sources: Mapping[int, Source]) -> list[Finding]:
    """What keeps computed slots from being written, found on copies."""
    findings = []
    for row in slots.computed:
        if statuses[row] == "initialized":
            outcome = rehearsed(slots[row], _filling(sources[row]) if row in sources else filler(plan.shares[row]))
            if isinstance(outcome, str):
                findings.append(Finding(slots[row].name, outcome))
    return findings


def _filling(source: Source) -> Callable[[Tensor], object]:
    """What gives a tensor the values of a source, or any while the source has none."""
    if isinstance(source, Redrawn):
        return nn.init.normal_
    on_meta = isinstance(source, Slot) and source.on_meta
    return nn.init.normal_ if on_meta else partial(transfer, source)


def warn_of_shared_memory(slots: Slots, statuses: Sequence[Status]) -> None:
    """Warn of different tensors that share elements in memory: what is written last stays in both.

    Tensors share one if they begin at one address, or if both are dense and their stretches of memory overlap.
    """
    computed, names, every = {*slots.computed}, slots.names, slots.tensors
    rows = [row for row, status in enumerate(statuses) if status == "initialized" and row not in computed]
    tensors = [local_of(every[row]) for row in rows]
    starts = np.fromiter(map(Tensor.data_ptr, tensors), np.uint64, len(rows))
    order = np.argsort(starts)
    ends = starts + np.fromiter((tensor.nbytes for tensor in tensors), np.uint64, len(rows))
    if (starts[order][1:] >= ends[order][:-1]).all():
        return
    stretches = []
    for row, tensor in zip(rows, tensors, strict=True):
        if tensor.numel():  # a rank may hold nothing, which lies nowhere
            dense = tensor.is_contiguous() or is_dense(tensor)
            stretches.append((tensor.data_ptr(), dense, tensor.nbytes, names[row]))
    stretches.sort()
    end, widest, previous = 0, "", (-1, "")
    for start, dense, length, name in stretches:
        other = previous[1] if start == previous[0] else widest if dense and start < end else None
        if other is not None:
            warn(f"{other} and {name} are different tensors in the same memory: the last write stays in both")
        previous = (start, name)
        if dense and start + length > end:
            end, widest = start + length, name
