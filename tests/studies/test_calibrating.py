"""Calibrating draws weights again with factors that bring the outputs of layers to one standard deviation.

The oracle is the procedure of Mishkin and Matas (arXiv:1511.06422, algorithm 1) written as they have it: for each layer
a forward of the whole net, as often as it takes, and the weight divided in place by the standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import initplug

ORTHOGONAL: dict[str, Any] = {"rules": {"*.weight": "orthogonal", "*.bias": 0}}
NORMAL: dict[str, Any] = {"rules": {"*.weight": "kaiming_normal", "*.bias": 0}}


def normals(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def net(width: int = 32, act: Callable[[], nn.Module] = nn.ReLU, depth: int = 2) -> nn.Sequential:
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(width, width), act())])


def lsuv(model: nn.Module, inputs: Tensor, tolerance: float, rounds: int = 10) -> dict[str, float]:
    """The procedure of the paper on a model as it stands; the factor of each weight."""
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d
    factors = {}
    for name, part in model.named_modules():
        if not isinstance(part, kinds):
            continue
        heard: list[float] = []
        # At once: what follows may write to the output in place.
        hook = part.register_forward_hook(lambda _, __, output, heard=heard: heard.append(float(output.numpy().std())))
        factors[name + ".weight"] = 1.0
        with torch.no_grad():
            model(inputs)
            for _ in range(rounds):
                if abs(heard[-1] - 1) <= tolerance:
                    break
                part.weight.div_(heard[-1])
                factors[name + ".weight"] /= heard[-1]
                model(inputs)
        hook.remove()
    return factors


def stds(model: nn.Module, *inputs: Any, **keywords: Any) -> dict[str, float]:
    """The standard deviations of the first outputs of modules with a weight, in evaluation mode."""
    found: dict[str, float] = {}

    def heard(name: str, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        found.setdefault(name, float(output.float().std(correction=0)))

    hooks = [
        part.register_forward_hook(lambda _, __, output, name=name: heard(name, output))
        for name, part in model.named_modules()
        if next(part.parameters(recurse=False), None) is not None
    ]
    modes = [(part, part.training) for part in model.modules()]
    with torch.no_grad():
        model.eval()(*inputs, **keywords)
    for part, training in modes:
        part.training = training
    for hook in hooks:
        hook.remove()
    return found


NETS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "thirty tanh": (lambda: net(64, nn.Tanh, 30), normals(32, 64)),
    "thirty relu": (lambda: net(64, nn.ReLU, 30), normals(32, 64)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, groups=4),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2),
            nn.Flatten(),
            nn.Linear(8 * 17 * 17, 10),
        ),
        normals(4, 3, 12, 12),
    ),
    "one and three dimensions": (
        lambda: nn.Sequential(
            *(nn.Conv1d(4, 8, 3), nn.GELU(), nn.ConvTranspose1d(8, 6, 2), nn.Unflatten(2, (1, 1, 9))),
            nn.Conv3d(6, 6, 1),
        ),
        normals(5, 4, 10),
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("init", ["orthogonal", "kaiming_normal"])
def test_factors_are_those_of_the_procedure_in_the_paper(name: str, init: str) -> None:
    build, inputs = NETS[name]
    rules: dict[str, Any] = {"<*Norm*>.weight": {"init": 1, "optional": True}, "*.bias": 0}
    rules = {"rules": {"weights": {"match": "*.weight", "ndim": ">=2", "init": init}, **rules}}
    model, other = build(), build()
    initplug.apply(other, rules, seed=5)
    expected = lsuv(other.eval(), inputs, tolerance=0.001)
    calibration = initplug.calibrate(model, rules, inputs, seed=5, tolerance=0.001)
    factors = {row.name: row.factor for row in calibration if row.outcome != "left"}
    assert factors == pytest.approx(expected, rel=0.01)
    assert not calibration.problems()
    found = stds(model, inputs)
    for row in calibration:
        assert row.std == pytest.approx(found[str(row.module)], rel=1e-4) == pytest.approx(1, abs=0.0011)
