"""Memory that does not suffice: one message, nothing that is only half there, and a second try goes well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("short_of_memory.py")


@pytest.fixture(scope="module")
def scenes() -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_tensor_that_is_drawn_whole_names_itself_and_what_is_written(scenes: dict[str, Any]) -> None:
    said = scenes["drawn_whole"]
    assert said["error"] == "ApplyError"
    assert said["message"].startswith("writing stopped at weight: MemoryError: Unable to allocate ")
    assert said["message"].endswith("\n1 of 2 slots had been written:\n  bias")
    assert said["changed"] == ["bias"]


def test_without_a_seed_torch_s_own_message_is_told(scenes: dict[str, Any]) -> None:
    said = scenes["drawn_whole_without_a_seed"]
    assert said["error"] == "ApplyError"
    assert said["message"].startswith("writing stopped at weight: RuntimeError: ")
    assert "can't allocate memory" in said["message"]
    assert said["message"].endswith("\n0 of 2 slots had been written")


def test_a_model_on_meta_that_does_not_fit_stays_on_meta(scenes: dict[str, Any]) -> None:
    said = scenes["made_of_meta"]
    assert said["error"] == "ApplyError"
    assert said["message"].startswith("4 tensors cannot be made on cpu: ")
    assert said["changed"] == []


def test_threads_that_cannot_be_started_are_told_of(scenes: dict[str, Any]) -> None:
    said = scenes["no_room_for_threads"]
    assert said["error"] in (None, "ApplyError")  # some systems keep stacks of threads that have ended
    assert said["error"] is None or "can't start new thread" in said["message"]


def test_a_tensor_that_its_owner_computes_names_itself(scenes: dict[str, Any]) -> None:
    said = scenes["parametrized"]
    assert said["error"] == "ApplyError"
    assert "weight" in said["message"]


@pytest.mark.parametrize(
    "name", ["drawn_whole", "drawn_whole_without_a_seed", "made_of_meta", "no_room_for_threads", "parametrized"]
)
def test_nothing_stays_behind_and_a_second_try_goes_well(scenes: dict[str, Any], name: str) -> None:
    said = scenes[name]
    assert said["threads"] == 1
    assert said["collects"] is True
    assert said["again"] is True


def test_a_model_that_the_command_line_cannot_construct_ends_in_one_line(scenes: dict[str, Any]) -> None:
    said = scenes["constructed"]
    assert said["error"] == 1
    assert said["stdout"] == ""
    assert said["message"].startswith("MODEL 'torch.nn:Linear(3000, 3000)' raised RuntimeError: ")
    assert said["message"].count("\n") == 1
