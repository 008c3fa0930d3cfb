"""Initializers of installed packages: listed by their entry points, loaded when a recipe uses one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from initplug.errors import brief
from initplug.schemes.initializers import REGISTRY
from initplug.schemes.registry import INITIALIZER_NAME, Initializer, register

ENTRY_POINT_GROUP = "initplug.initializers"
"""Entry points whose names are initializers and whose values are their functions."""


class EntryError(ValueError):
    """An initializer of an installed package that cannot be used; the text names package and entry point."""


@cache
def entries() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of installed packages by name; nothing is loaded."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def all_names() -> list[str]:
    """Return the names that recipes can use, sorted; those of installed packages are only listed.

    Example:
        >>> all_names()[:3]
        ['arange', 'bilinear', 'constant']
    """
    return sorted({*REGISTRY, *(name for name in entries() if INITIALIZER_NAME.fullmatch(name))})


def find(name: str) -> Initializer | None:
    """Return the initializer of this name, loaded if it is an installed package's; None if there is none.

    Raises:
        EntryError: the package cannot be imported, has no such function, or has a name that is taken.
    """
    offered, held = entries().get(name, ()), REGISTRY.get(name)
    if not offered:
        return held
    entry = offered[0]
    if len(offered) > 1:
        raise EntryError(f"{' and '.join(_told(one) for one in offered)} both claim the initializer {name!r}")
    if held is not None and held.built_in:
        raise EntryError(f"{_told(entry)} claims the initializer {name!r}, which initplug has itself")
    return _load_entry(entry)


def _load_entry(entry: EntryPoint) -> Initializer:
    before = set(REGISTRY)
    try:
        function = entry.load()
    except (Exception, SystemExit) as error:  # packages are code of others, which may raise anything
        # A module that failed is gone, and so are its initializers: it may be mended and loaded again.
        for name in REGISTRY.keys() - before:
            if REGISTRY[name].home not in sys.modules:
                del REGISTRY[name]
        raise EntryError(f"{_told(entry)} cannot be loaded: {brief(error)}") from error
    registered = [one for one in REGISTRY.values() if one.function is function]
    if any(one.name == entry.name for one in registered):
        return REGISTRY[entry.name]
    if registered:
        raise EntryError(f"{_told(entry)} is called {entry.name!r}, its function {registered[0].name!r}")
    try:
        return register(function, entry.name)
    except ValueError as error:
        raise EntryError(f"{_told(entry)}: {error}") from None


def _told(entry: EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "a package"
    return f"{package} (entry point {entry.name} = {entry.value})"
