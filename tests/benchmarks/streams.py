"""Seeded initialization beside the same loop over torch.nn.init, as ratios of medians in one run.

Run it with `python tests/benchmarks/streams.py [--small] [--busy]`. Every ratio is the loop's time over ours, so that
more is faster; memory is the peak above the model's own size. With `--busy` every case is timed once more beside two
processes that spin, from which the loop suffers too: status 1 tells of a ratio that is less than half the quiet one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def deep(scale: int) -> nn.Module:
    """4,000 matrices of 16 by 16, each in a module of its own."""
    return nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(4000 // scale)))


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
    Case("(b) normal, 4,000 of 256", deep, lambda _, p: nn.init.normal_(p, 0, 0.02), {"*": "normal std=0.02"}),
    Case(
        "(b) the same by the place of each",
        deep,
        lambda name, p: nn.init.normal_(p, 0, 0.02 / math.sqrt(int(name.partition(".")[0]) + 1)),
        {"*.weight": {"fn": "normal", "std": 0.02, "factor": {"place": "<Linear>", "power": -0.5}}},
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


NEIGHBOURS = 2


@contextmanager
def neighbours() -> Iterator[None]:
    """Processes beside this one that spin."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(NEIGHBOURS)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


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
    parser.add_argument("--busy", action="store_true", help=f"once more beside {NEIGHBOURS} processes that spin")
    arguments = parser.parse_args()
    scale, slow = 8 if arguments.small else 1, []
    torch.set_num_threads(1)
    print(f"middle of {RUNS} interleaved runs; ratios are the loop's time over ours")
    columns = ("1 thread", "measured", "2 threads", "measured", "unseeded")
    print(f"{'case':36} {'loop s':>8}" + "".join(f"{column:>11}" for column in columns))
    for case in CASES:
        seconds, *ratios = measure(case, scale)
        print(f"{case.name:36} {seconds:8.3f}" + "".join(f"{ratio:10.2f}x" for ratio in ratios))
        if arguments.busy:
            with neighbours():
                seconds, *busy = measure(case, scale)
            print(f"{'    beside neighbours':36} {seconds:8.3f}" + "".join(f"{ratio:10.2f}x" for ratio in busy))
            slow += [case.name for quiet, ratio in zip(ratios, busy, strict=True) if ratio < quiet / 2]
    for threads in (1, 2, 8):
        print(f"peak above a model of 0.2 G parameters, {threads} threads: {peak(threads, scale):.0f} MB")
    if slow:
        sys.exit(f"slower than twice beside neighbours: {', '.join(dict.fromkeys(slow))}")


if __name__ == "__main__":
    main()
