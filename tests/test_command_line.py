"""The command line: exit status, what goes to which stream, laziness, and no traceback ever."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

import initplug
import initplug.cli.commands as cli
import initplug.cli.terminal as terminal
from initplug.language.preset_list import listed, presets

ROOT = Path(initplug.__file__).parents[1]
Runs = dict[str, "subprocess.CompletedProcess[str]"]

MODEL = """\
import pathlib
import time
import warnings

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(2, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 64)
        self.head = nn.Linear(width, 64, bias=False)
        self.head.weight = self.fc.weight


def net(width=4):
    return Net(width)


def chatty():
    print("hello from the constructor")
    warnings.warn("a warning from the constructor")
    return Net()


def broken():
    raise RuntimeError("the constructor\\nis broken")


def needs_values():
    return Net(4 if nn.Linear(2, 2).weight.sum().item() < 9 else 5)


class Stateful(Net):
    def get_extra_state(self):
        return {"steps": 3}


class Stateless(Net):
    def state_dict(self, **_):
        raise RuntimeError("there is\\nno state")


def waiting():
    return nn.Sequential(nn.LazyLinear(3))


def needs_numbers():
    return Net(int(torch.linspace(0, 4, 3)[-1].item()))


def mixes():
    net = Net()
    net.bn(torch.zeros(2, 4, 1, 1))
    return net


def no_module():
    return 3


def slow():
    pathlib.Path("ready").touch()
    time.sleep(60)


number = 3
"""
GOOD = """\
name: good
rules:
  conv: {match: <_ConvNd>.weight, init: {fn: kaiming_normal, mode: fan_out}}
  bn: {match: bn.weight, init: 1}
  fc: {match: fc.weight, init: normal std=0.5}
  bias: {match: "*.bias", init: 0}
