"""A matrix whose columns have zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from initplug.schemes.distributions import Normal
from initplug.schemes.fans import Fans
from initplug.schemes.laws import Law, TorchCall
from initplug.schemes.registry import initializer
from initplug.schemes.structures.base import Draw, Structured

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

ZEROS = "zeros"
"""Tag of the numbers that place the zeros of a sparse matrix, so that they know nothing of its values."""


@dataclass(frozen=True, slots=True)
class Sparse(Structured):
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
    def law(self) -> Law:
        filled = self.filled
        smooth = Normal(0.0, self.scale).law.smooth if filled else ()
        return Law(
            0.0,
            self.scale * math.sqrt(filled),
            -math.inf if filled else 0.0,
            math.inf if filled else 0.0,
            kurtosis=3 / filled if filled else 1.0,
            atoms=((0.0, 1 - filled if smooth else 1.0),),
            smooth=tuple((filled, density) for _, density in smooth),
        )

    @property
    def filled(self) -> float:
        """The share of elements that are not zero."""
        return 1 - math.ceil(self.sparsity * self.rows) / self.rows

    @property
    def text(self) -> str:
        return f"sparse(sparsity={self.sparsity:g}, std={self.scale:g})"

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("sparse_", (self.sparsity, self.scale))

    def free(self, size: int) -> int:
        return size

    def times(self, factor: float, divisor: float = 1.0) -> Structured:
        return replace(self, scale=self.scale * abs(factor / divisor))

    def holds(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 and self.rows == shape[0]

    def peak(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of the values, of the uniform numbers and of their order, with the sort's own column."""
        return (4 + 4 + 8) * math.prod(shape) + 32 * self.rows

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        """Write normals, and zeros where a column's uniform numbers are smallest, the first of equal ones first."""
        import numpy as np

        np.multiply(draw.normal(""), np.float32(self.scale), out=values)
        order = np.argsort(draw.uniform(ZEROS), axis=0, kind="stable")
        np.put_along_axis(values, order[: math.ceil(self.sparsity * self.rows)], np.float32(0), axis=0)


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
