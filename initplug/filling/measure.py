"""Measurements of slots after a write, or as they stand: moments, verdicts, and the audit of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from initplug.auditing.audit import Audit
from initplug.auditing.moments import IS_CPU, SINGLE, Measured, Moments, measure, measure_alike, together
from initplug.auditing.verdicts import NOT_FINITE, OK, UNTESTABLE, VERDICTS, Judgement, judged_together, judgement
from initplug.columns import Coded
from initplug.filling.agreement import EXACT_WHOLE
from initplug.filling.batches import SMALL
from initplug.filling.copies import compared_to_source
from initplug.filling.counts import count
from initplug.filling.cuts import SERIAL, cut_view
from initplug.filling.exact import bits
from initplug.filling.owners import needs_others, value_of
from initplug.filling.padding import padding
from initplug.filling.scrutiny import (
    beside_bounds,
    look_at_bounds,
    look_at_pools,
    look_for_numbers,
    look_for_twins,
    look_through,
    measured_of,
)
from initplug.filling.sharding import held_in, local_of, mesh_of, region_of
from initplug.filling.sources import Redrawn, ValueSource
from initplug.filling.tally import Verdicts
from initplug.filling.work import Work
from initplug.filling.writable import are_in_order, untouchable
from initplug.planning.assignment import Share
from initplug.planning.plan import Plan
from initplug.planning.slots import PLAIN_TENSORS, Slots
from initplug.regions import Box, Region, split
from initplug.schemes.compositions import Batched, Copy, Keep, Load, Planned, Single, Stacked, text
from initplug.schemes.distributions import Constant
from initplug.schemes.structures.base import Structured


def audited(
    work: Work, measured: Measured | None = None, settled: Mapping[int, Judgement] = MappingProxyType({})
) -> Audit:
    """Measure and judge what the slots hold, of sharded ones what this rank holds, and return the audit of it.

    Args:
        work: that has been done, or is to be judged.
        measured: moments of the slots that were measured as they were drawn; the others are added.
        settled: what is known of slots by other means than their moments: by comparing them with what a seed gives.
    """
    plan, slots, statuses, settings = work.plan, work.slots, work.statuses, work.settings
    measured = Measured.none(len(plan)) if measured is None else measured
    measured.table["numel"][[*settled]] = 0  # what was measured on the way may have changed since
    found = Verdicts.none(measured, work.reasons)
    if settings.measure:
        _measure_small(plan, slots, measured)
    _judge_alike(work, found)
    if settings.measure:
        _measure_rest(work, found)
    trimmed = look_at_bounds(work, found)
    for row, judged in settled.items():
        found.settle(row, judged)
    if settings.seed is not None:  # a file's values were compared as exactly as a seed's
        loaded = plan.shares.mask(lambda share: isinstance(share.distribution, Load))
        loaded &= found.mask("ok") & statuses.mask(lambda status: status == "read")
        found.codes[loaded] = VERDICTS.index("exact")
    look_for_numbers(work, found)
    look_through(work, found)
    look_for_twins(work, found)
    look_at_pools(work, trimmed, found)
    sharded = slots.kins.where(lambda kin: not kin.plain).tolist()
    regions = {row: region for row in sharded if (region := region_of(slots[row].tensor)) is not None}
    histograms = count(plan, slots, measured) if settings.histograms else None
    verdicts = Coded(VERDICTS, found.codes)
    sharing = work.replicas.by_row(slots)
    whole = {row: mesh for row in sharded if row not in regions and (mesh := mesh_of(slots[row].tensor)) is not None}
    sharing.update((row, (tuple(mesh.mesh.flatten().tolist()),)) for row, mesh in whole.items())
    seed, problems, reasons = settings.seed, found.problems, found.reasons
    return Audit(plan, measured, statuses, verdicts, seed, problems, reasons, histograms, regions, sharing)


def _judge_alike(work: Work, found: Verdicts) -> None:
    """Judge what has been measured by now, tensors that are alike all at once."""
    measured = found.measured
    known = measured.table["numel"] > 0
    tested = np.flatnonzero(known & work.statuses.mask(lambda status: status in ("initialized", "read")))
    shares = work.plan.shares.taken(tested).packed()
    asked = shares.each(lambda share: (share.distribution, getattr(torch, share.dtype)))
    for verdict, rows, apart in judged_together(asked, Measured(measured.table[tested])):
        found.codes[tested[rows]] = VERDICTS.index(verdict)
        for place in apart.tolist():
            distribution, dtype = asked[place]
            row = int(tested[place])
            found.note(row, judgement(distribution, measured[row], dtype))


def _measure_rest(work: Work, found: Verdicts) -> None:
    """Measure and judge one by one what has not been measured yet."""
    for row in np.flatnonzero(found.measured.table["numel"] == 0).tolist():
        slot, share, status = work.slots[row], work.plan.shares[row], work.statuses[row]
        if share.lazy or not share.numel or slot.on_meta or needs_others(slot):
            continue
        hidden = None if slot.computed is not None else untouchable(slot.tensor)
        if hidden is not None:
            if status == "read" and share.reason is None:
                found.note(row, Judgement("untestable", f"{hidden}; it can neither be written nor read", hidden))
            continue
        value = value_of(slot)
        moments = found.measured[row] = measured_of(value, share, threads=work.settings.threads)
        if status in ("initialized", "read") and row not in work.projecting:
            found.note(row, judged_value(value, share, moments, work.sources.get(row), exact=slot.computed is None))


def _measure_small(plan: Plan, slots: Slots, measured: Measured) -> None:
    """Measure small tensors that are alike in one go, those that were measured already left out."""
    is_left = measured.table["numel"] == 0
    is_left[slots.computed] = False
    left, tensors = np.flatnonzero(is_left), slots.tensors
    for small, group in plan.shares.taken(left).alike(_small_as).groups():
        rows = left[group].tolist()
        alike = [tensors[row] for row in rows]
        plain = small is not None and PLAIN_TENSORS.issuperset(map(type, alike))
        if plain and are_in_order(alike) and all(map(IS_CPU, alike)):
            measured.put(rows, measure_alike(alike, in_order=not any(map(Tensor.is_neg, alike))))


def _small_as(share: Share) -> tuple[tuple[int, ...], str] | None:
    """Return shape and dtype of small tensors of whose elements one distribution says all; None of others."""
    plain = share.distribution is None or isinstance(share.distribution, Single | Batched | Keep)
    known = 0 < share.numel <= SMALL and getattr(torch, share.dtype) in SINGLE
    return (share.shape, share.dtype) if plain and known and not share.lazy and share.padding_row is None else None


def judged_value(
    tensor: Tensor, share: Share, measured: Moments | None, source: ValueSource | None, *, exact: bool
) -> Judgement:
    """Judge the values of a tensor by its distribution, part by part, and its padding row; or by its source."""
    local, region = local_of(tensor).detach(), region_of(tensor)
    distribution: Planned | None = share.distribution
    row = share.padding_row
    if isinstance(source, Redrawn):
        distribution, row = source.share.distribution, source.share.padding_row
        if row is not None or len({*source.casts, tensor.dtype}) > 1:
            return UNTESTABLE
    elif isinstance(distribution, Copy | Load):
        verdict = "untestable" if source is None else compared_to_source(source, tensor)
        return Judgement(verdict, f"not what {text(distribution)} gives" if verdict == "differs" else None)
    if measured is None:
        return UNTESTABLE
    if any(part.count_nonzero() for part in padding(local, row, distribution, region)):
        return Judgement("differs", f"padding row {row} is not 0")
    unknown = row is not None and isinstance(distribution, Stacked | Structured)  # not what it was planned to be
    if unknown or (region is not None and isinstance(distribution, Structured | Batched)):
        finite = all(math.isfinite(value) for value in measured)
        return UNTESTABLE if finite else Judgement("differs", NOT_FINITE)
    if not isinstance(distribution, Stacked):
        judged = judgement(distribution, measured, tensor.dtype, exact=exact)
        return _to_the_last_digit(judged, distribution, [local])
    judgements = {
        place: _part_judged(part, views, tensor.dtype, exact=exact)
        if whole or not isinstance(part, Structured | Batched)
        else UNTESTABLE
        for place, part, views, whole in _parts_drawn(local, region, distribution)
    }
    for place, judged in judgements.items():
        if judged.verdict == "differs":
            return Judgement("differs", f"part {place} of {len(distribution.parts)}: {judged.problem}")
    return UNTESTABLE if UNTESTABLE in judgements.values() or not judgements else OK


def _part_judged(part: Planned, views: Sequence[Tensor], dtype: torch.dtype, *, exact: bool) -> Judgement:
    """Return what the values of a part say of its distribution."""

    def moments_of(without: Collection[float] = ()) -> Moments | None:
        found = [moments for view in views if (moments := measure(view, without=without)) is not None]
        return reduce(together, found) if found else None

    moments = moments_of()
    _, judged = beside_bounds(part, moments, dtype, moments_of)
    judged = judgement(part, moments, dtype, exact=exact) if judged is None else judged
    return _to_the_last_digit(judged, part, views)


def _to_the_last_digit(judged: Judgement, distribution: Planned | None, views: Sequence[Tensor]) -> Judgement:
    """Return the judgement of a constant so large that double precision, in which is measured, takes others for it."""
    if judged.verdict != "ok" or not isinstance(distribution, Constant) or abs(distribution.value) < EXACT_WHOLE:
        return judged
    value = int(distribution.value)
    for view in views:
        if view.is_floating_point() or view.is_complex():
            return judged
        expected = bits(torch.empty((), dtype=view.dtype, device=view.device).fill_(value))
        for piece, _ in cut_view(view, SERIAL):
            others = np.flatnonzero(bits(piece) != expected)
            if len(others):
                found = piece.reshape(-1)[int(others[0])].item()
                return Judgement("differs", f"an element is {found}, not {value}")
    return judged


def _parts_drawn(
    local: Tensor, region: Region | None, distribution: Stacked
) -> Iterator[tuple[int, Planned, list[Tensor], bool]]:
    """Yield the parts that are drawn, counted from 1, with what is held of each, and whether that is all."""
    extent = Box.whole(local.shape if region is None else region.shape)
    extents = split(extent, distribution.lengths(extent.sizes[distribution.dim]), distribution.dim)
    for place, (part, inner) in enumerate(zip(distribution.parts, extents, strict=True), 1):
        if isinstance(part, Keep):
            continue
        shared = [(view, box, box.shared_with(inner)) for view, box in held_in(local, region)]
        views = [view[both.within(box)] for view, box, both in shared if both.count]
        if views or region is None:
            yield place, part, views, sum(both.count for _, _, both in shared) == inner.count
