"""Models whose values others keep elsewhere: nothing ends quietly with nothing written."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from untouched import untouched

import initplug
from initplug import ApplyError, InitplugWarning, PlanError

RECIPE: dict[str, Any] = {"rules": {"*.weight": "normal std=0.02", "*.bias": 0}}


# DeepSpeed.


def partition(model: nn.Module) -> nn.Module:
    """Leave placeholders, as `deepspeed.zero.Init` does."""
    for index, parameter in enumerate(model.parameters()):
        marks: Any = parameter
        marks.ds_id, marks.ds_shape, marks.ds_tensor = index, parameter.shape, parameter.data.flatten().clone()
        parameter.data = torch.empty(0)
    return model


def gathered(model: nn.Module) -> None:
    """Put the values in the place of placeholders, as `deepspeed.zero.GatheredParameters` does."""
    for parameter in model.parameters():
        marks: Any = parameter
        parameter.data = marks.ds_tensor.view(marks.ds_shape)


def test_placeholders_of_deepspeed_are_refused() -> None:
    model = partition(nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4)))
    with untouched(model), pytest.raises(ApplyError) as caught:
        initplug.apply(model, RECIPE, seed=0)
    assert str(caught.value) == (
        "4 of 4 slots cannot be written\n"
        "  0.weight: DeepSpeed keeps its (4, 8) in parts elsewhere (ZeRO 3), and here is a placeholder (apply before "
        "`deepspeed.zero.Init`, or inside `deepspeed.zero.GatheredParameters(…, modifier_rank=0)`)\n"
        "  0.bias: DeepSpeed keeps its (4,) in parts elsewhere (ZeRO 3), and here is a placeholder\n"
        "  1.weight: DeepSpeed keeps its (4,) in parts elsewhere (ZeRO 3), and here is a placeholder\n"
        "  1.bias: DeepSpeed keeps its (4,) in parts elsewhere (ZeRO 3), and here is a placeholder"
    )
    with pytest.raises(ApplyError, match="4 of 4 slots hold no values\n  0.weight: DeepSpeed"):
        initplug.audit(model, RECIPE)
    with pytest.warns(InitplugWarning) as told:
        initplug.plan(model, RECIPE)
    assert [str(one.message) for one in told] == [
        "4 of 4 slots have their values elsewhere, and cannot be written: 0.weight, 0.bias, 1.weight, 1.bias\n"
        "0.weight: DeepSpeed keeps its (4, 8) in parts elsewhere (ZeRO 3), and here is a placeholder (apply before "
        "`deepspeed.zero.Init`, or inside `deepspeed.zero.GatheredParameters(…, modifier_rank=0)`)"
    ]


def test_what_is_gathered_or_left_out_is_no_placeholder() -> None:
    model = nn.Sequential(partition(nn.Linear(8, 4)), nn.Linear(4, 4))
    initplug.apply(model, RECIPE, seed=0, only="1")
    with pytest.raises(ApplyError, match="1 of 4 slots cannot be written\n  0.bias: DeepSpeed"):
        initplug.apply(model, RECIPE, seed=0, only=["0.bias", "1.bias"])
    initplug.apply(model, {"rules": {"0.*": "keep", "1.*": 0}}, seed=0)
    gathered(model[0])
    audit = initplug.apply(model, RECIPE, seed=0)
    assert audit.summary["status"] == {"initialized": 4}


# accelerate.


def offloading(*, below: bool = False, offload: bool = True) -> Any:
    """A stand-in for accelerate's AlignDevicesHook."""
    return SimpleNamespace(offload=offload, place_submodules=below, weights_map={})


def test_what_accelerate_offloads_is_refused() -> None:
    for hook in (offloading(below=True), SimpleNamespace(hooks=[SimpleNamespace(), offloading(below=True)])):
        with torch.device("meta"):
            model: Any = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))
        model[0].to_empty(device="cpu")
        initplug.apply(model[0], RECIPE, seed=0)
        model[1]._hf_hook = hook
        with untouched(model), pytest.raises(ApplyError) as caught:
            initplug.apply(model, RECIPE, seed=0)
        assert str(caught.value) == (
            "2 of 4 slots cannot be written\n"
            "  1.0.weight: accelerate keeps its values elsewhere (offload), and would put them back over any others "
            "(apply before `dispatch_model`, `cpu_offload` or `disk_offload`, or after `remove_hook_from_submodules`)\n"
            "  1.0.bias: accelerate keeps its values elsewhere (offload), and would put them back over any others"
        )
        initplug.apply(model, RECIPE, seed=0, only="^0")
        with pytest.warns(InitplugWarning, match="2 of 4 slots have their values elsewhere"):
            initplug.plan(model, RECIPE)


def test_hooks_that_hold_no_values_are_no_matter() -> None:
    for hook in (offloading(), offloading(below=True, offload=False), SimpleNamespace()):
        with torch.device("meta"):
            model: Any = nn.Sequential(nn.Linear(4, 4))
        model._hf_hook = hook  # of the model alone, which holds no tensor of its own
        assert not initplug.apply(model, RECIPE, seed=0).problems()
    model[0]._hf_hook = offloading()
    assert not initplug.apply(model, RECIPE, seed=0).problems()  # its tensors are here by now


# FSDP1.


