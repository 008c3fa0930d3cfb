"""Kept values, schemes that nobody knows the moments of, and bounds that no draw comes to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import initplug
from initplug.auditing.verdicts import most_on_a_bound

KEEP: dict[str, Any] = {"rules": {"*.weight": "keep", "*.bias": 0}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rules", [{"*.weight": "keep", "*.bias": 0}, {"*.bias": 0}], ids=["kept", "no rule"])
def test_kept_values_are_looked_through_for_what_is_no_number(rules: dict[str, Any], value: float) -> None:
    model: Any = nn.Linear(64, 64)
    with torch.no_grad():
        model.weight[3, 4] = value
    recipe = {"unmatched": "keep", "rules": rules}
    for audit in (initplug.apply(model, recipe, seed=0), initplug.apply(model, recipe), initplug.audit(model, recipe)):
        (row,) = audit.problems()
        assert (row.name, row.problem) == ("weight", "NaN or infinite elements")


def test_a_signalling_nan_is_told_like_any_other() -> None:
    model = nn.Linear(64, 64)
    with torch.no_grad():
        model.weight.view(torch.int32)[3, 4] = 0x7F800001
    (row,) = initplug.apply(model, {"rules": KEEP["rules"]}).problems()
    assert (row.name, row.problem) == ("weight", "NaN or infinite elements")


def test_what_only_leaves_out_is_looked_through_too() -> None:
    model: Any = nn.Linear(64, 64)
    with torch.no_grad():
        model.weight[3, 4] = math.nan
    (row,) = initplug.apply(model, {"rules": {"*": "uniform -1 1"}}, seed=0, only="bias").problems()
    assert (row.name, row.status, row.reason) == ("weight", "kept", "not in only")


def test_kept_parts_and_padding_rows_do_not_hide_what_is_no_number() -> None:
    model: Any = nn.LSTM(8, 8)
    with torch.no_grad():
        model.weight_ih_l0[20, 3] = math.nan
    recipe = {"rules": {"gates": {"match": "*", "init": {"split": ["normal", "keep", "keep", "normal"]}}}}
    assert [row.name for row in initplug.apply(model, recipe, seed=0).problems()] == ["weight_ih_l0"]


def test_a_mask_of_infinities_may_be_kept_in_a_buffer() -> None:
    model: Any = nn.Linear(8, 8)
    model.register_buffer("mask", torch.full((8, 8), -math.inf).triu(1))
    recipe = {"rules": {"*": 0, "mask": {"match": "mask", "kind": "buffer", "init": "keep"}}}
    assert initplug.apply(model, recipe).problems() == []
    model.mask[0, 0] = math.nan
    assert [row.name for row in initplug.audit(model, recipe).problems()] == ["mask"]


# Schemes of others.


@pytest.fixture(autouse=True)
def registered() -> None:
    """The initializer, for the time of a test."""
    initplug.initializer(kind="whole")(ramp)


def ramp(shape: tuple[int, ...], draw: Any, *, height: float = 1.0) -> NDArray[np.float32]:
    """A ramp, or nothing if it has no height."""
    return np.linspace(0, height, math.prod(shape), dtype=np.float32).reshape(shape)


CUSTOM = {"rules": {"*": "ramp"}}


@pytest.mark.parametrize(("value", "problem"), [(0.0, "every element is 0"), (math.nan, "NaN or infinite elements")])
def test_a_custom_tensor_that_is_zero_or_no_number_is_told(value: float, problem: str) -> None:
    model: Any = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(5)])
    initplug.apply(model, CUSTOM, seed=0)
    assert initplug.audit(model, CUSTOM).summary["verdict"] == {"untestable": 5}
    nn.init.constant_(model[3].weight, value)
    (row,) = initplug.audit(model, CUSTOM).problems()
    assert (row.name, row.problem) == ("3.weight", problem)


def test_a_custom_tensor_may_be_zero_by_its_factor() -> None:
    model = nn.Linear(8, 8, bias=False)
    recipe = {"rules": {"*": {"fn": "ramp", "factor": 0}}}
    assert initplug.apply(model, recipe, seed=0).problems() == []


def test_a_custom_scheme_that_gives_zeros_is_told_and_settled_by_the_seed() -> None:
    model = nn.Linear(8, 8, bias=False)
    recipe = {"rules": {"*": {"fn": "ramp", "height": 0.0}}}
    assert [row.problem for row in initplug.apply(model, recipe, seed=0).problems()] == ["every element is 0"]
    assert initplug.audit(model, recipe, seed=0)["weight"].verdict == "exact"


# Truncated normals with far bounds, as timm has them.

FAR: dict[str, Any] = {"rules": {"*.weight": {"fn": "trunc_normal", "std": 0.02, "low": -2, "high": 2}, "*.bias": 0}}


ALONE = {"rules": {"*": FAR["rules"]["*.weight"]}}


def net(*, width: int = 768) -> Any:
    model = nn.Linear(width, width)
    initplug.apply(model, FAR, seed=0)
    return model


@pytest.mark.parametrize("value", [1.0, -1.0, 0.16, -0.16])
def test_an_outlier_within_far_bounds_is_told(value: float) -> None:
    model = net()
    assert initplug.audit(model, FAR).problems() == []
    with torch.no_grad():
        model.weight[5, 5] = value
    (row,) = initplug.audit(model, FAR).problems()
    end = "largest element" if value > 0 else "smallest element"
    assert f"{end} {value:.6g}, not " in str(row.problem)


@pytest.mark.parametrize("depth", range(1, 13))
def test_an_element_on_a_bound_that_was_scaled_afterwards_is_no_outlier(depth: int) -> None:
    recipe = {"rules": {"*.weight": {**FAR["rules"]["*.weight"], "factor": 1 / math.sqrt(2 * depth)}, "*.bias": 0}}
    model = nn.Linear(128, 64)
    nn.init.zeros_(model.bias)
    nn.init.trunc_normal_(model.weight, std=0.02, generator=torch.Generator().manual_seed(depth))
    with torch.no_grad():
        model.weight[3, 3] = -2.0  # as torch and timm leave one in 2^24
        model.weight.div_(math.sqrt(2 * depth))  # in single precision, a step from what the bound is rounded to
    assert initplug.audit(model, recipe).problems() == []
    with torch.no_grad():
        model.weight[3, 3] *= 0.999
    assert len(initplug.audit(model, recipe).problems()) == 1


@pytest.mark.parametrize("width", [48, 768])
def test_a_few_elements_on_a_far_bound_are_what_timm_leaves(width: int) -> None:
    model = net(width=width)
    with torch.no_grad():
        model.weight[3, 3] = -2.0
    audit = initplug.audit(model, FAR)
    assert audit.problems() == []
    assert audit["weight"].measured_min == -2.0, "what is measured is told as it is"
    with torch.no_grad():
        model.weight.view(-1)[:40] = -2.0
        model.weight[3, 3] = 0.01
    (row,) = initplug.audit(model, FAR).problems()
    assert str(row.problem).startswith("40 elements are -2, the bound itself")
    assert "std" not in str(row.problem)
    with torch.no_grad():
        model.weight.view(-1)[:40] = 0.01
        model.weight.mul_(1.2)
        model.weight[3, 3] = -2.0
    (row,) = initplug.audit(model, FAR).problems()
    assert "std 0.02" in str(row.problem), "the others are judged as they are"


def test_the_same_in_parts_of_a_tensor() -> None:
    recipe = {"rules": {"*.weight": {"split": 3, **FAR["rules"]["*.weight"]}, "*.bias": 0}}
    model: Any = nn.Linear(256, 768)
    initplug.apply(model, recipe, seed=0)
    with torch.no_grad():
        model.weight[300, 3] = -2.0
    assert initplug.audit(model, recipe).problems() == []
    with torch.no_grad():
        model.weight[300, 3] = -1.0
    assert "smallest element -1" in str(initplug.audit(model, recipe).problems()[0].problem)


def timms(tensor: Tensor, std: float, low: float, high: float) -> Tensor:
    """The steps of timm.layers.weight_init._trunc_normal_, which begin with a uniform number of 24 bits.

    Source: huggingface/pytorch-image-models timm/layers/weight_init.py.
    """
    below, above = (0.5 * (1 + math.erf(bound / std / math.sqrt(2))) for bound in (low, high))
    tensor.uniform_(2 * below - 1, 2 * above - 1).erfinv_().mul_(std * math.sqrt(2))
    return tensor.clamp_(min=low, max=high)


def test_timms_own_draws_come_to_the_bound_and_are_as_planned() -> None:
    torch.manual_seed(3)
    model = nn.Linear(4096, 4096, bias=False)  # 2^24 elements
    on_bound = 0
    with torch.no_grad():
        for _ in range(4):
            timms(model.weight, 0.02, -2.0, 2.0)
            on_bound += int((model.weight == -2).sum())
            assert initplug.audit(model, ALONE).problems() == []
    assert on_bound > 0, "which these draws do"


def test_pools_take_elements_on_a_bound_out_too() -> None:
    model: Any = nn.ModuleList(nn.Linear(256, 256, bias=False) for _ in range(12))
    initplug.apply(model, ALONE, seed=0)
    with torch.no_grad():
        for layer in model:
            layer.weight[0, 0] = -2.0  # which moves the std of all of them by a fifteenth
    assert initplug.audit(model, ALONE).problems() == []


def test_how_many_on_a_bound_chance_gives_is_a_quantile() -> None:
    generator = np.random.default_rng(0)
    for numel in (1 << 12, 1 << 24, 1 << 27):
        found = generator.poisson(numel * 2.0**-24, 200_000)
        assert found.max() <= most_on_a_bound(numel)
        assert most_on_a_bound(numel) <= numel * 2.0**-24 + 8 * math.sqrt(numel * 2.0**-24) + 12
