"""Distributions as draws from named streams: the same values whatever the order, threads, dtype and layout."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.columns import Rows
from initplug.filling import streams
from initplug.filling.batches import FINE, Kind, Lot, batches, draw
from initplug.filling.cutting import cut, give, set_to
from initplug.filling.sharding import held_in
from initplug.filling.streams import CHUNK, Elementwise
from initplug.filling.whole import compute
from initplug.filling.words import STEP, Key, Source, key_of
from initplug.moments import Measured, Moments, measure_drawn, together
from initplug.regions import Box, Region, split
from initplug.schemes.distributions import (
    Batched,
    Constant,
    Drawn,
    Keep,
    Normal,
    Stacked,
    TruncatedNormal,
    Uniform,
)
from initplug.schemes.structures import Custom, Structured, check_tag


@dataclass(frozen=True, slots=True)
class Piece:
    """A view of a tensor whose elements are independent draws of one distribution.

    Args:
        view: of float, any dtype and layout.
        distribution: of every element.
        key: of the stream.
        box: the view's place in the whole tensor.
    """

    view: Tensor
    distribution: Elementwise
    key: Key
    box: Box


def pieces(distribution: Drawn, tensor: Tensor, seed: int, name: str, region: Region | None = None) -> Iterator[Piece]:
    """The views of a tensor that are drawn element by element; what is not is written on the way.

    Args:
        distribution: of the whole tensor.
        tensor: any dtype and layout that the distribution fits; what is held of it.
        seed: of all streams.
        name: canonical name of the tensor, which selects its own.
        region: which part of the whole tensor is held; None for all.

    Raises:
        ValueError: a function of others gives no such values; the tensor is as it was.
    """
    parts = [Part(view, box) for view, box in held_in(tensor, region)]
    found = _pieces(distribution, parts, seed, name, Box.whole(tensor.shape if region is None else region.shape))
    if isinstance(distribution, Stacked | Batched) and math.isnan(distribution.std):
        # A later part may fail: all are computed before one is written.
        found = iter(list(found))
    for one in found:
        if isinstance(one, Piece):
            yield one
        else:
            one()


class Part(NamedTuple):
    """What is held of a tensor in one box: a view with the sizes of the box."""

    view: Tensor
    box: Box


def _pieces(
    distribution: Drawn, parts: Sequence[Part], seed: int, name: str, extent: Box
) -> Iterator[Piece | Callable[[], object]]:
    """The views that are drawn element by element, and calls that write the others.

    Args:
        distribution: of the extent.
        parts: what is held of it.
        seed: of all streams.
        name: of the whole tensor.
        extent: which part of the whole tensor the distribution is of.
    """
    if not parts:
        return
    match distribution:
        case Stacked(shares, dim):
            for share, inner in zip(shares, split(extent, len(shares), dim), strict=True):
                if not isinstance(share, Keep):
                    yield from _pieces(share, _inside(parts, inner), seed, name, inner)
        case Batched(part, dims):
            for index in itertools.product(*(range(size) for size in extent.sizes[:dims])):
                inner = extent
                for dim, place in enumerate(index):
                    inner = inner.part(dim, place, 1)
                yield from _whole(part, _inside(parts, inner), seed, name, inner, inner.sizes[dims:])
        case Constant(value):
            yield from (partial(set_to, view, value) for view, _ in parts)
        case Normal(mean, std) if parts[0].view.is_complex():
            for view, box in parts:
                real, imaginary = torch.view_as_real(view).unbind(-1)
                yield Piece(real, Normal(mean, std / math.sqrt(2)), key_of(seed, name), box)
                yield Piece(imaginary, Normal(0.0, std / math.sqrt(2)), key_of(seed, name, "imag"), box)
        case Normal() | Uniform() | TruncatedNormal():
            yield from (Piece(view, distribution, key_of(seed, name), box) for view, box in parts)
        case _:
            yield from _whole(distribution, parts, seed, name, extent, extent.sizes)


def _whole(
    distribution: Structured, parts: Sequence[Part], seed: int, name: str, extent: Box, shape: tuple[int, ...]
) -> Iterator[Callable[[], object]]:
    """Calls that write what is held of a tensor that is computed as a whole, which is done once.

    Args:
        distribution: of the extent.
        parts: what is held of it; nothing is computed for nothing.
        seed: of all streams.
        name: of the whole tensor.
        extent: which part of the whole tensor is computed.
        shape: its sizes, those of a stack left out.
    """
    if not parts:
        return
    values = torch.from_numpy(compute(distribution, shape, Draws(seed, name, extent, shape)))
    dtype = parts[0].view.dtype
    if isinstance(distribution, Custom):
        values = values.to(dtype)
        if not torch.isfinite(values).all():
            raise ValueError(f"{distribution.name} gave values beyond {str(dtype).removeprefix('torch.')}")
    values = values.view(extent.sizes)
    yield from (partial(give, view, values[box.within(extent)]) for view, box in parts)


def _inside(parts: Sequence[Part], extent: Box) -> list[Part]:
    """What is held of an extent."""
    found = []
    for view, box in parts:
        shared = box.shared_with(extent)
        if shared.count:
            found.append(Part(view[shared.within(box)], shared))
    return found


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of a scheme that computes a tensor as a whole."""

    seed: int
    name: str
    box: Box
    shape: tuple[int, ...]
    kinds: dict[str, str] = field(default_factory=dict)

    def normal(self, tag: str) -> NDArray[np.float32]:
        """Standard normals of the tensor's shape, from the stream of this tag."""
        check_tag(self.kinds, tag, "normal")
        return self._drawn(Normal(0.0, 1.0), tag)

    def uniform(self, tag: str) -> NDArray[np.float32]:
        """Numbers in [0, 1) of the tensor's shape, from the stream of this tag."""
        check_tag(self.kinds, tag, "uniform")
        return self._drawn(Uniform(0.0, 1.0), tag)

    def _drawn(self, distribution: Elementwise, tag: str) -> NDArray[np.float32]:
        out = np.empty(math.prod(self.shape), np.float32)
        streams.fill(out, distribution, key_of(self.seed, self.name, tag), self.box, Source())
        return out.reshape(self.shape)


