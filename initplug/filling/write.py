"""Plan -> values: every slot that is to be initialised is written once, and proven to have arrived."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from initplug.auditing.audit import to_write
from initplug.auditing.moments import IS_CPU, SINGLE, Measured
from initplug.columns import Rows, coded
from initplug.errors import ApplyError, Finding, brief, shortened
from initplug.filling.batches import Lot, LotKind
from initplug.filling.chunks import FillError
from initplug.filling.copies import in_order, transfer
from initplug.filling.cuts import give
from initplug.filling.owners import (
    arrived,
    assign,
    blank,
    generators_kept,
    in_place,
    reads_back,
    refresh,
    strayed,
    value_of,
)
from initplug.filling.padding import zero_padding
from initplug.filling.seeded import fill_from_names
from initplug.filling.sharding import local_of, region_of
from initplug.filling.sources import Redrawn
from initplug.filling.torch_draws import filler
from initplug.filling.words import key_of
from initplug.filling.work import Progress, Settings, Work
from initplug.planning.assignment import Share
from initplug.planning.plan import Plan
from initplug.planning.slots import PLAIN_TENSORS, Slot, Slots
from initplug.regions import Region
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Elementwise

STRAYED = "the owner no longer holds the tensor that was written"


@dataclass(slots=True)
class Record:
    """The slots written so far, counted and measured.

    Args:
        projected: the slots whose owners compute something else than they were given.
        measured: moments of the slots that were measured as they were drawn.
        written: rows of the slots that are done, together as they were told of.
        count: of them.
        total: how many are to be written.
        progress: told of every one.
    """

    projected: set[int]
    measured: Measured
    written: list[Sequence[int] | Rows]
    count: int
    total: int
    progress: Progress | None

    def count_done(self, rows: Sequence[int] | Rows) -> None:
        """Count slots as written."""
        before, self.count = self.count, self.count + len(rows)
        self.written.append(rows)
        if self.progress is not None:
            for count in range(before + 1, self.count + 1):
                self.progress(count, self.total)


def write(work: Work) -> Record:
    """Fill every slot that is to be initialised: what is drawn first, what is copied after its source.

    Raises:
        ApplyError: saying how far the writing came.
    """
    plan, slots, sources, seeded = work.plan, work.slots, work.sources, work.settings.seed is not None
    chosen = in_order(plan, to_write(work.statuses))
    record = Record(set(), Measured.none(len(plan)), [], 0, len(chosen), work.settings.progress)
    at = int(chosen[0]) if len(chosen) else 0
    try:
        with torch.no_grad():
            if seeded:
                drawn = np.setdiff1d(chosen, [*sources]) if sources else chosen
                _fill_from_streams(work, record, drawn)
                lost = strayed(work.tree, slots, drawn)
                if lost is not None:
                    at = lost
                    raise RuntimeError(STRAYED)
                rest = [*sources, *slots.tied]  # whose other owners may compute something from it
                chosen = chosen[np.isin(chosen, rest)]
            tensors, holders, keys = slots.tensors, slots.holders, slots.keys
            fillers = (
                plan.shares.taken(chosen)
                .packed()
                .each(lambda share: filler(share) if isinstance(share.distribution, Drawn) else None)
            )
            rare = {*sources, *slots.tied, *slots.computed}
            for at, fill in zip(chosen.tolist(), fillers, strict=True):
                by_now = seeded and at not in sources
                if fill is None or at in rare:
                    if not by_now:
                        _write_rare(work, record, at)
                    _settle_owners(work, record, at)
                else:  # nearly all
                    fill(tensors[at])
                    if not in_place(holders[at], keys[at], tensors[at]):
                        raise RuntimeError(STRAYED)
                if not by_now:
                    record.count_done([at])
    except FillError as stop:
        cause = stop.__cause__ or stop
        raise _interrupted(slots[stop.row], cause, slots, record) from cause
    except Exception as error:
        raise _interrupted(slots[at], error, slots, record) from error
    return record


def _write_rare(work: Work, record: Record, row: int) -> None:
    """Give a slot its values that has a source, is computed or is at several places."""
    slot, source = work.slots[row], work.sources.get(row)
    value = slot.tensor if slot.computed is None else blank(slot)
    if isinstance(source, Redrawn):
        _redraw(source, value, work.settings)
    elif source is not None:
        transfer(source, value)
    else:
        filler(work.plan.shares[row])(value)
    _hand_over(work, record, row, value)


def _settle_owners(work: Work, record: Record, row: int) -> None:
    """Make sure that every owner of a slot holds what was written, or computes it."""
    slot = work.slots[row]
    if not arrived(work.tree, slot):
        raise RuntimeError(STRAYED)
    for other in slot.also:
        refresh(other)
    if slot.also and not reads_back(slot, value_of(slot)):
        record.projected.add(row)


def _hand_over(work: Work, record: Record, row: int, value: torch.Tensor) -> None:
    """Give a value to the owner that computes it, and note what that makes of it."""
    slot = work.slots[row]
    if slot.computed is not None:
        with private_generator(work.settings.seed, work.plan.names[row], slot.stored[0].device):
            assign(slot.computed, value.clone())
        if not reads_back(slot, value):
            record.projected.add(row)


def _fill_from_streams(work: Work, record: Record, chosen: Rows) -> None:
    """Fill all slots from the streams of their names; those that owners compute go one by one through a new tensor."""
    plan, slots, settings = work.plan, work.slots, work.settings
    shares, computed = plan.shares, slots.computed
    assert settings.seed is not None  # what streams are named with
    plain = np.setdiff1d(chosen, computed) if computed else chosen
    padded = {*shares.where(lambda share: share.padding_row is not None).tolist()}

    def done(rows: Sequence[int] | Rows) -> None:
        for row in padded.intersection(rows) if padded else ():
            share, tensor = shares[row], slots[row].tensor
            zero_padding(local_of(tensor), share.padding_row, share.distribution, region_of(tensor))
        record.count_done(rows)

    fill_from_names(
        lots_of(plan, slots, plain, settings.measure), settings.seed, settings.threads, record.measured, done
    )
    for row in chosen[np.isin(chosen, computed)].tolist():
        value, share = blank(slots[row]), shares[row]
        try:
            fill_alone(value, _distribution_drawn(share), plan.names[row], settings.seed, settings.threads)
            zero_padding(value, share.padding_row, share.distribution)
            _hand_over(work, record, row, value)
        except FillError as error:
            raise FillError(row) from error.__cause__
        record.count_done([row])


def fill_alone(
    value: torch.Tensor, distribution: Drawn, name: str, seed: int | None, threads: int, region: Region | None = None
) -> None:
    """Fill one tensor, or the part of it that is held, from the streams of a name."""
    assert seed is not None  # what streams are named with
    lot = Lot(LotKind(False, region), coded([distribution]), [0], [name], [value])
    fill_from_names([lot], seed, threads, Measured.none(1), lambda _: None)


def _redraw(source: Redrawn, value: torch.Tensor, settings: Settings) -> None:
    """Give what is held of a tensor the values that another has in the same places, from the streams of that one."""
    local, region = local_of(value), region_of(value)
    distribution = _distribution_drawn(source.share)
    first, *further = source.casts
    drawn = local if {*source.casts} == {local.dtype} else torch.empty_like(local, dtype=first)
    fill_alone(drawn, distribution, source.name, settings.seed, settings.threads, region)
    zero_padding(drawn, source.share.padding_row, distribution, region)
    if drawn is not local:
        for dtype in further:
            drawn = drawn.to(dtype)
        give(local, drawn)


@contextmanager
def private_generator(seed: int | None, name: str, device: torch.device) -> Iterator[None]:
    """Let setters draw, as that of parametrizations.orthogonal does: under a seed from a generator of its own."""
    if seed is None:
        yield
        return
    with generators_kept(device):
        own = int(key_of(seed, name, "setter")[0])
        torch.default_generator.manual_seed(own)
        if device.type == "cuda":
            torch.cuda.manual_seed(own)
        yield


def lots_of(plan: Plan, slots: Slots, rows: Rows, measure: bool) -> list[Lot]:
    """Return what is drawn for some rows, those together that are alike.

    Args:
        plan: of the slots.
        slots: in its order.
        rows: of tensors that owners hold themselves and that are drawn.
        measure: whether they are measured on the way, where that can be done.
    """
    lots: list[Lot] = []
    # A part of a model may know a tied tensor by an alias alone: its stream is that of the plan's name.
    names, tensors = plan.names, slots.tensors
    shares = plan.shares.taken(rows).packed()
    drawn = shares.each(_distribution_drawn)
    for (_, _, at_once, _), group in shares.alike(_likeness).groups():
        chosen, distributions = rows[group], drawn.taken(group)
        held = [tensors[row] for row in chosen.tolist()]
        measured = measure and at_once and held[0].dtype in SINGLE
        streams = [names[row] for row in chosen.tolist()]
        if PLAIN_TENSORS.issuperset(map(type, held)) and all(map(IS_CPU, held)):
            lots.append(Lot(LotKind(measured), distributions, chosen, streams, held))
            continue
        parts, apart = [*map(local_of, held)], defaultdict[Any, list[int]](list)
        for place, (tensor, part) in enumerate(zip(held, parts, strict=True)):
            apart[region_of(tensor), part.device].append(place)
        lots += [
            Lot(
                LotKind(measured, region),
                distributions.taken(places),
                chosen[places],
                [streams[place] for place in places],
                [parts[place] for place in places],
            )
            for (region, _), places in apart.items()
        ]
    return lots


def _likeness(share: Share) -> tuple[tuple[int, ...], str, bool, int | None]:
    """Return what tensors of a lot have in common: their shape and dtype, and whether they are drawn at once.

    Each may then have a distribution of its own, where one call draws them all.
    """
    distribution = _distribution_drawn(share)
    at_once = isinstance(distribution, Elementwise | Constant) and share.padding_row is None
    own = at_once and isinstance(distribution, Elementwise) and distribution.sampling.mapped is None
    return share.shape, share.dtype, at_once, None if own else id(share)


def _distribution_drawn(share: Share) -> Drawn:
    """Return what a slot that is to be written is drawn from."""
    assert isinstance(share.distribution, Drawn)  # what `initialized` means
    return share.distribution


def _interrupted(slot: Slot, error: BaseException, slots: Slots, record: Record) -> ApplyError:
    reason = brief(error)
    names = slots.names
    written = [names[row] for row in sorted(int(row) for rows in record.written for row in rows)]
    head = f"writing stopped at {slot.name}: {reason}\n{len(written)} of {record.total} slots had been written"
    rows = [f"  {row}" for row in shortened(written)]
    return ApplyError("\n".join([head + (":" if rows else ""), *rows]), [Finding(slot.name, reason)])
