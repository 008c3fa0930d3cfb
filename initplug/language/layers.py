"""Recipe data on its way to validation, and how one recipe is laid over another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from initplug.language.recipe import EXCEPTIONS
from initplug.language.yaml import Place, Steps


@dataclass(slots=True)
class Composed:
    """Recipe data on its way to validation, with the place of every part.

    Args:
        data: plain data; `defaults` are merged.
        origin: what messages call the whole.
        values: places of values.
        keys: places of keys.
        replaced: for an initializer whose `fn` was overridden, what it was: the owner of keys that are left over.
        stars: places of unquoted texts that begin with `*`.
        files: for the name of a recipe file in messages, the file itself; presets are none.
        root: where the recipe stands in the config of an application.
        shipped: what messages call the presets that are part of it.
        flattened: rules that a later layer gave a value in their place.
        overruled: the exceptions of rules that a later layer gave under the other of their two names.
    """

    data: dict[str, Any]
    origin: str
    values: dict[Steps, Place] = field(default_factory=dict)
    keys: dict[Steps, Place] = field(default_factory=dict)
    replaced: dict[Steps, Any] = field(default_factory=dict)
    stars: list[Place] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    root: Steps = ()
    shipped: set[str] = field(default_factory=set)
    flattened: set[str] = field(default_factory=set)
    overruled: set[Steps] = field(default_factory=set)


def merge(base: Composed, top: Composed) -> None:
    """Lay `top` over `base` as OmegaConf merges: mappings key by key, everything else as a whole.

    The key of a mapping that both have stands where it stood, and the mapping where `top` has it: what is wrong with
    the two together, `top` brought about.
    """
    missing: set[Steps] = set()
    joined: set[Steps] = set()
    replaced: set[Steps] = set()
    laid: list[Steps] = []

    def lay(under: dict[str, Any], over: dict[str, Any], path: Steps) -> None:
        for other in overruled(over, path):
            if other in under:
                del under[other]
                replaced.add((*path, other))
                base.overruled.add((*path, other))
        for key, value in over.items():
            here = (*path, key)
            if value == "???" and key in under:  # a value that is still missing replaces none
                missing.add(here)
                continue
            if isinstance(value, dict) and isinstance(under.get(key), dict):
                joined.add(here)
                lay(under[key], value, here)
                continue
            if key in under:
                replaced.add(here)
                if path == ("rules",) and isinstance(under[key], dict):
                    base.flattened.add(key)
                if key == "fn" and under[key] != value:
                    base.replaced[path] = under[key]
            under[key] = value
            base.overruled.discard(here)
            laid.append(here)

    lay(base.data, top.data, ())
    for places, others, kept in ((base.values, top.values, missing), (base.keys, top.keys, missing | joined)):
        for path in [path for path in places if any(path[:length] in replaced for length in range(len(path) + 1))]:
            del places[path]
        places.update({path: place for path, place in others.items() if path not in kept})
    for path in laid:  # what has no place of its own, in a mapping, stands at least in no other file
        base.values.setdefault(path, Place(top.origin))
    base.replaced.update(top.replaced)
    base.stars.extend(top.stars)
    base.files.update(top.files)
    base.shipped |= top.shipped
    base.flattened |= top.flattened
    base.overruled |= top.overruled


def overruled(layer: Mapping[str, Any], path: Steps) -> list[str]:
    """Return the exceptions' names that a layer takes from a rule below it, since it gives them under the other name.

    Example:
        >>> overruled({"exclude": "head.*"}, ("rules", "conv"))
        ['except']
    """
    if len(path) != 2 or path[0] != "rules":
        return []
    given = [key for key in EXCEPTIONS if layer.get(key) not in (None, "???")]
    return [key for key in EXCEPTIONS if key not in given] if given else []


def forget_places(composed: Composed, path: Steps) -> None:
    """Drop the places of a key or value, and of all below it.

    Example:
        >>> composed = Composed({}, "recipe.yaml", {("a",): Place("recipe.yaml"), ("a", "b"): Place("recipe.yaml")})
        >>> forget_places(composed, ("a", "b"))
        >>> [*composed.values]
        [('a',)]
    """
    for places in (composed.values, composed.keys):
        for known in [known for known in places if known[: len(path)] == path]:
            del places[known]
