"""Ones and zeros: a convolution that passes its input on, and the diagonal of a matrix."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from initplug.schemes.fans import Fans
from initplug.schemes.laws import Law, TorchCall
from initplug.schemes.registry import initializer
from initplug.schemes.structures.base import Draw, Fixed

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


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

    generated = False

    @property
    def law(self) -> Law:
        ones = self.groups * min(self.shape[0] // self.groups, self.shape[1])
        share = ones / math.prod(self.shape)
        std = abs(self.gain) * math.sqrt(share - share**2)
        return self._law(self.gain * share, std, ((0.0, 1 - share), (self.gain, share)))

    @property
    def text(self) -> str:
        return f"dirac(gain={self.gain:g}, groups={self.groups})"

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("dirac_", (self.groups,), self.gain)

    def holds(self, shape: tuple[int, ...]) -> bool:
        return 3 <= len(shape) <= 5 and self.shape == shape and self.groups > 0 and shape[0] % self.groups == 0

    def peak(self, shape: tuple[int, ...]) -> int:
        return 4 * math.prod(shape)

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        each = values.shape[0] // self.groups
        centre = tuple(size // 2 for size in values.shape[2:])
        for group, channel in itertools.product(range(self.groups), range(min(each, values.shape[1]))):
            values[(group * each + channel, channel, *centre)] = self.gain


@dataclass(frozen=True, slots=True)
class Eye(Fixed):
    """`gain` on the diagonal of a matrix, zero elsewhere.

    Example:
        >>> Eye(1.0, 4, 4).mean
        0.25
        >>> Eye(1.0, 1024, 1024).peak((1024, 1024)) / 2**20
        4.0
    """

    rows: int
    columns: int

    generated = False

    @property
    def law(self) -> Law:
        share = 1 / max(self.rows, self.columns)
        std = abs(self.gain) * math.sqrt(share - share**2)
        return self._law(self.gain / max(self.rows, self.columns), std, ((0.0, 1 - share), (self.gain, share)))

    @property
    def text(self) -> str:
        return f"eye(gain={self.gain:g})"

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("eye_", (), self.gain)

    def holds(self, shape: tuple[int, ...]) -> bool:
        return (self.rows, self.columns) == shape

    def peak(self, shape: tuple[int, ...]) -> int:
        return 4 * math.prod(shape)

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        import numpy as np

        np.fill_diagonal(values, self.gain)


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
