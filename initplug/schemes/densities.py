"""Distributions as curves: the density of single elements, and the values that many elements share."""

from __future__ import annotations

import math
from typing import NamedTuple

from initplug.schemes.distributions import (
    Batched,
    Constant,
    Drawn,
    Normal,
    Single,
    Stacked,
    TruncatedNormal,
    Uniform,
)
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.orthogonal import DeltaOrthogonal, Orthogonal
from initplug.schemes.structures.sparse import Sparse
from initplug.schemes.truncation import mass

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


def curve(distribution: Drawn) -> Curve | None:
    """Return the density of one element of a tensor; None where nothing but its moments is known.

    Example:
        >>> drawn = curve(Uniform(-0.5, 0.5))
        >>> round(drawn.x[0], 6), round(drawn.x[-1], 6), max(drawn.y)
        (-0.5, 0.5, 1.0)
        >>> curve(Constant(0.5)).atoms
        ((0.5, 1.0),)
    """
    parts = distribution.drawn if isinstance(distribution, Stacked) else [distribution]
    singles = [part.part if isinstance(part, Batched) else part for part in parts]
    pieces = [_pieces(single) for single in singles]
    smooth: list[tuple[float, Single]] = []
    atoms: dict[float, float] = {}
    for piece in pieces:
        if piece is None:
            return None
        smooth += [(share / len(pieces), part) for share, part in piece.smooth]
        for value, share in piece.atoms:
            atoms[value] = atoms.get(value, 0.0) + share / len(pieces)
    xs = sorted({x for _, part in smooth for x in _abscissae(part)})
    ys = [math.fsum(share * _density(part, x) for share, part in smooth) for x in xs]
    if not all(map(math.isfinite, (*xs, *ys))):  # so narrow or so wide that no double holds a density
        return None
    return Curve(tuple(xs), tuple(ys), tuple(sorted(atoms.items())))


class _Pieces(NamedTuple):
    """The parts of an element's distribution, each with its probability: smooth ones and single values."""

    smooth: list[tuple[float, Single]]
    atoms: list[tuple[float, float]]


def _pieces(single: Single) -> _Pieces | None:
    match single:
        case Constant(value):
            return _Pieces([], [(value, 1.0)])
        case Normal(mean, 0.0):
            return _Pieces([], [(mean, 1.0)])
        case Uniform(low, high) if low == high:
            return _Pieces([], [(low, 1.0)])
        case Normal() | Uniform() | TruncatedNormal():
            return _Pieces([(1.0, single)], [])
        case Orthogonal(gain, rows, columns):
            return _sphere(gain, max(rows, columns))
        case DeltaOrthogonal(gain, rows, _, field):
            centre = _sphere(gain, rows)
            atoms = [(0.0, 1 - 1 / field), *((value, share / field) for value, share in centre.atoms)]
            return _Pieces([(1 / field, part) for _, part in centre.smooth], atoms)
        case Eye(gain) | Dirac(gain):
            share = single.mean / gain if gain else 0.0
            return _Pieces([], [(0.0, 1 - share), (gain, share)])
        case Sparse(scale) if scale and single.filled:
            return _Pieces([(single.filled, Normal(0.0, scale))], [(0.0, 1 - single.filled)])
        case Sparse():
            return _Pieces([], [(0.0, 1.0)])
    return None


def _sphere(gain: float, size: int) -> _Pieces:
    """Return the parts of a coordinate of a vector of length `gain`, uniform among those of `size` dimensions."""
    if gain == 0:
        return _Pieces([], [(0.0, 1.0)])
    if size == 1:
        return _Pieces([], [(-abs(gain), 0.5), (abs(gain), 0.5)])
    return _Pieces([(1.0, Orthogonal(abs(gain), size, size))], [])


def _abscissae(part: Single) -> list[float]:
    """Return where a density is evaluated: evenly about the mean, and twice at bounds, for the jump."""
    low, high = max(part.low, part.mean - REACH * part.std), min(part.high, part.mean + REACH * part.std)
    places = [low + (high - low) * step / POINTS for step in range(POINTS + 1)]
    jumps = [math.nextafter(bound, way) for bound, way in ((part.low, -math.inf), (part.high, math.inf))]
    return [*places, *(jump for jump in jumps if low - part.std <= jump <= high + part.std)]


def _density(part: Single, x: float) -> float:
    """Return the density of a smooth distribution.

    Source: for the coordinate of a uniform vector, Muirhead 1982, Aspects of Multivariate Statistical Theory,
    section 1.5: f(t) = Γ(n/2) / (√π·Γ((n-1)/2)) · (1-t²)^((n-3)/2).
    """
    if not part.low <= x <= part.high:
        return 0.0
    match part:
        case Normal(mean, std):
            return _over(_bell((x - mean) / std), std)
        case Uniform(low, high):
            return _over(1.0, high - low)
        case TruncatedNormal(loc, scale, low, high):
            within = mass((low - loc) / scale, (high - loc) / scale)
            if within == 0:  # an interval so short that the density hardly changes
                return _over(1.0, high - low)
            return _over(_bell((x - loc) / scale) / within, scale)
        case Orthogonal(gain, size):
            t = x / gain
            norm = math.exp(math.lgamma(size / 2) - math.lgamma((size - 1) / 2)) / (math.sqrt(math.pi) * gain)
            # In two dimensions it has no bound at the ends.
            return norm * math.pow(max(1 - t * t, 1e-3 if size == 2 else 0.0), (size - 3) / 2)
    raise AssertionError(part)  # `_pieces` leaves no other


def _bell(z: float) -> float:
    """Return the standard normal density."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _over(one: float, other: float) -> float:
    """Return a quotient; infinite where no double holds it."""
    return one / other if other else math.inf
