"""Plan -> values: every slot that is to be initialised is written once, and proven to have arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from initplug.auditing import Status
from initplug.errors import ApplyError, Finding, brief, shortened
from initplug.filling.batches import Kind, Order
from initplug.filling.generator import filler
from initplug.filling.seeded import FillError, fill
from initplug.filling.sharding import local_of, region_of
from initplug.filling.streams import Elementwise, key_of
from initplug.filling.transferring import Redrawn, Source, in_order, transfer
from initplug.filling.writing import (
    arrived,
    assign,
    blank,
    generators_kept,
    reads_back,
    refresh,
    value_of,
    zero_padding,
)
from initplug.moments import Moments
from initplug.planning.plan import Plan
from initplug.planning.slots import PLAIN_TENSORS, Slot, Tree
from initplug.regions import Region
from initplug.schemes.distributions import Constant, Drawn

Progress = Callable[[int, int], None]


MEASURED = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""Dtypes whose elements single precision holds, so that they can be measured as they are drawn."""


class Settings(NamedTuple):
    """How values are drawn.

    Args:
        seed: of named streams; None for torch's global generator.
        threads: that draw from streams at a time.
        measure: whether what is drawn is measured, if that can be done on the way.
        progress: called with the number of slots done and of all slots.
    """

    seed: int | None
    threads: int
    measure: bool
    progress: Progress | None


@dataclass(slots=True)
class Record:
    """What has been written so far.

    Args:
        statuses: of every slot; `projected` where an owner computes something else than it was given.
        moments: of the slots that were measured as they were drawn.
        written: places of the slots that are done, in the order in which they were.
        total: how many are to be written.
        progress: told of every one.
    """

    statuses: list[Status]
    moments: dict[int, Moments]
    written: list[int]
    total: int
    progress: Progress | None

    def done(self, *indices: int) -> None:
        """Count slots as written."""
        before = len(self.written)
        self.written.extend(indices)
        if self.progress is not None:
            for count in range(before + 1, before + 1 + len(indices)):
                self.progress(count, self.total)


def write(
    plan: Plan,
    tree: Tree,
    slots: Sequence[Slot],
    statuses: Sequence[Status],
    sources: Mapping[int, Source],
    settings: Settings,
) -> Record:
    """Fill every slot that is to be initialised: what is drawn first, what is copied after its source.

    Raises:
        ApplyError: saying how far the writing came.
    """
    chosen = [index for index in in_order(plan) if statuses[index] == "initialized"]
    drawn = [index for index in chosen if index not in sources]
    record = Record(list(statuses), {}, [], len(chosen), settings.progress)
    at = chosen[0] if chosen else 0
    try:
        with torch.no_grad():
            if settings.seed is not None:
                _fill_from_streams(plan, slots, drawn, settings, record)
            shares = plan.shares
            for at in chosen:
                slot, share = slots[at], shares[at]
                by_now = settings.seed is not None and at not in sources
                if not by_now:
                    value = slot.tensor if slot.computed is None else blank(slot)
                    source = sources.get(at)
                    if isinstance(source, Redrawn):
                        _redraw(source, value, settings)
                    elif source is not None:
                        transfer(source, value)
                    else:
                        filler(share)(value)
                    _hand_over(plan, slot, value, record, at, settings.seed)
                if not arrived(tree, slot):
                    raise RuntimeError("the owner no longer holds the tensor that was written")
                if slot.also:
                    for other in slot.also:
                        refresh(other)
                    if not reads_back(slot, value_of(slot)):
                        record.statuses[at] = "projected"
                if not by_now:
                    record.done(at)
    except FillError as stop:
        cause = stop.__cause__ or stop
        raise _interrupted(slots[stop.index], cause, slots, record) from cause
    except Exception as error:
        raise _interrupted(slots[at], error, slots, record) from error
    return record


def _hand_over(plan: Plan, slot: Slot, value: torch.Tensor, record: Record, index: int, seed: int | None) -> None:
    """Give a value to the owner that computes it, and note what that makes of it."""
    if slot.computed is not None:
        with _private_generator(seed, plan.names[index], slot.stored[0].device):
            assign(slot.computed, value.clone())
        if not reads_back(slot, value):
            record.statuses[index] = "projected"


