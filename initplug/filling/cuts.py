"""Tensors cut to pieces, and writes of pieces so short that torch makes them in the calling thread alone.

Torch's own pool of threads spins while it waits, which beside busy neighbours takes many times as long as the work, and
knows nothing of how many threads were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from initplug.auditing.moments import MEASURED_AT_A_TIME
from initplug.torch_versions import mark_written

SERIAL = MEASURED_AT_A_TIME
"""Elements up to which torch copies, and below which it adds up, in the calling thread."""


def cut_view(view: Tensor, most: int, begin: int = 0) -> Iterator[tuple[Tensor, int]]:
    """Yield views of at most `most` elements that follow each other in row-major order, with the place of their first.

    Example:
        >>> import torch
        >>> [(tuple(part.shape), place) for part, place in cut_view(torch.empty(3, 4).t(), 6)]
        [((2, 3), 0), ((2, 3), 6)]
    """
    if view.numel() <= most:
        if view.numel():
            yield view, begin
    elif view.is_contiguous():
        flat = view.view(-1)
        yield from ((flat[first : first + most], begin + first) for first in range(0, flat.numel(), most))
    else:
        inner = view.numel() // view.shape[0]
        rows = max(most // inner, 1)
        for row in range(0, view.shape[0], rows):
            part = view.narrow(0, row, min(rows, view.shape[0] - row))
            yield from cut_view(part if inner <= most else part[0], most, begin + row * inner)


def paired_pieces(view: Tensor, values: Tensor, begin: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield two tensors of the same shape cut to the same short pieces, with the place of their first element.

    Args:
        view: any dtype and layout.
        values: likewise; best in row-major order.
        begin: place of the first element.
    """
    if view.numel() <= SERIAL:
        if view.numel():
            yield view, values, begin
    elif values.is_contiguous():
        flat = values.view(-1)
        for piece, place in cut_view(view, SERIAL):
            yield piece, flat[place : place + piece.numel()].view(piece.shape), begin + place
    else:
        inner = view.numel() // view.shape[0]
        for row, (one, other) in enumerate(zip(view.unbind(0), values.unbind(0), strict=True)):
            yield from paired_pieces(one, other, begin + row * inner)


def give(view: Tensor, values: Tensor) -> None:
    """Write values of the same shape, cast to the dtype; both may have any layout."""
    if view.is_cpu and values.is_cpu:
        for piece, part, _ in paired_pieces(view, values):
            piece.copy_(part)
    else:
        view.copy_(values)


def set_to(view: Tensor, value: float) -> None:
    """Write one value throughout."""
    if view.is_cpu:
        for piece, _ in cut_view(view, SERIAL):
            piece.fill_(value)
    else:
        view.fill_(value)


def note_writes(tensors: Sequence[Tensor]) -> None:
    """Tell autograd of tensors that were written past torch, so that a backward pass which needs old values refuses."""
    if torch.is_inference_mode_enabled():  # elsewhere none can be written that autograd knows nothing of
        tensors = [tensor for tensor in tensors if not tensor.is_inference()]
    mark_written(tensors)
