"""The config group `init` stands in any Hydra application, with nothing to set, and costs it little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from initplug.cli.hydra_config import version_base
from initplug.language.preset_list import presets

APP = """\
import sys

import hydra
from initplug.cli.hydra_config import version_base


@hydra.main(config_path="conf", config_name="config", **version_base())
def main(config):
    print(config.init.name, config.init.rules.conv.init.mode, "torch" in sys.modules)


if __name__ == "__main__":
    main()
"""
CONFIG = """\
defaults: [{init: resnext}, _self_]
hydra: {run: {dir: .}, output_subdir: null}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    (folder / "conf" / "init").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "conf" / "config.yaml").write_text(CONFIG)
    (folder / "conf" / "init" / "wrn.yaml").write_text("name: my own\nrules: {conv: {init: {mode: mine}}}\n")
    return folder


def run_application(folder: Path, *words: str, line: str = "") -> str:
    environment = {**os.environ, "COMP_LINE": f"python app.py {line}", "COMP_POINT": str(len(f"python app.py {line}"))}
    command = [sys.executable, "-W", "error", "app.py", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_preset_is_chosen_and_overridden_with_no_search_path_set_and_no_torch(folder: Path) -> None:
    assert run_application(folder, "init=wrn_lua", "init.rules.conv.init.mode=fan_out") == "wrn_lua fan_out False\n"


def test_a_file_of_the_application_comes_before_the_preset_of_its_name(folder: Path) -> None:
    assert run_application(folder, "init=wrn") == "my own mine False\n"


def test_the_search_path_names_the_presets_once_after_the_application(folder: Path) -> None:
    lines = run_application(folder, "--info", "searchpath").splitlines()
    providers = [line.split("|")[1].strip() for line in lines if "://" in line]
    assert providers == ["hydra", "main", "initplug", "schema"]


def test_an_application_that_sets_the_search_path_itself_is_as_before(folder: Path) -> None:
    assert (
        run_application(folder, "hydra.searchpath=[pkg://initplug.presets]", "init=wrn_pytorch")
        == "wrn_pytorch fan_in False\n"
    )


def test_help_lists_the_presets(folder: Path) -> None:
    assert f"init: {', '.join(presets())}\n" in run_application(folder, "--help")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("init=", [f"init={name}" for name in presets()]),
        ("init=wrn_", ["init=wrn_fan_out", "init=wrn_lua", "init=wrn_meliketoy", "init=wrn_pytorch"]),
        ("init.rules.", [f"init.rules.{name}." for name in ("bias", "bn", "classifier", "conv")]),
        ("init.rules.conv.init.m", ["init.rules.conv.init.mode="]),
        ("init=torch_default init.rules.", ["init.rules.all."]),
    ],
)
def test_presets_and_keys_are_completed(folder: Path, line: str, offered: list[str]) -> None:
    assert sorted(run_application(folder, "-sc", "query=bash", line=line).split()) == offered


TIMED = """\
import sys
import time

from hydra import compose, initialize_config_dir

if sys.argv[1] == "without":
    sys.modules["hydra_plugins"] = None
before = set(sys.modules)
began = time.process_time()
with initialize_config_dir(sys.argv[2], **VERSION):
    compose("bare", return_hydra_config=True)
print(time.process_time() - began, *sorted(name for name in set(sys.modules) - before if "initplug" in name))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_an_application_starts_as_before(folder: Path) -> None:
    (folder / "conf" / "bare.yaml").write_text("width: 3\n")

    def started(way: str) -> tuple[float, list[str], list[str]]:
        command = [sys.executable, "-c", TIMED.replace("VERSION", str(version_base())), way, str(folder / "conf")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        (seconds, *ours), every = (line.split() for line in done.stdout.splitlines())
        return float(seconds), ours, every

    with_it, without = ([started(way) for _ in range(5)] for way in ("with", "without"))
    assert with_it[0][1] == ["hydra_plugins.initplug_searchpath", "initplug", "initplug._version", "initplug.presets"]
    assert without[0][1] == []
    assert not {"torch", "numpy", "pydantic"} & set(with_it[0][2])
    assert min(with_it)[0] < 1.5 * min(without)[0]