@pytest.mark.filterwarnings("ignore:.*FSDP.*:FutureWarning", "ignore:.*NO_SHARD.*:UserWarning")
@pytest.mark.usefixtures("world_of_one")
@pytest.mark.parametrize("original", [False, True])
def test_flat_parameters_are_refused_when_planned(original: bool) -> None:
    layers = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    model = FullyShardedDataParallel(layers, device_id=torch.device("cpu"), use_orig_params=original)
    way = (
        "\nUse `fully_shard`, initialise before wrapping, or apply inside "
        "`FullyShardedDataParallel.summon_full_params`."
    )
    each = [f"  {name}: it is a part of a flat parameter" for name in ("0.weight", "0.bias", "1.weight", "1.bias")]
    one = ["  _flat_param: it is a flat parameter, which holds 0.weight, 0.bias, 1.weight, … and 1 more"]
    rows = "\n".join(each if original else one)
    counted = "4 tensors are" if original else "1 tensor is"
    for call in (initplug.plan, initplug.apply, initplug.audit):
        with pytest.raises(PlanError) as caught:
            call(model, RECIPE)
        assert str(caught.value) == f"{counted} cut by FSDP1 without regard to shapes\n{rows}{way}"
    plan = initplug.plan(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), RECIPE)
    with pytest.raises(PlanError, match="cut by FSDP1"):
        initplug.apply(model, plan, seed=0)
    with FullyShardedDataParallel.summon_full_params(model):
        audit = initplug.apply(model, RECIPE, seed=0)
        assert audit.summary["verdict"] == {"ok": 4}
    expected = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    initplug.apply(expected, RECIPE, seed=0)
    with FullyShardedDataParallel.summon_full_params(model):
        for (name, found), wanted in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert torch.equal(found, wanted), name


# Tensor and expert parallelism without DTensors.


def marked(**marks: Any) -> Any:
    model: Any = nn.ModuleDict({"up": nn.Linear(8, 4), "norm": nn.LayerNorm(4)})
    for key, value in marks.items():
        setattr(model["up"].weight, key, value)
    return model


def test_marked_parts_of_a_tensor_are_refused() -> None:
    model = marked(tensor_model_parallel=True, partition_dim=0)
    with untouched(model), pytest.raises(ApplyError) as caught:
        initplug.apply(model, RECIPE, seed=0)
    assert str(caught.value) == (
        "1 of 4 slots cannot be written\n"
        "  up.weight: it is marked tensor_model_parallel, cut along dimension 0: ranks may hold different parts of it, "
        "and nothing says which this is (make it a DTensor, or apply before the model is cut; check=False writes it all "
        "the same)"
    )
    for init in ("orthogonal", {"split": [0, 1]}, "uniform -1 1"):
        with pytest.raises(ApplyError, match="tensor_model_parallel"):
            initplug.apply(model, {"rules": {"*": 0, "up.weight": init}})
    assert initplug.apply(model, RECIPE, seed=0, check=False).summary["verdict"] == {"ok": 4}
    with pytest.raises(ApplyError, match="up.weight: it is marked allreduce=False: ranks may hold"):
        initplug.apply(marked(allreduce=False, group_name="ep_size_8"), RECIPE, seed=0)


def test_marks_that_mean_nothing_are_no_matter() -> None:
    for marks in (
        {"tensor_model_parallel": False},
        {"allreduce": True},
        {"allreduce": False, "group_name": "ep_size_1"},
    ):
        initplug.apply(marked(**marks), RECIPE, seed=0)
    model = marked(tensor_model_parallel=True)
    initplug.apply(model, {"rules": {"*": 0}}, seed=0)  # a constant is right on every rank
    initplug.apply(model, RECIPE, seed=0, only="norm")
    initplug.apply(model, {"rules": {"*": 0, "up.weight": "keep"}}, seed=0)


def test_copies_of_what_is_cut_alike_are_right_on_every_rank() -> None:
    recipe = {"rules": {"*.bias": 0, "^query.weight": "normal", "^key.weight": "copy source=^query.weight"}}
    model: Any = nn.ModuleDict({"query": nn.Linear(8, 4), "key": nn.Linear(8, 4)})
    model["query"].weight.tensor_model_parallel = model["key"].weight.tensor_model_parallel = True
    initplug.apply(model, recipe, seed=0, only="key")
    with pytest.raises(ApplyError, match="1 of 4 slots cannot be written\n  query.weight: it is marked"):
        initplug.apply(model, recipe, seed=0)
    del model["query"].weight.tensor_model_parallel
    with pytest.raises(ApplyError, match="1 of 4 slots cannot be written\n  key.weight: it is marked"):
        initplug.apply(model, recipe, seed=0)


@pytest.mark.usefixtures("world_of_one")
def test_a_world_of_one_rank_cuts_nothing() -> None:
    initplug.apply(marked(tensor_model_parallel=True), RECIPE, seed=0)
    initplug.apply(marked(allreduce=False), RECIPE, seed=0)


def test_megatron_knows_the_size_of_its_tensor_parallel_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 2):
        state: Any = ModuleType("megatron.core.parallel_state")
        state.model_parallel_is_initialized = lambda: True
        state.get_tensor_model_parallel_world_size = lambda size=size: size
        monkeypatch.setitem(sys.modules, state.__name__, state)
        model = marked(tensor_model_parallel=True)
        if size == 1:
            initplug.apply(model, RECIPE, seed=0)
        else:
            with pytest.raises(ApplyError, match="up.weight: it is marked"):
                initplug.apply(model, RECIPE, seed=0)
        with pytest.raises(ApplyError, match="allreduce=False"):
            initplug.apply(marked(allreduce=False), RECIPE, seed=0)
