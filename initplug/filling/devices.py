"""Tensors of CUDA and ROCm devices, filled where they are: the values of the CPU, without the way over the bus."""

from __future__ import annotations

import math
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from initplug.auditing.moments import Moments, together
from initplug.filling.cuts import cut_view
from initplug.filling.pieces import Piece
from initplug.filling.streams import draw_of
from initplug.kernels import cuda
from initplug.kernels.reference import normal_table
from initplug.schemes.compositions import Drawn, singles
from initplug.schemes.distributions import Elementwise

DRAWN_DTYPES = frozenset(
    {torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128}
)
"""The dtypes that kernels write, of complex elements one part after the other."""

DRAWN_BESIDE = 1 << 22
"""Elements that are drawn beside a tensor whose memory has another order or gaps, or measured at a time."""


def is_drawn_there(tensor: Tensor, distribution: Drawn) -> bool:
    """Return whether a tensor is on a device that draws such a distribution itself: none that NumPy maps."""
    if not (tensor.is_cuda and tensor.dtype in DRAWN_DTYPES and cuda.available()):
        return False
    drawn = (single for single in singles(distribution) if isinstance(single, Elementwise))
    return all(single.sampling.mapped is None for single in drawn)


def draw_there(piece: Piece) -> None:
    """Give a view its draws on the device that it is on."""
    view, box = piece.view, piece.box
    if not view.numel():
        return
    firsts, length = box.runs
    pitches = np.unique(np.diff(firsts))
    in_order = view.is_contiguous() and not view.is_neg()
    if len(pitches) > 1 or not (in_order or view.numel() <= DRAWN_BESIDE):
        dim = next(dim for dim, size in enumerate(view.shape) if size > 1)
        half = view.shape[dim] // 2
        for begin, size in ((0, half), (half, view.shape[dim] - half)):
            part = view.narrow(dim, begin, size)
            draw_there(Piece(part, piece.distribution, piece.key, box.part(dim, begin, size)))
        return
    out = view if in_order else torch.empty(view.shape, dtype=view.dtype, device=view.device)
    low, high = piece.key.tolist()
    rows = cuda.StreamRows(length, int(pitches[0])) if len(pitches) else None
    cuda.fill(out, (low, high), int(firsts[0]), _table_on(view.device), draw_of(piece.distribution), rows)
    if out is not view:
        view.copy_(out)


def measure_there(tensor: Tensor) -> Moments:
    """Measure a tensor of one element or more in double precision on the device that it is on.

    Example:
        >>> measure_there(torch.tensor([1.0, 3.0]))
        Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0)
    """
    sizes, found = [], []
    for part, _ in cut_view(tensor, DRAWN_BESIDE):
        wide = part.to(torch.float64)
        mean = wide.mean()
        sizes.append(part.numel())
        found.append(torch.stack([mean, (wide - mean).square_().mean(), wide.min(), wide.max()]))
    moments = [
        Moments(size, low, 0.0, low, high) if low == high else Moments(size, mean, math.sqrt(variance), low, high)
        for size, (mean, variance, low, high) in zip(sizes, torch.stack(found).tolist(), strict=True)
    ]
    return reduce(together, moments)


@lru_cache
def _table_on(device: torch.device) -> Tensor:
    """Return the table of normals on a device, where it stays."""
    return cuda.table_on(device, normal_table())
