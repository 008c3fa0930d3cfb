"""Log-uniform draws: laws by scipy, Mamba's own loop, the same bits everywhere, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

import initplug
from initplug.auditing.moments import measure
from initplug.auditing.verdicts import judged
from initplug.filling.torch_draws import draw_from_generator
from initplug.planning.dtypes import DRAWN_DTYPES
from initplug.schemes.densities import curve
from initplug.schemes.distributions import Constant
from initplug.schemes.elementary import exp, expm1, log
from initplug.schemes.log_uniform import LogUniform

MAMBA = "log_uniform 0.001 0.1 inverse_softplus floor=1e-4"


def applied(init: Any, *shape: int, seed: int | None = 0, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor:
    module = nn.ParameterDict({"w": nn.Parameter(torch.full(shape, 7.0, dtype=dtype))})
    audit = initplug.apply(module, {"rules": {"^w": init}}, seed=seed, **kwargs)
    assert audit["w"].verdict == "ok"
    return module.get_parameter("w").detach()


# Laws.

LINKS: dict[str, Callable[[float], float]] = {
    "none": lambda x: x,
    "exp": math.exp,
    "inverse_softplus": lambda x: x + math.log(-math.expm1(-x)),
}

LAWS = [
    LogUniform(0.001, 0.1),
    LogUniform(0.001, 0.1, "inverse_softplus"),
    LogUniform(0.001, 0.1, "inverse_softplus", 1e-4),
    LogUniform(0.001, 0.1, "inverse_softplus", 0.02),
    LogUniform(0.1, 5.0, "exp"),
    LogUniform(0.1, 30.0, "exp", 1.5),
    LogUniform(1e-3, 40.0, "inverse_softplus"),
    LogUniform(1e-6, 1e6),
    LogUniform(1.0, 1.01),
    LogUniform(0.01, 2.0, "none", 0.5, -3.0),
]


def by_integration(one: LogUniform) -> list[float]:
    """Mean, standard deviation, skewness and kurtosis, by adaptive quadrature of one power after another."""
    start, end = math.log(one.least), math.log(one.most)
    floor = math.log(one.floor) if one.floor is not None and one.floor > one.least else start
    link = LINKS[one.link]

    def expected(of: Callable[[float], float]) -> float:
        at = [floor + (end - floor) * part / 40 for part in range(41)]
        parts = (
            integrate.quad(lambda log: of(one.gain * link(math.exp(log))), low, high, epsabs=0, epsrel=1e-13)[0]
            for low, high in itertools.pairwise(at)
        )
        return (math.fsum(parts) + (floor - start) * of(one.gain * link(math.exp(floor)))) / (end - start)

    mean = expected(lambda value: value)
    std = math.sqrt(expected(lambda value: (value - mean) ** 2))
    return [mean, std, *(expected(partial(standardized, mean, std, power)) for power in (3, 4))]


def standardized(mean: float, std: float, power: int, value: float) -> float:
    return float(((value - mean) / std) ** power)


@pytest.mark.parametrize("one", LAWS, ids=lambda one: one.text)
def test_the_law_is_that_of_quadrature(one: LogUniform) -> None:
    law = one.law
    assert [law.mean, law.std, law.skewness, law.kurtosis] == pytest.approx(by_integration(one), rel=1e-9)
    begin = max(one.least, one.floor or 0.0)
    ends = sorted(one.gain * LINKS[one.link](x) for x in (begin, one.most))
    assert [law.low, law.high] == pytest.approx(ends, rel=1e-13)


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.1), (1e-6, 1e6), (0.5, 20.0)])
def test_without_a_link_the_law_is_that_of_scipy(low: float, high: float) -> None:
    law = LogUniform(low, high).law
    mean, variance, skewness, excess = stats.loguniform(low, high).stats("mvsk")
    found = [law.mean, law.std**2, law.skewness, law.kurtosis]
    assert found == pytest.approx([mean, variance, skewness, excess + 3], rel=1e-9)
    length = math.log(high / low)
    assert law.mean == pytest.approx((high - low) / length, rel=1e-13)


@pytest.mark.parametrize("one", LAWS, ids=lambda one: one.text)
def test_the_curve_holds_all_of_the_probability(one: LogUniform) -> None:
    (share, density), *none = one.law.smooth
    assert not none
    near, far = sorted([abs(one.law.low), abs(one.law.high)])
    edges = np.geomspace(near, far, 60)
    # Where the values keep their sign, they are spread over as many orders of magnitude as x is.
    if one.law.low * one.law.high > 0:
        edges = np.sort(np.copysign(edges, one.law.low))
    else:
        edges = np.linspace(one.law.low, one.law.high, 200)
    held = math.fsum(integrate.quad(density.at, *pair, epsrel=1e-10)[0] for pair in itertools.pairwise(edges))
    assert held == pytest.approx(1, rel=1e-6)
    assert share + sum(chance for _, chance in one.law.atoms) == pytest.approx(1)
    found = curve(one)
    assert found is not None and dict(found.atoms) == dict(one.law.atoms)


def test_ends_that_are_equal_give_a_constant() -> None:
    assert applied("log_uniform 2 2 exp", 50).eq(float(np.float32(math.exp(2)))).all()
    law = LogUniform(2.0, 2.0, "exp").law
    assert (law.std, law.low, law.high, law.atoms) == (0.0, law.mean, law.mean, ((law.mean, 1.0),))


def test_a_floor_below_the_least_changes_nothing() -> None:
    assert torch.equal(applied(MAMBA, 300), applied("log_uniform 0.001 0.1 inverse_softplus", 300))


def test_a_floor_above_the_least_is_taken_as_often_as_planned() -> None:
    values = applied("log_uniform 0.001 0.1 floor=0.01", 20_000)
    assert values.eq(float(np.float32(0.01))).double().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 20_000**0.5)
    assert values.min() == np.float32(0.01)


# Draws.


def mamba(size: int) -> Tensor:
    """What mamba_ssm/modules/mamba_simple.py gives the bias of dt_proj."""
    low, high, floor = 0.001, 0.1, 1e-4
    dt = torch.exp(torch.rand(size) * (math.log(high) - math.log(low)) + math.log(low)).clamp(min=floor)
    return dt + torch.log(-torch.expm1(-dt))


def test_without_a_seed_it_draws_what_mambas_loop_draws() -> None:
    torch.manual_seed(5)
    expected = mamba(1536)
    torch.manual_seed(5)
    assert torch.allclose(applied(MAMBA, 1536, seed=None), expected, rtol=2e-6, atol=0)


def test_softplus_gives_back_steps_between_the_ends() -> None:
    steps = nn.functional.softplus(applied(MAMBA, 5000).double())
    assert 0.001 - 1e-9 < steps.min() < 0.00101 and 0.099 < steps.max() < 0.1 + 1e-8
    logs = (steps.log() - math.log(0.001)) / math.log(100)
    assert stats.kstest(logs.numpy(), "uniform").pvalue > 1e-3


def test_mambas_own_loop_is_audited_as_the_recipe() -> None:
    for size in (16, 256, 20_000):
        torch.manual_seed(size)
        module = nn.ParameterDict({"dt": nn.Parameter(mamba(size))})
        assert initplug.audit(module, {"rules": {"^dt": MAMBA}})["dt"].verdict == "ok"
        module["dt"].data += 0.5
        assert initplug.audit(module, {"rules": {"^dt": MAMBA}})["dt"].verdict == "differs"


@pytest.mark.parametrize("one", LAWS, ids=lambda one: one.text)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_draws_keep_to_the_limits(one: LogUniform, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for size in (1, 2, 3, 8, 50, 3000):
        for _ in range(20):
            tensor = torch.empty(size, dtype=dtype)
            draw_from_generator(one, tensor)
            assert judged(one, measure(tensor), dtype) == "ok" or one == LogUniform(1.0, 1.01)
    other = torch.empty(3000, dtype=torch.float64)
    draw_from_generator(one.times(1.3), other)
    assert judged(one, measure(other), torch.float64) == "differs"


@pytest.mark.parametrize("init", [MAMBA, "log_uniform 0.01 3 exp floor=0.5", "log_uniform 1e-4 10"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_seed_alone_says_the_values(init: str, dtype: torch.dtype) -> None:
    first = applied(init, 700, 500, seed=4, threads=1)
    assert torch.equal(first, applied(init, 700, 500, seed=4, threads=2))
    assert torch.equal(first.to(dtype), applied(init, 700, 500, seed=4, dtype=dtype))
    assert torch.equal(first.flatten()[:64], applied(init, 64, seed=4))
    audit = initplug.audit(nn.ParameterDict({"w": nn.Parameter(first)}), {"rules": {"^w": init}}, seed=4)
    assert audit["w"].verdict == "exact"


def test_parts_and_stacks_are_drawn_as_one() -> None:
    plain = applied(MAMBA, 12, 8)
    assert torch.equal(plain, applied({"fn": "log_uniform", "low": 0.001, "high": 0.1, "link": "inverse_softplus",
                                       "batch_dims": 1}, 12, 8))  # fmt: skip
    halves = applied({"split": [MAMBA, 0]}, 12, 8)
    assert torch.equal(halves[:6], plain[:6]) and not halves[6:].any()


def test_order_and_copies_are_told_of() -> None:
    model = nn.ParameterDict({"a": nn.Parameter(torch.zeros(256)), "b": nn.Parameter(torch.zeros(256))})
    recipe = {"rules": {"^*": MAMBA}}
    initplug.apply(model, recipe, seed=0)
    model["b"].data.copy_(model["a"].data)
    audit = initplug.audit(model, recipe)
    assert {row.name: row.verdict for row in audit} == {"a": "ok", "b": "differs"}
    initplug.apply(model, recipe, seed=0)
    model["b"].data.copy_(model["b"].data.sort().values)
    assert {row.name: row.verdict for row in initplug.audit(model, recipe)} == {"a": "ok", "b": "differs"}


@pytest.mark.parametrize("factor", [0.5, -2.0])
def test_a_factor_multiplies_the_draw(factor: float) -> None:
    init = {"fn": "log_uniform", "low": 0.001, "high": 0.1, "link": "inverse_softplus"}
    plain, scaled = applied(init, 4000), applied({**init, "factor": factor}, 4000)
    assert torch.allclose(scaled, factor * plain, rtol=1e-6, atol=0)
    assert LogUniform(1.0, 2.0).times(0.0) == Constant(0.0)
    assert LogUniform(1.0, 2.0).times(3.0, 2.0).text == "1.5·log_uniform(1, 2)"


# The same bits everywhere.

DIGEST = """
import hashlib
import numpy as np
from initplug.filling.streams import draw_of
from initplug.kernels.reference import values
from initplug.schemes.log_uniform import LogUniform

