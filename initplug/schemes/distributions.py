"""Distributions: what an initializer comes down to for one tensor, with closed-form moments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from initplug.schemes.structures.base import Structured
from initplug.schemes.truncation import moments

INFINITY = math.inf


class Distribution(Protocol):
    """The properties that every distribution has: moments and support of its elements, in the units of the tensor."""

    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def skewness(self) -> float:
        """Third central moment over the cubed standard deviation; 0 for what is symmetric."""

    @property
    def kurtosis(self) -> float:
        """Fourth central moment over the squared variance; 3 for a normal distribution."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Every element is `value`.

    Example:
        >>> Constant(0.5).mean, Constant(0.5).std
        (0.5, 0.0)
    """

    value: float

    @property
    def mean(self) -> float:
        return self.value

    @property
    def std(self) -> float:
        return 0.0

    @property
    def low(self) -> float:
        return self.value

    @property
    def high(self) -> float:
        return self.value

    @property
    def skewness(self) -> float:
        return 0.0

    @property
    def kurtosis(self) -> float:
        return 1.0


@dataclass(frozen=True, slots=True)
class Normal:
    """Independent normal elements of this mean and standard deviation."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.std < 0:
            raise ValueError(f"std must not be negative, it is {self.std:g}")

    @property
    def low(self) -> float:
        return -INFINITY

    @property
    def high(self) -> float:
        return INFINITY

    @property
    def skewness(self) -> float:
        return 0.0

    @property
    def kurtosis(self) -> float:
        return 3.0


@dataclass(frozen=True, slots=True)
class Uniform:
    """Independent elements, uniform between `low` and `high`.

    Example:
        >>> Uniform(-0.5, 0.5).std
        0.2886751345948129
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, they are {self.low:g} and {self.high:g}")

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        return (self.high - self.low) / math.sqrt(12)

    @property
    def skewness(self) -> float:
        return 0.0

    @property
    def kurtosis(self) -> float:
        return 1.8


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """A normal distribution conditioned on [low, high].

    `mean` and `std` are those of what is drawn; `loc` and `scale` are those of the normal before the cut, so
    cut at two standard deviations `std = 0.8796·scale`.

    Args:
        loc: mean of the normal before the cut.
        scale: standard deviation of the normal before the cut, positive.
        low: lower bound, absolute.
        high: upper bound, absolute.

    Raises:
        ValueError: the interval is empty or lies wholly beyond six standard deviations.

    Example:
        >>> round(TruncatedNormal(0.0, 1.0, -2.0, 2.0).std, 6)
        0.879626

    Source: Johnson, Kotz, Balakrishnan, Continuous Univariate Distributions 1, section 10.1.
    """

    loc: float
    scale: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"std must be positive, it is {self.scale:g}")
        if self.low >= self.high:
            raise ValueError(f"low must be below high, they are {self.low:g} and {self.high:g}")
        if self.low > self.loc + 6 * self.scale or self.high < self.loc - 6 * self.scale:
            raise ValueError(
                f"the interval [{self.low:g}, {self.high:g}] lies wholly beyond 6 std of mean {self.loc:g}, "
                f"std {self.scale:g}"
            )

    @property
    def mean(self) -> float:
        return self.loc + self.scale * self._moments()[0]

    @property
    def std(self) -> float:
        return self.scale * math.sqrt(self._moments()[1])

    @property
    def skewness(self) -> float:
        return self._moments()[2]

    @property
    def kurtosis(self) -> float:
        return self._moments()[3]

    def _moments(self) -> tuple[float, float, float, float]:
        """Return the mean, variance, skewness and kurtosis in units of `scale`."""
        return moments((self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale)


@dataclass(frozen=True, slots=True)
class Default:
    """The draws of construction's resets: replaced, at plan time, by what those are."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The values stay as they are; `otherwise` says what a tensor without values (on meta) gets."""

    otherwise: Literal["error", "default"] = "error"


Single = Constant | Normal | TruncatedNormal | Uniform | Structured
"""Distributions of one tensor."""


@dataclass(frozen=True, slots=True)
class Batched:
    """A stack of tensors along leading dimensions, each a structured one of its own.

    Args:
        part: of each tensor of the stack.
        dims: leading dimensions that are the stack's.
    """

    part: Structured
    dims: int

    @property
    def mean(self) -> float:
        return self.part.mean

    @property
    def std(self) -> float:
        return self.part.std

    @property
    def low(self) -> float:
        return self.part.low

    @property
    def high(self) -> float:
        return self.part.high

    @property
    def skewness(self) -> float:
        return self.part.skewness

    @property
    def kurtosis(self) -> float:
        return self.part.kurtosis


