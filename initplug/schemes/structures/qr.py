"""Q of a QR decomposition, of the same bits on every machine.

LAPACK's decomposition varies in its last bits with the number of threads, the width of the processor's vectors and the
library. Here the products, nearly all of the work, are made of integers that float64 holds exactly: whatever the order
in which BLAS adds them, no bit is lost, so none can differ. What is left, sums down a column, divisions and square
roots, is IEEE arithmetic in an order of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

BITS = 21
"""Of a slice: an element is two of them, so that a product of matrices is good to 2^-40 of their largest elements."""

EXACT_LENGTH = 1 << (53 - 2 * BITS)
"""Terms of an inner product of slices that float64 adds without rounding."""

PANEL = 128
"""Columns whose reflections are applied together."""

LEAF = 16
"""Columns that are reflected one by one."""


def orthonormalize(matrix: Matrix) -> None:
    """Replace a matrix by Q of its decomposition Q·R in which the diagonal of R is positive.

    Of independent normal elements, Q is uniform among the matrices with orthonormal columns (Haar's measure).
    QᵀQ departs from the identity by less than 1e-9, and Q by 1e-12 times the matrix's condition number.

    Args:
        matrix: (m, n) with m >= n, in float64; overwritten. Where R has a zero on its diagonal, its sign is positive.

    Example:
        >>> matrix = np.array([[3.0, 1.0], [4.0, 1.0]])
        >>> orthonormalize(matrix)
        >>> matrix.round(6).tolist()
        [[0.6, 0.8], [0.8, -0.6]]

    Source: Householder's reflections in blocks, Schreiber and Van Loan 1989; recursion, Elmroth and Gustavson 2000;
    slices, Ozaki et al. 2012; signs, Mezzadri 2007, arXiv:math-ph/0609050.
    """
    rows, columns = matrix.shape
    assert rows >= columns, "a matrix with more columns than rows is transposed first"
    signs = np.ones(columns)
    starts = range(0, columns, PANEL)
    factors: list[Matrix] = []
    for start in starts:
        stop = min(start + PANEL, columns)
        factors.append(_factorize(matrix[start:, start:stop], signs[start:stop]))
        if stop < columns:
            _reflect(matrix[start:, stop:], _sliced(matrix[start:, start:stop]), factors[-1].T)
    for start, factor in zip(reversed(starts), reversed(factors), strict=True):
        stop = min(start + PANEL, columns)
        vectors = _sliced(matrix[start:, start:stop])
        matrix[:, start:stop] = 0
        np.fill_diagonal(matrix[start:, start:stop], 1)
        _reflect(matrix[start:, start:], vectors, factor)
    matrix *= signs


def scratch(rows: int, columns: int) -> int:
    """Return the bytes that `orthonormalize` takes beside the matrix: slices of panel and strip, product, factors.

    Example:
        >>> scratch(2048, 2048) / 2**20
        24.5
    """
    panel, strip = min(PANEL, columns), min(_strip(rows), columns)
    return 8 * (2 * rows * panel + 2 * rows * strip + 4 * panel * strip + columns * panel + 4 * panel**2)


# Reflections ---------------------------------------------------------------------------------------------------


def _factorize(matrix: Matrix, signs: Matrix) -> Matrix:
    """Replace a matrix by the vectors V that reduce it, give T of the product I - V·T·Vᵀ of their reflections.

    The signs become those of R's diagonal.
    """
    columns = matrix.shape[1]
    if columns <= LEAF:
        return _factorize_singly(matrix, signs)
    half = columns // 2
    left, right = matrix[:, :half], matrix[:, half:]
    first = _factorize(left, signs[:half])
    vectors = _sliced(left)
    _reflect(right, vectors, first.T)
    second = _factorize(right[half:], signs[half:])
    right[:half] = 0
    common = _product(vectors.below(half).transposed(), _sliced(right[half:]))
    factor = np.zeros((columns, columns))
    factor[:half, :half] = first
    factor[half:, half:] = second
    factor[:half, half:] = -_product(_sliced(_product(_sliced(first), _sliced(common))), _sliced(second))
    return factor


def _factorize_singly(matrix: Matrix, signs: Matrix) -> Matrix:
    """Do as `_factorize`, column by column; every vector has the square 2, so that I - v·vᵀ is its reflection."""
    columns = matrix.shape[1]
    work = np.ascontiguousarray(matrix)
    factor = np.eye(columns)
    for j in range(columns):
        vector = work[j:, j].copy()
        head, norm = float(vector[0]), math.sqrt(_sum(vector * vector))
        if norm > 0:
            signs[j] = -math.copysign(1.0, head)
            vector[0] += math.copysign(norm, head)
            vector /= math.sqrt(norm * (norm + abs(head)))
        work[:j, j] = 0
        work[j:, j] = vector
        # With the vectors before it and the columns after it at once.
        products = _sum(work[j:] * vector[:, None])
        work[j:, j + 1 :] -= vector[:, None] * products[j + 1 :]
        if j:
            factor[:j, j] = -_sum(factor[:j, :j].T * products[:j, None])
    matrix[:] = work
    return factor


def _reflect(matrix: Matrix, vectors: _Sliced, factor: Matrix) -> None:
    """Multiply a matrix from the left by I - V·T·Vᵀ, strip by strip of its columns."""
    across, sliced, width = vectors.transposed(), _sliced(factor), _strip(len(matrix))
    for start in range(0, matrix.shape[1], width):
        strip = matrix[:, start : start + width]
        inner = _product(sliced, _sliced(_product(across, _sliced(strip))))
        strip -= _product(vectors, _sliced(inner))


def _strip(rows: int) -> int:
    """Return the number of columns that are multiplied together: of some megabytes, whatever their length."""
    return max(64, min(512, (1 << 20) // rows))


# Exact arithmetic ----------------------------------------------------------------------------------------------


class _Sliced(NamedTuple):
    """A matrix as (high + low·2^-BITS)·2^(exponent - BITS), both of integers no larger than 2^BITS."""

    high: Matrix
    low: Matrix
    exponent: int

    def transposed(self) -> _Sliced:
        return _Sliced(self.high.T, self.low.T, self.exponent)

    def below(self, row: int) -> _Sliced:
        return _Sliced(self.high[row:], self.low[row:], self.exponent)


def _sliced(matrix: Matrix) -> _Sliced:
    exponent = math.frexp(max(float(matrix.max()), -float(matrix.min())))[1]
    low = matrix * math.ldexp(1.0, BITS - exponent)
    high = np.rint(low)
    low -= high
    low *= 1 << BITS
    return _Sliced(high, np.rint(low, out=low), exponent)


def _product(left: _Sliced, right: _Sliced) -> Matrix:
    """Return the product of two matrices, less that of their lower slices: BLAS adds integers below 2^53."""
    total: Matrix | None = None
    for start in range(0, len(right.high), EXACT_LENGTH):
        terms = slice(start, start + EXACT_LENGTH)
        part: Matrix = left.low[:, terms] @ right.high[terms]
        part += left.high[:, terms] @ right.low[terms]
        part *= 2.0**-BITS
        part += left.high[:, terms] @ right.high[terms]
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None, "inner products have terms"
    total *= math.ldexp(1.0, left.exponent + right.exponent - 2 * BITS)
    return total


def _sum(terms: Matrix) -> Matrix:
    """Return the sum along the first dimension: NumPy's own depends on the layout, halves added to halves do not."""
    while len(terms) > 1:
        half = len(terms) // 2
        halved: Matrix = terms[:half] + terms[half : 2 * half]
        if len(terms) % 2:
            halved[0] += terms[-1]
        terms = halved
    total: Matrix = terms[0]
    return total