bits = hashlib.sha256()
for link in ("none", "exp", "inverse_softplus"):
    for high in (0.1, 20.0):
        words = np.arange(100_000, dtype=np.uint32) * np.uint32(2654435761)
        distribution = LogUniform(0.001, high, link)
        standard = values(words, draw_of(distribution)).astype(np.float64)
        bits.update(distribution.sampling.mapped(standard).astype(np.float32).tobytes())
print(bits.hexdigest())
"""

PINNED = "5be1ea7c90294c59ba5ba030291baa97bc3a6b2f27e5772ae31d67e8ebb062bd"


@pytest.mark.parametrize(
    "setting", [{}, {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 X86_V3 X86_V4"}], ids=["as it is", "older processor"]
)
def test_the_bits_do_not_depend_on_the_processor(setting: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIGEST],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | setting,
    )
    assert done.stdout.strip() == PINNED


def test_a_golden_draw() -> None:
    values = applied(MAMBA, 1000)
    assert hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16] == "9380ee1d703a6051"


def test_the_functions_are_good_to_a_few_units_in_the_last_place() -> None:
    small = np.geomspace(1e-300, 700, 5001)
    x = np.concatenate([np.linspace(-700, 709, 20_001), small, -small])
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(expm1(x), np.expm1(x), rtol=1e-15)
    positive = np.concatenate([np.geomspace(5e-324, 1e308, 20_001), np.linspace(0.7, 1.5, 10_001)])
    np.testing.assert_allclose(log(positive), np.log(positive), rtol=1e-15)


# What is refused.

REFUSED = [
    ("log_uniform 0.1 0.001", "log_uniform: low must not exceed high, they are 0.1 and 0.001"),
    ("log_uniform 0.001 0.1 floor=0.2", "log_uniform: floor must be below high, they are 0.2 and 0.1"),
    ("log_uniform 1 1000 exp", "log_uniform: exp of 1000 is beyond what a double holds"),
    ("log_uniform 0 1", "low: 0 is not a number above 0"),
    ("log_uniform 1 -1", "high: -1 is not a number above 0"),
    ("log_uniform 0.001 0.1 floor=0", "floor: 0 is not a number above 0"),
    ("log_uniform 0.001 0.1 link=log", "link: 'log' is not one of none, exp, inverse_softplus"),
    ("log_uniform 0.001 0.1 softplus", "'softplus' is no word of log_uniform (did you mean inverse_softplus?)"),
    ("log_uniform 0.001", "log_uniform needs high (write log_uniform high=…)"),
]


@pytest.mark.parametrize(("init", "message"), REFUSED)
def test_arguments_that_say_nothing_are_refused_when_a_recipe_is_read(init: str, message: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load({"rules": {"a*": init}})
    assert str(caught.value) == f"<mapping>: rules['a*']: {message}"


def test_a_least_value_of_zero_is_no_distribution() -> None:
    with pytest.raises(ValueError, match=r"^low must be positive, it is 0$"):
        LogUniform(0.0, 1.0)


@pytest.mark.parametrize(
    ("init", "dtype", "reason"),
    [
        ("log_uniform 1e-20 1e5", torch.float16, "100000 does not fit float16, which ends at 65504"),  # beyond 6 std
        ("log_uniform 1e-3 100 exp", torch.float32, "2.68812e+43 does not fit float32, which ends at 3.40282e+38"),
        (
            "log_uniform 1 1.0000000000000002",
            torch.float32,
            "its std is 1.11022e-16, which is lost beside its mean: every element would be 1 in float32",
        ),
    ],
)
def test_what_a_dtype_does_not_hold_is_refused_when_it_is_planned(init: str, dtype: torch.dtype, reason: str) -> None:
    module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(3, dtype=dtype))})
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(module, {"rules": {"^w": init}})
    assert f"w (3,): log_uniform: {reason}; rule '^w'" in str(caught.value)


EXTREME = [
    LogUniform(5e-324, 1.7e308),
    LogUniform(0.001, 709.0, "exp"),
    LogUniform(1e-300, 1e308, "inverse_softplus"),
    LogUniform(1.0, math.nextafter(1.0, 2.0)),
    LogUniform(1e300, math.nextafter(1e300, math.inf)),
    LogUniform(math.log(2), math.nextafter(math.log(2), 1), "inverse_softplus"),
    LogUniform(0.001, 0.1, "none", math.nextafter(0.1, 0.0)),
]


@pytest.mark.parametrize("one", EXTREME, ids=lambda one: one.text)
@pytest.mark.parametrize("factor", [1.0, -1e-3, 1e-320])
def test_extreme_arguments_have_a_law(one: LogUniform, factor: float) -> None:
    scaled = one.times(factor)
    law = scaled.law
    assert law.low <= law.mean <= law.high or law.mean == pytest.approx(law.low, rel=1e-9)
    assert math.isfinite(law.std) and math.isfinite(law.kurtosis)
    curve(scaled)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
def test_dtypes_that_hold_no_such_draws(dtype: torch.dtype) -> None:
    module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(3, dtype=dtype), requires_grad=dtype.is_complex)})
    assert dtype not in DRAWN_DTYPES or dtype.is_complex
    with pytest.raises(initplug.PlanError, match="tensors take constants"):
        initplug.plan(module, {"rules": {"^w": {"match": "^w", "init": MAMBA, "trainable": "any"}}})
