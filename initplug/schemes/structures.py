"""Structured tensors: values that belong together, so that a tensor is drawn as a whole.

Each knows the shape that it is for, and the moments of the elements of that shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy import float32, float64
    from numpy.typing import NDArray

ROUNDING = 1e-6
"""The distance by which a computed element may lie beyond its bound."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Moments of what has a fixed sum of squares: the sample's variance does not vary."""

    gain: float

    @property
    def skewness(self) -> float:
        return 0.0

    @property
    def kurtosis(self) -> float:
        return 1.0

    @property
    def low(self) -> float:
        return -abs(self.gain) * (1 + ROUNDING)

    @property
    def high(self) -> float:
        return abs(self.gain) * (1 + ROUNDING)


@dataclass(frozen=True, slots=True)
class Orthogonal(Fixed):
    """`gain` times a matrix with orthonormal rows or columns, whichever are fewer, uniform among them.

    Args:
        gain: length of the orthonormal vectors.
        rows: size(0).
        columns: the product of the other sizes.

    Example:
        >>> Orthogonal(1.0, 64, 256).std
        0.0625
    """

    rows: int
    columns: int

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def std(self) -> float:
        return abs(self.gain) / math.sqrt(max(self.rows, self.columns))


@dataclass(frozen=True, slots=True)
class DeltaOrthogonal(Fixed):
    """A convolution that is an orthogonal matrix at the centre of its kernel and zero elsewhere.

    Args:
        gain: length of the orthonormal vectors.
        rows: output channels, at least as many as input channels.
        columns: input channels.
        field: positions of the kernel.
    """

    rows: int
    columns: int
    field: int

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def std(self) -> float:
        return abs(self.gain) / math.sqrt(self.rows * self.field)


