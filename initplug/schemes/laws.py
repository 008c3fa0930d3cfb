"""Laws: what is known of the elements of a distribution, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

FINEST = 2.0**-22
"""The least probability that the quantile of a draw is taken at: the uniform numbers below it are a grid."""

Quantiles = Callable[[float], tuple[float, float]]
"""The values that a share of the elements lies below, and beyond."""


class Density(NamedTuple):
    """A density: that of the elements which take no value with a probability of its own.

    Args:
        mean: of these elements.
        std: of these elements.
        low: where it begins.
        high: where it ends.
        at: its height between both, per unit.
    """

    mean: float
    std: float
    low: float
    high: float
    at: Callable[[float], float]


Atoms = tuple[tuple[float, float], ...]
"""Values that elements take with a probability of their own, and these probabilities."""

Smooth = tuple[tuple[float, Density], ...]
"""Densities, each after its probability."""


class Law(NamedTuple):
    """The law of one element of a tensor, in the units of the tensor; all else that is said of a draw follows from it.

    Args:
        mean: NaN where nobody knows it.
        std: standard deviation; likewise.
        low: the least that an element can be.
        high: the most.
        skewness: third central moment over the cubed standard deviation; 0 for what is symmetric.
        kurtosis: fourth central moment over the squared variance; 3 for a normal distribution.
        fixed: whether the sum of the squares of all elements is fixed, so that the sample's variance does not vary.
        span: the length of the interval that a uniform draw is scaled by; None where the standard deviation says it.
        atoms: values that elements take with a probability of their own, and these probabilities.
        smooth: the densities of the others, each after its probability. Without atoms and densities no more is known
            than the moments.
        inner: quantiles of independent elements, at shares no smaller than draws resolve; None where elements belong
            together.
        outer: the same at every share, for tails that draws do not come to the ends of; None where they do.
    """

    mean: float
    std: float
    low: float = -math.inf
    high: float = math.inf
    skewness: float = 0.0
    kurtosis: float = 3.0
    fixed: bool = False
    span: float | None = None
    atoms: Atoms = ()
    smooth: Smooth = ()
    inner: Quantiles | None = None
    outer: Quantiles | None = None

    @property
    def continuous(self) -> bool:
        """Return whether equal elements are a matter of chance."""
        return bool(self.smooth) and not self.atoms


def point(value: float) -> Law:
    """Return the law of what is a number throughout."""
    return Law(value, 0.0, value, value, kurtosis=1.0, atoms=((value, 1.0),))


class TorchCall(NamedTuple):
    """A function of torch.nn.init that draws a distribution.

    Args:
        function: its name.
        arguments: after the tensor.
        gain: what its result is multiplied by.
        centre: whether it is called for the centre of a convolution's kernel, beside which all is zero.
    """

    function: str
    arguments: tuple[Any, ...] = ()
    gain: float = 1.0
    centre: bool = False


class Sampling(NamedTuple):
    """The making of an element of one random word: a standard number, times `scale` plus `shift`, or what is mapped.

    Args:
        standard: `normal`, of mean 0 and standard deviation 1; or `uniform`, in [0, 1).
        scale: what it is multiplied by.
        shift: what is added.
        cut: bounds that a normal is confined to, in the units of the tensor; None where it is not.
        mapped: what is made of standard numbers instead, by sums, products and quotients alone, for the same bits.
    """

    standard: Literal["normal", "uniform"]
    scale: float = 1.0
    shift: float = 0.0
    cut: tuple[float, float] | None = None
    mapped: Callable[[NDArray[float64]], NDArray[float64]] | None = None


class Distribution:
    """The random or fixed values that an initializer comes down to for one tensor."""

    __slots__ = ()

    generated = True
    """True where a draw takes numbers from a generator."""

    @property
    def law(self) -> Law:
        """The law of its elements."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """One line that a person reads."""
        raise NotImplementedError

    @property
    def torch_call(self) -> TorchCall | None:
        """The function by which torch draws it; None where it has none."""
        return None

    def times(self, factor: float, divisor: float = 1.0) -> Distribution:
        """Return the distribution of a draw times `factor` over `divisor`, mean and bounds included.

        The divisor is kept apart so that std/√n is divided once, as the sources do, and gives their bits.
        """
        raise NotImplementedError

    def free(self, size: int) -> int:  # noqa: ARG002  # where none is free
        """Return how many elements of so many are drawn independently."""
        return 0

    @property
    def mean(self) -> float:
        """Mean of its elements."""
        return self.law.mean

    @property
    def std(self) -> float:
        """Standard deviation of its elements."""
        return self.law.std

    @property
    def low(self) -> float:
        """The least that an element can be."""
        return self.law.low

    @property
    def high(self) -> float:
        """The most that an element can be."""
        return self.law.high
