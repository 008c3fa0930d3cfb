"""Ways out for what an initializer does not take: words, numbers, and arguments that others have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args

from initplug.errors import NAME, VALUE, cut, did_you_mean, near
from initplug.language.arguments import MODIFIERS, number
from initplug.language.idioms import ARGUMENTS, BY_TORCH, ELSEWHERE, KERAS, MMENGINE, Meaning, foreign_names, meanings
from initplug.schemes.fans import FanRule
from initplug.schemes.initializers import REGISTRY  # filled by the time it is imported from here
from initplug.schemes.registry import Initializer, kinds_of


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


def number_refused(initializer: Initializer, numbers: Sequence[str]) -> str:
    """Return why numbers that stand alone have no place, and how they are written instead."""
    if initializer.bare:
        count = len(initializer.bare)
        return f"{initializer.name} takes {count} bare number{'s' if count > 1 else ''} ({' '.join(initializer.bare)})"
    parameters = initializer.parameters.values()
    numeric = [one.name for one in parameters if not one.words and {int, float} & set(kinds_of(one.annotation))]
    if not numeric:
        return f"{initializer.name} takes no number"
    order = BY_TORCH.get(initializer.name, ())
    if 1 < len(numbers) <= len(order) and {*order[: len(numbers)]} <= {*numeric}:
        named = " ".join(f"{name}={cut(text, VALUE)}" for name, text in zip(order, numbers, strict=False))
        return f"{initializer.name} takes no bare numbers: write {named}"
    named = "std" if "std" in numeric else numeric[0]
    return f"{initializer.name} takes no bare number: write {named}={cut(numbers[0], VALUE)}"


# Names of others --------------------------------------------------------------------------------------------


def initializer_hint(name: str, names: Iterable[str]) -> str:
    """Return what an unknown initializer was meant to be: by the table of others' names, or by its spelling.

    Example:
        >>> initializer_hint("he_normal", ["normal"])
        "write variance_scaling scale=2, Keras's and JAX's he_normal"
        >>> initializer_hint("kaimng_normal", ["kaiming_normal"])
        'did you mean kaiming_normal?'
    """
    names = [*names]
    found = meanings(name)
    if not found and "." in name:
        *packages, last = name.split(".")
        found = [Meaning(None, last)] if last in names and not meanings(f"{'.'.join(packages)}._") else []
    if not found:
        begin = name[:1].lower()
        match = near(name, [*names, *(other for other in foreign_names() if other[0].lower() == begin)])
        if match in names and match is not None and _is_spelled_like(name, match):
            return f"did you mean {match}?"
        if match is not None and match not in names and _is_spelled_like(name, match):
            name, found = match, meanings(match)
    if found:
        return _told(name, found)
    return "known: " + ", ".join(names)


def _told(name: str, found: Sequence[Meaning]) -> str:
    """Return what to write for a name, and by whom it is called so."""
    groups = [(here, [*group]) for here, group in groupby(_together(found), key=lambda one: one.here)]
    if len(groups) == 1:
        here, group = groups[0]
        whose = " and ".join(f"{one.library.name}'s" for one in group if one.library is not None)
        text = f"write {here}" + (f", {whose} {cut(name.rpartition('.')[2], VALUE)}" if whose else "")
    else:
        owners = ((here, [one.library.name for one in group if one.library is not None]) for here, group in groups)
        text = "write " + ", ".join(f"{here} for {' and '.join(by)}'s" if by else f"else {here}" for here, by in owners)
    notes = dict.fromkeys(one.note for one in found if one.note)
    return "; ".join([text, *notes])


def _together(found: Sequence[Meaning]) -> Iterator[Meaning]:
    """Yield meanings, those that are the same here one after the other."""
    for here in dict.fromkeys(one.here for one in found):
        yield from (one for one in found if one.here == here)


def _is_spelled_like(word: str, known: str) -> bool:
    """Return whether a word is a misspelt name: part by part, since another part may be another distribution.

    Example:
        >>> _is_spelled_like("kaimng_normal", "kaiming_normal"), _is_spelled_like("half_normal", "normal")
        (True, False)
    """
    parts, others = ([part for part in text.lower().split("_") if part] for text in (word, known))
    if "".join(parts) == "".join(others):
        return True
    return len(parts) == len(others) and all(map(_is_near, parts, others))


def _is_near(part: str, known: str) -> bool:
    return (len(part) > 3 and known.startswith(part)) or near(part, [known], ALIKE) is not None


ALIKE = 0.75
"""The likeness to a name, part by part, from which a word is a misspelling of it."""


# Calls, mappings and lists ----------------------------------------------------------------------------------

CALL = re.compile(
    r"(?s)\s*(?P<name>[A-Za-z_][\w.]*)(?:\s*\((?P<called>.*)\)|\s*[,:]?\s+(?P<told>.*)|\s*,(?P<listed>.*))?\s*"
)
"""An initializer as code calls it, or with commas, colons and quotes between its arguments."""

GIVEN = re.compile(
    r"""\s*(?:(?P<key>[A-Za-z_]\w*)\s*[=:]\s*)?(?P<value>"[^"]*"|'[^']*'|\w[\w.]*\([^()]*\)|[^,\s]+)\s*,?"""
)
"""One argument of such a call."""


