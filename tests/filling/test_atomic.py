"""`apply(…, atomic=True)`: wherever it fails, a model is what it was, to the bit and to the object."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest
import torch
from nets import built_deferred, built_on_meta
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as older_spectral_norm
from torch.nn.utils import weight_norm as older_weight_norm
from torch.nn.utils.parametrize import register_parametrization
from torch.utils._python_dispatch import TorchDispatchMode
from untouched import attributes, bits, modes, places

import initplug
from initplug import ApplyError
from initplug.filling import apply as filling
from initplug.filling import backups

NORMAL: dict[str, Any] = {"rules": {"*": "normal std=0.5"}}
RESTORED = "\nEverything is as it was: what had been written has been restored."


def everything(model: nn.Module) -> list[Any]:
    """All that a failure must leave as it was; versions count writes, of which there were some."""
    tensors = [
        (
            name,
            id(tensor),
            tensor.device,
            0 if tensor.is_meta else (tensor.data_ptr(), tensor.untyped_storage().data_ptr()),
            tensor.untyped_storage()._cdata,
            (tensor.shape, tensor.stride(), tensor.storage_offset()),
            tensor.requires_grad,
            id(tensor.grad),
            sorted(vars(tensor)),
            bits(tensor),
        )
        for name, tensor in places(model)
    ]
    return [tensors, attributes(model), modes(model), torch.get_rng_state().tolist()]


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    alive = places(model), [*vars(model).values()]  # else an identity could be given anew
    before = everything(model)
    yield
    assert everything(model) == before
    assert alive


# Models.


class PaddedAndTied(nn.Module):
    """An embedding with a padding row, and a head that shares its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.norm = nn.Embedding(7, 5, padding_idx=2), nn.LayerNorm(5)
        self.head = nn.Linear(5, 7)
        self.head.weight = self.emb.weight
        self.head.weight.mark = "kept"  # type: ignore[attr-defined]  # as users mark parameters


class Shared(nn.Module):
    """Parameters that share memory, overlap, have strides, and hold what is not float32."""

    def __init__(self) -> None:
        super().__init__()
        memory = torch.arange(60.0)
        self.one, self.two = nn.Parameter(memory[:20].view(4, 5)), nn.Parameter(memory[10:34].view(6, 4).T)
        self.short = nn.Parameter(torch.full((3, 4), -0.0, dtype=torch.bfloat16))
        self.nan = nn.Parameter(torch.full((3,), torch.nan))
        self.complex = nn.Parameter(torch.ones(2, 3, dtype=torch.complex64).conj())
        self.images = nn.Parameter(torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last))
        self.register_buffer("count", torch.ones(3))


class Moving(nn.Module):
    """A parametrization that keeps what it was given, in a buffer and in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("base", torch.ones(4, 4))
        self.register_buffer("seen", torch.zeros(()))
        self.last: Any = None
        self.kept = torch.zeros(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.base

    def right_inverse(self, x: Tensor) -> Tensor:
        self.base = x.abs() + 1
        self.get_buffer("seen").add_(1)
        self.kept.copy_(x)
        self.last, self.new = x, x
        return x / self.base


class Computed(nn.Module):
    """Tensors that their owners compute, in every way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = parametrizations.weight_norm(nn.Linear(4, 4))
        self.spectral = parametrizations.spectral_norm(nn.Linear(4, 4))
        self.orthogonal = parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley")
        self.moving = nn.Linear(4, 4)
        register_parametrization(self.moving, "weight", Moving())
        with _old():
            self.old_weight = older_weight_norm(nn.Linear(4, 4))
        self.old_spectral = older_spectral_norm(nn.Linear(4, 4))
        self.pruned = prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)  # type: ignore[no-untyped-call]  # torch


def _old() -> Any:
    return pytest.warns(FutureWarning, match="weight_norm")


def views_on_meta() -> Any:
    model: Any = nn.Module()
    memory = torch.empty(60, device="meta")
    model.one, model.two = nn.Parameter(memory[:20].view(4, 5)), nn.Parameter(memory[20:44].view(6, 4).T)
    model.seen = [model.one]  # a list of its own, as an LSTM has
    model.pair = (model.two, 3)
    return model


def half_deferred() -> nn.Module:
    return nn.Sequential(PaddedAndTied(), built_deferred(lambda: nn.LSTM(3, 4)), nn.Linear(3, 3))


