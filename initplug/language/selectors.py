"""Selectors: dotted globs over module names and types, and the one-pass matcher.

A selector is parsed into segments; all selectors of a recipe are laid into one trie whose edges are segments. A walk
of the module tree carries a `State`, the set of trie nodes reached so far; transitions are remembered, so the matcher
is a deterministic automaton built while it runs and its cost hardly depends on the number of selectors.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

SELECTOR_CHARACTERS = frozenset(".*?[(<^")
"""A key of `rules` that holds one of these can be a selector; a plain word cannot."""

ALTERNATIVES = 1024
"""The most names that the alternatives of one segment may come to."""

MAX_SELECTOR_LENGTH = 4096
"""The most characters that a selector may have."""

GLOBS_PER_GROUP = 32
"""Globs of one trie node are tried in groups of this many, each group first as one pattern."""


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
    """

    text: str
    names: tuple[str, ...] | None = None
    places: tuple[int, ...] = ()
    types: tuple[str, ...] | None = None


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
    segment  := '**' | [glob] ['<' glob ('|' glob)* '>']
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
        return Segment(text, names or None, places, types)

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


def _is_literal(glob: str) -> bool:
    return not any(character in "*?[" for character in glob)


@lru_cache(maxsize=65536)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs))


@lru_cache(maxsize=65536)
def class_matches(cls: type, types: tuple[str, ...]) -> bool:
    """Return whether the class or one of its bases is named by one of the globs.

    A dotted glob names a class that is defined in or below a module: `torch.nn.Conv2d` takes
    `torch.nn.modules.conv.Conv2d`.
    """
    for glob in types:
        module_glob, _, name_glob = glob.rpartition(".")
        for base in cls.__mro__:
            if not fnmatch.fnmatchcase(base.__name__, name_glob):
                continue
            if not module_glob or _is_inside(base.__module__, module_glob):
                return True
    return False


def _is_inside(module: str, glob: str) -> bool:
    parts = module.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:count]), glob) for count in range(1, len(parts) + 1))


Types = tuple[str, ...] | None


class _Node:
    """A place in the trie: the segments that lead on, sorted by how they are looked up."""

    __slots__ = ("accepts", "edges", "globs", "groups", "literals", "places", "repeats", "typed", "typed_for")

    def __init__(self, repeats: bool = False) -> None:
        self.repeats = repeats  # entered by `**`: stays active whatever comes
        self.accepts: list[int] = []
        self.edges: dict[Segment, _Node] = {}
        self.literals: dict[str, list[tuple[Types, _Node]]] = {}
        self.places: dict[int, list[tuple[Types, _Node]]] = {}
        self.globs: list[tuple[tuple[str, ...], Types, _Node]] = []
        self.groups: list[tuple[re.Pattern[str], list[tuple[re.Pattern[str], Types, _Node]]]] = []
        self.typed: list[tuple[Types, _Node]] = []
        self.typed_for: dict[type, list[_Node]] = {}

    def child(self, segment: Segment) -> _Node:
        """Return the node that a segment leads to, made if it is new."""
        node = self.edges.get(segment)
        if node is not None:
            return node
        node = self.edges[segment] = _Node(repeats=segment is ANY_DEPTH)
        if segment is ANY_DEPTH:
            return node
        for place in segment.places:
            self.places.setdefault(place, []).append((segment.types, node))
        if segment.names is None:
            if not segment.places:
                self.typed.append((segment.types, node))
        elif all(_is_literal(name) for name in segment.names):
            for name in segment.names:
                self.literals.setdefault(name, []).append((segment.types, node))
        else:
            self.globs.append((segment.names, segment.types, node))
        return node

    def seal(self) -> None:
        """Compile the globs from here on into groups; the trie is complete."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            waiting.extend(node.edges.values())
            for start in range(0, len(node.globs), GLOBS_PER_GROUP):
                group = node.globs[start : start + GLOBS_PER_GROUP]
                union = _pattern(tuple(name for names, _, _ in group for name in names))
                node.groups.append((union, [(_pattern(names), types, child) for names, types, child in group]))

    def step(self, name: str, cls: type | None, place: int | None) -> Iterator[_Node]:
        """Yield the nodes that a path's next node leads to."""
        if self.repeats:
            yield self
        for types, child in self.literals.get(name, ()):
            if _has_type(cls, types):
                yield child
        for union, group in self.groups:
            if union.match(name) is not None:
                for pattern, types, child in group:
                    if pattern.match(name) and _has_type(cls, types):
                        yield child
        if place is not None:
            for types, child in self.places.get(place, ()):
                if _has_type(cls, types):
                    yield child
        if cls is not None and self.typed:
            if cls not in self.typed_for:
                self.typed_for[cls] = [child for types, child in self.typed if _has_type(cls, types)]
            yield from self.typed_for[cls]


