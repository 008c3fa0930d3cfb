"""Recipes that were calibrated on one process, applied by ranks that each hold a part; and who may not calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import fsdp, mesh_of, same_values
from torch import Tensor, nn
from torch_parts import Replicate, Shard, distribute_tensor
from world import scene

import initplug

RULES = {
    "rules": {
        "*.weight": "orthogonal",
        "2.weight": {"match": "2.weight", "init": {"fn": "trunc_normal", "std": 0.1, "factor": {"count": "<Linear>"}}},
        "*.bias": "normal std=0.1",
    }
}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(48, 33), nn.ReLU(), nn.Linear(33, 60), nn.ReLU(), nn.Linear(60, 7))


def inputs() -> Tensor:
    return 3 * torch.randn(64, 48, generator=torch.Generator().manual_seed(0))


@scene(2)
def a_recipe_that_was_calibrated_gives_the_same_bits_on_every_mesh(_: Path) -> None:
    expected = net()
    calibration = initplug.calibrate(expected, RULES, inputs(), seed=4)
    assert calibration.summary["scaled"] == 3
    recipe = initplug.load(calibration.recipe.to_yaml())
    sharded = fsdp(net(), mesh_of(2))
    assert not initplug.apply(sharded, recipe, seed=4).problems()
    same_values(sharded, expected)
    for placement in (Shard(0), Shard(1), Replicate()):
        model: Any = net()
        for number in (0, 2, 4):
            weight = distribute_tensor(torch.zeros_like(model[number].weight), mesh_of(2), [placement])
            model[number].weight = nn.Parameter(weight)
        initplug.apply(model, recipe, seed=4)
        same_values(model, expected)


@scene(2)
def models_that_ranks_share_are_not_calibrated(_: Path) -> None:
    model = fsdp(net(), mesh_of(2))
    before = [parameter.to_local().clone() for parameter in model.parameters()]
    said = r"^6 of 6 tensors are sharded\n  0\.weight: it is a DTensor\n(?s:.*)\ncalibrate the model before it is sha"
    with pytest.raises(initplug.ApplyError, match=said):
        initplug.calibrate(model, RULES, inputs(), seed=4)
    after = [parameter.to_local() for parameter in model.parameters()]
    assert all(map(torch.equal, before, after))
    with pytest.raises(initplug.ApplyError, match=r"^ranks share this model \(DistributedDataParallel\)"):
        initplug.calibrate(nn.parallel.DistributedDataParallel(net()), RULES, inputs(), seed=4)
