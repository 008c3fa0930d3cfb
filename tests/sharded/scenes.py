"""What ranks do together, as each of them sees it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch_parts import (
    CUTS_UNEVENLY,
    STRIDED,
    VERSION,
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    StridedShard,
    distribute_tensor,
    fully_shard,
    sharded_empty,
)
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.utils.import_utils import is_torch_available
from world import GoneError, scene

import initplug
from initplug.filling import copies as transferring
from initplug.filling.sharding import local_of

PARTS = {
    "normal": {"fn": "normal", "std": 0.02},
    "shifted": {"fn": "normal", "std": 0.02, "mean": 0.1},
    "uniform": {"fn": "uniform", "low": -0.1, "high": 0.3},
    "truncated": {"fn": "trunc_normal", "std": 0.02},
    "steps": {"fn": "log_uniform", "low": 0.001, "high": 0.1, "link": "inverse_softplus", "floor": 0.002},
    "constant": 0.5,
}


def mesh_of(*sizes: int) -> DeviceMesh:
    return init_device_mesh("cpu", sizes)


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def same_values(model: nn.Module, expected: nn.Module) -> None:
    """Every tensor is, put together from all ranks, the one of a model that one process has initialised."""
    wanted = {**dict(expected.named_parameters()), **dict(expected.named_buffers())}
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert torch.equal(whole(tensor), wanted[name].detach()), name
        assert tensor.dtype == wanted[name].dtype


class Bag(nn.Module):
    """Parameters of given shapes."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor, tensor.is_floating_point() or tensor.is_complex()))


