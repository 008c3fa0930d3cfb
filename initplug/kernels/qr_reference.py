"""Q of a QR decomposition, to be read: what every kernel gives to the bit, on every machine.

LAPACK's decomposition varies in its last bits with the number of threads, the width of the processor's vectors and the
library. Here every sum is made term by term, in the order that is written, of products that are rounded by themselves:
only different elements are computed at once. The number of columns that are reflected together is part of version 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

PANEL = 32
"""Columns of a strip, which are reflected together."""

BLOCK = 512
"""Rows that are computed at once; no bit depends on it."""

LINE = 64
"""Bytes that a processor fetches at once: a vector of eight elements should lie in one of them."""


def in_strips(matrix: NDArray[np.floating]) -> Matrix:
    """Return a matrix in double precision as `orthonormalize` takes it: strip by strip of `PANEL` columns.

    Example:
        >>> strips = in_strips(np.ones((100, 70)))
        >>> strips.shape, strips.sum((1, 2)).tolist()
        ((3, 100, 32), [3200.0, 3200.0, 600.0])
    """
    rows, columns = matrix.shape
    shape = -(-columns // PANEL), rows, PANEL
    memory = np.zeros(math.prod(shape) + LINE // 8)
    begin = -memory.__array_interface__["data"][0] % LINE // 8
    strips = memory[begin : begin + math.prod(shape)].reshape(shape)
    for number, strip in enumerate(strips):
        part = matrix[:, number * PANEL : (number + 1) * PANEL]
        strip[:, : part.shape[1]] = part
    return strips


def scratch(columns: int) -> int:
    """Return the bytes that `orthonormalize` takes beside the strips, at most.

    Example:
        >>> scratch(2048) / 2**20
        2.0
    """
    panels = -(-columns // PANEL)
    return 8 * PANEL * (3 * panels * PANEL + 4 * BLOCK)


def orthonormalize(strips: Matrix, columns: int) -> None:
    """Replace a matrix by Q of its decomposition Q·R in which the diagonal of R is positive.

    Of independent normal elements, Q is uniform among the matrices with orthonormal columns (Haar's measure).

    Args:
        strips: (strips, rows, `PANEL`), the matrix as `in_strips` gives it, of no more columns than rows; overwritten.
            Where R has a zero on its diagonal, its sign is positive.
        columns: of the matrix; after them the last strip holds zeros.

    Example:
        >>> strips = in_strips(np.array([[3.0, 1.0], [4.0, 1.0]]))
        >>> orthonormalize(strips, 2)
        >>> strips[0, :, :2].round(6).tolist()
        [[0.6, 0.8], [0.8, -0.6]]

    Source: Householder's reflections in blocks, Schreiber and Van Loan 1989; T by its inverse, Puglisi 1992; signs,
    Mezzadri 2007, arXiv:math-ph/0609050.
    """
    assert strips.shape[1] >= columns, "a matrix with more columns than rows is transposed first"
    grams, signs = np.zeros((len(strips), PANEL, PANEL)), np.ones((len(strips), PANEL))
    for number, strip in enumerate(strips):
        start = number * PANEL
        vectors, others = strip[start:], strips[number + 1 :, start:]
        _find_vectors(vectors, min(PANEL, columns - start), grams[number], signs[number])
        inner = _solved(_products(vectors, others), grams[number], transposed=True)
        for other, own in zip(others, inner, strict=True):
            _subtract(other, vectors, own)
    for number in reversed(range(len(strips))):
        start, held = number * PANEL, min(PANEL, columns - number * PANEL)
        vectors, others = strips[number, start:], strips[number + 1 :, start:]
        others[:, :PANEL] = 0
        inner = _solved(_products(vectors, others), grams[number])
        for other, own in zip(others, inner, strict=True):
            _subtract(other, vectors, own)
        columns_of_q = np.zeros((1, PANEL, PANEL))
        np.fill_diagonal(columns_of_q[0, :held, :held], signs[number])
        _form(vectors, columns_of_q[0], _solved(_products(vectors[:held], columns_of_q), grams[number])[0])


def _find_vectors(matrix: Matrix, columns: int, gram: Matrix, signs: Matrix) -> None:
    """Replace columns by the vectors of the reflections I - v·vᵀ that reduce them, each of the square 2.

    Args:
        matrix: changed.
        columns: of the matrix that are no padding.
        gram: takes the inner products of vectors, above its diagonal.
        signs: take those of R's diagonal.
    """
    for j in range(columns):
        below = matrix[j:]
        dots = _sum_of_rows(below[:, j], below)
        head, norm = float(below[0, j]), math.sqrt(dots[j])
        shift = scale = 0.0
        if norm > 0:
            shift = -norm if head < 0 else norm
            scale = 1 / math.sqrt(norm * (norm + abs(head)))
            signs[j] = 1 if head < 0 else -1
        # With the vectors before it and the columns after it at once.
        products = scale * (dots + shift * below[0])
        gram[:j, j] = products[:j]
        products[: j + 1] = 0
        below[0, j] += shift
        for first in range(0, len(below), BLOCK):
            part = below[first : first + BLOCK]
            part[:, j] *= scale
            part -= part[:, j, None].copy() * products
    matrix[:PANEL] = np.tril(matrix[:PANEL])


def _products(vectors: Matrix, others: Matrix) -> Matrix:
    """Return W = Vᵀ·C for each matrix C, summed row by row."""
    total = np.zeros((len(others), PANEL, PANEL))
    for place, row in enumerate(vectors[: others.shape[1]]):
        total += row[:, None] * others[:, place, None]
    return total


def _solved(inner: Matrix, gram: Matrix, *, transposed: bool = False) -> Matrix:
    """Return T·W or Tᵀ·W: the inverse of T has ones on its diagonal, inner products of vectors above it."""
    for k in range(PANEL) if transposed else reversed(range(PANEL)):
        rest, factors = (inner[:, k + 1 :], gram[k, k + 1 :]) if transposed else (inner[:, :k], gram[:k, k])
        rest -= factors[:, None] * inner[:, k, None]
    return inner


def _subtract(matrix: Matrix, vectors: Matrix, inner: Matrix) -> None:
    """Make C - V·W of a matrix C, vector by vector."""
    for first in range(0, len(matrix), BLOCK):
        rows = slice(first, first + BLOCK)
        for vector, row in zip(vectors[rows].T, inner, strict=True):
            matrix[rows] -= vector[:, None] * row


def _form(matrix: Matrix, head: Matrix, inner: Matrix) -> None:
    """Make C - V·W of the vectors V themselves, where C is `head` above zeros."""
    for first in range(0, len(matrix), BLOCK):
        part = matrix[first : first + BLOCK]
        vectors = part.copy()
        part[...] = 0
        if not first:
            part[:PANEL] = head[: len(part)]
        _subtract(part, vectors, inner)


def _sum_of_rows(factors: Matrix, matrix: Matrix) -> Matrix:
    """Return the sum of a matrix's rows times their factors, row by row, as `accumulate` adds."""
    total = np.zeros(PANEL)
    for first in range(0, len(matrix), BLOCK):
        rows = slice(first, first + BLOCK)
        total = np.add.accumulate(np.concatenate([total[None], factors[rows, None] * matrix[rows]]))[-1]
    return total
