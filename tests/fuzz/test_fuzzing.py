"""Fuzzers that can fail: planted faults are found, told with what makes them again, and shrunk."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import brute_matching
import fuzzing
import pytest
import python_mappings
import selector_trees
import torch
import whole_runs
import yaml
from campaigns import STUCK, Tally, Worker, fate_of, seen, table
from fuzz_kinds import KINDS
from fuzzing import Failure, Kind, shrunk, tried, watched

import initplug
from initplug import Recipe
from initplug.errors import warn
from initplug.filling import seeded
from initplug.language import matcher

HERE = Path(__file__).parent


def failures_of(kind: Kind, count: int) -> list[Failure]:
    with watched():
        found = [tried(kind, number) for number in range(count)]
    return [failure for failure in found if isinstance(failure, Failure)]


def test_an_input_is_the_same_whenever_it_is_made() -> None:
    for kind in KINDS.values():
        first, again = (fuzzing.SHOWN.repr(kind.input(7)) for _ in range(2))
        assert first.split(" at 0x")[0] == again.split(" at 0x")[0]
        assert first != fuzzing.SHOWN.repr(kind.input(8)) or kind.input(8) == kind.input(7)


def test_a_failure_tells_kind_number_cause_and_the_smallest_input() -> None:
    def check(text: str) -> bool:
        if "x" in text:
            raise KeyError(text)
        return True

    kind = Kind("letters", lambda random: "".join(random.choice("abcx") for _ in range(30)), check)
    failures = failures_of(kind, 5)
    assert len(failures) == 5
    told = str(failures[3])
    assert told.startswith("letters 3: KeyError at test_fuzzing.py:")
    assert "\nreplay: python tests/fuzz letters 3\n" in told
    assert told.endswith("input, shrunk: 'x'\n")


def test_shrinking_takes_pieces_off_at_any_depth() -> None:
    given = ({"a": [1, 2, ["long text", 3]], "b": "other"}, ["y"])
    assert shrunk(given, lambda one: "x" in repr(one)) == ({"a": [["x"]]}, [])


def test_a_hang_is_a_failure_though_the_product_catches_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "BOUND", 0.2)

    def hang(_: object) -> bool:
        while True:
            with suppress(Exception):
                sum(range(1000))

    (failure,) = failures_of(Kind("hangs", lambda _: "text", hang), 1)
    assert failure.cause.startswith("HangError") and "more than 0.2 s of CPU time" in failure.told


def test_the_process_is_as_it_was_after_watching() -> None:
    before = signal.getsignal(signal.SIGPROF), torch.get_num_threads(), threading.active_count()
    failures_of(KINDS["mappings"], 3)
    assert (signal.getsignal(signal.SIGPROF), torch.get_num_threads(), threading.active_count()) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_warnings_of_others_are_failures_and_ours_are_none() -> None:
    def check(kind: str) -> bool:
        if kind == "ours":
            warn("legal")
        else:
            __import__("warnings").warn("odd", stacklevel=1)
        return True

    kind = Kind("warnings", lambda random: random.choice(("ours", "others")), check)
    failed = {failure.number for failure in failures_of(kind, 10)}
    assert failed == {number for number in range(10) if kind.input(number) == "others"} and 0 < len(failed) < 10


def planted(monkeypatch: pytest.MonkeyPatch, name: str, plant: Callable[[], object], count: int) -> list[Failure]:
    """The failures of a kind before a fault is planted, which are none, and after."""
    assert failures_of(KINDS[name], 3) == []
    plant()
    monkeypatch.setattr(fuzzing, "PATIENCE", 0.1)
    return failures_of(KINDS[name], count)


def test_a_matcher_that_forgets_types_disagrees_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = lambda: monkeypatch.setattr(matcher, "_has_type", lambda *_: True)  # noqa: E731  # one line of a fault
    failures = planted(monkeypatch, "selectors", plant, 8)
    assert failures and all("by brute force" in failure.told for failure in failures)


def test_a_brute_force_that_forgets_anchors_disagrees_with_the_matcher(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = brute_matching.matches

    def floating(selector: dict[str, Any], *rest: Any) -> bool:
        return matches({**selector, "anchored": False}, *rest)

    assert planted(monkeypatch, "selectors", lambda: monkeypatch.setattr(brute_matching, "matches", floating), 8)


def test_a_recipe_that_loses_a_word_as_it_is_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Recipe.plain

    def losing(recipe: Recipe) -> dict[str, Any]:
        return {key: value for key, value in plain(recipe).items() if key != "unused"}

    monkeypatch.setattr(Recipe, "to_yaml", lambda recipe: yaml.safe_dump(losing(recipe)))
    monkeypatch.setattr(fuzzing, "PATIENCE", 0.1)
    assert failures_of(KINDS["recipes"], 30)


def test_an_error_of_others_that_comes_out_of_load_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Recipe:
        raise KeyError("rules")

    monkeypatch.setattr(initplug, "load", failing)
    assert len(failures_of(Kind("mappings", python_mappings.made, python_mappings.checked), 5)) == 5


def test_bits_that_depend_on_the_number_of_threads_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = seeded.fill_from_names

    def threaded(lots: Any, seed: int, threads: int, *rest: Any) -> None:
        fill(lots, seed + (threads == 2), threads, *rest)

    monkeypatch.setattr("initplug.filling.write.fill_from_names", threaded)
    made = {
        "layers": ["linear", "large"],
        "recipe": {"rules": {"*": "normal"}},
        "seed": 0,
        "only": None,
        "threads": 2,
        "stops": None,
    }
    (failure,) = failures_of(Kind("runs", lambda _: made, whole_runs.checked), 1)
    assert "'0.weight': 'differs'" in failure.told  # by the audit under a seed, which computes on one thread


def test_brute_force_says_what_the_description_says() -> None:
    tree = {"class": "Alpha", "held": {"a": {"class": "Gamma", "held": {"w": ["parameter", 1], "b": ["tied", 0]}}}}
    places = [*brute_matching.places_of(selector_trees.grown(tree))]
    assert [place.name for place in places] == ["a.w", "a.b"]

    def taken(*segments: dict[str, Any], anchored: bool = False) -> set[int]:
        return brute_matching.selected({"anchored": anchored, "segments": [*segments]}, places)

    def name(text: str) -> dict[str, Any]:
        return {"name": [["text", text]]}

    def types(text: str, package: str = "") -> dict[str, Any]:
        return {"types": [[package, [["text", text]]]]}

    assert taken(name("w")) == taken(name("a"), name("w")) == taken({"depth": True}, name("w")) == {0}
    assert taken(name("a")) == taken({"place": -1}) == taken(types("Beta")) == taken(types("Alpha")) == {0, 1}
    assert taken(name("w"), anchored=True) == taken({"place": -2}) == taken(types("beta")) == set()
    assert taken(types("Alpha"), anchored=True) == {0, 1} and taken(types("Stack"), anchored=True) == set()
    assert taken(types("Gamma", "torch")) == set() and taken(types("Module", "torch.nn")) == {0, 1}


def test_a_long_run_prints_a_table_and_its_status_says_whether_anything_failed() -> None:
    command = [sys.executable, str(HERE), "--minutes", "0.1", "--kinds", "selectors", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    heading, row, total = (line.split() for line in done.stdout.splitlines())
    assert heading == ["kind", "inputs", "taken", "failed", "causes"]
    assert row[0] == "selectors" and row[3:] == ["0", "0"] and total[2] == row[1]


def test_one_input_is_tried_again_by_kind_and_number() -> None:
    command = [sys.executable, str(HERE), "files", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] in ("taken", "refused")


def test_the_table_tells_each_cause_once_by_its_first_input() -> None:
    kind, total = Kind("some", lambda random: random.random(), lambda _: True, each=4), Tally()
    for number in range(250):
        cause = "KeyError at x.py:3" if number in (9, 4) else ""
        found = Failure("some", number, cause, "told\n") if cause else number % 2 == 0
        part = Tally()
        part.count("some", found)
        total.add(part)
    told = table([kind], total)
    assert told.splitlines()[1].split() == ["some", "1,000", "496", "2", "1"]
    assert told.endswith("\n\n2 × some 4: KeyError at x.py:3\nreplay: python tests/fuzz some 4\ntold\n")
    assert Random("some 4").random() == kind.input(4)


class Process:
    """A process that only says how it ended."""

    def __init__(self, exitcode: int | None) -> None:
        self.exitcode = exitcode


def test_a_process_that_stays_at_one_input_or_dies_is_found_from_outside() -> None:
    before, now = 0.0, time.monotonic()
    assert fate_of(Worker(Process(None), [0, 5], (0, 5), now)) is None
    assert fate_of(Worker(Process(None), [0, 6], (0, 5), before)) is None
    assert fate_of(seen(Worker(Process(None), [0, 6], (0, 5), before))) is None
    assert "heeds no timer" in str(fate_of(Worker(Process(None), [0, 5], (0, 5), now - STUCK - 1)))
    assert fate_of(Worker(Process(0), [0, 5], (0, 5), before)) == ""
    assert fate_of(Worker(Process(-11), [0, 5], (0, 5), now)) == "the process ended with -11"
