"""Recipes that Hydra composed: every override does what its reader thinks, and what is wrong is told with its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from applications import Application, composing, write_configs
from omegaconf import OmegaConf, open_dict
from recipe_errors import recipe_error
from torch import nn

import initplug


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_configs(tmp_path_factory.mktemp("user") / "conf")


@pytest.fixture
def application(conf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    monkeypatch.chdir(conf.parent)
    with composing(conf) as composed:
        yield composed


# Overrides.

FORMS = [
    "rules.conv.init.mode=fan_in",
    "rules.conv.init.nonlinearity=relu",
    "rules.classifier.init.mode=fan_out",
    "rules.conv.init=xavier_uniform relu",
    'rules.conv.init="xavier_uniform relu"',
    'rules.conv.init="xavier_uniform gain=relu"',
    "rules.conv.init=zeros",
    "rules.conv.init=0.5",
    "rules.bn.init=1e-3",
    "rules.bias=null",
    "~rules.bias",
    "rules.bias.match=[conv.bias, bn.bias]",
    "+rules.head={match: head.**, init: zeros}",
    "+rules.head={match: head.**, init: {fn: normal, std: 0.02, factor: {count: '<Linear>', times: 2}}}",
    "++rules.bn.init=2",
    "+rules.bn.optional=true",
    "+rules.bn.trainable=any",
    "unmatched=keep",
    "frozen=write",
]


def within(group: str, form: str) -> str:
    """An override of a recipe as one of an application's config."""
    sign = form[: len(form) - len(form.lstrip("+~"))]
    return f"{sign}{group}.{form.removeprefix(sign)}"


@pytest.mark.parametrize("form", FORMS)
def test_an_override_in_an_application_gives_what_it_gives_alone(application: Application, form: str) -> None:
    config = application(within("init", form))
    alone = initplug.load("resnext", [form])
    assert list(initplug.load(config.init).plain()["rules"].items()) == list(alone.plain()["rules"].items())
    assert initplug.load(config.init) == alone


def test_the_forms_that_a_reader_may_write_give_what_they_say(application: Application) -> None:
    def text(form: str, rule: str = "conv") -> str:
        read = initplug.load(application(form).init).rules[rule]
        return "disabled" if read is None else read.init.text

    assert text("init.rules.conv.init.mode=fan_in") == "kaiming_normal"
    assert text("init.rules.conv.init=xavier_uniform relu") == "xavier_uniform relu"
    assert text('init.rules.conv.init="xavier_uniform gain=relu"') == "xavier_uniform relu"
    assert text("init.rules.bias=null", "bias") == "disabled"
    assert text("+init.rules.head={match: head.**, init: zeros}", "head") == "zeros"


def test_groups_are_chosen_listed_and_placed_anywhere(application: Application) -> None:
    both = initplug.load(application("init=[resnext,mine]").init)
    assert list(both.rules) == ["conv", "bn", "bias", "classifier", "head"]
    assert both.rules["bn"] is not None and both.rules["bn"].init.text == "constant 0.5"
    assert initplug.load(application("init=mine").init) == both
    assert initplug.load(application(name="nested").model.init) == initplug.load("wrn")
    placed = application("init@model.init=resnext", name="nested").model.init
    assert initplug.load(placed) == initplug.load("resnext")


def test_one_file_is_read_alike_by_hydra_and_alone(application: Application, conf: Path) -> None:
    assert initplug.load(application("init=mine").init).plain() == initplug.load(conf / "init/mine.yaml").plain() | {
        "name": "resnext"
    }


def test_an_overridden_rule_keeps_its_place_and_an_added_one_goes_last(application: Application) -> None:
    config = application("+init.rules.head={match: head.*, init: 0}", "init.rules.conv.init=zeros")
    assert list(initplug.load(config.init).rules) == ["conv", "bn", "bias", "classifier", "head"]


# What is taken.


@dataclass
class Classifier:
    match: str = "<Linear>.weight"
    init: Any = "normal std=0.01"


@dataclass
class Rules:
    rest: Any = field(default_factory=lambda: {"match": "*", "init": 0})
    classifier: Classifier = field(default_factory=Classifier)


@dataclass
class Own:
    unmatched: str = "keep"
    rules: Rules = field(default_factory=Rules)


