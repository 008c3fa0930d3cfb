"""Orthonormal rows or columns, in a matrix or at the centre of a convolution's kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initplug.schemes.fans import Fans
from initplug.schemes.gains import Gain, gain_of
from initplug.schemes.laws import Atoms, Density, Law, Smooth, TorchCall
from initplug.schemes.registry import initializer
from initplug.schemes.structures.base import ROUNDING, Draw, Fixed

if TYPE_CHECKING:
    from numpy import float32, float64
    from numpy.typing import NDArray


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
        >>> Orthogonal(1.0, 2048, 2048).peak((2048, 2048)) / 2**20
        64.0
    """

    rows: int
    columns: int

    @property
    def law(self) -> Law:
        atoms, smooth = _coordinate(self.gain, max(self.rows, self.columns))
        return self._law(0.0, abs(self.gain) / math.sqrt(max(self.rows, self.columns)), atoms, smooth)

    @property
    def text(self) -> str:
        return f"orthogonal(gain={self.gain:g})"

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("orthogonal_", (self.gain,))

    def free(self, size: int) -> int:
        """Return how many elements are drawn independently: vectors of one length are less free than they are long."""
        return max(size - min(self.rows, self.columns), 0) // 2

    def holds(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > 1 and (self.rows, self.columns) == (shape[0], math.prod(shape[1:]))

    def peak(self, shape: tuple[int, ...]) -> int:
        return _peak(math.prod(shape), self.rows, self.columns)

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        """Take the normals in row-major order as a matrix of size(0) rows."""
        matrix = values.reshape(self.rows, self.columns)
        _write_orthonormal(matrix, _strips_of(draw.normal("").reshape(matrix.shape)), self.gain)


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
    def law(self) -> Law:
        atoms, smooth = _coordinate(self.gain, self.rows)
        return self._law(
            0.0,
            abs(self.gain) / math.sqrt(self.rows * self.field),
            ((0.0, 1 - 1 / self.field), *((value, share / self.field) for value, share in atoms)),
            tuple((share / self.field, density) for share, density in smooth),
        )

    @property
    def text(self) -> str:
        return f"delta_orthogonal(gain={self.gain:g})"

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("orthogonal_", (self.gain,), centre=True)

    def holds(self, shape: tuple[int, ...]) -> bool:
        fits = (self.rows, self.columns, self.field) == (*shape[:2], math.prod(shape[2:]))
        return 3 <= len(shape) <= 5 and fits

    def peak(self, shape: tuple[int, ...]) -> int:
        return _peak(math.prod(shape), self.rows, self.columns)

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        """Take the normals at the centre of the kernel."""
        _write_orthonormal(_centre(values), _strips_of(_centre(draw.normal(""))), self.gain)


def _coordinate(gain: float, size: int) -> tuple[Atoms, Smooth]:
    """Return atoms and densities of a coordinate of a vector of length `gain`, uniform in `size` dimensions.

    Source: Muirhead 1982, Aspects of Multivariate Statistical Theory, section 1.5:
    f(t) = Γ(n/2) / (√π·Γ((n-1)/2)) · (1-t²)^((n-3)/2).
    """
    length = abs(gain)
    if length == 0:
        return ((0.0, 1.0),), ()
    if size == 1:
        return ((-length, 0.5), (length, 0.5)), ()

    def density(x: float) -> float:
        t = x / length
        norm = math.exp(math.lgamma(size / 2) - math.lgamma((size - 1) / 2)) / (math.sqrt(math.pi) * length)
        # In two dimensions it has no bound at the ends.
        return norm * math.pow(max(1 - t * t, 1e-3 if size == 2 else 0.0), (size - 3) / 2)

    bound = length * (1 + ROUNDING)
    return (), ((1.0, Density(0.0, length / math.sqrt(size), -bound, bound, density)),)


def _peak(elements: int, rows: int, columns: int) -> int:
    """Return the bytes of the result, of a float64 matrix, and of the normals or the scratch, whichever is more."""
    if not elements:
        return 0
    from initplug.kernels.qr_reference import PANEL, scratch  # which takes numpy

    long, short = max(rows, columns), min(rows, columns)
    return 4 * elements + 8 * long * PANEL * -(-short // PANEL) + max(4 * elements, scratch(short))


def _strips_of(normals: NDArray[float32]) -> NDArray[float64]:
    """Return a matrix as kernels take it, lying on its side where it has more columns than rows."""
    from initplug.kernels.qr_reference import in_strips  # which takes numpy

    return in_strips(_tall(normals))


def _write_orthonormal(target: NDArray[float32], strips: NDArray[float64], gain: float) -> None:
    """Write `gain` times the orthonormal matrix of a matrix in strips, which is overwritten."""
    from initplug.kernels import kernel

    tall, (_, _, width) = _tall(target), strips.shape
    kernel().orthonormalize(strips, tall.shape[1])
    strips *= gain
    for number, strip in enumerate(strips):
        part = tall[:, number * width : (number + 1) * width]
        part[...] = strip[:, : part.shape[1]]


def _tall(matrix: NDArray[float32]) -> NDArray[float32]:
    """Return a view of a matrix that has no more columns than rows."""
    return matrix.T if matrix.shape[0] < matrix.shape[1] else matrix


def _centre(values: NDArray[float32]) -> NDArray[float32]:
    """Return the matrix at the centre of a convolution's kernel, a view."""
    return values[(slice(None), slice(None), *((size - 1) // 2 for size in values.shape[2:]))]


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
