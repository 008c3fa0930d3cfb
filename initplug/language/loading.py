"""Anything that holds a recipe -> `Recipe`: presets, files, texts, mappings, configs, `defaults` and overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from initplug.errors import LINE, VALUE, Finding, RecipeError, brief, cut, near, shortened
from initplug.language.faults import kind_of, shown
from initplug.language.layers import Composed, merge
from initplug.language.messages import dotted, file_of, findings_of, located, place_of
from initplug.language.numbers import spelled
from initplug.language.preset_list import PRESETS, presets, presets_for
from initplug.language.recipe import BOTH, EXCEPTIONS, ONE, Recipe
from initplug.language.selectors import breadth
from initplug.language.yaml import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_PARTS,
    SMALLER,
    Document,
    Place,
    Steps,
    has_surrogate,
    read,
    unreadable,
)
from initplug.schemes.entry_points import all_names
from initplug.values import is_whole, plain

RECIPE_SUFFIXES = (".yaml", ".yml")

Source = str | PathLike[str] | Mapping[str, Any] | Recipe


def load(source: Source | Any, overrides: Sequence[str] = ()) -> Recipe:
    r"""Read and validate a recipe.

    Args:
        source: the name of a preset, the path of a file, a YAML text (it holds a newline), a mapping, a DictConfig,
            a dataclass, or a Recipe, which is returned as it is.
        overrides: in Hydra's notation, such as `rules.conv.init.mode=fan_in`; this imports hydra.

    Raises:
        RecipeError: with one finding per fault.

    Example:
        >>> load("rules:\n  conv*: kaiming_normal fan_out\n  *.bias: 0\n").rules["*.bias"].init.text
        'constant 0'
        >>> load("resnext", ["rules.conv.init.mode=fan_in"]).rules["conv"].init.text
        'kaiming_normal'
    """
    given: Any = () if overrides is None else overrides
    listed = isinstance(given, list | tuple)
    overrides = [plain(override) for override in given] if listed else []
    if not listed or not all(isinstance(override, str) for override in overrides):
        raise RecipeError.of([Finding("", "overrides is a list of texts such as rules.conv.init.mode=fan_in")])
    if isinstance(source, Recipe) and not overrides:
        return source
    composed = compose(source)
    if overrides:
        from initplug.language.overrides import override

        override(composed, overrides)
        composed.data = _copy_plain(composed.data, "<overrides>")
    return validate(composed)


def compose(source: Source | Any) -> Composed:
    """Return the data of a recipe with its `defaults` merged, before validation."""
    source = plain(source)
    if isinstance(source, Recipe):
        composed = Composed(spelled(source.plain()), source.origin)
        for rule, file in source._files.items():
            composed.values["rules", rule, "init", "path"] = Place(str(file))
            composed.files[str(file)] = file
        _carry_places(source, composed)
        return composed
    if isinstance(source, PathLike):
        return _read_file(Path(source), {})
    if isinstance(source, str):
        if "\n" in source:
            return _merge_defaults(read(source, "<text>"), "<text>", Path(), {})
        return _read_file(_find_recipe(source), {})
    if _is_config(source):
        return _from_config(source)
    if isinstance(source, Mapping) or _is_record(source):
        return _from_mapping(source)
    message = f"a recipe is a preset's name, a path, a YAML text, a mapping or a Recipe, not {kind_of(source)}"
    raise RecipeError.of([Finding("", message)])


def validate(composed: Composed) -> Recipe:
    """Return the recipe, or raise every fault of it at once."""
    names = sum(breadth(text) for _, text, _ in _texts(composed.data.get("rules"), ()))
    if names > MAX_NAMES:
        message = f"the alternatives of its selectors come to {names:,} names, at most {MAX_NAMES:,} are matched"
        raise RecipeError.of([located(composed, ("rules",), message, SMALLER)])
    try:
        recipe = Recipe.model_validate(composed.data)
    except ValidationError as error:
        raise RecipeError.of(findings_of(error, composed)) from None
    if recipe.name is None and composed.origin.endswith(RECIPE_SUFFIXES):
        recipe = recipe.model_copy(update={"name": Path(composed.origin).stem})
    for rule in recipe.rules:
        place = composed.keys.get(("rules", rule))
        if place is not None:
            line = "" if place.line is None else f":{place.line}"
            recipe._locations[rule] = f"{place.file}{line}"
        recipe._places[rule] = place_of(composed, ("rules", rule), key=True)
        given = composed.values.get(("rules", rule, "init"))
        if given is not None and given.file != recipe._places[rule].file and given.text is not None:
            recipe._initializers[rule] = given
    _locate_entries(recipe, composed)
    for name, loading in recipe.rules.items():
        file = file_of(composed, name, "path") if loading is not None and loading.init.fn == "load" else None
        if file is not None:
            recipe._files[name] = file
    recipe._origin = None if composed.origin.startswith("<") else composed.origin
    return recipe


MAX_NAMES = 1 << 14
"""The most names that the alternatives of all selectors may come to: each is compiled."""


def _locate_entries(recipe: Recipe, composed: Composed) -> None:
    """Tell a recipe where each of its selectors stands, and which of those files are presets."""
    recipe._shipped = frozenset(composed.shipped - composed.files.keys())
    for name, rule in recipe.rules.items():
        if rule is None:
            continue
        data = composed.data["rules"][name]
        for key, words, texts in (("match", ("match",), rule.match), ("except", EXCEPTIONS, rule.except_)):
            given = (word for word in words if isinstance(data, dict) and data.get(word) is not None)
            said = next(given, None)
            if said is not None and key == "except":
                recipe._excepting[name] = said
            for index in range(len(texts)):
                path: Steps = ("rules", name)
                if said is not None:
                    path = (*path, said, index) if isinstance(data[said], list) else (*path, said)
                recipe._entries[name, key, index] = place_of(composed, path, key=said is None)


def _carry_places(recipe: Recipe, composed: Composed) -> None:
    """Tell the data of a recipe that was read before where its rules and their selectors stand, in its words."""
    for name, word in recipe._excepting.items():
        rule = composed.data["rules"][name]
        rule[word] = rule.pop("except")
    composed.shipped.update(recipe._shipped)
    for name, place in recipe._places.items():
        composed.keys["rules", name] = place
    for name, place in recipe._initializers.items():
        composed.values["rules", name, "init"] = place
    for (name, key, index), place in recipe._entries.items():
        key = recipe.word(name, key)
        alone = isinstance(composed.data["rules"][name][key], str)
        composed.values[("rules", name, key) if alone else ("rules", name, key, index)] = place


def _find_recipe(name: str) -> Path:
    """Return the file that a text without a newline names: a preset, or a path."""
    preset = PRESETS / f"{name}.yaml"
    if name in presets():
        return preset
    path = Path(name)
    try:
        if name and (path.suffix in RECIPE_SUFFIXES or path.exists()):
            return path
    except (OSError, ValueError):  # no path of this system: too long, or with a NUL
        pass
    hint = _preset_hint(name)
    if ":" in name or "{" in name:
        hint = "a YAML text holds a newline"
    raise RecipeError.of([Finding("", f"there is no preset and no file called {shown(name)}", hint=hint)], usage=True)


def _preset_hint(name: str) -> str:
    """Return what was meant by a name that is no preset's: one that is spelled so, those for such models, or all."""
    found = presets_for(name) if len(name) <= VALUE else []
    if found:
        return f"presets for it: {', '.join(shortened(found, limit=5))}"
    if name in all_names():
        return f"it is an initializer, which a rule of a recipe gives: conv*: {name}"
    match = near(name, presets(), 0.75)
    return f"did you mean {match}?" if match else "`initplug presets` lists what there is"


