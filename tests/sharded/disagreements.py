"""What happens where ranks do not plan the same, or do not come so far: nothing is written, and all are told."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from scenes import Bag, Block, mesh_of, raises, whole
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch_parts import STRIDED, DTensor, Placement, Replicate, Shard, fully_shard, sharded_empty
from world import GoneError, scene

import initplug
from initplug import collectives
from initplug.filling import apply as filling

RECIPE: dict[str, Any] = {
    "unused": "ignore",
    "rules": {"<Linear>.weight": "normal std=0.02", "<LayerNorm>.weight": 1, "*.bias": 0},
}


def local(tensor: Tensor) -> Tensor:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


@contextmanager
def nothing_written(model: nn.Module) -> Iterator[None]:
    """Every tensor is the one that it was, with the bits that it had; what was on meta still is."""
    before = [(one, None if one.is_meta else local(one).clone()) for one in model.parameters()]
    yield
    for (was, values), now in zip(before, model.parameters(), strict=True):
        assert was is now
        assert now.is_meta if values is None else torch.equal(values.nan_to_num(), local(now).nan_to_num())


def refused(text: str, model: nn.Module, recipe: Any = RECIPE, **settings: Any) -> None:
    """Every rank raises, at once and with the same sentence, and writes nothing."""
    with nothing_written(model), raises(text):
        initplug.apply(model, recipe, **{"seed": 0, **settings})
    dist.barrier()  # none of them waits for another any more


def sharded(model: nn.Module, mesh: DeviceMesh | None = None) -> Any:
    return fully_shard(model, mesh=mesh or mesh_of(dist.get_world_size()))


def others(size: int, first: int = 1) -> str:
    return collectives.ranked(range(first, size))


# What a rank may do differently, and what all ranks are told of it; `odd` is true of the last rank.


class Wide(nn.Linear):
    """A layer of another class with the same tensors."""


class Parts(nn.Module):
    """Modules under given names."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Timed(Block):
    """A module with an attribute that a recipe refers to."""

    times = 2


def block(odd: bool, change: Callable[[Any], object] = lambda _: None) -> Any:
    model = Timed()
    if odd:
        change(model)
    return sharded(model)


@scene(2, 3, 8)
def what_only_some_ranks_choose_is_refused(_: Path) -> None:
    size = dist.get_world_size()
    odd, last, rest = dist.get_rank() == size - 1, f"rank {size - 1}", collectives.ranked(range(size - 1))
    refused(
        "the ranks disagree, so that nothing has been written\n"
        f"  fc1.bias: written on {rest}, kept on {last}\n"
        f"  fc1.weight: kept on {rest}, written on {last}\n"
        f"  fc2.weight: kept on {rest}, written on {last}\n"
        f"  norm.bias: written on {rest}, kept on {last}\n"
        f"  norm.weight: kept on {rest}, written on {last}",
        block(odd),
        only="*.weight" if odd else "*.bias",
    )
    refused(
        f"fc2.weight: written on {rest}, kept on {last}", block(odd), only=["fc1.weight", *["fc2.weight"] * (not odd)]
    )
    refused(f"other.fc1.bias: not planned on {rest}, ", block(odd), prefix="other" if odd else "")


