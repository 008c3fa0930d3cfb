"""The callback of Lightning, with and without it."""

from __future__ import annotations

import importlib
import json
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


def test_only_one_process_writes_the_report(tmp_path: Path) -> None:
    trainer = type("Trainer", (), {"is_global_zero": False})()
    callback = initplug.lightning.Initialize({"rules": {"*": 0}}, report=str(tmp_path / "audit.json"))
    callback.setup(trainer, nn.Linear(4, 2, bias=False), "fit")
    assert callback.audit is not None
    assert not (tmp_path / "audit.json").exists()