Sizes = dict[Path, tuple[int, int]]
"""The files that one recipe is read from: how many characters, and how many keys and values, each has."""


def _read_file(path: Path, seen: Sizes) -> Composed:
    shown_as = path.name if path.parent == PRESETS else str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(4 * MAX_CHARACTERS + 1)
        # A text that is longer is refused whatever its last character, of which a part may be missing.
        text = content.decode(errors="ignore" if len(content) > 4 * MAX_CHARACTERS else "strict")
    except UnicodeDecodeError:
        raise unreadable(shown_as, "not a text file (UTF-8)") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        lost = isinstance(error, FileNotFoundError) and path.stem in presets()
        hint = f"the preset is called {path.stem}" if lost else None
        raise RecipeError.of([Finding("", f"cannot be read: {reason}", shown_as, hint=hint)], usage=True) from None
    document = read(text, shown_as)
    seen[path.resolve()] = len(text), len(document.values) + len(document.keys)
    characters, parts = (sum(sizes) for sizes in zip(*seen.values(), strict=True))
    if characters > MAX_CHARACTERS or parts > MAX_PARTS:
        message = f"with what it is merged with it has {characters:,} characters, {parts:,} keys and values"
        bounds = f"at most {MAX_CHARACTERS:,} and {MAX_PARTS:,} are read; {SMALLER}"
        raise RecipeError.of([Finding("", message, shown_as, hint=bounds)])
    composed = _merge_defaults(document, shown_as, path.parent, seen)
    if path.parent == PRESETS:
        composed.shipped.add(shown_as)
    else:
        composed.files[shown_as] = path.absolute()
    return composed


