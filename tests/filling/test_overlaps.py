"""What a later write overwrites is told of the tensor that lost its values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import initplug

RECIPE: dict[str, Any] = {"rules": {"*": "normal std=0.02"}}


def bag(tensors: dict[str, Tensor]) -> nn.Module:
    model = nn.Module()
    for name, tensor in tensors.items():
        model.register_parameter(name, nn.Parameter(tensor))
    return model


def views(size: int, first: slice, second: slice) -> nn.Module:
    """Two tensors in one memory."""
    base = torch.zeros(size)
    return bag({"first": base[first], "second": base[second], "apart": torch.zeros(size)})


@pytest.mark.parametrize("size", [64, 20_000])
@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("second", [slice(None), slice(8, None)], ids=["all", "a part"])
def test_the_earlier_of_two_tensors_in_one_memory_differs(size: int, seed: int | None, second: slice) -> None:
    model = views(size, slice(None), second)
    with pytest.warns(initplug.InitplugWarning, match="first and second are different tensors in the same memory"):
        audit = initplug.apply(model, RECIPE, seed=seed, threads=1)
    (row,) = audit.problems()
    assert (row.name, row.reason) == ("first", "overwritten by second")
    assert row.problem == "second was written into its memory afterwards"
    assert audit["second"].verdict == "ok"
    assert row.measured_std == pytest.approx(model.get_parameter("first").std(correction=0).item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore::initplug.InitplugWarning")
def test_under_a_seed_the_values_tell_who_was_last_whatever_the_threads() -> None:
    for threads in (1, 2, 4):
        model = views(2_000_000, slice(None), slice(None))
        audit = initplug.apply(model, RECIPE, seed=0, threads=threads)
        expected = bag({name: torch.zeros(2_000_000) for name in ("first", "second")})
        initplug.apply(expected, RECIPE, seed=0)
        for name in ("first", "second"):
            lost = not torch.equal(model.get_parameter(name), expected.get_parameter(name))
            assert (audit[name].verdict == "differs") == lost


@pytest.mark.filterwarnings("ignore::initplug.InitplugWarning")
@pytest.mark.parametrize("seed", [None, 0])
def test_one_constant_in_both_is_what_both_were_to_get(seed: int | None) -> None:
    recipe: dict[str, Any] = {
        "rules": {"*": "normal", "first": {"match": "^first", "init": 0}, "second": {"match": "^second", "init": 0}}
    }
    assert initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed).problems() == []
    recipe["rules"]["second"]["init"] = 1
    (row,) = initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed).problems()
    assert (row.name, row.reason) == ("first", "overwritten by second")


@pytest.mark.parametrize("seed", [None, 0])
def test_what_was_to_be_kept_and_is_overwritten_differs(seed: int | None) -> None:
    recipe = {"rules": {"*": "normal", "first": {"match": "^first", "init": "keep"}}}
    (row,) = initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed).problems()
    assert (row.name, row.status, row.reason) == ("first", "kept", "overwritten by second")
    apart = initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed, only="apart")
    assert apart.problems() == []


def test_what_shares_no_element_is_left_in_peace() -> None:
    base = torch.zeros(64, 64)
    model = bag({"even": base[::2], "odd": base[1::2], "apart": torch.zeros(64)})
    assert initplug.apply(model, RECIPE, seed=0).problems() == []
    halves = bag({"first": base[:32], "second": base[32:], "apart": torch.zeros(64)})
    assert initplug.apply(halves, RECIPE, seed=0).problems() == []
