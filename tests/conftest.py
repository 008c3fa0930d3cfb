"""What every test gets: one thread of torch's, and a registry of initializers of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from initplug.schemes.registry import REGISTRY

# What a shell runs in its background does not hear Ctrl-C, and what `nohup` runs does not hear it leave.
for number, heard in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, heard)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch's for each test: those of parallel workers would wait for one another on small tensors."""
    torch = sys.modules.get("torch")  # what needs none is tested without it, too
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def world_of_one() -> Iterator[None]:
    """A process group of this process alone."""
    from torch import distributed

    store: Any = vars(distributed)["HashStore"]()  # which the stubs leave out
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The registry as it was, once the test is over."""
    before = dict(REGISTRY)
    yield
    for name in [name for name, added in REGISTRY.items() if not added.built_in]:
        del REGISTRY[name]
    REGISTRY.update(before)
