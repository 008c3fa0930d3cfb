"""Anything that holds a recipe -> `Recipe`: presets, files, texts, mappings, configs, `defaults` and overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from initplug.errors import Finding, RecipeError, did_you_mean
from initplug.language.composed import Composed, merge
from initplug.language.faults import kind_of, shown
from initplug.language.messages import dotted, file_of, findings_of, located
from initplug.language.reading import MAX_CHARACTERS, MAX_DEPTH, Document, Place, Steps, read, unreadable
from initplug.language.recipe import Recipe

PRESETS = Path(__file__).parent.parent / "presets" / "init"
SUFFIXES = (".yaml", ".yml")

Source = str | PathLike[str] | Mapping[str, Any] | Recipe


def presets() -> list[str]:
    """The names of the recipes that ship with initplug."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


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
    overrides = () if overrides is None else overrides
    if not isinstance(overrides, list | tuple) or not all(isinstance(override, str) for override in overrides):
        raise RecipeError.of([Finding("", "overrides is a list of texts such as rules.conv.init.mode=fan_in")])
    if isinstance(source, Recipe) and not overrides:
        return source
    composed = compose(source)
    if overrides:
        from initplug.language.overriding import override

        override(composed, overrides)
    return validate(composed)


def compose(source: Source | Any) -> Composed:
    """The data of a recipe with its `defaults` merged, before validation."""
    if isinstance(source, Recipe):
        composed = Composed(source.plain(), source.origin)
        for rule, file in source._files.items():
            composed.values["rules", rule, "init", "path"] = Place(str(file))
            composed.files[str(file)] = file
        return composed
    if isinstance(source, PathLike):
        return _from_file(Path(source), set())
    if isinstance(source, str):
        if "\n" in source:
            return _with_defaults(read(source, "<text>"), "<text>", Path(), set())
        return _from_file(_find(source), set())
    if _is_config(source):
        return _from_config(source)
    if is_dataclass(source) and not isinstance(source, type):
        source = asdict(source)
    if isinstance(source, Mapping):
        return _with_defaults(Document(_plain(source, "<mapping>", ())), "<mapping>", Path(), set())
    message = f"a recipe is a preset's name, a path, a YAML text, a mapping or a Recipe, not {kind_of(source)}"
    raise RecipeError.of([Finding("", message)])


def validate(composed: Composed) -> Recipe:
    """The recipe, or every fault of it at once."""
    try:
        recipe = Recipe.model_validate(composed.data)
    except ValidationError as error:
        raise RecipeError.of(findings_of(error, composed)) from None
    if recipe.name is None and composed.origin.endswith(SUFFIXES):
        recipe = recipe.model_copy(update={"name": Path(composed.origin).stem})
    for rule in recipe.rules:
        place = composed.keys.get(("rules", rule))
        if place is not None:
            line = "" if place.line is None else f":{place.line}"
            recipe._locations[rule] = f"{place.file}{line}"
    for name, loading in recipe.rules.items():
        file = file_of(composed, name, "path") if loading is not None and loading.init.fn == "load" else None
        if file is not None:
            recipe._files[name] = file
    recipe._origin = None if composed.origin.startswith("<") else composed.origin
    return recipe


def _find(name: str) -> Path:
    """The file that a text without a newline names: a preset, or a path."""
    preset = PRESETS / f"{name}.yaml"
    if name in presets():
        return preset
    path = Path(name)
    try:
        if name and (path.suffix in SUFFIXES or path.exists()):
            return path
    except (OSError, ValueError):  # no path of this system: too long, or with a NUL
        pass
    hint = did_you_mean(name, presets()) or "`initplug presets` lists what there is"
    if ":" in name or "{" in name:
        hint = "a YAML text holds a newline"
    raise RecipeError.of([Finding("", f"there is no preset and no file called {shown(name)}", hint=hint)], usage=True)


def _from_file(path: Path, seen: set[Path]) -> Composed:
    shown_as = path.name if path.parent == PRESETS else str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(4 * MAX_CHARACTERS + 1)
        text = content.decode()
    except UnicodeDecodeError:
        raise unreadable(shown_as, "not a text file (UTF-8)") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecipeError.of([Finding("", f"cannot be read: {reason}", shown_as)], usage=True) from None
    seen.add(path.resolve())
    composed = _with_defaults(read(text, shown_as), shown_as, path.parent, seen)
    if path.parent != PRESETS:
        composed.files[shown_as] = path.absolute()
    return composed


