"""Histograms of what a tensor holds, counted in chunks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from initplug.auditing.moments import chunks

BINS = 48
"""Bars of a histogram."""


class Histogram(NamedTuple):
    """The numbers of elements in bins of one width.

    Args:
        low: where the first bin begins.
        high: where the last one ends, itself included.
        counts: of the bins, all of one width.
        below: elements below `low`.
        above: elements above `high`.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    below: int
    above: int


def histogram(tensor: torch.Tensor, low: float, high: float, padding_row: int | None = None) -> Histogram:
    """Count a real tensor's elements in chunks; NaN is not counted, nor is a padding row.

    Example:
        >>> found = histogram(torch.tensor([-1.0, 0.0, 0.4, 1.0, 9.0]), 0.0, 1.0)
        >>> found.below, sum(found.counts), found.above
        (1, 3, 1)
    """
    counts = np.zeros(BINS, np.int64)
    below = above = 0
    for values in chunks(tensor.detach(), padding_row):
        if np.isnan(values.max()):
            values = values[~np.isnan(values)]
        # What lies outside is counted in the bins at the ends, and taken off again.
        kind = values.dtype.type
        part = kind(1 if high - low < np.finfo(kind).max else 0.25)  # of the values, lest differences be infinite
        width = max(kind(high) * part - kind(low) * part, np.finfo(kind).smallest_subnormal)
        with np.errstate(over="ignore", under="ignore"):
            places = (values * part - kind(low) * part) / width * kind(BINS)
        np.clip(places, 0, BINS - 0.5, out=places)
        counts += np.bincount(places.astype(np.intp), minlength=BINS)
        under, over = int(np.count_nonzero(values < low)), int(np.count_nonzero(values > high))
        counts[0] -= under
        counts[-1] -= over
        below, above = below + under, above + over
    return Histogram(low, high, tuple(counts.tolist()), below, above)
