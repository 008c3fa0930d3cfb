"""Places that the values of a composed config come from: files of Hydra's defaults list, and its command line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from initplug.language.layers import Composed, forget_places, merge
from initplug.language.preset_list import PRESETS
from initplug.language.yaml import MAX_DEPTH, Document, Place, Steps

CONFIG = "<config>"
"""The name that messages give a config of which no file is known."""

COMMAND_LINE = "command line: "


def traced(config: Any) -> Composed:
    """Return a part of a config with the places of its values, as far as they can be told; its data are not resolved.

    Inside an application of Hydra its composition is repeated, file by file and override by override. A value that the
    repetition does not give was set by code: it has no place but the config. For what is no part of the application's
    config any more, since `hydra.utils.instantiate` or hydra-zen has handed it on, the part stands that is equal. This
    never fails: all that an application can have done since it was composed makes places unknown, and nothing else.

    Args:
        config: a DictConfig, alone or inside that of an application, or a mapping that was made of one.
    """
    found = Composed({}, CONFIG)
    if "hydra.core.global_hydra" not in sys.modules:
        return found
    try:
        found.root = _steps(config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the application has had them
            for node, application in _standing(config):
                repeated = _repeated(node, application)
                if any(path and place.file != CONFIG for path, place in repeated.values.items()):
                    return repeated
    except Exception:  # what is told beside an error must not become one
        return found
    return found


class _Application(NamedTuple):
    """The parts that a config was composed of.

    Args:
        name: of the config.
        overrides: as they were written.
        sources: where configs lie: the schemes and the paths of the search path.
        here: from where the user started.
    """

    name: str
    overrides: list[str]
    sources: list[tuple[str, str]]
    here: Path


def _standing(config: Any) -> Iterator[tuple[Any, _Application]]:
    """Yield what a config may stand for: an equal part of an application's config, or itself; parts come first."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    if not GlobalHydra.instance().is_initialized():
        return
    loader = GlobalHydra.instance().config_loader()
    running = _running(config)
    itself = [(config, running)] if running is not None and OmegaConf.is_config(config) else []
    if _steps(config):
        yield from itself
    data = _resolved_data(config)
    for application in _guessed(loader) if running is None else [running]:
        with suppress(Exception):  # a config that is guessed need not be one that can be composed
            whole = loader.load_configuration(application.name, application.overrides, RunMode.RUN)
            yield from ((node, application) for node in _recipes_in(whole) if _resolved_data(node) == data)
    if not _steps(config):
        yield from itself


def _running(config: Any) -> _Application | None:
    """Return the application that a config says it is of, or else the one that runs."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    root = config
    while OmegaConf.is_config(root) and root._get_parent() is not None:
        root = root._get_parent()
    hydra: Any = OmegaConf.select(root, "hydra") if OmegaConf.is_dict(root) else None
    if hydra is None:
        if not HydraConfig.initialized():
            return None
        hydra = HydraConfig.get()
    given: Any = OmegaConf.to_container(hydra.overrides, resolve=False)  # ${…} as they were written
    sources = [(source.schema, source.path) for source in hydra.runtime.config_sources]
    return _Application(hydra.job.config_name, [*given["hydra"], *given["task"]], sources, Path(hydra.runtime.cwd))


GUESSES = 8
"""The most configs that are composed to find one of which nothing is known but that Hydra could compose it."""


def _guessed(loader: Any) -> Iterator[_Application]:
    """Yield what `hydra.compose` may have been asked for, which keeps no note of it: each config, without overrides."""
    sources = [(source.scheme(), source.path) for source in loader.get_sources()]
    for name in loader.get_group_options("")[:GUESSES]:
        yield _Application(name, [], sources, Path.cwd())


def _recipes_in(config: Any) -> Iterator[Any]:
    """Yield the mappings in a config that look like recipes."""
    from omegaconf import OmegaConf

    for key in config if OmegaConf.is_dict(config) else ():
        node = config._get_node(key)
        if key == "hydra" or not OmegaConf.is_dict(node) or node._is_interpolation() or node._is_missing():
            continue
        if "rules" in node:
            yield node
        yield from _recipes_in(node)


def _resolved_data(config: Any) -> Any:
    from omegaconf import OmegaConf

    config = config if OmegaConf.is_config(config) else OmegaConf.create(config)
    try:
        return _texts_as_keys(OmegaConf.to_container(config, resolve=True))
    except Exception:  # what cannot be resolved is equal to nothing
        return None


def _repeated(config: Any, application: _Application) -> Composed:
    """Return a part of a config, composed once more."""
    from omegaconf import OmegaConf

    found = Composed({}, CONFIG, root=_steps(config))
    for layer in _layers_under(found.root, application):
        _lay(found, layer)
    _compare(found, found.data, OmegaConf.to_container(config, resolve=False), ())
    return found


def _steps(config: Any) -> Steps:
    """Return where a node stands in the whole config."""
    steps: list[str | int] = []
    while hasattr(config, "_get_parent") and config._get_parent() is not None:
        steps.insert(0, config._key())
        config = config._get_parent()
    return tuple(steps)


class _Layer(NamedTuple):
    """The words of a file or an override on a part of the config; `deleted` is where it takes something away."""

    said: Composed
    deleted: Steps | None = None


def _layers_under(root: Steps, application: _Application) -> Iterator[_Layer]:
    """Yield what was laid over what to make an application's config, of the part that stands at `root`."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    loader = GlobalHydra.instance().config_loader()
    composition: Any = loader.compute_defaults_list(
        config_name=application.name, overrides=application.overrides, run_mode=RunMode.RUN
    )
    for default in composition.defaults:
        package: Steps = tuple((default.package or "").split(".")) if default.package else ()
        if default.config_path is None or package[:1] == ("hydra",):
            continue
        if package[: len(root)] == root[: len(package)]:
            text = _text(default.config_path, application)
            if text is not None:
                for layer in _layer_of(_read_config_file(*text), package, root):
                    if _is_preset(text[0]):
                        layer.said.shipped.add(text[0])
                    yield layer
    for override in composition.config_overrides:
        steps: Steps = tuple(override.key_or_group.split("."))
        if steps[: len(root)] != root[: len(steps)]:
            continue
        origin = f"{COMMAND_LINE}{override.input_line}"
        if override.is_delete():
            yield _Layer(Composed({}, origin), steps[len(root) :])
        else:
            place: dict[Steps, Place] = {(): Place(origin)}
            yield from _layer_of(Document(override.value(), place, place), steps, root, origin)