"""
FILES = {
    "model.py": MODEL,
    "raising.py": "raise RuntimeError('no import\\ntoday')\n",
    "leaving.py": "raise SystemExit(5)\n",
    "unfinished.py": "def net(:\n",
    "good.yaml": GOOD,
    "other.yaml": GOOD.replace("std=0.5", "std=0.9"),
    "unused.yaml": GOOD + "  ghost: {match: ghost.weight, init: 0}\n",
    "dead.yaml": GOOD.replace("bn.weight,", "[bn.weight, bn.wieght],"),
    "noted.yaml": GOOD.replace("fc.weight", "(fc|tail).weight"),
    "expecting.yaml": GOOD.replace("init: 1}", "init: 1, expect: {per: bn, times: 2}}"),
    "unmatched.yaml": GOOD.replace('"*.bias"', "conv.bias"),
    "bad.yaml": GOOD.replace("fan_out", "fan_inn"),
    "star.yaml": "rules:\n  *.bias: 0\n",
    "top.yaml": "defaults: [good, _self_]\nrules:\n  bn: {init: 2}\n",
    "garbage.safetensors": "this is no safetensors file",
    "kept.safetensors": "left by somebody else",
}
FIRST: dict[str, list[str]] = {
    "presets": ["presets"],
    "presets of a name": ["presets", "resnet"],
    "presets of a family": ["presets", "wrn*", "--family", "CONVOLUTIONAL", "--json"],
    "presets of no name": ["presets", "bert2"],
    "presets of no family": ["presets", "--family", "poetry"],
    "presets for and named": ["presets", "resnet", "--for", "model.py:net"],
    "presets for": ["presets", "--for", "model.py:net"],
    "presets for nothing": ["presets", "--for", "nowhere.models:net"],
    "presets needs values": ["presets", "--for", "model.py:needs_values"],
    "presets real": ["presets", "--for", "model.py:needs_values", "--real"],
    "presets real alone": ["presets", "--real"],
    "show preset": ["show", "resnext"],
    "show": ["show", "good.yaml"],
    "show overridden": ["show", "top.yaml", "rules.conv.init.mode=fan_in", "+rules.x={match: 'fc.*', init: 0}"],
    "show missing": ["show", "nowhere.yaml"],
    "show preset as a file": ["show", "resnext.yaml"],
    "show unknown": ["show", "resnexxt"],
    "show directory": ["show", "."],
    "show bad": ["show", "bad.yaml"],
    "show bad override syntax": ["show", "good.yaml", "rules.bn.init=["],
    "show bad override": ["show", "good.yaml", "rules.conv.init.mode=fan_inn"],
    "check": ["check", "good.yaml", "top.yaml", "resnext"],
    "check bad": ["check", "good.yaml", "bad.yaml"],
    "check missing": ["check", "nowhere.yaml"],
    "check star": ["check", "star.yaml"],
    "schema": ["schema"],
    "help": ["--help"],
    "nothing": [],
    "unknown command": ["initialise"],
    "no arguments": ["plan"],
    "plan": ["plan", "model.py:net", "good.yaml"],
    "plan json": ["plan", "model:net(width=6)", "good.yaml", "--json"],
    "plan chatty": ["plan", "model.py:chatty", "good.yaml", "--json"],
    "plan overridden": ["plan", "model.py:net", "good.yaml", "rules.bn.init=5", "--json"],
    "plan unused": ["plan", "model.py:net", "unused.yaml"],
    "plan strict": ["plan", "model.py:net", "unused.yaml", "--strict"],
    "plan dead": ["plan", "model.py:net", "dead.yaml"],
    "plan dead strict": ["plan", "model.py:net", "dead.yaml", "--strict"],
    "plan noted": ["plan", "model.py:net", "noted.yaml", "--strict"],
    "plan unexpected": ["plan", "model.py:net", "expecting.yaml"],
    "plan strict fine": ["plan", "model.py:net", "good.yaml", "--strict"],
    "plan unmatched": ["plan", "model.py:net", "unmatched.yaml"],
    "plan needs values": ["plan", "model.py:needs_values", "good.yaml"],
    "plan needs numbers": ["plan", "model.py:needs_numbers", "good.yaml"],
    "plan mixes": ["plan", "model.py:mixes", "good.yaml"],
    "plan real": ["plan", "model.py:needs_values", "good.yaml", "--real"],
    "plan bad recipe": ["plan", "model.py:net", "bad.yaml"],
    "plan missing recipe": ["plan", "model.py:net", "nowhere.yaml"],
    "plan broken": ["plan", "model.py:broken", "good.yaml"],
    "unknown module": ["plan", "nowhere.models:net", "good.yaml"],
    "unknown file": ["plan", "nowhere.py:net", "good.yaml"],
    "unknown callable": ["plan", "model.py:nett", "good.yaml"],
    "no callable": ["plan", "model.py:number", "good.yaml"],
    "no colon": ["plan", "model.py", "good.yaml"],
    "raises on import": ["plan", "raising.py:net", "good.yaml"],
    "leaves on import": ["plan", "leaving:net", "good.yaml"],
    "syntax error": ["plan", "unfinished.py:net", "good.yaml"],
    "no literal": ["plan", "model.py:net(width=__import__('os').getpid())", "good.yaml"],
    "wrong argument": ["plan", "model.py:net(depth=3)", "good.yaml"],
    "no module": ["plan", "model.py:no_module", "good.yaml"],
    "apply": ["apply", "model.py:net", "good.yaml", "--out", "out.safetensors", "--report", "out.json"],
    "apply csv": ["apply", "model.py:net", "good.yaml", "--report", "out.csv"],
    "apply md": ["apply", "model.py:net", "good.yaml", "--report", "out.md"],
    "apply seed": ["apply", "model.py:net", "good.yaml", "--seed", "0", "--out", "seed.safetensors"],
    "apply bad seed": ["apply", "model.py:net", "good.yaml", "--seed", "-1", "--out", "bad_seed.safetensors"],
    "apply unmatched": ["apply", "model.py:net", "unmatched.yaml", "--out", "kept.safetensors"],
    "apply nowhere": ["apply", "model.py:net", "good.yaml", "--out", "no/such/folder/out.safetensors"],
    "apply stateful": ["apply", "model.py:Stateful", "good.yaml", "--out", "kept.safetensors"],
    "apply stateless": ["apply", "model.py:Stateless", "good.yaml", "--out", "kept.safetensors"],
    "apply waiting": ["apply", "model.py:waiting", "torch_default", "--out", "kept.safetensors"],
    "apply odd report": ["apply", "model.py:net", "good.yaml", "--report", "out.xyz"],
}
SECOND: dict[str, list[str]] = {
    "audit": ["audit", "model.py:net", "good.yaml", "--weights", "out.safetensors"],
    "audit other": ["audit", "model.py:net", "other.yaml", "--weights", "out.safetensors"],
    "audit seed": ["audit", "model.py:net", "good.yaml", "--weights", "seed.safetensors", "--seed", "0"],
    "audit other seed": ["audit", "model.py:net", "good.yaml", "--weights", "seed.safetensors", "--seed", "1"],
    "audit bad seed": ["audit", "model.py:net", "good.yaml", "--weights", "seed.safetensors", "--seed", "-1"],
    "audit missing": ["audit", "model.py:net", "good.yaml", "--weights", "nowhere.safetensors"],
    "audit garbage": ["audit", "model.py:net", "good.yaml", "--weights", "garbage.safetensors"],
    "audit wrong shapes": ["audit", "model.py:net(width=6)", "good.yaml", "--weights", "out.safetensors"],
}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}


def test_the_entry_point_is_that_of_the_folder_of_commands() -> None:
    assert import_module("initplug.__main__").main is import_module("initplug.cli").main


# `python -m initplug`, many times over: torch is imported once, and each command runs in a fork of that process.
DRIVER = """
import json, os, runpy, sys, traceback
import click, numpy, pydantic, rich.table, safetensors.torch, torch
for name, arguments in json.loads(sys.argv[1]).items():
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(f"{sys.argv[2]}/{name}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = ["initplug", *arguments]
        status = 0
        try:
            runpy.run_module("initplug", run_name="__main__", alter_sys=True)
        except SystemExit as leaving:
            status = leaving.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(f"{sys.argv[2]}/{name}.status", "w") as file:
        file.write(str(status))
"""


def run_all(folder: Path, logs: Path, commands: dict[str, list[str]]) -> Runs:
    driver = [sys.executable, "-c", DRIVER, json.dumps(commands), str(logs)]
    subprocess.run(driver, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, timeout=300, check=True)
    return {
        name: subprocess.CompletedProcess(
            arguments, int((logs / f"{name}.status").read_text()), *[(logs / f"{name}.{i}").read_text() for i in (1, 2)]
        )
        for name, arguments in commands.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (path / name).write_text(text)
    return path


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every command once, two at a time."""
    logs = tmp_path_factory.mktemp("logs")
    names = list(FIRST)
    halves = [{name: FIRST[name] for name in names[i::2]} for i in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda half: run_all(folder, logs, half), halves)
    return {**first, **second, **run_all(folder, logs, SECOND)}


def test_the_driver_runs_what_python_runs(folder: Path, runs: Runs) -> None:
    for name in ("show", "check bad", "plan", "plan unmatched", "unknown module"):
        command = [sys.executable, "-m", "initplug", *FIRST[name]]
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (
            runs[name].returncode,
            runs[name].stdout,
            runs[name].stderr,
        )


EXPECTED: list[tuple[set[int], str]] = [
    ({0}, "presets, presets for, show preset, show, show overridden, check, check star, schema, help"),
    ({0}, "plan, plan json, plan chatty, plan overridden, plan unused, plan strict fine, plan real"),
    ({0}, "plan needs numbers, plan mixes, plan dead, plan noted"),
    ({1}, "plan dead strict, plan unexpected"),
    ({0}, "apply, apply csv, apply md, apply seed, audit, audit seed"),
    ({1}, "show bad, show bad override, check bad, plan strict, plan unmatched, plan needs values, plan bad recipe"),
    (
        {1},
        "plan broken, apply unmatched, apply stateful, apply stateless, apply waiting, audit other, audit other seed",
    ),
    ({2}, "show missing, show unknown, show bad override syntax, check missing, unknown command, no arguments"),
    ({2}, "plan missing recipe, nothing, unknown module, unknown file, unknown callable, no callable, no colon"),
    ({2}, "raises on import, leaves on import, syntax error, no literal"),
    ({1, 2}, "wrong argument, no module, show directory, apply bad seed, apply nowhere, apply odd report"),
    ({2}, "presets for nothing, presets real alone"),
    ({2}, "presets of no name, presets of no family, presets for and named, show preset as a file"),
    ({0}, "presets real, presets of a name, presets of a family"),
    ({1}, "presets needs values"),
    ({1, 2}, "audit missing, audit garbage, audit wrong shapes, audit bad seed"),
]
STATUS = {name: status for status, names in EXPECTED for name in names.split(", ")}


def test_every_command_has_an_expected_status() -> None:
    assert set(STATUS) == set(FIRST) | set(SECOND)


@pytest.mark.parametrize("name", STATUS)
def test_exit_status(runs: Runs, name: str) -> None:
    assert runs[name].returncode in STATUS[name], runs[name].stderr


@pytest.mark.parametrize("name", STATUS)
def test_there_is_never_a_traceback(runs: Runs, name: str) -> None:
    for stream in (runs[name].stdout, runs[name].stderr):
        assert "Traceback" not in stream
        assert 'File "' not in stream


@pytest.mark.parametrize("name", [name for name, status in STATUS.items() if 0 not in status and name != "nothing"])
def test_a_failure_explains_itself_on_standard_error(runs: Runs, name: str) -> None:
    assert runs[name].stderr.strip() or name == "check bad"
    partly = (
        "plan unmatched",
        "plan strict",
        "plan dead strict",
        "plan unexpected",
        "check bad",
        "audit other",
        "audit other seed",
    )
    if name not in partly:
        assert runs[name].stdout == ""


@pytest.mark.parametrize(
    "name", ["presets", "show preset", "show", "show overridden", "schema", "help", "plan", "apply", "audit"]
)
def test_a_success_leaves_standard_error_empty(runs: Runs, name: str) -> None:
    assert runs[name].stderr == ""
    assert runs[name].stdout.strip()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("show missing", "nowhere.yaml"),
        ("show unknown", "resnext"),
        ("plan missing recipe", "nowhere.yaml"),
        ("unknown module", "nowhere"),
        ("unknown file", "nowhere.py"),
        ("unknown callable", "nett"),
        ("no callable", "number"),
        ("no colon", "model.py"),
        ("raises on import", "no import"),
        ("leaves on import", "leaving"),
        ("syntax error", "unfinished"),
        ("no literal", "width"),
        ("plan broken", "the constructor"),
        ("audit missing", "nowhere.safetensors"),
        ("audit garbage", "garbage.safetensors"),
        ("apply nowhere", "no/such/folder"),
        ("apply stateful", "_extra_state of the model's state_dict is a dict"),
        ("apply stateless", "state_dict raised RuntimeError: there is"),
    ],
)
def test_one_clear_line(runs: Runs, name: str, words: str) -> None:
    lines = [line for line in runs[name].stderr.splitlines() if line.strip()]
    assert len(lines) == 1, runs[name].stderr
    assert words in lines[0]


