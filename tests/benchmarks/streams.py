"""Seeded initialization beside the same loop over torch.nn.init, as ratios of medians in one run.

Run it with `python tests/benchmarks/streams.py [--small]`. Every ratio is the loop's time over ours, so that more is
faster; memory is the peak above the model's own size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from memory import watched
from torch import Tensor, nn

import initplug

RUNS = 5


class Case(NamedTuple):
    """A model with the loop that initialises it by hand and the recipe that says the same."""

    name: str
    build: Callable[[int], nn.Module]
    loop: Callable[[str, Tensor], object]
    recipe: dict[str, Any]


class Block(nn.Module):
    """The matrices of a transformer's block, without code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.empty(3 * width, width))
        self.out = nn.Parameter(torch.empty(width, width))
        self.up = nn.Parameter(torch.empty(4 * width, width))
        self.down = nn.Parameter(torch.empty(width, 4 * width))


def transformer(scale: int) -> nn.Module:
    """24 blocks and an embedding: 0.5 billion parameters at scale 1."""
    width = 1280 // scale
    model = nn.Module()
    model.emb = nn.Parameter(torch.empty(25_000, width))
    model.blocks = nn.ModuleList(Block(width) for _ in range(24))
    return model


def many(scale: int) -> nn.Module:
    """10,000 norms, 20,000 tensors of 64 elements, in blocks of ten."""
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.ModuleList(nn.LayerNorm(64) for _ in range(10)) for _ in range(1000 // scale))
    return model


def vit(scale: int) -> nn.Module:
    """12 blocks of width 768: the matrices of ViT-B."""
    return nn.Sequential(*(Block(768 // scale) for _ in range(12)))


def linears(scale: int) -> nn.Module:
    """0.2 billion parameters."""
    return nn.ParameterList([torch.empty(4096 // scale, 4096) for _ in range(12)])


def narrow(scale: int) -> nn.Module:
    """0.2 billion parameters of half the size."""
    return linears(scale).bfloat16()


def squares(scale: int) -> nn.Module:
    """Eight matrices of 1024 by 1024."""
    return nn.ParameterList([torch.empty(1024 // scale, 1024 // scale) for _ in range(8)])


CASES = [
    Case(
        "(a) normal, 0.5 G transformer", transformer, lambda _, p: nn.init.normal_(p, 0, 0.02), {"*": "normal std=0.02"}
    ),
    Case("(b) normal, 20,000 of 64", many, lambda _, p: nn.init.normal_(p, 0, 0.02), {"*": "normal std=0.02"}),
    Case(
        "(b) norms, 20,000 of 64",
        many,
        lambda name, p: nn.init.zeros_(p) if name.endswith("bias") else nn.init.ones_(p),
        {"*.weight": 1, "*.bias": 0},
    ),
    Case(
        "(c) truncated normal, ViT-B",
        vit,
        lambda _, p: nn.init.trunc_normal_(p, 0, 0.02, -0.04, 0.04),
        {"*": "trunc_normal std=0.02"},
    ),
    Case(
        "(c) the same, cut at ±2 as timm does",
        vit,
        lambda _, p: nn.init.trunc_normal_(p, 0, 0.02, -2, 2),
        {"*": "trunc_normal std=0.02 low=-2 high=2"},
    ),
    Case("(d) uniform, 0.2 G", linears, lambda _, p: nn.init.uniform_(p, -0.1, 0.1), {"*": "uniform -0.1 0.1"}),
    Case("(d) normal, 0.2 G of bfloat16", narrow, lambda _, p: nn.init.normal_(p, 0, 0.02), {"*": "normal std=0.02"}),
    Case("(e) orthogonal, 8 of 1024x1024", squares, lambda _, p: nn.init.orthogonal_(p), {"*": "orthogonal"}),
]


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(case: Case, scale: int) -> list[float]:
    """Seconds of the loop, and ratios to it: by threads, unmeasured and measured; and unseeded, measured."""
    model = case.build(scale)
    recipe = initplug.load({"rules": case.recipe})

    def loop() -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                case.loop(name, parameter)

    ways: list[Callable[[], object]] = [
        loop,
        lambda: initplug.apply(model, recipe, seed=0, threads=1, measure=False),
        lambda: initplug.apply(model, recipe, seed=0, threads=1),
        lambda: initplug.apply(model, recipe, seed=0, threads=2, measure=False),
        lambda: initplug.apply(model, recipe, seed=0, threads=2),
        lambda: initplug.apply(model, recipe, threads=1),
    ]
    for way in ways:  # memory is touched and tables are made before anything counts
        way()
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(RUNS):
        for record, way in zip(times, ways, strict=True):
            record.append(timed(way))
    theirs, *ours = (statistics.median(record) for record in times)
    return [theirs, *(theirs / one for one in ours)]


def peak(threads: int, scale: int) -> float:
    """MB above the model's own size that filling it takes at most."""
    model = linears(scale)
    recipe = initplug.load({"rules": {"*": "normal"}})
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return watched(lambda: initplug.apply(model, recipe, seed=0, threads=threads)) / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="models of a fraction of the size, to see that it runs")
    scale = 8 if parser.parse_args().small else 1
    torch.set_num_threads(1)
    print(f"middle of {RUNS} interleaved runs; ratios are the loop's time over ours")
    columns = ("1 thread", "measured", "2 threads", "measured", "unseeded")
    print(f"{'case':36} {'loop s':>8}" + "".join(f"{column:>11}" for column in columns))
    for case in CASES:
        seconds, *ratios = measure(case, scale)
        print(f"{case.name:36} {seconds:8.3f}" + "".join(f"{ratio:10.2f}x" for ratio in ratios))
    for threads in (1, 2, 8):
        print(f"peak above a model of 0.2 G parameters, {threads} threads: {peak(threads, scale):.0f} MB")


if __name__ == "__main__":
    main()
