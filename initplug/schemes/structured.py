"""Initializers of whole tensors: the shape says whether a tensor can hold the structure."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from initplug.schemes.fans import Fans
from initplug.schemes.gains import Gain, gain_of
from initplug.schemes.registry import initializer
from initplug.schemes.structures import DeltaOrthogonal, Dirac, Eye, Orthogonal, SinCos, Sparse


@initializer(bare=("gain",))
def orthogonal(fans: Fans, *, gain: Gain = 1.0) -> Orthogonal:
    """`gain` times a random matrix of orthonormal rows or columns; further dimensions count as columns.

    Args:
        fans: the shape is used, of at least two dimensions.
        gain: a number, or the name of a nonlinearity.

    Raises:
        ValueError: fewer than two dimensions.

    Example:
        >>> orthogonal(Fans((64, 16, 2, 2)), gain=2.0).std
        0.25

    Source: torch.nn.init.orthogonal_; Saxe et al. 2014, arXiv:1312.6120.
    """
    if len(fans.shape) < 2:
        raise ValueError("an orthogonal tensor has at least two dimensions")
    return Orthogonal(gain_of(gain), fans.shape[0], math.prod(fans.shape[1:]))


@initializer(bare=("gain",))
def delta_orthogonal(fans: Fans, *, gain: Gain = 1.0) -> DeltaOrthogonal:
    """A convolution that is `gain` times an orthogonal matrix at the centre of its kernel and zero elsewhere.

    Args:
        fans: the shape is used: (out, in, *kernel) with one to three kernel dimensions and out >= in.
        gain: a number, or the name of a nonlinearity.

    Raises:
        ValueError: another shape.

    Source: jax.nn.initializers.delta_orthogonal; Xiao et al. 2018, arXiv:1806.05393.
    """
    if not 3 <= len(fans.shape) <= 5:
        raise ValueError("a delta-orthogonal tensor has three to five dimensions")
    rows, columns, *kernel = fans.shape
    if rows < columns:
        raise ValueError(f"it needs at least as many output channels as input channels, not {rows} for {columns}")
    return DeltaOrthogonal(gain_of(gain), rows, columns, math.prod(kernel))


@initializer
def dirac(fans: Fans, *, groups: Annotated[int, Ge(1)] = 1) -> Dirac:
    """A convolution that passes its input on: ones at the centre of the kernel, channel by channel.

    Args:
        fans: the shape is used, of three to five dimensions.
        groups: of output channels, each beginning with the first input channel.

    Raises:
        ValueError: another number of dimensions, or output channels that the groups do not divide.

    Source: torch.nn.init.dirac_.
    """
    if not 3 <= len(fans.shape) <= 5:
        raise ValueError("a dirac tensor has three to five dimensions")
    if fans.shape[0] % groups:
        raise ValueError(f"{groups} groups do not divide {fans.shape[0]} output channels")
    return Dirac(1.0, groups, fans.shape)


@initializer
def eye(fans: Fans) -> Eye:
    """Ones on the diagonal of a matrix, zeros elsewhere.

    Raises:
        ValueError: not two dimensions.

    Source: torch.nn.init.eye_.
    """
    if len(fans.shape) != 2:
        raise ValueError("an identity matrix has two dimensions")
    return Eye(1.0, fans.shape[0], fans.shape[1])


@initializer(bare=("sparsity",), any_shape=True)
def sparse(fans: Fans, *, sparsity: Annotated[float, Ge(0), Le(1)], std: Annotated[float, Ge(0)] = 0.01) -> Sparse:
    """N(0, std²) with a share of zeros in every column, rounded up to whole elements.

    Args:
        fans: the shape is used, of two dimensions.
        sparsity: share of zeros in a column, 0 to 1.
        std: of the elements that are not zero.

    Raises:
        ValueError: not two dimensions.

    Source: torch.nn.init.sparse_; Martens 2010, Deep learning via Hessian-free optimization.
    """
    if len(fans.shape) != 2:
        raise ValueError("a sparse matrix has two dimensions")
    return Sparse(float(std), float(sparsity), fans.shape[0])


@initializer
def sincos(
    fans: Fans,
    *,
    grid: Literal[1, 2] = 1,
    skip: Annotated[int, Ge(0)] = 0,
    base: Annotated[float, Gt(0)] = 10000.0,
) -> SinCos:
    """A table of sines and cosines of positions, one row a position.

    Args:
        fans: the shape is used: (rows, columns), with leading dimensions of size 1.
        grid: 1 for a sequence, 2 for a square grid of patches, row by row.
        skip: leading rows that are zero, such as a class token's.
        base: of the frequencies.

    Raises:
        ValueError: another shape; rows that are no square; columns that do not divide into sines and cosines.

    Example:
        >>> sincos(Fans((1, 197, 768)), grid=2, skip=1).rows
        197

    Source: Vaswani et al. 2017, arXiv:1706.03762; facebookresearch/mae util/pos_embed.py:20-56.
    """
    if len(fans.shape) < 2 or math.prod(fans.shape[:-2]) != 1:
        raise ValueError("a position table has two dimensions, and before them only dimensions of size 1")
    rows, columns = fans.shape[-2:]
    if columns % (2 * grid):
        raise ValueError(f"its rows need a multiple of {2 * grid} columns for sines and cosines, not {columns}")
    if skip > rows or (grid == 2 and math.isqrt(rows - skip) ** 2 != rows - skip):
        raise ValueError(f"{rows} rows less {skip} skipped are no {'square grid' if grid == 2 else 'sequence'}")
    if not math.isfinite(rows / base):
        raise ValueError(f"base {base:g} gives frequencies beyond what a double holds")
    return SinCos(1.0, grid, skip, float(base), rows, columns)