# ------------------------------------------------------------------------------ presets, show, check, schema


def test_presets_lists_every_preset_once_with_its_line_below_its_family(runs: Runs) -> None:
    found: dict[str, tuple[str, str]] = {}
    heading = ""
    for line in runs["presets"].stdout.splitlines():
        if line.startswith("  "):
            name, _, about = line.strip().partition(" ")
            assert name not in found
            found[name] = (heading, about.strip())
        else:
            heading = line
    assert sorted(found) == presets()
    for name, (family, about) in found.items():
        recipe = initplug.load(name)
        assert about == recipe.about
        assert isinstance(recipe.family, str) and recipe.family.split(",")[0] == family


def test_presets_are_found_by_name_and_family(runs: Runs) -> None:
    lines = runs["presets of a name"].stdout.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert names == sorted(name for name in presets() if "resnet" in name)
    found = json.loads(runs["presets of a family"].stdout)
    assert {one["name"] for one in found} == {name for name in presets() if name.startswith("wrn")}
    assert all(one["family"].startswith("convolutional") and one["about"] for one in found)
    assert runs["presets of no name"].stderr == (
        "no preset has the name 'bert2' (presets for it: transformers_modernbert, transformers_base, "
        "transformers_wav2vec2); `initplug presets` lists all\n"
    )
    assert runs["presets of no family"].stderr == "no preset has the family 'poetry'; `initplug presets` lists all\n"


