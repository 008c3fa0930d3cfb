"""What a dtype cannot hold, or torch cannot draw in it, is found before anything is written."""

from __future__ import annotations

import pytest
import torch
from nets import quietly
from torch import nn

import initplug
from initplug.torch_versions import can_fill


def model(dtype: torch.dtype) -> nn.Module:
    tensor = quietly(lambda: torch.zeros(3, 4).to(dtype))
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(tensor, requires_grad=False))
    return module


UNFIT = [
    (torch.int64, "normal", "normal: int64 tensors take constants only"),
    (torch.int64, 0.5, "constant: 0.5 is no int64"),
    (torch.uint8, -1, "constant: -1 does not fit uint8, which ends at 0"),
    (torch.uint8, 256, "constant: 256 does not fit uint8, which ends at 255"),
    (torch.bool, 2, "constant: 2 does not fit bool, which ends at 1"),
    (torch.bool, "xavier_uniform", "xavier_uniform: bool tensors take constants only"),
    (torch.float16, 1e6, "constant: 1e+06 does not fit float16, which ends at 65504"),
    (torch.float16, "normal std=20000", "normal: -120000 does not fit float16, which ends at -65504"),
    (torch.float16, "uniform 0 1e6", "uniform: 1e+06 does not fit float16, which ends at 65504"),
    (torch.float16, "uniform -60000 60000", "uniform: the interval -60000 to 60000 is too wide for float16"),
    (torch.float8_e4m3fn, "normal", "normal: float8_e4m3fn tensors take constants only"),
    (torch.float16, 1e-9, "constant: 1e-09 would be 0: the smallest number of float16 is 5.96046e-08"),
    (torch.float16, -2e-8, "constant: -2e-08 would be 0: the smallest number of float16 is 5.96046e-08"),
    (torch.float32, 1e-50, "constant: 1e-50 would be 0: the smallest number of float32 is 1.4013e-45"),
    (torch.complex64, 1e-50, "constant: 1e-50 would be 0: the smallest number of complex64 is 1.4013e-45"),
    (
        torch.float8_e4m3fn,
        1e-4,
        "constant: 0.0001 would be 0: the smallest number of float8_e4m3fn is 0.00195312",
    ),
    (
        torch.float16,
        {"split": [1, 1e-9, 0]},
        "split: 1e-09 would be 0: the smallest number of float16 is 5.96046e-08",
    ),
    (
        torch.complex64,
        "orthogonal",
        "orthogonal: complex tensors take constants, normal, truncated and uniform draws only",
    ),
]


@pytest.mark.parametrize(("dtype", "init", "reason"), UNFIT)
def test_what_does_not_fit_a_dtype_is_said(dtype: torch.dtype, init: object, reason: str) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.apply(model(dtype), {"frozen": "write", "rules": {"w*": init}})
    if reason.startswith("constant") and not can_fill(dtype):  # float8 before torch 2.5
        reason = "constant: float8_e4m3fn tensors cannot be filled by torch 2.4"
    assert f"w (3, 4): {reason}" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.int64, 3),
        (torch.int64, -7.0),
        (torch.int64, 2**63 - 1),
        (torch.uint8, 255),
        (torch.bool, 1),
        (torch.float8_e4m3fn, 0.5),
        (torch.float16, 65504),
        (torch.float16, 5e-8),
        (torch.float16, -0.0),
        (torch.bfloat16, 0.1),
    ],
)
def test_constants_that_fit_are_written_and_compared_after_the_cast(dtype: torch.dtype, value: float) -> None:
    filled = model(dtype)
    if not can_fill(dtype):  # float8 before torch 2.5
        with pytest.raises(
            initplug.PlanError, match=f"float8_e4m3fn tensors cannot be filled by torch {torch.__version__[:3]}"
        ):
            initplug.plan(filled, {"frozen": "write", "rules": {"w*": value}})
        return
    audit = initplug.apply(filled, {"frozen": "write", "rules": {"w*": value}})
    assert torch.equal(filled.get_parameter("w").double(), torch.full((3, 4), value).to(dtype).double())
    assert audit["w"].verdict == "ok"


def test_wide_bounds_of_a_narrow_normal_fit_a_short_dtype() -> None:
    init = {"fn": "trunc_normal", "std": 0.02, "low": -1e6, "high": 1e6}
    assert initplug.plan(model(torch.float16), {"frozen": "write", "rules": {"w*": init}})["w"].std == pytest.approx(
        0.02
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64])
@pytest.mark.parametrize("init", [2**53 + 1, {"split": [2**53 + 1, 2**53 + 1, 2**53 + 1]}])
@pytest.mark.parametrize("seed", [None, 0])
def test_large_whole_numbers_are_compared_to_the_last_digit(dtype: torch.dtype, init: object, seed: int | None) -> None:
    recipe = {"frozen": "write", "rules": {"w": {"match": "w", "init": init}}}
    held = model(dtype)
    assert initplug.apply(held, recipe, seed=seed)["w"].verdict == "ok"
    assert initplug.audit(held, recipe)["w"].verdict == "ok"
    held.get_parameter("w").data[1, 2] = 2**53
    row = initplug.audit(held, recipe)["w"]
    assert row.verdict == "differs"
    place = "" if isinstance(init, int) else "part 2 of 3: "
    assert row.problem == f"{place}an element is 9007199254740992, not 9007199254740993"
    assert initplug.audit(held, recipe, seed=0)["w"].verdict == "differs"
