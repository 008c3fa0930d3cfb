"""The memory that drawing a tensor as a whole takes, stated before anything is drawn."""

from __future__ import annotations

import math

from initplug.schemes.distributions import Batched, Planned, Stacked
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


def peak_of(planned: Planned | None, shape: tuple[int, ...]) -> int | None:
    """Return the peak bytes of a seed's draw of a tensor; None of what is drawn element by element, in chunks.

    Args:
        planned: of the tensor.
        shape: sizes of the tensor.

    Example:
        >>> peak_of(Stacked((Eye(1.0, 4, 8), Eye(1.0, 4, 8)), 0), (8, 8))
        128
    """
    match planned:
        case Stacked(parts, dim):
            place = dim % len(shape)
            piece = (*shape[:place], shape[place] // len(parts), *shape[place + 1 :])
            return max((one for part in parts if (one := peak_of(part, piece)) is not None), default=None)
        case Batched(part, dims):
            return peak_of(part, shape[dims:])
        case _ if isinstance(planned, Structured):
            return peak(planned, shape)
    return None


def peak(distribution: Structured, shape: tuple[int, ...]) -> int:
    """Return the bytes that drawing it whole holds at the peak, result and draws included: an upper estimate.

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
            from initplug.schemes.orthonormal import scratch  # which takes numpy

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
