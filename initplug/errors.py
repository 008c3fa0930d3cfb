"""Faults as data (`Finding`) and as exceptions that print them."""

from __future__ import annotations

import difflib
import heapq
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ROWS = 10
"""How many rows of one kind a message shows before it says how many more there are."""

VALUE = 60
"""Characters that a message shows of one value."""

NAME = 200
"""Characters that a message shows of a name or a path."""

LINE = 1000
"""Characters of a line of a message."""


def visible(text: str) -> str:
    r"""Return a text with line breaks, control characters and marks of direction as escapes.

    Example:
        >>> print(visible("a\nb\x1b[31m"))
        a\nb\x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def cut(text: str, limit: int) -> str:
    """Return a text on one line, without its middle where it is longer than `limit`.

    Example:
        >>> cut("abcdefghij", 7)
        'abc…hij'
    """
    if len(text) > limit:
        text = f"{text[: (limit - 1) // 2]}…{text[len(text) - limit // 2 :]}"
    return visible(text)


def bounded(message: str) -> str:
    """Return a message of which every line is visible and bounded."""
    return "\n".join(cut(line, 3 * LINE) for line in message.split("\n"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where.

    Args:
        path: dotted path of the recipe key, or the name of the slot.
        message: what happened.
        file: file, `<text>`, `<mapping>`, `<config>` or `override: …`, where known.
        line: 1-based line in `file`.
        column: 1-based column in `file`.
        hint: the way out.
    """

    path: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    @classmethod
    def at(cls, location: str | None, path: str, message: str, hint: str | None = None) -> Finding:
        """Return a finding whose place is told as `file:line`.

        Example:
            >>> Finding.at("mine.yaml:3", "rules.bn", "selects nothing").line
            3
        """
        found = re.fullmatch(r"(.*):([0-9]+)", location or "")
        file, line = (found[1], int(found[2])) if found else (location, None)
        return cls(path, message, file, line, hint=hint)

    def __str__(self) -> str:
        file, path = cut(self.file or "", NAME), cut(self.path, NAME)
        place = ":".join(str(part) for part in (file or None, self.line, self.column) if part is not None)
        text = ": ".join(part for part in (place, path, bounded(self.message)) if part)
        return f"{text} ({cut(self.hint, LINE)})" if self.hint else text


class InitplugError(ValueError):
    """Base of every error that initplug raises on purpose; `findings` holds the parts, names as they are."""

    def __init__(self, message: str, findings: Iterable[Finding] = ()) -> None:
        super().__init__(bounded(message))
        self.findings: tuple[Finding, ...] = tuple(findings)


class RecipeError(InitplugError):
    """The recipe itself is wrong: found without any model.

    `usage` is true where nothing was read: no such recipe, or an override that is no override.
    """

    def __init__(self, message: str, findings: Iterable[Finding] = (), *, usage: bool = False) -> None:
        super().__init__(message, findings)
        self.usage = usage

    @classmethod
    def of(cls, findings: Sequence[Finding], *, usage: bool = False) -> RecipeError:
        """Return the error that prints these findings, one per line."""
        return cls("\n".join(shortened([str(finding) for finding in findings])), findings, usage=usage)


class PlanError(InitplugError):
    """The recipe does not fit the model; `plan` is as much of the plan as could be made."""

    def __init__(self, message: str, findings: Iterable[Finding] = (), plan: Any = None) -> None:
        super().__init__(message, findings)
        self.plan = plan


class ApplyError(InitplugError):
    """The plan cannot be, or could not be, written to the model."""


class ProbeError(InitplugError):
    """The model cannot be probed on these inputs; `trace` is what had been measured when its forward raised."""

    def __init__(self, message: str, findings: Iterable[Finding] = (), trace: Any = None) -> None:
        super().__init__(message, findings)
        self.trace = trace


class InitplugWarning(UserWarning):
    """Something that is legal and probably not meant."""


CANDIDATES = 256
"""How many names are compared letter by letter: of more, those that share the most segments."""


def shortened(rows: Sequence[str], limit: int = ROWS) -> list[str]:
    """Return the first `limit` rows, and a last one that counts the others.

    Example:
        >>> shortened(["a", "b", "c"], limit=2)
        ['a', 'b', '… and 1 more']
    """
    if len(rows) <= limit:
        return list(rows)
    return [*rows[:limit], f"… and {len(rows) - limit} more"]


def headed(head: str, findings: Sequence[Finding]) -> str:
    """Return a heading and the findings below it."""
    return "\n".join([head, *(f"  {row}" for row in shortened([str(finding) for finding in findings]))])


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of other code says; torch's own go on for pages."""
    try:
        lines = str(error).splitlines()
    except BaseException:  # it may not even be able to say what it is
        return ""
    return next((line for line in lines if line.strip()), "")


def brief(error: BaseException, limit: int | None = None) -> str:
    """Return the class of an error of other code, and the first line of what it says, of at most `limit` characters.

    Example:
        >>> brief(ValueError("no such size"), limit=7), brief(MemoryError())
        ('ValueError: no such', 'MemoryError')
    """
    return f"{type(error).__name__}: {first_line(error)[:limit]}".rstrip(": ")


def warn(message: str) -> None:
    """Warn at the line outside the package that led here."""
    level = 2
    while sys._getframe(level - 1).f_globals.get("__name__", "").partition(".")[0] == "initplug":
        level += 1
    warnings.warn(bounded(message), InitplugWarning, stacklevel=level)


def near(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that `word` was probably meant to be: the most like it, of a likeness up to 1.

    Example:
        >>> near("fan_inn", ["fan_in", "fan_out"])
        'fan_in'
    """
    if len(word) > NAME:  # comparing takes the square of the length
        return None
    candidates = list(known)
    if len(candidates) > CANDIDATES:
        parts = set(word.split("."))
        candidates = heapq.nlargest(CANDIDATES, candidates, key=lambda name: len(parts.intersection(name.split("."))))
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the hint that names the nearest known word, if one is near."""
    match = near(word, known)
    return f"did you mean {match}?" if match else None
