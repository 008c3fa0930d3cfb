"""Faults keep their file and line wherever a config goes: through instantiate, hydra-zen, compose, as plain data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applications import Application, composing
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from recipe_errors import recipe_error
from torch import nn

import initplug
from initplug.cli.hydra_config import version_base

CONFIGS = {
    "config.yaml": """\
defaults:
  - init: mine
  - _self_
std: 1
callback:
  _target_: initplug.lightning.Initialize
  recipe: ${init}
trainer:
  callbacks:
    - _target_: initplug.lightning.Initialize
      recipe: ${init}
inline:
  _target_: initplug.lightning.Initialize
  recipe:
    rules:
      all: {match: "*", init: {fn: normal, std: -2}}
""",
    "init/mine.yaml": """\
defaults: [resnext, _self_]
rules:
  bn: {init: 0.5}
  classifier: {init: "normal std=${std}"}
""",
}
MINE = "conf/init/mine.yaml:4:23: init.rules.classifier.init: std: -1 is not a number of at least 0"
TRUSTED = {} if version_base() else {"_execution_whitelist_": ["initplug.lightning.Initialize"]}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in CONFIGS.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    return tmp_path / "conf"


@pytest.fixture
def application(conf: Path) -> Iterator[Application]:
    with composing(conf) as composed:
        yield composed


def told_by(callback: Any) -> str:
    """What a callback of Lightning says when it begins."""
    with pytest.raises(initplug.RecipeError) as caught:
        callback.setup(None, nn.Linear(2, 2), "fit")
    return str(caught.value)


# What Hydra hands on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", ["none", "partial", "object", "all"])
def test_through_instantiate(application: Application, convert: str) -> None:
    config = application("std=-1")
    assert told_by(instantiate(config.callback, _convert_=convert, **TRUSTED)) == MINE
    assert told_by(instantiate(config.trainer, _convert_=convert, **TRUSTED)["callbacks"][0]) == MINE


def test_what_stands_in_the_node_that_is_instantiated(application: Application) -> None:
    assert told_by(instantiate(application().inline, **TRUSTED)) == (
        "conf/config.yaml:16:49: inline.recipe.rules.all.init.std: -2 is not a number of at least 0"
    )


def test_an_override_is_told_through_instantiate(application: Application) -> None:
    override = "init.rules.conv.init.mode=fan_x"
    assert told_by(instantiate(application(override).callback, **TRUSTED)).startswith(
        f"command line: {override}: init.rules.conv.init.mode: 'fan_x' is not one of "
    )


def test_a_rule_that_was_given_a_value_is_offered_under_its_key_in_the_config(application: Application) -> None:
    said = recipe_error(application("init.rules.conv=zeros").init)
    assert said.endswith("; to change the rule called conv, set init.rules.conv.init=zeros)")
    initplug.load(application("init.rules.conv.init=zeros").init)
    assert "to change" not in recipe_error(application("+init.rules.fresh=zeros").init)


def test_as_plain_data_and_in_another_config(application: Application) -> None:
    config = application("std=-1")
    data = OmegaConf.to_container(config.init, resolve=True)
    assert recipe_error(data) == MINE
    assert recipe_error(OmegaConf.create(data)) == MINE
    assert recipe_error(OmegaConf.create({"a": {"b": data}}).a.b) == MINE


def test_rules_of_what_is_handed_on_are_located(application: Application) -> None:
    recipe = initplug.load(instantiate(application().callback, **TRUSTED).recipe)
    assert [recipe.location(name) for name in recipe.rules] == [
        "resnext.yaml:21",
        "resnext.yaml:24",
        "resnext.yaml:27",
        "resnext.yaml:30",
    ]


def test_data_that_are_no_part_of_the_config_have_no_place_in_it(application: Application) -> None:
    data: Any = OmegaConf.to_container(application("std=-1").init, resolve=True)
    data["rules"]["classifier"]["init"] = "normal std=-2"
    assert recipe_error(data) == "<mapping>: rules.classifier.init: std: -2 is not a number of at least 0"
    assert (
        recipe_error(OmegaConf.create(data)) == "<config>: rules.classifier.init: std: -2 is not a number of at least 0"
    )
    assert recipe_error({"rules": {"a*": -1, "b": 0}}).startswith("<mapping>: rules.b: ")


# compose ----------------------------------------------------------------------------------------------------


def test_a_config_that_was_composed_without_an_application(conf: Path) -> None:
    (conf / "config.yaml").write_text(CONFIGS["config.yaml"].replace("std: 1", "std: -1"))
    (conf / "broken.yaml").write_text("defaults: [nowhere]\n")
    with initialize_config_dir(str(conf), **version_base()):
        assert recipe_error(compose("config").init) == MINE
        assert recipe_error(compose("config", ["trainer=null"]).init) == MINE
        assert told_by(instantiate(compose("config").callback, **TRUSTED)) == MINE
        override = "init.rules.conv.init.mode=fan_x"
        known = compose("config", ["std=1", override], return_hydra_config=True)
        assert recipe_error(known.init).startswith(
            f"command line: {override}: init.rules.conv.init.mode: 'fan_x' is not"
        )
        assert recipe_error(compose("config", ["std=1", override]).init).startswith(
            "<config>: init.rules.conv.init.mode: "
        )
        last = compose("config")
    assert recipe_error(last.init) == "<config>: init.rules.classifier.init: std: -1 is not a number of at least 0"


def test_a_config_of_another_composition_is_not_taken_for_that_of_the_application(application: Application) -> None:
    other = compose("config", ["init.rules.conv.init.mode=fan_x"])
    application("init=wrn")
    assert recipe_error(other.init).startswith("<config>: init.rules.conv.init.mode: 'fan_x' is not one of ")


# Programs ---------------------------------------------------------------------------------------------------

APP = """\
import hydra
from hydra.utils import instantiate
from torch import nn
import initplug
from initplug.cli.hydra_config import version_base