def _has_type(cls: type | None, types: Types) -> bool:
    return types is None or (cls is not None and class_matches(cls, types))


class State:
    """The progress of the selectors after a path: active trie nodes, and the selectors matched on the way.

    Args:
        active: trie nodes that the path has reached.
        here: indices of the selectors that match the path itself.
        hits: indices of the selectors that match the path or one above it, ascending.
        number: its place among the states of its matcher.
    """

    __slots__ = ("active", "here", "hits", "moves", "number")

    def __init__(self, active: Iterable[_Node], here: frozenset[int], hits: tuple[int, ...], number: int) -> None:
        self.number = number
        self.active = tuple(active)
        self.here = here
        self.hits = hits
        self.moves: dict[tuple[str, type | None, int | None], State] = {}


class Matcher:
    """All selectors at once: feed it the nodes of a path, read the selectors that match.

    Args:
        selectors: parsed selectors; their positions are the numbers in `State.hits`.

    Example:
        >>> matcher = Matcher([parse("conv*"), parse("^fc.bias")])
        >>> root = matcher.root(object)
        >>> matcher.step(matcher.step(root, "fc", None), "bias", None).hits
        (1,)
    """

    def __init__(self, selectors: Sequence[Selector]) -> None:
        floating, anchored = _Node(), _Node()
        for index, selector in enumerate(selectors):
            node = anchored if selector.anchored else floating
            for segment in selector.segments:
                node = node.child(segment)
            node.accepts.append(index)
        floating.seal()
        anchored.seal()
        self.counts_places = any(selector.counts_places for selector in selectors)
        self._floating = _closure([floating])
        self._anchored = _closure([anchored])
        self.states: list[State] = []
        self._known: dict[tuple[frozenset[_Node], frozenset[int], tuple[int, ...]], State] = {}

    def root(self, cls: type | None) -> State:
        """Return the state after the model itself, the nameless first node."""
        reached = [child for node in self._floating for child in node.step("", cls, None)]
        return self._state([*reached, *self._anchored], ())

    def step(self, state: State, name: str, cls: type | None, place: int | None = None) -> State:
        """Return the state one node further down.

        Args:
            state: of the parent.
            name: of the node in its parent.
            cls: class of a module; None for a tensor.
            place: of a module among its siblings, counted from the end; matters if `counts_places`.
        """
        key = (name, cls, place)
        found = state.moves.get(key)
        if found is None:
            reached = [child for node in state.active for child in node.step(name, cls, place)]
            found = state.moves[key] = self._state(reached, state.hits)
        return found

    def passed(self, state: State, above: State) -> State:
        """Return a state without what its own node matched: for a module with a tensor's name that does not select it.

        Args:
            state: of the node.
            above: of its parent.
        """
        return self._numbered(frozenset(state.active), frozenset(), above.hits)

    def _state(self, reached: Sequence[_Node], above: tuple[int, ...]) -> State:
        closed = _closure(reached)
        here = frozenset(index for node in closed for index in node.accepts)
        hits = tuple(sorted(here.union(above))) if here else above
        active = frozenset(node for node in (*closed, *self._floating) if node.edges)
        return self._numbered(active, here, hits)

    def _numbered(self, active: frozenset[_Node], here: frozenset[int], hits: tuple[int, ...]) -> State:
        key = (active, here, hits)
        state = self._known.get(key)
        if state is None:
            state = self._known[key] = State(active, here, hits, len(self.states))
            self.states.append(state)
        return state


def _closure(nodes: Sequence[_Node]) -> tuple[_Node, ...]:
    """Return the nodes with those that `**`, standing for no segment, reaches from them."""
    found = dict.fromkeys(nodes)
    waiting = list(found)
    while waiting:
        child = waiting.pop().edges.get(ANY_DEPTH)
        if child is not None and child not in found:
            found[child] = None
            waiting.append(child)
    return tuple(found)
