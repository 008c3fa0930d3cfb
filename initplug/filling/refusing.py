"""What is found before the first write: slots that cannot be written, and slots that share memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from initplug.auditing import Status
from initplug.errors import ApplyError, Finding, listed, warn
from initplug.filling.generator import filler
from initplug.filling.transferring import Source, transfer
from initplug.filling.writing import refusal, rehearsed
from initplug.moments import is_dense
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot
from initplug.schemes.distributions import Keep


def refuse(
    plan: Plan,
    slots: Sequence[Slot],
    statuses: Sequence[Status],
    chosen: Collection[int],
    sources: Mapping[int, Source],
    unsourced: Sequence[Finding],
) -> None:
    """Raise for every slot that is to be written and cannot be."""
    findings = [
        Finding(slot.name, reason)
        for slot, status in zip(slots, statuses, strict=True)
        if status == "initialized" and (reason := refusal(slot)) is not None
    ]
    if not findings:
        findings += unsourced or _rehearse(plan, slots, statuses, sources)
    findings += [
        Finding(
            slot.name, "`keep` has nothing to keep: it is on meta", hint="`keep default` draws what construction draws"
        )
        for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True))
        if index in chosen and isinstance(share.distribution, Keep) and slot.on_meta
    ]
    if findings:
        raise ApplyError(listed(f"{len(findings)} of {len(slots)} slots cannot be written", findings), findings)


def _rehearse(
    plan: Plan, slots: Sequence[Slot], statuses: Sequence[Status], sources: Mapping[int, Source]
) -> list[Finding]:
    """What keeps computed slots from being written, found on copies."""
    findings = []
    for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True)):
        if statuses[index] == "initialized" and slot.computed is not None:
            # Values that are copied or loaded are there already; those of a source yet to be drawn stand for them.
            fill = partial(transfer, sources[index]) if index in sources else filler(share)
            outcome = rehearsed(slot, fill)
            if isinstance(outcome, str):
                findings.append(Finding(slot.name, outcome))
    return findings


def warn_of_shared_memory(slots: Sequence[Slot], statuses: Sequence[Status]) -> None:
    """Warn of different tensors that share elements in memory: what is written last stays in both.

    Tensors share one if they begin at one address, or if both are dense and their stretches of memory overlap.
    """
    stretches = sorted(
        (slot.tensor.data_ptr(), is_dense(slot.tensor), slot.tensor.nbytes, slot.name)
        for slot, status in zip(slots, statuses, strict=True)
        if status == "initialized" and slot.computed is None
    )
    end, widest, previous = 0, "", (-1, "")
    for start, dense, length, name in stretches:
        other = previous[1] if start == previous[0] else widest if dense and start < end else None
        if other is not None:
            warn(f"{other} and {name} are different tensors in the same memory: the last write stays in both")
        previous = (start, name)
        if dense and start + length > end:
            end, widest = start + length, name
