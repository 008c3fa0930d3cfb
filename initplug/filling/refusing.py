"""What is found before the first write: slots that cannot be written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from initplug.auditing import Status, to_write
from initplug.columns import Coded
from initplug.errors import ApplyError, Finding, listed
from initplug.filling.generator import filler
from initplug.filling.sharding import is_sharded
from initplug.filling.transferring import Redrawn, Source, transfer
from initplug.filling.writing import doubtful, refusal, rehearsed
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Slots


def refuse(
    plan: Plan,
    slots: Slots,
    statuses: Coded[Status],
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
        raise ApplyError(listed(f"{counted} cannot be written", findings), findings)


SURROGATE = re.compile("[\ud800-\udfff]")


def unnamed(slots: Slots, statuses: Coded[Status]) -> list[Finding]:
    """The slots whose names select no stream."""
    return [
        Finding(name, "its name holds half a character (a surrogate), so that it has no stream under a seed")
        for name in slots.taken(to_write(statuses)).names
        if not name.isascii() and SURROGATE.search(name)
    ]


def unseeded(slots: Slots, statuses: Coded[Status]) -> list[Finding]:
    """The sharded slots that are to be written without a seed: torch's generator gives every rank the same numbers."""
    return [
        Finding(slot.name, "it is sharded, and only a seed gives its parts the values of one whole", hint="seed=0")
        for slot in slots.taken(to_write(statuses))
        if any(is_sharded(tensor) for tensor in slot.stored)
    ]


def _rehearse(plan: Plan, slots: Slots, statuses: Coded[Status], sources: Mapping[int, Source]) -> list[Finding]:
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
