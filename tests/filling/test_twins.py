"""Copies among tensors that were to be drawn independently are told, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import initplug

RULES: dict[str, Any] = {"*.weight": "normal std=0.02", "*.bias": "uniform -0.1 0.1"}


def net(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(24, 24) for name in "abc"})
    model["d"] = nn.Linear(48, 12)  # as many elements in another shape
    model.to(dtype)
    initplug.apply(model, {"rules": RULES})
    return model


HOW: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "equal": (lambda one: one, "equals a.weight"),
    "negated": (lambda one: -one, "is a.weight negated"),
    "twice": (lambda one: 2 * one, "is 2 times a.weight"),
    "scaled": (lambda one: one * 0.707, "is 0.707 times a.weight"),
    "scaled and negated": (lambda one: one * -1.3, "is -1.3 times a.weight"),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["c", "d"])
def test_copies_are_told_with_what_they_are_copies_of(how: str, dtype: torch.dtype, name: str) -> None:
    make, words = HOW[how]
    model = net(dtype)
    with torch.no_grad():
        model[name].weight.copy_(make(model["a"].weight).view(model[name].weight.shape))
    row = initplug.audit(model, {"rules": RULES})[f"{name}.weight"]
    assert (row.verdict, row.reason) == ("differs", "twin of a.weight")
    told = str(row.problem).split("; ")[-1]
    if "0.707" in words or "1.3" in words:  # as the dtype holds the quotient of two elements
        factor = float(told.split()[1])
        assert factor == pytest.approx(float(words.split()[1]), rel=4 * torch.finfo(dtype).eps)
        assert told == f"is {factor:.6g} times a.weight, though the plan draws both independently"
    else:
        assert told == f"{words}, though the plan draws both independently"


def test_cloned_layers_of_a_transformer_are_told() -> None:
    layer = nn.TransformerEncoderLayer(64, 2, 128)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    problems = initplug.audit(model, "torch_default").problems()
    drawn = [row.name for row in initplug.plan(model, "torch_default") if row.std and row.name.startswith("layers.0.")]
    assert {row.name for row in problems} == {name.replace(".0.", f".{n}.", 1) for name in drawn for n in (1, 2)}
    for row in problems:
        first = "layers.0." + row.name.split(".", 2)[2]
        assert (row.reason, row.problem) == (
            f"twin of {first}",
            f"equals {first}, though the plan draws both independently",
        )
    initplug.apply(model, "torch_default")
    assert initplug.audit(model, "torch_default").problems() == []


def test_under_a_seed_the_original_is_the_one_that_is_exact() -> None:
    model = net()
    initplug.apply(model, {"rules": RULES}, seed=0)
    with torch.no_grad():
        model["a"].weight.copy_(model["c"].weight)
    (row,) = initplug.audit(model, {"rules": RULES}, seed=0).problems()
    assert (row.name, row.reason) == ("a.weight", "twin of c.weight")
    assert str(row.problem).endswith("; equals c.weight, though the plan draws both independently")


def test_two_families_of_copies_are_told_apart() -> None:
    model: Any = nn.ModuleList(nn.Linear(24, 24, bias=False).bfloat16() for _ in range(40))
    recipe = {"rules": {"*": "normal std=0.02"}}
    initplug.apply(model, recipe, seed=0)
    with torch.no_grad():
        for place in (7, 21):
            model[place].weight.copy_(model[3].weight)
        model[30].weight.copy_(-model[20].weight)
    found = {row.name: row.reason for row in initplug.audit(model, recipe).problems()}
    assert found == {
        "7.weight": "twin of 3.weight",
        "21.weight": "twin of 3.weight",
        "30.weight": "twin of 20.weight",
    }


def same(model: nn.Module) -> None:
    """Give all tensors of one size the same values."""
    first: dict[int, Tensor] = {}
    with torch.no_grad():
        for parameter in model.parameters():
            values = first.setdefault(parameter.numel(), parameter.detach().clone())
            parameter.copy_(values.view(parameter.shape))


PLANNED: dict[str, Any] = {
    "constants": {"*": 0.5},
    "kept": {"*": "keep"},
    "no rule": {"nothing": {"match": "nothing.*", "init": 0, "optional": True}},
    "copies": {
        "*": "normal",
        "copies": {"match": ["b.*", "c.*"], "init": {"fn": "copy", "source": "^a"}},
        "d": {"match": "d.*", "init": "keep"},
    },
    "eye": {"*.weight": "eye", "*.bias": 0},
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_is_alike_by_plan_or_has_none_is_not_compared(name: str) -> None:
    model = net()
    recipe = {"unmatched": "keep", "rules": PLANNED[name]}
    initplug.apply(model, recipe, seed=0)
    if name in ("kept", "no rule"):
        same(model)
    assert initplug.audit(model, recipe).problems() == []


def test_few_bits_are_alike_by_chance_and_do_not_count() -> None:
    for numel, told in ((3, []), (64, ["twin of 0"])):
        model = nn.ParameterList(nn.Parameter(torch.linspace(-0.9, 0.5, numel).bfloat16()) for _ in range(2))
        with torch.no_grad():
            model[0].copy_(model[0][torch.randperm(numel)])
            model[1].copy_(model[0])
        problems = initplug.audit(model, {"rules": {"*": "uniform -1 1"}}).problems()
        assert [row.reason for row in problems if str(row.reason).startswith("twin")] == told


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("init", ["normal std=0.02", "uniform -1 1", "trunc_normal std=0.02", "normal mean=1 std=1e-3"])
def test_no_copy_is_seen_among_thousands_of_draws(dtype: torch.dtype, init: str) -> None:
    sizes = [2, 3, 5, 8, 16, 64, 400]
    model = nn.ParameterDict(
        {f"p{size}_{place}": nn.Parameter(torch.zeros(size).to(dtype)) for size in sizes for place in range(150)}
    )
    recipe = {"rules": {"*": init}}
    initplug.apply(model, recipe, seed=1, measure=False)
    reasons = {row.reason for row in initplug.audit(model, recipe).problems()}
    assert not any(str(reason).startswith("twin") for reason in reasons)


def test_a_thousand_equal_tensors_take_a_time_that_grows_with_their_number() -> None:
    def steps(count: int) -> int:
        from initplug.filling import twins

        model = nn.ParameterList(nn.Parameter(torch.linspace(-1, 1, 64)[torch.randperm(64)]) for _ in range(1))
        for _ in range(count - 1):
            model.append(nn.Parameter(model[0].detach().clone()))
        counted = 0
        plain = twins._how

        def counting(*arguments: Any, **more: Any) -> Any:
            nonlocal counted
            counted += 1
            return plain(*arguments, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(twins, "_how", counting)
            audit = initplug.audit(model, {"rules": {"*": "uniform -1 1"}})
        assert sum(str(row.reason).startswith("twin") for row in audit.problems()) == count - 1
        return counted

    assert (steps(50), steps(400)) == (49, 399)