@dataclass(frozen=True, slots=True)
class Stacked:
    """Equal parts along a dimension, each with a distribution of its own: packed projections, gates.

    Its mean and standard deviation are those of the mixture; kept parts have no say in them.

    Args:
        parts: the distributions, in order; `Keep` for a part that is left as it is.
        dim: the dimension that is split.

    Example:
        >>> gates = Stacked((Constant(0.0), Constant(1.0), Constant(0.0), Constant(0.0)), 0)
        >>> gates.mean, round(gates.std, 4)
        (0.25, 0.433)
    """

    parts: tuple[Single | Batched | Keep, ...]
    dim: int

    @property
    def drawn(self) -> list[Single | Batched]:
        """The parts that are given values."""
        return [part for part in self.parts if not isinstance(part, Keep)]

    @property
    def mean(self) -> float:
        return math.fsum(part.mean / len(self.drawn) for part in self.drawn)

    @property
    def std(self) -> float:
        if len(set(self.drawn)) == 1:
            return self.drawn[0].std
        mean = self.mean
        offs = (math.hypot(part.std, part.mean - mean) for part in self.drawn)
        return math.hypot(*offs) / math.sqrt(len(self.drawn))

    @property
    def low(self) -> float:
        return min(part.low for part in self.drawn)

    @property
    def high(self) -> float:
        return max(part.high for part in self.drawn)


Drawn = Single | Batched | Stacked
"""Distributions that give values."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The values of another slot.

    Args:
        source: canonical name of the other slot.
        drawn: what the values come from where they are drawn, by way of further copies too.
    """

    source: str
    drawn: Drawn | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The values of a tensor in a safetensors file.

    Args:
        path: of the file.
        key: name of the tensor in it.
    """

    path: str
    key: str


Planned = Drawn | Copy | Load | Keep
"""The entries that a plan may have for a slot."""


def closed_form(distribution: object) -> Drawn | None:
    """Return the distribution itself where it has moments, for a copy that of its source, else None."""
    if isinstance(distribution, Copy):
        distribution = distribution.drawn
    if isinstance(distribution, Stacked) and len(distribution.drawn) < len(distribution.parts):
        return None
    return distribution if isinstance(distribution, Drawn) and not math.isnan(distribution.std) else None


def peak_of(planned: Planned | None, shape: tuple[int, ...]) -> int | None:
    """Return the peak bytes of a seed's draw of a tensor; None of what is drawn element by element, in chunks.

    Args:
        planned: of the tensor.
        shape: sizes of the tensor.

    Example:
        >>> from initplug.schemes.structures.identity import Eye
        >>> peak_of(Stacked((Eye(1.0, 4, 8), Eye(1.0, 4, 8)), 0), (8, 8))
        128
    """
    match planned:
        case Stacked(parts, dim):
            place = dim % len(shape)
            piece = (*shape[:place], shape[place] // len(parts), *shape[place + 1 :])
            return max((one for part in parts if (one := peak_of(part, piece)) is not None), default=None)
        case Batched(part, dims):
            return part.peak(shape[dims:])
        case Structured():
            return planned.peak(shape)
    return None


def scaled(distribution: Drawn, factor: float, divisor: float = 1.0) -> Drawn:
    """Return the distribution of a draw times `factor` over `divisor`, mean and bounds included.

    The divisor is kept apart so that std/√n is divided once, as the sources do, and gives their bits.

    Example:
        >>> scaled(Uniform(-1.0, 1.0), 0.5)
        Uniform(low=-0.5, high=0.5)
    """

    def times(value: float) -> float:
        return value * factor / divisor

    match distribution:
        case Stacked(parts, dim):
            return Stacked(tuple(part if isinstance(part, Keep) else _scaled_one(part, times) for part in parts), dim)
        case _:
            return _scaled_one(distribution, times)


def _scaled_one(distribution: Single | Batched, times: Callable[[float], float]) -> Single | Batched:
    match distribution:
        case Batched(part, dims):
            return Batched(part.times(times(1.0)), dims)
        case Constant(value):
            return Constant(times(value))
        case Normal(mean, std):
            return Normal(times(mean), abs(times(std)))
        case TruncatedNormal(loc, scale, low, high):
            if times(scale) == 0:
                return Constant(0.0)
            bounds = sorted((times(low), times(high)))
            return TruncatedNormal(times(loc), abs(times(scale)), bounds[0], bounds[1])
        case Uniform(low, high):
            bounds = sorted((times(low), times(high)))
            return Uniform(bounds[0], bounds[1])
        case _:
            return distribution.times(times(1.0))


def text(distribution: object) -> str | None:
    """Return one line that a person reads: `normal(0, 0.02)`, `uniform(-0.1, 0.1)`.

    Example:
        >>> text(Normal(0.0, 0.02))
        'normal(mean=0, std=0.02)'
    """
    match distribution:
        case Constant(value):
            return f"constant({value:g})"
        case Normal(mean, std):
            return f"normal(mean={mean:g}, std={std:g})"
        case TruncatedNormal(loc, scale, low, high):
            return f"truncated_normal(mean={loc:g}, std={scale:g}, low={low:g}, high={high:g})"
        case Uniform(low, high):
            return f"uniform({low:g}, {high:g})"
        case Structured():
            return distribution.text
        case Batched(part, dims):
            return f"{text(part)} along {dims} leading dimension{'s' if dims > 1 else ''}"
        case Stacked(parts, dim):
            return f"stacked({', '.join(str(text(part)) for part in parts)}, dim={dim})"
        case Copy(source):
            return f"copy({source})"
        case Load(path, key):
            return f"load({path}, key={key})"
        case Keep(otherwise):
            return "keep" if otherwise == "error" else f"keep({otherwise})"
    return None
