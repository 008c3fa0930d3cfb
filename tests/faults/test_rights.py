"""Folders and files that may not be written or read: one message, nothing changed; as root too, which gives up its rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import initplug

PROGRAM = """
import json, os, sys
from pathlib import Path
import click.testing, numpy, torch
import initplug
from initplug.cli import commands

folder = Path(sys.argv[1])
runner = click.testing.CliRunner()
audit = initplug.apply(torch.nn.Linear(2, 2), {"rules": {"*": 0}}, seed=0)
plan = initplug.plan(torch.nn.Linear(2, 2), {"rules": {"*": 0}})
for suffix in ("html", "json", "csv", "md"):  # what is imported late is there now
    audit.save(folder / f"early.{suffix}")
commands_of = {
    "out": ["apply", "model.py:net", "zero.yaml", "--out", "closed/x.safetensors"],
    "report": ["apply", "model.py:net", "zero.yaml", "--report", "closed/x.html"],
    "recipe": ["plan", "model.py:net", "hidden.yaml"],
    "check": ["check", "hidden.yaml"],
    "model": ["plan", "hidden.py:net", "zero.yaml"],
    "weights": ["audit", "model.py:net", "zero.yaml", "--weights", "hidden.safetensors"],
    "against": ["audit", "model.py:net", "zero.yaml", "--against", "hidden.json"],
}
os.chdir(folder)
runner.invoke(commands, ["apply", "model.py:net", "zero.yaml", "--out", "early.safetensors", "--report", "early.html"])
runner.invoke(commands, ["audit", "model.py:net", "zero.yaml", "--weights", "early.safetensors", "--against", "early.json"])
(folder / "built").unlink()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
said = {}
for name, words in commands_of.items():
    result = runner.invoke(commands, words)
    said[name] = [result.exit_code, result.stdout, result.stderr, repr(result.exception)]
def raised(act):
    try:
        act()
    except BaseException as error:
        return [type(error).__name__, str(error)]
    return None
said["save"] = raised(lambda: audit.save("closed/old.json"))
said["save plan"] = raised(lambda: plan.save("closed/new.csv"))
said["load"] = raised(lambda: initplug.load("hidden.yaml"))
said["load values"] = raised(
    lambda: initplug.plan(torch.nn.Linear(2, 2), {"rules": {"*": "load path=hidden.safetensors"}})
)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is said where rights are missing."""
    folder = tmp_path_factory.mktemp("rights")
    for above in (folder, *folder.parents):
        if above.owner() == folder.owner() and "pytest" in above.name:
            above.chmod(0o755)
    (folder / "model.py").write_text(
        "import pathlib\nfrom torch import nn\n\n\ndef net():\n    pathlib.Path('built').touch()\n    return nn.Linear(2, 2)\n"
    )
    (folder / "zero.yaml").write_text("rules:\n  '*': 0\n")
    (folder / "closed").mkdir()
    (folder / "closed" / "old.json").write_text("old")
    for name in ("hidden.yaml", "hidden.py", "hidden.safetensors", "hidden.json"):
        (folder / name).write_text("rules: {}\n")
        (folder / name).chmod(0)
    (folder / "closed").chmod(0o555)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / "closed").iterdir()] == ["old.json"]
    assert (folder / "closed" / "old.json").read_text() == "old"
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "built": (folder / "built").exists()}


def test_what_cannot_be_written_is_found_before_the_model_is_built(said: dict[str, Any]) -> None:
    assert said["out"][:3] == [1, "", "InitplugError: closed/x.safetensors: cannot be written: Permission denied\n"]
    assert said["report"][:3] == [1, "", "InitplugError: closed/x.html: cannot be written: Permission denied\n"]


@pytest.mark.parametrize("name", ["recipe", "check"])
def test_a_recipe_that_cannot_be_read(said: dict[str, Any], name: str) -> None:
    assert said[name][:3] == [2, "", "hidden.yaml: cannot be read: Permission denied\n"]


def test_a_model_that_cannot_be_read_ends_in_one_line(said: dict[str, Any]) -> None:
    status, stdout, stderr, _ = said["model"]
    assert (status, stdout) == (2, "")
    assert stderr.startswith("MODEL 'hidden.py:net' cannot be imported: PermissionError: ") and stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["weights", "against"])
def test_files_that_cannot_be_read_end_in_one_line(said: dict[str, Any], name: str) -> None:
    status, stdout, stderr, _ = said[name]
    assert status == 1 and stdout == "" and "ermission denied" in stderr and stderr.count("\n") == 1, stderr


def test_from_python_it_is_an_error_of_ours(said: dict[str, Any]) -> None:
    assert said["save"] == ["InitplugError", "closed/old.json: cannot be written: Permission denied"]
    assert said["save plan"] == ["InitplugError", "closed/new.csv: cannot be written: Permission denied"]
    assert said["load"] == ["RecipeError", "hidden.yaml: cannot be read: Permission denied"]
    kind, message = said["load values"]
    assert kind == "PlanError" and "hidden.safetensors cannot be read: " in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no files")
@pytest.mark.parametrize("suffix", ["html", "json", "csv", "md"])
def test_a_file_system_that_takes_no_files_is_told_of(suffix: str) -> None:
    from torch import nn

    audit = initplug.apply(nn.Linear(2, 2), {"rules": {"*": 0}}, seed=0)
    with pytest.raises(initplug.InitplugError, match=rf"/proc/self/x\.{suffix}: cannot be written: "):
        audit.save(f"/proc/self/x.{suffix}")