@pytest.mark.parametrize("width", [60, 80])
def test_presets_are_listed_in_the_width_of_the_terminal(width: int) -> None:
    lines = listed(presets(), width).splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    assert all(f"{name} {' '.join(str(initplug.load(name).about).split())}" in told for name in presets())


def test_a_preset_that_is_asked_for_as_a_file_is_offered(runs: Runs) -> None:
    done = runs["show preset as a file"]
    assert done.stderr == "resnext.yaml: cannot be read: No such file or directory (the preset is called resnext)\n"


def test_presets_for_a_model_is_a_short_table_with_a_conclusion(runs: Runs) -> None:
    lines = runs["presets for"].stdout.splitlines()
    assert lines[0].split()[:3] == ["preset", "family", "parameters"]
    assert len(lines) == 2 + 10 + 2
    assert {line.split()[0] for line in lines[2:12]} < set(presets())
    assert lines[-1].startswith("no preset is known to be for Net; ")


def test_show_prints_where_a_preset_comes_from(runs: Runs) -> None:
    shown = yaml.safe_load(runs["show preset"].stdout)
    assert any("prlz77/ResNeXt.pytorch models/model.py:97-106" in source for source in shown["source"])
    assert shown["deviations"] and shown["proven_on"] and shown["about"] and shown["family"]


