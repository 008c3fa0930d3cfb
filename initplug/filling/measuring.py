"""What slots hold after a write, or as they stand: moments, verdicts, and the audit of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor

from initplug.auditing import Audit, Status, Verdict, judge_of, judged
from initplug.filling.sharding import held_in, is_sharded, local_of, region_of
from initplug.filling.transferring import Redrawn, Source, compared
from initplug.filling.writing import padding, value_of
from initplug.moments import Moments, measure, together
from initplug.planning.evaluation import Share
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot
from initplug.regions import Box, Region, split
from initplug.schemes.distributions import Batched, Copy, Keep, Load, Planned, Stacked
from initplug.schemes.structures import Structured


def audited(
    plan: Plan,
    slots: Sequence[Slot],
    statuses: Sequence[Status],
    sources: Mapping[int, Source],
    *,
    projecting: Collection[int] = (),
    moments: Mapping[int, Moments] = MappingProxyType({}),
    measuring: bool = True,
    seed: int | None = None,
) -> Audit:
    """The audit of what the slots hold; of sharded ones of what this rank holds.

    Args:
        plan: of the slots.
        slots: in its order.
        statuses: of the slots.
        sources: of the slots that are copied or loaded.
        projecting: places of slots whose owners compute something else than they are given.
        moments: of the slots that were measured as they were drawn.
        measuring: whether the others are measured.
        seed: of the draw.
    """
    found: list[Moments | None] = []
    verdicts: list[Verdict] = []
    regions: dict[int, Region] = {}
    judges: dict[tuple[int, int], Callable[[Moments], Verdict]] = {}
    for index, (slot, share, status) in enumerate(zip(slots, plan.shares, statuses, strict=True)):
        measured: Moments | None = None
        verdict: Verdict = "untestable"
        if index in moments:
            measured = moments[index]
            judge = judges.get((id(share), measured.numel))
            if judge is None:
                judge = judge_of(share.distribution, measured.numel, slot.tensor.dtype)
                judges[id(share), measured.numel] = judge
            verdict = judge(measured)
        elif measuring and not share.lazy and share.numel and not slot.on_meta and not _computed_of_shards(slot):
            value = value_of(slot)
            measured = _measured(value, share)
            if status in ("initialized", "read") and index not in projecting:
                verdict = _verdict(value, share, measured, sources.get(index), exact=slot.computed is None)
        region = region_of(slot.tensor)
        if region is not None:
            regions[index] = region
        found.append(measured)
        verdicts.append(verdict)
    return Audit(plan, found, statuses, verdicts, seed, regions)


def _computed_of_shards(slot: Slot) -> bool:
    """Whether reading a slot takes what other ranks hold."""
    return slot.computed is not None and any(is_sharded(tensor) for tensor in slot.stored)


def _measured(tensor: Tensor, share: Share) -> Moments | None:
    if tensor.layout != torch.strided:
        return None
    region, row = region_of(tensor), share.padding_row
    if region is not None and row is not None:
        row = region.place(0, row)
    try:
        return measure(local_of(tensor), row)
    except (NotImplementedError, RuntimeError, TypeError):  # packed dtypes that torch stores and cannot compute with
        return None


def _verdict(tensor: Tensor, share: Share, measured: Moments | None, source: Source | None, *, exact: bool) -> Verdict:
    """What the values of a tensor say of its distribution: part by part, and of its padding row; or of its source."""
    local, region = local_of(tensor).detach(), region_of(tensor)
    distribution: Planned | None = share.distribution
    row = share.padding_row
    if isinstance(source, Redrawn):
        distribution, row = source.share.distribution, source.share.padding_row
        if row is not None or len({*source.casts, tensor.dtype}) > 1:
            return "untestable"
    elif isinstance(distribution, Copy | Load):
        return "untestable" if source is None else compared(source, tensor)
    if measured is None:
        return "untestable"
    if any(part.count_nonzero() for part in padding(local, row, distribution, region)):
        return "differs"
    if not all(math.isfinite(value) for value in measured):
        return "differs"
    if row is not None and isinstance(distribution, Stacked | Structured):
        return "untestable"  # without the row they are not what they were planned to be
    if not isinstance(distribution, Stacked):
        whole = region is None or not isinstance(distribution, Structured | Batched)
        return judged(distribution, measured, tensor.dtype, exact=exact) if whole else "untestable"
    verdicts = {
        judged(part, found, tensor.dtype, exact=exact) if whole or not isinstance(part, Structured | Batched) else NONE
        for part, found, whole in _parts(local, region, distribution)
    }
    return next((verdict for verdict in ("differs", "untestable", "ok") if verdict in verdicts), NONE)


NONE: Verdict = "untestable"


def _parts(
    local: Tensor, region: Region | None, distribution: Stacked
) -> Iterator[tuple[Planned, Moments | None, bool]]:
    """The parts that are drawn, with the moments of what is held of each, and whether that is all."""
    extent = Box.whole(local.shape if region is None else region.shape)
    extents = split(extent, len(distribution.parts), distribution.dim)
    for part, inner in zip(distribution.parts, extents, strict=True):
        if isinstance(part, Keep):
            continue
        shared = [(view, box, box.shared_with(inner)) for view, box in held_in(local, region)]
        views = [view[both.within(box)] for view, box, both in shared if both.count]
        found = [moments for view in views if (moments := measure(view)) is not None]
        if found or region is None:
            yield part, reduce(together, found) if found else None, sum(m.numel for m in found) == inner.count
