"""Ways out for what an initializer does not take: words, numbers, and arguments that others have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from initplug.errors import VALUE, cut, did_you_mean
from initplug.language.arguments import MODIFIERS
from initplug.schemes.fans import FanRule
from initplug.schemes.registry import REGISTRY, Initializer, kinds_of

TORCH_NAMES = {"a": "low", "b": "high", "val": "value"}
"""Arguments of torch.nn.init that are called otherwise here."""


def owners(argument: str) -> list[str]:
    """Return the initializers that take an argument of this name."""
    return [name for name, initializer in REGISTRY.items() if argument in initializer.parameters]


def words_by_argument(initializer: Initializer) -> dict[str, tuple[str, ...]]:
    """Return the words of every argument that has some, and those of `fans`."""
    words = {name: parameter.words for name, parameter in initializer.parameters.items() if parameter.words}
    return {**words, "fans": get_args(FanRule)} if initializer.modified else words


def arguments_of_word(initializer: Initializer, word: str) -> list[str]:
    """Return the arguments that list a word among theirs; `fans` where no other does."""
    takers = [name for name, known in words_by_argument(initializer).items() if word in known]
    return [name for name in takers if name != "fans"] or takers


def number_refused(initializer: Initializer, token: str) -> str:
    """Return why a number that stands alone has no place, and how it is written instead."""
    if initializer.bare:
        count = len(initializer.bare)
        return f"{initializer.name} takes {count} bare number{'s' if count > 1 else ''} ({' '.join(initializer.bare)})"
    parameters = initializer.parameters.values()
    numeric = [one.name for one in parameters if not one.words and {int, float} & set(kinds_of(one.annotation))]
    if not numeric:
        return f"{initializer.name} takes no number"
    named = "std" if "std" in numeric else numeric[0]
    return f"{initializer.name} takes no bare number: write {named}={cut(token, VALUE)}"


def argument_hint(initializer: Initializer, name: str) -> str:
    """Return the argument that was meant: torch's name of it, one spelled like it, or all that there are."""
    known = [*initializer.parameters, *(MODIFIERS if initializer.modified else ())]
    if TORCH_NAMES.get(name) in initializer.parameters:
        return f"write {TORCH_NAMES[name]}, torch's {name}"
    return did_you_mean(name, known) or f"it takes {', '.join(known) or 'no arguments'}"


def mapping_hint(mapping: Mapping[str, Any]) -> str:
    """Return how the name of an initializer is given in a mapping."""
    meant = [key for key in mapping if key.lower() in ("fn", "func", "function", "name", "type", "init", "_target_")]
    return f"write fn instead of {meant[0]}" if meant else "such as {fn: kaiming_normal, mode: fan_out}"
