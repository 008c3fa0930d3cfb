"""Values computed again under a seed, and compared to the bit with what tensors hold: chunk by chunk, of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import array_of, lie_in_order
from initplug.auditing.repetition import WORD_DTYPES
from initplug.columns import Rows, coded
from initplug.filling.batches import Lot, LotKind, one_by_one, parted, values_of
from initplug.filling.chunks import ChunkWork, Job, work_on_chunks
from initplug.filling.cuts import SERIAL, cut_view, paired_pieces
from initplug.filling.pieces import Given
from initplug.filling.sharding import local_of, region_of
from initplug.filling.sources import Redrawn
from initplug.filling.work import Work
from initplug.filling.write import lots_of
from initplug.planning.assignment import Share
from initplug.planning.slots import Slot
from initplug.regions import Box
from initplug.schemes.compositions import Drawn

Casts = tuple[torch.dtype, ...]


class Difference(NamedTuple):
    """The difference between the elements that a tensor holds and those that it was to be given.

    Args:
        unequal: how many differ.
        total: how many were compared.
        place: of the first that differs, in the whole tensor.
        found: that element.
        expected: what it was to be.
        most: by how much elements are off, at most.
    """

    unequal: int
    total: int
    place: tuple[int, ...] = ()
    found: float = 0.0
    expected: float = 0.0
    most: float = 0.0

    def then(self, other: Difference) -> Difference:
        """Return the difference of both parts of a tensor, of which this one is the first."""
        first = self if self.unequal else other
        most = self.most if math.isnan(self.most) else max(other.most, self.most)  # of NaN `max` keeps the first
        return first._replace(unequal=self.unequal + other.unequal, total=self.total + other.total, most=most)


class Compared(NamedTuple):
    """The outcome of comparing a tensor.

    Args:
        difference: from what it was to be given.
        rounded: the dtype through which the values must have gone, if that explains it all.
    """

    difference: Difference
    rounded: torch.dtype | None = None


NARROW_DTYPES = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
"""Dtypes that values may have been rounded to on their way."""


def compared_to_seed(
    work: Work, rows: Rows, copies: Mapping[int, Redrawn], done: Callable[[int], None]
) -> dict[int, Compared]:
    """Return what tells tensors from what a seed gives them, in bounded memory but for what is drawn as a whole.

    Args:
        work: with the seed.
        rows: of slots that are drawn and that their owners hold themselves.
        copies: what else is compared: copies, with what their values were drawn for.
        done: called with how many more are compared, by one thread at a time.

    Raises:
        FillError: values cannot be computed again.
    """
    plan, slots, seed, threads = work.plan, work.slots, work.settings.seed, work.settings.threads
    assert seed is not None  # without one there is nothing to compute
    found: dict[int, Compared] = {}
    padded = plan.shares.taken(rows).mask(lambda share: share.padding_row is not None)
    small, large = parted(lots_of(plan, slots, rows[~padded], measure=False))
    lots = one_by_one(large)
    with torch.no_grad():
        for lot in small:
            equal = _equal_tensors(lot, seed)
            found.update(
                (int(lot.rows[place]), Compared(Difference(0, lot.numel))) for place in np.flatnonzero(equal).tolist()
            )
            lots += [lot.part(place, place + 1) for place in np.flatnonzero(~equal).tolist()]
            done(int(equal.sum()))
    lots += [_lot_of_one(row, plan.names[row], slots[row], plan.shares[row]) for row in rows[padded].tolist()]
    lots += [_lot_of_one(row, source.name, slots[row], source.share) for row, source in copies.items()]
    casts = {row: source.casts for row, source in copies.items()}
    differences = _differences(lots, casts, seed, threads, lambda: done(1))
    found.update((row, Compared(one)) for row, one in differences.items())
    for narrow in NARROW_DTYPES:
        doubtful = [lot for lot in lots if _may_be_rounded(lot, differences[int(lot.rows[0])], narrow)]
        through = {row: (*casts.get(row, ()), narrow) for lot in doubtful for row in map(int, lot.rows)}
        for row, rest in _differences(doubtful, through, seed, threads, lambda: None).items():
            if not rest.unequal:
                found[row] = Compared(differences[row], narrow)
    return found


def _lot_of_one(row: int, name: str, slot: Slot, share: Share) -> Lot:
    assert isinstance(share.distribution, Drawn)  # as everything that is compared here
    tensor = slot.tensor
    kind = LotKind(False, region_of(tensor), share.padding_row)
    return Lot(kind, coded([share.distribution]), [row], [name], [local_of(tensor).detach()])


# Small tensors ------------------------------------------------------------------------------------------------


def _equal_tensors(lot: Lot, seed: int) -> NDArray[np.bool_]:
    """Return of each tensor of a lot whether it holds what it was to be given."""
    expected, equal = values_of(lot, seed), np.empty(len(lot.rows), np.bool_)
    step = max((SERIAL - 1) // lot.numel, 1)
    for start in range(0, len(lot.rows), step):
        held = torch.stack([*lot.tensors[start : start + step]])
        same_bits = bits(held) == bits(expected[start : start + step])
        equal[start : start + step] = same_bits.reshape(len(held), -1).all(1)
    return equal


def bits(values: Tensor) -> NDArray[np.integer]:
    """Return the elements in row-major order as whole numbers of the same bits; of complex ones both parts."""
    values = values.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    flat = values.resolve_neg().reshape(-1).cpu()
    words: NDArray[np.integer] = array_of(flat.view(WORD_DTYPES[flat.element_size()]))
    return words


# Chunks -------------------------------------------------------------------------------------------------------


def _differences(
    lots: Sequence[Lot], casts: Mapping[int, Casts], seed: int, threads: int, done: Callable[[], None]
) -> dict[int, Difference]:
    """Return what tells tensors from what they were to be given, which may take further dtypes on its way."""

    def draws(job: Job, scratch: NDArray[np.float32]) -> Difference:
        values, out, box = job.drawn(scratch), job.out, job.piece.box
        through = casts.get(job.row, ())
        if not through and out.dtype == torch.float32 and lie_in_order([out]):  # nearly always
            held = array_of(out.view(-1))
            if np.array_equal(held.view(np.int32), values.view(np.int32)):
                return Difference(0, job.size)
        drawn = torch.from_numpy(values).view(out.shape)
        return _summed(_difference(*pair, through, box, job.begin) for pair in paired_pieces(out, drawn))

    def given(row: int, one: Given) -> Difference:
        through = casts.get(row, ())
        if isinstance(one.values, Tensor):
            pairs: Iterator[tuple[Tensor, Tensor, int]] = paired_pieces(one.view, one.values)
        else:
            constant = torch.empty((), dtype=one.view.dtype).fill_(one.values)
            pairs = ((piece, constant.expand(piece.shape), begin) for piece, begin in cut_view(one.view, SERIAL))
        return _summed(_difference(*pair, through, one.box, 0) for pair in pairs)

    parts = work_on_chunks(lots, seed, threads, ChunkWork(draws, given, lambda _: done()))
    return {row: _summed(iter(part)) for row, part in parts.items()}


def _summed(parts: Iterator[Difference]) -> Difference:
    return reduce(Difference.then, parts, Difference(0, 0))


def _difference(found: Tensor, values: Tensor, begin: int, casts: Casts, box: Box, offset: int) -> Difference:
    """Return what tells a short piece from the values that it was to be given.

    Args:
        found: what is held.
        values: that were computed, of the same shape.
        begin: place of the first in what was cut.
        casts: the dtypes that the values take before that of the tensor.
        box: that the piece is a part of.
        offset: place in the box of what was cut.
    """
    for dtype in casts:  # the parts of complex elements are drawn apart
        values = values.to(dtype.to_real() if dtype.is_complex and not found.is_complex() else dtype)
    values = values.to(found.dtype)
    held, expected = bits(found), bits(values)
    unequal = held != expected
    if found.is_complex():
        unequal = unequal.reshape(-1, 2).any(1)
    where = np.flatnonzero(unequal)
    if not len(where):
        return Difference(0, found.numel())
    chosen = torch.from_numpy(where)
    one, other = (_wide(tensor)[chosen] for tensor in (found, values))
    off = (one - other).abs()
    place = np.unravel_index(begin + offset + int(where[0]), box.sizes)
    return Difference(
        unequal=len(where),
        total=found.numel(),
        place=tuple(int(start + index) for start, index in zip(box.starts, place, strict=True)),
        found=float(one[0].real),
        expected=float(other[0].real),
        most=float(off.amax()),
    )


def _wide(values: Tensor) -> Tensor:
    flat = values.detach().reshape(-1).cpu()
    return flat.to(torch.complex128 if flat.is_complex() else torch.float64)


def difference(found: Tensor, expected: Tensor) -> Difference:
    """Return what tells a whole tensor from another of its shape."""
    whole = Box.whole(found.shape)
    return _summed(_difference(*pair, (), whole, 0) for pair in paired_pieces(found, expected))


def _may_be_rounded(lot: Lot, difference: Difference, narrow: torch.dtype) -> bool:
    """Return whether rounding to a narrower dtype explains the first element that differs in the tensor of a lot."""
    dtype = lot.tensors[0].dtype
    if not difference.unequal or not dtype.is_floating_point or dtype.itemsize < narrow.itemsize or dtype == narrow:
        return False
    rounded = torch.tensor(difference.expected, dtype=torch.float64).to(dtype).to(narrow).to(dtype)
    return float(rounded) == difference.found
