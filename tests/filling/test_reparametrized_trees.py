from __future__ import annotations

from typing import Any

import pytest
import torch
from parametrization_parts import Halved, Noisy, public_weight, with_parts
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from untouched import untouched

import initplug

NORMAL: dict[str, Any] = {"rules": {"*": 0.125, "*.weight": "normal std=0.5"}}


class Adapter(nn.Module):
    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.randn(2, columns))
        self.lora_B = nn.Parameter(torch.zeros(rows, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lora_B @ self.lora_A

    def right_inverse(self, value: Tensor) -> Tensor:
        return value - self.lora_B @ self.lora_A


def test_several_tensors_of_one_module_and_a_buffer_can_be_parametrized() -> None:
    model = nn.Module()
    model.register_parameter("one", nn.Parameter(torch.zeros(4, 3)))
    model.register_parameter("two", nn.Parameter(torch.zeros(3)))
    model.register_buffer("table", torch.zeros(2, 2))
    for name in ("one", "two", "table"):
        with_parts(model, Halved(), name=name)
    model.register_parameter("last", nn.Parameter(torch.zeros(2)))
    hidden: Any = model
    audit = initplug.apply(model, {"rules": {"one": {"match": "one", "init": 1}, "*": 2, "^one": 3}})
    assert {row.name: row.measured_mean for row in audit} == {"one": 3, "two": 2, "last": 2}
    assert hidden.table.tolist() == [[0, 0], [0, 0]]
    rules = {"*": 2, "t": {"match": "table", "kind": "buffer", "init": 5}}
    audit = initplug.apply(model, {"rules": rules})
    assert (audit["table"].kind, audit["table"].status, audit["table"].verdict) == ("buffer", "initialized", "ok")
    assert hidden.table.tolist() == [[5, 5], [5, 5]]


class ParametrizedThing(nn.Linear):
    """A user's class with a name as torch derives it."""


def test_what_only_looks_parametrized_keeps_its_names() -> None:
    assert initplug.plan(ParametrizedThing(2, 2), {"rules": {"*": 0}})["weight"].module_type == "ParametrizedThing"
    model = nn.Module()
    model.add_module("parametrizations", nn.ModuleDict({"weight": nn.ParameterDict({"original": torch.zeros(2)})}))
    names = [row.name for row in initplug.plan(model, {"rules": {"*": 0}})]
    assert names == ["parametrizations.weight.original"]
    derived = initplug.plan(parametrizations.weight_norm(ParametrizedThing(2, 2)), {"rules": {"*": 0, "*.weight": 1}})
    assert derived["weight"].module_type == "ParametrizedThing"


def test_parameters_of_parametrizations_are_slots_of_their_own_and_every_value_stands_in_the_end() -> None:
    model = nn.ModuleDict({"fc": with_parts(nn.Linear(30, 20), Adapter(20, 30), Halved())})
    rules = {"*": 0.5, "*.weight": "normal std=0.5", "^**.lora_A": "normal std=3", "<Adapter>.lora_B": 2}
    audit = initplug.apply(model, {"rules": rules})
    prefix = "fc.parametrizations.weight.0"
    assert {row.name for row in audit} == {"fc.bias", "fc.weight", f"{prefix}.lora_A", f"{prefix}.lora_B"}
    assert (audit[f"{prefix}.lora_A"].rule, audit[f"{prefix}.lora_B"].module_type) == ("^**.lora_A", "Adapter")
    assert {(row.status, row.verdict) for row in audit} == {("initialized", "ok")}
    assert {row.verdict for row in initplug.audit(model, {"rules": rules})} == {"ok"}
    assert public_weight(model["fc"]).std().item() == pytest.approx(0.5, rel=0.2)


def test_a_parametrization_may_hold_parametrized_modules() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = parametrizations.weight_norm(nn.Linear(6, 6, bias=False))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.proj(torch.ones_like(x))
            return y

        def right_inverse(self, value: Tensor) -> Tensor:
            y: Tensor = value - self.proj(torch.ones_like(value))
            return y

    model = nn.ModuleDict({"fc": with_parts(nn.Linear(6, 6), Gate())})
    with untouched(model):
        plan = initplug.plan(model, NORMAL)
    inner = "fc.parametrizations.weight.0.proj.weight"
    assert {row.name: row.module_type for row in plan} == {"fc.bias": "Linear", "fc.weight": "Linear", inner: "Linear"}
    audit = initplug.apply(model, plan)
    assert {(row.status, row.verdict) for row in audit} == {("initialized", "ok")}
    assert {row.verdict for row in initplug.audit(model, NORMAL)} == {"ok"}


class Scaled(nn.Module):
    """Depends on a buffer, which is written after the parameters."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / self.scale


class Shifted(nn.Module):
    """Depends on a module that it does not register, and that is written after its owner."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.others = [other]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.others[0].weight

    def right_inverse(self, value: Tensor) -> Tensor:
        return value - self.others[0].weight


@pytest.mark.parametrize("how", ["buffer", "module"])
def test_what_changes_a_weight_after_it_was_set_is_not_hidden(how: str) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"head": nn.Linear(40, 30), "tail": nn.Linear(40, 30)})
    tail = model["tail"]
    assert isinstance(tail, nn.Linear)
    with_parts(model["head"], Scaled() if how == "buffer" else Shifted(tail))
    scale = {"match": "scale", "kind": "buffer", "init": 4, "optional": True}
    audit = initplug.apply(model, {"rules": {"*": 0, "*.weight": "normal std=0.5", "scale": scale}})
    row, value = audit["head.weight"], public_weight(model["head"])
    assert row.measured_std == pytest.approx(value.std(correction=0).item(), rel=1e-4)
    assert row.verdict == ("ok" if value.std().item() == pytest.approx(0.5, rel=0.1) else "differs")


