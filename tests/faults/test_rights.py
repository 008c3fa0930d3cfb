"""Folders and files that may not be written or read: one message, nothing changed. Root gives up its rights for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import initplug

PROGRAM = """
import json, os, sys
from pathlib import Path
import click.testing, numpy, torch
import initplug
from initplug.cli.commands import commands

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
early = ["--weights", "early.safetensors", "--against", "early.json"]
runner.invoke(commands, ["audit", "model.py:net", "zero.yaml", *early])
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


MODEL = """
import pathlib
from torch import nn


def net():
    pathlib.Path("built").touch()
    return nn.Linear(2, 2)
"""


@pytest.fixture(scope="module")
def said() -> Iterator[dict[str, Any]]:
    """The messages where rights are missing."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "model.py").write_text(MODEL)
        (folder / "zero.yaml").write_text("rules:\n  '*': 0\n")
        for hidden in ("hidden.yaml", "hidden.py", "hidden.safetensors", "hidden.json"):
            (folder / hidden).write_text("rules: {}\n")
            (folder / hidden).chmod(0)
        closed = folder / "closed"
        closed.mkdir()
        (closed / "old.json").write_text("old")
        closed.chmod(0o555)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", PROGRAM, name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in closed.iterdir()] == ["old.json"]
        assert (closed / "old.json").read_text() == "old"
        yield {**json.loads(done.stdout), "built": (folder / "built").exists()}
        closed.chmod(0o755)


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


@pytest.mark.parametrize(("name", "file"), [("weights", "hidden.safetensors"), ("against", "hidden.json")])
def test_files_that_options_name_and_that_cannot_be_read(said: dict[str, Any], name: str, file: str) -> None:
    status, stdout, stderr, _ = said[name]
    assert (status, stdout) == (2, "")
    assert stderr.endswith(f"\nError: Invalid value for '--{name}': Path '{file}' is not readable.\n")


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
