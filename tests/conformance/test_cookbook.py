"""The recipes of the cookbook do what they say on models of others, and those of migration what others do."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
from libraries import TORCHVISION_OPERATORS  # noqa: F401  # torchvision's models can be imported
from pages import GUIDE, run_page, sections

import initplug

COOKBOOK, MIGRATION = (sections((GUIDE / f"{page}.md").read_text()) for page in ("cookbook", "migration"))
RECIPES = {**COOKBOOK, **MIGRATION}


FURTHER = ("accelerate", "lightning", "mmengine", "peft")
"""Packages that `make cookbook` adds to those of the other tests."""


def further(text: str) -> list[str]:
    """The packages of these that a section needs."""
    text = text.replace("Trainer, TrainingArguments", "Trainer\nimport accelerate")
    return [name for name in FURTHER if re.search(rf"^(?:from|import) {name}\b", text, re.MULTILINE)]


def test_every_recipe_was_found() -> None:
    assert (len(COOKBOOK), len(MIGRATION)) == (17, 7)
    assert all("assert" in text or "```text" in text or "```console" in text for text in RECIPES.values())


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = further(RECIPES[name])
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: make cookbook")
    with warnings.catch_warnings():
        if needed:
            warnings.simplefilter("ignore")  # they warn of one another
            warnings.simplefilter("error", initplug.InitplugWarning)
        assert run_page(RECIPES[name], tmp_path, monkeypatch, capsys) == RECIPES[name]
