"""Closed forms: what a distribution becomes where code scales, shifts, cuts or maps what it has drawn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.fans import Fans
from initplug.schemes.initializers import trunc_normal
from initplug.schemes.log_uniform import LogUniform
from initplug.schemes.structures.identity import dirac, eye
from initplug.schemes.structures.orthogonal import orthogonal
from initplug.schemes.structures.sparse import sparse
from initplug.schemes.uniform_log import UniformLog

WHOLE: Mapping[str, Callable[[Fans, Mapping[str, Any]], Drawn]] = {
    "trunc_normal_": lambda fans, given: trunc_normal(
        fans, mean=float(given["mean"]), std=float(given["std"]), low=float(given["a"]), high=float(given["b"])
    ),
    "orthogonal_": lambda fans, given: orthogonal(fans, gain=float(given["gain"])),
    "sparse_": lambda fans, given: sparse(fans, sparsity=float(given["sparsity"]), std=float(given["std"])),
}
"""Functions of torch.nn.init that draw in several steps, with what they give; by their own arguments."""

FIXED: Mapping[str, Callable[[Fans, Mapping[str, Any]], Drawn]] = {
    "eye_": lambda fans, _: eye(fans),
    "dirac_": lambda fans, given: dirac(fans, groups=int(given["groups"])),
}
"""The same for those that draw nothing."""

BEYOND = 6.0
"""Standard deviations beyond which a normal draw of single precision has no elements to clamp."""


def scaled(before: Drawn, by: float) -> Drawn:
    """Return the distribution of a draw times a number."""
    return before.times(by)


def divided(before: Drawn, by: float) -> Drawn:
    """Return the distribution of a draw over a number."""
    return before.times(1 / by)


def shifted(before: Drawn, by: float) -> Drawn:
    """Return the distribution of a draw plus a number.

    Raises:
        ValueError: it has no closed form.
    """
    match before:
        case Constant(value):
            return Constant(value + by)
        case Normal(mean, std):
            return Normal(mean + by, std)
        case Uniform(low, high):
            return Uniform(low + by, high + by)
        case TruncatedNormal(loc, scale, low, high):
            return TruncatedNormal(loc + by, scale, low + by, high + by)
        case UniformLog(low, high, gain):
            return UniformLog(low * math.exp(by / gain), high * math.exp(by / gain), gain)
    if by == 0:
        return before
    raise ValueError("what it adds to has no closed form for that")


def inverse_erf(before: Drawn) -> Drawn:
    """Return the distribution of erf⁻¹ of a uniform draw in [-1, 1]: a truncated normal of std 1/√2.

    Raises:
        ValueError: it is no such draw.
    """
    if not isinstance(before, Uniform) or not -1 <= before.low < before.high <= 1:
        raise ValueError("what it maps is no uniform draw in [-1, 1]")
    standard = statistics.NormalDist(sigma=math.sqrt(0.5))
    low, high = (
        math.copysign(math.inf, end) if abs(end) == 1 else standard.inv_cdf((end + 1) / 2)
        for end in (before.low, before.high)
    )
    return TruncatedNormal(0.0, math.sqrt(0.5), low, high)


def clamped(before: Drawn, least: float = -math.inf, most: float = math.inf) -> Drawn:
    """Return the distribution of a draw that is clamped where it ends, or where it has no elements.

    Raises:
        ValueError: it has elements beyond the bounds.
    """
    match before:
        case Constant(value):
            return Constant(min(max(value, least), most))
        case Uniform(low, high) if least <= low and high <= most:
            return before
        case LogUniform(low, high, "none", None, 1.0) if most >= high:
            return LogUniform(low, high, floor=least) if low < least < high else before
        case Normal(loc, scale) if scale and least <= loc - BEYOND * scale and most >= loc + BEYOND * scale:
            return TruncatedNormal(loc, scale, least, most)
        case TruncatedNormal(loc, scale, low, high):
            near = 1e-6 * scale
            meant = abs(least - low) <= near or max(least, low) <= loc - BEYOND * scale
            if meant and (abs(most - high) <= near or min(most, high) >= loc + BEYOND * scale):
                return TruncatedNormal(loc, scale, least, most)
    raise ValueError("what it clamps reaches beyond its bounds")


def exponential(before: Drawn) -> Drawn:
    """Return the distribution of the exponential of a draw.

    Raises:
        ValueError: it has no closed form.
    """
    match before:
        case Constant(value):
            return Constant(math.exp(value))
        case Uniform(low, high):
            return LogUniform(math.exp(low), math.exp(high))
        case LogUniform(low, high, "none", floor, 1.0):
            return LogUniform(low, high, "exp", floor)
        case UniformLog(low, high, 1.0):
            return Uniform(low, high)
    raise ValueError("what it maps has no closed form for that")


def logarithm(before: Drawn) -> Drawn:
    """Return the distribution of the logarithm of a draw.

    Raises:
        ValueError: it has no closed form.
    """
    match before:
        case Constant(value):
            return Constant(math.log(value))
        case LogUniform(low, high, "none", None, 1.0):
            return Uniform(math.log(low), math.log(high))
        case Uniform(low, high) if low >= 0:
            return UniformLog(low, high)
        case LogUniform(low, high, "exp", floor, 1.0):
            return LogUniform(low, high, "none", floor)
    raise ValueError("what it maps has no closed form for that")


def inverse_softplus(before: Drawn) -> Drawn:
    """Return the distribution of ln(eˣ - 1) of a draw x.

    Raises:
        ValueError: it has no closed form.
    """
    match before:
        case Constant(value):
            return Constant(value + math.log(-math.expm1(-value)))
        case LogUniform(low, high, "none", floor, 1.0):
            return LogUniform(low, high, "inverse_softplus", floor)
    raise ValueError("what it maps has no closed form for that")


def total(one: Drawn, other: Drawn) -> Drawn:
    """Return the distribution of the sum of two draws that are independent.

    Raises:
        ValueError: it has no closed form.
    """
    match one, other:
        case Constant(value), _:
            return shifted(other, value)
        case _, Constant(value):
            return shifted(one, value)
        case Normal(mean, std), Normal(more, spread):
            return Normal(mean + more, math.hypot(std, spread))
    raise ValueError("what it adds has no closed form for that")
