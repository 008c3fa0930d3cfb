"""Selectors: dotted globs over module names and types, parsed into segments."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

SELECTOR_CHARACTERS = frozenset(".*?[(<^")
"""A key of `rules` that holds one of these can be a selector; a plain word cannot."""

ALTERNATIVES = 1024
"""The most names that the alternatives of one segment may come to."""

MAX_SELECTOR_LENGTH = 4096
"""The most characters that a selector may have."""


class SelectorError(ValueError):
    """A selector that cannot be read; `offset` is the 0-based column of the fault."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a selector: what a node's name, its place or its class must be.

    Args:
        text: as written.
        names: globs of which one must match the name; None for any name.
        places: places among the child modules, counted from the end (-1 is the last).
        types: globs of which one must match the class or a base class; None for any class or none.
        among: types of the child modules among which places are counted; None for all.
    """

    text: str
    names: tuple[str, ...] | None = None
    places: tuple[int, ...] = ()
    types: tuple[str, ...] | None = None
    among: tuple[str, ...] | None = None


ANY_DEPTH = Segment("**")


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector.

    Example:
        >>> [segment.text for segment in parse("conv*<Conv2d>.weight").segments]
        ['conv*<Conv2d>', 'weight']
    """

    text: str
    anchored: bool
    segments: tuple[Segment, ...]

    @property
    def counts_places(self) -> bool:
        """Return whether a segment counts child modules from the end."""
        return any(segment.places for segment in self.segments)


