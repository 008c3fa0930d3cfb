"""A rank that dies or hangs: the others end in an error within the group's timeout, and say what it means for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("falling_ranks.py")
SIZES = (2, 3)
EARLY = ("before_the_exchange", "within_the_exchange", "hanging_before_the_exchange", "leaving_by_sys_exit")
LATE = ("while_values_are_written", "hanging_while_values_are_written")


@pytest.fixture(scope="module")
def worlds() -> dict[str, Any]:
    """The ends of the ranks that did not fall. A rank that waited for longer than the timeout would break this one.

    They wait most of the time, so that worlds of several sizes and kinds run side by side.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = []
    for size in SIZES:
        for names in (EARLY[:2], EARLY[2:], LATE):
            command = [sys.executable, str(SCRIPT), str(size), *names]
            pipe = subprocess.PIPE
            running.append(subprocess.Popen(command, text=True, env=environment, stdout=pipe, stderr=pipe))
    found: dict[str, Any] = {}
    for process in running:
        told, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        found |= json.loads(told.splitlines()[-1])
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("falls", EARLY + LATE)
def test_the_others_end_in_an_error_of_ours(worlds: dict[str, Any], falls: str, size: int) -> None:
    ranks = worlds[f"{falls} {size}"]
    assert len(ranks) >= size - 1
    for rank in range(size - 1):
        said = ranks[f"rank{rank}"]
        assert said["error"] == "ApplyError", said
        assert said["message"].startswith("another rank cannot be reached: "), said


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("falls", EARLY)
def test_a_rank_that_falls_before_the_exchange_leaves_the_others_unwritten(
    worlds: dict[str, Any], falls: str, size: int
) -> None:
    assert all(worlds[f"{falls} {size}"][f"rank{rank}"]["untouched"] for rank in range(size - 1))
