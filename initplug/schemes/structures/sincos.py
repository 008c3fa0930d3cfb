"""Tables of positions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from initplug.schemes.fans import Fans
from initplug.schemes.laws import Law
from initplug.schemes.registry import initializer
from initplug.schemes.structures.base import Draw, Fixed

if TYPE_CHECKING:
    from numpy import float32, float64
    from numpy.typing import NDArray


Order = Literal["halves", "interleaved"]


@dataclass(frozen=True, slots=True)
class SinCos(Fixed):
    """A table of positions: sines and cosines of falling frequency.

    Position p and frequency i of a block of d columns give sin and cos of p·base^(-2i/d), in columns i and i + d/2 by
    `halves`, 2i and 2i + 1 where they are `interleaved`. On a grid of two dimensions the first half of the columns is
    the block of the horizontal position, the second that of the vertical one.

    Args:
        gain: what the table is multiplied by.
        grid: dimensions of the grid of positions, 1 or 2.
        skip: rows that are zero and no positions, such as a class token's.
        base: of the frequencies.
        rows: positions and skipped rows.
        columns: size of a row.
        order: of sines and cosines in a row.

    Source: Vaswani et al. 2017, arXiv:1706.03762; facebookresearch/mae util/pos_embed.py.
    """

    grid: int
    skip: int
    base: float
    rows: int
    columns: int
    order: Order = "halves"

    generated = False

    @property
    def law(self) -> Law:
        mean, std = _moments_of_table(replace(self, gain=1.0))
        return self._law(self.gain * mean, abs(self.gain) * std)

    @property
    def text(self) -> str:
        order = "" if self.order == "halves" else f", order={self.order}"
        return f"sincos(gain={self.gain:g}, grid={self.grid}, skip={self.skip}, base={self.base:g}{order})"

    def holds(self, shape: tuple[int, ...]) -> bool:
        return math.prod(shape[:-2]) == 1 and (self.rows, self.columns) == shape[-2:]

    def peak(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of the blocks, of the table of them and its product with the gain, and of one's angles."""
        elements = math.prod(shape)
        return (4 + 8 + 8 + 8) * elements + 8 * elements // self.grid

    def values(self, draw: Draw | None = None) -> NDArray[float64]:
        """Return the table, in double precision.

        Example:
            >>> SinCos(1.0, 1, 1, 10000.0, 3, 2).values().round(3).tolist()
            [[0.0, 0.0], [0.0, 1.0], [0.841, 0.54]]
        """
        import numpy as np

        count = self.rows - self.skip
        side = math.isqrt(count) if self.grid == 2 else count
        positions = [np.arange(count) % side, np.arange(count) // side] if self.grid == 2 else [np.arange(count)]
        width = self.columns // len(positions)
        frequencies = self.base ** (-np.arange(width // 2) / (width / 2))
        blocks: list[NDArray[float64]] = []
        for position in positions:
            angles = np.outer(position, frequencies)
            pair = [np.sin(angles), np.cos(angles)]
            blocks += pair if self.order == "halves" else [np.stack(pair, axis=-1).reshape(len(angles), -1)]
        return self.gain * np.concatenate([np.zeros((self.skip, self.columns)), np.concatenate(blocks, axis=1)])

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        values[...] = self.values().reshape(values.shape)


@lru_cache(maxsize=256)
def _moments_of_table(table: SinCos) -> tuple[float, float]:
    values = table.values()
    return float(values.mean()), float(values.std())


@initializer
def sincos(
    fans: Fans,
    *,
    grid: Literal[1, 2] = 1,
    skip: Annotated[int, Ge(0)] = 0,
    base: Annotated[float, Gt(0)] = 10000.0,
    order: Order = "halves",
) -> SinCos:
    """A table of sines and cosines of positions, one row a position.

    Args:
        fans: the shape is used: (rows, columns), with leading dimensions of size 1.
        grid: 1 for a sequence, 2 for a square grid of patches, row by row.
        skip: leading rows that are zero, such as a class token's.
        base: of the frequencies.
        order: `halves` for sines before cosines, as in MAE and DiT, `interleaved` for one after the other, as in the
            paper and the tutorials of torch.

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
    return SinCos(1.0, grid, skip, float(base), rows, columns, order)
