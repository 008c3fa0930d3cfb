"""What tensors that are computed as a whole take while they are: the one cost that does not shrink with shards."""

from __future__ import annotations

import math

from initplug.schemes.distributions import Batched, Keep, Planned, Stacked
from initplug.schemes.structures import (
    Custom,
    DeltaOrthogonal,
    Dirac,
    Eye,
    Orthogonal,
    SinCos,
    Sparse,
    Structured,
)

PANEL = 128
"""Columns of an orthogonal matrix whose reflections are applied together."""


def strip_of(rows: int) -> int:
    """Columns that are multiplied together: of some megabytes, whatever their length."""
    return max(64, min(512, (1 << 20) // rows))


def scratch(rows: int, columns: int) -> int:
    """Bytes that orthonormal columns take beside the matrix: slices of a panel and a strip, its product, the factors.

    Example:
        >>> scratch(2048, 2048) / 2**20
        24.5
    """
    panel, strip = min(PANEL, columns), min(strip_of(rows), columns)
    return 8 * (2 * rows * panel + 2 * rows * strip + 4 * panel * strip + columns * panel + 4 * panel**2)


def peak(distribution: Structured, shape: tuple[int, ...]) -> int:
    """Bytes that computing a tensor holds at its peak, the result and what is drawn included: an upper estimate.

    Orthogonal: the result, one float64 matrix, and beside it the normals or the scratch of its decomposition,
    whichever is more. Sparse: the values, the uniform numbers and their order with the sort's own copy of a column.
    A function of others: numbers of one tag, their copy and the result, whatever else it makes.

    Args:
        distribution: of the whole tensor.
        shape: sizes of the tensor.

    Example:
        >>> peak(Orthogonal(1.0, 2048, 2048), (2048, 2048)) / 2**20
        72.5
        >>> peak(Eye(1.0, 1024, 1024), (1024, 1024)) / 2**20
        4.0
    """
    elements = math.prod(shape)
    match distribution:
        case Orthogonal(_, rows, columns) | DeltaOrthogonal(_, rows, columns):
            if not elements:
                return 0
            work = scratch(max(rows, columns), min(rows, columns))
            return 4 * elements + 8 * rows * columns + max(4 * elements, work)
        case Sparse(_, _, rows):
            return (4 + 4 + 8) * elements + 32 * rows
        case SinCos(_, grid):
            # The blocks, the table of them and its product with the gain, beside the angles of one block.
            return (4 + 8 + 8 + 8) * elements + 8 * elements // grid
        case Dirac() | Eye():
            return 4 * elements
        case Custom():
            return 3 * 4 * elements


def peak_of(planned: Planned | None, shape: tuple[int, ...]) -> int:
    """Bytes that filling a tensor takes at its peak for what is computed as a whole, part after part.

    Args:
        planned: of the tensor.
        shape: its sizes.

    Example:
        >>> peak_of(Eye(1.0, 1024, 1024), (1024, 1024)) / 2**20, peak_of(None, (1024, 1024))
        (4.0, 0)
    """
    match planned:
        case Stacked(parts, dim):
            along = dim % len(shape)
            inner = (*shape[:along], shape[along] // len(parts), *shape[along + 1 :])
            peaks = [0 if isinstance(part, Keep) else peak_of(part, inner) for part in parts]
            # Functions of others may fail, so that all parts are computed before one is written.
            return sum(peaks) if math.isnan(planned.std) else max(peaks)
        case Batched(part, dims):
            each = peak(part, shape[dims:])
            return each * math.prod(shape[:dims]) if math.isnan(part.std) else each
    return peak(planned, shape) if isinstance(planned, Structured) else 0