def _copy_plain(value: Any, file: str) -> Any:
    """Return a copy of Python's data as plain data; anything that a recipe's text could not hold is an error."""
    room = MAX_CHARACTERS
    parts = 0

    def wrong(path: Steps, message: str, hint: str | None = None) -> RecipeError:
        return RecipeError.of([Finding(dotted(path), message, file, hint=hint)])

    def text(value: str, path: Steps) -> str:
        nonlocal room
        room -= len(value)
        if room < 0:
            raise wrong(path[:1], f"its texts have more than {MAX_CHARACTERS:,} characters", SMALLER)
        if has_surrogate(value):
            raise wrong(path, f"{shown(value)} holds half a character (a surrogate)")
        return value

    def copy(value: Any, path: Steps) -> Any:
        nonlocal parts
        parts += 1
        if parts > MAX_PARTS:
            raise wrong(path[:1], f"it has more than {MAX_PARTS:,} keys and values", SMALLER)
        if len(path) > MAX_DEPTH:
            raise wrong(path[:4], f"nested deeper than {MAX_DEPTH}")
        if _is_config(value):
            value = _resolve_config(value, Composed({}, file))
        value = plain(value)
        if _is_record(value):
            value = {one.name: getattr(value, one.name) for one in fields(value)}
        if isinstance(value, Mapping):
            return {name: copy(part, (*path, name)) for name, part in items(value, path)}
        if isinstance(value, list | tuple):
            return [copy(part, (*path, index)) for index, part in enumerate(value)]
        if isinstance(value, str):
            return text(value, path)
        if value is None or isinstance(value, bool | int | float):
            return value
        raise wrong(path, f"a recipe holds plain data, not {kind_of(value)}")

    def listed(mapping: Mapping[Any, Any], path: Steps) -> Iterator[tuple[Any, Any]]:
        try:
            yield from mapping.items()
        except Exception as error:  # the mapping may be code of others
            raise wrong(path, f"its keys cannot be listed: {brief(error)}") from None

    def items(mapping: Mapping[Any, Any], path: Steps) -> Iterator[tuple[str, Any]]:
        nonlocal parts
        known: set[str] = set()
        for given, part in listed(mapping, path):
            parts += 1
            key = plain(given)
            if not isinstance(key, str) and not is_whole(key):
                raise wrong(path, f"the key {shown(given)} is no text")
            key = text(str(key), path)
            if key in known:  # a number and its text
                raise wrong(path, f"duplicate key {shown(key)}")
            known.add(key)
            yield key, part

    return copy(value, ())