SCALED = re.compile(r"([-+.\de]+)\s*\*\s*(?:torch\.|np\.random\.)?randn\b.*")
"""Normal noise as arithmetic."""


def rewritten(text: str) -> dict[str, Any] | None:
    """Return the mapping that an initializer written as a call comes to; None where that cannot be told.

    Example:
        >>> rewritten("torch.nn.init.normal_(m.weight, 0, std=0.02)")
        {'fn': 'normal', 'mean': 0, 'std': 0.02}
        >>> rewritten("uniform -0.1, 0.1")
        {'fn': 'uniform', 'low': -0.1, 'high': 0.1}
    """
    if len(text) > NAME:
        return None
    scaled = SCALED.fullmatch(text)
    if scaled is not None:
        return {"fn": "normal", "std": number(scaled[1])}
    found = CALL.fullmatch(text)
    if found is None:
        return None
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for given in GIVEN.finditer(found["called"] or found["told"] or found["listed"] or ""):
        value = number(given["value"].strip("'\"").removeprefix("math.").removeprefix("np."))
        if given["key"]:
            named[given["key"]] = value
        elif positional or not _is_tensor(value):
            positional.append(value)
    return translated(found["name"], named, positional)


def _is_tensor(value: Any) -> bool:
    """Return whether a first argument is what code fills: `m.weight`, `self.fc.bias`, `w`."""
    return (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z_]\w*\.[\w.\[\]]+|w|m|p|param|tensor|weight|bias", value) is not None
    )


def translated(name: Any, named: Mapping[str, Any], positional: Sequence[Any] = ()) -> dict[str, Any] | None:
    """Return an initializer of another library, with arguments, as a mapping of ours; None where that cannot be told.

    Example:
        >>> translated("torch.nn.init.trunc_normal_", {"std": 0.02})
        {'fn': 'trunc_normal', 'low': -2, 'high': 2, 'std': 0.02}
    """
    if not isinstance(name, str):
        return None
    found = [] if name in REGISTRY else meanings(name)
    said = {name} if name in REGISTRY else {one.here for one in found}
    if len(said) != 1:
        return None
    fn, *words = said.pop().split()
    initializer = REGISTRY.get(fn)
    if initializer is None or "or" in words:
        return None
    mapping: dict[str, Any] = {}
    free = [*initializer.bare]
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            key, value = free.pop(0), word
        if value != "…":
            mapping[key] = number(value)
    library = found[0].library if found else None
    takers = {value: arguments_of_word(initializer, value) for value in positional if isinstance(value, str)}
    named = {**{each[0]: word for word, each in takers.items() if len(each) == 1}, **named}
    positional = [value for value in positional if value not in named.values()]
    order = BY_TORCH.get(fn, ()) if library is None else library.order.get(fn, ())
    if len(positional) > len(order):
        return None
    given = {**dict(zip(order, positional, strict=False)), **named}
    if len(positional) == 1 and library is None and order[:2] == ("mean", "std"):
        given = {"std": positional[0], **named}
    for key, value in given.items():
        if key in initializer.parameters or (initializer.modified and key in MODIFIERS):
            mapping[key] = value
        elif (meant := _argument_of_others(initializer, key)) is not None:
            mapping[meant] = value
        elif key not in ELSEWHERE:
            return None
    return {"fn": fn, **mapping}


def _argument_of_others(initializer: Initializer, name: str) -> str | None:
    """Return what an argument of another library is called here."""
    _, meant = ARGUMENTS.get(name, ("", ()))
    return next((each for each in meant if each in initializer.parameters), None)