# Drawing ------------------------------------------------------------------------------------------------------


class FillError(Exception):
    """A tensor that could not be filled, by its row; the cause is the exception's own."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


@dataclass(frozen=True, slots=True)
class Job:
    """A stretch of a piece that is drawn at a time.

    Args:
        index: place of the tensor among the orders.
        out: at most CHUNK elements, in the order of the piece: the memory itself where it is plain float32 on the CPU.
        begin: place of the first in the piece.
        piece: that they belong to.
    """

    index: int
    out: Tensor | NDArray[np.float32]
    begin: int
    piece: Piece


class Order(NamedTuple):
    """One tensor to be filled: a lot of its own."""

    row: int
    name: str
    tensor: Tensor
    kind: Kind


def fill(
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
    small, large = batches(lots)
    with torch.no_grad():
        for batch in small:
            try:
                draw(batch, seed, measured)
            except Exception as error:
                raise FillError(int(batch[0].rows[0])) from error
            for lot in batch:
                done(lot.rows)
    orders = [
        Order(int(row), name, tensor, kind)
        for kind, *columns in large
        for row, name, tensor in zip(*columns, strict=True)
    ]
    if orders:
        _fill_large(sorted(orders, key=attrgetter("row")), seed, threads, measured, lambda row: done([row]))


def _fill_large(
    orders: Sequence[Order], seed: int, threads: int, measured: Measured, done: Callable[[int], None]
) -> None:
    """Fill tensors in chunks that threads share."""
    # Chunks of a tensor are taken in order but may end in any: their moments are added up in order.
    parts: list[list[tuple[int, Moments]]] = [[] for _ in orders]
    left = [1] * len(orders)  # jobs that are not done, and one for the cutting
    queue, lock, failed = _jobs(orders, seed), threading.Lock(), threading.Event()

    def less(index: int) -> None:
        left[index] -= 1
        if not left[index]:
            done(orders[index].row)

    def taken() -> Job | None:
        """The next job; tensors that are cut to the end on the way there are told of."""
        for job in queue:
            if isinstance(job, int):
                less(job)
            else:
                left[job.index] += 1
                return job
        return None

    def work() -> None:
        # One thread works best on pieces that the first-level cache holds; several wait for each other between calls.
        source = Source(STEP if threads > 1 else FINE)
        scratch = np.empty(CHUNK, np.float32)
        while not failed.is_set():
            with lock:
                job = taken()
            if job is None:
                return
            try:
                moments = _draw(job, source, scratch, orders[job.index].kind.measured)
            except Exception as error:
                raise FillError(orders[job.index].row) from error
            with lock:
                if moments is not None:
                    parts[job.index].append((job.begin, moments))
                less(job.index)

    inferring = torch.is_inference_mode_enabled()  # which every thread must say for itself

    def guarded() -> None:
        try:
            with torch.inference_mode(inferring), torch.no_grad():
                work()
        except BaseException:
            failed.set()
            raise

    if threads == 1:
        guarded()
    else:
        with ThreadPoolExecutor(threads) as pool:
            try:
                for outcome in [pool.submit(guarded) for _ in range(threads)]:
                    outcome.result()
            except BaseException:  # Ctrl-C reaches this thread alone
                failed.set()
                raise
    for order, part in zip(orders, parts, strict=True):
        if part:
            measured[order.row] = reduce(together, (moments for _, moments in sorted(part)))


# Chunks ------------------------------------------------------------------------------------------------------


def _jobs(orders: Sequence[Order], seed: int) -> Iterator[Job | int]:
    """The orders cut to chunks, each followed by its place once it is cut to the end."""
    for index, order in enumerate(orders):
        try:
            for piece in pieces(order.kind.distribution, order.tensor, seed, order.name, order.kind.region):
                yield from (Job(index, out, begin, piece) for out, begin in _stretches(piece.view))
        except Exception as error:
            raise FillError(order.row) from error
        yield index


def _stretches(view: Tensor) -> Iterator[tuple[Tensor | NDArray[np.float32], int]]:
    """At most CHUNK elements at a time in row-major order, with the place of their first."""
    if view.dtype == torch.float32 and view.device.type == "cpu" and view.is_contiguous():
        flat: NDArray[np.float32] = view.detach().view(-1).numpy()
        return ((flat[first:last], first) for first, last in streams.spans(len(flat)))
    return cut(view, CHUNK)


def _draw(job: Job, source: Source, scratch: NDArray[np.float32], measured: bool) -> Moments | None:
    """Give a stretch its values: in place where it can be, else by one cast."""
    out, piece = job.out, job.piece
    distribution = piece.distribution
    values = out if isinstance(out, np.ndarray) else scratch[: out.numel()]
    streams.fill(values, distribution, piece.key, piece.box, source, job.begin)
    if isinstance(out, Tensor):
        drawn = torch.from_numpy(values)
        give(out, drawn.view(out.shape))
        if measured and out.dtype != torch.float32:  # what the tensor holds is what the cast left
            give(drawn.view(out.shape), out)
    return measure_drawn(values, distribution.mean, distribution.std) if measured else None
