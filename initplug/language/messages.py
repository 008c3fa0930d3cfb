"""Validation errors -> findings: where in the text, in the language's words, with the nearest thing that was meant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from initplug.errors import VALUE, Finding, cut, did_you_mean, near
from initplug.language.faults import kind_of, shown
from initplug.language.habits import RULE_WORDS, SETTING_WORDS, spaced
from initplug.language.hints import owners
from initplug.language.layers import Composed
from initplug.language.recipe import RULE_KEYS, Recipe, Rule
from initplug.language.selectors import SELECTOR_CHARACTERS
from initplug.language.yaml import Place, Steps

EXPECTED = {
    "rules": "a mapping of rules",
    "name": "a text",
    "optional": "true or false",
    **dict.fromkeys(("about", "source", "family", "deviations", "proven_on"), "a text or a list of texts"),
}


def dotted(path: Steps) -> str:
    """Return a path as one text; keys that are no plain words stand in brackets.

    Example:
        >>> dotted(("rules", "*.bias", "match", 0))
        "rules['*.bias'].match[0]"
    """
    text = ""
    for step in path:
        plain = isinstance(step, str) and step.replace("_", "a").replace("-", "a").isalnum()
        text += f".{cut(str(step), VALUE)}" if plain else f"[{shown(step)}]"
    return text.removeprefix(".")


def located(composed: Composed, path: Steps, message: str, hint: str | None = None, *, key: bool = False) -> Finding:
    """Return a finding at the place of a value or key, or of the nearest thing above it that has one."""
    return _nearest_finding(place_of(composed, path, key=key), composed, path, message, hint)


def file_of(composed: Composed, rule: str, argument: str) -> Path | None:
    """Return the recipe file that an argument of a rule's initializer stands in; None where it stands in no file."""
    path: Steps = ("rules", rule)
    value = composed.data["rules"][rule]
    for step in ("init", argument):
        if isinstance(value, Mapping) and step in value:
            path, value = (*path, step), value[step]
    return composed.files.get(place_of(composed, path, key=False).file)


def findings_of(error: ValidationError, composed: Composed) -> list[Finding]:
    """Return one finding for every fault that validation found."""
    found: dict[tuple[str, str], Finding] = {}
    for detail in error.errors(include_url=False):
        finding = _explained(dict(detail), composed)
        found.setdefault((finding.path, finding.message), finding)
    return sorted(found.values(), key=lambda finding: (finding.file or "", finding.line or 0, finding.column or 0))


def _nearest_finding(place: Place, composed: Composed, path: Steps, message: str, hint: str | None) -> Finding:
    whole = dotted((*composed.root, *path))
    return Finding(whole, message, place.file or composed.origin, place.line, place.column, hint)


def place_of(composed: Composed, path: Steps, *, key: bool) -> Place:
    """Return the place of a key or value; of what encloses it where it has none itself."""
    first, second = (composed.keys, composed.values) if key else (composed.values, composed.keys)
    while path:
        place = first.get(path) or second.get(path)
        if place is not None:
            return place
        path, first, second = path[:-1], composed.keys, composed.values
    return Place(composed.origin) if composed.keys else composed.values.get((), Place(composed.origin))


