"""Whole models initialised by others beside initplug, audit included: CPU time, as ratios of medians in one run.

Run it with `python tests/benchmarks/peers.py [--small]`. Every ratio is the time of a loop over torch.nn.init over
that of another way to the same distributions, so that more is faster; each is audited against the recipe at first.

It needs torchvision, timm and transformers, which the tests install, and mmengine, which nothing else here needs:

    pip install --no-deps --target peers mmengine addict yapf termcolor platformdirs
    PYTHONPATH=peers python tests/benchmarks/peers.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import initplug

sys.path.append(str(Path(__file__).parents[1] / "conformance"))
from libraries import timm_model, torchvision_model  # which stand elsewhere

RUNS = 7

INSTALLED = "pip install --no-deps --target peers mmengine addict yapf termcolor platformdirs, and PYTHONPATH=peers"


class Peer(NamedTuple):
    """A model with one initialization said in three ways, and a library's own loop that does much the same."""

    name: str
    build: Callable[[bool], nn.Module]
    loop: Callable[[nn.Module], object]
    recipe: dict[str, Any]
    mmengine: list[dict[str, Any]]
    own: Callable[[nn.Module], object] | None = None


def resnet50(small: bool) -> nn.Module:
    """ResNet-50 of torchvision, which initialises in its constructor alone."""
    return torchvision_model("resnet18" if small else "resnet50")


def initialise_resnet(model: nn.Module) -> None:
    """The loop of torchvision's constructor, and a narrow head."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1)
            nn.init.constant_(module.bias, 0)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.constant_(module.bias, 0)


def gpt2(small: bool) -> nn.Module:
    """GPT-2 124M of transformers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=96) if small else GPT2Config())


def initialise_gpt2(model: nn.Module) -> None:
    """The loop of GPT-2, whose head is its embedding, without the scaled projections, which mmengine cannot say."""
    for module in model.modules():
        if type(module).__name__ == "Conv1D":
            nn.init.normal_(module.weight, 0, 0.02)  # type: ignore[arg-type]  # as all of its class have one
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # likewise
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0, 0.02)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def vit_b(small: bool) -> nn.Module:
    """ViT-B/16 of timm."""
    return timm_model("vit_tiny_patch16_224" if small else "vit_base_patch16_224")


def initialise_vit(model: nn.Module) -> None:
    """The loop of timm over linear layers, torch's function in the place of its own, and all norms."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, 0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


PEERS = [
    Peer(
        "ResNet-50, torchvision",
        resnet50,
        initialise_resnet,
        {
            "conv": {"match": "<Conv2d>.weight", "init": "kaiming_normal fan_out relu"},
            "norm": {"match": "<BatchNorm2d>.weight", "init": 1},
            "head": {"match": "<Linear>.weight", "init": "normal std=0.01"},
            "*.bias": 0,
        },
        [
            {"type": "Kaiming", "layer": "Conv2d", "mode": "fan_out", "nonlinearity": "relu", "distribution": "normal"},
            {"type": "Constant", "layer": "BatchNorm2d", "val": 1, "bias": 0},
            {"type": "Normal", "layer": "Linear", "std": 0.01, "bias": 0},
        ],
    ),
    Peer(
        "GPT-2 124M, transformers",
        gpt2,
        initialise_gpt2,
        {"*.weight": "normal std=0.02", "<LayerNorm>.weight": 1, "*.bias": 0},
        [
            {"type": "Normal", "layer": ["Conv1D", "Embedding"], "std": 0.02, "bias": 0},
            {"type": "Constant", "layer": "LayerNorm", "val": 1, "bias": 0},
        ],
        own=lambda model: model.apply(model._init_weights),  # type: ignore[arg-type]  # as all of transformers have it
    ),
    Peer(
        "ViT-B/16, timm",
        vit_b,
        initialise_vit,
        {
            "<Linear>.weight": "trunc_normal std=0.02 low=-2 high=2",
            "<LayerNorm>.weight": 1,
            "<Linear|LayerNorm>.bias": 0,
        },
        [
            {"type": "TruncNormal", "layer": "Linear", "std": 0.02, "bias": 0},
            {"type": "Constant", "layer": "LayerNorm", "val": 1, "bias": 0},
        ],
        own=lambda model: model.init_weights(),  # type: ignore[operator]  # as all of timm's have it
    ),
]


def seconds(way: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    begin = time.process_time()
    way()
    return time.process_time() - begin


def differing(model: nn.Module, recipe: initplug.Recipe, way: Callable[[], object]) -> list[str]:
    """What a way leaves elsewhere than the recipe says."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.125)
    way()
    return [row.name for row in initplug.audit(model, recipe) if row.verdict == "differs"]


def compare(peer: Peer, initialize: Callable[..., object], small: bool, runs: int) -> dict[str, float]:
    """Median CPU seconds of each way to the distributions of a recipe."""
    model = peer.build(small)
    recipe = initplug.load({"unmatched": "keep", "rules": peer.recipe})
    own = peer.own
    ways: dict[str, Callable[[], object]] = {
        "loop": lambda: peer.loop(model),
        "mmengine": lambda: initialize(model, peer.mmengine),
        "library": lambda: own(model) if own is not None else None,
        "seeded": lambda: initplug.apply(model, recipe, seed=0, threads=1),
        "unseeded": lambda: initplug.apply(model, recipe, threads=1),
    }
    for name in ("loop", "mmengine", "seeded", "unseeded"):
        wrong = differing(model, recipe, ways[name])
        assert not wrong, f"{peer.name}: {name} gives something else: {wrong}"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            times[name].append(seconds(way))
    return {name: statistics.median(of_way) for name, of_way in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small models, once, to see that it runs")
    small = parser.parse_args().small
    warnings.simplefilter("ignore")  # of others
    try:
        import timm  # noqa: F401  # asked for here, so that one line tells what is missing
        import torchvision  # noqa: F401  # likewise
        import transformers  # noqa: F401  # likewise
        from mmengine.model import initialize  # type: ignore[import-not-found,unused-ignore]  # nor is it in the tests' extra
    except ImportError as error:
        wanted = (
            "pip install --no-deps --target peers mmengine addict yapf termcolor platformdirs, and PYTHONPATH=peers"
        )
        sys.exit(f"{error.name} is not installed; {wanted}")
    torch.set_num_threads(1)
    runs = 1 if small else RUNS
    print(f"CPU time of {runs} interleaved runs, medians; ratios are the loop's time over that of each way")
    print(f"{'model':26} {'loop s':>8}{'mmengine':>10}{'library':>10}{'seeded':>10}{'unseeded':>10}")
    for peer in PEERS:
        found = compare(peer, initialize, small, runs)
        loop = found.pop("loop")
        if peer.own is None:
            found["library"] = float("nan")
        ratios = (f"{'-':>10}" if value != value else f"{loop / value:9.2f}x" for value in found.values())
        print(f"{peer.name:26} {loop:8.3f}" + "".join(ratios))


if __name__ == "__main__":
    main()
