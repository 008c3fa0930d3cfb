"""Modules that were copies of others before a write and are not after it: told once, with the rule that keeps them."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import pytest
import torch
from nets import copied_state
from torch import nn

import initplug


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


class Learner(nn.Module):
    """A network and its target, as CleanRL and Stable-Baselines3 build them."""

    def __init__(self) -> None:
        super().__init__()
        self.q = net()
        self.q_target = copy.deepcopy(self.q)
        self.policy = net()


def told(model: nn.Module, recipe: Any = "torch_default", **options: Any) -> list[str]:
    """What an apply says of copies."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        initplug.apply(model, recipe, **options)
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if "a copy of" in text]


SAID = """1 module was a copy of another to the bit, and is not any more
  q_target (Sequential), a copy of q
Where they are to start alike, as target networks do, add `^q_target: copy source=^q`."""


@pytest.mark.parametrize("seed", [None, 0])
def test_a_target_network_that_is_drawn_apart_is_told_once(seed: int | None) -> None:
    assert told(Learner(), seed=seed) == [SAID]


def test_the_rule_that_is_offered_keeps_them_equal() -> None:
    (rule,) = re.findall(r"`\^(\w+): (copy .*?)`", SAID)
    model = Learner()
    assert told(model, {"defaults": ["torch_default"], "rules": {f"^{rule[0]}": rule[1]}}, seed=0) == []
    assert all(map(torch.equal, model.q.parameters(), model.q_target.parameters()))
    audit = initplug.audit(model, {"defaults": ["torch_default"], "rules": {f"^{rule[0]}": rule[1]}}, seed=0)
    assert not audit.problems()


def test_a_frozen_target_stays_behind_and_is_told() -> None:
    model = Learner()
    model.q_target.requires_grad_(False)
    assert told(model, seed=0) == [SAID]


def test_the_original_is_the_one_that_is_written() -> None:
    (said,) = told(Learner(), seed=0, only="q_target")
    assert said.splitlines()[1] == "  q (Sequential), a copy of q_target"
    assert said.endswith("add `^q: copy source=^q_target`.")


def test_what_is_not_written_is_not_told() -> None:
    assert told(Learner(), seed=0, only="policy") == []
    assert told(Learner(), "keep") == []


def test_what_stays_equal_is_not_told() -> None:
    assert told(Learner(), {"rules": {"*": 0}}) == []


def test_a_model_that_starts_apart_is_not_told() -> None:
    model = Learner()
    with torch.no_grad():
        model.get_parameter("q_target.2.weight")[0, 0] += 1
    inner = told(model, seed=0)
    assert len(inner) == 1  # its first layer still is
    assert "  q_target.0 (Linear), a copy of q.0\n" in inner[0]
    assert told(model, seed=1) == []  # nothing is any more


def test_equal_constants_are_no_copies() -> None:
    model = nn.ModuleDict({"a": nn.LayerNorm((4, 8)), "b": nn.LayerNorm((4, 8))})
    assert told(model, {"rules": {"*": "normal"}}, seed=0) == []


def test_layers_of_a_list_are_clones_by_construction() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32)
    assert told(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), seed=0) == []
    assert told(nn.ModuleDict({"stage": nn.ModuleList([net(), net()])}), seed=0) == []


def test_copies_of_lists_are_told_as_a_whole() -> None:
    model = nn.ModuleDict({"critics": nn.ModuleList([net(), net()])})
    model["targets"] = copy.deepcopy(model["critics"])
    (said,) = told(model, seed=0)
    assert said.splitlines()[1:2] == ["  targets (ModuleList), a copy of critics"]
    assert len(said.splitlines()) == 3


def test_tied_modules_stay_what_they_are() -> None:
    model = nn.ModuleDict({"a": net()})
    model["b"] = model["a"]
    assert told(model, seed=0) == []


def test_what_is_on_meta_has_nothing_to_compare() -> None:
    with torch.device("meta"):
        model = Learner()
    assert told(model, seed=0) == []


def test_nothing_is_changed_by_looking() -> None:
    model = Learner()
    before = copied_state(model)
    told(model, "keep")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_copies_of_other_dtypes_are_told(dtype: torch.dtype) -> None:
    assert told(Learner().to(dtype), seed=0) == [SAID]