def test_show_prints_the_composed_recipe_as_yaml(runs: Runs) -> None:
    shown = yaml.safe_load(runs["show"].stdout)
    assert shown["name"] == "good"
    assert list(shown["rules"]) == ["conv", "bn", "fc", "bias"]
    assert yaml.safe_load(runs["show preset"].stdout)["name"] == "resnext"
    composed = yaml.safe_load(runs["show overridden"].stdout)
    assert list(composed["rules"]) == ["conv", "bn", "fc", "bias", "x"]
    assert composed["rules"]["bn"]["init"] == 2
    assert "fan_in" in str(composed["rules"]["conv"]["init"])


def test_messages_say_where(runs: Runs) -> None:
    column = GOOD.splitlines()[2].index("fan_out") + 1
    for name in ("check bad", "show bad", "plan bad recipe"):
        text = runs[name].stdout + runs[name].stderr
        assert f"bad.yaml:3:{column}: rules.conv.init.mode" in text
        assert "did you mean fan_in?" in text
    assert "fan_inn" in runs["show bad override"].stderr


def test_check_warns_of_the_unquoted_star(runs: Runs) -> None:
    text = runs["check star"].stdout + runs["check star"].stderr
    assert re.search(r"star\.yaml:2", text)
    assert "Hydra" in text
    assert "Hydra" not in runs["check"].stdout + runs["check"].stderr