def _fill_from_streams(
    plan: Plan, slots: Sequence[Slot], chosen: Sequence[int], settings: Settings, record: Record
) -> None:
    """All slots from the streams of their names; those that owners compute one by one, through a tensor of its own."""
    assert settings.seed is not None  # what streams are named with
    plain = [index for index in chosen if slots[index].computed is None]
    # A part of a model may know a tied tensor by an alias alone: its stream is that of the plan's name.
    shares = plan.shares
    orders = _orders(plan, plain, [slots[index].tensor for index in plain], settings.measure)

    def done(places: Sequence[int]) -> None:
        for place in places:
            share = shares[plain[place]]
            if share.padding_row is not None:
                tensor = slots[plain[place]].tensor
                zero_padding(local_of(tensor), share.padding_row, share.distribution, region_of(tensor))
        record.done(*(plain[place] for place in places))

    try:
        moments = fill(orders, settings.seed, settings.threads, done)
    except FillError as error:
        raise FillError(plain[error.index]) from error.__cause__
    record.moments.update({index: found for index, found in zip(plain, moments, strict=True) if found is not None})
    for index in (index for index in chosen if slots[index].computed is not None):
        value = blank(slots[index])
        try:
            fill(_orders(plan, [index], [value], False), settings.seed, settings.threads, lambda _: None)
            zero_padding(value, plan.shares[index].padding_row, plan.shares[index].distribution)
            _hand_over(plan, slots[index], value, record, index, settings.seed)
        except FillError as error:
            raise FillError(index) from error.__cause__
        record.done(index)


def _redraw(source: Redrawn, value: torch.Tensor, settings: Settings) -> None:
    """Give what is held of a tensor the values that another has in the same places, from the streams of that one."""
    assert settings.seed is not None  # what sharded tensors need
    local, region = local_of(value), region_of(value)
    distribution = source.share.distribution
    assert isinstance(distribution, Drawn)  # what `initialized` means
    first, *further = source.casts
    drawn = local if {*source.casts} == {local.dtype} else torch.empty_like(local, dtype=first)
    fill(
        [Order(source.name, drawn, Kind(distribution, False, region))], settings.seed, settings.threads, lambda _: None
    )
    zero_padding(drawn, source.share.padding_row, distribution, region)
    if drawn is not local:
        for dtype in further:
            drawn = drawn.to(dtype)
        local.copy_(drawn)


@contextmanager
def _private_generator(seed: int | None, name: str, device: torch.device) -> Iterator[None]:
    """Setters may draw, as that of parametrizations.orthogonal does: under a seed from a generator of its own."""
    if seed is None:
        yield
        return
    with generators_kept(device):
        own = int(key_of(seed, name, "setter")[0])
        torch.default_generator.manual_seed(own)
        if device.type == "cuda":
            torch.cuda.manual_seed(own)
        yield


def _orders(plan: Plan, indices: Sequence[int], tensors: Sequence[torch.Tensor], measure: bool) -> list[Order]:
    """What is to be drawn; slots that are alike share its kind."""
    kinds: dict[tuple[int, Region | None], Kind] = {}
    orders = []
    names, shares = plan.names, plan.shares
    for index, tensor in zip(indices, tensors, strict=True):
        share, region = shares[index], None
        if type(tensor) not in PLAIN_TENSORS:
            region, tensor = region_of(tensor), local_of(tensor)
        kind = kinds.get((id(share), region))
        if kind is None:
            distribution = share.distribution
            assert isinstance(distribution, Drawn)  # what `initialized` means
            at_once = isinstance(distribution, Elementwise | Constant) and share.padding_row is None
            measured = measure and at_once and tensor.dtype in MEASURED
            kind = kinds[id(share), region] = Kind(distribution, measured, region)
        orders.append(Order(names[index], tensor, kind))
    return orders


def _interrupted(slot: Slot, error: BaseException, slots: Sequence[Slot], record: Record) -> ApplyError:
    reason = brief(error)
    written = [slots[index].name for index in sorted(record.written)]
    head = f"writing stopped at {slot.name}: {reason}\n{len(written)} of {record.total} slots had been written"
    rows = [f"  {row}" for row in shortened(written)]
    return ApplyError("\n".join([head + (":" if rows else ""), *rows]), [Finding(slot.name, reason)])
