"""A recipe is data: whatever it holds, nothing of it is instantiated, called or imported."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applications import Application, composing
from click.testing import CliRunner
from omegaconf import OmegaConf
from torch import nn

import initplug
from initplug.cli.commands import commands
from initplug.language.yaml import written as yaml_of

MODULE = "trap_of_a_recipe"
TRAPS: list[dict[str, Any]] = [
    {"_target_": f"{MODULE}.spring"},
    {"_target_": f"{MODULE}.spring", "_args_": [1], "_partial_": True},
    {"_target_": "os.system", "command": "touch sprung"},
]
WHOLE: dict[str, Any] = {
    "name": "trapped",
    "rules": {
        "conv": {
            "match": ["weight"],
            "except": "nothing",
            "init": {"fn": "normal", "std": 0.5, "factor": [{"count": "*", "times": 2}]},
        },
        "packed": {"match": "bias", "init": {"split": [{"fn": "normal", "std": 1}, "zeros"]}},
        "fc*": {"fn": "uniform", "low": 0, "high": 1},
    },
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in the data: mappings, which get a trap inside, and all that a trap may stand for."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def trapped(path: tuple[str | int, ...], trap: dict[str, Any], *, inside: bool) -> Any:
    """The recipe with a trap at a place, or among the keys of the mapping that stands there."""
    whole: Any = {"root": copy.deepcopy(WHOLE)}
    node, (*steps, last) = whole, ("root", *path)
    for step in steps:
        node = node[step]
    node[last] = {**node[last], **trap} if inside and isinstance(node[last], dict) else dict(trap)
    return whole["root"]


PLACES = list(places(WHOLE))
TRAPPED = [trapped(path, trap, inside=inside) for path in PLACES for trap in TRAPS for inside in (True, False)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{MODULE}.py").write_text(
        "import pathlib\npathlib.Path('sprung').touch()\ndef spring(*_, **__): ...\n"
    )
    (tmp_path / "conf" / "init").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text(
        "defaults: [{init: trapped}, _self_]\nmodel: {_target_: torch.nn.Linear, in_features: 4, out_features: 4}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def is_safe(folder: Path) -> bool:
    return MODULE not in sys.modules and not (folder / "sprung").exists()


def test_the_recipe_without_traps_is_one_and_the_trap_works(folder: Path) -> None:
    assert initplug.plan(nn.Linear(4, 4), {"unused": "ignore", **WHOLE})["weight"].std == pytest.approx(0.5 / 2**0.5)
    __import__(MODULE)
    try:
        assert not is_safe(folder)
    finally:
        del sys.modules[MODULE]


@pytest.mark.parametrize("recipe", TRAPPED, ids=[f"{index}" for index in range(len(TRAPPED))])
def test_a_target_at_any_level_is_refused_and_does_nothing(folder: Path, recipe: Any) -> None:
    for source in (recipe, yaml_of(recipe), OmegaConf.create(recipe), OmegaConf.create({"init": recipe}).init):
        with pytest.raises(initplug.RecipeError):
            initplug.apply(nn.Linear(4, 4), source, seed=0)
    assert is_safe(folder)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "all")
def test_a_target_in_a_composed_recipe_is_refused_before_the_model_is_made(
    folder: Path, path: tuple[str | int, ...]
) -> None:
    (folder / "conf/init/trapped.yaml").write_text(yaml_of(trapped(path, TRAPS[0], inside=True)))
    words = ["--config-dir", "conf", "--config-name", "config", "model.in_features=${init}"]
    for command in ("show", "plan", "apply") if not path else ("plan",):
        done = CliRunner().invoke(commands, [command, *words])
        assert done.exit_code == 1
        assert "conf/init/trapped.yaml" in done.stderr
    assert is_safe(folder)


def test_under_hydra_the_recipe_is_refused_with_its_line(folder: Path) -> None:
    (folder / "conf/init/trapped.yaml").write_text(yaml_of(trapped(("rules", "conv", "init"), TRAPS[0], inside=True)))

    def applied(application: Application) -> None:
        initplug.apply(nn.Linear(4, 4), application().init)

    with composing(folder / "conf") as application, pytest.raises(initplug.RecipeError) as caught:
        applied(application)
    assert "init.rules.conv.init._target_: normal takes no _target_" in str(caught.value)
    assert str(caught.value).startswith("conf/init/trapped.yaml:")
    assert is_safe(folder)


def test_only_what_makes_the_model_of_a_config_instantiates() -> None:
    package = Path(initplug.__file__).parent
    calls = {"instantiate", "get_object", "get_class", "get_method", "call"}
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith("hydra.utils")
        and calls & {name.name for name in node.names}
    }
    assert found == {"cli/hydra_config.py"}
