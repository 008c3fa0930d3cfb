"""Selectors matched by brute force: slow, written from the description of the language alone, obviously right.

A selector is a list of segments, a segment a dict with `name` (a glob), `place` (from the end) or `types` (pairs of a
module and a glob), or `**`. A glob is a list of tokens: a text, `*`, `?`, a set of characters or alternatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn

Glob = list[Any]
"""Tokens: `["text", t]`, `["star"]`, `["any"]`, `["set", characters, negated]`, `["either", globs]`."""

Segment = dict[str, Any]
Selector = dict[str, Any]
"""`anchored` and `segments`."""


class Node(NamedTuple):
    """A step of a path: a module, or the parameter at its end, which has no class and no place."""

    name: str
    cls: type | None = None
    place: int | None = None


class Place(NamedTuple):
    """A tensor at one of its places."""

    path: tuple[Node, ...]
    tensor: Tensor
    kind: str

    @property
    def name(self) -> str:
        return ".".join(node.name for node in self.path[1:])


def places_of(module: nn.Module, path: tuple[Node, ...] | None = None) -> Iterator[Place]:
    """Every tensor at every one of its places; the model itself is a nameless first node."""
    path = (Node("", type(module)),) if path is None else path
    for kind, held in (("parameter", module._parameters), ("buffer", module._buffers)):
        for key, tensor in held.items():
            if tensor is not None:
                yield Place((*path, Node(key)), tensor, kind)
    children = [(key, child) for key, child in module._modules.items() if child is not None]
    for index, (key, child) in enumerate(children):
        yield from places_of(child, (*path, Node(key, type(child), index - len(children))))


def selected(selector: Selector, places: Sequence[Place]) -> set[int]:
    """Which places are selected: where the tensor, or a module above it, matches."""
    fitting: dict[tuple[int, int], bool] = {}
    matching: dict[int, bool] = {}  # every node stands at the end of one path

    def match(path: tuple[Node, ...]) -> bool:
        if id(path[-1]) not in matching:
            matching[id(path[-1])] = matches(selector, path, fitting)
        return matching[id(path[-1])]

    return {
        index
        for index, place in enumerate(places)
        if any(match(place.path[:end]) for end in range(1, len(place.path) + 1))
    }


def matches(selector: Selector, path: tuple[Node, ...], fitting: dict[tuple[int, int], bool]) -> bool:
    """Return whether a node, at the end of its path, matches."""
    if selector["anchored"]:
        return aligned(selector["segments"], 0, path, 1, fitting)
    return any(aligned(selector["segments"], 0, path, start, fitting) for start in range(len(path)))


def aligned(
    segments: list[Segment], segment: int, path: tuple[Node, ...], node: int, fitting: dict[tuple[int, int], bool]
) -> bool:
    """Return whether the segments from one on match the nodes from one on, all of both; `fitting` remembers."""
    if segment == len(segments):
        return node == len(path)
    if segments[segment].get("depth"):
        return any(aligned(segments, segment + 1, path, later, fitting) for later in range(node, len(path) + 1))
    if node == len(path):
        return False
    key = (segment, id(path[node]))
    if key not in fitting:
        fitting[key] = fits(segments[segment], path[node])
    return fitting[key] and aligned(segments, segment + 1, path, node + 1, fitting)


def fits(segment: Segment, node: Node) -> bool:
    """Return whether one segment matches one node: its name or its place, and its class."""
    if segment.get("name") is not None and not spells(segment["name"], node.name):
        return False
    if segment.get("place") is not None and segment["place"] != node.place:
        return False
    types = segment.get("types")
    return types is None or (node.cls is not None and any(is_a(node.cls, *one) for one in types))


def is_a(cls: type, package: str, glob: Glob) -> bool:
    """Return whether a class or one of its bases has a name that the glob spells, defined in or below a package."""
    return any(
        spells(glob, base.__name__)
        and (not package or base.__module__ == package or base.__module__.startswith(f"{package}."))
        for base in cls.__mro__
    )


def spells(glob: Glob, text: str) -> bool:
    """Return whether a glob matches the whole of a text."""
    if not glob:
        return not text
    (kind, *told), rest = glob[0], glob[1:]
    if kind == "text":
        return text.startswith(told[0]) and spells(rest, text[len(told[0]) :])
    if kind == "star":
        return any(spells(rest, text[count:]) for count in range(len(text) + 1))
    if kind == "either":
        return any(spells([*choice, *rest], text) for choice in told[0])
    if not text:
        return False
    return (kind == "any" or (text[0] in told[0]) != told[1]) and spells(rest, text[1:])


# As written --------------------------------------------------------------------------------------------------


def written(selector: Selector) -> str:
    """The selector in the language."""
    return ("^" if selector["anchored"] else "") + ".".join(map(_segment, selector["segments"]))


def _segment(segment: Segment) -> str:
    if segment.get("depth"):
        return "**"
    name = _glob(segment["name"]) if segment.get("name") is not None else ""
    if segment.get("place") is not None:
        name = str(segment["place"])
    if segment.get("types") is None:
        return name
    types = ((f"{package}." if package else "") + _glob(glob) for package, glob in segment["types"])
    return f"{name}<{'|'.join(types)}>"


def _glob(glob: Glob) -> str:
    return "".join(map(_token, glob))


def _token(token: list[Any]) -> str:
    match token:
        case ["text", text]:
            return str(text)
        case ["star"]:
            return "*"
        case ["any"]:
            return "?"
        case ["set", characters, negated]:
            return f"[{'!' if negated else ''}{_ranged(characters)}]"
        case ["either", choices]:
            return f"({'|'.join(map(_glob, choices))})"
    raise ValueError(f"{token!r} is no token")


def _ranged(characters: str) -> str:
    """Characters of a set; three or more in a row as a range."""
    follows = len(characters) > 2 and all(ord(b) - ord(a) == 1 for a, b in pairwise(characters))
    return f"{characters[0]}-{characters[-1]}" if follows else characters