def word_hint(initializer: Initializer, word: str) -> str | None:
    """Return where a word belongs that an initializer lacks, and another one has in its place.

    Example:
        >>> word_hint(REGISTRY["kaiming_normal"], "fan_avg")
        'variance_scaling takes fan_avg; its scale is the square of the gain, 2 for relu'
    """
    scaled = REGISTRY["variance_scaling"].parameters["mode"].words
    if word not in scaled or "mode" not in initializer.parameters or word in initializer.parameters["mode"].words:
        return None
    return f"variance_scaling takes {word}; its scale is the square of the gain, 2 for relu"


def argument_hint(initializer: Initializer, name: str) -> str:
    """Return the argument that was meant: another library's name of it, one spelled like it, or all that there are."""
    known = [*initializer.parameters, *(MODIFIERS if initializer.modified else ())]
    meant = _argument_of_others(initializer, name)
    if meant is not None:
        return f"write {meant}, {ARGUMENTS[name][0]}'s {name}"
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    return did_you_mean(name, known) or f"it takes {', '.join(known) or 'no arguments'}"


NAMING = ("fn", "func", "function", "name", "type", "init", "_target_", "class_name", "initializer", "method", "filler")
"""Keys by which others give the name of an initializer."""


def name_in(mapping: Mapping[str, Any]) -> str | None:
    """Return the key of a mapping that gives the name of an initializer."""
    return next((key for key in mapping if key.lower() in NAMING), None)


def as_mapping(mapping: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a mapping of another library comes to here; None where that cannot be told.

    Example:
        >>> as_mapping({"_target_": "torch.nn.init.normal_", "_partial_": True, "std": 0.02})
        {'fn': 'normal', 'std': 0.02}
        >>> as_mapping({"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.1}})
        {'fn': 'normal', 'std': 0.1, 'mean': 0.0}
    """
    key = name_in(mapping)
    if key is not None:
        rest = {name: value for name, value in mapping.items() if name != key}
        fn = _named_by(key, mapping[key])
        config = rest.pop("config", {})
        config = config if isinstance(config, Mapping) else {}
        positional = rest.pop("_args_", [])
        return translated(fn, {**rest, **config}, positional if isinstance(positional, list) else ())
    if len(mapping) == 1:
        ((name, given),) = mapping.items()
        if isinstance(given, Mapping) and (name in REGISTRY or meanings(name)):
            return translated(name, given)
    return None


def _named_by(key: str, name: Any) -> Any:
    """Return a name with the library that gives names by such a key."""
    library = {"type": MMENGINE, "class_name": KERAS}.get(key)
    return f"{library.packages[0]}.{name}" if library is not None and name in library.names else name


def rule_beside(mapping: Mapping[str, Any], init: str) -> str:
    """Return an initializer as the rule that a mapping of mmengine stands for, which says for which layers it is.

    Example:
        >>> rule_beside({"type": "Normal", "layer": ["Conv2d", "Linear"], "bias": 0}, "normal")
        '{match: <Conv2d|Linear>.weight, init: normal}; a bias has a rule of its own: *.bias: 0'
    """
    layers = mapping.get("layer")
    types = "|".join(map(str, layers)) if isinstance(layers, list | tuple) else layers
    text = f"{{match: <{cut(str(types), VALUE)}>.weight, init: {init}}}" if types else init
    keys = ("bias" if key == "bias_prob" else key for key in mapping if key in ("bias", "bias_prob", "override"))
    return "; ".join([text, *dict.fromkeys(ELSEWHERE[key] for key in keys)])


def mapping_hint(mapping: Mapping[str, Any]) -> str:
    """Return how the name of an initializer is given in a mapping."""
    key = name_in(mapping)
    if key is not None and isinstance(mapping[key], str) and mapping[key] not in REGISTRY:
        found = meanings(mapping[key])
        if found:
            return (
                f"write fn instead of {cut(key, VALUE)}; for {cut(mapping[key], VALUE)}, {_told(mapping[key], found)}"
            )
    if key is not None:
        return f"write fn instead of {cut(key, VALUE)}"
    glued = next((key for key in mapping if re.match(r"fn:\S", key)), None)
    if glued is not None:
        return f"a space follows the colon: {{{cut(glued.replace(':', ': ', 1), VALUE)}}}"
    return "such as {fn: kaiming_normal, mode: fan_out}"
