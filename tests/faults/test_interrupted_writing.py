"""An apply that is cut off: by an error in a thread, in other's code or by Ctrl-C. What is said, what is left."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from nets import copied_values
from torch import Tensor, nn
from torch.nn.utils import parametrize

import initplug
from initplug.filling import seeded

RECIPE = {"rules": {"*": "normal std=0.02", "*.bias": 0}}
SIZES = ((700, 500), (500, 700), (3, 2), (900, 400))


def model() -> nn.Module:
    """Large tensors, which threads share, and small ones, which go in batches."""
    with torch.random.fork_rng():
        return nn.Sequential(*(nn.Linear(rows, columns) for rows, columns in SIZES))


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Assert that threads are joined, and what is the whole process's is as it was."""

    def state() -> tuple[object, ...]:
        return (
            {*threading.enumerate()},
            gc.isenabled(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_device(),
            torch.get_num_threads(),
            signal.getsignal(signal.SIGINT),
            nn.Module.register_parameter,
        )

    before, generator = state(), torch.get_rng_state()
    yield
    assert state() == before
    assert torch.equal(torch.get_rng_state(), generator)


def written_in(error: initplug.ApplyError) -> list[str]:
    """The slots that a message lists as written, and their count."""
    head, _, rows = str(error).partition(" slots had been written")
    names = [line.strip() for line in rows.splitlines()[1:]]
    assert head.rpartition("\n")[2].split(" of ") == [str(len(names)), str(len([*model().parameters()]))]
    return names


def is_partly_written(module: nn.Module, before: dict[str, Tensor], names: list[str]) -> None:
    """Assert that what is said to be written is, to the bit."""
    whole = model()
    initplug.apply(whole, RECIPE, seed=0, threads=1)
    wanted = copied_values(whole)
    for name, tensor in copied_values(module).items():
        if name in names:
            assert torch.equal(tensor, wanted[name]), name
    for parameter in module.parameters():
        assert parameter.requires_grad and parameter.is_leaf
    # What threads had begun may be there in part; all that is small and not listed is as it was.
    for name in {"2.weight", "2.bias"} - {*names}:
        assert torch.equal(copied_values(module)[name], before[name]), name


def again(module: nn.Module) -> None:
    """Assert that a second try gives what a first that goes well gives."""
    whole = model()
    initplug.apply(whole, RECIPE, seed=0, threads=1)
    initplug.apply(module, RECIPE, seed=0, threads=3)
    wanted = copied_values(whole)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in copied_values(module).items())


