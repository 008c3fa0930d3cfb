"""Curves are the densities that scipy has, and the values that were drawn follow them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats

from initplug.filling.torch_draws import draw_from_generator
from initplug.schemes.compositions import Batched, Drawn, Keep, Stacked
from initplug.schemes.densities import Curve, curve
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.structures.custom import Custom
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.orthogonal import DeltaOrthogonal, Orthogonal
from initplug.schemes.structures.sincos import SinCos
from initplug.schemes.structures.sparse import Sparse

Density = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def of(distribution: Drawn) -> Curve:
    found = curve(distribution)
    assert found is not None
    return found


def cut(loc: float, scale: float, low: float, high: float) -> Density:
    frozen = stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)
    return lambda x: np.asarray(frozen.pdf(x))


ORACLES: dict[str, tuple[Drawn, Density]] = {
    "normal": (Normal(0.1, 0.02), stats.norm(0.1, 0.02).pdf),
    "uniform": (Uniform(-0.3, 0.5), stats.uniform(-0.3, 0.8).pdf),
    "cut at 2 std": (TruncatedNormal(0.0, 0.02, -0.04, 0.04), cut(0.0, 0.02, -0.04, 0.04)),
    "cut in the tail": (TruncatedNormal(0.0, 1.0, 3.0, 5.0), cut(0.0, 1.0, 3.0, 5.0)),
    "not cut": (TruncatedNormal(0.0, 0.02, -2.0, 2.0), stats.norm(0.0, 0.02).pdf),
    # A coordinate of a uniform unit vector of n dimensions is 2B-1 with B ~ Beta((n-1)/2, (n-1)/2).
    "orthogonal": (Orthogonal(2.0, 64, 16), stats.beta(31.5, 31.5, -2.0, 4.0).pdf),
    "orthogonal 5": (Orthogonal(-1.0, 3, 5), stats.beta(2.0, 2.0, -1.0, 2.0).pdf),
    "two parts": (
        Stacked((Normal(0.0, 1.0), Uniform(-1.0, 1.0)), 0),
        lambda x: (stats.norm.pdf(x) + stats.uniform(-1, 2).pdf(x)) / 2,
    ),
    "stack": (Batched(Orthogonal(1.0, 8, 4), 1), stats.beta(3.5, 3.5, -1.0, 2.0).pdf),
}


def near(bounds: list[float]) -> set[float]:
    # What lies next to a bound scipy takes for the bound.
    return {place for bound in bounds for place in (bound, math.nextafter(bound, 2), math.nextafter(bound, -2))}


@pytest.mark.parametrize("name", ORACLES)
def test_a_curve_is_the_density_that_scipy_has(name: str) -> None:
    distribution, density = ORACLES[name]
    found = of(distribution)
    assert list(found.x) == sorted(found.x)
    bounds = [-1.0, 1.0] if name == "two parts" else []
    inside = [place for place, y in enumerate(found.y) if y > 0 and found.x[place] not in near(bounds)]
    expected = density(np.array(found.x))
    assert np.array(found.y)[inside] == pytest.approx(expected[inside], rel=1e-5, abs=1e-6 * max(found.y))
    assert found.atoms == ()


@pytest.mark.parametrize("name", ORACLES)
def test_a_curve_holds_all_of_the_probability(name: str) -> None:
    found = of(ORACLES[name][0])
    assert integrate.trapezoid(found.y, found.x) == pytest.approx(1, abs=3e-3)


def test_a_bound_is_a_jump() -> None:
    found = of(Uniform(-0.5, 0.5))
    assert (found.y[0], found.y[-1]) == (0, 0)
    assert set(found.y[1:-1]) == {1.0}
    assert (found.x[1], found.x[-2]) == (-0.5, 0.5)


ATOMS: dict[str, tuple[Drawn, dict[float, float]]] = {
    "constant": (Constant(0.5), {0.5: 1}),
    "normal without spread": (Normal(2.0, 0.0), {2.0: 1}),
    "empty interval": (Uniform(1.0, 1.0), {1.0: 1}),
    "eye": (Eye(2.0, 4, 8), {0.0: 0.875, 2.0: 0.125}),
    "dirac": (Dirac(1.0, 1, (4, 2, 3)), {0.0: 11 / 12, 1.0: 1 / 12}),
    "gates": (Stacked((Constant(0.0), Constant(1.0), Constant(0.0), Constant(0.0)), 0), {0.0: 0.75, 1.0: 0.25}),
    "kept part": (Stacked((Constant(0.0), Keep()), 0), {0.0: 1}),
    "one by one": (Orthogonal(3.0, 1, 1), {-3.0: 0.5, 3.0: 0.5}),
    "no gain": (Orthogonal(0.0, 4, 4), {0.0: 1}),
    "nothing left": (Sparse(0.1, 1.0, 8), {0.0: 1}),
}


@pytest.mark.parametrize("name", ATOMS)
def test_values_of_their_own_probability(name: str) -> None:
    distribution, atoms = ATOMS[name]
    found = of(distribution)
    assert dict(found.atoms) == pytest.approx(atoms)
    assert (found.x, found.y) == ((), ())


def test_zeros_among_what_is_drawn() -> None:
    sparse, delta = of(Sparse(0.1, 0.25, 8)), of(DeltaOrthogonal(1.0, 32, 8, 9))
    assert dict(sparse.atoms) == {0.0: 0.25}
    assert integrate.trapezoid(sparse.y, sparse.x) == pytest.approx(0.75, abs=1e-3)
    assert dict(delta.atoms) == {0.0: pytest.approx(8 / 9)}
    assert integrate.trapezoid(delta.y, delta.x) == pytest.approx(1 / 9, abs=1e-3)


def test_what_is_known_by_its_moments_alone_has_no_curve() -> None:
    assert curve(SinCos(1.0, 1, 0, 10000.0, 8, 4)) is None
    assert curve(Custom("mine", lambda shape, draw: draw.normal("a"), (), (2, 2))) is None
    assert curve(Stacked((Constant(0.0), SinCos(1.0, 1, 0, 10000.0, 8, 4)), 0)) is None


def test_an_interval_too_short_for_its_probability_is_flat() -> None:
    low = 5.0
    high = math.nextafter(math.nextafter(low, 6), 6)
    found = of(TruncatedNormal(0.0, 1.0, low, high))
    assert max(found.y) == pytest.approx(1 / (high - low), rel=0.5)


@pytest.mark.parametrize("distribution", [Orthogonal(1.5, 96, 32), TruncatedNormal(0.0, 1.0, -1.0, 2.0)], ids=str)
def test_drawn_values_follow_their_curve(distribution: Drawn) -> None:
    torch.manual_seed(0)
    values = []
    for _ in range(40):
        tensor = torch.empty(96, 32)
        draw_from_generator(distribution, tensor)
        values.append(tensor.flatten())
    found = of(distribution)
    counts, edges = np.histogram(torch.cat(values).numpy(), 20, density=True)
    middles = (edges[:-1] + edges[1:]) / 2
    assert counts == pytest.approx(np.interp(middles, found.x, found.y), abs=0.05 * max(found.y))
