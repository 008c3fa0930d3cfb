"""One rank's share of a sharded model beside the whole model: time and memory.

Run it with `python tests/benchmarks/sharded.py [--small]`. Times are CPU seconds of one thread, the least of some runs,
so that other programs move them little. A ratio is the time of a rank over the whole's for as many elements as the rank
holds: 1 is a rank that pays for its share alone. For 1, 2 and 4 ranks there are processes with `fully_shard` that take
turns; for more, one rank in the middle of the mesh is simulated by the region that it would hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # ranks are forked, which no thread survives

import torch
import torch.distributed as dist
from memory import watched
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard

import initplug
from initplug.auditing.moments import Measured
from initplug.columns import coded
from initplug.filling.batches import Lot, LotKind
from initplug.filling.seeded import fill_from_names
from initplug.filling.sharding import region_at
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Normal

RUNS = 3
RANKS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Sizes(NamedTuple):
    """A transformer with gated linear units.

    Args:
        layers: how many blocks.
        width: of the residual stream.
        hidden: of the linear units.
        keys: rows of the projections of keys and values.
        vocabulary: rows of embedding and head.
    """

    layers: int
    width: int
    hidden: int
    keys: int
    vocabulary: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all parameters."""
        _, width, hidden, keys, vocabulary = self
        found: dict[str, tuple[int, ...]] = {"emb": (vocabulary, width), "head": (vocabulary, width), "norm": (width,)}
        for layer in range(self.layers):
            for name, shape in {
                "q": (width, width),
                "k": (keys, width),
                "v": (keys, width),
                "o": (width, width),
                "gate": (hidden, width),
                "up": (hidden, width),
                "down": (width, hidden),
                "norm1": (width,),
                "norm2": (width,),
            }.items():
                found[f"{layer}_{name}"] = shape
        return found


MEDIUM = Sizes(layers=8, width=2048, hidden=8192, keys=512, vocabulary=32_000)
SMALL = Sizes(layers=2, width=512, hidden=2048, keys=128, vocabulary=4_000)
LLAMA_70B = Sizes(layers=80, width=8192, hidden=28_672, keys=1024, vocabulary=128_256)
NORMAL, ONE = Normal(0.0, 0.02), Constant(1.0)


def drawn(name: str) -> Drawn:
    """What a parameter gets."""
    return ONE if "norm" in name else NORMAL


def best(function: Callable[[], object], runs: int = RUNS) -> float:
    """The least CPU seconds of a call, after one that touches memory and makes tables."""
    function()
    return min(timeit.repeat(function, timer=time.process_time, number=1, repeat=runs))


class Share(NamedTuple):
    """What one rank of many has to do.

    Args:
        seconds: of CPU.
        elements: that it holds.
        row: elements of the shortest stretch of a matrix that follow each other in the whole.
    """

    seconds: float
    elements: int
    row: int


