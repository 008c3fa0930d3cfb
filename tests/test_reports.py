"""Reports on the command line: pages, comparisons, tables for terminals, and what is refused."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from commands import invoke

import initplug

ROOT = Path(initplug.__file__).parents[1]

MODEL = """\
import torch
from torch import nn


def net():
    return nn.ModuleDict({"h": nn.ModuleList(nn.Linear(32, 32) for _ in range(12)), "head": nn.Linear(32, 4)})


def changed():
    net_ = net()
    for parameter in net_.parameters():
        nn.init.zeros_(parameter)
    return net_


def empty():
    return nn.Identity()
"""
RECIPE = """\
unused: ignore
rules:
  weights: {match: "*.weight", init: normal std=0.02}
  bias: {match: "*.bias", init: 0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def write_old(folder: Path) -> None:
    out = ("--out", "w.safetensors", "--report", "old.json")
    invoke("apply", "model.py:net", "recipe.yaml", "--seed", "0", *out)
    assert (folder / "old.json").is_file()


AUDIT = ("audit", "model.py:net", "recipe.yaml", "--weights", "w.safetensors")


def test_pages_have_histograms_and_data_has_none(folder: Path) -> None:
    write_old(folder)
    assert "histograms" not in json.loads((folder / "old.json").read_text())
    invoke("apply", "model.py:net", "recipe.yaml", "--report", "apply.html")
    invoke(*AUDIT, "--report", "audit.html")
    for name in ("apply", "audit"):
        assert '"counted":true' in (folder / f"{name}.html").read_text()


def test_weights_are_checked_against_yesterday(folder: Path) -> None:
    write_old(folder)
    result = invoke(*AUDIT, "--against", "old.json")
    assert result.stdout == "every row is what it was in old.json\n"
    result = invoke(*AUDIT, "rules.bias.init=1", "--against", "old.json", status=1)
    assert result.stdout == (
        "13 rows are not what they were in old.json\n"
        "rule bias: 13\n"
        "  h.0-11.bias  init: constant 0 → constant 1; verdict: ok → differs\n"
        "  head.bias    init: constant 0 → constant 1; verdict: ok → differs\n"
    )
    assert result.stderr == "13 of 26 rows changed\n"
    everything = invoke(*AUDIT, "rules.bias.init=1", "--against", "old.json", "--all", status=1)
    assert everything.stdout.count("constant 1") == 13
    changed = ("audit", "model.py:changed", "recipe.yaml", "--against", "old.json", "--report", "new.html")
    result = invoke(*changed, status=1)
    assert "  h.0-11.weight  verdict: ok → differs; values: " in result.stdout
    assert (folder / "new.html").is_file()


@pytest.mark.parametrize(
    ("against", "status", "message"),
    [
        ("nowhere.json", 2, "nowhere.json: there is no such file"),
        (".", 2, ".: it is no regular file"),
        ("w.safetensors", 1, "InitplugError: w.safetensors: is no audit saved as .json: "),
        ("recipe.yaml", 1, "InitplugError: recipe.yaml: is no audit saved as .json: Expecting value"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder: Path, against: str, status: int, message: str) -> None:
    write_old(folder)
    result = invoke(*AUDIT, "--against", against, status=status)
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_blocks_take_one_line_unless_all_are_asked_for(folder: Path) -> None:
    for command in (("plan",), ("apply", "--seed", "0")):
        short = invoke(command[0], "model.py:net", "recipe.yaml", *command[1:]).stdout
        assert len(short.splitlines()) == 2 + 4 + 1
        assert "h.0-11.weight" in short
        long = invoke(command[0], "model.py:net", "recipe.yaml", *command[1:], "--all").stdout
        assert len(long.splitlines()) == 2 + 26 + 1
        assert "h.7.weight" in long


def test_wide_has_every_column_on_a_narrow_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    narrow = invoke("apply", "model.py:net", "recipe.yaml").stdout
    wide = invoke("apply", "model.py:net", "recipe.yaml", "--wide").stdout
    assert max(map(len, narrow.splitlines())) <= 80
    assert "initializer" not in narrow
    assert "initializer" in wide and "32×32" in wide


def test_an_empty_model_has_no_report_and_the_old_file_stays(folder: Path) -> None:
    (folder / "audit.html").write_text("yesterday's")
    for command in (("apply",), ("audit",)):
        result = invoke(*command, "model.py:empty", "recipe.yaml", "--report", "audit.html", status=1)
        assert result.stderr == (
            "warning: the Identity has no parameters, so that there is nothing to initialise; is it built later?\n"
            "InitplugError: audit.html: nothing to report: the model has no parameters; the file is left as it is\n"
        )
    assert (folder / "audit.html").read_text() == "yesterday's"


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("audit.htm", "audit.htm: unknown suffix '.htm' (did you mean .html?)"),
        ("audit", "audit: unknown suffix '' (known: .html, .json, .csv, .md)"),
        ("no/audit.html", "no/audit.html: cannot be written: there is no folder no"),
        ("folder.html", "folder.html: cannot be written: Is a directory"),
    ],
)
def test_a_report_that_cannot_be_written_is_told_before_anything_is(folder: Path, report: str, message: str) -> None:
    (folder / "folder.html").mkdir()
    before = sorted(folder.iterdir())
    arguments = ("apply", "model.py:net", "recipe.yaml", "--out", "w.safetensors", "--report", report)
    result = invoke(*arguments, status=1)
    assert result.stderr == f"InitplugError: {message}\n"
    assert sorted(path for path in folder.iterdir() if path.name != "__pycache__") == before


def on_a_terminal(*arguments: str) -> str:
    """What a command writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "initplug", *arguments], stdout=follower, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(follower)
        text = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            text += piece
        process.communicate(timeout=300)
    os.close(leader)
    return text.decode()


def test_colours_are_for_terminals(folder: Path) -> None:
    arguments = ("apply", "model.py:net", "recipe.yaml", "--seed", "0")
    assert "\x1b[32mok" in on_a_terminal(*arguments)
    assert "\x1b" not in invoke(*arguments).stdout