# Ties -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["plain", "computed"])
def test_an_original_tied_to_a_plain_tensor_is_drawn_once(first: str) -> None:
    head, table = with_parts(nn.Linear(5, 9, bias=False), Noisy()), nn.Embedding(9, 5, padding_idx=4)
    head.get_submodule("parametrizations.weight").register_parameter("original", table.get_parameter("weight"))
    pair = {"table": table, "head": head} if first == "plain" else {"head": head, "table": table}
    model = nn.ModuleDict({**pair, "last": nn.Linear(3, 3, bias=False)})
    torch.manual_seed(0)
    audit = initplug.apply(model, {"rules": {"*": "normal"}})
    torch.manual_seed(0)
    expected, last = (nn.init.normal_(torch.empty(shape)) for shape in ((9, 5), (3, 3)))
    expected[4] = 0
    names = ["table.weight", "head.weight"] if first == "plain" else ["head.weight", "table.weight"]
    assert [(row.name, row.aliases) for row in audit] == [(names[0], (names[1],)), ("last.weight", ())]
    assert {row.status for row in audit} == {"initialized"}
    assert torch.equal(table.weight, expected) and torch.equal(public_weight(head), expected)
    assert torch.equal(model["last"].get_parameter("weight"), last)
    for selector in ("<Linear>.weight", "<Embedding>.weight", "table.weight", "head.weight"):
        assert initplug.plan(model, {"rules": {"*": 0, selector: 1}})[names[1]].rule == selector


@pytest.mark.parametrize("size", [4, 70])
def test_what_another_owner_computes_something_else_from_is_not_called_ok(size: int) -> None:
    plain = nn.Linear(size, size, bias=False)
    halved = with_parts(nn.Linear(size, size, bias=False), Halved(), unsafe=True)
    halved.get_submodule("parametrizations.weight").register_parameter("original", plain.get_parameter("weight"))
    (row,) = initplug.apply(nn.Sequential(plain, halved), {"rules": {"*": "normal"}})
    assert row.measured_count == size * size
    assert (row.status, row.verdict) == ("projected", "untestable")


@pytest.mark.parametrize("training", [True, False])
def test_every_owner_of_a_shared_original_has_a_fresh_spectral_norm(training: bool) -> None:
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(8, 12, bias=False) for _ in range(3)])
    for layer in model[1:]:
        layer.register_parameter("weight", model[0].get_parameter("weight"))
    for layer in model[1:]:
        parametrizations.spectral_norm(layer)
    model.train(training)
    audit = initplug.apply(model, {"rules": {"*": "normal std=5"}})
    assert [(row.name, row.aliases, row.status) for row in audit] == [
        ("0.weight", ("1.weight", "2.weight"), "projected")
    ]
    norms = [torch.linalg.matrix_norm(public_weight(layer), 2).item() for layer in model[1:]]
    assert norms == pytest.approx([1, 1], abs=0.05)


def test_a_parametrized_module_used_twice_is_one_slot() -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.ModuleList([layer, nn.Sequential(layer)])
    audit = initplug.apply(model, NORMAL)
    assert {row.name: row.aliases for row in audit} == {"0.weight": ("1.0.weight",), "0.bias": ("1.0.bias",)}
    assert {row.status for row in audit} == {"initialized"}