@lru_cache(maxsize=65536)
def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        SelectorError: with the column of the fault.

    Example:
        >>> parse("^layer1.**.bias").anchored
        True
        >>> parse("conv[12.weight")
        Traceback (most recent call last):
        ...
        initplug.language.selectors.SelectorError: '[' is never closed
    """
    if not text:
        raise SelectorError("a selector cannot be empty", 0)
    if len(text) > MAX_SELECTOR_LENGTH:
        raise SelectorError(f"it has more than {MAX_SELECTOR_LENGTH:,} characters", MAX_SELECTOR_LENGTH)
    if text != text.strip():
        raise SelectorError("a selector has no white space around it", 0 if text[0].isspace() else len(text.rstrip()))
    cursor = _Cursor(text)
    anchored = cursor.take("^")
    segments = [cursor.segment()]
    while cursor.take("."):
        segment = cursor.segment()
        if segment is not ANY_DEPTH or segments[-1] is not ANY_DEPTH:  # twice any number of segments is any number
            segments.append(segment)
    return Selector(text, anchored, tuple(segments))


def breadth(text: str) -> int:
    """Return about how many names the alternatives of a selector come to; 0 where there are none.

    Example:
        >>> breadth("(q|k|v).(weight|bias)"), breadth("*.bias")
        (5, 0)
    """
    if "|" not in text:
        return 0
    choices = ([part.count("|") + 1 for part in GROUPS.findall(segment)] for segment in text.split("."))
    return sum(min(math.prod(counts), ALTERNATIVES) for counts in choices if counts)


GROUPS = re.compile(r"[(<][^()<>]*[)>]")


def selector_of(name: str) -> str:
    """Return the selector of a dotted name, which means the one node that is called so.

    Example:
        >>> selector_of("layers.0.gamma"), selector_of("branches.a*b.weight")
        ('^layers.0.gamma', '^branches.a[*]b.weight')
    """
    parts = (f"[-]{part[1:]}" if PLACE.fullmatch(part) else part.translate(LITERAL) for part in name.split("."))
    return "^" + ".".join(parts)


LITERAL = str.maketrans({**{character: f"[{character}]" for character in "*?[]()<>| "}, "^": "[]^]"})
"""The spelling of special characters that stand for themselves; `[^]` would be read as a negation."""

TOKEN = re.compile(r"(?s)\[(?:!.|[^!])[^\]]*\]|\*\*|.")
"""A character class, whose first member may be `]`; `**`; or any one character."""


class _Cursor:
    """Reads a selector by its grammar, from left to right.

    selector := ['^'] segment ('.' segment)*
    segment  := '**' | [glob] [types] | types place
    types    := '<' glob ('|' glob)* '>'
    glob     := (character | class | '(' choice ('|' choice)* ')')+

    A glob is read as the plain globs that its choices come to.
    """

    def __init__(self, text: str) -> None:
        self.tokens = [(found.start(), found[0]) for found in TOKEN.finditer(text)]
        self.tokens.append((len(text), ""))
        self.index = 0

    @property
    def offset(self) -> int:
        return self.tokens[self.index][0]

    @property
    def token(self) -> str:
        """The token that comes next; empty at the end."""
        return self.tokens[self.index][1]

    def take(self, token: str) -> bool:
        """Step over a token if it comes next."""
        taken = self.token == token
        self.index += taken
        return taken

    def fault(self, message: str) -> SelectorError:
        return SelectorError(message, self.offset)

    def segment(self) -> Segment:
        begin = self.index
        if self.take("**"):
            if self.token not in (".", ""):
                self.index = begin
                raise self.fault("'**' stands alone in its segment")
            return ANY_DEPTH
        globs = self.glob(".<")
        types = self.types() if self.token == "<" else None
        among = None
        if types and self.token == "-" and not globs:
            globs, among = self.glob(".<"), types
            if not all(map(PLACE.fullmatch, globs)):
                raise SelectorError("after a type stands a place from the end: <Linear>-1", self.tokens[begin][0])
        if types and self.token not in (".", ""):
            raise self.fault("the type ends its segment")
        if not globs and not types:
            raise self.fault("empty segment between dots")
        text = "".join(token for _, token in self.tokens[begin : self.index])
        places = tuple(int(glob) for glob in globs if PLACE.fullmatch(glob) and len(glob) < 19)
        if len(places) < sum(PLACE.fullmatch(glob) is not None for glob in globs):
            raise SelectorError("a place has at most 17 digits", self.tokens[begin][0])
        if 0 in places:
            raise SelectorError("places from the end start at -1", self.tokens[begin][0])
        names = tuple(glob for glob in globs if not PLACE.fullmatch(glob))
        return Segment(text, names or None, places, types, among)

    def types(self) -> tuple[str, ...]:
        opening = self.offset
        globs: list[str] = []
        while self.take("|" if globs else "<"):
            choices = self.glob("|>")
            if not choices:
                raise self.fault("empty alternative")
            globs += choices
        if not self.take(">"):
            raise SelectorError("'<' is never closed", opening)
        return tuple(dict.fromkeys(globs))

    def glob(self, stops: str) -> list[str]:
        """Return the plain globs up to one of `stops` or the end; none if nothing is there."""
        globs: list[str] = []
        while self.token and self.token not in stops:
            if self.token == "(":
                choices = self.choices(dots="." not in stops)
            elif self.token == "|":
                raise self.fault("alternatives need parentheses: (a|b)")
            else:
                choices = [self.piece(stops)]
            if len(globs) * len(choices) > ALTERNATIVES:
                raise self.fault(f"more than {ALTERNATIVES} alternatives in one segment")
            globs = [glob + choice for glob in globs or [""] for choice in choices]
        return list(dict.fromkeys(globs))

    def choices(self, *, dots: bool) -> list[str]:
        """Return what stands in parentheses."""
        opening = self.offset
        globs: list[str] = []
        while self.take("|" if globs else "("):
            glob = ""
            while self.token and self.token not in "|)":
                if self.token == "(":
                    raise self.fault("alternatives are not nested")
                if self.token == "." and not dots:
                    raise self.fault("alternatives stand inside one segment: no dot")
                glob += self.piece("(")
            if not glob and self.token:
                raise self.fault("empty alternative")
            globs.append(glob)
        if not self.take(")"):
            raise SelectorError("'(' is never closed", opening)
        return globs

    def piece(self, context: str) -> str:
        """Return one character or class."""
        token = self.token
        if token == "**":
            raise self.fault("'**' stands alone in its segment")
        if token == "[":
            raise self.fault("'[' is never closed")
        if token == "^":
            raise self.fault("'^' stands only at the beginning")
        if token == "<":
            raise self.fault(f"'<' inside {'(' if context == '(' else '<'!r}")
        if token in ")>]":
            raise self.fault(f"{token!r} closes nothing")
        if len(token) > 1:
            self.check_class(token)
        self.index += 1
        return token

    def check_class(self, token: str) -> None:
        members = token[1:-1]
        if members.startswith("^"):
            raise SelectorError("a negated class is written [!…]", self.offset + 1)
        for found in re.finditer(r"(?s)(.)-(.)", members.removeprefix("!")):
            if found[1] > found[2]:
                raise self.fault(f"the range {found[0]} is empty")


PLACE = re.compile(r"-[0-9]+")
"""A place among the child modules, counted from the end."""
