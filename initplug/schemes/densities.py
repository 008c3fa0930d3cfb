"""Distributions as curves: the density of single elements, and the values that many elements share."""

from __future__ import annotations

import math
from typing import NamedTuple

from initplug.schemes.laws import Density, Distribution

REACH = 4.5
"""Standard deviations about the mean that a curve covers, where no bound ends it before."""

POINTS = 80
"""Steps of a curve, bounds not counted."""


class Curve(NamedTuple):
    """The density of one element.

    Args:
        x: where, in the units of the tensor, rising.
        y: the density there, per unit.
        atoms: values that elements take with a probability of their own, and these probabilities.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    atoms: tuple[tuple[float, float], ...]


def curve(distribution: Distribution) -> Curve | None:
    """Return the density of one element of a tensor; None where nothing but its moments is known.

    Example:
        >>> from initplug.schemes.distributions import Constant, Uniform
        >>> drawn = curve(Uniform(-0.5, 0.5))
        >>> round(drawn.x[0], 6), round(drawn.x[-1], 6), max(drawn.y)
        (-0.5, 0.5, 1.0)
        >>> curve(Constant(0.5)).atoms
        ((0.5, 1.0),)
    """
    law = distribution.law
    if not (law.atoms or law.smooth):
        return None
    atoms: dict[float, float] = {}
    for value, share in law.atoms:
        atoms[value] = atoms.get(value, 0.0) + share
    xs = sorted({x for _, density in law.smooth for x in _abscissae(density)})
    ys = [math.fsum(share * _height(density, x) for share, density in law.smooth) for x in xs]
    if not all(map(math.isfinite, (*xs, *ys))):  # so narrow or so wide that no double holds a density
        return None
    return Curve(tuple(xs), tuple(ys), tuple(sorted(atoms.items())))


def _abscissae(density: Density) -> list[float]:
    """Return where a density is evaluated: evenly about the mean, and twice at bounds, for the jump."""
    reach = REACH * density.std
    low, high = max(density.low, density.mean - reach), min(density.high, density.mean + reach)
    places = [low + (high - low) * step / POINTS for step in range(POINTS + 1)]
    jumps = [math.nextafter(bound, way) for bound, way in ((density.low, -math.inf), (density.high, math.inf))]
    return [*places, *(jump for jump in jumps if low - density.std <= jump <= high + density.std)]


def _height(density: Density, x: float) -> float:
    return density.at(x) if density.low <= x <= density.high else 0.0
