"""Tensors of devices, drawn there. Without one, Triton's interpreter does it on the CPU, in a process of its own.

As a program this file fills models both ways and prints, by case, whether they hold the same bits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.filling import devices, seeded
from initplug.filling.pieces import Piece
from initplug.filling.write import fill_alone
from initplug.kernels import cuda
from initplug.regions import Region
from initplug.schemes.compositions import Keep, Stacked
from initplug.schemes.distributions import Elementwise, Normal, TruncatedNormal, Uniform
from initplug.schemes.log_uniform import LogUniform

RECIPE = {
    "rules": {
        "norm": {"match": "<LayerNorm>.weight", "init": 1},
        "first.weight": "kaiming_normal",
        "second.weight": "trunc_normal std=0.02",
        "conv.weight": "uniform -0.1 0.1",
        "lookup.weight": "normal std=0.02",
        "square.weight": "orthogonal",
        "*.bias": "normal mean=0.5 std=0.1",
        "phases": {"match": "phases", "init": "normal"},
    }
}


class Net(nn.Module):
    """Tensors of many kinds, most of them large enough to be drawn one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(70, 81)
        self.second = nn.Linear(64, 96, dtype=torch.bfloat16)
        self.conv = nn.Conv2d(24, 32, 3)
        self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.lookup = nn.Embedding(90, 61, padding_idx=3)
        self.square = nn.Linear(70, 70)
        self.norm = nn.LayerNorm(5000, elementwise_affine=True)
        self.phases = nn.Parameter(torch.empty(75, 64, dtype=torch.complex64))


def filled(*, measure: bool, device: str = "cpu") -> list[torch.Tensor]:
    model = Net().to(device)
    audit = initplug.apply(model, RECIPE, seed=3, measure=measure)
    assert not audit.problems()
    told = (
        [(row.measured_mean, row.measured_std, row.measured_min, row.measured_max) for row in audit] if measure else []
    )
    moments = torch.tensor(told, dtype=torch.float64)
    return [moments, *(tensor.detach().cpu() for tensor in model.parameters())]


def held(region: Region, *, stacked: bool = False) -> list[torch.Tensor]:
    """What is held of some tensors: one after another in memory, and with gaps."""
    apart = torch.empty(*region.sizes, 2)[..., 0]
    views = [torch.empty(region.sizes), torch.empty(region.sizes, dtype=torch.float16), apart]
    draws: list[Elementwise] = [Normal(0.0, 1.0), TruncatedNormal(0.0, 1.0, -2.0, 2.0), Uniform(-1.0, 1.0)]
    for view, draw in zip(views, draws, strict=True):
        whole = Stacked((draw, Normal(0.5, 0.1), draw), 0) if stacked else draw
        fill_alone(view, whole, "fc.weight", 5, 1, region)
    return views


CASES: dict[str, Callable[[], list[torch.Tensor]]] = {
    "a model": lambda: filled(measure=False),
    "a measured model": lambda: filled(measure=True),
    "stacked": lambda: held(Region.whole((90, 71)), stacked=True),
    "rows": lambda: held(Region((200, 64), (((70, 100),), ((0, 64),)))),
    "columns": lambda: held(Region((200, 64), (((0, 200),), ((5, 31),)))),
    "rows in strides": lambda: held(Region((200, 64), (((3, 60), (100, 60)), ((0, 64),)))),
    "a block": lambda: held(Region((9, 40, 64), (((1, 7),), ((8, 21),), ((32, 32),)))),
}


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether values have the same bits, and moments differ by the order of their sums alone."""

    def raw(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous().view(-1).view(torch.uint8)

    return all(
        torch.allclose(mine, yours, rtol=1e-5, atol=1e-7)
        if mine.dtype == torch.float64
        else torch.equal(raw(mine), raw(yours))
        for mine, yours in zip(one, other, strict=True)
    )


def compared() -> dict[str, bool]:
    """Whether devices draw the same, and draw at all, by case."""
    expected = {name: case() for name, case in CASES.items()}
    drawn: list[Piece] = []

    def draw(piece: Piece) -> None:
        drawn.append(piece)
        devices.draw_there(piece)

    found = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(devices, "DRAWN_BESIDE", 1000)
        patched.setattr(seeded, "is_drawn_there", lambda tensor, _: tensor.dtype in devices.DRAWN_DTYPES)
        patched.setattr(seeded, "draw_there", draw)
        for name, case in CASES.items():
            drawn.clear()
            found[name] = same(expected[name], case()) and bool(drawn)
    return found


@pytest.fixture(scope="module")
def outcomes() -> dict[str, bool]:
    pytest.importorskip("triton", minversion=".".join(map(str, cuda.OLDEST)), reason="needs Triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_device_draws_what_the_cpu_draws(case: str, outcomes: dict[str, bool]) -> None:
    assert outcomes[case]


@pytest.mark.parametrize("available", [True, False])
def test_others_are_drawn_on_the_cpu(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "available", lambda: available)
    there: Any = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)
    normal, mapped = Normal(0.0, 1.0), LogUniform(0.1, 1.0)
    assert devices.is_drawn_there(there, Stacked((normal, Keep()), 0)) is available
    assert not devices.is_drawn_there(there, mapped)
    assert not devices.is_drawn_there(there, Stacked((normal, mapped), 0))
    there.dtype = torch.float8_e5m2
    assert not devices.is_drawn_there(there, normal)
    assert not devices.is_drawn_there(torch.empty(0), normal)


def test_a_device_that_fails_ends_in_the_name_of_the_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(piece: Piece) -> None:
        raise RuntimeError("the card fell off the bus")

    monkeypatch.setattr(seeded, "is_drawn_there", lambda *_: True)
    monkeypatch.setattr(seeded, "draw_there", fail)
    with pytest.raises(initplug.ApplyError, match="writing stopped at phases: RuntimeError: the card"):
        initplug.apply(Net(), RECIPE, seed=3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("measure", [True, False])
def test_a_gpu_draws_what_the_cpu_draws(measure: bool) -> None:
    assert cuda.available()
    assert same(filled(measure=measure), filled(measure=measure, device="cuda"))


if __name__ == "__main__":
    json.dump(compared(), sys.stdout)
