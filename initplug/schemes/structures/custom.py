"""Tensors that a function of others computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from initplug.schemes.laws import Law
from initplug.schemes.structures.base import Draw, Structured

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Custom(Structured):
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
    def law(self) -> Law:
        bound = math.inf if self.gain else 0.0
        return Law(math.nan, math.nan, -bound, bound, math.nan, math.nan)

    @property
    def text(self) -> str:
        call = f"{self.name}({', '.join(f'{key}={value}' for key, value in self.arguments)})"
        return call if self.gain == 1 else f"{self.gain:g}·{call}"

    def times(self, factor: float, divisor: float = 1.0) -> Structured:
        return replace(self, gain=self.gain * (factor / divisor))

    def holds(self, shape: tuple[int, ...]) -> bool:
        return self.shape == shape

    def peak(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of the numbers of one tag, of their copy and of the result, whatever else it makes."""
        return 3 * 4 * math.prod(shape)

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

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        values[...] = self.values(draw)
