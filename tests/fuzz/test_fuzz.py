"""A minute of fuzzing: the first inputs of every kind, the same in every run."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator

import pytest
from fuzz_kinds import KINDS
from fuzzing import Failure, tried, watched

STUCK = 600
"""Seconds after which a test is ended with a traceback: code in C heeds no timer."""

SHOWN = 3
"""Failures that a test tells of."""


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    faulthandler.dump_traceback_later(STUCK, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", [*KINDS])
def test_every_input_is_taken_or_refused_in_our_words(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    kind = KINDS[name]
    failures: dict[str, Failure] = {}
    taken = 0
    with watched():
        for number in range(kind.count):
            found = tried(kind, number, shrink=False)
            if isinstance(found, Failure):
                failures.setdefault(found.cause, found)
            else:
                taken += found
        told = [str(tried(kind, failure.number)) for failure in [*failures.values()][:SHOWN]]
    assert not told, "\n".join([f"{len(failures)} causes of failures", *told])
    assert taken > kind.count / 50, "hardly an input is taken: what is tried is refused at the door"
    record_property(f"fuzzed {name}", kind.count * kind.each)