def simulated(shapes: dict[str, tuple[int, ...]], dim: int, ranks: int, runs: int = RUNS) -> Share:
    """The share of the rank in the middle, vectors sharded along their only dimension."""
    alike: dict[Any, Lot] = {}
    rows: list[int] = []
    memory: dict[tuple[int, ...], Tensor] = {}  # of equal shapes one, so that a share of any model fits
    for row, (name, shape) in enumerate(shapes.items()):
        region = region_at(shape, [Shard(min(dim, len(shape) - 1))], [ranks], [ranks // 2])
        if region.sizes not in memory:
            memory[region.sizes] = torch.empty(region.sizes)
        kind, distribution = LotKind(True, None if region.is_whole else region), drawn(name)
        lot = alike.get((distribution, region), Lot(kind, coded(()), (), (), ()))
        columns = (*lot.rows, row), (*lot.names, name), (*lot.tensors, memory[region.sizes])
        alike[distribution, region] = Lot(kind, coded([*lot.distributions, distribution]), *columns)
        if len(shape) > 1 and region.count:
            rows.append(region.boxes[0][1].runs[1])
    lots, measured = [*alike.values()], Measured.none(len(shapes))
    seconds = best(lambda: fill_from_names(lots, 0, 1, measured, lambda _: None), runs)
    return Share(seconds, sum(tensor.numel() for lot in lots for tensor in lot.tensors), min(rows, default=0))


# Processes ----------------------------------------------------------------------------------------------------


def build(shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    """A model of bare parameters, on meta."""
    with torch.device("meta"):
        model = nn.Module()
        for name, shape in shapes.items():
            model.register_parameter(f"p{name}", nn.Parameter(torch.empty(shape)))
    return model


RECIPE = {"rules": {"*": "normal std=0.02", "*norm*": 1}}


def perform(rank: int, ranks: int, shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Shard a model, and initialise it when it is this rank's turn."""
    torch.set_num_threads(1)
    store: Any = vars(dist)["FileStore"](str(folder / f"store{ranks}"), ranks)  # which the stubs leave out
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    model = build(shapes)
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    parameters: Any = list(model.parameters())  # DTensors
    local = sum(parameter.numel() * 4 // ranks for parameter in parameters)
    for turn in range(ranks):
        if turn == rank:
            peak = watched(lambda: initplug.apply(model, RECIPE, seed=0, threads=1, check=False)) - local
            seconds = best(lambda: initplug.apply(model, RECIPE, seed=0, threads=1, check=False))
            told = {"seconds": seconds, "local": local, "peak": peak}
            (folder / f"{ranks}_{rank}.json").write_text(json.dumps(told))
        dist.barrier()
    os._exit(0)


def processes(shapes: dict[str, tuple[int, ...]], ranks: int) -> list[dict[str, float]]:
    """What every rank of a world of processes has measured."""
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(ranks):
            child = os.fork()
            if child == 0:
                perform(rank, ranks, shapes, Path(folder))
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        return [json.loads((Path(folder) / f"{ranks}_{rank}.json").read_text()) for rank in range(ranks)]


# Tables -------------------------------------------------------------------------------------------------------


def show_processes(shapes: dict[str, tuple[int, ...]]) -> None:
    """Time and memory of real ranks."""
    numel = sum(math.prod(shape) for shape in shapes.values())
    print(f"fully_shard over processes, {numel / 1e6:.0f} M parameters, float32; the slowest rank of each")
    print(f"{'ranks':>6} {'CPU s':>8} {'of share':>9} {'local MB':>9} {'peak above MB':>14}")
    whole = 0.0
    for ranks in (1, 2, 4):
        told = processes(shapes, ranks)
        seconds, local, peak = (max(one[key] for one in told) for key in ("seconds", "local", "peak"))
        whole = whole or seconds
        print(f"{ranks:6} {seconds:8.3f} {seconds * ranks / whole:8.2f}x {local / 2**20:9.0f} {peak / 2**20:14.0f}")


def show_simulated(shapes: dict[str, tuple[int, ...]], ranks: Sequence[int]) -> float:
    """Time of simulated ranks; returns the seconds that an element of the whole takes."""
    whole = simulated(shapes, 0, 1)
    print(f"\none simulated rank of the same model; the whole takes {whole.seconds:.3f} s")
    print(f"{'ranks':>6} {'Shard(0) ms':>12} {'of share':>9} {'Shard(1) ms':>12} {'of share':>9} {'shortest row':>13}")
    for count in ranks:
        cells = []
        for dim in (0, 1):
            share = simulated(shapes, dim, count)
            ratio = share.seconds / whole.seconds * whole.elements / max(share.elements, 1)
            cells.append(f"{share.seconds * 1e3:12.2f} {ratio:8.2f}x")
        print(f"{count:6} {' '.join(cells)} {share.row:13}")
    return whole.seconds / whole.elements


def show_projection(sizes: Sizes, ranks: int, element: float) -> None:
    """What a large model would take: the share of one rank, drawn in full into memory that is used again."""
    numel = sum(math.prod(shape) for shape in sizes.shapes.values())
    print(f"\n{numel / 1e9:.1f} G parameters over {ranks} ranks, one thread each: the fill of one rank, measured")
    for dim in (0, 1):
        share = simulated(sizes.shapes, dim, ranks, runs=1)
        memory = share.elements * 4 / 2**20
        print(
            f"  Shard({dim}): {share.elements / 1e6:.0f} M elements, {memory:.0f} MB, {share.seconds:.2f} s,"
            f" {share.seconds / share.elements / element:.2f}x of its share"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a fraction of the size, to see that it runs")
    small = parser.parse_args().small
    torch.set_num_threads(1)
    sizes = SMALL if small else MEDIUM
    show_processes(sizes.shapes)
    element = show_simulated(sizes.shapes, RANKS[::4] if small else RANKS)
    show_projection(LLAMA_70B._replace(layers=1) if small else LLAMA_70B, 512, element)


if __name__ == "__main__":
    main()
