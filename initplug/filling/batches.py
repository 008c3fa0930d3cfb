"""Small tensors from the streams of their names, many at a time: words, writes and moments in one go each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from initplug.auditing.moments import Measured, measure_alike
from initplug.columns import Rows
from initplug.filling.streams import DRAWN_AT_A_TIME, sampler
from initplug.filling.words import BLOCK, WordSource, keys_of, words_of_many
from initplug.regions import Region
from initplug.schemes.distributions import Constant, Drawn, Elementwise


class LotKind(NamedTuple):
    """A kind of draw, for tensors that are alike: of one shape and dtype.

    Args:
        distribution: of the whole tensor.
        measured: whether it is measured as it is drawn, which takes one distribution for all elements.
        region: which part of the whole tensor is held; None for all.
        padding_row: of the whole, that is zero; None where there is none, or others see to it.
    """

    distribution: Drawn
    measured: bool
    region: Region | None = None
    padding_row: int | None = None


class Lot(NamedTuple):
    """Tensors to be filled that are alike: of one kind, shape, dtype and device.

    Args:
        kind: what they have in common.
        rows: where each stands, in whatever they are rows of.
        names: canonical ones, which select their streams.
        tensors: any dtype, layout and device that the distribution fits; what is held of them, if not all is.
    """

    kind: LotKind
    rows: Sequence[int] | Rows
    names: Sequence[str]
    tensors: Sequence[Tensor]

    @property
    def numel(self) -> int:
        """Elements that are held of each."""
        return self.tensors[0].numel()

    def part(self, start: int, end: int) -> Lot:
        """Return some of them that follow each other."""
        return Lot(self.kind, self.rows[start:end], self.names[start:end], self.tensors[start:end])


def one_by_one(lots: Iterable[Lot]) -> list[Lot]:
    """Return a lot for each tensor, in the order of their rows."""
    found = [lot.part(place, place + 1) for lot in lots for place in range(len(lot.rows))]
    return sorted(found, key=lambda lot: int(lot.rows[0]))


SMALL = 1 << 12
"""Elements up to which tensors are drawn in batches."""

FINE = 1 << 15
"""Elements that one thread computes at a time: its scratch lies in the first-level cache, near enough."""

Batch = list[Lot]
"""Small tensors of one distribution, dtype and device; at most `DRAWN_AT_A_TIME` elements."""


def batches(lots: Sequence[Lot]) -> tuple[list[Batch], list[Lot]]:
    """Return the lots of small tensors in batches, and the others."""
    groups: dict[Any, list[Lot]] = {}
    large: list[Lot] = []
    for lot in lots:
        (distribution, measured, region, _), tensor = lot.kind, lot.tensors[0]
        drawn = isinstance(distribution, Elementwise) and _is_run(region)
        plain = (drawn or isinstance(distribution, Constant)) and tensor.is_floating_point()
        if plain and 0 < tensor.numel() <= SMALL and not any(map(Tensor.is_neg, lot.tensors)):
            groups.setdefault((distribution, tensor.dtype, tensor.device, measured), []).append(lot)
        else:
            large.append(lot)
    found: list[Batch] = []
    for alike in groups.values():
        room = 0
        for lot in alike:
            padded, start = _padded(lot), 0
            while start < len(lot.rows):
                if room < padded:
                    found.append([])
                    room = DRAWN_AT_A_TIME
                end = min(start + room // padded, len(lot.rows))
                found[-1].append(lot.part(start, end))
                room -= (end - start) * padded
                start = end
    return found, large


def draw_batch(batch: Batch, seed: int, measured: Measured) -> None:
    """Fill small tensors of one distribution; the values are those that each would get alone.

    Args:
        batch: the tensors.
        seed: of all streams.
        measured: takes the moments of each in its row, if they are to be measured.
    """
    tensors = [tensor for lot in batch for tensor in lot.tensors]
    if all(_is_zero(lot.kind.distribution) for lot in batch):
        torch._foreach_zero_(tensors)
    else:
        torch._foreach_copy_(tensors, values_of(batch, seed))
    for lot in batch:
        if lot.kind.measured:
            measured.put(lot.rows, measure_alike(lot.tensors))


def values_of(batch: Batch, seed: int) -> list[Tensor]:
    """Return what every tensor of a batch is given, in its shape, before the cast to its dtype."""
    constant = isinstance(batch[0].kind.distribution, Constant)
    return _constant_tensors(batch) if constant else _drawn_values(batch, seed)


def _is_zero(distribution: Drawn) -> bool:
    """Return whether it gives 0, and not the -0 that is equal to it, so that both may be in one batch."""
    return isinstance(distribution, Constant) and distribution.value == 0 and math.copysign(1, distribution.value) > 0


def _constant_tensors(batch: Batch) -> list[Tensor]:
    """Return a constant in the shape of every tensor."""
    found: list[Tensor] = []
    for (constant, *_), rows, _, (first, *_) in batch:
        assert isinstance(constant, Constant)  # as all of the batch
        found += [torch.full(first.shape, constant.value, dtype=first.dtype, device=first.device)] * len(rows)
    return found


def _drawn_values(batch: Batch, seed: int) -> list[Tensor]:
    """Return what is drawn for every tensor, in its shape."""
    keys = keys_of(seed, [name for lot in batch for name in lot.names])
    numels = np.array([lot.numel for lot in batch])
    starts = np.array([_start(lot) for lot in batch])
    rows = [len(lot.rows) for lot in batch]
    words, firsts = words_of_many(keys, np.repeat(numels, rows), np.repeat(starts, rows))
    values = np.empty(len(words), np.float32)
    sampler(batch[0].kind.distribution)(words, values, WordSource(FINE))
    drawn, place = torch.from_numpy(values), 0
    found: list[Tensor] = []
    for lot in batch:
        count, shape = len(lot.rows), lot.tensors[0].shape
        held = drawn.as_strided((count, lot.numel), (_padded(lot), 1), int(firsts[place]))
        found += held.view(count, *shape).unbind(0)
        place += count
    return found


def _is_run(region: Region | None) -> bool:
    """Return whether the elements that are held follow each other in the whole."""
    return region is None or (len(region.boxes) == 1 and len(region.boxes[0][1].runs[0]) == 1)


def _start(lot: Lot) -> int:
    """Return the place in the whole of the first element that is held."""
    region = lot.kind.region
    return 0 if region is None else int(region.boxes[0][1].runs[0][0])


def _padded(lot: Lot) -> int:
    """Return the words of the blocks that hold those of a tensor."""
    return -(-(_start(lot) % BLOCK + lot.numel) // BLOCK) * BLOCK