@hydra.main(config_path="conf", config_name="config", **version_base())
def main(config):
    trusted = {} if version_base() else {"_execution_whitelist_": ["initplug.lightning.Initialize"]}
    try:
        instantiate(config.callback, **trusted).setup(None, nn.Linear(2, 2), "fit")
    except initplug.RecipeError as error:
        print(error)


main()
"""
ZEN = """\
from hydra_zen import builds, store, zen
import initplug
from initplug.lightning import Initialize
from torch import nn


def train(init, callback):
    for given in (init, callback.recipe):
        try:
            initplug.load(given)
        except initplug.RecipeError as error:
            print(error)


store(builds(Initialize, recipe="${init}"), group="callback", name="initialize")
store(train, name="config", hydra_defaults=["_self_", {"init": "torch_default"}, {"callback": "initialize"}])
store.add_to_hydra_store()
zen(train).hydra_main(config_name="config", version_base="1.3", config_path=None)
"""


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        (APP, ["std=-1"], [MINE]),
        (
            ZEN,
            ["+init.rules.b={match: bias, init: {fn: normal, std: -1}}"],
            [
                "command line: +init.rules.b={match: bias, init: {fn: normal, std: -1}}: "
                "init.rules.b.init.std: -1 is not a number of at least 0"
            ]
            * 2,
        ),
    ],
    ids=["hydra", "hydra-zen"],
)
def test_programs(conf: Path, program: str, words: list[str], expected: list[str]) -> None:
    (conf.parent / "app.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "app.py", *words], cwd=conf.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines() == expected, done.stderr


# Files that extend presets ----------------------------------------------------------------------------------

TOGETHER = [
    ("conv: {init: {fn: uniform}}", "7:16: rules.conv.init: uniform needs low (write uniform low=…)"),
    (
        "classifier: {init: {nonlinearity: relu, a: 1}}",
        "7:22: rules.classifier.init: kaiming_normal: a is the slope of leaky_relu and says nothing for relu",
    ),
    ("bn: {init: {fn: normal, std: -1}}", "7:32: rules.bn.init.std: -1 is not a number of at least 0"),
    ("conv: {match: 'a['}", "7:19: rules.conv.match: bad selector 'a[': '[' is never closed"),
    ("bn: {ndim: q}", "7:14: rules.bn.ndim: 'q' is not a number of dimensions (write 2, [2, 4] or '>=2')"),
]


@pytest.mark.parametrize(("rule", "message"), TOGETHER, ids=[rule for rule, _ in TOGETHER])
def test_what_a_file_makes_of_the_preset_that_it_extends_is_told_of_the_file(
    conf: Path, rule: str, message: str
) -> None:
    (conf / "init" / "mine.yaml").write_text(f"defaults: [resnext, _self_]\nrules:\n\n\n\n\n  {rule}\n")
    assert recipe_error("conf/init/mine.yaml").splitlines()[0] == f"conf/init/mine.yaml:{message}"
    with composing(conf) as composed:
        assert (
            recipe_error(composed().init).splitlines()[0]
            == f"conf/init/mine.yaml:{message.replace('rules', 'init.rules')}"
        )


def test_an_initializer_that_a_file_gives_a_rule_and_that_does_not_fit_is_told_of_the_file(conf: Path) -> None:
    (conf / "init" / "mine.yaml").write_text(
        "defaults: [resnext, _self_]\nunused: ignore\nrules:\n  bias: {init: kaiming_normal}\n"
    )
    model = nn.Conv2d(2, 2, 3)
    with pytest.raises(initplug.PlanError, match=r"rule 'bias' \"\*\.bias\" \(conf/init/mine\.yaml:4\)"):
        initplug.plan(model, "conf/init/mine.yaml")
    with composing(conf) as composed, pytest.raises(initplug.PlanError, match=r"\(conf/init/mine\.yaml:4\)"):
        initplug.plan(model, composed().init)
