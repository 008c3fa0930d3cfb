"""Different tensors in the same memory: what is written last stays in both, and what was written before is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.audit import Status, to_write
from initplug.auditing.moments import ArrayMemory
from initplug.auditing.verdicts import Judgement
from initplug.columns import Coded, Rows
from initplug.errors import shortened, warn
from initplug.filling.copies import in_order
from initplug.filling.exact import compared_to_seed
from initplug.filling.sharding import local_of
from initplug.filling.work import Work
from initplug.planning.slots import PLAIN_TENSORS, Slots
from initplug.schemes.compositions import Copy, Drawn, Load
from initplug.schemes.distributions import Constant


class Overlap(NamedTuple):
    """Two slots that share elements in memory.

    Args:
        first: row of the one that is written before the other, or kept.
        last: row of the other.
        whole: whether each lies where the other does, element by element.
    """

    first: int
    last: int
    whole: bool


def overlapping(work: Work) -> list[Overlap]:
    """Return slots whose tensors share elements in memory, of which one at least is to be written.

    Where both are to be written, that is warned of.
    """
    slots, written = work.slots, to_write(work.statuses)
    if not len(written):
        return []
    rows, tensors = _tensors_held(slots, work.statuses)
    starts = np.fromiter(map(Tensor.data_ptr, tensors), np.int64, len(tensors))
    if slots.plain and not slots.computed and all(map(Tensor.is_contiguous, tensors)):
        ends = starts + slots.kins.taken(rows).numbers(lambda kin: kin.nbytes)
    else:
        ends = starts + np.fromiter(map(_bytes_spanned, tensors), np.int64, len(tensors))
    order = np.argsort(starts)
    if (starts[order][1:] >= ends[order][:-1]).all():  # nearly always; parts of tensors only seem to share some
        return []
    turns = _turns(work, written)
    writing, found = {*written.tolist()}, []
    for one, other, whole in _shared(rows, tensors, [turns.get(row, (0,)) for row in rows]):
        if one != other and (one in writing or other in writing):
            first, last = sorted((one, other), key=lambda row: turns.get(row, (0,)))
            found.append(Overlap(first, last, whole))
    found = [*dict.fromkeys(found)]
    both = [f"{slots[one].name} and {slots[last].name}" for one, last, _ in found if one in writing]
    if both:
        warn(f"{'; '.join(shortened(both))} are different tensors in the same memory: the last write stays in both")
    return found


def _tensors_held(slots: Slots, statuses: Coded[Status]) -> tuple[list[int], list[Tensor]]:
    """Return the tensors in which slots that are written or kept have their values, each with the row of its slot."""
    tensors, computed = slots.tensors, {*slots.computed}
    kept = statuses.where(lambda status: status == "kept").tolist()
    rows = [row for row in to_write(statuses).tolist() if row not in computed]
    rows += [row for row in kept if row not in computed and _lies(tensors[row])]
    parts = [(row, part) for row in computed if statuses[row] != "lazy" for part in slots[row].stored]
    parts = [(row, part) for row, part in parts if statuses[row] != "kept" or _lies(part)]
    held = [tensors[row] for row in rows] + [part for _, part in parts]
    if not slots.plain:
        held = [local_of(tensor) for tensor in held]
    return rows + [row for row, _ in parts], held


def _lies(tensor: Tensor) -> bool:
    """Return whether a tensor that is kept is one of torch's own, with elements in memory."""
    plain = type(tensor) in PLAIN_TENSORS and tensor.layout == torch.strided
    return plain and not tensor.is_meta and not tensor.is_nested


def _bytes_spanned(tensor: Tensor) -> int:
    """Return the number of bytes from the first element to the end of the last."""
    if tensor.is_contiguous():
        return tensor.numel() * tensor.element_size()
    steps = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return (steps + 1) * tensor.element_size()


Turn = tuple[int, ...]
"""When a slot is written: the smaller, the earlier."""


def _turns(work: Work, written: Rows) -> dict[int, Turn]:
    """Return the turn of each slot: under a seed first what owners hold, then what they compute, then copies.

    What is kept was there before.
    """
    places = {row: place for place, row in enumerate(in_order(work.plan, written).tolist())}
    if work.settings.seed is None:
        return {row: (1, place) for row, place in places.items()}
    computed, shares = {*work.slots.computed}, work.plan.shares
    return {
        row: (1, isinstance(shares[row].distribution, Copy | Load), row in computed, place)
        for row, place in places.items()
    }


