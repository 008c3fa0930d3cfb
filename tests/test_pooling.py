"""Tensors judged together cry wolf as rarely as is said, and show what none of them shows by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from samples import numpy_sample
from torch import nn

import initplug
from initplug.auditing import pools as pooling
from initplug.auditing.moments import Measured, Moments
from initplug.auditing.pools import judged_in_pools
from initplug.columns import coded
from initplug.planning.assignment import Share
from initplug.schemes.compositions import Planned, Stacked
from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform

DRAWN: list[Planned] = [
    Normal(0.0, 0.02),
    Normal(1.0, 0.1),
    Uniform(-0.1, 0.3),
    TruncatedNormal(0.0, 0.02, -0.04, 0.04),
    TruncatedNormal(0.0, 1.0, 1.0, 3.0),
    Stacked((Normal(0.0, 0.02),) * 3, 0),
]


def share(distribution: Planned, numel: int, rule: str = "w") -> Share:
    known: dict[str, Any] = dict.fromkeys(
        ("selector", "location", "init", "fan_in", "fan_out"),
    )
    return Share(
        kind="parameter",
        module_type="Linear",
        shape=(numel,),
        dtype="float32",
        numel=numel,
        trainable=True,
        rule=rule,
        shadowed=(),
        distribution=distribution,
        **known,
    )


def sample(distribution: Planned, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    return numpy_sample(distribution.parts[0] if isinstance(distribution, Stacked) else distribution, shape, generator)


def measured(samples: NDArray[np.float64]) -> Measured:
    found = Measured.none(len(samples))
    for row, sample in enumerate(samples):
        found[row] = Moments(sample.size, sample.mean(), sample.std(), sample.min(), sample.max())
    return found


def alarmed(shares: list[Share], samples: list[NDArray[np.float64]]) -> bool:
    table = Measured.none(len(shares))
    for row, sample in enumerate(samples):
        table[row] = Moments(sample.size, sample.mean(), sample.std(), sample.min(), sample.max())
    return bool(judged_in_pools(coded(shares), table, np.arange(len(shares))))


# The stated rate, 1e-9, can be seen in no simulation: what is simulated is the same judgement at a level that can.

POOLS = 1500


@pytest.mark.parametrize("sizes", [(4, 4), (20, 50, 7), (400,) * 6], ids=str)
@pytest.mark.parametrize("distribution", DRAWN, ids=str)
def test_alarms_of_pools_are_as_rare_as_their_level_says(
    distribution: Planned, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "SIGMAS_OF_POOL", 3.0)
    generator = np.random.default_rng(0)
    shares = [share(distribution, size) for size in sizes]
    drawn = [sample(distribution, (POOLS, size), generator) for size in sizes]
    alarms = sum(alarmed(shares, [each[pool] for each in drawn]) for pool in range(POOLS))
    level = 4 * math.erfc(3 / math.sqrt(2)) / 2  # two moments on two sides
    assert alarms < POOLS * level + 4 * math.sqrt(POOLS * level)


@pytest.mark.parametrize("distribution", DRAWN, ids=str)
def test_at_the_stated_level_no_pool_in_thousands_is_flagged(distribution: Planned) -> None:
    generator = np.random.default_rng(1)
    shares = [share(distribution, 30, rule) for rule in "aabbc"]
    for drawn in sample(distribution, (2000, 5, 30), generator):
        assert not alarmed(shares, [*drawn])


def net() -> Any:
    return nn.Sequential(*(nn.Linear(64, 64) for _ in range(18)), nn.LayerNorm(64))


RECIPE = {"rules": {"<Linear>.weight": "normal std=0.02", "*.bias": 0, "<LayerNorm>.weight": 1}}


@pytest.mark.parametrize("factor", [1.03, 0.97])
def test_what_is_off_in_all_tensors_of_a_rule_is_told_of_all_of_them(factor: float) -> None:
    model = net()
    initplug.apply(model, RECIPE, seed=0)
    assert initplug.audit(model, RECIPE).problems() == []
    with torch.no_grad():
        for layer in model[:18]:
            layer.weight.mul_(factor)
    problems = initplug.audit(model, RECIPE).problems()
    assert [row.name for row in problems] == [f"{place}.weight" for place in range(18)]
    assert {row.reason for row in problems} == {"pooled"}
    (text,) = {row.problem for row in problems}
    assert text is not None
    head = "together the 18 tensors of rule '<Linear>.weight' have a std "
    ratio, low, high = text.removeprefix(head).replace(" times the planned one, not ", " to ").split(" to ")
    assert float(ratio) == pytest.approx(factor, abs=3 / math.sqrt(2 * 18 * 64**2))
    assert (float(low), float(high)) == pytest.approx((0.98355, 1.01638), abs=2e-4)  # 1 ± 6.3/√(2n)


def test_a_shift_of_all_tensors_is_told() -> None:
    model = net()
    initplug.apply(model, RECIPE, seed=0)
    with torch.no_grad():
        for layer in model[:18]:
            layer.weight.add_(0.05 * 0.02)
    problems = initplug.audit(model, RECIPE).problems()
    assert len(problems) == 18
    assert str(problems[0].problem).startswith(
        "together the 18 tensors of rule '<Linear>.weight' have a mean 0.0"
    ) and str(problems[0].problem).endswith(" std above the planned one, not within 0.0232")


def test_rules_too_small_by_themselves_are_judged_together() -> None:
    model = net()
    rules = {f"{place}.weight": f"normal std={0.01 * (place + 1)}" for place in range(18)}
    recipe = {"rules": {**rules, "*.bias": 0, "18.weight": 1}}
    initplug.apply(model, recipe, seed=0)
    with torch.no_grad():
        for layer in model[:18]:
            layer.weight.mul_(1.03)
    problems = initplug.audit(model, recipe).problems()
    assert len(problems) == 18
    assert str(problems[0].problem).startswith("together the 18 drawn tensors have a std 1.0")


def test_a_tensor_that_differs_by_itself_does_not_condemn_the_others() -> None:
    model = net()
    initplug.apply(model, RECIPE, seed=0)
    with torch.no_grad():
        model[3].weight.mul_(3)
    assert [row.name for row in initplug.audit(model, RECIPE).problems()] == ["3.weight"]


def test_what_is_exact_takes_no_part() -> None:
    model = net()
    initplug.apply(model, RECIPE, seed=0)
    with torch.no_grad():
        for layer in model[:18]:
            layer.weight.mul_(1.03)
    audit = initplug.audit(model, RECIPE, seed=0)
    assert {row.reason for row in audit.problems()} == {"another seed?"}