def _is_record(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _is_config(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "omegaconf"


def _from_config(config: Any) -> Composed:
    """Return a DictConfig as plain data with its known places; its own application resolves interpolations."""
    from initplug.language.hydra_places import traced

    found = traced(config)
    return _placed(_copy_plain(_resolve_config(config, found), found.origin), found)


def _placed(data: Any, found: Composed) -> Composed:
    """Return data with the places that are known of them."""
    for _, rule, key in found.overruled:
        data["rules"][rule].pop(key, None)
    composed = _merge_defaults(Document(data, found.values, found.keys), found.origin, Path(), {}, found.root)
    composed.replaced.update(found.replaced)
    composed.shipped.update(found.shipped)
    composed.flattened.update(found.flattened)
    return composed


def _from_mapping(source: Any) -> Composed:
    """Return plain data; those that a Hydra application made of a part of its config have the places of that part."""
    from initplug.language.hydra_places import traced

    found = traced(source)
    if not found.values:
        return _merge_defaults(Document(_copy_plain(source, "<mapping>")), "<mapping>", Path(), {})
    return _placed(_copy_plain(source, found.origin), found)


def _resolve_config(config: Any, found: Composed) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not OmegaConf.is_config(config):  # a node of one
        return config._value()
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except RecursionError:
        message = f"nested deeper than {MAX_DEPTH}, or it refers to itself"
        raise RecipeError.of([Finding(dotted(found.root), message, found.origin)]) from None
    except OmegaConfBaseException as error:
        message = cut(str(error.msg if hasattr(error, "msg") else error).partition("\n")[0], LINE)
        key = str(getattr(error, "full_key", "") or "")
        for path, _, is_key in _texts(found.data, ()):
            if not is_key and ".".join(map(str, (*found.root, *path))) == key:
                raise RecipeError.of([located(found, path, message)]) from None
        raise RecipeError.of([Finding(key, message, found.origin)]) from None


# Defaults ---------------------------------------------------------------------------------------------------


MAX_FILES = 64
"""The most recipes that one may be merged from."""


def _merge_defaults(document: Document, origin: str, folder: Path, seen: Sizes, root: Steps = ()) -> Composed:
    """Return the document, merged with the recipes that its `defaults` name, in their order."""
    own = Composed({}, origin, document.values, document.keys, stars=document.stars, root=root)
    if not isinstance(document.data, dict):
        message = f"a recipe is a mapping with the key rules, this is {kind_of(document.data)}"
        raise RecipeError.of([located(own, (), message)])
    own.data = document.data
    _refuse_interpolations(own)
    _refuse_both(own)
    if "defaults" not in own.data:
        return own
    entries = own.data.pop("defaults")
    merged = Composed({}, origin, root=root)
    for layer in _read_defaults(entries, own, folder, seen):
        merge(merged, layer)
    return merged


def _read_defaults(entries: Any, own: Composed, folder: Path, seen: Sizes) -> Iterator[Composed]:
    """Yield the recipes of a `defaults` list; the recipe itself is last unless `_self_` says otherwise."""

    def wrong(path: Steps, message: str, hint: str | None = None) -> RecipeError:
        return RecipeError.of([located(own, path, message, hint)])

    if not isinstance(entries, list):
        raise wrong(("defaults",), f"expected a list of recipes, got {kind_of(entries)}")
    if len(entries) + len(seen) > MAX_FILES:
        raise wrong(("defaults",), f"a recipe is merged from at most {MAX_FILES} recipes")
    for index, entry in enumerate(entries):
        here: Steps = ("defaults", index)
        if entry in entries[:index]:
            raise wrong(here, f"{shown(entry)} stands twice")
        if entry == "_self_":
            yield own
            continue
        if (
            not isinstance(entry, str)
            or not entry
            or Path(entry).is_absolute()
            or any(sign in entry for sign in "@:=\0")
        ):
            message = f"{shown(entry)} is neither a recipe's name, a relative file name nor _self_"
            raise wrong(here, message, "compose anything else with Hydra")
        file = _sibling(entry, folder)
        if file is None:
            raise wrong(here, f"there is no recipe called {shown(entry)}", _preset_hint(entry))
        if file.resolve() in seen:
            raise wrong(here, f"{shown(entry)} is composed twice: `defaults` repeat a recipe or form a cycle")
        yield _read_file(file, seen)
    if "_self_" not in entries:
        yield own


def _sibling(entry: str, folder: Path) -> Path | None:
    """Return a file beside the recipe, else a preset."""
    for candidate in (folder / entry, folder / f"{entry}.yaml", folder / f"{entry}.yml", PRESETS / f"{entry}.yaml"):
        with suppress(OSError):  # a name that is too long is one of no file
            if candidate.suffix in RECIPE_SUFFIXES and candidate.is_file():
                return candidate
    return None


def _refuse_interpolations(composed: Composed) -> None:
    findings = []
    for path, text, key in _texts(composed.data, ()):
        if text == "???":
            findings.append(located(composed, path, "??? stands for a value that is still missing", key=key))
        elif "${" in text:
            message = f"{shown(text)} holds an interpolation, which only an application can resolve"
            hint = "compose the recipe with Hydra and pass its config"
            findings.append(located(composed, path, message, hint, key=key))
    if findings:
        raise RecipeError.of(findings)


def _refuse_both(own: Composed) -> None:
    """Refuse both names of a rule's exceptions in one layer; of two layers the later one's counts."""
    rules = own.data.get("rules")
    findings = [
        located(own, ("rules", name, "exclude"), BOTH, ONE, key=True)
        for name, rule in (rules.items() if isinstance(rules, dict) else ())
        if isinstance(rule, dict) and all(rule.get(key) is not None for key in EXCEPTIONS)
    ]
    if findings:
        raise RecipeError.of(findings)


def _texts(value: Any, path: Steps) -> Iterator[tuple[Steps, str, bool]]:
    """Yield every text in the data with its path, and whether it is a key."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield (*path, key), key, True
            yield from _texts(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, (*path, index))
    elif isinstance(value, str):
        yield path, value, False
