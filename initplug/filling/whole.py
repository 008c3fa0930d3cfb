"""Structured tensors from numbers that are given: what a seed draws as a whole.

Every element may depend on every number, so that whoever needs a part computes the whole and cuts it out. No bit of the
result depends on threads, machine or BLAS, except that of a table of sines on the platform's libm.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from initplug.schemes.orthonormal import orthonormalize
from initplug.schemes.structures import (
    Custom,
    DeltaOrthogonal,
    Dirac,
    Draw,
    Eye,
    Orthogonal,
    SinCos,
    Sparse,
    Structured,
)

ZEROS = "zeros"
"""Tag of the numbers that place the zeros of a sparse matrix, so that they know nothing of its values."""


def compute(distribution: Structured, shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
    """Return the values of a structured tensor.

    Orthogonal tensors take the normals in row-major order as a matrix of size(0) rows, a delta-orthogonal one those at
    the centre of its kernel. A sparse matrix takes its values in place, and is zero where a column's uniform numbers
    under the tag `zeros` are smallest, the first of equal ones first.

    Args:
        distribution: of the whole tensor.
        shape: sizes of the tensor, which the distribution fits.
        draw: the only source of randomness, for this shape.

    Example:
        >>> class Same:
        ...     def normal(self, tag=""):
        ...         return np.float32([[3, 1], [4, 1]])
        ...     def uniform(self, tag=""):
        ...         return np.float32([[0.1, 0.9], [0.7, 0.9]])
        >>> compute(Orthogonal(2.0, 2, 2), (2, 2), Same()).round(5).tolist()
        [[1.2000000476837158, 1.600000023841858], [1.600000023841858, -1.2000000476837158]]
        >>> compute(Sparse(2.0, 0.5, 2), (2, 2), Same()).tolist()
        [[0.0, 0.0], [8.0, 2.0]]

    Source: torch.nn.init orthogonal_, dirac_, eye_, sparse_; jax.nn.initializers.delta_orthogonal.
    """
    values = np.zeros(shape, np.float32)
    if not values.size:
        return values
    match distribution:
        case Orthogonal(gain, rows, columns):
            _fill_orthogonal(values.reshape(rows, columns), _tall(draw.normal("").reshape(rows, columns)), gain)
        case DeltaOrthogonal(gain):
            _fill_orthogonal(_centre_of_array(values), _tall(_centre_of_array(draw.normal(""))), gain)
        case Dirac(gain, groups):
            each = shape[0] // groups
            centre = tuple(size // 2 for size in shape[2:])
            for group, channel in itertools.product(range(groups), range(min(each, shape[1]))):
                values[(group * each + channel, channel, *centre)] = gain
        case Eye(gain):
            np.fill_diagonal(values, gain)
        case Sparse(scale, sparsity, rows):
            np.multiply(draw.normal(""), np.float32(scale), out=values)
            order = np.argsort(draw.uniform(ZEROS), axis=0, kind="stable")
            np.put_along_axis(values, order[: math.ceil(sparsity * rows)], np.float32(0), axis=0)
        case SinCos():
            values[...] = distribution.values().reshape(shape)
        case Custom():
            values[...] = distribution.values(draw)
    return values


def _tall(normals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a matrix in double precision, lying on its side where it has more columns than rows."""
    return np.array(normals.T if normals.shape[0] < normals.shape[1] else normals, np.float64, order="C")


def _fill_orthogonal(target: NDArray[np.float32], tall: NDArray[np.float64], gain: float) -> None:
    """Write `gain` times the orthonormal matrix of a tall one, which is overwritten: of its columns."""
    orthonormalize(tall)
    tall *= gain
    target[...] = tall.T if target.shape[0] < target.shape[1] else tall


def _centre_of_array(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the matrix at the centre of a convolution's kernel, a view."""
    return values[(slice(None), slice(None), *((size - 1) // 2 for size in values.shape[2:]))]
