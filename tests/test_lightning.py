"""The callback of Lightning, with and without it."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import initplug
import initplug.lightning


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning", None])
def callbacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, type]]:
    """The module, read again where Lightning is this package, and the base class of its callbacks."""
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    base: type = object
    if request.param is not None:
        package = ModuleType(request.param)
        base = package.Callback = type("Callback", (), {})  # type: ignore[attr-defined]  # a stand-in for the package
        for name in (request.param, request.param.partition(".")[0]):
            monkeypatch.setitem(sys.modules, name, package)
    yield importlib.reload(initplug.lightning), base
    monkeypatch.undo()
    importlib.reload(initplug.lightning)


def test_the_model_is_initialised_once_when_fitting_begins(callbacks: tuple[Any, type], tmp_path: Path) -> None:
    module, base = callbacks
    callback: Any = module.Initialize("torch_default", seed=3, report=str(tmp_path / "audit.json"))
    assert base in type(callback).__mro__
    model, reference = nn.Linear(4, 2), nn.Linear(4, 2)
    initplug.apply(reference, "torch_default", seed=3)

    before = model.weight.clone()
    callback.setup(None, model, "validate")
    assert torch.equal(model.weight, before)

    callback.setup(None, model, "fit")
    assert torch.equal(model.weight, reference.weight)
    assert json.loads((tmp_path / "audit.json").read_text())["seed"] == 3
    assert callback.audit is not None and callback.audit.problems() == []

    with torch.no_grad():
        model.weight.zero_()
    callback.setup(None, model, "fit")
    assert not model.weight.any()


@pytest.mark.parametrize("report", ["audit.txt", "no/audit.json", "folder.json"])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_drawn(tmp_path: Path, report: str) -> None:
    (tmp_path / "folder.json").mkdir()
    callback, model = initplug.lightning.Initialize("torch_default", report=str(tmp_path / report)), nn.Linear(4, 2)
    before = model.weight.clone()
    with pytest.raises(initplug.InitplugError, match=report):
        callback.setup(None, model, "fit")
    assert torch.equal(model.weight, before) and callback.audit is None


def test_only_one_process_writes_the_report(tmp_path: Path) -> None:
    trainer = type("Trainer", (), {"is_global_zero": False})()
    callback = initplug.lightning.Initialize({"rules": {"*": 0}}, report=str(tmp_path / "audit.json"))
    callback.setup(trainer, nn.Linear(4, 2, bias=False), "fit")
    assert callback.audit is not None
    assert not (tmp_path / "audit.json").exists()


class Late(nn.Module):
    """A module that builds itself in one of Lightning's hooks; calling it twice does no harm, as Lightning asks."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module | None = None

    def configure_model(self) -> None:
        if self.net is None:
            self.net = nn.Linear(4, 2)


class Older(nn.Module):
    """The same under the older name of the hook."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module | None = None

    def configure_sharded_model(self) -> None:
        self.net = nn.Linear(4, 2)


HALVES = {"rules": {"*.weight": 0.5, "*.bias": 0}}


@pytest.mark.parametrize(("kind", "hook"), [(Late, "configure_model"), (Older, "configure_sharded_model")])
def test_a_module_that_builds_itself_is_initialised_as_soon_as_it_is_built(
    kind: Any, hook: str, tmp_path: Path
) -> None:
    callback, model = initplug.lightning.Initialize(HALVES, report=str(tmp_path / "audit.json")), kind()
    callback.setup(None, model, "fit")
    assert callback.audit is None
    getattr(model, hook)()
    assert (model.net.weight == 0.5).all()
    assert (tmp_path / "audit.json").exists()
    assert hook not in vars(model)  # the hook is the module's own again
    callback.on_fit_start(None, model)

    with torch.no_grad():
        model.net.weight.fill_(3)
    callback.setup(None, model, "fit")
    if kind is Late:
        model.configure_model()
    assert (model.net.weight == 3).all()


def test_training_does_not_begin_with_a_module_that_was_never_built() -> None:
    callback, model = initplug.lightning.Initialize(HALVES), Late()
    callback.setup(None, model, "fit")
    with pytest.raises(initplug.ApplyError) as refused:
        callback.on_fit_start(None, model)
    assert str(refused.value) == (
        "Late.configure_model was not called before training began, so that nothing is initialised; call "
        "initplug.apply at its end instead of using this callback"
    )


def test_every_module_is_initialised_once() -> None:
    callback = initplug.lightning.Initialize(HALVES)
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    for model in (first, second):
        callback.setup(None, model, "fit")
        assert (model.weight == 0.5).all()
    with torch.no_grad():
        first.weight.fill_(3)
    callback.setup(None, first, "fit")
    assert (first.weight == 3).all()


def test_a_callback_stays_fit_for_other_processes() -> None:
    callback, model = initplug.lightning.Initialize(HALVES), nn.Linear(4, 2)
    callback.setup(None, model, "fit")
    assert pickle.loads(pickle.dumps(callback)).audit is not None


def test_the_hook_of_lightning_itself_builds_nothing() -> None:
    base = type("LightningModule", (nn.Module,), {"configure_model": lambda self: None, "__module__": "lightning.core"})
    model = base()
    model.net = nn.Linear(4, 2)
    initplug.lightning.Initialize(HALVES).setup(None, model, "fit")
    assert (model.net.weight == 0.5).all()
