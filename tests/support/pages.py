"""Pages of the guide, run from top to bottom: code, files, commands, and what they print."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import invoke

import initplug

GUIDE = Path(__file__).parents[2] / "examples" / "guide"


class Block(NamedTuple):
    """A block of code: its language, the file that it is, its text."""

    language: str
    title: str | None
    text: str


FENCE = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    for found in FENCE.finditer(document):
        yield Block(found[1], found[2], found[3])


def sections(document: str) -> dict[str, str]:
    """Return the parts of a page by their headings of second order."""
    parts = re.split(r"^## (.*)$", document, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run_page(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the blocks of a page in a folder, and return the page with what they print: itself, if it shows that.

    `python` runs, in one namespace; a `text` after it is what it prints. A block that is a file is written. What is
    `yaml` otherwise is a recipe. Of `console` every command is one of ours, and what follows it is what it prints.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    before, path = {*sys.modules}, [*sys.path]
    sys.path.insert(0, str(folder))
    names: dict[str, Any] = {"__name__": "page"}
    printed, parts, end = "", [], 0
    for found in FENCE.finditer(text):
        language, title, held = found.groups()
        shown = held
        if title:
            Path(title).parent.mkdir(parents=True, exist_ok=True)
            Path(title).write_text(held)
        elif language == "python":
            exec(compile(held, "page.md", "exec"), names)
            printed = capsys.readouterr().out
        elif language == "text":
            shown = printed
        elif language == "yaml":
            assert initplug.load(held).rules
        elif language == "console":
            shown = "".join(map(ran, re.findall(r"^\$ (.*)$", held, re.MULTILINE)))
        parts += [text[end : found.start(3)], shown]
        end = found.end(3)
    sys.path[:] = path
    for name in {*sys.modules} - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    return "".join([*parts, text[end:]])


def ran(command: str) -> str:
    """Return a command of ours and what it prints, as a terminal shows it."""
    program, *words = shlex.split(command)
    assert program == "initplug"
    lines = invoke(*words).output.splitlines()
    return "\n".join([f"$ {command}", *map(str.rstrip, lines), ""])  # no editor leaves blanks at the ends of lines
