"""What the README and the guide show is what happens."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest
import torch
from pages import blocks
from torch import nn

import initplug
from initplug.planning.meta_buffers import Restore
from initplug.schemes.gains import Nonlinearity
from initplug.schemes.initializers import REGISTRY

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "examples" / "guide" / "language.md").read_text()
DEFERRED = (ROOT / "examples" / "guide" / "deferred.md").read_text()


def table_rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, pipes inside code kept."""
    lines = document.split(heading, 1)[1].split("\n| ", 1)[1].splitlines()
    body = [line for line in lines[2:] if line.startswith("|")][
        : next(i for i, line in enumerate(lines[2:]) if not line)
    ]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]


def test_names_of_other_libraries_are_answered_as_the_guide_says() -> None:
    rows = table_rows(GUIDE, "## Names of other libraries")
    assert len(rows) > 10
    for elsewhere, here in rows:
        name, text = re.findall(r"`([^`]+)`", elsewhere)[0], here.strip("`")
        initplug.load({"rules": {"*": text}})
        with pytest.raises(initplug.RecipeError, match=re.escape(f"(write {text}, ")):
            initplug.load({"rules": {"*": name}})


def test_the_readme_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    names: dict[str, Any] = {}
    printed, compared, commands = "", 0, 0
    for block in blocks(README):
        if block.title:
            path = tmp_path / block.title
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, "README.md", "exec"), names)
            printed = capsys.readouterr().out
        elif block.language == "text":
            assert printed == block.text
            compared += 1
        elif block.language == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
                assert run_in_shell(command) == output
                commands += 1
    assert (compared, commands) == (3, 5)
    assert initplug.load("mine.yaml").rules.keys() == {"conv", "bn", "bias", "classifier", "head"}


def run_in_shell(command: str) -> str:
    """The standard output of a command, `initplug` and `python` being those of the tests."""
    python = Path(sys.executable)
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guide_to_audits_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    found = [*blocks((ROOT / "examples" / "guide" / "audits.md").read_text())]
    assert len(found) == 4
    for code, printed in zip(found[::2], found[1::2], strict=True):
        exec(compile(code.text, "audits.md", "exec"), {})
        assert capsys.readouterr().out == printed.text


class Block1(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(nn.Linear(1, 1).weight.detach())
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        block = type("Block", (Block1,), {})
        self.layer1 = nn.Sequential(block(), block())
        self.fc = nn.Linear(4, 2)


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "examples" / "guide").glob("*.md"))], ids=lambda path: path.name
)
def test_the_file_of_a_block_is_named_in_the_text_too(document: Path) -> None:
    # What renders the page of a package index shows no titles of blocks.
    text = document.read_text()
    for block in re.finditer(r"^```\w+ title=(\S+)$", text, re.MULTILINE):
        assert text[: block.start()].endswith(f"`{block.group(1)}`:\n\n")


def test_the_table_of_versions_is_that_of_the_runs() -> None:
    runs = runpy.run_path(str(ROOT / "tests" / "compatibility" / "versions.py"))
    text = (ROOT / "examples" / "guide" / "compatibility.md").read_text()
    lines = text.split("<!-- measured -->\n")[1].split("<!-- end -->")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [row[0] for row in rows]
    assert names == ["floors", *runs["TORCHES"]]
    assert all(row[6] == "0" and int(row[5]) > 5000 for row in rows), rows


IN_README = table_rows(README, "## Selectors")
SELECTORS = table_rows((ROOT / "examples" / "guide" / "selectors.md").read_text(), "# Selectors")


def test_the_tables_of_selectors_were_found() -> None:
    assert (len(IN_README), len(SELECTORS)) == (13, 19)


@pytest.mark.parametrize("row", [*IN_README, *SELECTORS], ids=lambda row: row[0])
def test_a_selector_takes_and_leaves_what_the_tables_say(row: list[str]) -> None:
    selector, _, takes, leaves = row
    rules = {"r": {"match": selector.strip("`"), "init": 0}}
    plan = initplug.plan(ResNet(), {"unmatched": "keep", "rules": rules})
    assert all(plan[name].rule == "r" for name in re.findall(r"`(.*?)`", takes))
    assert all(plan[name].rule is None for name in re.findall(r"`(.*?)`", leaves))


def test_the_guide_names_every_initializer_and_argument() -> None:
    told = {}
    for row in table_rows(GUIDE, "## Initializers"):
        for name in re.findall(r"`(\w+)`", row[0]):
            told[name] = set(re.findall(r"`(\w+)`", row[1]))
    assert told.keys() == REGISTRY.keys()
    assert told.pop("zeros") == told.pop("ones") == {"value"}  # they share the row of `constant`
    assert told == {name: set(REGISTRY[name].parameters) for name in told}