def _text(path: str, application: _Application) -> tuple[str, str] | None:
    """Return the name and the text of a config: of the first source that has it, as Hydra finds it."""
    name = path if path.endswith((".yaml", ".yml")) else f"{path}.yaml"
    for scheme, source in application.sources:
        if scheme == "file":
            file: Any = Path(source) / name
        elif scheme == "pkg" and source:
            file = resources.files(source.replace("/", ".")).joinpath(name)
        else:
            continue
        if file.is_file():
            return _shown(file, source, application.here), file.read_text(encoding="utf-8")
    return None


def _shown(file: Any, source: str, here: Path) -> str:
    """Return what messages call a file: a preset by its name, others by the shortest path from the user's start."""
    if source == "initplug.presets":
        return str(file.name)
    path = os.path.abspath(str(file))  # noqa: PTH100  # links stay what the user calls them
    known = str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
    return f"./{known}" if _is_preset(known) else known


def _is_preset(name: str) -> bool:
    """Return whether messages call a preset so; a file of the user's that is called alike is told as `./…`.

    Example:
        >>> _is_preset("resnext.yaml"), _is_preset("conf/resnext.yaml"), _is_preset("mine.yaml")
        (True, False, False)
    """
    return Path(name).name == name and (PRESETS / name).is_file()


def _read_config_file(file: str, text: str) -> Document:
    """Return a config file, with the places of its parts; unlike recipes, configs may have anchors."""
    from omegaconf import OmegaConf

    document = Document(OmegaConf.to_container(OmegaConf.create(text), resolve=False))
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def walk(node: yaml.Node, path: Steps) -> None:
        document.values[path] = _node_place(node, file)
        if len(path) > MAX_DEPTH:
            return
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                document.keys[(*path, key.value)] = _node_place(key, file)
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, part in enumerate(node.value):
                walk(part, (*path, index))

    if root is not None:
        walk(root, ())
    if isinstance(document.data, dict):
        document.data.pop("defaults", None)
    return document


def _node_place(node: yaml.Node, file: str) -> Place:
    start = node.start_mark
    quoted = isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')
    literal = isinstance(node, yaml.ScalarNode) and start.line == node.end_mark.line and (quoted or node.style is None)
    return Place(file, start.line + 1, start.column + 1 + (quoted and literal), literal)


def _layer_of(document: Document, package: Steps, root: Steps, origin: str = CONFIG) -> Iterator[_Layer]:
    """Yield what a document that is laid at `package` says of the part of the config at `root`, if anything."""
    data, below, above = document.data, root[len(package) :], package[len(root) :]
    for step in below:
        if not isinstance(data, Mapping) or step not in data:
            return
        data = data[step]
    values = {(*above, *path[len(below) :]): place for path, place in document.values.items() if _under(path, below)}
    keys = {(*above, *path[len(below) :]): place for path, place in document.keys.items() if _under(path, below)}
    for step in reversed(above):
        data = {step: data}
    if isinstance(data, dict):
        yield _Layer(Composed(_texts_as_keys(data), origin, values, keys))


def _under(path: Steps, root: Steps) -> bool:
    return path[: len(root)] == root


def _texts_as_keys(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _texts_as_keys(part) for key, part in data.items()}
    return [_texts_as_keys(part) for part in data] if isinstance(data, list) else data


def _lay(found: Composed, layer: _Layer) -> None:
    if layer.deleted is None:
        merge(found, layer.said)
        return
    data: Any = found.data
    for step in layer.deleted[:-1]:
        data = data[step]
    del data[layer.deleted[-1]]
    forget_places(found, layer.deleted)


def _compare(found: Composed, repeated: Any, real: Any, path: Steps) -> None:
    """Forget the places of all that is not what the repeated composition gave."""
    if isinstance(real, dict) and isinstance(repeated, dict):
        for key in repeated.keys() - set(map(str, real)):
            forget_places(found, (*path, key))
        for key, part in real.items():
            here = (*path, str(key))
            if here in found.overruled:
                continue
            if str(key) in repeated:
                _compare(found, repeated[str(key)], part, here)
            else:
                forget_places(found, here)
                found.values[here] = Place(CONFIG)
    elif type(repeated) is not type(real) or repeated != _texts_as_keys(real):
        forget_places(found, path)
        found.values[path] = Place(CONFIG)
