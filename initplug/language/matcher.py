"""The matcher: all selectors of a recipe in one walk of the module tree.

They are laid into one trie whose edges are segments. A walk carries a `State`, the set of trie nodes reached so far;
transitions are remembered, so that the matcher is a deterministic automaton built while it runs, and its cost hardly
depends on the number of selectors.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from initplug.language.selectors import ANY_DEPTH, Segment, Selector

GLOBS_PER_GROUP = 32
"""Globs of one trie node are tried in groups of this many, each group first as one pattern."""


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

Place = tuple[Types, int]
"""Types of child modules, None for all, and a place among these, counted from the end."""


class _Node:
    """A place in the trie: the segments that lead on, sorted by how they are looked up."""

    __slots__ = ("accepts", "edges", "globs", "groups", "literals", "places", "repeats", "typed", "typed_for")

    def __init__(self, repeats: bool = False) -> None:
        self.repeats = repeats  # entered by `**`: stays active whatever comes
        self.accepts: list[int] = []
        self.edges: dict[Segment, _Node] = {}
        self.literals: dict[str, list[tuple[Types, _Node]]] = {}
        self.places: dict[Place, list[tuple[Types, _Node]]] = {}
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
            self.places.setdefault((segment.among, place), []).append((segment.types, node))
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

    def step(self, name: str, cls: type | None, places: tuple[Place, ...]) -> Iterator[_Node]:
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
        for place in places:
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
        self.moves: dict[tuple[str, type | None, tuple[Place, ...]], State] = {}


class Matcher:
    """All selectors at once: feed it the nodes of a path, read the selectors that match.

    Args:
        selectors: parsed selectors; their positions are the numbers in `State.hits`.

    Example:
        >>> from initplug.language.selectors import parse
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
        segments = (segment for selector in selectors for segment in selector.segments)
        self.counted = tuple(dict.fromkeys(segment.among for segment in segments if segment.places))
        """Types of child modules among which places are counted; None for all."""
        self._floating = _closure([floating])
        self._anchored = _closure([anchored])
        self.states: list[State] = []
        self._after: dict[tuple[tuple[_Node, ...], tuple[int, ...]], State] = {}
        self._known: dict[tuple[frozenset[_Node], frozenset[int], tuple[int, ...]], State] = {}

    def root(self, cls: type | None) -> State:
        """Return the state after the model itself, the nameless first node."""
        reached = [child for node in self._floating for child in node.step("", cls, ())]
        return self._state([*reached, *self._anchored], ())

    def step(self, state: State, name: str, cls: type | None, places: tuple[Place, ...] = ()) -> State:
        """Return the state one node further down.

        Args:
            state: of the parent.
            name: of the node in its parent.
            cls: class of a module; None for a tensor.
            places: of a module among its siblings of each of the `counted` types that it has.
        """
        key = (name, cls, places)
        found = state.moves.get(key)
        if found is None:
            reached = [child for node in state.active for child in node.step(name, cls, places)]
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
        key = (tuple(reached), above)
        state = self._after.get(key)
        if state is None:
            closed = _closure(reached)
            here = frozenset(index for node in closed for index in node.accepts)
            hits = tuple(sorted(here.union(above))) if here else above
            active = frozenset(node for node in (*closed, *self._floating) if node.edges)
            state = self._after[key] = self._numbered(active, here, hits)
        return state

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
