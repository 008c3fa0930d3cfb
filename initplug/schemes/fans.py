"""Fans: how many inputs and outputs an element of a tensor connects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FanRule = Literal["torch", "effective", "flat"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The use of a tensor's dimensions by the module that owns it.

    Args:
        transposed: a transposed convolution, stored as (in, out / groups, *kernel).
        groups: groups of a convolution.
        matmul: stored as (in, out) and used as `x @ W`.
        embedding: a look-up table, (rows, dim).
    """

    transposed: bool = False
    groups: int = 1
    matmul: bool = False
    embedding: bool = False


PLAIN_LAYOUT = Layout()


class Fans:
    """The shape of a tensor with its fans; reading a fan that does not exist raises.

    `fan_in = size(1)·rf` and `fan_out = size(0)·rf`, where `rf` is the product of the remaining sizes,
    unless they are given.

    Args:
        shape: sizes of the tensor, in elements.
        fan_in: inputs that feed one output, in elements.
        fan_out: outputs that one input feeds, in elements.

    Raises:
        ValueError: a fan is read of a tensor with fewer than two dimensions.

    Example:
        >>> fans = Fans((64, 32, 3, 3))
        >>> fans.fan_in, fans.fan_out
        (288, 576)

    Source: torch.nn.init._calculate_fan_in_and_fan_out.
    """

    __slots__ = ("_fan_in", "_fan_out", "_missing", "shape")

    def __init__(
        self, shape: Sequence[int], fan_in: int | None = None, fan_out: int | None = None, *, missing: str | None = None
    ) -> None:
        self.shape = tuple(shape)
        self._missing = missing
        if len(self.shape) >= 2 and missing is None:
            field = math.prod(self.shape[2:])
            fan_in = self.shape[1] * field if fan_in is None else fan_in
            fan_out = self.shape[0] * field if fan_out is None else fan_out
        self._fan_in = fan_in
        self._fan_out = fan_out

    @property
    def fan_in(self) -> int:
        """Inputs that feed one output, in elements."""
        return self._read(self._fan_in, "fan_in")

    @property
    def fan_out(self) -> int:
        """Outputs that one input feeds, in elements."""
        return self._read(self._fan_out, "fan_out")

    @property
    def pair(self) -> tuple[int, int] | None:
        """(fan_in, fan_out), or None where the tensor has none."""
        if self._fan_in is None or self._fan_out is None:
            return None
        return self._fan_in, self._fan_out

    def _read(self, fan: int | None, name: str) -> int:
        if fan is None:
            raise FanError(self._missing or f"there is no {name} below two dimensions")
        return fan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fans) and (self.shape, self.pair) == (other.shape, other.pair)

    def __hash__(self) -> int:
        return hash((self.shape, self.pair))

    def __repr__(self) -> str:
        return f"Fans(shape={self.shape}, fan_in={self._fan_in}, fan_out={self._fan_out})"


class FanError(ValueError):
    """A fan was asked of a tensor that has none."""


def fans_of(shape: Sequence[int], layout: Layout = PLAIN_LAYOUT, rule: FanRule = "torch") -> Fans:
    """Return the fans of a tensor under a fan rule.

    Args:
        shape: sizes of the tensor, in elements.
        layout: what the owner does with its dimensions.
        rule: `torch` counts as torch.nn.init does, `effective` counts true connections of transposed and
            grouped convolutions and of (in, out) matrices, `flat` takes the matrix (size(0), the rest).

    Example:
        >>> transposed = Layout(transposed=True)
        >>> fans_of((8, 16, 3, 3), transposed, "torch")
        Fans(shape=(8, 16, 3, 3), fan_in=144, fan_out=72)
        >>> fans_of((8, 16, 3, 3), transposed, "effective")
        Fans(shape=(8, 16, 3, 3), fan_in=72, fan_out=144)
    """
    shape = tuple(shape)
    if len(shape) < 2 or rule == "torch":
        return Fans(shape)
    if rule == "flat":
        return Fans(shape, fan_in=math.prod(shape[1:]), fan_out=shape[0])
    if layout.embedding:
        return Fans(shape, missing="an embedding is a look-up table and has no effective fans")
    field = math.prod(shape[2:])
    first, second = shape[0] * field, shape[1] * field
    if layout.transposed:
        return Fans(shape, fan_in=first // layout.groups, fan_out=second)
    if layout.matmul:
        return Fans(shape, fan_in=first, fan_out=second)
    return Fans(shape, fan_in=second, fan_out=first // layout.groups)