@scene(2, 3)
def models_that_differ_are_refused(_: Path) -> None:
    size = dist.get_world_size()
    odd, last, rest = dist.get_rank() == 0, "rank 0", others(size)
    scaled = {**RECIPE, "rules": {**RECIPE["rules"], "<Wide>.weight": "normal std=0.5", "fc2.weight": SCALED}}

    def cast(model: Any) -> None:
        model.fc1 = model.fc1.to(torch.bfloat16)

    def other_class(model: Any) -> None:
        model.fc1.__class__ = Wide

    def frozen(model: Any) -> None:
        model.norm.weight.requires_grad_(False)

    def attribute(model: Any) -> None:
        model.times = 4

    def wider(model: Any) -> None:
        model.fc2 = nn.Linear(22, 12, bias=False)

    def missing(model: Any) -> None:
        model.fc2 = nn.Identity()

    def further(model: Any) -> None:
        model.fc3 = nn.Linear(4, 4)

    def tied(model: Any) -> None:
        model.norm.bias = model.norm.weight

    changes: list[tuple[Callable[[Any], None], str]] = [
        (other_class, f"fc1.weight: Normal(mean=0, std=0.5) on {last}, Normal(mean=0, std=0.02) on {rest}"),
        (attribute, f"fc2.weight: Normal(mean=0, std=0.08) on {last}, Normal(mean=0, std=0.04) on {rest}"),
        (cast, f"fc1.bias: bfloat16 on {last}, float32 on {rest}"),
        (frozen, "norm.weight: frozen parameter"),
        (wider, f"fc2.weight: (12, 22) on {last}, (10, 22) on {rest}"),
        (missing, f"fc2.weight: not planned on {last}, (10, 22); float32; "),
        (further, "fc3.bias: (4,); float32; parameter; written; Constant(value=0); "),
        (tied, f"norm.bias: not planned on {last}, (10,); float32; "),
    ]
    for change, text in changes:
        refused(text, block(odd, change), {**scaled, "frozen": "write"})
    norms = {"match": "<LayerNorm>.*", "init": 1, "trainable": True}
    kept = {**RECIPE, "rules": {"fc*": "normal", "norms": norms}}
    text = f"norm.weight: frozen parameter; kept; no rule on {last}, parameter; written; Constant(value=1) on {rest}"
    refused(text, block(odd, frozen), kept)


SCALED = {"fn": "normal", "std": 0.02, "factor": {"attr": "^times", "power": 1}}


@scene(2, 3)
def recipes_that_differ_are_refused(_: Path) -> None:
    size, rank = dist.get_world_size(), dist.get_rank()
    free = {"match": "fc2.weight", "init": "orthogonal", "optional": True}  # to win nothing
    rules = {"<Linear>.weight": "normal std=0.02", "free": free, "<LayerNorm>.*": 1, "fc1.bias": 0}
    turned = dict(reversed(rules.items()))
    refused("\n  recipe: ", block(False), {"rules": turned if rank else rules})
    refused("\n  fc2.weight: Orthogonal(", block(False), {"rules": turned if rank else rules})
    # A difference in the last place.
    values = [f"normal std={0.02 if rank else 0.02 * (1 + 2**-50)}", "normal std=0.02"]
    refused(
        "fc1.weight: Normal(mean=0, std=0.020000000000000018) on rank 0, Normal(mean=0, std=0.02) on rank",
        block(False),
        {"rules": {**rules, "fc1.weight": values[rank > 0]}},
    )
    refused(f"atomic: False on rank 0, True on {others(size)}", block(False), atomic=rank > 0)


@scene(2, 3)
def more_than_a_few_differences_are_counted(_: Path) -> None:
    rank, names = dist.get_rank(), [f"layer{index}" for index in range(30)]
    mesh = mesh_of(dist.get_world_size())
    model = Bag({name: sharded_empty(4, 4, device_mesh=mesh, placements=[Shard(0)]) for name in names})
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {"rules": {"*": f"normal std={rank + 1}"}}, seed=0)
    lines = str(caught.value).splitlines()
    assert len(lines) == 12 and lines[-1] == "  … and 21 more"
    assert [finding.path for finding in caught.value.findings] == ["recipe", *sorted(names)]


@scene(2, 3, 8)
def the_order_in_which_modules_are_registered_does_not_matter(_: Path) -> None:
    rank, mesh = dist.get_rank(), mesh_of(dist.get_world_size())
    names = ["first", "second", "third"]
    model: Any = nn.Module()
    for name in names if rank else reversed(names):
        model.add_module(name, sharded(nn.Linear(8, 8), mesh))
    initplug.apply(model, RECIPE, seed=0)
    expected = Parts({name: nn.Linear(8, 8) for name in names})
    initplug.apply(expected, RECIPE, seed=0)
    for name, tensor in expected.named_parameters():
        assert torch.equal(whole(model.get_parameter(name)), tensor)


