"""Low-rank adapters: rules that do not name them leave them as they are, and say so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import initplug


class Adapted(nn.Module):
    """A layer with an adapter, as peft names its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(8, 8)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(8, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 8, bias=False)})
        self.lora_embedding_B = nn.ParameterDict({"default": nn.Parameter(torch.zeros(8, 2))})
        nn.init.zeros_(self.lora_B["default"].weight)  # type: ignore[arg-type]  # torch's stubs

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.lora_B["default"](self.lora_A["default"](x))
        out: Tensor = self.base_layer(x) + down
        return out


HALVES = ["0.lora_A.default.weight", "0.lora_B.default.weight", "0.lora_embedding_B.default"]


def model() -> nn.Module:
    return nn.Sequential(Adapted(), nn.Linear(8, 3))


def reasons(audit: initplug.Audit) -> dict[str, str | None]:
    return {row.name: row.reason for row in audit}


@pytest.mark.parametrize("recipe", ["torch_default", "torchvision_vgg", {"rules": {"*": "normal std=0.1"}}])
def test_rules_that_do_not_name_adapters_leave_them(recipe: Any) -> None:
    net = model()
    before = {name: value.clone() for name, value in net.named_parameters()}
    x = torch.linspace(-1, 1, 16).view(2, 8)
    if isinstance(recipe, str):
        recipe = initplug.load(recipe).model_copy(update={"unused": "ignore"})
    audit = initplug.apply(net, recipe, seed=0)
    assert {name for name, reason in reasons(audit).items() if reason == "adapter"} == {*HALVES}
    assert all(row.status == "kept" and row.rule is None for row in audit if row.name in HALVES)
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]) == (name in HALVES)
    adapted = net[0]  # type: ignore[index]  # a Sequential
    assert torch.equal(adapted(x), adapted.base_layer(x))
    assert audit.to_text().count("adapter") > 3
    assert "3 of adapters, kept" in initplug.plan(model(), recipe).headline()


def test_a_rule_that_names_an_adapter_takes_it() -> None:
    net = model()
    rules = {"*": 0.5, "half": {"match": ["lora_A", "*.bias"], "init": 2}, "other": {"match": "*", "init": 1}}
    audit = initplug.apply(net, {"rules": rules})
    assert {row.name: row.rule for row in audit if row.name in HALVES} == dict.fromkeys(HALVES, None) | {
        HALVES[0]: "half"
    }
    assert net[0].lora_A["default"].weight.eq(2).all()  # type: ignore[index]  # a Sequential
    assert net[1].bias.eq(1).all()  # type: ignore[index]  # likewise


def test_values_from_elsewhere_are_for_adapters_too() -> None:
    rules = {"*": 0.5, "same": {"match": "*.lora_embedding_B.default", "init": "copy source=..lora_B.default.weight"}}
    plan = initplug.plan(model(), {"rules": rules})
    assert plan[HALVES[2]].rule == "same"
    kept = initplug.plan(model(), {"rules": {"*": "keep"}})
    assert {row.rule for row in kept if row.name in HALVES} == {"*"}


def test_on_meta_there_is_nothing_to_keep() -> None:
    with torch.device("meta"):
        net = model()
    with pytest.raises(initplug.ApplyError, match="it is of an adapter, and there is nothing to keep"):
        initplug.apply(net, {"rules": {"*": 1}}, seed=0)


def test_the_preset_draws_adapters_and_nothing_else() -> None:
    net = model()
    audit = initplug.apply(net, initplug.load("lora").model_copy(update={"unused": "ignore"}), seed=0)
    drawn = {row.name: row.rule for row in audit if row.rule is not None}
    assert drawn == {HALVES[0]: "a", HALVES[1]: "b", HALVES[2]: "embedding_b"}
    a = audit[HALVES[0]]
    assert a.high == pytest.approx(8**-0.5)
    assert audit[HALVES[1]].measured_std == 0
