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
        convolution: a convolution, stored as (out, in / groups, *kernel) unless it is transposed.
        transposed: a transposed convolution, stored as (in, out / groups, *kernel).
        groups: groups of a convolution.
        stride: of a transposed convolution, along each dimension of its kernel.
        matmul: stored as (in, out) and used as `x @ W`.
        embedding: a look-up table, (rows, dim).
        known: whether anybody knows; (out, in, *kernel) where not.
    """

    convolution: bool = False
    transposed: bool = False
    groups: int = 1
    stride: tuple[int, ...] = ()
    matmul: bool = False
    embedding: bool = False
    known: bool = True


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


class AxisError(ValueError):
    """A tensor does not have the axes that its fans are to be counted along."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The dimensions that inputs and outputs lie along, negative ones from the end; the others are receptive field.

    Args:
        inputs: dimensions of inputs.
        outputs: dimensions of outputs.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def plain(self) -> dict[str, int | list[int]]:
        """Return the form that a recipe file holds.

        Example:
            >>> Axes((1,), (0, 2)).plain()
            {'in': 1, 'out': [0, 2]}
        """
        sides = {"in": self.inputs, "out": self.outputs}
        return {side: axes[0] if len(axes) == 1 else [*axes] for side, axes in sides.items()}

    @property
    def text(self) -> str:
        """One line, as a recipe spells it."""
        return f"{{{', '.join(f'{side}: {axes}' for side, axes in self.plain().items())}}}"


def fans_along(shape: Sequence[int], axes: Axes) -> Fans:
    """Return the fans of a tensor whose inputs and outputs lie along given axes: plain products.

    `fan_in` is the product of the sizes of `axes.inputs` and of the axes that are given on neither side, `fan_out`
    that of the sizes of `axes.outputs` and of these.

    Raises:
        AxisError: an axis outside the dimensions, or one that is given twice.

    Example:
        >>> fans_along((8, 512, 64), Axes((1,), (0, 2)))
        Fans(shape=(8, 512, 64), fan_in=512, fan_out=512)

    Source: jax.nn.initializers.variance_scaling, in_axis and out_axis.
    """
    count, seen = len(shape), set[int]()
    for axis in (*axes.inputs, *axes.outputs):
        if not -count <= axis < count:
            raise AxisError(f"there is no axis {axis} among {count} dimension{'' if count == 1 else 's'}")
        if axis % count in seen:
            raise AxisError(f"axis {axis % count} is given twice ({axes.text})")
        seen.add(axis % count)
    field = math.prod(size for axis, size in enumerate(shape) if axis not in seen)
    fan_in, fan_out = (math.prod(shape[axis] for axis in side) * field for side in (axes.inputs, axes.outputs))
    return Fans(shape, fan_in, fan_out)


def fans_of(shape: Sequence[int], layout: Layout = PLAIN_LAYOUT, rule: FanRule | Axes = "torch") -> Fans:
    """Return the fans of a tensor under a fan rule.

    Args:
        shape: sizes of the tensor, in elements.
        layout: what the owner does with its dimensions.
        rule: `torch` counts as torch.nn.init does, `effective` counts true connections of transposed and
            grouped convolutions and of (in, out) matrices, `flat` takes the matrix (size(0), the rest); or the axes
            of inputs and outputs.

    Raises:
        AxisError: axes that the tensor does not have.

    Example:
        >>> transposed = Layout(transposed=True)
        >>> fans_of((8, 16, 3, 3), transposed, "torch")
        Fans(shape=(8, 16, 3, 3), fan_in=144, fan_out=72)
        >>> fans_of((8, 16, 3, 3), transposed, "effective")
        Fans(shape=(8, 16, 3, 3), fan_in=72, fan_out=144)
        >>> fans_of((8, 16, 4, 4), Layout(transposed=True, stride=(2, 2)), "effective").fan_in
        32
    """
    shape = tuple(shape)
    if isinstance(rule, Axes):
        return fans_along(shape, rule)
    if len(shape) < 2 or rule == "torch":
        return Fans(shape)
    if rule == "flat":
        return Fans(shape, fan_in=math.prod(shape[1:]), fan_out=shape[0])
    if layout.embedding:
        return Fans(shape, missing="an embedding is a look-up table and has no effective fans")
    field = math.prod(shape[2:])
    first, second = shape[0] * field, shape[1] * field
    if layout.transposed:
        return Fans(shape, fan_in=_taps(first // layout.groups, shape[2:], layout.stride), fan_out=second)
    if layout.matmul:
        return Fans(shape, fan_in=first, fan_out=second)
    return Fans(shape, fan_in=second, fan_out=first // layout.groups)


def _taps(taps: int, kernel: Sequence[int], stride: Sequence[int]) -> int:
    """Return how many of so many taps feed an output, which a stride gives to several; the mean, rounded."""
    outputs = math.prod(min(pair) for pair in zip(kernel, stride, strict=False))
    return max(1, (2 * taps + outputs) // (2 * outputs))
