"""Distributions: what an initializer comes down to for one tensor, with the law of its elements."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from initplug.schemes.laws import FINEST, Density, Distribution, Law, Sampling, TorchCall, point
from initplug.schemes.structures.base import Structured
from initplug.schemes.truncation import bell, mass, moments, outer_quantiles, quantiles, standard_quantile


@dataclass(frozen=True, slots=True)
class Constant(Distribution):
    """Every element is `value`.

    Example:
        >>> Constant(0.5).mean, Constant(0.5).std
        (0.5, 0.0)
    """

    value: float

    generated = False

    @property
    def law(self) -> Law:
        return point(self.value)

    @property
    def text(self) -> str:
        return f"constant({self.value:g})"

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("constant_", (self.value,))

    def times(self, factor: float, divisor: float = 1.0) -> Constant:
        return Constant(self.value * factor / divisor)


class Elementwise(Distribution):
    """A distribution whose elements are independent, each from a random word of its own."""

    __slots__ = ()

    @property
    def sampling(self) -> Sampling:
        """The making of an element of a word."""
        raise NotImplementedError

    @property
    def complex_parts(self) -> tuple[Elementwise, Elementwise] | None:
        """The distributions of the real and the imaginary part of a complex element; None where it has none."""
        return None

    def free(self, size: int) -> int:
        return size

    def times(self, factor: float, divisor: float = 1.0) -> Elementwise | Constant:
        """Return the distribution of a draw times `factor` over `divisor`, mean and bounds included."""
        raise NotImplementedError


# Fields that have the name of a property of every distribution are marked, lest it be taken for their default.


@dataclass(frozen=True, slots=True)
class Normal(Elementwise):
    """Independent normal elements of this mean and standard deviation."""

    mean: float = field()
    std: float = field()

    def __post_init__(self) -> None:
        if self.std < 0:
            raise ValueError(f"std must not be negative, it is {self.std:g}")

    @property
    def law(self) -> Law:
        density = Density(self.mean, self.std, -math.inf, math.inf, self._density)
        return Law(
            self.mean,
            self.std,
            atoms=() if self.std else ((self.mean, 1.0),),
            smooth=((1.0, density),) if self.std else (),
            inner=self._quantiles,
            outer=self._quantiles,
        )

    def _density(self, x: float) -> float:
        return over(bell((x - self.mean) / self.std), self.std)

    def _quantiles(self, share: float) -> tuple[float, float]:
        reach = self.std * -standard_quantile(share)
        return self.mean - reach, self.mean + reach

    @property
    def text(self) -> str:
        return f"normal(mean={self.mean:g}, std={self.std:g})"

    @property
    def sampling(self) -> Sampling:
        return Sampling("normal", self.std, self.mean)

    @property
    def complex_parts(self) -> tuple[Normal, Normal]:
        return Normal(self.mean, self.std / math.sqrt(2)), Normal(0.0, self.std / math.sqrt(2))

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("normal_", (self.mean, self.std))

    def times(self, factor: float, divisor: float = 1.0) -> Normal:
        return Normal(self.mean * factor / divisor, abs(self.std * factor / divisor))


@dataclass(frozen=True, slots=True)
class Uniform(Elementwise):
    """Independent elements, uniform between `low` and `high`.

    Example:
        >>> Uniform(-0.5, 0.5).std
        0.2886751345948129
        >>> Uniform(-1.0, 1.0).times(0.5)
        Uniform(low=-0.5, high=0.5)
    """

    low: float = field()
    high: float = field()

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, they are {self.low:g} and {self.high:g}")

    @property
    def law(self) -> Law:
        mean, std = (self.low + self.high) / 2, (self.high - self.low) / math.sqrt(12)
        density, empty = Density(mean, std, self.low, self.high, self._density), self.low == self.high
        return Law(
            mean,
            std,
            self.low,
            self.high,
            kurtosis=1.8,
            span=self.high - self.low,
            atoms=((self.low, 1.0),) if empty else (),
            smooth=() if empty else ((1.0, density),),
            inner=self._quantiles,
        )

    def _density(self, _: float) -> float:
        return over(1.0, self.high - self.low)

    def _quantiles(self, share: float) -> tuple[float, float]:
        beside = max(share, FINEST) * (self.high - self.low)
        return self.low + beside, self.high - beside

    @property
    def text(self) -> str:
        return f"uniform({self.low:g}, {self.high:g})"

    @property
    def sampling(self) -> Sampling:
        return Sampling("uniform", self.high - self.low, self.low)

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("uniform_", (self.low, self.high))

    def times(self, factor: float, divisor: float = 1.0) -> Uniform:
        low, high = sorted((self.low * factor / divisor, self.high * factor / divisor))
        return Uniform(low, high)


@dataclass(frozen=True, slots=True)
class TruncatedNormal(Elementwise):
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
    low: float = field()
    high: float = field()

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
    def law(self) -> Law:
        shift, variance, skewness, kurtosis = moments(*self._ends)
        mean, std = self.loc + self.scale * shift, self.scale * math.sqrt(variance)
        return Law(
            mean,
            std,
            self.low,
            self.high,
            skewness,
            kurtosis,
            smooth=((1.0, Density(mean, std, self.low, self.high, self._density)),),
            inner=self._quantiles,
            outer=self._outer_quantiles,
        )

    @property
    def _ends(self) -> tuple[float, float]:
        """The bounds, in standard deviations from the mean before the cut."""
        return (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale

    def _density(self, x: float) -> float:
        within = mass(*self._ends)
        if within == 0:  # an interval so short that the density hardly changes
            return over(1.0, self.high - self.low)
        return over(bell((x - self.loc) / self.scale) / within, self.scale)

    def _quantiles(self, share: float) -> tuple[float, float]:
        below, beyond = quantiles(*self._ends, share, FINEST)
        return self.loc + self.scale * below, self.loc + self.scale * beyond

    def _outer_quantiles(self, share: float) -> tuple[float, float]:
        below, beyond = outer_quantiles(*self._ends, share)
        return self.loc + self.scale * below, self.loc + self.scale * beyond

    @property
    def text(self) -> str:
        return f"truncated_normal(mean={self.loc:g}, std={self.scale:g}, low={self.low:g}, high={self.high:g})"

    @property
    def sampling(self) -> Sampling:
        return Sampling("normal", self.scale, self.loc, (self.low, self.high))

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("trunc_normal_", (self.loc, self.scale, self.low, self.high))

    def times(self, factor: float, divisor: float = 1.0) -> TruncatedNormal | Constant:
        scale = self.scale * factor / divisor
        if scale == 0:
            return Constant(0.0)
        low, high = sorted((self.low * factor / divisor, self.high * factor / divisor))
        return TruncatedNormal(self.loc * factor / divisor, abs(scale), low, high)


def over(one: float, other: float) -> float:
    """Return a quotient; infinite where no double holds it."""
    return one / other if other else math.inf


@dataclass(frozen=True, slots=True)
class Default:
    """The draws of construction's resets: replaced, at plan time, by what those are."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The values stay as they are; `otherwise` says what a tensor without values (on meta) gets."""

    otherwise: Literal["error", "default"] = "error"

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return "keep" if self.otherwise == "error" else f"keep({self.otherwise})"


