"""Worlds in which the last rank falls: `python falling_ranks.py` prints what the others met as JSON.

Torch is imported once and the ranks are forked; each world is a new one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch reads it: threads do not survive a fork
os.environ["TORCH_LOGS"] = "-all"
os.environ["GLOO_SOCKET_IFNAME"] = "lo"

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch_parts import DTensor, fully_shard

import initplug

TIMEOUT = 4
"""Seconds after which the group gives up on a rank."""

FOREVER = 3600


def fall() -> None:
    """Leave without a word, as a process does that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_exchange(_: Path) -> dict[str, Any]:
    fall()
    return {}


def within_the_exchange(_: Path) -> dict[str, Any]:
    dist.all_gather_object = lambda *_: fall()
    return {}


def while_values_are_written(_: Path) -> dict[str, Any]:
    return {"progress": lambda *_: fall()}


def hanging_before_the_exchange(_: Path) -> dict[str, Any]:
    time.sleep(FOREVER)
    return {}


def hanging_while_values_are_written(_: Path) -> dict[str, Any]:
    return {"progress": lambda *_: time.sleep(FOREVER)}


def leaving_by_sys_exit(_: Path) -> dict[str, Any]:
    sys.exit(1)


FALLS: tuple[Callable[[Path], dict[str, Any]], ...] = (
    before_the_exchange,
    within_the_exchange,
    while_values_are_written,
    hanging_before_the_exchange,
    hanging_while_values_are_written,
    leaving_by_sys_exit,
)


def held(module: nn.Module) -> list[float]:
    """The sums of what a rank holds of each tensor."""
    return [
        (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach().sum().item()
        for tensor in module.parameters()
    ]


def perform(rank: int, size: int, folder: Path, falls: Callable[[Path], dict[str, Any]]) -> None:
    """Be one rank, and leave in a file what happened."""
    store: Any = vars(dist)["FileStore"](str(folder / "store"), size)  # which the stubs leave out
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=TIMEOUT))
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    fully_shard(module, mesh=init_device_mesh("cpu", (size,)))
    before = held(module)
    dist.barrier()
    how = falls(folder) if rank == size - 1 else {}
    said: dict[str, Any] = {"error": None, "message": ""}
    try:
        initplug.apply(module, {"rules": {"*": "normal"}}, seed=0, **how)
    except BaseException as error:
        said = {"error": type(error).__name__, "message": str(error)}
    said["untouched"] = held(module) == before
    (folder / f"rank{rank}.json").write_text(json.dumps(said))
    time.sleep(TIMEOUT)  # a rank that leaves would break the connections of others that still wait


def world(size: int, falls: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Fork the ranks of a world, wait for those that do not fall, and end the one that does."""
    with tempfile.TemporaryDirectory() as name:
        folder, children = Path(name), []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                try:
                    perform(rank, size, folder, falls)
                finally:
                    os._exit(0)
            children.append(child)
        for child in children[:-1]:
            os.waitpid(child, 0)
        os.kill(children[-1], signal.SIGKILL)
        os.waitpid(children[-1], 0)
        return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("rank*.json"))}


if __name__ == "__main__":
    size, *names = sys.argv[1:] or ["2"]
    sys.stdout.write("\n")  # after what gloo of some versions says there
    worlds = {falls.__name__: falls for falls in FALLS if not names or falls.__name__ in names}
    json.dump({f"{name} {size}": world(int(size), falls) for name, falls in worlds.items()}, sys.stdout)