@scene(2, 3)
def placements_and_meshes_that_differ_are_refused(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh, apart = mesh_of(size), init_device_mesh("cpu", (1, size))
    placement: Placement = Shard(0) if rank else Replicate()
    model = Bag({"a": sharded_empty(4, 4, device_mesh=mesh, placements=[placement])})
    ranks = [*range(size)]
    refused(f"a: R on a mesh {size} of ranks {ranks} on rank 0, S(0) on a mesh {size} of", model, {"rules": {"*": 1}})
    parts: tuple[Any, ...] = (mesh, [Shard(0)]) if rank else (apart, [Replicate(), Shard(0)])
    model = Bag({"a": sharded_empty(4, 4, device_mesh=parts[0], placements=parts[1])})
    refused(f"a: R, S(0) on a mesh 1x{size} of ranks {ranks} on rank 0, S(0) on a mesh", model, {"rules": {"*": 1}})


@scene(4)
def each_mesh_is_compared_on_its_own(_: Path) -> None:
    rank = dist.get_rank()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "dp"))
    # Stages hold other tensors, under recipes of their own; the ranks of a stage agree.
    stage = rank // 2
    model = Parts({f"layers{stage}": nn.Linear(8, 8), f"more{stage}": nn.Linear(4, 4 + stage)})
    fully_shard(model, mesh=mesh["dp"])
    initplug.apply(model, {"rules": {"*": f"normal std={stage + 1}"}}, seed=stage)
    # A stage whose ranks disagree is refused, the other is written.
    rule = f"normal std={1 + (rank == 3)}"
    if stage:
        refused(
            "more1.bias: Normal(mean=0, std=1) on rank 2, Normal(mean=0, std=2) on rank 3",
            model,
            {"rules": {"*": rule}},
        )
    else:
        initplug.apply(model, {"rules": {"*": rule}}, seed=0)
        dist.barrier()


@scene(4)
def ranks_of_several_meshes_hear_of_each_other(_: Path) -> None:
    """One tensor lives along the rows of a grid of ranks, one along its columns: what one rank finds reaches all."""
    rank = dist.get_rank()
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("rows", "columns"))
    parts = {
        name: sharded_empty(4, 4, device_mesh=grid[name], placements=[Shard(0)])
        for name in (("rows", "columns") if rank % 2 else ("columns", "rows"))
    }
    model = Bag(parts)
    for odd in range(4):
        if rank == odd:
            with raises("match no rule", initplug.PlanError):
                initplug.apply(model, {"rules": {"ro*": 1}}, seed=0)
        else:
            with raises(f"1 of 4 ranks failed before anything was written\n  rank {odd}: PlanError: "):
                initplug.apply(model, {"rules": {"*": 1}}, seed=0)
        dist.barrier()
        # Only the ranks of its mesh can differ in a tensor; all are told.
        pair = {0, 1} if odd < 2 else {2, 3}
        a, b = sorted(pair)
        expected = {a: "kept", b: "kept", odd: "written"}
        refused(
            f"columns: {expected[a]} on rank {a}, {expected[b]} on rank {b}",
            model,
            {"rules": {"*": 1}},
            only=["rows"] if rank != odd else ["rows", "columns"],
        )
    initplug.apply(model, {"rules": {"*": 1}}, seed=0)


