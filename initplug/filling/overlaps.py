"""Different tensors in the same memory: what is written last stays in both, and what was written before is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from initplug.auditing import Status, to_write
from initplug.columns import Coded
from initplug.errors import warn
from initplug.filling.exactness import compared
from initplug.filling.execution import Settings
from initplug.filling.sharding import local_of
from initplug.filling.transferring import in_order
from initplug.judging import Judgement
from initplug.moments import is_dense
from initplug.planning.plan import Plan
from initplug.planning.slots import PLAIN_TENSORS, Slots
from initplug.schemes.distributions import Constant, Copy, Drawn


class _Stretch(NamedTuple):
    """Memory that a tensor lies in.

    Args:
        start: address of the first byte.
        dense: whether the tensor fills it.
        length: in bytes.
        name: of the slot.
        row: of the slot.
    """

    start: int
    dense: bool
    length: int
    name: str
    row: int


def overlapping(slots: Slots, statuses: Coded[Status]) -> list[tuple[int, int]]:
    """Rows of different tensors that share elements in memory, of which one at least is to be written, in pairs.

    Tensors share one if they begin at one address, or if both are dense and their stretches of memory overlap. Where
    both are to be written, that is warned of.
    """
    written = to_write(statuses)
    stored = np.setdiff1d(written, slots.computed) if slots.computed else written
    left = [*_left_alone(slots, statuses)] if len(stored) else []
    rows = np.sort(np.concatenate([stored, np.array(left, np.intp)]))
    chosen = slots.taken(rows)
    tensors = chosen.tensors if chosen.plain else [local_of(tensor) for tensor in chosen.tensors]
    starts = np.fromiter(map(Tensor.data_ptr, tensors), np.int64, len(tensors))
    ends = starts + chosen.kins.numbers(lambda kin: kin.nbytes)
    order = np.argsort(starts)
    if (starts[order][1:] >= ends[order][:-1]).all():  # nearly always; parts of tensors only seem to share some
        return []
    found, writing = [], {*stored.tolist()}
    for one, other in _pairs(zip(rows.tolist(), chosen.names, tensors, strict=True)):
        if one in writing and other in writing:
            names = f"{slots[one].name} and {slots[other].name}"
            warn(f"{names} are different tensors in the same memory: the last write stays in both")
        if one in writing or other in writing:
            found.append((one, other))
    return found


def _left_alone(slots: Slots, statuses: Coded[Status]) -> Iterator[int]:
    """The rows of tensors that are kept and hold values in memory of their own."""
    tensors = slots.tensors
    for row in statuses.where(lambda status: status == "kept").tolist():
        tensor = tensors[row]
        if type(tensor) in PLAIN_TENSORS and tensor.layout == torch.strided and not tensor.is_meta:
            yield row


def _pairs(tensors: Iterable[tuple[int, str, Tensor]]) -> Iterator[tuple[int, int]]:
    """Rows of tensors that share memory: each with one that begins before it, or where it does."""
    stretches = sorted(
        _Stretch(tensor.data_ptr(), tensor.is_contiguous() or is_dense(tensor), tensor.nbytes, name, row)
        for row, name, tensor in tensors
        if tensor.numel()  # a rank may hold nothing, which lies nowhere
    )
    end, widest, previous = 0, -1, _Stretch(-1, False, 0, "", -1)
    for stretch in stretches:
        start, dense, length, _, row = stretch
        other = previous.row if start == previous.start else widest if dense and start < end else -1
        if other >= 0:
            yield other, row
        previous = stretch
        if dense and start + length > end:
            end, widest = start + length, row


def overwritten(
    plan: Plan,
    slots: Slots,
    statuses: Coded[Status],
    pairs: Iterable[tuple[int, int]],
    settings: Settings,
) -> dict[int, Judgement]:
    """Judgements of what lost its values to a later write into its memory.

    Under a seed, whose threads write in no order, it is the values that tell who was written last.

    Args:
        plan: of the slots.
        slots: in its order.
        statuses: of the slots, which have been written.
        pairs: of rows that share memory.
        settings: with which they were written.
    """
    pairs = [*pairs]
    if not pairs:
        return {}
    shares = plan.shares
    places = {row: place for place, row in enumerate(in_order(plan, to_write(statuses)).tolist())}
    shared = {row for pair in pairs for row in pair if row in places and isinstance(shares[row].distribution, Drawn)}
    held: set[int] = set()
    if settings.seed is not None:
        rows = np.array(sorted(shared), np.intp)
        found = compared(plan, slots, rows, {}, settings.seed, settings.threads, lambda _: None)
        held = {row for row, one in found.items() if not one.difference.unequal}
    judgements: dict[int, Judgement] = {}
    for pair in pairs:
        first, last = sorted(pair, key=lambda row: places.get(row, -1))
        for row, other in ((first, last), (last, first)):
            lost = row not in held if settings.seed is not None and row in shared else row == first
            distribution, later = shares[row].distribution, shares[other].distribution
            same = isinstance(distribution, Constant) and distribution == later
            if lost and not same and not (isinstance(later, Copy) and later.source == plan.names[row]):
                name = plan.names[other]
                judgements[row] = Judgement(
                    "differs", f"{name} was written into its memory afterwards", f"overwritten by {name}"
                )
    return judgements