def test_schema_is_a_json_schema_of_recipes(runs: Runs) -> None:
    schema = json.loads(runs["schema"].stdout)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    check = validator(schema)
    good: list[dict[str, Any]] = [
        yaml.safe_load(GOOD),
        {"rules": {"*.bias": 0, "conv*": "kaiming_normal fan_out", "x": None}},
        {"rules": {"x": {"match": ["a.*"], "init": {"fn": "normal", "std": 1}, "ndim": ">=2", "optional": True}}},
    ]
    for recipe in good:
        check.validate(recipe)
    bad: list[Any] = [
        {"rule": {}},
        {"rules": {"x": {"match": "*", "init": 0, "when": 1}}},
        {"rules": {}, "unused": "sometimes"},
        {"rules": {"x": {"match": 3, "init": 0}}},
        3,
    ]
    for recipe in bad:
        assert not check.is_valid(recipe), recipe


# ------------------------------------------------------------------------------------------------- plan


def test_plan_prints_a_table(runs: Runs) -> None:
    for name, rule in (("conv.weight", "conv"), ("bn.weight", "bn"), ("fc.weight", "fc"), ("fc.bias", "bias")):
        (line,) = [line for line in runs["plan"].stdout.splitlines() if re.search(rf"(?<!\S){re.escape(name)}\b", line)]
        assert rule in line


def test_plan_as_json(runs: Runs) -> None:
    found = json.loads(runs["plan json"].stdout)
    by_name = {row["name"]: row for row in found["rows"]}
    assert list(by_name) == ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"]
    assert list(by_name["conv.weight"]["shape"]) == [6, 2, 3, 3]
    assert by_name["fc.weight"]["aliases"]
    assert by_name["conv.bias"]["rule"] == "bias"
    assert {row["name"]: row for row in json.loads(runs["plan overridden"].stdout)["rows"]}["bn.weight"]["mean"] == 5


def test_what_a_constructor_prints_stays_out_of_standard_output(runs: Runs) -> None:
    assert json.loads(runs["plan chatty"].stdout)["rows"]
    assert "hello" not in runs["plan chatty"].stdout


def test_unused_rules_warn_and_fail_only_when_strict(runs: Runs) -> None:
    for name in ("plan unused", "plan strict"):
        assert "ghost" in runs[name].stderr
        assert "conv.weight" in runs[name].stdout


def test_selectors_without_effect_warn_and_fail_only_when_strict(runs: Runs) -> None:
    for name in ("plan dead", "plan dead strict"):
        assert (
            "warning: 1 selector of dead.yaml has no effect\n"
            "  rule 'bn', match \"bn.wieght\" (dead.yaml:4:27): selects nothing; closest: bn.weight\n"
        ) in runs[name].stderr


def test_notes_stand_in_the_footer_and_are_no_warnings(runs: Runs) -> None:
    assert runs["plan noted"].stderr == ""
    assert runs["plan noted"].stdout.splitlines()[-1] == (
        "note: rule 'fc' (noted.yaml:5:15): match \"(fc|tail).weight\" has alternatives that no name of the model is: "
        "'tail'"
    )


def test_a_plan_that_is_not_as_a_rule_expects_prints_both(runs: Runs) -> None:
    done = runs["plan unexpected"]
    assert "conv.weight" in done.stdout
    assert 'rule \'bn\' "bn.weight" (expecting.yaml:4) expects 2 slots below each module of "bn"' in done.stderr


def test_a_plan_with_findings_prints_both(runs: Runs) -> None:
    done = runs["plan unmatched"]
    assert "conv.weight" in done.stdout
    assert "bn.bias" in done.stderr
    assert "fc.bias" in done.stderr
    assert "unmatched: keep" in done.stderr


def test_a_constructor_that_needs_values_is_pointed_to_real(runs: Runs) -> None:
    assert "--real" in runs["plan needs values"].stderr
    assert "conv.weight" in runs["plan real"].stdout
    assert runs["presets needs values"].stderr == runs["plan needs values"].stderr
    assert " look so " not in runs["presets for"].stdout
    assert " look so " in runs["presets real"].stdout
    assert " parameters look so" in runs["presets real"].stdout.splitlines()[-1]
    assert "--real says how the model of --for is built" in runs["presets real alone"].stderr


