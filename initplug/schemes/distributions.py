"""Distributions of elements that are independent draws, each with the law of one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from initplug.schemes.laws import FINEST, Density, Distribution, Law, Sampling, TorchCall, point
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

    @property
    def complex_form(self) -> Elementwise | None:
        """The distribution of complex elements that is meant by it; None where there is none."""
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
    def complex_form(self) -> Normal:
        return self

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
    def complex_form(self) -> Complex:
        return Complex(self, self)

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
    def complex_form(self) -> Complex:
        scale, low, high = (part / math.sqrt(2) for part in (self.scale, self.low - self.loc, self.high - self.loc))
        return Complex(
            TruncatedNormal(self.loc, scale, self.loc + low, self.loc + high), TruncatedNormal(0.0, scale, low, high)
        )

    @property
    def torch_call(self) -> TorchCall:
        return TorchCall("trunc_normal_", (self.loc, self.scale, self.low, self.high))

    def times(self, factor: float, divisor: float = 1.0) -> TruncatedNormal | Constant:
        scale = self.scale * factor / divisor
        if scale == 0:
            return Constant(0.0)
        low, high = sorted((self.low * factor / divisor, self.high * factor / divisor))
        return TruncatedNormal(self.loc * factor / divisor, abs(scale), low, high)


@dataclass(frozen=True, slots=True)
class Complex(Elementwise):
    """Independent complex elements, whose parts are drawn apart.

    Its mean is that of the real part, its standard deviation √E|z - mean|², its bounds those of both parts.

    Args:
        real: of the real parts.
        imaginary: of the imaginary parts.

    Example:
        >>> Uniform(-1.0, 1.0).complex_form.std == math.sqrt(2) * Uniform(-1.0, 1.0).std
        True
    """

    real: Elementwise
    imaginary: Elementwise

    @property
    def law(self) -> Law:
        real, imaginary = self.real.law, self.imaginary.law
        std = math.hypot(real.std, imaginary.std, imaginary.mean)
        low, high = min(real.low, imaginary.low), max(real.high, imaginary.high)
        kurtosis = max(real.kurtosis, imaginary.kurtosis)
        return Law(real.mean, std, low, high, real.skewness, kurtosis, atoms=real.atoms, smooth=real.smooth)

    @property
    def text(self) -> str:
        if self.real == self.imaginary:
            return f"{self.real.text} in both parts"
        return f"{self.real.text} + i·{self.imaginary.text}"

    @property
    def sampling(self) -> Sampling:
        return self.real.sampling

    @property
    def complex_form(self) -> Complex:
        return self

    @property
    def complex_parts(self) -> tuple[Elementwise, Elementwise]:
        return self.real, self.imaginary

    @property
    def torch_call(self) -> TorchCall | None:
        """The function that torch has for both parts at once: of uniform ones."""
        return self.real.torch_call if isinstance(self.real, Uniform) and self.real == self.imaginary else None


def over(one: float, other: float) -> float:
    """Return a quotient; infinite where no double holds it."""
    return one / other if other else math.inf
