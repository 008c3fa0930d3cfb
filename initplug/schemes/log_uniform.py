"""Log-uniform draws, and what a link makes of them: time steps that lie evenly over orders of magnitude."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from initplug.schemes.distributions import Constant, Elementwise, over
from initplug.schemes.elementary import exp, expm1, log
from initplug.schemes.fans import Fans
from initplug.schemes.laws import FINEST, Density, Law, Sampling, point
from initplug.schemes.registry import initializer

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

Link = Literal["none", "exp", "inverse_softplus"]


@dataclass(frozen=True, slots=True)
class LogUniform(Elementwise):
    """Independent elements `gain`·g(max(x, floor)), where ln x is uniform and g is the link.

    Args:
        least: of x, positive.
        most: of x.
        link: g(x) is x for `none`, eˣ for `exp`, ln(eˣ - 1) for `inverse_softplus`.
        floor: what smaller x are raised to; None where none are.
        gain: what the result is multiplied by.

    Example:
        >>> round(LogUniform(1.0, math.e).mean, 6)
        1.718282
    """

    least: float
    most: float
    link: Link = "none"
    floor: float | None = None
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.least <= 0:
            raise ValueError(f"low must be positive, it is {self.least:g}")
        if self.least > self.most:
            raise ValueError(f"low must not exceed high, they are {self.least:g} and {self.most:g}")
        if self.floor is not None and self.floor >= self.most:
            raise ValueError(f"floor must be below high, they are {self.floor:g} and {self.most:g}")
        if self.link == "exp" and self.most > MOST_EXPONENT:
            raise ValueError(f"exp of {self.most:g} is beyond what a double holds")

    @property
    def law(self) -> Law:
        return _law(self)

    @property
    def begin(self) -> float:
        """The least of x once it is raised to the floor."""
        return max(self.least, self.floor or 0.0)

    @property
    def text(self) -> str:
        link = "" if self.link == "none" else f", link={self.link}"
        floor = "" if self.floor is None else f", floor={self.floor:g}"
        call = f"log_uniform({self.least:g}, {self.most:g}{link}{floor})"
        return call if self.gain == 1 else f"{self.gain:g}·{call}"

    @property
    def sampling(self) -> Sampling:
        return Sampling("uniform", mapped=self._mapped)

    def times(self, factor: float, divisor: float = 1.0) -> LogUniform | Constant:
        gain = self.gain * factor / divisor
        return replace(self, gain=gain) if gain else Constant(0.0)

    def linked(self, x: NDArray[float64]) -> NDArray[float64]:
        """Return g(x), the same bits on every machine."""
        match self.link:
            case "exp":
                return exp(x)
            case "inverse_softplus":
                return x + log(-expm1(-x))  # as ln(eˣ - 1), whose eˣ may be beyond a double
            case _:
                return x

    def value(self, x: float) -> float:
        """Return what comes of one x."""
        import numpy as np

        return self.gain * float(self.linked(np.array([x]))[0])

    def _mapped(self, uniform: NDArray[float64]) -> NDArray[float64]:
        """Return what comes of uniform numbers; a link rises, so that the bounds of the law are floor and ends of x."""
        import numpy as np

        start, end = log(np.array([self.least, self.most]))
        values = self.gain * self.linked(exp(start + uniform * (end - start)))
        return np.clip(values, self.law.low, self.law.high)

    def _density(self, value: float) -> float:
        """Return the density of what lies above the floor: that of x, over the slope of the link."""
        linked = value / self.gain
        match self.link:
            case "exp":
                slope = math.log(linked) * linked  # in units of 1/x, as are the others
            case "inverse_softplus":
                x = max(linked, 0.0) + math.log1p(math.exp(-abs(linked)))
                slope = x / -math.expm1(-x) if x else 1.0
            case _:
                slope = linked
        return over(1.0, slope * (math.log(self.most) - math.log(self.begin)) * abs(self.gain))

    def _quantiles(self, share: float) -> tuple[float, float]:
        start, end = math.log(self.least), math.log(self.most)
        beside = max(share, FINEST) * (end - start)
        ends = (self.value(max(math.exp(edge), self.begin)) for edge in (start + beside, end - beside))
        low, high = ends if self.gain > 0 else reversed([*ends])
        return low, high


MOST_EXPONENT = 709.0
"""The largest whole number whose exponential a double holds."""


@lru_cache(maxsize=1024)
def _law(one: LogUniform) -> Law:
    low, high = sorted((one.value(one.begin), one.value(one.most)))
    if math.log(one.begin) == math.log(one.most):  # equal, or neighbours
        return point(high)
    mean, std, skewness, kurtosis = _moments_by_quadrature(one)
    raised = _share_raised(one)
    above = _law(replace(one, least=one.begin, floor=None)) if raised else Law(mean, std)
    return Law(
        mean,
        std,
        low,
        high,
        skewness,
        kurtosis,
        atoms=((one.value(one.begin), raised),) if raised else (),
        smooth=((1 - raised, Density(above.mean, above.std, low, high, one._density)),),
        inner=one._quantiles,
    )


def _share_raised(one: LogUniform) -> float:
    """Return the probability that x is raised to the floor."""
    start, floor, end = math.log(one.least), math.log(one.begin), math.log(one.most)
    return (floor - start) / (end - start)


PANEL_OF_LOGS, PANEL_OF_EXPONENTS = 0.5, 0.25
"""Lengths, of ln x and of x, over which what is summed up is nearly a polynomial."""


def _moments_by_quadrature(one: LogUniform) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, skewness and kurtosis, by Gauss's quadrature in ln x, to rounding."""
    import numpy as np

    start, end = math.log(one.begin), math.log(one.most)
    edges = np.linspace(start, end, math.ceil((end - start) / PANEL_OF_LOGS) + 1)
    if one.link == "exp" and one.most > 1:  # whose powers grow with x
        first = max(one.begin, 1.0)
        steps = np.log(np.linspace(first, one.most, math.ceil((one.most - first) / PANEL_OF_EXPONENTS) + 1))
        edges = np.concatenate([edges[edges < steps[0]], steps])
    nodes, weights = np.polynomial.legendre.leggauss(20)
    halves = np.diff(edges)[:, None] / 2
    places = edges[:-1, None] + halves * (1 + nodes)
    shares = (halves * weights).reshape(-1)
    raised = _share_raised(one)
    shares = np.append(shares / shares.sum() * (1 - raised), raised)
    values = one.linked(np.append(np.exp(places.reshape(-1)), one.begin))
    largest = float(np.abs(values).max()) or 1.0  # whose powers may be beyond a double
    values /= math.copysign(largest, one.gain)
    scale = largest * abs(one.gain)
    mean = float(shares @ values)
    offs = values - mean
    variance, third, fourth = (float(shares @ offs**power) for power in (2, 3, 4))
    if not variance:  # whatever lies between is rounded to one number
        return scale * mean, 0.0, 0.0, 1.0
    return scale * mean, scale * math.sqrt(variance), third / variance**1.5, fourth / variance**2


