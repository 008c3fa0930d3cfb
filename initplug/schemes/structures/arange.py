"""Numbers in order: start + step·index along a dimension, or their logarithms."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from initplug.schemes.distributions import Constant
from initplug.schemes.elementary import log
from initplug.schemes.fans import Fans
from initplug.schemes.laws import Law
from initplug.schemes.registry import initializer
from initplug.schemes.structures.base import MOST_ATOMS, Draw, Fixed, rounded_bounds

if TYPE_CHECKING:
    from numpy import float32, float64
    from numpy.typing import NDArray

Link = Literal["none", "log"]


@dataclass(frozen=True, slots=True)
class Arange(Fixed):
    """Elements `gain`·g(start + step·i), where i is the index along a dimension and g the link.

    Args:
        gain: what the result is multiplied by.
        start: the first number.
        step: from one number to the next.
        dim: the dimension, counted from the first.
        link: g(x) is x for `none`, ln x for `log`.
        shape: sizes of the tensor.
    """

    start: float
    step: float
    dim: int
    link: Link
    shape: tuple[int, ...]

    generated = False

    @property
    def law(self) -> Law:
        return _law(self)

    @property
    def text(self) -> str:
        link = "" if self.link == "none" else f", link={self.link}"
        call = f"arange(start={self.start:g}, step={self.step:g}, dim={self.dim}{link})"
        return call if self.gain == 1 else f"{self.gain:g}·{call}"

    def holds(self, shape: tuple[int, ...]) -> bool:
        return self.shape == shape

    def peak(self, shape: tuple[int, ...]) -> int:
        return (4 + 8) * math.prod(shape)

    def line(self) -> NDArray[float64]:
        """Return the elements along the dimension, in double precision; the same bits on every machine.

        Example:
            >>> Arange(2.0, 1.0, 0.5, 0, "none", (3, 2)).line().tolist()
            [2.0, 3.0, 4.0]
        """
        import numpy as np

        numbers = self.start + self.step * np.arange(self.shape[self.dim], dtype=np.float64)
        return self.gain * (log(numbers) if self.link == "log" else numbers)

    def values(self, draw: Draw | None = None) -> NDArray[Any]:
        """Return the tensor, in double precision."""
        import numpy as np

        along = [1] * len(self.shape)
        along[self.dim] = -1
        return np.broadcast_to(self.line().reshape(along), self.shape).copy()

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        values[...] = self.values()


@lru_cache(maxsize=1024)
def _law(one: Arange) -> Law:
    line = one.line()
    counts = Counter(line.tolist()) if len(line) <= MOST_ATOMS else {}
    atoms = tuple((value, count / len(line)) for value, count in counts.items())
    low, high = rounded_bounds([float(line[0]), float(line[-1])])
    return Law(float(line.mean()), float(line.std()), low, high, kurtosis=1.0, fixed=True, atoms=atoms)


@initializer
def arange(
    fans: Fans, *, start: float = 0.0, step: float = 1.0, dim: int = -1, link: Link = "none"
) -> Arange | Constant:
    """Start + step·index along a dimension, the same in all others.

    Mamba's `A_log` is `arange start=1 log`, the imaginary parts of S4D-Lin are `arange factor=3.141592653589793`.

    Args:
        fans: the shape is used.
        start: the first number.
        step: from one number to the next.
        dim: the dimension that the index counts, negative from the end; in a split with a list that of a part.
        link: `none`, or `log` for logarithms of these numbers.

    Raises:
        ValueError: no such dimension, or logarithms of numbers that are not positive.

    Example:
        >>> round(arange(Fans((8, 16)), start=1, link="log").mean, 4), round(math.lgamma(17) / 16, 4)
        (1.917, 1.917)

    Source: state-spaces/mamba mamba_ssm/modules/mamba_simple.py (S4D real initialization); state-spaces/s4
    models/s4/s4d.py; Gu et al. 2022, arXiv:2206.11893.
    """
    shape = fans.shape
    if not -len(shape) <= dim < len(shape):
        raise ValueError(f"there is no dimension {dim} to count along")
    last = start + step * (shape[dim] - 1)
    if link == "log" and min(start, last) <= 0:
        raise ValueError(f"logarithms are of positive numbers, and these go from {start:g} to {last:g}")
    if not math.isfinite(last):
        raise ValueError("its numbers are beyond what a double holds")
    found = Arange(1.0, float(start), float(step), dim % len(shape), link, shape)
    return Constant(float(found.line()[0])) if found.law.std == 0 else found
