"""Inputs by kind and number: made from a seed, checked within a bound of CPU time, and shrunk where they fail.

A kind makes an input from a generator of random numbers and checks what the product does with it. Inputs are plain
data with odd leaves, so that one shrinker serves all kinds. The number of an input is all that it takes to make it
again: `python tests/fuzz KIND NUMBER`.
"""

from __future__ import annotations

import reprlib
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

import initplug
from initplug.errors import InitplugError, InitplugWarning

BOUND = 10.0
"""Seconds of CPU time after which one input counts as a hang."""

PATIENCE = 5.0
"""Seconds of CPU time that shrinking takes at most."""

FRAMES = 12
"""How much of a traceback is told."""

PRODUCT = Path(initplug.__file__).parent

SHOWN = reprlib.Repr()
"""Shows what has no text, and circles, too."""
SHOWN.maxlevel = 20
SHOWN.maxdict = SHOWN.maxlist = SHOWN.maxtuple = 60
SHOWN.maxstring, SHOWN.maxother = 3000, 300


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Args:
        name: what it is called on the command line.
        made: an input, from random numbers.
        checked: raises if the product does wrong; says whether it took the input.
        each: how many inputs one of them counts for, such as the selectors that are tried on one tree.
        count: how many of them the tests try.
        share: of the time of a long run, beside those of other kinds.
    """

    name: str
    made: Callable[[Random], Any]
    checked: Callable[[Any], bool]
    each: int = 1
    count: int = 100
    share: float = 1.0

    def input(self, number: int) -> Any:
        """The input with a number."""
        return self.made(Random(f"{self.name} {number}"))


class HangError(BaseException):
    """An input took more than its time. No `except Exception` may stop it."""


@dataclass(frozen=True)
class Failure:
    """An input that the product does wrong with.

    Args:
        kind: of the input.
        number: that makes it.
        cause: the class of what was raised and the line that raised it: the same for the same fault.
        told: the traceback.
    """

    kind: str
    number: int
    cause: str
    told: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.number}: {self.cause}\nreplay: python tests/fuzz {self.kind} {self.number}\n{self.told}"
        )


@contextmanager
def watched() -> Iterator[None]:
    """Inside, an armed timer ends in `HangError`, warnings that are not ours are errors, and torch has one thread."""

    def hang(*_: object) -> None:
        raise HangError(f"more than {BOUND:g} s of CPU time")

    before, threads = signal.signal(signal.SIGPROF, hang), torch.get_num_threads()
    torch.set_num_threads(1)  # those of parallel workers would wait for one another on small tensors
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", InitplugWarning)
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        torch.set_num_threads(threads)


def outcome(kind: Kind, given: Any) -> bool | BaseException:
    """Return whether the product took the input, or what was raised that should not have been."""
    signal.setitimer(signal.ITIMER_PROF, BOUND)
    try:
        return kind.checked(given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and HangError too
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def tried(kind: Kind, number: int, *, shrink: bool = True) -> bool | Failure:
    """Try one input, inside `watched()`: whether the product took it, or how it failed."""
    given = kind.input(number)
    found = outcome(kind, given)
    if isinstance(found, bool):
        return found
    told = "".join(traceback.format_exception(found, limit=-FRAMES, chain=False))
    cause = cause_of(found)
    if shrink and not isinstance(found, HangError):
        # Checking may have changed what is mutable in it.
        small = shrunk(kind.input(number), lambda smaller: _fails_alike(kind, smaller, cause))
        told += f"input, shrunk: {SHOWN.repr(small)}\n"
    else:
        told += f"input: {SHOWN.repr(given)}\n"
    return Failure(kind.name, number, cause, told)


def cause_of(error: BaseException) -> str:
    """The class of an error, and the last line of the product that led to it; of a claim that fails, the claim's."""
    places = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [place for place in places if PRODUCT in place[0].parents]
    file, line = (places if isinstance(error, AssertionError) or not ours else ours)[-1]
    return f"{type(error).__name__} at {file.name}:{line}"


def _fails_alike(kind: Kind, given: Any, cause: str) -> bool:
    found = outcome(kind, given)
    return isinstance(found, BaseException) and cause_of(found) == cause


# Shrinking ---------------------------------------------------------------------------------------------------


def shrunk(given: Any, fails: Callable[[Any], bool]) -> Any:
    """The smallest input that was found to fail alike, in a bounded time."""
    until = time.process_time() + PATIENCE
    smaller = True
    while smaller:
        smaller = False
        for candidate in simpler(given):
            if time.process_time() > until:
                return given
            if fails(candidate):
                given, smaller = candidate, True
                break
    return given


def simpler(given: Any) -> Iterator[Any]:
    """Inputs with a piece less: of dicts, lists and texts, at any depth."""
    if isinstance(given, str) and type(given) is str:
        yield from _shorter(given)
    elif type(given) is list:
        yield from _shorter(given)
        for index, part in enumerate(given):
            yield from ([*given[:index], smaller, *given[index + 1 :]] for smaller in simpler(part))
    elif type(given) is tuple:  # a record: of fixed length
        for index, part in enumerate(given):
            yield from ((*given[:index], smaller, *given[index + 1 :]) for smaller in simpler(part))
    elif type(given) is dict:
        for key in given:
            yield {other: value for other, value in given.items() if other is not key}
        for key, part in given.items():
            yield from (
                {other: smaller if other is key else value for other, value in given.items()}
                for smaller in simpler(part)
            )


def _shorter(given: Any) -> Iterator[Any]:
    size = len(given)
    width = size
    while width:
        for start in range(0, size, width):
            yield given[:start] + given[start + width :]
        width //= 2


# What every error must be ------------------------------------------------------------------------------------

LONGEST = 20_000
"""Characters that a message may have: nothing that was given is told at full length if it is long."""


def well_said(error: InitplugError) -> None:
    """Raise unless an error is one message that a person can read."""
    text = str(error)
    assert text.strip(), "an error says nothing"
    assert "Traceback" not in text, text
    assert len(text) <= LONGEST, f"a message of {len(text)} characters"
    assert text.count("\n") <= 60, f"a message of {text.count(chr(10))} lines"
