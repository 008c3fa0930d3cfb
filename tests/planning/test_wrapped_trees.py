from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch_parts import eager

import initplug

Wrap = Callable[[nn.Module], Any]

pytestmark = pytest.mark.usefixtures("world_of_one")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 16)
        self.dim = 9

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.k(self.q(x))
        return y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 16)
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.scale = nn.Parameter(torch.ones(16))
        self.head = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x * self.scale)
        return y


RECIPE: dict[str, Any] = {
    "rules": {
        "*": "normal std=0.25",
        "^fc.weight": "xavier_uniform",
        "<Linear>.bias": "fan_uniform of=weight",
        "blocks.-1": {"fn": "normal", "factor": {"place": "^blocks.*"}},
        "last": {"match": "^-1.weight", "init": {"fn": "normal", "factor": {"count": "<Block>", "times": 3}}},
        "keys": {"match": "blocks.0.k.weight", "init": {"fn": "normal", "factor": {"attr": "..dim"}}},
        "over": {"match": "blocks.1.k.bias", "init": {"fn": "fan_uniform", "of": "..q.weight"}},
        "one": {"match": "<Net>.scale", "init": 1.5},
    }
}
RAW = [name for name, _ in Net().named_parameters()]


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


WRAPS: dict[str, Wrap] = {
    "torch.compile": compiled,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": DistributedDataParallel,
    "checkpoint": checkpoint_wrapper,
    "DDP of compiled": lambda module: DistributedDataParallel(compiled(module)),
    "compiled DDP": lambda module: compiled(DistributedDataParallel(module)),
    "compiled DP of checkpoint": lambda module: compiled(nn.DataParallel(checkpoint_wrapper(module))),
}


def everywhere(wrap: Wrap) -> nn.Module:
    """Around the model, around blocks and around a leaf."""
    model = Net()
    model.fc = wrap(model.fc)
    for index in range(3):
        block = model.blocks[index]
        assert isinstance(block, Block)
        block.q = wrap(block.q)
        model.blocks[index] = wrap(block)
    whole: nn.Module = wrap(model)
    return whole


def plain_parameters(model: nn.Module) -> list[Tensor]:
    return list(nn.Module.parameters(model))


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_model_wrapped_at_every_level_plans_and_fills_as_the_plain_one(wrap: str) -> None:
    plain, wrapped = Net(), everywhere(WRAPS[wrap])
    expected, found = initplug.plan(plain, RECIPE), initplug.plan(wrapped, RECIPE)
    assert [row.to_dict() for row in found] == [row.to_dict() for row in expected]
    assert [row.name for row in found] == RAW
    assert found["fc.weight"].high == pytest.approx((6 / 22) ** 0.5)
    assert found["blocks.2.k.weight"].std == pytest.approx(3**-0.5)
    assert found["head.weight"].std == pytest.approx(9**-0.5)
    assert found["blocks.0.k.weight"].std == pytest.approx(1 / 3)
    assert found["blocks.1.k.bias"].high == pytest.approx(0.25)

    kept = [id(tensor) for tensor in plain_parameters(wrapped)]
    for model in (plain, wrapped):
        torch.manual_seed(11)
        audit = initplug.apply(model, RECIPE)
        assert [row.name for row in audit] == RAW and audit.problems() == []
        assert {row.status for row in audit} == {"initialized"}
    assert all(torch.equal(*pair) for pair in zip(plain_parameters(plain), plain_parameters(wrapped), strict=True))
    assert [id(tensor) for tensor in plain_parameters(wrapped)] == kept
    assert {row.verdict for row in initplug.audit(wrapped, RECIPE)} == {"ok"}
    x = torch.randn(3, 6)
    with eager():
        assert torch.allclose(wrapped(x), plain(x), atol=1e-5)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_plan_of_the_plain_model_goes_to_the_wrapped_one_and_back(wrap: str) -> None:
    plain, wrapped = Net(), everywhere(WRAPS[wrap])
    for planned, filled in ((plain, wrapped), (wrapped, plain)):
        audit = initplug.apply(filled, initplug.plan(planned, RECIPE))
        assert audit.problems() == [] and [row.name for row in audit] == RAW


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("source", ["state_dict", "named_parameters", "canonical"])
def test_only_takes_every_raw_and_every_canonical_name(wrap: str, source: str) -> None:
    model = everywhere(WRAPS[wrap])
    if source == "canonical":
        names = RAW
    else:
        names = list(model.state_dict()) if source == "state_dict" else [name for name, _ in model.named_parameters()]
    assert len(names) == len(RAW)
    for canonical, name in zip(RAW, names, strict=True):
        before = [tensor.detach().clone() for tensor in plain_parameters(model)]
        audit = initplug.apply(model, {"rules": {"*": "normal"}}, only=[name])
        assert [row.name for row in audit if row.status == "initialized"] == [canonical]
        moved = [not torch.equal(*pair) for pair in zip(before, plain_parameters(model), strict=True)]
        assert moved == [other == canonical for other in RAW]


