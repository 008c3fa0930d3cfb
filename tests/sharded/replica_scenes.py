"""What ranks do with replicas, which no mesh tells of: wrappers make them equal once, and never again."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from disagreements import RECIPE, Parts, nothing_written, refused, sharded
from scenes import Block, mesh_of, raises, same_values
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch_parts import Replicate, distribute_tensor
from world import scene

import initplug

APART = "the ranks disagree, so that nothing has been written\n"
UNSEEDED = (
    "share it, and torch's generator is each rank's own (seed=0, or check=False where all ranks have seeded torch"
)


def all_equal(tensor: Tensor) -> bool:
    """Whether all ranks hold the same values."""
    heard: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(heard, tensor.detach())
    return all(torch.equal(heard[0], other) for other in heard)


def wrapped(model: nn.Module, group: Any = None) -> Any:
    return DistributedDataParallel(model, process_group=group)


WAYS: list[Callable[[], Any]] = [
    lambda: wrapped(nn.Linear(8, 8)),
    lambda: nn.Sequential(wrapped(nn.Linear(8, 8))),
    lambda: wrapped(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
    lambda: replicate_with_a_batch(nn.Linear(8, 8)),
]


def replicate_with_a_batch(model: Any) -> Any:
    import_module("torch.distributed._composable").replicate(model)
    model(torch.zeros(1, 8))  # before which it makes no replicas
    return model


@scene(2)
def replicas_are_written_alike_or_not_at_all(_: Path) -> None:
    rank, recipe = dist.get_rank(), {"rules": {"*": "normal"}}
    torch.manual_seed(rank)
    for way in WAYS:
        model = way()
        bias = next(row.name for row in initplug.plan(model, recipe) if row.name.endswith("bias"))
        refused(f"{bias}: ranks 0, 1 {UNSEEDED}", model, recipe, seed=None, only="*.bias")
        refused(f"{APART}  seed: 0 on rank 0, 1 on rank 1", model, recipe, seed=rank)
        only = ["**.weight", bias][: rank + 1]
        refused(f"{APART}  {bias}: kept on rank 0, written on rank 1", model, recipe, only=only)
        refused(f"{APART}  recipe: ", model, {"rules": {"*": f"normal std={rank + 1}"}})
        refused(f"x.{bias}: not planned on rank 0, (8,); float32; ", model, recipe, prefix="x" if rank else "")
        audit = initplug.apply(model, recipe, seed=0)
        assert audit.reduced().summary["status"] == {"initialized": 2}
        assert all(map(all_equal, model.parameters()))


@scene(2)
def what_needs_no_generator_is_written_without_a_seed(_: Path) -> None:
    rank, model = dist.get_rank(), wrapped(nn.Sequential(nn.Linear(8, 8), nn.Conv1d(2, 2, 3), nn.LayerNorm(8)))
    rules: dict[str, Any] = {"0.weight": "eye", "*.bias": 0, "1.weight": "dirac", "2.weight": "copy source=^0.bias"}
    torch.manual_seed(rank)
    initplug.apply(model, {"rules": rules})
    assert all(map(all_equal, model.parameters()))
    drawn = {**rules, "0.bias": "uniform -1 1"}
    with nothing_written(model), raises("2 of 6 slots cannot be written\n  0.bias: ranks 0, 1 share it, ") as caught:
        initplug.apply(model, {"rules": drawn})
    assert [finding.path for finding in caught.value.findings] == ["0.bias", "2.weight"]
    parts = {"rules": {**rules, "0.weight": {"fn": "normal", "split": 2}}}
    refused(f"  0.weight: ranks 0, 1 {UNSEEDED}", model, parts, seed=None)
    # Who knows that all generators are alike may say so.
    torch.manual_seed(0)
    initplug.apply(model, {"rules": drawn}, check=False)
    assert all(map(all_equal, model.parameters()))


@scene(2)
def what_a_wrapper_ignores_is_each_ranks_own(_: Path) -> None:
    rank, inner = dist.get_rank(), Parts({"body": nn.Linear(8, 8), "own": nn.Linear(8, 8)})
    ignored = ["own.weight", "own.bias"]
    vars(inner)["_ddp_params_and_buffers_to_ignore"] = ignored
    model = wrapped(inner)
    torch.manual_seed(rank)
    initplug.apply(model, RECIPE, only=ignored)
    assert not all_equal(inner.get_parameter("own.weight"))
    refused(f"  body.weight: ranks 0, 1 {UNSEEDED}", model, seed=None)
    initplug.apply(model, RECIPE, seed=0, only=[*ignored[: rank + 1], "body.weight"])
    assert all_equal(inner.get_parameter("body.weight"))


@scene(4)
def each_group_of_replicas_is_compared_on_its_own(_: Path) -> None:
    rank = dist.get_rank()
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    model = wrapped(nn.Linear(8, 8), pairs[rank // 2])
    initplug.apply(model, RECIPE, seed=rank // 2)
    if rank < 2:
        refused(f"{APART}  seed: 0 on rank 0, 1 on rank 1", model, seed=rank)
    else:
        initplug.apply(model, RECIPE, seed=4)
        dist.barrier()
    only = ["weight", *["bias"] * (rank == 3)]  # of which the other pair knows where a group is named
    refused("\n  bias: kept on ranks 0, 1, 2, written on rank 3", model, only=only, group=dist.group.WORLD)


@scene(2)
def one_rank_alone_has_no_replicas(_: Path) -> None:
    rank = dist.get_rank()
    groups = [dist.new_group([one]) for one in range(2)]
    model, plain = wrapped(nn.Linear(8, 8), groups[rank]), nn.Linear(8, 8)
    for one in (model, plain):
        torch.manual_seed(rank)
        initplug.apply(one, RECIPE)
    assert torch.equal(model.module.weight, plain.weight) and not all_equal(plain.weight)
    initplug.apply(model, RECIPE, seed=rank)


@scene(2)
def parameters_that_are_whole_for_a_while_are_written_alike(_: Path) -> None:
    rank, recipe = dist.get_rank(), {"rules": {"*": "normal"}}
    expected = Block()
    initplug.apply(expected, recipe, seed=0)
    torch.manual_seed(rank)
    for original in (False, True):
        model = FullyShardedDataParallel(Block(), device_id=torch.device("cpu"), use_orig_params=original)
        with FullyShardedDataParallel.summon_full_params(model):
            for seed, said in ((None, f"fc1.weight: ranks 0, 1 {UNSEEDED}"), (rank, f"{APART}  seed: 0 on rank 0, 1")):
                with raises(said):
                    initplug.apply(model, recipe, seed=seed)
            initplug.apply(model, recipe, seed=0)
        with FullyShardedDataParallel.summon_full_params(model):
            same_values(model.module, expected)
        # What each rank holds of a flat parameter is its own, and no obstacle to what stands beside it.
        beside = Parts({"flat": model, "head": nn.Linear(4, 4)})
        initplug.apply(beside, recipe, seed=rank, only="head")


@scene(2)
def audits_tell_of_replicas_that_are_apart(_: Path) -> None:
    rank, model = dist.get_rank(), wrapped(nn.Linear(64, 64))
    initplug.apply(model, RECIPE, seed=0)
    assert initplug.audit(model, RECIPE).reduced().summary["verdict"] == {"ok": 2}
    applied = initplug.apply(model, RECIPE, seed=rank, check=False)
    for audit in (applied, initplug.audit(model, RECIPE)):
        assert audit.summary["verdict"] == {"ok": 2}
        (row,) = audit.reduced().problems()
        assert (row.name, row.reason) == ("weight", "ranks disagree")
        extremes = [torch.zeros(2) for _ in range(2)]
        dist.all_gather(extremes, torch.stack([model.module.weight.min(), model.module.weight.max()]).detach())
        told = ", ".join("{!r} to {!r}".format(*pair.tolist()) for pair in extremes)
        assert row.problem == f"the ranks hold different values of it: {told}"
    # Plain tensors of one name need not be replicas; replicated DTensors are.
    assert not initplug.apply(nn.Linear(64, 64), RECIPE, seed=rank).reduced().problems()
    meshed = nn.Linear(64, 64)
    for name, parameter in list(meshed.named_parameters()):
        setattr(meshed, name, nn.Parameter(distribute_tensor(parameter.detach(), mesh_of(2), [Replicate()])))
    initplug.apply(meshed, RECIPE, seed=rank, check=False)
    assert [row.name for row in initplug.audit(meshed, RECIPE).reduced().problems()] == ["weight"]


@scene(2)
def a_rank_that_fails_with_replicas_is_told_of(_: Path) -> None:
    rank, model = dist.get_rank(), wrapped(nn.Linear(8, 8))

    def progress(done: int, _: int) -> None:
        if rank and done == 2:
            raise OSError("the disk is full")

    said = "the disk is full" if rank else "1 of 2 ranks failed while values were written\n  rank 1: ApplyError: "
    with nothing_written(model), raises(said):
        initplug.apply(model, RECIPE, seed=4, progress=progress, atomic=True)
    with nothing_written(model), raises("match no rule" if rank else "  rank 1: PlanError: ", initplug.InitplugError):
        initplug.apply(model, {"rules": {"*.weight": 1, **({} if rank else {"*.bias": 0})}}, seed=4)


@scene(2)
def replicas_beside_shards_are_compared_too(_: Path) -> None:
    rank = dist.get_rank()
    model = Parts({"body": sharded(nn.Linear(8, 8)), "head": wrapped(nn.Linear(8, 8))})
    refused("head.bias: kept on rank 0, written on rank 1", model, only=["head.weight", *["head.bias"] * rank])
    refused(f"head.weight: ranks 0, 1 {UNSEEDED}", model, seed=None)
    assert initplug.apply(model, RECIPE, seed=0).reduced().summary["verdict"] == {"ok": 4}
