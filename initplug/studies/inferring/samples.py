"""Samples: what is known of the values of a tensor by which distributions are judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import Moments, measure
from initplug.schemes.compositions import Stacked

MOST = 8192
"""Elements of a tensor whose order statistics are looked at; moments and extremes are those of all."""

SHORTER = (torch.bfloat16, torch.float16)
"""Dtypes that values may have been rounded to before they came into a wider one."""


@dataclass(frozen=True)
class Sample:
    """The values of a tensor, or of its real or its imaginary parts, without a padding row.

    Args:
        tensor: of real floating point, of at least one element.
        moments: of all elements.
        ordered: up to `MOST` elements, spread evenly over the tensor, ascending.
        dtype: the shortest that holds all of them.
        complex: whether they are real and imaginary parts, along a last dimension.
    """

    tensor: Tensor
    moments: Moments
    ordered: NDArray[np.float64]
    dtype: torch.dtype
    complex: bool = False

    @property
    def numel(self) -> int:
        """The number of elements."""
        return self.moments.numel

    @cached_property
    def repeated(self) -> float:
        """The share of the ordered elements that equal the one before."""
        return float((np.diff(self.ordered) == 0).mean()) if len(self.ordered) > 1 else 0.0

    def parts(self, stacked: Stacked) -> list[Sample] | None:
        """Return the samples of the parts of a stack; None where the tensor has no such parts."""
        if self.tensor.ndim <= stacked.dim:
            return None
        size = self.tensor.shape[stacked.dim]
        if not stacked.sizes and size % len(stacked.parts):
            return None
        lengths = stacked.lengths(size)
        if sum(lengths) != size:
            return None
        return [sample_of(part) for part in torch.split(self.tensor, lengths, stacked.dim)]


def sample_of(tensor: Tensor, padding_row: int | None = None, *, complex_: bool = False) -> Sample:
    """Return what is known of the values of a tensor.

    Args:
        tensor: of real floating point, with values; not all of them in a padding row.
        padding_row: a row that nothing draws.
        complex_: whether its last dimension is that of real and imaginary parts.

    Example:
        >>> found = sample_of(torch.tensor([2.0, 1.0, 4.0]))
        >>> found.ordered.tolist(), found.moments.max, found.dtype
        ([1.0, 2.0, 4.0], 4.0, torch.bfloat16)
    """
    tensor = tensor.detach()
    if padding_row is not None:
        tensor = torch.cat([tensor[:padding_row], tensor[padding_row + 1 :]])
    moments = measure(tensor)
    assert moments is not None  # there are elements
    # An even step would come by the same columns again and again.
    step = (tensor.numel() // MOST) | 1
    some = tensor.reshape(-1)[::step][:MOST]
    ordered = np.sort(some.to(torch.float64).cpu().numpy())
    return Sample(tensor, moments, ordered, _shortest(some), complex_)


def _shortest(values: Tensor) -> torch.dtype:
    if values.itemsize <= 2:
        return values.dtype
    held = (dtype for dtype in (*SHORTER, torch.float32) if bool((values.to(dtype).to(values.dtype) == values).all()))
    return next(held, values.dtype)