def test_the_guide_names_every_nonlinearity() -> None:
    sentence = GUIDE.split("`gain` is a number", 1)[1].split("\n\n", 1)[0]
    assert all(re.search(rf"\b{word}\b", sentence) for word in Nonlinearity.__args__)  # type: ignore[attr-defined]


def test_the_python_of_the_guide_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(REGISTRY)
    code, text = (next(block for block in blocks(GUIDE) if block.language == wanted) for wanted in ("python", "text"))
    torch.manual_seed(0)
    try:
        exec(compile(code.text, "language.md", "exec"), {})
    finally:
        REGISTRY.clear()
        REGISTRY.update(before)
    assert capsys.readouterr().out == text.text


def test_the_guide_shows_what_is_said_of_what_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told, *_ = blocks(GUIDE.split("## What has no effect", 1)[1])
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"{code.text}unused: error\n")
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3), "fc": nn.Linear(8, 10)})
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(model, "mine.yaml")
    assert f"{caught.value}\n" == told.text


def test_every_recipe_of_the_guide_is_one() -> None:
    recipes = [block.text for block in blocks(GUIDE) if block.language == "yaml"]
    assert recipes
    assert all(initplug.load(text).rules for text in recipes)


def test_the_three_spellings_of_the_guide_are_one() -> None:
    block = next(block for block in blocks(GUIDE) if block.language == "yaml")
    rules = initplug.load(block.text).rules
    assert len({str(rule.init) for rule in rules.values() if rule}) == 1


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own compiler
@pytest.mark.filterwarnings("ignore:only= lists 1 tensor in part")  # which the guide is about
@pytest.mark.parametrize(
    ("guide", "expected"),
    [
        ("calibrate", ["python", "text", "python", "text"]),
        ("checkpoints", ["python", "text"]),
        ("deferred", ["python", "python", "text"]),
        ("infer", ["python", "text"]),
        ("reports", ["python", "text", "python", "python", "python", "text"]),
        ("seeds", ["python"]),
        ("trees", ["python", "text"]),
    ],
)
def test_the_further_guides_run(
    guide: str, expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    names: dict[str, Any] = {}
    kinds = []
    for block in blocks((ROOT / "examples" / "guide" / f"{guide}.md").read_text()):
        kinds.append(block.language)
        if block.language == "python":
            exec(compile(block.text, f"{guide}.md", "exec"), names)
            printed = capsys.readouterr().out
        else:
            assert printed == block.text
    assert kinds == expected


def test_the_preset_of_the_guide_is_the_one_that_ships() -> None:
    text = (ROOT / "examples" / "guide" / "contributing-presets.md").read_text()
    block = next(block for block in blocks(text) if block.language == "yaml")
    shown = initplug.load(block.text)
    assert shown.name is not None and shown.digest == initplug.load(shown.name).digest


def test_the_guide_to_hydra_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    commands = 0
    for block in blocks((ROOT / "examples" / "guide" / "hydra.md").read_text()):
        if block.title:
            path = tmp_path / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            assert run_in_shell(command) == output
            commands += 1
    assert commands == 8


def test_the_lines_for_loggers_pass_texts_and_plain_data(tmp_path: Path) -> None:
    table = (ROOT / "examples" / "guide" / "reports.md").read_text().split("## Beside a run", 1)[1]
    lines = re.findall(r"^\| .*\| `(.*)` \|$", table, re.MULTILINE)
    assert len(lines) == 6
    audit = initplug.apply(nn.Linear(2, 2), {"rules": {"*": 0}})
    loggers = {name: MagicMock() for name in ("writer", "run", "wandb", "mlflow", "HydraConfig")}
    loggers["HydraConfig"].get().runtime.output_dir = str(tmp_path)
    for line in lines:
        exec(line, {"audit": audit, **loggers})
    assert (tmp_path / "audit.html").read_text() == audit.to_html()
    loggers["writer"].add_text.assert_called_once_with("init", audit.to_markdown(every=False))
    loggers["wandb"].Html.assert_called_once_with(audit.to_html(), inject=False)
    loggers["run"].summary.__setitem__.assert_called_once_with("init", audit.summary)
    loggers["mlflow"].log_text.assert_called_once_with(audit.to_html(), "audit.html")
    loggers["mlflow"].log_dict.assert_called_once_with(audit.to_dict(), "audit.json")


def test_the_guide_names_every_way_of_restoring_a_buffer() -> None:
    assert [row[0].strip("`") for row in table_rows(DEFERRED, "## Buffers")] == list(get_args(Restore))
