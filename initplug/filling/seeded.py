"""Distributions as draws from named streams: the same values whatever the order, threads, dtype and layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import Measured, Moments, measure_array, together
from initplug.columns import Rows
from initplug.filling.batches import Lot, draw_small, one_by_one, parted
from initplug.filling.chunks import ChunkWork, FillError, Job, work_on_chunks
from initplug.filling.cuts import give, set_to
from initplug.filling.devices import draw_there, is_drawn_there, measure_there
from initplug.filling.pieces import Given, pieces
from initplug.schemes.distributions import Elementwise


def fill_from_names(
    lots: Sequence[Lot], seed: int, threads: int, measured: Measured, done: Callable[[Sequence[int] | Rows], None]
) -> None:
    """Fill tensors from the streams of their names.

    Args:
        lots: the tensors.
        seed: of all streams.
        threads: how many draw at a time; the values do not depend on it.
        measured: takes the moments of each that is to be measured in its row.
        done: called with the rows of tensors that are filled, by one thread at a time.

    Raises:
        FillError: from what was raised; the tensors that `done` was not called for may be filled in part.
    """
    small, large = parted(lots)
    there = [is_drawn_there(lot.tensors[0], lot.distributions[0]) for lot in large]
    with torch.no_grad():
        for lot in small:
            try:
                draw_small(lot, seed, measured)
            except Exception as error:
                raise FillError(int(lot.rows[0])) from error
            done(lot.rows)
        for lot in one_by_one(compress(large, there)):
            try:
                _fill_there(lot, seed, measured)
            except Exception as error:
                raise FillError(int(lot.rows[0])) from error
            done(lot.rows)
    here = one_by_one(lot for lot, elsewhere in zip(large, there, strict=True) if not elsewhere)
    filling = ChunkWork(_draw_stretch, _write_given, lambda row: done([row]))
    for row, moments in work_on_chunks(here, seed, threads, filling).items():
        if moments:
            measured[row] = reduce(together, moments)


def _fill_there(lot: Lot, seed: int, measured: Measured) -> None:
    """Fill tensors on the device that they are on, and measure them there if that is to be done."""
    kind, *columns = lot
    for distribution, row, name, tensor in zip(*columns, strict=True):
        for piece in pieces(distribution, tensor, seed, name, kind.region, kind.padding_row):
            if isinstance(piece, Given):
                _write_given(int(row), piece)
            else:
                draw_there(piece)
        if kind.measured and tensor.numel() and isinstance(distribution, Elementwise):
            measured[int(row)] = measure_there(tensor)


def _draw_stretch(job: Job, scratch: NDArray[np.float32]) -> Moments | None:
    """Give a stretch its values: in place where kernels can, else by one cast."""
    out, measured = job.out, job.kind.measured
    if job.in_place:
        return job.draw_in_place()
    values = job.drawn(scratch)
    drawn = torch.from_numpy(values).view(out.shape)
    give(out, drawn)
    if measured and out.dtype != torch.float32:  # what the tensor holds is what the cast left
        give(drawn, out)
    return measure_array(values)[0] if measured else None


def _write_given(_: int, given: Given) -> None:
    """Give a view the values that are known of it."""
    if isinstance(given.values, Tensor):
        give(given.view, given.values)
    else:
        set_to(given.view, given.values)
