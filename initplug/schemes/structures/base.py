"""The base of structures: tensors whose values belong together, so that each is drawn as a whole.

Each knows the shape that it is for, the moments of the elements of that shape, and how it is made of random numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from initplug.schemes.laws import Atoms, Distribution, Law, Smooth

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

ROUNDING = 1e-6
"""The distance by which a computed element may lie beyond its bound."""


MOST_ATOMS = 64
"""Values up to which a law names every one that elements take."""


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


class Structured(Distribution):
    """A distribution of a whole tensor.

    Every element may depend on every number, so that whoever needs a part computes the whole and cuts it out. No bit
    of the result depends on threads, machine or BLAS, except that of a table of sines on the platform's libm.
    """

    __slots__ = ()

    def times(self, factor: float, divisor: float = 1.0) -> Structured:
        """Return the distribution of a draw times `factor` over `divisor`."""
        raise NotImplementedError

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor of this shape is one that the structure is for."""
        raise NotImplementedError

    def peak(self, shape: tuple[int, ...]) -> int:
        """Return the bytes that drawing it holds at the peak, result and draws included: an upper estimate."""
        raise NotImplementedError

    def compute(self, shape: tuple[int, ...], draw: Draw) -> NDArray[float32]:
        """Return the values of a tensor.

        Args:
            shape: sizes of the tensor, which the structure is for.
            draw: the only source of randomness, for this shape.
        """
        import numpy as np

        values = np.zeros(shape, np.float32)
        if values.size:
            self._fill(values, draw)
        return values

    def values(self, draw: Draw) -> NDArray[Any]:
        """Return the values as they are computed where torch has no function that draws them."""
        raise NotImplementedError

    def _fill(self, values: NDArray[float32], draw: Draw) -> None:
        """Write the values into zeros."""
        raise NotImplementedError


def rounded_bounds(values: Iterable[float]) -> tuple[float, float]:
    """Return where known values end, once they are rounded.

    Example:
        >>> rounded_bounds([0.0, 2.0, -1.0])
        (-1.000001, 2.000002)
    """
    least, most = min(values := [*values]), max(values)
    return least - ROUNDING * abs(least), most + ROUNDING * abs(most)


@dataclass(frozen=True, slots=True)
class Fixed(Structured):
    """A structure of a fixed sum of squares: the sample's variance does not vary."""

    gain: float

    def times(self, factor: float, divisor: float = 1.0) -> Structured:
        """Return the structure with its gain times `factor` over `divisor`."""
        return replace(self, gain=self.gain * (factor / divisor))

    def _law(self, mean: float, std: float, atoms: Atoms = (), smooth: Smooth = ()) -> Law:
        """Return the law of its elements: no two samples of one differ in their root mean square."""
        bound = abs(self.gain) * (1 + ROUNDING)
        return Law(mean, std, -bound, bound, kurtosis=1.0, fixed=True, atoms=atoms, smooth=smooth)
