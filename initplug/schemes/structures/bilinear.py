"""Interpolation: the filters by which a transposed convolution enlarges every channel."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from initplug.schemes.fans import Fans
from initplug.schemes.laws import Law
from initplug.schemes.registry import initializer
from initplug.schemes.structures.base import MOST_ATOMS, Draw, Fixed, rounded_bounds

if TYPE_CHECKING:
    from numpy import float32, float64
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bilinear(Fixed):
    """`gain` times a filter that interpolates linearly along every dimension of the kernel, for a channel of its own.

    Args:
        gain: what the filter is multiplied by.
        shape: sizes of the tensor, (in, out / groups, *kernel).
    """

    shape: tuple[int, ...]

    generated = False

    @property
    def law(self) -> Law:
        return _law(self)

    @property
    def text(self) -> str:
        return f"bilinear(gain={self.gain:g})"

    def holds(self, shape: tuple[int, ...]) -> bool:
        return self.shape == shape

    def peak(self, shape: tuple[int, ...]) -> int:
        return (4 + 8) * math.prod(shape)

    def filter(self) -> NDArray[float64]:
        """Return the filter of one channel, in double precision.

        Example:
            >>> Bilinear(1.0, (1, 1, 4)).filter().tolist()
            [0.25, 0.75, 0.75, 0.25]
        """
        import numpy as np

        found = np.ones(())
        for size in self.shape[2:]:
            half, centre = (size + 1) // 2, (size - 1) / 2
            found = np.multiply.outer(found, 1 - np.abs(np.arange(size) - centre) / half)
        return self.gain * found

    def values(self, draw: Draw | None = None) -> NDArray[Any]:
        """Return the tensor, in double precision."""
        import numpy as np

        values = np.zeros(self.shape)
        channels = np.arange(self.shape[0])
        values[channels, channels % self.shape[1]] = self.filter()
        return values

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        values[...] = self.values()


@lru_cache(maxsize=1024)
def _law(one: Bilinear) -> Law:
    values = one.filter().reshape(-1)
    share = 1 / one.shape[1]  # of the elements that belong to a channel of their own
    mean = share * float(values.mean())
    std = math.sqrt(max(share * float((values**2).mean()) - mean**2, 0.0))
    counts = Counter({0.0: (one.shape[1] - 1) * values.size}) if one.shape[1] > 1 else Counter[float]()
    counts.update(values.tolist())
    whole = sum(counts.values())
    atoms = tuple((value, count / whole) for value, count in counts.items()) if len(counts) <= MOST_ATOMS else ()
    low, high = rounded_bounds(counts)
    return Law(mean, std, low, high, kurtosis=1.0, fixed=True, atoms=atoms)


@initializer
def bilinear(fans: Fans) -> Bilinear:
    """The filter by which a transposed convolution interpolates every channel by itself.

    Along a kernel of k elements it is 1 - |i - (k-1)/2| / ⌈k/2⌉; a kernel of 2·s - s mod 2 under stride s enlarges s
    times.

    Args:
        fans: the shape is used: (in, out / groups, *kernel), of three to five dimensions.

    Raises:
        ValueError: another number of dimensions, or channels that do not each have a filter of their own.

    Example:
        >>> bilinear(Fans((1, 1, 2, 2))).mean
        0.25

    Source: Long, Shelhamer, Darrell 2015, arXiv:1411.4038, section 3.3; shelhamer/fcn.berkeleyvision.org surgery.py;
    Caffe's BilinearFiller, which is the same for such kernels.
    """
    shape = fans.shape
    if not 3 <= len(shape) <= 5:
        raise ValueError("an interpolating filter is that of a convolution, of three to five dimensions")
    if shape[0] % shape[1]:
        raise ValueError(f"its {shape[0]} channels do not each have one of {shape[1]} of their own")
    return Bilinear(1.0, shape)
