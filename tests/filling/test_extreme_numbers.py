"""Numbers at the ends of what dtypes hold: a draw works, or is refused before anything is written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import initplug
from initplug.auditing.moments import measure, together

SMALLEST = {
    torch.float64: 5e-324,
    torch.float32: 1.4e-45,
    torch.bfloat16: 9.2e-41,
    torch.float16: 6e-8,
}
"""Of each dtype the smallest number above zero."""

KINDS: dict[str, Any] = {
    "normal": lambda std: {"fn": "normal", "std": std},
    "uniform": lambda std: {"fn": "uniform", "low": -std * math.sqrt(3), "high": std * math.sqrt(3)},
    "trunc_normal": lambda std: {"fn": "trunc_normal", "std": std / 0.87},
    "orthogonal": lambda std: {"fn": "orthogonal", "gain": std * 8},
    "sparse": lambda std: {"fn": "sparse", "sparsity": 0.5, "std": std * 1.5},
}


def recipe(init: Any) -> dict[str, Any]:
    return {"rules": {"*.weight": init, "*.bias": 0}}


def values_of(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.parameters()]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", SMALLEST, ids=str)
def test_every_standard_deviation_works_or_is_refused_before_the_first_write(
    dtype: torch.dtype, kind: str, seed: int | None
) -> None:
    """What is written has the standard deviation that was asked for, and the audit finds nothing."""
    torch.manual_seed(0)
    ends = 1e308 if dtype is torch.float64 else float(torch.finfo(dtype).max)
    stds = [SMALLEST[dtype] * 2.0**power for power in (-1, 0, 1, 2, 3, 10, 100)]
    stds += [1e-200, 1e-100, 1e-45, 1e-38, 1e-20, 1e-10, 1.0, 1e10, 1e20, ends / 1e20, ends / 100, ends / 2, ends]
    worked = 0
    for std in filter(None, stds):
        model = nn.Linear(64, 64, dtype=dtype)
        before = values_of(model)
        try:
            audit = initplug.apply(model, recipe(KINDS[kind](std)), seed=seed, histograms=True)
        except initplug.InitplugError:
            assert all(map(torch.equal, values_of(model), before)), std
            continue
        worked += 1
        row = audit["weight"]
        assert row.verdict == "ok", (std, row.problem)
        assert row.measured_std == pytest.approx(std, rel=0.1, abs=SMALLEST[dtype]), std
        for text in (str(audit), audit.to_json(), audit.to_csv(), audit.to_markdown(), audit.to_html()):
            assert "weight" in text
    assert worked >= 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_draw_that_rounding_swallows_is_refused(dtype: torch.dtype) -> None:
    for init in (
        {"fn": "normal", "mean": 1, "std": 1e-9},
        {"fn": "normal", "mean": -1000, "std": 1e-9},
        {"fn": "uniform", "low": 1, "high": 1 + 1e-9},
        {"fn": "trunc_normal", "mean": 1, "std": 1e-9},
        {"fn": "trunc_normal", "mean": -1, "std": 2, "low": 1e-46, "high": 1e-20},
    ):
        with pytest.raises(initplug.PlanError) as error:
            initplug.plan(nn.Linear(4, 4, dtype=dtype), recipe(init))
        assert "every element would be" in str(error.value) or "smallest number" in str(error.value)


def test_a_draw_that_rounding_coarsens_raises_no_alarm() -> None:
    """Between half a step of bfloat16 beside 1, where all elements become 1, and many steps."""
    for std in (1e-3, 2e-3, 3e-3, 5e-3, 1e-2):
        for seed in range(20):
            model = nn.Linear(6, 4, dtype=torch.bfloat16)
            audit = initplug.apply(model, recipe({"fn": "normal", "mean": 1, "std": std}), seed=seed)
            assert audit["weight"].verdict == "ok", (std, seed, audit["weight"].problem)


def test_a_stream_gives_double_precision_what_single_precision_holds() -> None:
    for init in (
        {"fn": "normal", "std": 1e-40},
        {"fn": "normal", "std": 1e40},
        {"fn": "normal", "mean": 100, "std": 1e-4},
        {"fn": "orthogonal", "gain": 1e-50},
        {"split": [0, {"fn": "uniform", "low": 0, "high": 1e300}]},
    ):
        model = nn.Linear(64, 64, dtype=torch.float64)
        before = values_of(model)
        with pytest.raises(initplug.ApplyError, match="under a seed values are drawn in float32"):
            initplug.apply(model, recipe(init), seed=0)
        assert all(map(torch.equal, values_of(model), before))
        assert initplug.apply(model, recipe(init))["weight"].verdict == "ok"


def test_constants_of_double_precision_need_no_single_precision() -> None:
    model = nn.Linear(2, 2, dtype=torch.float64)
    audit = initplug.apply(model, recipe(1e-300), seed=0)
    assert audit["weight"].verdict == "ok"
    assert model.weight[0, 0].item() == 1e-300


def test_bounds_that_single_precision_rounds_outwards_raise_no_alarm() -> None:
    """0.7 is 0.69999999 in single precision, and one of 2^24 words gives it."""
    model = nn.Linear(1 << 12, 1 << 11, bias=False, dtype=torch.float64)
    for seed in range(3):
        audit = initplug.apply(model, {"rules": {"*": "uniform 0.7 0.9"}}, seed=seed)
        assert audit["weight"].verdict == "ok", audit["weight"].problem


def test_a_cut_that_is_finer_than_the_table_of_normals_is_refused() -> None:
    init = {"fn": "trunc_normal", "std": 1, "cutoff": 1e-5}
    with pytest.raises(initplug.ApplyError, match=r"is cut to less than 0\.001 std"):
        initplug.apply(nn.Linear(64, 64), recipe(init), seed=0)
    assert initplug.apply(nn.Linear(64, 64), recipe(init))["weight"].verdict == "ok"


def test_a_factor_that_makes_nothing_of_a_draw_is_refused() -> None:
    for init in (
        {"fn": "normal", "std": 1e-200, "factor": 1e-200},
        {"fn": "orthogonal", "gain": 1e-200, "factor": 1e-200},
        {"split": [0, {"fn": "normal", "std": 1e-200}], "factor": 1e-200},
    ):
        with pytest.raises(initplug.PlanError, match="too small for a double"):
            initplug.plan(nn.Linear(64, 64, dtype=torch.float64), recipe(init))
    assert initplug.plan(nn.Linear(4, 4), recipe("normal factor=0"))["weight"].std == 0


def test_a_complex_draw_has_its_mean_in_the_real_part() -> None:
    for seed in (None, 0):
        module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(64, 64, dtype=torch.complex64))})
        audit = initplug.apply(module, {"rules": {"*": {"fn": "normal", "mean": 1000, "std": 1}}}, seed=seed)
        assert audit["w"].verdict == "ok", audit["w"].problem
        assert abs(module["w"].imag.mean().item()) < 1


# A layer without inputs.


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")  # torch's own, as it is built
@pytest.mark.filterwarnings("ignore:1 tensor holds one value throughout")  # the 3, which default draws over
@pytest.mark.parametrize("init", ["default", "fan_uniform", "fan_uniform gain=2"])
@pytest.mark.parametrize("seed", [None, 0])
def test_the_bias_of_a_layer_without_inputs_is_zero_as_torch_has_it(init: str, seed: int | None) -> None:
    model = nn.Linear(0, 5)
    with torch.no_grad():
        model.bias.fill_(3)
    audit = initplug.apply(model, {"rules": {"*.weight": 0, "*.bias": init}}, seed=seed)
    assert model.bias.tolist() == [0.0] * 5
    assert audit["bias"].verdict == "ok"


# Moments.


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-170, 1e-100, 1.0, 1e100, 1e170, 1e300])
def test_moments_of_double_precision_are_measured_at_any_size(scale: float) -> None:
    values = np.random.default_rng(0).standard_normal(200_000)
    found = measure(torch.from_numpy(values * scale))
    assert found is not None
    assert found.std == pytest.approx(values.std() * scale, rel=1e-3 if scale < 1e-300 else 1e-9)
    assert found.mean == pytest.approx(values.mean() * scale, rel=1e-2 if scale < 1e-300 else 1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_moments_of_parts_are_put_together_at_any_size(scale: float) -> None:
    values = np.array([1.0, 2.0, 5.0, 7.0]) * scale
    one, other = measure(torch.from_numpy(values[:1])), measure(torch.from_numpy(values[1:]))
    assert one is not None
    assert other is not None
    assert together(one, other).std == pytest.approx(float(np.array([1.0, 2.0, 5.0, 7.0]).std()) * scale)
