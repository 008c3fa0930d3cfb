"""Tensors in chunks that threads share: whoever is free takes the next, and what comes of it is put in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import KERNEL_DTYPES, Measured, Moments, addresses_of, lie_in_order
from initplug.filling.batches import Lot, LotKind
from initplug.filling.cuts import cut_view, note_writes
from initplug.filling.pieces import Given, Piece, pieces
from initplug.filling.streams import DRAWN_AT_A_TIME, draw_of, fill_box, fill_memory
from initplug.kernels.reference import table_of

ChunkResult = TypeVar("ChunkResult")


class FillError(Exception):
    """A tensor that could not be filled, or computed, by its row; the cause is the exception's own."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


@dataclass(frozen=True, slots=True)
class Job:
    """A stretch of a piece that is worked on at a time.

    Args:
        row: of the tensor.
        kind: of its draw.
        out: at most `DRAWN_AT_A_TIME` elements, in the order of the piece.
        begin: place of the first in the piece.
        piece: that they belong to.
    """

    row: int
    kind: LotKind
    out: Tensor
    begin: int
    piece: Piece

    @property
    def in_place(self) -> bool:
        """Return whether kernels write the elements where they are."""
        mapped = self.piece.distribution.sampling.mapped
        return mapped is None and self.out.dtype in KERNEL_DTYPES and lie_in_order([self.out])

    def draw_in_place(self) -> Moments | None:
        """Write the draws that belong here, and return their moments if they are to be measured."""
        piece, measured = self.piece, Measured.none(1) if self.kind.measured else None
        fill_memory(
            addresses_of([self.out]),
            KERNEL_DTYPES[self.out.dtype],
            table_of([draw_of(piece.distribution)]),
            piece.key.reshape(1, 2),
            piece.box,
            self.begin,
            self.size,
            None if measured is None else measured.table,
        )
        note_writes([self.out])
        return None if measured is None else measured[0]

    def drawn(self, scratch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the draws that belong here, in memory for `DRAWN_AT_A_TIME` of them."""
        values = scratch[: self.size]
        fill_box(values, self.piece.distribution, self.piece.key, self.piece.box, self.begin)
        return values

    @property
    def size(self) -> int:
        """The number of its elements."""
        return self.out.numel()


@dataclass(frozen=True)
class ChunkWork(Generic[ChunkResult]):
    """The work that is done with every tensor.

    Args:
        draws: with a stretch of draws, given memory for `DRAWN_AT_A_TIME` elements; any thread calls it.
        given: with what is known as a whole, given the row of its tensor; one thread at a time calls it.
        done: with the row of a tensor that is finished; one thread at a time calls it.
    """

    draws: Callable[[Job, NDArray[np.float32]], ChunkResult | None]
    given: Callable[[int, Given], ChunkResult | None]
    done: Callable[[int], None]


MOST_WORKERS = 256
"""More threads than this draw no faster anywhere, and a system may not have them."""


def work_on_chunks(
    lots: Sequence[Lot], seed: int, threads: int, work: ChunkWork[ChunkResult]
) -> dict[int, list[ChunkResult]]:
    """Work on tensors, one after the other, in chunks that threads share.

    Returns:
        By the tensor's row, what came of its chunks, in their order, whichever thread did them.

    Raises:
        FillError: from what was raised.
    """
    tensors = [
        (int(row), name, tensor, distribution, kind)
        for kind, *columns in lots
        for distribution, row, name, tensor in zip(*columns, strict=True)
    ]
    if not tensors:
        return {}
    # Chunks of a tensor are taken in order but may end in any.
    found: dict[int, list[tuple[int, ChunkResult]]] = {row: [] for row, *_ in tensors}
    left = dict.fromkeys(found, 1)  # jobs that are not done, and one for the cutting
    lock, failed = threading.Lock(), threading.Event()

    def note(row: int, place: int, outcome: ChunkResult | None) -> None:
        if outcome is not None:
            found[row].append((place, outcome))

    def count_down(row: int) -> None:
        left[row] -= 1
        if not left[row]:
            work.done(row)

    def jobs() -> Iterator[tuple[int, Job]]:
        """Yield the jobs, numbered; on the way hand on what is known as a whole, and end tensors that are cut."""
        place = 0
        for row, name, tensor, distribution, kind in tensors:
            try:
                for piece in pieces(distribution, tensor, seed, name, kind.region, kind.padding_row):
                    if isinstance(piece, Given):
                        note(row, place, work.given(row, piece))
                        place += 1
                        continue
                    for out, begin in cut_view(piece.view, DRAWN_AT_A_TIME):
                        left[row] += 1
                        yield place, Job(row, kind, out, begin, piece)
                        place += 1
            except Exception as error:
                raise FillError(row) from error
            count_down(row)

    queue = jobs()

    def until_done() -> None:
        scratch = np.empty(DRAWN_AT_A_TIME, np.float32)
        while not failed.is_set():
            with lock:
                place, job = next(queue, (-1, None))
            if job is None:
                return
            try:
                outcome = work.draws(job, scratch)
            except Exception as error:
                raise FillError(job.row) from error
            with lock:
                note(job.row, place, outcome)
                count_down(job.row)

    threads = min(threads, MOST_WORKERS)
    inferring = torch.is_inference_mode_enabled()  # which every thread must say for itself

    def guarded() -> None:
        try:
            with torch.inference_mode(inferring), torch.no_grad():
                until_done()
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
    return {row: [outcome for _, outcome in sorted(parts, key=itemgetter(0))] for row, parts in found.items()}