class Copied(nn.Module):
    """Two branches, of which one begins as a copy of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(3, 4), nn.Linear(3, 4)


COPIES: dict[str, Any] = {"rules": {"query.*": "normal", "key.*": "copy source=^query"}}
BUFFERS: dict[str, Any] = {
    "rules": {
        "*": "normal std=0.5",
        "count": {"match": "count", "kind": "buffer", "init": 3},
        "one": {"match": "one", "init": {"split": ["keep", 1]}},
    }
}
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "tied": (PaddedAndTied, NORMAL),
    "shared": (Shared, BUFFERS),
    "computed": (Computed, NORMAL),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True), NORMAL),
    "copied": (Copied, COPIES),
    "deferred lstm": (lambda: built_deferred(lambda: nn.LSTM(3, 4, 2)), NORMAL),
    "deferred and tied": (lambda: built_deferred(PaddedAndTied), NORMAL),
    "deferred and computed": (lambda: built_deferred(lambda: parametrizations.weight_norm(nn.Linear(4, 4))), NORMAL),
    "buffers on meta": (lambda: built_on_meta(lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), NORMAL),
    "views on meta": (views_on_meta, NORMAL),
    "partly deferred": (half_deferred, NORMAL),
}


def quietly(model: nn.Module, recipe: Any, **settings: Any) -> Any:
    """Apply to models whose parameters share memory, of which it warns."""
    shares = isinstance(model, Shared)
    with pytest.warns(initplug.InitplugWarning, match="same memory") if shares else nullcontext():
        return initplug.apply(model, recipe, **{"atomic": True, **settings})


# Failures.


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("case", MODELS)
def test_a_failure_after_any_slot_leaves_a_model_as_it_was(case: str, seed: int | None) -> None:
    build, recipe = MODELS[case]
    torch.manual_seed(3)
    model = build()
    count = len(initplug.plan(model, recipe))
    for stop in range(1, count + 1):

        def progress(done: int, total: int, stop: int = stop) -> None:
            assert total == count
            if done == stop:
                raise OSError("the disk is full")

        with restored(model), pytest.raises(ApplyError) as caught:
            quietly(model, recipe, seed=seed, progress=progress)
        assert str(caught.value).startswith("writing stopped at ")
        assert "OSError: the disk is full" in str(caught.value)
        assert str(caught.value).endswith(RESTORED)
    first = quietly(model, recipe, seed=seed)
    torch.manual_seed(3)
    expected = build()
    again = quietly(expected, recipe, seed=seed, atomic=False)
    assert first.to_json() == again.to_json()
    for (name, one), (_, other) in zip(places(model), places(expected), strict=True):
        assert bits(one) == bits(other), name


WRITES = {"copy_", "fill_", "normal_", "zero_", "set_", "mul_", "uniform_", "add_", "div_"}


class Failing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Raises before the n-th operation that writes to a tensor."""

    def __init__(self, left: int, error: BaseException) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.left, self.error = left, error

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.removeprefix("_foreach_") in WRITES:
            self.left -= 1
            if self.left == 0:
                raise self.error
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("case", MODELS)
def test_a_failure_before_any_operation_leaves_a_model_as_it_was(
    case: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, recipe = MODELS[case]
    model = build()
    filled, watch = filling._write_and_measure, [Failing(0, error)]

    def failing(ready: Any, alike: Any) -> Any:
        with watch[0]:
            return filled(ready, alike)

    monkeypatch.setattr(filling, "_write_and_measure", failing)
    before, alive = everything(model), [places(model), [*vars(model).values()]]
    for stop in range(1, 1000):
        watch[0] = Failing(stop, error)
        raised: BaseException | None = None
        try:
            quietly(model, recipe)
        except BaseException as caught:
            raised = caught
        if raised is None:
            break
        assert raised is error or str(raised).endswith(RESTORED)
        assert everything(model) == before
    assert alive
    assert stop > len(initplug.plan(build(), recipe))


@contextmanager
def interrupted(line: int) -> Iterator[list[int]]:
    """Ctrl-C at the n-th line that runs in the package while a copy is kept; yields how many lines there were."""
    counted, before = [0], sys.gettrace()
    started = [False]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if frame.f_code.co_name == "_write_and_measure":
            started[0] = True
        if "/initplug/" not in file or file == backups.__file__:
            return None
        if started[0] and event == "line":
            counted[0] += 1
            if counted[0] == line:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        yield counted
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("case", ["tied", "computed", "partly deferred"])
def test_ctrl_c_at_any_line_leaves_a_model_as_it_was(case: str, seed: int | None) -> None:
    build, recipe = MODELS[case]
    quietly(build(), recipe, seed=seed, threads=1)  # what is remembered of it takes no lines later
    with interrupted(-1) as lines:
        quietly(build(), recipe, seed=seed, threads=1)
    assert lines[0] > 300
    model = build()
    for line in range(1, lines[0], max(lines[0] // 40, 1)):
        with restored(model), pytest.raises(KeyboardInterrupt), interrupted(line):
            quietly(model, recipe, seed=seed, threads=1)


def test_a_failure_while_it_is_measured_leaves_a_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(filling, "audited", fail)
    model = half_deferred()
    with restored(model), pytest.raises(ApplyError) as caught:
        initplug.apply(model, NORMAL, atomic=True)
    assert str(caught.value) == f"all 10 slots have been written, but could not be measured: MemoryError{RESTORED}"
    with pytest.raises(ApplyError) as caught:
        initplug.apply(model, NORMAL)
    assert str(caught.value) == "all 10 slots have been written, but could not be measured: MemoryError"
    assert isinstance(caught.value.__cause__, MemoryError)


def test_an_owner_that_refuses_a_tensor_or_loses_it_leaves_a_model_as_it_was() -> None:
    class Stubborn(nn.Linear):
        count = 0

        def __setattr__(self, key: str, value: Any) -> None:
            if key == "bias" and "bias" in vars(self).get("_parameters", {}) and not value.is_meta:
                vars(self)["count"] = self.count + 1
                raise TypeError("no")
            super().__setattr__(key, value)

    model = built_deferred(lambda: nn.Sequential(PaddedAndTied(), Stubborn(3, 3)))
    with restored(model), pytest.raises(ApplyError, match=r"1\.bias: it cannot be replaced"):
        initplug.apply(model, NORMAL, atomic=True)

    model = nn.Sequential(PaddedAndTied(), nn.Linear(3, 3))

    def steal(done: int, _: int) -> None:
        if done == 4:
            model[1].weight = nn.Parameter(torch.zeros(3, 3))

    with restored(model), pytest.raises(ApplyError) as caught:
        initplug.apply(model, NORMAL, progress=steal, atomic=True)
    assert str(caught.value).endswith(RESTORED)


def test_warnings_that_are_errors_leave_a_model_as_it_was() -> None:
    model = Shared()
    with restored(model), pytest.raises(initplug.InitplugWarning):  # as the tests have them
        initplug.apply(model, BUFFERS, atomic=True)


def test_files_that_go_away_leave_a_model_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"query.weight": torch.ones(4, 3)}, path)
    recipe = {"rules": {"*": "normal", "query.weight": f"load path={path}", "key.weight": "orthogonal"}}
    model = Copied()
    gone = mock.patch("initplug.filling.copies._window_of_file", side_effect=OSError("it went away"))
    with restored(model), gone, pytest.raises(ApplyError, match="it went away"):
        initplug.apply(model, recipe, seed=0, atomic=True)


# The copy.


def test_the_copy_is_taken_once_all_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    backed_up = backups.backed_up

    def watched(*given: Any) -> Any:
        taken.append(1)
        return backed_up(*given)

    monkeypatch.setattr(filling, "backed_up", watched)
    model = PaddedAndTied()
    for recipe, seed in (({"rules": {"*": "nothing"}}, 0), ({"rules": {"*.bias": 0}}, 0), (NORMAL, -1)):
        with pytest.raises(initplug.InitplugError):
            initplug.apply(model, recipe, atomic=True, seed=seed)
    initplug.apply(model, NORMAL)
    assert not taken
    initplug.apply(model, NORMAL, atomic=True)
    assert taken == [1]


def test_only_what_is_written_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    backed_up = backups.backed_up

    def weighed(*given: Any) -> Any:
        taken = backed_up(*given)
        sizes.append(sum(one.copy.nbytes for one in taken.values))
        return taken

    monkeypatch.setattr(filling, "backed_up", weighed)
    model = half_deferred()
    initplug.apply(model, NORMAL, atomic=True, only="0.*")
    initplug.apply(model, NORMAL, atomic=True)
    tied = 4 * (7 * 5 + 5 + 5 + 7)
    assert sizes == [tied, tied + 4 * (9 + 3)]  # nothing for the LSTM, which was on meta
    assert initplug.plan(PaddedAndTied(), NORMAL).summary["atomic"] == tied
    kept = {"rules": {**NORMAL["rules"], "norm.*": "keep"}}
    assert initplug.plan(PaddedAndTied(), kept).summary["atomic"] == tied - 4 * 10
    with torch.device("meta"):
        assert initplug.plan(PaddedAndTied().half(), kept).summary["atomic"] == (tied - 4 * 10) // 2


def test_no_memory_for_the_copy_is_one_clear_error() -> None:
    model, said = PaddedAndTied(), RuntimeError("DefaultCPUAllocator: can't allocate memory\nand more")
    with restored(model), mock.patch.object(Tensor, "clone", side_effect=said), pytest.raises(ApplyError) as caught:
        initplug.apply(model, NORMAL, atomic=True)
    assert str(caught.value) == (
        "atomic=True takes a copy of what is going to be written, 0.0 MB, and there is no memory for it (RuntimeError: "
        "DefaultCPUAllocator: can't allocate memory); nothing has been written"
    )


def test_without_it_a_failure_says_how_far_it_came() -> None:
    model = nn.Linear(3, 3)

    def progress(done: int, _: int) -> None:
        if done == 1:
            raise OSError("the disk is full")

    with pytest.raises(ApplyError, match="1 of 2 slots had been written") as caught:
        initplug.apply(model, NORMAL, progress=progress)
    assert "as it was" not in str(caught.value)


def test_what_cannot_be_restored_is_said() -> None:
    model = PaddedAndTied()

    def progress(done: int, _: int) -> None:
        raise OSError("the disk is full")

    lost = mock.patch.object(backups, "put_back", side_effect=RuntimeError("the device is gone"))
    with lost, pytest.raises(ApplyError) as caught:
        initplug.apply(model, NORMAL, progress=progress, atomic=True)
    assert "\nWhat was there could not be restored: RuntimeError: the device is gone" in str(caught.value)