def _plain(value: Any, file: str, path: Steps) -> Any:
    """A copy of plain Python data; anything that YAML could not hold is an error."""
    if len(path) > MAX_DEPTH:
        raise RecipeError.of([Finding(dotted(path[:4]), f"nested deeper than {MAX_DEPTH}", file)])
    if _is_config(value):
        return _plain(_resolved(value, Composed({}, file)), file, path)
    if isinstance(value, Mapping):
        data = {}
        for key, part in value.items():
            if not isinstance(key, str) and not (isinstance(key, int) and not isinstance(key, bool)):
                raise RecipeError.of([Finding(dotted(path), f"the key {shown(key)} is no text", file)])
            _refuse_surrogates(str(key), file, path)
            data[str(key)] = _plain(part, file, (*path, str(key)))
        return data
    if isinstance(value, list | tuple):
        return [_plain(part, file, (*path, index)) for index, part in enumerate(value)]
    if isinstance(value, str):
        _refuse_surrogates(value, file, path)
        return value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise RecipeError.of([Finding(dotted(path), f"a recipe holds plain data, not {kind_of(value)}", file)])


def _refuse_surrogates(text: str, file: str, path: Steps) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RecipeError.of([Finding(dotted(path), f"{text!r} holds half a character (a surrogate)", file)])


def _is_config(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "omegaconf"


def _from_config(config: Any) -> Composed:
    """A DictConfig as plain data, interpolations resolved by its own application, with what is known of its places."""
    from initplug.language.provenance import traced

    found = traced(config)
    document = Document(_plain(_resolved(config, found), found.origin, ()), found.values, found.keys)
    composed = _with_defaults(document, found.origin, Path(), set(), found.root)
    composed.replaced.update(found.replaced)
    return composed


def _resolved(config: Any, found: Composed) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        message = str(error.msg if hasattr(error, "msg") else error).partition("\n")[0]
        key = str(getattr(error, "full_key", "") or "")
        for path, _, is_key in _texts(found.data, ()):
            if not is_key and ".".join(map(str, (*found.root, *path))) == key:
                raise RecipeError.of([located(found, path, message)]) from None
        raise RecipeError.of([Finding(key, message, found.origin)]) from None


# Defaults ---------------------------------------------------------------------------------------------------


def _with_defaults(document: Document, origin: str, folder: Path, seen: set[Path], root: Steps = ()) -> Composed:
    """The document, merged with the recipes that its `defaults` name, in their order."""
    own = Composed({}, origin, document.values, document.keys, stars=document.stars, root=root)
    if not isinstance(document.data, dict):
        message = f"a recipe is a mapping with the key rules, this is {kind_of(document.data)}"
        raise RecipeError.of([located(own, (), message)])
    own.data = document.data
    _refuse_interpolations(own)
    if "defaults" not in own.data:
        return own
    entries = own.data.pop("defaults")
    merged = Composed({}, origin, root=root)
    for layer in _layers(entries, own, folder, seen):
        merge(merged, layer)
    return merged


def _layers(entries: Any, own: Composed, folder: Path, seen: set[Path]) -> Iterator[Composed]:
    """The recipes of a `defaults` list; the recipe itself is last unless `_self_` says otherwise."""

    def wrong(path: Steps, message: str, hint: str | None = None) -> RecipeError:
        return RecipeError.of([located(own, path, message, hint)])

    if not isinstance(entries, list):
        raise wrong(("defaults",), f"expected a list of recipes, got {kind_of(entries)}")
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
            hint = did_you_mean(entry, presets()) or "`initplug presets` lists what there is"
            raise wrong(here, f"there is no recipe called {shown(entry)}", hint)
        if file.resolve() in seen:
            raise wrong(here, f"{shown(entry)} is composed twice: `defaults` repeat a recipe or form a cycle")
        yield _from_file(file, seen)
    if "_self_" not in entries:
        yield own


def _sibling(entry: str, folder: Path) -> Path | None:
    """A file beside the recipe, else a preset."""
    for candidate in (folder / entry, folder / f"{entry}.yaml", folder / f"{entry}.yml", PRESETS / f"{entry}.yaml"):
        if candidate.suffix in SUFFIXES and candidate.is_file():
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


def _texts(value: Any, path: Steps) -> Iterator[tuple[Steps, str, bool]]:
    """Every text in the data with its path, and whether it is a key."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield (*path, key), key, True
            yield from _texts(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts(part, (*path, index))
    elif isinstance(value, str):
        yield path, value, False