@pytest.mark.parametrize("wrap", WRAPS)
def test_no_selector_sees_the_wrappers(wrap: str) -> None:
    model = everywhere(WRAPS[wrap])
    kinds = "<OptimizedModule|DataParallel|DistributedDataParallel|CheckpointWrapper|ActivationWrapper>"
    for selector in (f"{kinds}.**", "module.**", "_orig_mod.**", "_checkpoint_wrapped_module.**"):
        with pytest.raises(initplug.PlanError, match="seen"):
            initplug.plan(model, {"unused": "error", "rules": {"*": 0, "seen": {"match": selector, "init": 1}}})


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_stage_takes_the_plan_of_the_whole(wrap: str) -> None:
    stage = WRAPS[wrap](Block())
    audit = initplug.apply(stage, initplug.plan(Net(), {"rules": {"*": 0, "blocks.-1": 2}}), prefix="blocks.2")
    assert [row.name for row in audit] == [name for name in RAW if name.startswith("blocks.2.")]
    assert all(bool((tensor == 2).all()) for tensor in stage.parameters())


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_module_and_its_wrapper_side_by_side_are_a_tie(wrap: str) -> None:
    layer = nn.Linear(4, 4)
    model = nn.ModuleDict({"bare": layer, "wrapped": WRAPS[wrap](layer)})
    torch.manual_seed(3)
    audit = initplug.apply(model, {"rules": {"*": "normal"}})
    assert [(row.name, row.aliases) for row in audit] == [
        ("bare.weight", ("wrapped.weight",)),
        ("bare.bias", ("wrapped.bias",)),
    ]
    torch.manual_seed(3)
    assert torch.equal(layer.weight, nn.init.normal_(torch.empty(4, 4)))
    assert torch.equal(layer.bias, nn.init.normal_(torch.empty(4)))


class OptimizedModule(nn.Module):
    """A user's class with the name and the attribute of torch's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner


class Subclassed(DistributedDataParallel):
    """A user's way to reach the attributes of the module inside."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def test_wrappers_are_known_by_class_and_not_by_name() -> None:
    names = [row.name for row in initplug.plan(OptimizedModule(nn.Linear(2, 2)), {"rules": {"*": 0}})]
    assert names == ["_orig_mod.weight", "_orig_mod.bias"]
    averaged = initplug.plan(AveragedModel(nn.Linear(2, 2)), {"rules": {"*": 0}})
    assert [row.name for row in averaged] == ["module.weight", "module.bias"]
    derived = initplug.plan(Subclassed(nn.Linear(2, 2)), {"rules": {"*": 0}})
    assert [row.name for row in derived] == ["weight", "bias"]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("child", ["module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"])
def test_a_child_with_a_wrappers_attribute_name_is_kept_inside_a_wrapper(wrap: str, child: str) -> None:
    inner = nn.Module()
    inner.add_module(child, nn.Linear(3, 3))
    inner.register_parameter("weight", nn.Parameter(torch.zeros(3)))
    model = WRAPS[wrap](inner)
    plan = initplug.plan(model, {"rules": {"*": 0, f"^{child}.weight": 5}})
    assert {row.name: row.rule for row in plan} == {
        "weight": "*",
        f"{child}.weight": f"^{child}.weight",
        f"{child}.bias": "*",
    }
    # Where a raw name of one tensor is the canonical one of another, the canonical one is meant.
    audit = initplug.apply(model, plan, only=[f"{child}.weight"])
    assert [row.name for row in audit if row.status == "initialized"] == [f"{child}.weight"]


def test_wrapping_moves_no_place() -> None:
    model = nn.Sequential(nn.Linear(2, 2), compiled(nn.Linear(2, 2)), checkpoint_wrapper(nn.Linear(2, 2)))
    rules = {"*": 0, "^-1": 1, "^-2": 2}
    audit = initplug.apply(compiled(model), {"rules": rules})
    assert [row.measured_mean for row in audit] == [0, 0, 2, 2, 1, 1]