@pytest.mark.parametrize(
    "recipe",
    [
        Own(),
        asdict(Own()),
        OmegaConf.structured(Own),
        OmegaConf.to_container(OmegaConf.structured(Own)),
        OmegaConf.create({"init": Own()}).init,
        {"unmatched": "keep", "rules": OmegaConf.structured(Rules)},
        {
            "unmatched": "keep",
            "rules": OmegaConf.create({"rest": {"match": ["*"], "init": 0}, "classifier": Classifier()}),
        },
    ],
    ids=["dataclass", "mapping", "structured", "container", "part", "mixed", "mixed lists"],
)
def test_configs_containers_and_dataclasses_are_one(recipe: Any) -> None:
    model = nn.Linear(64, 64)
    audit = initplug.apply(model, recipe, seed=0)
    assert [row.init for row in audit] == ["normal std=0.01", "constant 0"]
    assert audit.problems() == []


def test_a_class_is_no_recipe() -> None:
    assert "a mapping or a Recipe, not a type" in recipe_error(Own)


def test_interpolations_are_resolved_against_the_whole_config(application: Application) -> None:
    recipe = initplug.load(application("init=wide", "mode=zeros").init)
    assert [rule and rule.init.text for rule in recipe.rules.values()] == ["normal std=32", "zeros"]


# Places.


@pytest.mark.parametrize(
    ("overrides", "name", "message"),
    [
        (
            ["init.rules.conv.init.mode=fan_x"],
            "config",
            "command line: init.rules.conv.init.mode=fan_x: init.rules.conv.init.mode: 'fan_x' is not one of ",
        ),
        (
            ["+init.rules.new={match: 'a[', init: 0}"],
            "config",
            "command line: +init.rules.new={match: 'a[', init: 0}: init.rules.new.match: "
            "bad selector 'a[': '[' is never closed",
        ),
        (
            ["init@model.init=mine", "model.init.rules.head.init.std=-2"],
            "nested",
            "command line: model.init.rules.head.init.std=-2: model.init.rules.head.init.std: -2 is not a number ",
        ),
        (
            ["experiment=wide"],
            "config",
            "conf/experiment/wide.yaml:6:24: init.rules.head.init.std: -1 is not a number ",
        ),
        (
            ["init=wide", "width=-3", "mode=zeros"],
            "config",
            "conf/init/wide.yaml:4:30: init.rules.conv.init.std: -3 is not a number ",
        ),
        (
            ["init=missing"],
            "config",
            "conf/init/missing.yaml:4:26: init.rules.fc.init: Missing mandatory value: init",
        ),
        (
            ["init.rules.conv.match=???"],
            "config",
            "<config>: init.rules.conv.match: Missing mandatory value: match",
        ),
        (
            ["init=wide", "~mode"],
            "config",
            "conf/init/wide.yaml:5:29: init.rules.rest.init: Interpolation key 'mode' not found",
        ),
        (
            ["init=anchored"],
            "config",
            "conf/init/anchored.yaml:2:69: init.rules.conv.init.mode: 'fan_inn' is not one of \n"
            "conf/init/anchored.yaml:3:3: init.rules.fc.init.mode: 'fan_inn' is not one of ",
        ),
        (
            ["init.rules.conv.init.fn=constant", "+init.rules.conv.init.value=2", "~init.rules.conv.init.nonlinearity"],
            "config",
            "resnext.yaml:23:32: init.rules.conv.init.mode: constant takes no mode: it is left over from ",
        ),
        (
            ["init=mine", "init.rules.head.init.fn=xavier_normal"],
            "config",
            "conf/init/mine.yaml:6:24: init.rules.head.init.std: xavier_normal takes no std: it is left over from "
            "normal, since merging keeps keys (to replace the whole initializer, write init: xavier_normal)",
        ),
    ],
)
def test_what_is_wrong_is_told_with_the_line_that_it_came_from(
    application: Application, overrides: list[str], name: str, message: str
) -> None:
    config = application(*overrides, name=name)
    lines = recipe_error(config.init if name == "config" else config.model.init).splitlines()
    for line, beginning in zip(lines, message.splitlines(), strict=True):
        assert line.startswith(beginning)


def test_overrides_with_interpolations_hide_no_places(application: Application) -> None:
    config = application("init.rules.conv.init.mode=${mode}", "mode=fan_x", "+copy=${init}")
    assert recipe_error(config.init).startswith(
        "command line: init.rules.conv.init.mode=${mode}: init.rules.conv.init.mode: 'fan_x' is not one of "
    )


