"""Audits of sharded models: under a seed each rank compares its own part, and all together speak of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from scenes import CASES, LLAMA, TRANSFORMERS, Bag, expected_of, fsdp, llama, mesh_of
from torch import nn
from torch_parts import STRIDED, Placement, Replicate, Shard, StridedShard, distribute_tensor
from world import scene

import initplug
from initplug.filling.sharding import local_of


def held(audit: initplug.Audit, model: nn.Module) -> set[str]:
    """The verdicts on what this rank holds anything of."""
    return {row.verdict for row in audit if local_of(model.get_parameter(row.name)).numel()}


@scene(2)
def every_rank_finds_its_own_part_exact(_: Path) -> None:
    for case, (build, recipe) in CASES.items():
        model = fsdp(build(), mesh_of(2))
        initplug.apply(model, recipe, seed=7)
        for threads in (1, 2):
            audit = initplug.audit(model, recipe, seed=7, threads=threads)
            assert held(audit, model) == {"exact"}, (case, audit)
        report = audit.reduced()
        one = initplug.audit(expected_of(case), recipe, seed=7)
        assert report.summary["verdict"] == one.summary["verdict"] == {"exact": len(one)}
        wrong = initplug.audit(model, recipe, seed=8)
        assert "another seed?" in {row.reason for row in wrong.problems()}
        drawn = {row.name for row in report if row.std and "lstm.bias" not in row.name}  # whose parts are constants
        assert {row.name for row in wrong.reduced().problems()} == drawn


@scene(2)
def a_rank_tells_of_its_own_elements_by_their_places_in_the_whole(_: Path) -> None:
    mesh = mesh_of(2)
    cuts: list[Placement] = [Shard(0), Shard(1), Replicate()]
    for cut in cuts:
        model: Any = Bag({"w": distribute_tensor(torch.zeros(600, 700), mesh, [cut]), "v": torch.zeros(64)})
        recipe = {"rules": {"*": "normal"}}
        initplug.apply(model, recipe, seed=0)
        part = model.w.to_local()
        with torch.no_grad():
            if dist.get_rank() == 1:
                part[2, 3] = 9.0
        audit = initplug.audit(model, recipe, seed=0)
        assert audit["w"].verdict == ("differs" if dist.get_rank() else "exact")
        place = [[302, 3], [2, 353]][cut.dim] if isinstance(cut, Shard) else [2, 3]
        (row,) = audit.reduced().problems()
        assert row.name == "w"
        head = f"1 of {part.numel():,} elements is not that of seed 0, at {place}: 9, not "
        assert str(row.problem).startswith(head), row.problem


@scene(2)
def a_padding_row_and_strided_parts_are_compared_where_they_lie(_: Path) -> None:
    mesh = mesh_of(2)
    for placement in (Shard(0), Shard(1), *([StridedShard(0, split_factor=2)] if STRIDED else ())):
        model: Any = nn.Embedding(64, 16, padding_idx=40)
        model.weight = nn.Parameter(distribute_tensor(torch.ones(64, 16), mesh, [placement]))
        recipe = {"rules": {"*": "normal"}}
        initplug.apply(model, recipe, seed=0)
        assert initplug.audit(model, recipe, seed=0).reduced()["weight"].verdict == "exact"
        with torch.no_grad():
            model.weight.to_local()[:] = torch.where(model.weight.to_local() == 0, 1.0, model.weight.to_local())
        found = initplug.audit(model, recipe, seed=0).reduced()["weight"]
        assert found.verdict == "differs"
        assert ", the first at [40, " in str(found.problem) and ": 1, not 0; off by 1 at most" in str(found.problem)


@scene(2, lacks=TRANSFORMERS)
def pools_and_copies_are_told_of_all_ranks_parts_together(_: Path) -> None:
    model: Any = fsdp(llama(), mesh_of(2))
    initplug.apply(model, LLAMA, seed=7)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.to_local().copy_(model.model.layers[0].mlp.up_proj.weight.to_local())
    (row,) = initplug.audit(model, LLAMA).reduced().problems()
    assert row.name == "model.layers.1.mlp.up_proj.weight"
    assert row.reason == "twin of model.layers.0.mlp.up_proj.weight"
    sharded = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(18)))
    recipe = {"rules": {"*": "normal std=0.02"}}
    model = fsdp_of(sharded)
    initplug.apply(model, recipe, seed=0)
    assert initplug.audit(model, recipe).reduced().problems() == []
    with torch.no_grad():
        for layer in model:
            layer.weight.to_local().mul_(1.03)
    problems = initplug.audit(model, recipe).reduced().problems()
    assert [row.name for row in problems] == [f"{place}.weight" for place in range(18)]
    assert {row.reason for row in problems} == {"pooled"}


def fsdp_of(model: nn.Module) -> Any:
    """A model whose parameters are all cut in two."""
    mesh = mesh_of(2)
    for module in model.modules():
        for key, parameter in module.named_parameters(recurse=False):
            module.register_parameter(key, nn.Parameter(distribute_tensor(parameter.detach(), mesh, [Shard(0)])))
    return model
