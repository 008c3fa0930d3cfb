"""`plan`, `apply` and `show` with an application's own config: one config, sweeps, and every way to be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import initplug
from initplug.cli.commands import commands
from initplug.language.preset_list import presets

NET = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, width, depth=1):
        super().__init__()
        self.body = nn.Sequential(*[nn.Conv2d(width, width, 3) for _ in range(depth)])
        self.bn, self.fc = nn.BatchNorm2d(width), nn.Linear(width, 10)


def broken(**_):
    raise RuntimeError("no\\nway")


def number(**_):
    return 3
"""
CONFIG = """\
defaults:
  - init: resnext
  - _self_
width: 4
model: {_target_: hydra_app_net.Net, width: "${width}", depth: 1}
"""
MINE = """\
defaults: [resnext, _self_]
rules:
  bn: {init: 0.5}
  conv: {init: {mode: fan_in}}
"""

OPTIONS = sorted([*presets(), "bad", "mine", "unfinished"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf" / "init").mkdir(parents=True)
    (tmp_path / "hydra_app_net.py").write_text(NET)
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    (tmp_path / "conf" / "init" / "mine.yaml").write_text(MINE)
    (tmp_path / "conf" / "init" / "bad.yaml").write_text(MINE.replace("fan_in", "fan_inn"))
    (tmp_path / "conf" / "init" / "unfinished.yaml").write_text("rules: {a: 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "hydra_app_net", raising=False)
    return tmp_path


def run(command: str, *words: str) -> Result:
    return CliRunner().invoke(commands, [command, "--config-dir", "conf", "--config-name", "config", *words])


def test_show_prints_the_composed_recipe_of_the_config(folder: Path) -> None:
    done = run("show", "init=mine", "init.rules.bias=null")
    assert done.exit_code == 0
    assert done.stdout == initplug.load(folder / "conf/init/mine.yaml", ["rules.bias=null"]).to_yaml()


def test_show_needs_no_torch(folder: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "initplug", "show", "--config-dir", "conf"]
    done = subprocess.run(
        [*command, "--config-name", "config"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0
    assert "name: resnext" in done.stdout
    assert " torch\n" not in done.stderr


def test_plan_builds_the_config_s_own_model(folder: Path) -> None:
    done = run("plan", "model.depth=2", "init=mine", "width=8", "--json")
    assert done.exit_code == 0
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["body.1.weight"]["shape"] == [8, 8, 3, 3]
    assert rows["body.1.weight"]["init"] == "kaiming_normal"
    assert rows["bn.weight"]["mean"] == 0.5
    assert rows["bn.weight"]["location"] == "resnext.yaml:24"


def test_apply_writes_what_the_config_says(folder: Path) -> None:
    done = run("apply", "init=wrn", "--seed", "3", "--out", "out.safetensors", "--report", "audit.json")
    assert done.exit_code == 0, done.output
    report = json.loads(Path("audit.json").read_text())
    assert (report["recipe"], report["seed"], report["summary"]["verdict"]) == ("wrn", 3, {"ok": 6})
    assert Path("out.safetensors").is_file()


def test_a_sweep_prints_a_line_for_every_combination_and_what_differs(folder: Path) -> None:
    done = run("plan", "init=resnext,mine", "width=4")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout == (
        "init=resnext: resnext: 6 slots, 206 elements\n"
        "init=mine: resnext: 6 slots, 206 elements\n"
        "\n"
        " parameter  init=resnext  init=mine\n"
        "───────────────────────────────────────\n"
        " bn.weight  constant 1    constant 0.5\n"
        "1 of 6 slots differ\n"
    )


def test_a_sweep_is_the_product_of_what_is_swept_in_the_order_of_hydra(folder: Path) -> None:
    lines = run("plan", "init=resnext,wrn", "model.depth=1", "width=4,8").stdout.splitlines()
    assert lines[:4] == [
        "init=resnext width=4: resnext: 6 slots, 206 elements",
        "init=resnext width=8: resnext: 6 slots, 690 elements",
        "init=wrn width=4: wrn: 6 slots, 206 elements",
        "init=wrn width=8: wrn: 6 slots, 690 elements",
    ]


def test_slots_that_only_some_combinations_have_differ(folder: Path) -> None:
    lines = run("plan", "model.depth=range(1,4)").stdout.splitlines()
    assert lines[:3] == [
        "model.depth=1: resnext: 6 slots, 206 elements",
        "model.depth=2: resnext: 8 slots, 354 elements",
        "model.depth=3: resnext: 10 slots, 502 elements",
    ]
    assert lines[6].split()[:2] == ["body.1.weight", "–"]
    assert lines[-1] == "4 of 10 slots differ"


def test_a_sweep_of_what_changes_nothing_says_so(folder: Path) -> None:
    assert run("plan", "init.unused=warn,ignore").stdout.endswith("\n\nno differences\n")


def test_a_sweep_as_json_holds_every_plan(folder: Path) -> None:
    plans = json.loads(run("plan", "init=resnext,wrn", "width=5", "--json").stdout)
    assert [plan["overrides"] for plan in plans] == [["init=resnext"], ["init=wrn"]]
    assert [plan["plan"]["recipe"] for plan in plans] == ["resnext", "wrn"]


def test_an_override_with_a_space_in_it_is_one_in_the_json_of_a_sweep(folder: Path) -> None:
    plans = json.loads(run("plan", "init.rules.classifier.init='xavier_uniform relu',0", "--json").stdout)
    assert [len(plan["overrides"]) for plan in plans] == [1, 1]
    assert "xavier_uniform relu" in plans[0]["overrides"][0]


def test_what_is_wrong_with_one_combination_leaves_the_others(folder: Path) -> None:
    done = run("plan", "init=resnext,bad,wrn")
    assert done.exit_code == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[:2]] == ["init=resnext", "init=wrn"]
    assert done.stderr.startswith("init=bad: conf/init/bad.yaml:4:23: init.rules.conv.init.mode: 'fan_inn' is not one ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "words", "status", "message"),
    [
        (
            "show",
            ["init.rules.conv.init.mode=fan_x"],
            1,
            "command line: init.rules.conv.init.mode=fan_x: init.rules.conv.init.mode: 'fan_x' is not one of fan_in, "
            "fan_out (did you mean fan_in?)",
        ),
        (
            "show",
            ["init=resnext,wrn"],
            2,
            "override: init=resnext,wrn: a sweep stands for many configs, and this takes one",
        ),
        (
            "apply",
            ["init=resnext,wrn"],
            2,
            "override: init=resnext,wrn: a sweep stands for many configs, and this takes one",
        ),
        ("plan", ["width=interval(1,2)"], 2, "override: width=interval(1,2): a sweep has no end of values"),
        ("show", ["a,b"], 2, "override: a,b: not in Hydra's notation, key=value: token recognition error at: ','"),
        (
            "show",
            ["init=nope"],
            2,
            f"the config group init has no nope; it has {', '.join(OPTIONS[:10])}, … and {len(OPTIONS) - 10} more",
        ),
        (
            "show",
            ["init=resnet"],
            2,
            "the config group init has no resnet (did you mean resnext?); it has "
            f"{', '.join(OPTIONS[:10])}, … and {len(OPTIONS) - 10} more",
        ),
        (
            "show",
            ["init.rules.nope=3"],
            1,
            "Could not override 'init.rules.nope'. To append to your config use +init.rules.nope=3 (Key 'nope' is not "
            "in struct)",
        ),
        ("show", ["~init"], 2, "conf/config has no init: choose a recipe, such as +init=resnext"),
        ("plan", ["model=null"], 2, "conf/config has no model, the class or function that makes the model"),
        (
            "plan",
            ["~model._target_"],
            2,
            "conf/config has no model._target_, the class or function that makes the model",
        ),
        (
            "plan",
            ["model._target_=hydra_app_net.broken"],
            1,
            "MODEL 'hydra_app_net.broken' raised RuntimeError: no; if it needs real values, try --real",
        ),
        (
            "plan",
            ["model._target_=hydra_app_net.number"],
            1,
            "MODEL 'hydra_app_net.number' gave a int, not a torch.nn.Module",
        ),
        (
            "plan",
            ["+model.wdith=3"],
            1,
            "MODEL 'hydra_app_net.Net' raised TypeError: Net.__init__() got an unexpected keyword argument 'wdith'",
        ),
        (
            "plan",
            ["init.rules.bias=null"],
            1,
            "PlanError: 3 of 6 parameters match no rule of resnext\n"
            "  body.0.bias  Conv2d       (4,)\n"
            "  bn.bias      BatchNorm2d  (4,)\n"
            "  fc.bias      Linear       (10,)\n"
            "Add a rule, or, for a model that is not on meta, set `unmatched: keep` to leave them as constructed.",
        ),
    ],
)
def test_everything_that_is_wrong_ends_in_a_message(
    folder: Path, command: str, words: list[str], status: int, message: str
) -> None:
    done = run(command, *words)
    told = done.stderr.replace(". Did you mean 'width'?", "")  # which Python 3.13 adds to its own errors
    assert (done.exit_code, told) == (status, message + "\n")


def test_a_config_that_is_no_yaml_is_told_with_its_line(folder: Path) -> None:
    done = run("show", "init=unfinished")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"{folder}/conf/init/unfinished.yaml:2:1: not YAML: ")
    assert done.stderr.count("\n") == 1


def test_a_model_that_is_not_there_is_told_once(folder: Path) -> None:
    command = [sys.executable, "-m", "initplug", "plan", "--config-dir", "conf", "--config-name", "config"]
    command.append("model._target_=hydra_app_net.Ent")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("MODEL 'hydra_app_net.Ent' cannot be imported: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["show", "--config-name", "nope"],
            "Cannot find primary config 'nope'. Check that it's in your config search path.\n",
        ),
        (["show", "--config-dir", "nope", "--config-name", "config"], "nope: there is no such folder\n"),
        (["plan", "--config-dir", "conf"], "Error: --config-dir needs --config-name.\n"),
        (["show"], "Error: Missing argument 'RECIPE'.\n"),
        (["plan", "torch.nn:Linear(2, 2)"], "Error: Missing argument 'RECIPE'.\n"),
        (["apply"], "Error: Missing argument 'MODEL'.\n"),
    ],
)
def test_what_names_nothing_is_wrong_usage(folder: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 2
    assert done.stderr.endswith(message)


def test_the_folder_of_the_config_is_this_one_unless_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "conf")
    done = CliRunner().invoke(commands, ["show", "--config-name", "config"])
    assert done.exit_code == 0
    assert done.stdout == initplug.load("resnext").to_yaml()