def bags_agree(
    shapes: Sequence[Sequence[int]],
    mesh: DeviceMesh,
    placements: Sequence[Placement],
    inits: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Parameters of all shapes under all initializers, sharded, are those of one process."""
    each = {f"{name}_{'x'.join(map(str, shape))}": (name, shape) for name in inits for shape in shapes}
    recipe = {"rules": {name: {"match": f"^{name}_*", "init": init} for name, init in inits.items()}}
    expected = Bag({name: torch.empty(*shape, dtype=dtype) for name, (_, shape) in each.items()})
    parts = {
        name: sharded_empty(*shape, device_mesh=mesh, placements=placements, dtype=dtype)
        for name, (_, shape) in each.items()
    }
    initplug.apply(expected, recipe, seed=3)
    model = Bag(parts)
    audit = initplug.apply(model, recipe, seed=3)
    assert not audit.problems(), audit
    same_values(model, expected)


SHAPES: list[tuple[int, ...]] = [(64, 32), (7, 33), (3, 5), (1, 9), (6,), (1,), (5, 4, 3, 3), (130, 70), (600, 1000)]


@scene()
def odd_shapes_on_one_dimension(_: Path) -> None:
    mesh = mesh_of(dist.get_world_size())
    for dim in range(4):
        bags_agree([shape for shape in SHAPES if len(shape) > dim], mesh, [Shard(dim)], PARTS)
    bags_agree(SHAPES, mesh, [Replicate()], PARTS)
    bags_agree(SHAPES[:4], mesh, [Shard(1)], PARTS, torch.bfloat16)


def strided(dim: int) -> Placement:
    """What the inner of two cuts of a dimension in two leaves, if it is made first."""
    return StridedShard(dim, split_factor=2)


@scene(4)
def odd_shapes_on_two_and_three_dimensions(_: Path) -> None:
    pairs: list[list[Placement]] = [
        [Shard(0), Shard(1)],
        [Shard(1), Shard(0)],
        [Replicate(), Shard(1)],
        [Shard(0), Replicate()],
    ]
    if STRIDED:
        pairs += [[first(dim), Shard(dim)] for dim in (0, 1) for first in (Shard, strided)]
    triples: list[tuple[tuple[int, ...], list[Placement]]] = [
        ((1, 2, 2), [Replicate(), Shard(0), Shard(1)]),
    ]
    if STRIDED:
        triples += [((2, 1, 2), [Shard(1), Shard(0), Shard(1)]), ((2, 2, 1), [strided(0), Shard(0), Shard(1)])]
    for sizes, placements in [((2, 2), pair) for pair in pairs] + triples:
        mesh = mesh_of(*sizes)
        shapes: list[tuple[int, ...]] = [(11, 9), (3, 5), (5, 4, 3), (2, 2), (6, 5), (64, 48), (2, 4)]
        if any(StridedShard is type(placement) for placement in placements) and not CUTS_UNEVENLY:
            with raises("one dimension is cut twice in unequal parts"):
                bags_agree(shapes, mesh, placements, PARTS)
            bags_agree([(64, 48)], mesh, placements, PARTS)
        else:
            bags_agree(shapes, mesh, placements, PARTS)


@scene()
def tensors_that_are_computed_as_a_whole(_: Path) -> None:
    mesh = mesh_of(dist.get_world_size())
    matrices = {
        "orthogonal": "orthogonal",
        "eye": "eye",
        "sparse": "sparse 0.3",
        "sincos": "sincos",
        "halves": {"split": ["orthogonal", "normal std=0.02"]},
        "kept": {"split": ["orthogonal", 1]},
        "across": {"fn": "orthogonal", "split": 2, "dim": 1},
    }
    for placement in (Replicate(), Shard(0), Shard(1)):
        bags_agree([(14, 18)], mesh, [placement], matrices)
        bags_agree([(2, 6)], mesh, [placement], matrices, torch.bfloat16)
    stacks = {"stack": {"fn": "orthogonal", "batch_dims": 1}, "flat": {"fn": "kaiming_normal", "batch_dims": 1}}
    kernels = {"dirac": "dirac", "delta": "delta_orthogonal"}
    for dim in range(3):
        bags_agree([(5, 6, 4)], mesh, [Shard(dim)], stacks)
        bags_agree([(7, 5, 3)], mesh, [Shard(dim)], kernels)


CPU_FORWARD = "" if VERSION >= (2, 7) else "modules of fully_shard that run without a GPU"
"""What 2.6 lacks: its gathering asks streams for events of CUDA."""

UNEVEN = "" if CUTS_UNEVENLY else "unequal parts of dimensions that are cut twice"

TRANSFORMERS = "" if is_torch_available() else "a version that transformers takes"

GATHERS_COMPLEX = VERSION >= (2, 13)
"""Whether gloo gathers complex numbers for DTensors: 2.6 does not, 2.13 does."""


@scene()
def splits_and_complex_numbers(_: Path) -> None:
    mesh = mesh_of(dist.get_world_size())
    gates = {"gates": {"split": [0, 1, "normal std=0.02", "uniform -1 1"]}, "qkv": {"fn": "xavier_uniform", "split": 3}}
    gates["gqa"] = {"split": ["xavier_normal", "orthogonal", "normal std=0.02"], "sizes": [4, 1, 1]}
    for placement in (Replicate(), Shard(0), Shard(1)):
        bags_agree([(12, 7)], mesh, [placement], gates)
        if GATHERS_COMPLEX:
            bags_agree([(9, 7)], mesh, [placement], {"z": "normal std=0.02"}, torch.complex64)


# Models.


def llama() -> Any:
    config = LlamaConfig(
        vocab_size=99,
        bos_token_id=0,
        eos_token_id=0,
        hidden_size=32,
        intermediate_size=54,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        pad_token_id=5,
    )
    return LlamaForCausalLM(config)


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=97, n_positions=16, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    )


LLAMA = {
    "rules": {
        "<Linear>.weight": "trunc_normal std=0.02",
        "<Embedding>.weight": "normal std=0.02",
        "residual": {
            "match": "(o_proj|down_proj).weight",
            "init": {"fn": "normal", "std": 0.02, "factor": {"place": "model.layers.*", "times": 2}},
        },
        "q_proj.weight": "orthogonal",
        "<*Norm>.weight": 1,
    }
}
GPT2 = {
    "rules": {
        "<Conv1D|Embedding>.weight": "normal std=0.02",
        "residual": {
            "match": "c_proj.weight",
            "init": {"fn": "normal", "std": 0.02, "factor": {"count": "<GPT2Block>", "times": 2}},
        },
        "c_attn.weight": {"fn": "xavier_uniform", "fans": "effective", "split": 3, "dim": 1},
        "<*Norm>.weight": 1,
        "*.bias": 0,
    }
}


class Block(nn.Module):
    """Kinds of tensors that models have: uneven, convolutional, recurrent, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(13, 22), nn.Linear(22, 10, bias=False)
        self.norm = nn.LayerNorm(10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.fc2(torch.relu(self.fc1(x))))
        return out


class Net(nn.Module):
    """The project's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.block, self.lstm, self.emb = Block(), nn.LSTM(7, 6), nn.Embedding(11, 7, padding_idx=10)


NET = {
    "rules": {
        "*": "default",
        "conv.weight": "kaiming_normal fan_out",
        "bn.weight": 1,
        "fc1.weight": "orthogonal",
        "lstm.bias_*": {"split": [0, 1, 0, 0]},
        "emb.weight": "normal std=0.5",
    }
}
CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "net": (Net, NET),
    # Absent where transformers asks for a newer torch.
    **({"llama": (llama, LLAMA), "gpt2": (gpt2, GPT2)} if is_torch_available() else {}),
}


def blocks_of(model: nn.Module) -> list[nn.Module]:
    names = ("LlamaDecoderLayer", "GPT2Block", "Block", "LSTM")
    return [module for module in model.modules() if type(module).__name__ in names]


def fsdp(model: Any, mesh: DeviceMesh) -> Any:
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def expected_of(case: str, seed: int = 7) -> Any:
    build, recipe = CASES[case]
    model = build()
    initplug.apply(model, recipe, seed=seed)
    return model


@scene()
def fully_shard_gives_the_values_of_one_process(_: Path) -> None:
    mesh = mesh_of(dist.get_world_size())
    for case, (build, recipe) in CASES.items():
        expected = expected_of(case)
        for deferred in (False, True):
            with initplug.deferred() if deferred else nullcontext():
                model = build()
            fsdp(model, mesh)
            audit = initplug.apply(model, recipe, seed=7)
            assert not audit.problems(), audit
            same_values(model, expected)


TENSOR_PARALLEL = {
    "llama": {
        "model.embed_tokens": RowwiseParallel(),
        "model.layers.*.self_attn.q_proj": ColwiseParallel(),
        "model.layers.*.self_attn.o_proj": RowwiseParallel(),
        "model.layers.*.mlp.up_proj": ColwiseParallel(),
        "model.layers.*.mlp.down_proj": RowwiseParallel(),
        "lm_head": ColwiseParallel(),
    },
    "gpt2": {"transformer.wte": RowwiseParallel(), "transformer.wpe": ColwiseParallel()},
    "net": {"block.fc1": ColwiseParallel(), "block.fc2": RowwiseParallel(), "emb": RowwiseParallel()},
}


def tensor_parallel(case: str, model: Any, mesh: DeviceMesh) -> None:
    parallelize_module(model, mesh, TENSOR_PARALLEL[case])
    if case == "gpt2":  # torch shards the embedding and leaves what is tied to it
        model.lm_head.weight = model.transformer.wte.weight


@scene()
def parallelize_module_gives_the_values_of_one_process(_: Path) -> None:
    mesh = mesh_of(dist.get_world_size())
    for case, (build, recipe) in CASES.items():
        for deferred in (False, True):
            with initplug.deferred() if deferred else nullcontext():
                model = build()
            tensor_parallel(case, model, mesh)
            audit = initplug.apply(model, recipe, seed=7)
            assert not audit.problems(), audit
            same_values(model, expected_of(case))


@scene()
def buffers_on_meta_are_restored_beside_shards(_: Path) -> None:
    with torch.device("meta"):
        model: Any = Net()
    fsdp(model, mesh_of(dist.get_world_size()))
    assert model.bn.running_var.is_meta
    initplug.apply(model, NET, seed=7)
    same_values(model, expected_of("net"))


@scene(lacks=TRANSFORMERS)
def parameters_may_be_sharded_along_any_dimension(_: Path) -> None:
    model, size = llama(), dist.get_world_size()

    def last(parameter: nn.Parameter) -> Shard:  # torch wants even parts along all dimensions but the first
        return Shard(0 if parameter.shape[-1] % size else parameter.ndim - 1)

    fully_shard(model, mesh=mesh_of(size), shard_placement_fn=last)
    initplug.apply(model, LLAMA, seed=7)
    same_values(model, expected_of("llama"))


@scene(4)
def a_rank_outside_the_mesh_has_nothing_to_do(_: Path) -> None:
    mesh = DeviceMesh("cpu", [0, 1])
    model: Any = Bag({"a": sharded_empty(6, 4, device_mesh=mesh, placements=[Shard(0)])})
    audit = initplug.apply(model, {"rules": {"*": "normal"}}, seed=0)
    assert audit["a"].measured_count == (12 if dist.get_rank() < 2 else None)
    report = audit.reduced()
    assert (report["a"].measured_count, report["a"].verdict) == (24, "ok")


@scene(4)
def two_dimensional_meshes_give_the_values_of_one_process(_: Path) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for case, (build, recipe) in CASES.items():
        with initplug.deferred():
            model = build()
        tensor_parallel(case, model, mesh["tp"])
        uneven = STRIDED and not CUTS_UNEVENLY
        if uneven and VERSION < (2, 8):
            with pytest.raises(NotImplementedError, match="does not support uneven sharding"):
                fsdp(model, mesh["dp"])
            continue
        fsdp(model, mesh["dp"])
        if uneven or not STRIDED:
            with raises("cut twice in unequal parts" if uneven else "torch says in which order since 2.5"):
                initplug.apply(model, recipe, seed=7)
            continue
        assert any(
            isinstance(parameter, DTensor) and any(isinstance(one, StridedShard) for one in parameter.placements)
            for parameter in model.parameters()
        )
        initplug.apply(model, recipe, seed=7)
        same_values(model, expected_of(case))
        # Replicas of shards.
        with initplug.deferred():
            model = build()
        fsdp(model, mesh)
        initplug.apply(model, recipe, seed=7)
        same_values(model, expected_of(case))


@scene(lacks=TRANSFORMERS or CPU_FORWARD)
def a_tied_model_stays_tied_and_trains_as_one_process_does(_: Path) -> None:
    with initplug.deferred():
        model = gpt2()
    fsdp(model, mesh_of(dist.get_world_size()))
    initplug.apply(model, GPT2, seed=7)
    assert model.lm_head.weight is model.transformer.wte.weight
    expected = expected_of("gpt2")
    tokens = torch.arange(32).view(2, 16)
    for one in (model, expected):
        one.eval()  # no dropout
        one(input_ids=tokens, labels=tokens).loss.backward()
        torch.optim.SGD(one.parameters(), lr=0.1).step()
    for (name, found), wanted in zip(model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(whole(found), wanted.detach(), msg=name)
    assert model.lm_head.weight is model.transformer.wte.weight


@scene(lacks=CPU_FORWARD)
def what_is_written_to_gathered_parameters_is_not_lost(_: Path) -> None:
    model: Any = fully_shard(Block(), mesh=mesh_of(dist.get_world_size()), reshard_after_forward=False)
    expected, recipe = Block(), {"rules": {"*": "normal"}}
    model(torch.zeros(2, 13))
    assert not isinstance(model.fc1.weight, DTensor)
    initplug.apply(model, recipe, seed=1)
    initplug.apply(expected, recipe, seed=1)
    same_values(model, expected)
    x = torch.ones(2, 13)
    torch.testing.assert_close(model(x), expected(x))


# Pipelines.


class Pipe(nn.Module):
    """Layers between an embedding and a head that is tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(12, 8)
        self.layers = nn.ModuleDict({str(index): Block8() for index in range(4)})
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.emb.weight


class Block8(nn.Module):
    """A layer with a residual projection."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)


PIPE = {
    "rules": {
        "<Linear>.weight": "trunc_normal std=0.02",
        "<Embedding>.weight": "normal std=0.02",
        "down.weight": {"fn": "normal", "std": 0.02, "factor": {"place": "layers.*", "times": 2}},
        "layers.-1.up.weight": "orthogonal",
        "*.bias": 0,
    }
}


@scene()
def pipeline_stages_get_the_values_of_the_whole_model(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    with initplug.deferred():
        plan = initplug.plan(Pipe(), PIPE)
        stage: Any = Pipe()
    pipelines = 2
    mine = rank * pipelines // size
    for index in range(4):
        if index * pipelines // 4 != mine:
            del stage.layers[str(index)]
    stage.emb, stage.head = (stage.emb, None) if mine == 0 else (None, stage.head)
    if size == 4:  # every stage is sharded over two ranks
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "dp"))
        fsdp(stage, mesh["dp"])
    audit = initplug.apply(stage, plan, seed=5)
    assert not audit.problems()
    expected = Pipe()
    initplug.apply(expected, PIPE, seed=5)
    wanted = dict(expected.named_parameters(remove_duplicate=False))
    for name, tensor in stage.named_parameters():
        assert torch.equal(whole(tensor), wanted[name].detach()), name
    report = audit.reduced()
    assert {row.name for row in report} == {row.name for row in plan}
    assert all(row.measured_count == row.numel and row.verdict == "ok" for row in report), report
    assert report["head.weight"].name == "emb.weight"


# Values that are not drawn.


class Pair(nn.Module):
    """Two branches, of which one begins as a copy of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(9, 14), nn.Linear(9, 14)


def sharded_pair(query: Placement, key: Placement, dtype: torch.dtype = torch.float32) -> Any:
    mesh, pair = mesh_of(dist.get_world_size()), Pair()
    for half, placement in ((pair.query, query), (pair.key, key)):
        weight = distribute_tensor(half.weight.detach().to(dtype), mesh, [placement])
        half.weight = nn.Parameter(weight)
        half.bias = nn.Parameter(distribute_tensor(half.bias.detach().to(dtype), mesh, [Replicate()]))
    pair.key.float()
    return pair


COPIED = {"rules": {"query.*": "normal std=0.3", "key.*": "copy source=^query"}}


@scene()
def copies_of_drawn_values_need_no_other_rank(_: Path) -> None:
    for placements in [(Shard(0), Shard(0)), (Shard(0), Shard(1)), (Shard(1), Replicate()), (Replicate(), Shard(0))]:
        for dtype in (torch.float32, torch.bfloat16):
            pair = sharded_pair(*placements, dtype)
            audit = initplug.apply(pair, COPIED, seed=2)
            report = audit.reduced()
            assert {row.verdict for row in report} == {"ok"} or dtype != torch.float32, report
            assert not audit.problems()
            expected = Pair()
            expected.query.to(dtype)
            initplug.apply(expected, COPIED, seed=2)
            same_values(pair, expected)
            assert torch.equal(whole(pair.key.weight), whole(pair.query.weight).float())


@scene()
def copies_of_kept_values_need_equal_placements(_: Path) -> None:
    pair = sharded_pair(Shard(0), Shard(0))
    initplug.apply(pair, COPIED, seed=2, only="key")
    assert torch.equal(whole(pair.key.weight), whole(pair.query.weight))
    pair = sharded_pair(Replicate(), Shard(1))
    initplug.apply(pair, COPIED, seed=2, only="key")
    assert torch.equal(whole(pair.key.weight), whole(pair.query.weight))
    pair = sharded_pair(Shard(0), Shard(1))
    before = [whole(parameter).clone() for parameter in pair.parameters()]
    with raises("key.weight: its source query.weight is not drawn here and placed differently"):
        initplug.apply(pair, COPIED, seed=2, only="key")
    assert all(map(torch.equal, before, map(whole, pair.parameters())))


@scene(lacks=TRANSFORMERS)
def files_are_read_by_region(folder: Path) -> None:
    expected = {name: tensor.detach() for name, tensor in expected_of("llama").named_parameters()}
    path = folder / f"body{dist.get_rank()}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, path)
    with initplug.deferred():
        model = llama()
    mesh = mesh_of(dist.get_world_size())
    tensor_parallel("llama", model, mesh)
    recipe = {"rules": {"load": {"match": "*", "init": {"fn": "load", "path": str(path)}}}}
    with raises("the ranks disagree"):
        initplug.apply(model, recipe, seed=0)
    with mock.patch.object(transferring, "_window_of_file", wraps=transferring._window_of_file) as read:
        audit = initplug.apply(model, recipe, seed=0, check=False, measure=False)
    windows = [call.args[1] for call in read.call_args_list]
    taken = sum(math.prod(part.stop - part.start for part in window) for window in windows)
    assert taken == sum(local_of(parameter).numel() for parameter in model.parameters())
    audit = initplug.apply(model, recipe, seed=0, check=False)
    assert {row.verdict for row in audit} == {"ok"}
    for name, tensor in model.named_parameters():
        assert torch.equal(whole(tensor), expected[name])
    audit = initplug.audit(model, recipe)
    assert {row.verdict for row in audit} == {"ok"}
    with torch.no_grad():
        model.lm_head.weight.to_local().add_(1)
    assert [row.name for row in initplug.audit(model, recipe).problems()] == ["lm_head.weight"]


# Ranks that hear of each other.


def raises(text: str, error: type[Exception] = initplug.ApplyError) -> Any:
    return pytest.raises(error, match=re.escape(text))


def sharded_block() -> Any:
    with initplug.deferred():
        model = Block()
    fully_shard(model, mesh=mesh_of(dist.get_world_size()))
    return model


@scene()
def other_seeds_and_recipes_are_errors_on_every_rank(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    model = sharded_block()
    others = "ranks 1, 2, 3" if size == 4 else "rank 1"
    with raises(f"the ranks disagree, so that nothing has been written\n  seed: 4 on rank 0, 5 on {others}"):
        initplug.apply(model, {"rules": {"*": "normal"}}, seed=4 + (rank > 0))
    with raises("\n  recipe: "):
        initplug.apply(model, {"rules": {"*": f"normal std={rank + 1}"}}, seed=4)
    with raises("fc1.weight: it is sharded, and only a seed gives its parts the values of one whole (seed=0)"):
        initplug.apply(model, {"rules": {"*": "normal"}})
    assert all(parameter.is_meta for parameter in model.parameters())


@scene()
def a_rank_that_fails_makes_the_others_fail(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    model = sharded_block()
    if rank == 1:
        with raises("match no rule", initplug.PlanError):
            initplug.apply(model, {"rules": {"*.weight": "normal"}}, seed=4)
    else:
        with raises(f"1 of {size} ranks failed before anything was written\n  rank 1: PlanError: "):
            initplug.apply(model, {"rules": {"*.weight": "normal", "*.bias": 0}}, seed=4)
    assert all(parameter.is_meta for parameter in model.parameters())

    def progress(done: int, total: int) -> None:
        if rank == size - 1 and done == 2:
            raise OSError("the disk is full")

    with raises(
        "the disk is full" if rank == size - 1 else f"ranks failed while values were written\n  rank {size - 1}"
    ):
        initplug.apply(model, {"rules": {"*": "normal"}}, seed=4, progress=progress)
    initplug.apply(model, {"rules": {"*": "normal"}}, seed=4)


@scene()
def what_has_no_place_in_a_whole_is_refused_by_name(_: Path) -> None:
    mesh = mesh_of(dist.get_world_size())
    local = torch.ones(4, 4)
    placements = {"sum": Partial(), "part": Shard(0)}
    model: Any = Bag({name: DTensor.from_local(local, mesh, [placement]) for name, placement in placements.items()})
    with raises("sum: it is placed as Partial: what a rank holds is a summand, which has no place in the whole"):
        initplug.apply(model, {"rules": {"*": 0}}, seed=0)
    assert model.part.to_local().eq(1).all()
    initplug.apply(model, {"rules": {"*": 0}}, seed=0, only="part")
    with raises("part: `default` leaves it unwritten, and it is a DTensor: no reset of"):
        initplug.apply(model, "torch_default", seed=0, only="part")
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    fully_shard(normed, mesh=mesh)
    with raises("weight: its owner computes it from sharded tensors"):
        initplug.apply(normed, {"rules": {"*": 0}}, seed=0)


@scene(2)
def flat_parameters_are_refused_by_name_and_written_while_they_are_whole(_: Path) -> None:
    recipe, expected = {"rules": {"*": "normal"}}, Block()
    initplug.apply(expected, recipe, seed=0)
    for original in (False, True):
        model = FullyShardedDataParallel(Block(), device_id=torch.device("cpu"), use_orig_params=original)
        with raises("cut by FSDP1 without regard to shapes", initplug.PlanError):
            initplug.apply(model, recipe, seed=0)
        with FullyShardedDataParallel.summon_full_params(model):
            initplug.apply(model, recipe, seed=0)
        with FullyShardedDataParallel.summon_full_params(model):
            same_values(model.module, expected)


@scene()
def groups_narrow_what_is_compared(_: Path) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    groups = [dist.new_group([one]) for one in range(size)]
    model = sharded_block()
    initplug.apply(model, {"rules": {"*": "normal"}}, seed=rank, group=groups[rank])
    plain = Block()  # whose ranks are asked only if a group is named
    initplug.apply(plain, {"rules": {"*": "normal"}}, seed=rank)
    with raises("the ranks disagree"):
        initplug.apply(plain, {"rules": {"*": "normal"}}, seed=rank, group=dist.group.WORLD)


# Audits.


@scene(lacks=TRANSFORMERS)
def an_audit_tells_of_the_local_part_and_reduced_of_the_whole(folder: Path) -> None:
    model, expected = fsdp(llama(), mesh_of(dist.get_world_size())), expected_of("llama")
    audit = initplug.apply(model, LLAMA, seed=7)
    for row in audit:
        local = model.get_parameter(row.name).to_local()
        padding = row.name == "model.embed_tokens.weight" and dist.get_rank() == 0
        assert (row.measured_count or 0) == local.numel() - 32 * padding
        assert row.shape == tuple(expected.get_parameter(row.name).shape)
    assert audit["model.layers.0.self_attn.q_proj.weight"].verdict == "untestable"
    report = audit.reduced()
    one = initplug.audit(expected, LLAMA)
    for row, alone in zip(report, one, strict=True):
        assert row.verdict == alone.verdict == "ok", row
        assert (row.name, row.measured_count) == (alone.name, alone.measured_count)
        assert row.measured_std == pytest.approx(alone.measured_std, abs=1e-6)
        assert row.measured_mean == pytest.approx(alone.measured_mean, abs=1e-6)
        assert (row.measured_min, row.measured_max) == (alone.measured_min, alone.measured_max)
    if dist.get_rank() == 0:
        report.save(folder / "report.json")
    assert initplug.audit(model, LLAMA).reduced().summary["verdict"] == {"ok": len(report)}
    with torch.no_grad():
        if dist.get_rank() == dist.get_world_size() - 1:
            model.lm_head.weight.to_local().mul_(3)
    assert [row.name for row in initplug.audit(model, LLAMA).reduced().problems()] == ["lm_head.weight"]


# What torch does, and checkpoints.


@scene()
def plain_torch_gives_repeated_blocks_and_this_does_not(_: Path) -> None:
    size = dist.get_world_size()
    with torch.device("meta"):
        model = nn.Linear(64, 64)
    fully_shard(model, mesh=mesh_of(size))
    model.to_empty(device="cpu")
    torch.manual_seed(0)  # the usual advice: the same on all ranks
    with pytest.warns(UserWarning, match="may not have complete support on cpu"):
        model.reset_parameters()
    assert torch.linalg.matrix_rank(whole(model.weight)) == 64 // size
    initplug.apply(model, "torch_default", seed=0)
    assert torch.linalg.matrix_rank(whole(model.weight)) == 64


@scene(4, lacks=TRANSFORMERS or UNEVEN)
def a_checkpoint_is_the_same_on_another_mesh(folder: Path) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    model = llama()
    tensor_parallel("llama", model, mesh["tp"])
    fsdp(model, mesh["dp"])
    initplug.apply(model, LLAMA, seed=7)
    save(get_model_state_dict(model), checkpoint_id=str(folder))
    other = fsdp(llama(), mesh_of(4))
    state = get_model_state_dict(other)
    load(state, checkpoint_id=str(folder))
    set_model_state_dict(other, state)
    same_values(other, expected_of("llama"))
    assert not initplug.audit(other, LLAMA).problems()


@scene(2)
def zz_a_rank_that_is_gone_is_missed(_: Path) -> None:
    model = sharded_block()
    if dist.get_rank() == 0:
        with raises("another rank cannot be reached: "):
            initplug.apply(model, {"rules": {"*": "normal"}}, seed=0)
    raise GoneError