def test_a_constructor_that_needs_numbers_or_mixes_parameters_with_buffers_is_planned(runs: Runs) -> None:
    for name in ("plan needs numbers", "plan mixes"):
        assert "conv.weight" in runs[name].stdout
    assert "buffers on meta" not in runs["plan needs numbers"].stdout
    assert runs["plan mixes"].stdout.endswith("buffers on meta: 3 module type\n")


# ------------------------------------------------------------------------------------------ apply, audit


def test_apply_writes_weights_and_report(runs: Runs, folder: Path) -> None:
    assert runs["apply"].returncode == 0
    weights = load_file(folder / "out.safetensors")
    assert {"conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "fc.bias"} <= set(weights)
    assert len({"fc.weight", "head.weight"} & set(weights)) == 1
    assert not weights["conv.bias"].any()
    assert (weights["bn.weight"] == 1).all()
    assert 0.3 < weights["fc.weight" if "fc.weight" in weights else "head.weight"].std() < 0.7
    report = json.loads((folder / "out.json").read_text())
    assert report["schema"] == 1
    assert {row["verdict"] for row in report["rows"]} == {"ok"}
    (row,) = [row for row in report["rows"] if row["name"] == "conv.weight"]
    assert row["measured_mean"] == pytest.approx(weights["conv.weight"].double().mean().item(), rel=1e-4)
    for name in ("conv.weight", "fc.bias"):
        assert name in runs["apply"].stdout


def test_apply_reports_as_csv_and_markdown(runs: Runs, folder: Path) -> None:
    lines = list(csv.DictReader((folder / "out.csv").read_text().splitlines()))
    assert [line["name"] for line in lines[:2]] == ["conv.weight", "conv.bias"]
    assert {line["problem"] for line in lines} == {""}
    assert (folder / "out.md").read_text().count("\n|") >= 7
    assert not (folder / "out.xyz").exists()


def test_a_seed_gives_the_same_weights_as_in_python(runs: Runs, folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(MODEL, names)
    model = names["net"]()
    initplug.apply(model, folder / "good.yaml", seed=0)
    written = load_file(folder / "seed.safetensors")
    assert written.keys() == model.state_dict().keys() - {"head.weight"}  # tied: once
    assert all(tensor.equal(model.state_dict()[name]) for name, tensor in written.items())


def test_what_takes_long_shows_a_bar_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    runner = CliRunner()
    quick = runner.invoke(cli.commands, ["apply", "torch.nn:Linear(4, 2)", "torch_default"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "PATIENCE", 0.0)
        slow = runner.invoke(cli.commands, ["apply", "torch.nn:Linear(4, 2)", "torch_default"])
    assert (quick.exit_code, slow.exit_code) == (0, 0)
    assert quick.stderr == ""
    assert "2/2" in slow.output and "slots/s" in slow.output
    assert slow.stdout.split()[0] == "parameter"
    assert "slots/s" not in slow.stdout


def test_a_bad_seed_is_told_and_nothing_is_written(runs: Runs, folder: Path) -> None:
    assert "seed=-1: a seed is a whole number" in runs["apply bad seed"].stderr
    assert not (folder / "bad_seed.safetensors").exists()


def test_a_failed_apply_leaves_the_old_file(runs: Runs, folder: Path) -> None:
    assert runs["apply unmatched"].returncode == 1
    assert (folder / "kept.safetensors").read_text() == FILES["kept.safetensors"]
    assert not [path.name for path in folder.iterdir() if "tmp" in path.name]


def test_audit_judges_the_weights_of_a_file(runs: Runs) -> None:
    assert "conv.weight" in runs["audit"].stdout
    assert "differs" not in runs["audit"].stdout
    assert "differs" in runs["audit other"].stdout + runs["audit other"].stderr
    assert "fc.weight" in runs["audit other"].stdout
    head, reason = runs["audit other"].stderr.splitlines()
    assert head == "1 of 6 slots are not what the recipe says"
    assert re.fullmatch(r"  fc\.weight: std 0\.\d+, not 0\.\d+ to 1\.\d+(; .*)?", reason)


def test_audit_compares_every_value_with_what_a_seed_gives(runs: Runs) -> None:
    assert "6 exact" in runs["audit seed"].stdout
    head, *reasons = runs["audit other seed"].stderr.splitlines()
    assert re.fullmatch(r"[1-6] of 6 slots are not what the recipe says", head)
    assert all(reason.endswith("; all drawn tensors differ: another seed?") for reason in reasons)


# -------------------------------------------------------------------------------------------- laziness


def imported(folder: Path, *command: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    lines = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {name.split(".")[0] for name in lines}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "--help"],
        ["presets"],
        ["check", "good.yaml", "resnext"],
        ["show", "resnext"],
        ["show", "top.yaml", "rules.bn.init=3"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_commands_that_need_no_torch_do_not_import_it(folder: Path, arguments: list[str]) -> None:
    modules = imported(folder, "-m", "initplug", *arguments)
    assert "initplug" in modules
    assert "torch" not in modules
    overrides = [word for word in arguments if "=" in word]
    assert ("hydra" in modules) == bool(overrides)


HEAVY = {"torch", "numpy", "pydantic", "hydra", "omegaconf", "rich", "safetensors"}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], set()),
        (["plan", "--help"], set()),
        (["--version"], set()),
        (["presets"], set()),
        (["show", "resnext"], {"pydantic"}),
        (["check", "good.yaml"], {"pydantic"}),
        (["show", "resnext", "rules.bn.init=3"], {"pydantic", "hydra", "omegaconf"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_what_it_needs_alone(folder: Path, arguments: list[str], needed: set[str]) -> None:
    assert imported(folder, "-m", "initplug", *arguments) & HEAVY == needed


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import initplug", {"torch", "hydra", "omegaconf"}),
        ("import initplug, torch; initplug.apply(torch.nn.Linear(2, 2), 'torch_default')", {"rich", "click", "hydra"}),
        ("import initplug; initplug.load('resnext')", {"torch", "hydra"}),
        ("import initplug; initplug.load('good.yaml')", {"torch", "hydra"}),
        ("import initplug; initplug.load({'rules': {'*.bias': 0}})", {"torch", "hydra"}),
        ("import initplug; initplug.load('good.yaml', overrides=['rules.bn.init=3'])", {"torch"}),
        ("import initplug; initplug.RecipeError, initplug.InitplugWarning, initplug.Recipe, dir(initplug)", {"torch"}),
    ],
)
def test_importing_and_loading_need_no_torch(folder: Path, statement: str, unwanted: set[str]) -> None:
    assert imported(folder, "-c", statement) & unwanted == set()


def test_the_probe_for_imports_can_fail(folder: Path) -> None:
    assert {"json", "decimal"} <= imported(folder, "-c", "import json, decimal")


# -------------------------------------------------------------------------------------- pipes and signals


@pytest.mark.parametrize(
    "arguments", [["show", "resnext"], ["presets"], ["schema"], ["plan", "model.py:net", "good.yaml"]], ids=" ".join
)
def test_a_broken_pipe_is_no_traceback(folder: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "initplug", *arguments],
            cwd=folder,
            env=environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    _, stderr = process.communicate(timeout=300)
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert len(stderr.splitlines()) <= 1


def test_an_interrupt_is_no_traceback(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "initplug", "plan", "model.py:slow", "good.yaml"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (folder / "ready").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode != 0
    assert stdout == ""
    assert "Traceback" not in stderr
    assert len([line for line in stderr.splitlines() if line.strip()]) <= 1


def test_check_shows_what_the_name_of_a_file_holds_as_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a\x1b[31mb.yaml").write_text("rules:\n  *.bias: 0\n")
    result = CliRunner().invoke(cli.commands, ["check", "a\x1b[31mb.yaml"], color=True)
    assert result.stdout == "a\\x1b[31mb.yaml: ok, 1 rule\n"
    assert result.stderr.startswith("a\\x1b[31mb.yaml:2:3: warning: ")
