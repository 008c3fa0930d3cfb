"""Runs scenes in worlds of several processes: `python tests/sharded/world.py SIZE` prints what went wrong as JSON.

Torch is imported once and the ranks are forked, which takes a fraction of the time of starting each anew.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch reads it: ranks share the cores, and threads do not survive a fork
os.environ["TORCH_LOGS"] = "-all"
os.environ["GLOO_SOCKET_IFNAME"] = "lo"

import torch
import torch.distributed as dist

PATIENCE = 60
"""Seconds after which a rank that waits for others gives up."""

Scene = Callable[[Path], None]
SCENES: dict[str, tuple[Scene, tuple[int, ...], str]] = {}


def scene(*sizes: int, lacks: str = "") -> Callable[[Scene], Scene]:
    """Makes a function a scene of worlds of these sizes; it gets a folder that the ranks share.

    Args:
        sizes: of the worlds.
        lacks: what this version of torch lacks of what the scene needs; the scene is then told of, not played.
    """

    def register(function: Scene) -> Scene:
        SCENES[function.__name__] = function, sizes or (2, 4), lacks
        return function

    return register


class GoneError(Exception):
    """A rank leaves for good, or has seen another leave."""


def perform(size: int, rank: int, folder: Path) -> None:
    """Play all scenes of a world as one rank, and leave what happened in a file."""
    torch.set_num_threads(1)
    outcomes: dict[str, object] = {}
    store: Any = vars(dist)["FileStore"](str(folder / "store"), size)  # which the stubs leave out
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=PATIENCE))
    try:
        last = sorted(SCENES, key=lambda name: name.startswith("zz"))  # after which no rank hears of another
        for name in last:
            function, sizes, lacks = SCENES[name]
            if size in sizes and (len(sys.argv) < 3 or name in sys.argv[2:]):
                if lacks:
                    outcomes[name] = {"lacks": lacks}
                    continue
                shared = folder / name
                shared.mkdir(exist_ok=True)
                begin = time.perf_counter()
                outcomes[name] = "not finished"
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    # Before torch 2.5, of any mesh of CPUs.
                    warnings.filterwarnings("ignore", "DTensor random operators may not have complete support")
                    function(shared)
                    dist.barrier()
                outcomes[name] = round(time.perf_counter() - begin, 2)
    except GoneError:
        outcomes[name] = 0.0
    except BaseException:
        outcomes[name] = traceback.format_exc()
    (folder / f"rank{rank}.json").write_text(json.dumps(outcomes))
    # Whoever leaves early breaks the connections, so that nobody waits for long.
    os._exit(0)


def main() -> None:
    """Fork the ranks, wait for them, print their outcomes."""
    sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("conformance", "support")]
    import_module("libraries")  # it makes third-party libraries importable
    for name in (
        "scenes",
        "disagreements",
        "exact_scenes",
        "replica_scenes",
        "calibration_scenes",
    ):  # which register them
        import_module(name)

    size = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                perform(size, rank, Path(folder))
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        files = sorted(Path(folder).glob("rank*.json"))
        sys.stdout.write("\n")  # after what gloo of some versions says there
        json.dump({file.stem: json.loads(file.read_text()) for file in files}, sys.stdout)


if __name__ == "__main__":
    sys.modules["world"] = sys.modules["__main__"]
    main()