@dataclass(frozen=True, slots=True)
class Dirac(Fixed):
    """A convolution that passes its input channels on: `gain` at the centre of the kernel, group by group.

    Args:
        gain: what the ones are multiplied by.
        groups: groups of output channels that each begin with the first input channel.
        shape: sizes of the tensor.
    """

    groups: int
    shape: tuple[int, ...]

    @property
    def mean(self) -> float:
        return self.gain * self._share

    @property
    def std(self) -> float:
        return abs(self.gain) * math.sqrt(self._share - self._share**2)

    @property
    def _share(self) -> float:
        ones = self.groups * min(self.shape[0] // self.groups, self.shape[1])
        return ones / math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Eye(Fixed):
    """`gain` on the diagonal of a matrix, zero elsewhere.

    Example:
        >>> Eye(1.0, 4, 4).mean
        0.25
    """

    rows: int
    columns: int

    @property
    def mean(self) -> float:
        return self.gain / max(self.rows, self.columns)

    @property
    def std(self) -> float:
        share = 1 / max(self.rows, self.columns)
        return abs(self.gain) * math.sqrt(share - share**2)


@dataclass(frozen=True, slots=True)
class Sparse:
    """A matrix of N(0, scale²) in which a share of every column, rounded up to whole elements, is zero.

    Args:
        scale: standard deviation of the elements that are not zero.
        sparsity: share of zeros in a column.
        rows: size(0).
    """

    scale: float
    sparsity: float
    rows: int

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def std(self) -> float:
        return self.scale * math.sqrt(self.filled)

    @property
    def filled(self) -> float:
        """The share of elements that are not zero."""
        return 1 - math.ceil(self.sparsity * self.rows) / self.rows

    @property
    def skewness(self) -> float:
        return 0.0

    @property
    def kurtosis(self) -> float:
        return 3 / self.filled if self.filled else 1.0

    @property
    def low(self) -> float:
        return -math.inf if self.filled else 0.0

    @property
    def high(self) -> float:
        return math.inf if self.filled else 0.0


@dataclass(frozen=True, slots=True)
class SinCos(Fixed):
    """A table of positions: the first half of a row holds sines, the second cosines, of falling frequency.

    Position p and frequency i of a block of d columns give sin or cos of p·base^(-2i/d). On a grid of two dimensions
    the first half of the columns is the block of the horizontal position, the second that of the vertical one.

    Args:
        gain: what the table is multiplied by.
        grid: dimensions of the grid of positions, 1 or 2.
        skip: rows that are zero and no positions, such as a class token's.
        base: of the frequencies.
        rows: positions and skipped rows.
        columns: size of a row.

    Source: Vaswani et al. 2017, arXiv:1706.03762; facebookresearch/mae util/pos_embed.py.
    """

    grid: int
    skip: int
    base: float
    rows: int
    columns: int

    @property
    def mean(self) -> float:
        return self.gain * _moments(replace(self, gain=1.0))[0]

    @property
    def std(self) -> float:
        return abs(self.gain) * _moments(replace(self, gain=1.0))[1]

    def values(self) -> NDArray[float64]:
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
        blocks = []
        for position in positions:
            angles = np.outer(position, frequencies)
            blocks += [np.sin(angles), np.cos(angles)]
        return self.gain * np.concatenate([np.zeros((self.skip, self.columns)), np.concatenate(blocks, axis=1)])


@lru_cache(maxsize=256)
def _moments(table: SinCos) -> tuple[float, float]:
    values = table.values()
    return float(values.mean()), float(values.std())


class Draw(Protocol):
    """The randomness of a function that computes a tensor as a whole: numbers of the tensor's shape.

    A tag names a stream: the same tag gives the same numbers, another one independent ones. Normal and uniform
    numbers of one stream would depend on each other, so a tag is for one of both.
    """

    def normal(self, tag: str) -> NDArray[float32]:
        """Return standard normal numbers."""

    def uniform(self, tag: str) -> NDArray[float32]:
        """Return numbers uniform in [0, 1)."""


def check_tag(asked: dict[str, str], tag: str, kind: str) -> None:
    """Note that numbers of a kind are asked for under a tag.

    Args:
        asked: the kind of every tag so far, added to.
        tag: names a stream.
        kind: `normal` or `uniform`.

    Raises:
        TypeError: a tag that is no text.
        ValueError: a tag that is for numbers of the other kind.
    """
    if not isinstance(tag, str):
        raise TypeError(f"a tag is a text, not {tag!r}")
    first = asked.setdefault(tag, kind)
    if first != kind:
        raise ValueError(f"the tag {tag!r} is for {first} numbers: ask for {kind} ones under another")


@dataclass(frozen=True, slots=True)
class Custom:
    """`gain` times what a function computes of a shape and a draw; its moments are not known and therefore NaN.

    Args:
        name: of the initializer.
        function: `(shape, draw, *, …) -> float32 array`.
        arguments: names and values of its further arguments.
        shape: sizes of the tensor.
        gain: what the result is multiplied by.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...]
    gain: float = 1.0

    @property
    def mean(self) -> float:
        return math.nan

    @property
    def std(self) -> float:
        return math.nan

    @property
    def low(self) -> float:
        return -math.inf

    @property
    def high(self) -> float:
        return math.inf

    @property
    def skewness(self) -> float:
        return math.nan

    @property
    def kurtosis(self) -> float:
        return math.nan

    def values(self, draw: Draw) -> NDArray[float32]:
        """Return the tensor, in single precision.

        Raises:
            ValueError: the function raises, or gives no float32 array of the shape, or one that is not finite.
        """
        import numpy as np

        try:
            values = self.function(self.shape, draw, **dict(self.arguments))
        except (Exception, SystemExit) as error:  # the function is code of others
            raise ValueError(f"{self.name} failed: {type(error).__name__}: {error}") from error
        if isinstance(values, np.float32):  # what numpy makes of an array without dimensions
            values = np.asarray(values)
        if not isinstance(values, np.ndarray):
            raise ValueError(f"{self.name} gave a {type(values).__name__}, not a float32 array")
        if values.dtype != np.float32:
            raise ValueError(f"{self.name} gave an array of {values.dtype}, not of float32")
        if values.shape != self.shape:
            raise ValueError(f"{self.name} gave an array of shape {values.shape}, not {self.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{self.name} gave values that are infinite or NaN")
        with np.errstate(over="ignore"):  # whoever casts them looks for what is too large
            scaled: NDArray[float32] = np.asarray(np.multiply(values, np.float32(self.gain), order="C"))
            return scaled


Structured = Orthogonal | DeltaOrthogonal | Dirac | Eye | Sparse | SinCos | Custom
"""Distributions of whole tensors."""


def amplified(structure: Structured, factor: float) -> Structured:
    """Return the distribution of `factor` times a draw."""
    if isinstance(structure, Sparse):
        return replace(structure, scale=structure.scale * abs(factor))
    return replace(structure, gain=structure.gain * factor)