Single = Constant | Elementwise | Structured
"""Distributions of one tensor."""


@dataclass(frozen=True, slots=True)
class Batched(Distribution):
    """A stack of tensors along leading dimensions, each a structured one of its own.

    Args:
        part: of each tensor of the stack.
        dims: leading dimensions that are the stack's.
    """

    part: Structured
    dims: int

    @property
    def law(self) -> Law:
        return self.part.law

    @property
    def text(self) -> str:
        return f"{self.part.text} along {self.dims} leading dimension{'s' if self.dims > 1 else ''}"

    def times(self, factor: float, divisor: float = 1.0) -> Batched:
        return replace(self, part=self.part.times(factor, divisor))


@dataclass(frozen=True, slots=True)
class Stacked(Distribution):
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
    def law(self) -> Law:
        laws = [part.law for part in self.drawn]
        count = len(laws)
        mean = math.fsum(law.mean / count for law in laws)
        if len(set(self.drawn)) == 1:
            std = laws[0].std
        else:
            std = math.hypot(*(math.hypot(law.std, law.mean - mean) for law in laws)) / math.sqrt(count)
        known = all(law.atoms or law.smooth for law in laws)
        return Law(
            mean,
            std,
            min(law.low for law in laws),
            max(law.high for law in laws),
            skewness=math.nan,  # which nobody asks of a mixture
            kurtosis=math.nan,
            atoms=tuple((value, share / count) for law in laws for value, share in law.atoms if known),
            smooth=tuple((share / count, density) for law in laws for share, density in law.smooth if known),
        )

    @property
    def text(self) -> str:
        return f"stacked({', '.join(part.text for part in self.parts)}, dim={self.dim})"

    def times(self, factor: float, divisor: float = 1.0) -> Stacked:
        parts = (part if isinstance(part, Keep) else part.times(factor, divisor) for part in self.parts)
        return replace(self, parts=tuple(parts))


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

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return f"copy({self.source})"


@dataclass(frozen=True, slots=True)
class Load:
    """The values of a tensor in a safetensors file.

    Args:
        path: of the file.
        key: name of the tensor in it.
    """

    path: str
    key: str

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return f"load({self.path}, key={self.key})"


Planned = Drawn | Copy | Load | Keep
"""The entries that a plan may have for a slot."""


def parts_of(planned: Planned | None) -> tuple[Single | Batched | Copy | Load | Keep | None, ...]:
    """Return the equal parts of a tensor that is drawn in parts, in order, or all of it as one.

    Example:
        >>> parts_of(Stacked((Constant(0.0), Keep()), 0))
        (Constant(value=0.0), Keep(otherwise='error'))
        >>> parts_of(Constant(0.0))
        (Constant(value=0.0),)
    """
    return planned.parts if isinstance(planned, Stacked) else (planned,)


def singles(planned: Planned | None) -> list[Single]:
    """Return the distributions of single tensors that a draw is made of; none where nothing is drawn.

    Example:
        >>> singles(Stacked((Constant(0.0), Keep()), 0))
        [Constant(value=0.0)]
    """
    drawn = (part for part in parts_of(planned) if isinstance(part, Single | Batched))
    return [part.part if isinstance(part, Batched) else part for part in drawn]


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


def text(distribution: object) -> str | None:
    """Return one line that a person reads: `normal(0, 0.02)`, `uniform(-0.1, 0.1)`.

    Example:
        >>> text(Normal(0.0, 0.02))
        'normal(mean=0, std=0.02)'
    """
    return distribution.text if isinstance(distribution, Planned) else None