def test_padding_rows_and_layouts_are_seen_through_wrappers() -> None:
    class Both(nn.Module):
        def __init__(self, wrap: Wrap) -> None:
            super().__init__()
            self.emb = wrap(nn.Embedding(8, 4, padding_idx=3))
            self.up = wrap(nn.ConvTranspose2d(8, 16, 3))

    recipe = {"rules": {"*": "normal", "up.**": "fan_uniform effective", "up.weight": "kaiming_normal effective"}}
    plain = initplug.plan(Both(lambda module: module), recipe)
    for wrap in WRAPS.values():
        model = Both(wrap)
        assert [row.to_dict() for row in initplug.plan(model, recipe)] == [row.to_dict() for row in plain]
        audit = initplug.apply(model, recipe)
        weight = next(model.emb.parameters())
        assert audit["emb.weight"].verdict == "ok" and not weight[3].any() and bool(weight[:3].any())
    assert plain["up.weight"].fan_in == 72 and plain["up.bias"].high == pytest.approx(72**-0.5)


@pytest.mark.parametrize("wrap", WRAPS)
def test_buffers_are_named_without_wrappers(wrap: str) -> None:
    model = WRAPS[wrap](nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    rules = {"*": 1, "mean": {"match": "^1.running_mean", "kind": "buffer", "init": 0.5}}
    audit = initplug.apply(model, {"rules": rules})
    assert [row.name for row in audit if row.kind == "buffer"] == ["1.running_mean"]
    (mean,) = [buffer for name, buffer in model.named_buffers() if name.endswith("running_mean")]
    assert mean.tolist() == [0.5] * 4
    raw = [name for name in model.state_dict() if name.endswith(("running_var", "num_batches_tracked"))]
    with pytest.warns(initplug.InitplugWarning, match=f"only= chooses nothing that a rule takes: {raw[0]}"):
        audit = initplug.apply(model, {"rules": {"*": 1}}, only=raw)
    assert {row.status for row in audit} == {"kept"}


@pytest.mark.filterwarnings("ignore:FSDP.*:FutureWarning", "ignore:.*deprecated.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*FSDP.*:UserWarning", "ignore:The passed-in.*:UserWarning")
@pytest.mark.parametrize("originals", [True, False])
@pytest.mark.parametrize("level", ["root", "inner"])
def test_fsdp1_is_refused_by_name_and_nothing_beside_it_is_written(originals: bool, level: str) -> None:
    def wrap(module: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(module, device_id=torch.device("cpu"), use_orig_params=originals)

    model = nn.Sequential(nn.Linear(3, 3), wrap(Block()) if level == "inner" else Block())
    if level == "root":
        model = nn.Sequential(nn.Linear(2, 2), wrap(model))
    before = [(id(tensor), tensor._version, tensor.detach().clone()) for tensor in plain_parameters(model)]
    state = torch.get_rng_state()
    with pytest.raises(initplug.InitplugError) as caught:
        initplug.apply(model, {"rules": {"*": "normal"}})
    paths = {finding.path for finding in caught.value.findings}
    assert paths and not any("_fsdp_wrapped_module" in path for path in paths)
    if originals:
        below = "1" if level == "inner" else "1.1"
        assert {f"{below}.q.weight", f"{below}.q.bias", f"{below}.k.weight", f"{below}.k.bias"} <= paths
    assert "0.weight" not in paths and "0.bias" not in paths
    assert torch.equal(torch.get_rng_state(), state)
    for (identity, version, value), tensor in zip(before, plain_parameters(model), strict=True):
        assert (identity, version) == (id(tensor), tensor._version) and torch.equal(value, tensor)
    # What lies beside the flat parameters can still be had.
    audit = initplug.apply(model, {"rules": {"*": "normal std=0.5"}}, only="^0")
    assert [row.name for row in audit if row.status == "initialized"] == ["0.weight", "0.bias"]


def test_copies_of_a_wrapped_model_are_independent() -> None:
    model = compiled(Net())
    other = copy.deepcopy(model)
    before = [tensor.detach().clone() for tensor in plain_parameters(model)]
    initplug.apply(other, RECIPE)
    assert all(torch.equal(*pair) for pair in zip(before, plain_parameters(model), strict=True))