@initializer(bare=("low", "high"), any_shape=True)
def log_uniform(
    fans: Fans,  # noqa: ARG001  # as every initializer
    *,
    low: Annotated[float, Gt(0)],
    high: Annotated[float, Gt(0)],
    link: Link = "none",
    floor: Annotated[float, Gt(0)] | None = None,
) -> LogUniform:
    """exp(U(ln low, ln high)), raised to `floor` where it is less, then the link.

    Mamba's bias of time steps is `log_uniform 0.001 0.1 inverse_softplus floor=1e-4`: softplus makes of it steps that
    lie evenly over two orders of magnitude.

    Args:
        fans: not used.
        low: least of what is drawn, positive.
        high: most of what is drawn, at least `low`.
        link: `none`; `exp`, eˣ; or `inverse_softplus`, ln(eˣ - 1).
        floor: what is drawn below it is raised to it, before the link.

    Raises:
        ValueError: `low` exceeds `high`, a floor that nothing lies above, or an exponential beyond a double.

    Example:
        >>> drawn = log_uniform(Fans((16,)), low=0.001, high=0.1, link="inverse_softplus")
        >>> round(drawn.low, 4), round(drawn.mean, 4), round(drawn.high, 4)
        (-6.9073, -4.5944, -2.2522)

    Source: Gu and Dao 2023, arXiv:2312.00752; state-spaces/mamba mamba_ssm/modules/mamba_simple.py.
    """
    return LogUniform(float(low), float(high), link, None if floor is None else float(floor))