@scene(3)
def ranks_in_a_ring_of_meshes_hear_of_each_other(_: Path) -> None:
    rank = dist.get_rank()
    rings = [DeviceMesh("cpu", [one, (one + 1) % 3]) for one in range(3)]
    parts = {f"ring{one}": sharded_empty(4, device_mesh=rings[one], placements=[Shard(0)]) for one in range(3)}
    model = Bag(parts if rank else dict(reversed(parts.items())))
    refused("seed: 0 on ranks 0, 2, 1 on rank 1", model, {"rules": {"*": 1}}, seed=int(rank == 1))
    initplug.apply(model, {"rules": {"*": 1}}, seed=0)


@scene(4, 8)
def two_dimensional_meshes_are_compared_as_a_whole(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (2, size // 2), mesh_dim_names=("dp", "tp"))
    plan: Any = {"fc1": ColwiseParallel(), "fc2": RowwiseParallel()}

    def parallel() -> Any:
        model = Parts({"fc1": nn.Linear(16, 32), "fc2": nn.Linear(32, 16), "norm": nn.LayerNorm(16)})
        parallelize_module(model, mesh["tp"], plan)
        return fully_shard(model, mesh=mesh["dp"])

    odd, last, rest = rank == size - 1, f"rank {size - 1}", collectives.ranked(range(size - 1))
    model = parallel()
    if not STRIDED:
        with raises("torch says in which order since 2.5"):
            initplug.apply(model, RECIPE, seed=0)
        return
    refused(
        f"fc1.weight: written on {rest}, kept on {last}",
        model,
        only=None if not odd else ["fc1.bias", "norm.weight"],
    )
    assert initplug.apply(model, RECIPE, seed=0).reduced().summary["verdict"] == {"ok": 6}
    # Replicas of shards: those that hold the same part agree, too.
    model = sharded(Block(), mesh)
    refused(
        f"norm.bias: Constant(value=0) on {rest}, Constant(value=1) on {last}",
        model,
        {**RECIPE, "rules": {**RECIPE["rules"], "*.bias": int(odd)}},
    )


@scene(2)
def tensors_that_are_not_sharded_are_compared_where_a_group_is_named(_: Path) -> None:
    rank = dist.get_rank()
    mesh, world = mesh_of(2), dist.group.WORLD
    model = Parts({"body": nn.Linear(8, 8), "norm": nn.LayerNorm(8)})
    fully_shard(model.get_submodule("body"), mesh=mesh)  # norms stay replicated
    only = ["body.weight", *["norm.weight"] * rank]
    initplug.apply(model, RECIPE, seed=0, only=only)
    refused("norm.weight: kept on rank 0, written on rank 1", model, seed=0, only=only, group=world)
    # Stages hold different tensors, of which they need not agree, and a tied one that both hold.
    stage = Parts({f"own{rank}": nn.Linear(4, 4), "shared": nn.Linear(4, 4, bias=False)})
    initplug.apply(stage, RECIPE, seed=0, group=world)
    only = [f"own{rank}.weight", *["shared.weight"] * rank]
    refused("shared.weight: kept on rank 0, written on rank 1", stage, only=only, group=world)
    with raises("seed: 0 on rank 0, 1 on rank 1"):
        initplug.apply(stage, RECIPE, seed=rank, group=world)


@scene(2)
def values_that_do_not_depend_on_it_may_be_on_meta_on_some_ranks(_: Path) -> None:
    rank = dist.get_rank()
    for only in (None, ["fc1.weight", "norm.bias"]):
        with initplug.deferred() if rank else nullcontext():
            model = Block()
        sharded(model)
        initplug.apply(model, RECIPE, seed=0, only=only)
        expected = Block()
        initplug.apply(expected, RECIPE, seed=0)
        for name in only or dict(expected.named_parameters()):
            assert torch.equal(whole(model.get_parameter(name)), expected.get_parameter(name)), name
    # What is kept has values on some ranks only.
    with initplug.deferred() if rank else nullcontext():
        model = sharded(Block())
    kept = {**RECIPE, "rules": {**RECIPE["rules"], "norm.*": "keep"}}
    refused("`keep` has nothing to keep" if rank else "rank 1: ApplyError: ", model, kept)
    made = {**RECIPE, "rules": {**RECIPE["rules"], "norm.*": "keep default"}}
    refused("norm.bias: kept; Keep(otherwise='default') on rank 0, written; Constant(value=0) on rank 1", model, made)


@scene(2, 3)
def measuring_threads_and_devices_are_each_ranks_own(_: Path) -> None:
    rank = dist.get_rank()
    model = block(False)
    audit = initplug.apply(
        model, RECIPE, seed=0, measure=rank > 0, histograms=rank == 1, threads=rank + 1, device="cpu" if rank else None
    )
    report = audit.reduced()
    assert {row.name for row in report if row.verdict == "ok"} == set()
    assert report["fc1.weight"].measured_count == sum(
        22 // 2 * 13 if dist.get_world_size() == 2 else 8 * 13 if one == 1 else 6 * 13
        for one in range(1, dist.get_world_size())
    )


@scene(2, 3)
def audits_of_ranks_that_differ_say_so(_: Path) -> None:
    rank, model = dist.get_rank(), block(False)
    initplug.apply(model, RECIPE, seed=0)
    other = {**RECIPE, "rules": {**RECIPE["rules"], "norm.weight": 1 + (rank == 1)}}
    for audit in (initplug.audit(model, other), initplug.apply(model, other, seed=0, check=False)):
        report = audit.reduced()
        (row,) = report.problems()
        assert (row.name, row.reason) == ("norm.weight", "ranks disagree")
        assert row.problem == (
            "the ranks disagree about it: (10,) float32 constant(1), written; (10,) float32 constant(2), written"
        )
    only = ["norm.bias"] if rank else ["norm.bias", "fc1.bias"]
    report = initplug.apply(model, RECIPE, seed=0, only=only, check=False).reduced()
    assert [row.name for row in report.problems()] == ["fc1.bias"]


# Failures.


@scene(2, 3, 8)
def a_rank_that_fails_at_any_point_is_told_of(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    odd = rank == size - 1
    model = block(False)
    settings: dict[str, Any]
    for settings, said in (
        ({"seed": -1}, "ApplyError: seed=-1"),
        ({"threads": 0}, "ApplyError: threads=0"),
        ({"device": "nowhere"}, "ApplyError: device='nowhere' cannot be used"),
        ({"only": "nothing.*"}, "ApplyError: only='nothing.*' selects nothing"),
        ({"recipe": "no such recipe"}, "RecipeError: there is no preset"),
        ({"recipe": {"rules": {"fc1.weight": 1}}}, "PlanError: 4 of 5 parameters match no rule"),
        ({"recipe": {"rules": {"*": "kaiming_normal"}}}, "PlanError: 3 initializers do not fit"),
    ):
        settings = settings if odd else {}
        recipe = settings.pop("recipe", RECIPE)
        head = f"1 of {size} ranks failed before anything was written\n  rank {size - 1}: {said}"
        with nothing_written(model), raises(said.partition(": ")[2] if odd else head, initplug.InitplugError):
            initplug.apply(model, recipe, **{"seed": 0, **settings})
        dist.barrier()
    # What is no fault of initplug reaches the others as well.
    stop = mock.patch.object(filling, "fitted", side_effect=KeyboardInterrupt) if odd else nullcontext()
    with stop, nothing_written(model), pytest.raises(KeyboardInterrupt if odd else initplug.ApplyError):
        initplug.apply(model, RECIPE, seed=0)
    initplug.apply(model, RECIPE, seed=0)


@scene(2, 3, 8)
def a_failure_on_any_rank_restores_all(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    with initplug.deferred():
        deferred = sharded(Block())
    models = [block(False), deferred, sharded(Parts({"norm": nn.BatchNorm1d(5), "lstm": nn.LSTM(4, 4)}))]
    for model in models:
        slots = len(dict(model.named_parameters()))
        for stop in range(1, slots + 1):

            def progress(done: int, _: int, stop: int = stop) -> None:
                if rank == stop % size and done == stop:
                    raise OSError("the disk is full")

            said = "the disk is full" if rank == stop % size else f"rank {stop % size}: ApplyError: writing stopped at "
            with nothing_written(model), raises(said) as caught:
                initplug.apply(model, {"rules": {"*": "normal"}}, seed=4, progress=progress, atomic=True)
            assert str(caught.value).endswith("\nEverything is as it was: what had been written has been restored.")
        # Ctrl-C after the write, while it is measured.
        interrupt = mock.patch.object(filling, "audited", side_effect=KeyboardInterrupt) if rank else nullcontext()
        with nothing_written(model), interrupt, pytest.raises(KeyboardInterrupt if rank else initplug.ApplyError):
            initplug.apply(model, {"rules": {"*": "normal"}}, seed=4, atomic=True)
        audit = initplug.apply(model, {"rules": {"*": "normal"}}, seed=4, atomic=True)
        assert not audit.problems()


@scene(2)
def no_memory_for_a_copy_on_one_rank_stops_all(_: Path) -> None:
    model = block(False)
    full = mock.patch.object(Tensor, "clone", side_effect=MemoryError) if dist.get_rank() else nullcontext()
    said = "there is no memory for it (MemoryError); nothing has been written"
    with nothing_written(model), full, raises(said if dist.get_rank() else "rank 1: ApplyError: atomic=True takes a"):
        initplug.apply(model, RECIPE, seed=0, atomic=True)


@scene(2)
def a_group_that_is_none_is_refused(_: Path) -> None:
    for group in (3, "world"):
        with raises(f"group={group!r} is no process group that can be used: "):
            initplug.apply(Block(), RECIPE, seed=0, group=group)
    inside = dist.new_group([0])  # of which the second rank is no member
    initplug.apply(Block(), RECIPE, seed=dist.get_rank(), group=inside)


@scene(2)
def little_is_exchanged(_: Path) -> None:
    """What ranks tell each other does not grow with the model while they agree, and little while they do not."""
    rank, mesh = dist.get_rank(), mesh_of(2)
    sizes: list[int] = []
    gather = dist.all_gather_object

    def watched(heard: list[Any], record: Any, group: Any) -> None:
        gather(heard, record, group)
        sizes.append(len(pickle.dumps(record)))

    for count in (10, 1000):
        names = [f"model.layers.{index}.self_attn.q_proj.weight" for index in range(count)]
        model = Bag(
            {name.replace(".", "_"): sharded_empty(2, 2, device_mesh=mesh, placements=[Shard(0)]) for name in names}
        )
        with mock.patch.object(dist, "all_gather_object", watched):
            initplug.apply(model, {"rules": {"*": 1}}, seed=0)
            with raises("the ranks disagree"):
                initplug.apply(model, {"rules": {"*": 1}}, seed=0, only=f"*_{rank}_*")
    agreed, ended, disagreed, told = sizes[4:]
    assert max(agreed, ended, disagreed) < 500
    assert sizes[:3] == [agreed, ended, disagreed], sizes
    assert told < 20 * len(names)  # their names are longer


@scene(3)
def zz_a_rank_that_dies_while_values_are_written_restores_the_others(_: Path) -> None:
    model = block(False)

    def progress(done: int, _: int) -> None:
        if dist.get_rank() == 1 and done == 3:
            mock.patch.object(dist, "all_gather_object", side_effect=GoneError).start()  # so that others hear nothing
            raise GoneError

    said = "GoneError" if dist.get_rank() == 1 else "another rank cannot be reached: "
    with nothing_written(model), raises(said) as caught:
        initplug.apply(model, RECIPE, seed=0, atomic=True, progress=progress)
    assert str(caught.value).endswith("Everything is as it was: what had been written has been restored.")
    raise GoneError
