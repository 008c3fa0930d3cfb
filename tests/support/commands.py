"""Commands, in this process and in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from initplug.cli.commands import commands

ROOT = Path(__file__).parents[2]


def invoke(*arguments: str, status: int | None = None) -> Result:
    """Return what a command gives in this process, and hold its status if it is told."""
    result = CliRunner().invoke(commands, list(arguments))
    assert status is None or result.exit_code == status, result.output
    return result


def unwatched() -> dict[str, str]:
    """The environment without what has a process note the lines that it runs, which takes time and writes files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def command(
    folder: Path, *arguments: str, before: Callable[[], None] | None = None, path: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Return what a command gives in a process of its own, with `path` in front of the modules that it finds."""
    places = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **(os.environ if before is None else unwatched()),  # limits hold what the command writes
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "initplug", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=before,
    )