@pytest.mark.parametrize(
    ("overrides", "left_out"),
    [
        (["init=excepting"], "stem.**"),
        (["init=excluding"], "head.**"),
        (["init=excepting", "+init.rules.conv.exclude=x"], "x"),
        (["init=excluding", "init.rules.conv.except=y"], "y"),
        (["init=excluding", "init.rules.conv.exclude=x"], "x"),
        (["init=excepting", "+init.rules.conv.exclude=null"], "stem.**"),
    ],
)
def test_of_except_and_exclude_the_later_layer_s_counts(
    application: Application, overrides: list[str], left_out: str
) -> None:
    recipe = initplug.load(application(*overrides).init)
    assert recipe.plain()["rules"]["conv"]["except"] == left_out
    assert recipe.location("conv") == "resnext.yaml:21"


def test_except_and_exclude_of_one_file_are_refused_with_their_place(application: Application) -> None:
    assert recipe_error(application("init=both").init).startswith(
        "conf/init/both.yaml:3:27: init.rules.conv.exclude: except and exclude are two names "
    )


def test_rules_are_located_for_plans_and_audits(application: Application) -> None:
    recipe = initplug.load(application("init=mine", "+init.rules.fc={match: fc.bias, init: 0}").init)
    assert [recipe.location(name) for name in recipe.rules] == [
        "resnext.yaml:21",
        "resnext.yaml:24",
        "resnext.yaml:27",
        "resnext.yaml:30",
        "conf/init/mine.yaml:4",
        "command line: +init.rules.fc={match: fc.bias, init: 0}",
    ]


def test_what_code_set_has_no_place_but_the_config(application: Application) -> None:
    config = application("init=mine")
    with open_dict(config):
        config.init.rules.head.init.std = -3
        config.init.rules.added = {"match": "[", "init": 0}
    assert recipe_error(config.init) == (
        "<config>: init.rules.head.init.std: -3 is not a number of at least 0\n"
        "<config>: init.rules.added.match: bad selector '[': '[' is never closed"
    )


def test_a_config_of_another_composition_has_the_places_of_its_own(application: Application) -> None:
    config = application("init=mine", "init.rules.head.init.std=-3")
    application("init=wrn")
    assert recipe_error(config.init) == (
        "command line: init.rules.head.init.std=-3: init.rules.head.init.std: -3 is not a number of at least 0"
    )


@pytest.mark.parametrize("broken", ["compute_defaults_list", "nothing"])
def test_where_places_cannot_be_told_the_path_is(
    application: Application, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    from hydra.core.global_hydra import GlobalHydra

    config = application("init=mine", "init.rules.head.init.std=-3")
    if broken == "nothing":
        GlobalHydra.instance().clear()
    else:
        loader = GlobalHydra.instance().config_loader()
        monkeypatch.setattr(loader, broken, lambda *_, **__: 1 / 0)
    assert recipe_error(config.init) == "<config>: init.rules.head.init.std: -3 is not a number of at least 0"


APP = """\
import hydra
import initplug
from initplug.cli.hydra_config import version_base
from torch import nn


@hydra.main(config_path="conf", config_name="config", **version_base())
def main(config):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8))
    audit = initplug.apply(model, config.init, seed=0)
    print(config.init.name, audit["0.weight"].init, audit["0.weight"].location, audit["1.weight"].location)


if __name__ == "__main__":
    main()
"""


def line_of(preset: str, rule: str) -> int:
    file = Path(initplug.__file__).parent / "presets" / "init" / f"{preset}.yaml"
    (line,) = (line for line, text in enumerate(file.read_text().splitlines(), 1) if text.startswith(f"  {rule}:"))
    return line


def test_under_hydra_main_alone_and_in_a_sweep(conf: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf").symlink_to(conf)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "app.py", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env={**os.environ}
        )

    done = run("-m", "init=resnext,torch_default", "hydra.sweep.dir=.", "hydra.job.chdir=true")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("[")]
    conv, bn, every = line_of("resnext", "conv"), line_of("resnext", "bn"), line_of("torch_default", "all")
    assert lines == [
        f"resnext kaiming_normal fan_out resnext.yaml:{conv} resnext.yaml:{bn}",
        f"torch_default default keep torch_default.yaml:{every} torch_default.yaml:{every}",
    ]
    done = run("init.rules.conv.init.mode=fan_x")
    assert done.returncode == 1
    assert "RecipeError: command line: init.rules.conv.init.mode=fan_x: init.rules.conv.init.mode: " in done.stderr