# What lies in the same memory ---------------------------------------------------------------------------------


def _shared(rows: Sequence[int], tensors: Sequence[Tensor], turns: Sequence[Turn]) -> Iterator[tuple[int, int, bool]]:
    """Yield rows whose tensors share elements, in pairs, and whether they lie wholly in the same place.

    Of those that wholly do, each is paired with the one that is written after it, and the last with others.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place in sorted(range(len(rows)), key=lambda place: turns[place]):
        tensor = tensors[place]
        if not tensor.numel():  # a rank may hold nothing, which lies nowhere
            continue
        lies = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.element_size())
        alike.setdefault(lies, []).append(place)
    for places in alike.values():
        yield from ((rows[one], rows[other], True) for one, other in pairwise(places))
    lasts = [places[-1] for places in alike.values()]
    for one, other in _meeting([tensors[place] for place in lasts]):
        yield rows[lasts[one]], rows[lasts[other]], False


def _meeting(tensors: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Yield the places of tensors that share elements, in pairs: exactly those, whatever their strides."""
    starts = np.array([tensor.data_ptr() for tensor in tensors], np.int64)
    order = np.argsort(starts, kind="stable")
    sorted_tensors = [tensors[place] for place in order.tolist()]
    starts = starts[order]
    ends = starts + np.array([_bytes_spanned(tensor) for tensor in sorted_tensors], np.int64)
    periods, widths = np.array([_rows_of(tensor) for tensor in sorted_tensors], np.int64).T
    known: dict[int, NDArray[np.void]] = {}
    first, end = 0, 0
    for place, (start, period, width) in enumerate(
        zip(starts.tolist(), periods.tolist(), widths.tolist(), strict=True)
    ):
        if start >= end:
            first = place
        end = max(end, int(ends[place]))
        before = first + np.flatnonzero(ends[first:place] > start)
        offset = (start - starts[before]) % period
        apart = (periods[before] == period) & (offset >= widths[before]) & (offset + width <= period)
        for other in before[~apart].tolist():  # those side by side in rows of one length are apart, and may be many
            for one in (place, other):
                if one not in known:
                    known[one] = np.asarray(ArrayMemory(sorted_tensors[one], f"|V{sorted_tensors[one].element_size()}"))
            if np.shares_memory(known[place], known[other]):
                yield int(order[other]), int(order[place])


def _rows_of(tensor: Tensor) -> tuple[int, int]:
    """Return the bytes between slices along the dimension of the largest stride, and those that a slice spans."""
    size = tensor.element_size()
    steps = sorted(
        (stride * size, count) for stride, count in zip(tensor.stride(), tensor.shape, strict=True) if count > 1
    )
    if not steps or not steps[-1][0]:
        return size, size
    *inner, (period, _) = steps
    return period, size + sum(stride * (count - 1) for stride, count in inner)


# What is lost -------------------------------------------------------------------------------------------------


def overwritten(work: Work, overlaps: Sequence[Overlap]) -> dict[int, Judgement]:
    """Return judgements of what lost its values to a later write into its memory.

    Under a seed, whose threads write in no order, it is the values that tell who was written last.

    Args:
        work: that has been done.
        overlaps: among the slots.
    """
    if not overlaps:
        return {}
    plan, seed, shares, computed = work.plan, work.settings.seed, work.plan.shares, {*work.slots.computed}
    own = {row for pair in overlaps for row in pair[:2] if work.statuses[row] == "initialized"} - computed
    drawn = {row for row in own if isinstance(shares[row].distribution, Drawn)}
    held: set[int] = set()
    if seed is not None:
        rows = np.array(sorted(drawn), np.intp)
        found = compared_to_seed(work, rows, {}, lambda _: None)
        held = {row for row, one in found.items() if not one.difference.unequal}
    judgements: dict[int, Judgement] = {}
    for first, last, whole in overlaps:
        for row, other in ((first, last), (last, first)):
            lost = row not in held if seed is not None and row in drawn else row == first
            distribution, later = shares[row].distribution, shares[other].distribution
            same = isinstance(distribution, Constant) and distribution == later
            copied = whole and isinstance(later, Copy) and later.source == plan.names[row]
            if lost and not same and not copied:
                name = plan.names[other]
                judgements[row] = Judgement(
                    "differs", f"{name} was written into its memory afterwards", f"overwritten by {name}"
                )
    return judgements
