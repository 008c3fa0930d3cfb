"""Lots of tensors that are alike, and the small ones among them, which one call fills and measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import KERNEL_DTYPES, Measured, addresses_of, measure_alike
from initplug.columns import Coded, Rows
from initplug.filling.cuts import note_writes
from initplug.filling.streams import DRAWN_AT_A_TIME, draw_of, fill_memory
from initplug.filling.words import keys_of
from initplug.kernels.reference import Draw, Draws, table_of
from initplug.regions import Box, Region
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Elementwise


class LotKind(NamedTuple):
    """The properties of a draw that tensors which are alike share.

    Args:
        measured: whether each is measured as it is drawn, which takes one distribution for all elements.
        region: which part of the whole tensor is held; None for all.
        padding_row: of the whole, that is zero; None where there is none, or others see to it.
    """

    measured: bool
    region: Region | None = None
    padding_row: int | None = None


class Lot(NamedTuple):
    """Tensors to be filled that are alike: of one kind, shape, dtype and device.

    All have one distribution, or each any that is drawn element by element and not mapped.

    Args:
        kind: what they have in common.
        distributions: of the whole tensors.
        rows: where each stands, in whatever they are rows of.
        names: canonical ones, which select their streams.
        tensors: any dtype, layout and device that the distribution fits; what is held of them, if not all is.
    """

    kind: LotKind
    distributions: Coded[Drawn]
    rows: Sequence[int] | Rows
    names: Sequence[str]
    tensors: Sequence[Tensor]

    @property
    def numel(self) -> int:
        """Elements that are held of each."""
        return self.tensors[0].numel()

    def part(self, start: int, end: int) -> Lot:
        """Return some of them that follow each other."""
        rows, names, tensors = self.rows[start:end], self.names[start:end], self.tensors[start:end]
        return Lot(self.kind, self.distributions[start:end], rows, names, tensors)


def one_by_one(lots: Iterable[Lot]) -> list[Lot]:
    """Return a lot for each tensor, in the order of their rows."""
    found = [lot.part(place, place + 1) for lot in lots for place in range(len(lot.rows))]
    return sorted(found, key=lambda lot: int(lot.rows[0]))


SMALL = 1 << 12
"""Elements up to which a tensor is small."""


def parted(lots: Sequence[Lot]) -> tuple[list[Lot], list[Lot]]:
    """Return the lots of small tensors, at most `DRAWN_AT_A_TIME` elements each, and the others."""
    small: list[Lot] = []
    large: list[Lot] = []
    for lot in lots:
        if lot.tensors[0].numel() <= SMALL and _is_one_call(lot):
            step = DRAWN_AT_A_TIME // lot.numel
            small += [lot.part(start, start + step) for start in range(0, len(lot.rows), step)]
        else:
            large.append(lot)
    return small, large


def _is_one_call(lot: Lot) -> bool:
    """Return whether one call gives all tensors of a lot their values."""
    (_, region, padding_row), distribution, tensor = lot.kind, lot.distributions[0], lot.tensors[0]
    if not tensor.numel() or tensor.dtype not in KERNEL_DTYPES or padding_row is not None:
        return False
    drawn = isinstance(distribution, Elementwise) and distribution.sampling.mapped is None
    plain = isinstance(distribution, Constant) or (drawn and (region is None or len(region.boxes) == 1))
    return plain and not any(map(Tensor.is_neg, lot.tensors))


def draw_small(lot: Lot, seed: int, measured: Measured) -> None:
    """Fill a lot of small tensors; the values are those that each would get alone.

    Args:
        lot: the tensors.
        seed: of all streams.
        measured: takes the moments of each in its row, if they are to be measured.
    """
    distribution, tensors = lot.distributions[0], [*lot.tensors]
    in_order = tensors[0].is_cpu and all(map(Tensor.is_contiguous, tensors))  # of one device, and none negated
    if isinstance(distribution, Elementwise) and in_order:
        found = Measured.none(len(tensors)) if lot.kind.measured else None
        _draw_at(addresses_of(tensors), lot, seed, None if found is None else found.table)
        note_writes(tensors)
    else:
        if _is_zero(distribution):
            torch._foreach_zero_(tensors)
        elif isinstance(distribution, Constant):
            torch._foreach_copy_(tensors, [_value(distribution, tensors[0])] * len(tensors))
        else:
            torch._foreach_copy_(tensors, [values.view(tensors[0].shape) for values in values_of(lot, seed).unbind(0)])
        found = measure_alike(tensors, in_order=in_order) if lot.kind.measured else None
    if found is not None:
        measured.put(lot.rows, found)


def _is_zero(distribution: Drawn) -> bool:
    """Return whether it gives 0, and not the -0 that is equal to it."""
    return isinstance(distribution, Constant) and distribution.value == 0 and math.copysign(1, distribution.value) > 0


def _value(constant: Constant, tensor: Tensor) -> Tensor:
    """Return a constant in the shape of a tensor."""
    return torch.full(tensor.shape, constant.value, dtype=tensor.dtype, device=tensor.device)


def values_of(lot: Lot, seed: int) -> Tensor:
    """Return what the small tensors of a lot are given, in a row of their dtype for each."""
    constant, first = lot.distributions[0], lot.tensors[0]
    if isinstance(constant, Constant):
        return _value(constant, first).view(1, -1).expand(len(lot.tensors), -1)
    values = torch.empty((len(lot.tensors), lot.numel), dtype=first.dtype)
    _draw_at(addresses_of(values.unbind(0)), lot, seed, None)
    return values


def _draw_at(addresses: NDArray[np.uintp], lot: Lot, seed: int, measured: NDArray[Any] | None) -> None:
    """Write what is drawn for every tensor of a lot to an address each."""
    first, region = lot.tensors[0], lot.kind.region
    box = Box.whole(first.shape) if region is None else region.boxes[0][1]
    keys, dtype = keys_of(seed, lot.names), KERNEL_DTYPES[first.dtype]
    fill_memory(addresses, dtype, draws_of(lot.distributions), keys, box, 0, lot.numel, measured)


def draws_of(distributions: Coded[Drawn]) -> Draws:
    """Return how kernels draw each of some distributions, all of them element by element."""
    packed = distributions.packed()
    return table_of(map(_draw, packed.values))[packed.codes]


def _draw(distribution: Drawn) -> Draw:
    assert isinstance(distribution, Elementwise)  # as is everything small that is no constant
    return draw_of(distribution)
