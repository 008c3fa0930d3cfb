"""How the cost of `default` grows with what lies below modules that have a reset of their own.

    python tests/benchmarks/replays.py [--small]

A reset is replayed once for each module, and what an outer one writes is not asked of inner ones. Four shapes of tree:

- wide: one reset above many layers, which it calls (nn.Transformer, Lightning modules, models of torch_geometric);
- blocks: many blocks, each with a reset above layers;
- calling: a reset at each of many levels, which calls the one below it: one replay, whatever the depth;
- apart: a reset at each of many levels, which writes what is its own and leaves the rest to the levels below. Each is
  replayed over a copy of all that is below it, so that this one is quadratic in the depth.

The last column is the time for twice the size by that for the size: 2 is linear, 4 quadratic.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

import initplug
from initplug.studies.suggest import suggest


class Layered(nn.Module):
    """A reset above layers, which it calls."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(count))

    def reset_parameters(self) -> None:
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]  # a module to the stubs


class Level(nn.Module):
    """A scale, a layer and the level below; what its reset leaves alone is for the levels below."""

    def __init__(self, below: int, calling: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))
        self.layer: nn.Linear = nn.Linear(2, 2)
        self.calling = calling
        self.inner: Level | None = Level(below - 1, calling) if below > 1 else None

    def reset_parameters(self) -> None:
        nn.init.normal_(self.scale)
        if self.calling:
            self.layer.reset_parameters()
            if self.inner is not None:
                self.inner.reset_parameters()


SHAPES: dict[str, tuple[Callable[[int], nn.Module], int, int]] = {
    "wide": (Layered, 100, 1000),
    "blocks": (lambda count: nn.ModuleList(Layered(20) for _ in range(count)), 20, 200),
    "calling": (lambda count: Level(count, True), 50, 100),
    "apart": (lambda count: Level(count, False), 25, 100),
}
"""How each is built, and its small and its usual size."""


def seconds(work: Callable[[nn.Module], object], model: nn.Module) -> float:
    """CPU time, which a busy machine changes least."""
    begun = time.process_time()
    work(model)
    return time.process_time() - begun


def planned(model: nn.Module) -> object:
    """What is timed."""
    return initplug.plan(model, "torch_default")


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description="Time of planning `default` by the shape and the size of a tree.")
    parser.add_argument("--small", action="store_true", help="small trees")
    small = parser.parse_args().small
    warnings.simplefilter("ignore", initplug.InitplugWarning)
    initplug.plan(Layered(2), "torch_default")  # which reads the preset
    suggest(Layered(2))  # and these all of them
    print(f"{'shape':<8}  {'size':>5}  {'plan s':>7}  {'suggest s':>9}  {'twice the size':>14}")
    for shape, (build, few, many) in SHAPES.items():
        size = few if small else many
        once, twice = build(size), build(2 * size)
        first, second, every = seconds(planned, once), seconds(planned, twice), seconds(suggest, once)
        print(f"{shape:<8}  {size:>5}  {first:>7.3f}  {every:>9.3f}  {second / first:>13.1f}x")


if __name__ == "__main__":
    main()
