from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch_parts import fully_shard

import initplug

# Of torch's own compiler, and of tracing, which is tried here because users have such modules.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.usefixtures("world_of_one"),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        self.width = 4

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.stem(x))
        return y


NAMES = ["stem.weight", "stem.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]
RECIPE = {
    "rules": {
        "*": "normal std=0.5",
        "^stem.weight": "xavier_uniform",
        "blocks.-1": {"fn": "normal", "factor": {"count": "blocks.*", "times": 2}},
        "wide": {"match": "blocks.0.weight", "init": {"fn": "normal", "factor": {"attr": "^width"}}},
        "<Linear>.bias": 0,
    }
}


def inside(wrap: Callable[[nn.Module], Any]) -> nn.Module:
    model = Net()
    model.stem = wrap(model.stem)
    model.blocks[1] = wrap(model.blocks[1])
    return model


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "torch.compile": lambda: compiled(Net()),
    "torch.compile inside": lambda: inside(torch.compile),
    "DataParallel": lambda: nn.DataParallel(Net()),
    "DistributedDataParallel": lambda: DistributedDataParallel(Net()),
    "checkpoint": lambda: checkpoint_wrapper(Net()),
    "checkpoint inside": lambda: inside(checkpoint_wrapper),
    "three deep": lambda: DistributedDataParallel(compiled(checkpoint_wrapper(Net()))),
    "compiled in place": lambda: compiled_in_place(Net()),
}


def compiled(model: nn.Module) -> nn.Module:
    wrapped: Any = torch.compile(model)
    assert isinstance(wrapped, nn.Module)
    return wrapped


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_leave_no_trace_in_names_types_places_or_values(wrapper: str) -> None:
    plain, wrapped = Net(), WRAPPED[wrapper]()
    expected, found = initplug.plan(plain, RECIPE), initplug.plan(wrapped, RECIPE)
    assert [row.to_dict() for row in found] == [row.to_dict() for row in expected]
    assert [row.name for row in found] == NAMES
    assert found["blocks.1.weight"].std == pytest.approx(0.5) and found["blocks.0.weight"].std == pytest.approx(0.5)

    for model in (plain, wrapped):
        torch.manual_seed(0)
        audit = initplug.apply(model, RECIPE)
        assert {row.status for row in audit} == {"initialized"}
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), wrapped.parameters(), strict=True))
    for model in (plain, wrapped):
        initplug.apply(model, RECIPE, seed=1)
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), wrapped.parameters(), strict=True))


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_only_takes_the_names_of_the_wrapped_state_dict_too(wrapper: str) -> None:
    model = WRAPPED[wrapper]()
    (raw,) = [name for name in model.state_dict() if name.endswith("1.weight") or name.endswith("1._orig_mod.weight")][
        :1
    ]
    audit = initplug.apply(model, RECIPE, only=[raw])
    assert [row.name for row in audit if row.status == "initialized"] == ["blocks.1.weight"]


def test_children_that_only_have_a_wrappers_names_stay() -> None:
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "_orig_mod": nn.ModuleDict({"module": nn.Linear(2, 2)})})
    names = [row.name for row in initplug.plan(model, {"rules": {"*": 0}})]
    assert names == ["module.weight", "module.bias", "_orig_mod.module.weight", "_orig_mod.module.bias"]


def test_a_wrapper_with_tensors_of_its_own_is_no_mere_wrapper() -> None:
    class Scaled(nn.DataParallel[nn.Linear]):
        def __init__(self) -> None:
            super().__init__(nn.Linear(2, 2))
            self.scale = nn.Parameter(torch.ones(1))

    names = [row.name for row in initplug.plan(Scaled(), {"rules": {"*": 0}})]
    assert names == ["scale", "module.weight", "module.bias"]


@pytest.mark.filterwarnings("ignore:FSDP.*:FutureWarning", "ignore:.*deprecated.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*FSDP.*:UserWarning", "ignore:The passed-in.*:UserWarning")
@pytest.mark.parametrize("originals", [True, False])
def test_flat_parameters_are_refused_by_name(originals: bool) -> None:
    model = FullyShardedDataParallel(Net(), device_id=torch.device("cpu"), use_orig_params=originals)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(initplug.PlanError, match="cut by FSDP1 without regard to shapes") as caught:
        initplug.apply(model, {"rules": {"*": "normal std=0.5"}} if not originals else RECIPE)
    assert caught.value.findings[0].path == ("stem.weight" if originals else "_flat_param")
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_sharded_parameters_keep_public_types_and_need_a_seed() -> None:
    model = Net()
    fully_shard(model.stem)
    fully_shard(model)
    assert type(model.stem).__name__ == "FSDPLinear"
    plan = initplug.plan(model, RECIPE)
    assert [row.name for row in plan] == NAMES and {row.module_type for row in plan} == {"Linear"}
    with pytest.raises(initplug.ApplyError, match=r"stem\.weight: it is sharded, and only a seed gives its parts"):
        initplug.apply(model, RECIPE)
    assert initplug.apply(model, RECIPE, seed=0).problems() == []


def test_scripted_modules_are_refused_with_the_way_out() -> None:
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    with pytest.raises(initplug.PlanError, match="is a TorchScript module, which hands out copies: plan it before"):
        initplug.plan(scripted, {"rules": {"*": 0}})