def _explained(detail: dict[str, Any], composed: Composed) -> Finding:
    path, rest = _real_path(detail["loc"], composed.data)
    kind, context = detail["type"], detail.get("ctx", {})
    offset, key, hint = 0, False, None
    if kind == "initplug":
        message, hint, offset = context["message"], context["hint"], context["offset"]
        if context["instead"] is not None and path[-1] in composed.flattened:
            name = path[-1]
            changed = f"{dotted((*composed.root, *path, 'init'))}={context['instead']}"
            hint = f"{hint}; to change the rule called {cut(str(name), VALUE)}, set {changed}"
        elif context["unknown"] is not None:
            rules = composed.data["rules"].items()
            like = near(
                context["unknown"], [name for name, rule in rules if isinstance(rule, Mapping) and "match" in rule]
            )
            hint = f"{hint}; or did you mean {like}?" if like else hint
        if context["leftover"] is not None:
            key = not rest
            message, hint = _left_over(message, hint, detail, context["leftover"], path, rest, composed)
        key = key or rest == ("match",)
    elif kind == "extra_forbidden":
        name, key = str(path[-1]), True
        message, hint = f"unknown key {shown(name)}", _key_hint(name, path[:-1], composed.data)
    elif kind == "missing":
        key = True
        message, rest = f"required key {shown(detail['loc'][-1])} is missing", ()
    elif kind == "literal_error":
        words = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        message = f"{shown(detail['input'])} is not one of {', '.join(words)}"
        hint = _setting_hint(detail["input"], words) if isinstance(detail["input"], str) else None
    else:
        named = [step for step in path if step in EXPECTED]
        path = path[: path.index(named[-1]) + 1] if named else path
        value = composed.data
        for step in path:
            value = value[step]  # type: ignore[index]  # the path was found in the data
        message = f"expected {EXPECTED.get(str(path[-1]) if path else '', 'a mapping')}, got {kind_of(value)}"
        rest, hint = (), _shape_hint(value) if path == ("rules",) else None
    if rest and rest[-1] not in ("match", "init") and str(rest[-1]) not in message.split():
        message = f"{rest[-1]}: {message}"
    place = place_of(composed, path, key=key).shifted(offset)
    return _nearest_finding(place, composed, path, message, hint)


def _key_hint(name: str, path: Steps, data: Any) -> str:
    """Return the key that was meant: one that lacks a space, one of other words, one spelled like it, or all."""
    line, meant = spaced(name), RULE_WORDS.get(name) if path else None
    if line is not None:
        return f"a space follows the colon: {cut(line, VALUE)}"
    if meant is not None:
        return f"write {meant} instead of {name}"
    if not path and "rules" not in data and not SELECTOR_CHARACTERS.isdisjoint(name):
        return "rules stand below the key rules"
    return did_you_mean(name, known_keys(path)) or "known: " + ", ".join(known_keys(path))


def _setting_hint(value: str, words: list[str]) -> str | None:
    """Return the value of a setting that was meant: by another word, or by its spelling."""
    meant = SETTING_WORDS.get(value.lower())
    return f"write {meant}" if meant in words else did_you_mean(value, words)


def _shape_hint(value: Any) -> str | None:
    """Return how rules are written where something else stands."""
    if isinstance(value, str):
        line = spaced(value)
        return line and f"a space follows the colon: {cut(line, VALUE)}"
    return "each rule has a name: {conv: {match: conv*, init: …}}" if isinstance(value, list) else None


def _real_path(location: tuple[int | str, ...], data: Any) -> tuple[Steps, Steps]:
    """Return a location as the steps that the data really has, and those that only the long form has.

    A short rule has no `match` and no `init`, and an initializer given as a text has no arguments of its own.
    """
    path: list[str | int] = []
    for index, step in enumerate(location):
        if isinstance(data, Mapping) and step in data:
            data = data[str(step)]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        elif step == "init" and isinstance(data, Mapping) and RULE_KEYS.isdisjoint(data):
            continue
        else:
            return tuple(path), tuple(location[index:])
        path.append(step)
    return tuple(path), ()


def known_keys(path: Steps) -> list[str]:
    """Return the keys that a recipe has, or, below it, a rule."""
    model = Recipe if not path else Rule
    names = [field.alias or name for name, field in model.model_fields.items()]
    return names if path else [*names, "defaults"]


def _left_over(
    message: str, hint: str, detail: dict[str, Any], whole: str, path: Steps, rest: Steps, composed: Composed
) -> tuple[str, str]:
    """Return the message for a key that an initializer does not take: misspelt, or left over from a merge."""
    name = str(detail["loc"][-1])
    before = composed.replaced.get(path[:-1]) if not rest else None
    if hint.startswith(("did you mean", "write ")) and before not in owners(name):
        return message, hint
    mend = f"to replace the whole initializer, write init: {whole}"
    if before is not None:
        return f"{message}: it is left over from {before}, since merging keeps keys", mend
    if composed.origin == "<config>" and owners(name):
        known = ", ".join(owners(name))
        return f"{message}: it belongs to {known} and may be left over, since Hydra merges mappings", mend
    return message, hint
