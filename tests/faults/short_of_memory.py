"""Applies under a limit of memory, each in a process of its own; prints what was raised and what is left as JSON.

Torch is imported once, and the processes are forked.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch reads it: threads do not survive a fork

import torch
from click.testing import CliRunner
from torch import nn

import initplug
from initplug.cli.commands import commands

MB = 1 << 20
PAGE = resource.getpagesize()
SIDE = 3000
"""A square matrix of this side is 36 MB of float32."""

Said = dict[str, Any]


@contextmanager
def limited(room: int) -> Iterator[None]:
    """No more memory than there is now, but for some bytes."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def attempted(module: nn.Module, recipe: Any, room: int, **how: Any) -> Said:
    """Apply under the limit: the error, what is left, and whether a second time without the limit goes well."""
    said: Said = {"error": None, "message": ""}
    before = {name: None if part.is_meta else part.detach().sum().item() for name, part in module.named_parameters()}
    with limited(room):
        try:
            initplug.apply(module, recipe, **how)
        except BaseException as error:
            said = {"error": type(error).__name__, "message": str(error)}
    said["threads"], said["collects"] = threading.active_count(), gc.isenabled()
    said["changed"] = [
        name
        for name, part in module.named_parameters()
        if (None if part.is_meta else part.detach().sum().item()) != before[name]
    ]
    said["again"] = not initplug.apply(module, recipe, **how).problems()
    return said


def drawn_whole() -> Said:
    return attempted(nn.Linear(SIDE, SIDE), {"rules": {"*": 1, "*.weight": "orthogonal"}}, 40 * MB, seed=0)


def drawn_whole_without_a_seed() -> Said:
    return attempted(nn.Linear(SIDE, SIDE), {"rules": {"*": 1, "*.weight": "orthogonal"}}, 40 * MB)


def made_of_meta() -> Said:
    with initplug.deferred():
        module = nn.Sequential(nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE))
    return attempted(module, {"rules": {"*": 1}}, 50 * MB, seed=0)


def no_room_for_threads() -> Said:
    return attempted(nn.Linear(SIDE, SIDE), {"rules": {"*": "normal"}}, MB, seed=0, threads=8)


def parametrized() -> Said:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(SIDE, SIDE))
    return attempted(module, {"rules": {"*": 1, "*.weight": "normal"}}, 40 * MB, seed=0)


def constructed() -> Said:
    with limited(20 * MB):
        result = CliRunner().invoke(commands, ["apply", f"torch.nn:Linear({SIDE}, {SIDE})", "torch_default"])
    return {"error": result.exit_code, "message": result.stderr, "stdout": result.stdout}


SCENES: tuple[Callable[[], Said], ...] = (
    drawn_whole,
    drawn_whole_without_a_seed,
    made_of_meta,
    no_room_for_threads,
    parametrized,
    constructed,
)


def main() -> None:
    """Fork a process for each scene, and collect what they say."""
    early = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    initplug.apply(early, {"rules": {"*": "normal"}}, seed=0)  # what is imported late is there now
    torch.set_num_threads(1)
    found = {}
    for scene in SCENES:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            with os.fdopen(write, "w") as stream:
                json.dump(scene(), stream)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as stream:
            found[scene.__name__] = stream.read()
        os.waitpid(child, 0)
    json.dump({name: json.loads(text) if text else "the process has died" for name, text in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