def failing_after(count: int, error: BaseException) -> Callable[..., Any]:
    """A function that draws chunks, and raises in place of the one with this number."""
    draw, lock, seen = seeded._draw_stretch, threading.Lock(), iter(range(1 << 30))

    def failing(*given: Any) -> Any:
        with lock:
            number = next(seen)
        if number == count:
            raise error
        return draw(*given)

    return failing


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 2, 4])
@pytest.mark.parametrize(
    "error", [RuntimeError("the thread is dead"), MemoryError(), np.linalg.LinAlgError("no\nconvergence")], ids=repr
)
def test_an_error_in_a_filling_thread_ends_all_of_them_in_one_message(
    threads: int, count: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = model()
    before = copied_values(module)
    monkeypatch.setattr(seeded, "_draw_stretch", failing_after(count, error))
    with nothing_left_behind(), pytest.raises(initplug.ApplyError, match="writing stopped at ") as caught:
        initplug.apply(module, RECIPE, seed=0, threads=threads)
    monkeypatch.undo()
    assert caught.value.__cause__ is error
    (finding,) = caught.value.findings
    names = written_in(caught.value)
    assert finding.path in before and finding.path not in names
    assert type(error).__name__ in str(caught.value).splitlines()[0]
    is_partly_written(module, before, names)
    again(module)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_end_of_the_program_in_a_filling_thread_passes_and_joins_the_others(
    threads: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = model()
    monkeypatch.setattr(seeded, "_draw_stretch", failing_after(2, error))
    with nothing_left_behind(), pytest.raises(type(error)):
        initplug.apply(module, RECIPE, seed=0, threads=threads)
    monkeypatch.undo()
    again(module)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("place", [1, 4, 8])
def test_ctrl_c_at_any_slot_leaves_the_process_as_it_was(threads: int, place: int) -> None:
    module = model()

    def progress(done: int, _: int) -> None:
        if done == place:
            raise KeyboardInterrupt

    with nothing_left_behind(), pytest.raises(KeyboardInterrupt):
        initplug.apply(module, RECIPE, seed=0, threads=threads, progress=progress)
    again(module)


@pytest.mark.parametrize("place", [1, 8])
def test_ctrl_c_without_a_seed_leaves_the_process_as_it_was(place: int) -> None:
    module, generator = model(), torch.get_rng_state()

    def progress(done: int, _: int) -> None:
        if done == place:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        initplug.apply(module, RECIPE, progress=progress)
    torch.set_rng_state(generator)  # which an unseeded apply is there to move
    with nothing_left_behind():
        again(module)


@pytest.mark.parametrize("seed", [None, 0])
def test_a_progress_that_raises_is_told_as_what_stopped_the_writing(seed: int | None) -> None:
    module = model()

    def progress(done: int, _: int) -> None:
        if done == 3:
            raise ValueError("no more lines")

    with pytest.raises(initplug.ApplyError, match=r"writing stopped at .*: ValueError: no more lines"):
        initplug.apply(module, RECIPE, seed=seed, progress=progress)
    again(module)


class Failing(nn.Module):
    """A parametrization that raises when it is given its third value, and once more when asked what it makes of it."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, original: Tensor) -> Tensor:
        return original

    def right_inverse(self, value: Tensor) -> Tensor:
        self.times -= 1
        if self.times < 0:
            raise RuntimeError("no inverse of this")
        return value


@pytest.mark.parametrize("seed", [None, 0])
def test_a_parametrization_that_raises_midway_names_its_slot(seed: int | None) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 1))
    parametrization = Failing(times=100)
    parametrize.register_parametrization(module[1], "weight", parametrization)
    initplug.apply(module, RECIPE, seed=1)
    before = copied_values(module)
    parametrization.times = 0
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(module, RECIPE, seed=seed)
    assert "1.weight" in str(caught.value) and "no inverse of this" in str(caught.value)
    assert torch.equal(
        copied_values(module)["1.parametrizations.weight.original"], before["1.parametrizations.weight.original"]
    )


def test_an_initializer_of_others_that_raises_midway_leaves_its_slot_as_it_was() -> None:
    @initplug.initializer(kind="whole")
    def fails_for_wide(shape: tuple[int, ...], draw: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        if shape[1] > 3:
            raise RuntimeError("too wide for this")
        return np.ones(shape, np.float32)

    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))
    before = copied_values(module)
    recipe = {"rules": {"*.weight": "fails_for_wide", "*.bias": 0}}
    with nothing_left_behind(), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(module, recipe, seed=0, threads=1)
    told = "writing stopped at 2.weight: ValueError: fails_for_wide failed: RuntimeError: too wide for this\n"
    assert str(caught.value).startswith(told)
    assert torch.equal(copied_values(module)["2.weight"], before["2.weight"])
    for name in [line.strip() for line in str(caught.value).splitlines()[2:]]:
        assert torch.equal(copied_values(module)[name], torch.full_like(before[name], float(name.endswith("weight"))))


def test_an_owner_that_takes_no_tensor_is_told_before_anything_else_is_written() -> None:
    class Stubborn(nn.Linear):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "weight" and "weight" in self._parameters:
                raise RuntimeError("this stays as it is")
            super().__setattr__(name, value)

    with initplug.deferred():
        module = nn.Sequential(nn.Linear(2, 2), Stubborn(2, 2))
    with nothing_left_behind(), pytest.raises(initplug.ApplyError, match="this stays as it is"):
        initplug.apply(module, RECIPE, seed=0)
    first = next(module.parameters())
    assert first.is_meta or not first.any()
