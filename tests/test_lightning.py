"""The callback of Lightning, with and without it."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import sys
from collections.abc import Callable, Iterator
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


class Built(nn.Module):
    """A module that builds its head as it is set up, guarded or anew each time; Lightning says for what."""

    def __init__(self, *, once: bool = True) -> None:
        super().__init__()
        self.once = once
        self.body = nn.Linear(4, 4)
        self.head: nn.Module | None = None

    def setup(self, stage: str) -> None:
        assert stage == "fit"
        if self.head is None or not self.once:
            self.head = nn.Linear(4, 2)


def fit(callback: Any, model: Any, trainer: Any = None) -> None:
    """What Lightning calls, in its order, before a module is wrapped and moved."""
    callback.setup(trainer, model, "fit")
    for hook, arguments in (("setup", {"stage": "fit"}), ("configure_model", {})):
        if hasattr(model, hook):
            getattr(model, hook)(**arguments)
    callback.on_fit_start(trainer, model)


@pytest.mark.parametrize("seed", [3, None])
def test_what_a_module_builds_as_it_is_set_up_is_initialised_too(seed: int | None) -> None:
    callback, model, expected = initplug.lightning.Initialize("torch_default", seed=seed), Built(), Built()
    expected.setup("fit")
    torch.manual_seed(5)
    callback.setup(None, model, "fit")
    assert not vars(callback)["audit"]
    model.setup(stage="fit")
    assert "setup" not in vars(model)
    torch.manual_seed(5)
    if seed is None:
        nn.Linear(4, 2)  # which `setup` has drawn
    initplug.apply(expected, "torch_default", seed=seed)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), expected.parameters(), strict=True))
    callback.on_fit_start(None, model)
    assert callback.audit is not None and callback.audit.summary["status"] == {"initialized": 4}


def test_a_module_is_complete_once_the_last_of_its_hooks_has_run() -> None:
    class Both(Built, Late):
        def __init__(self) -> None:
            super().__init__()
            self.net = None

    callback, model = initplug.lightning.Initialize(HALVES), Both()
    fit(callback, model)
    assert callback.audit is not None and callback.audit.summary["status"] == {"initialized": 6}


def test_training_does_not_begin_with_a_module_that_was_never_set_up() -> None:
    callback, model = initplug.lightning.Initialize(HALVES), Built()
    callback.setup(None, model, "fit")
    with pytest.raises(
        initplug.ApplyError, match=r"Built\.setup was not called before training began, so that nothing"
    ):
        callback.on_fit_start(None, model)


@pytest.mark.parametrize("how", ["state_dict", "data", "copy_"])
def test_what_a_module_loads_as_it_is_set_up_stays(how: str) -> None:
    class Loads(Built):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            weights = torch.full((4, 4), 7.0)
            if how == "state_dict":
                self.body.load_state_dict({"weight": weights, "bias": torch.zeros(4)})
            elif how == "data":
                self.body.weight.data.copy_(weights)
            else:
                with torch.no_grad():
                    self.body.weight.copy_(weights)

    callback, model = initplug.lightning.Initialize(HALVES), Loads()
    written = ["body.weight", "body.bias"] if how == "state_dict" else ["body.weight"]
    count = len(written)
    with pytest.warns(initplug.InitplugWarning) as warned:
        fit(callback, model)
    assert [str(one.message) for one in warned] == [
        f"the hooks of Loads wrote {count} of its tensors, which stay as they are: {', '.join(written)}"
    ]
    assert (model.body.weight == 7).all()
    assert isinstance(model.head, nn.Linear) and (model.head.weight == 0.5).all()
    assert callback.audit is not None
    assert [row.name for row in callback.audit if row.status == "kept"] == written


def test_buffers_that_a_module_writes_as_it_is_set_up_stay_if_a_rule_selects_them() -> None:
    class Loads(Built):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(3))
            self.register_buffer("other", torch.zeros(3))

        def setup(self, stage: str) -> None:
            super().setup(stage)
            for buffer in self.buffers():
                buffer.fill_(7)

    rules = {**HALVES["rules"], "tables": {"match": "table", "init": 1, "kind": "buffer"}}
    callback, model = initplug.lightning.Initialize({"rules": rules}), Loads()
    with pytest.warns(initplug.InitplugWarning, match="wrote 1 of its tensors, which stay as they are: table$"):
        fit(callback, model)
    assert [*map(float, map(torch.mean, model.buffers()))] == [7, 7]
    callback, model = initplug.lightning.Initialize(HALVES), Loads()
    fit(callback, model)
    assert (model.body.weight == 0.5).all()


def test_what_takes_the_place_of_a_parameter_is_no_parameter_that_was_written() -> None:
    class Replaces(Built):
        def setup(self, stage: str) -> None:
            for _ in range(8):  # which take each other's memory, and so their ids
                del self.body.weight
                self.body.weight = nn.Parameter(torch.ones(4, 4))
            super().setup(stage)

    callback, model = initplug.lightning.Initialize(HALVES), Replaces()
    fit(callback, model)
    assert (model.body.weight == 0.5).all()
    assert callback.audit is not None and callback.audit.summary["status"] == {"initialized": 4}


def test_casting_a_module_as_it_is_set_up_writes_nothing() -> None:
    class Cast(Built):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.to(torch.bfloat16)

    callback, model = initplug.lightning.Initialize(HALVES), Cast()
    fit(callback, model)
    assert (model.body.weight == 0.5).all() and model.body.weight.dtype == torch.bfloat16


COPIES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda one: one,
    "a deep copy": copy.deepcopy,
    "a pickled copy": lambda one: pickle.loads(pickle.dumps(one)),
}


@pytest.mark.parametrize("of_callback", ["itself", "a deep copy", "a pickled copy", "a new one"])
@pytest.mark.parametrize("of_model", COPIES)
@pytest.mark.parametrize("kind", [lambda: nn.Linear(4, 2), Late, Built])
def test_a_second_fit_goes_on_with_what_was_trained(kind: Any, of_model: str, of_callback: str) -> None:
    first, model = initplug.lightning.Initialize(HALVES, seed=1), kind()
    fit(first, model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(3)
    model = COPIES[of_model](model)
    new = initplug.lightning.Initialize(HALVES, seed=1)
    fit(new if of_callback == "a new one" else COPIES[of_callback](first), model)
    assert all((parameter == 3).all() for parameter in model.parameters())


def test_another_recipe_or_seed_for_a_module_that_was_trained_is_told_of() -> None:
    model = nn.Linear(4, 2)
    fit(initplug.lightning.Initialize("torch_default", seed=1), model)
    before = model.weight.clone()
    for recipe, seed, given in (
        ("torch_default", 2, "torch_default with seed=2"),
        (HALVES, 1, "the recipe with seed=1"),
        (initplug.plan(model, HALVES), None, "the recipe with seed=None"),
    ):
        callback = initplug.lightning.Initialize(recipe, seed=seed)  # type: ignore[arg-type]  # a plan is taken, too
        with pytest.warns(initplug.InitplugWarning) as warned:
            fit(callback, model)
        assert [str(one.message) for one in warned] == [
            f"Linear was initialised before, by torch_default with seed=1, and goes on as it is: {given} is not "
            "applied; initplug.apply draws anew"
        ]
        assert torch.equal(model.weight, before) and callback.audit is None
    fit(initplug.lightning.Initialize("torch_default", seed=2), model, type("Trainer", (), {"is_global_zero": False})())


def test_what_a_second_fit_builds_anew_is_told_of() -> None:
    callback, model = initplug.lightning.Initialize(HALVES), Built(once=False)
    fit(callback, model)
    with pytest.warns(initplug.InitplugWarning) as warned:
        fit(callback, model)
    assert [str(one.message) for one in warned] == [
        "Built was initialised before, and its hooks have built 2 of its parameters anew, which stay as they are: "
        "head.weight, head.bias; build them once, or call initplug.apply(…, only=…)"
    ]


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
