"""Model and recipe of a Hydra application's own config, also swept: what `--config-dir` and `--config-name` name."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from initplug.cli.models import Failure, Model, shown_target, user_code
from initplug.errors import did_you_mean, first_line, shortened

if TYPE_CHECKING:
    from initplug.language.recipe import Recipe


class CommandWords(NamedTuple):
    """The words of a command that names its recipe, or a config that has it.

    Args:
        words: MODEL, RECIPE and overrides; with a config overrides alone.
        folder: of the config.
        config: its name; None where there is none.
    """

    words: tuple[str, ...]
    folder: Path | None
    config: str | None

    def split(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the arguments of these names, and the overrides behind them."""
        if self.folder is not None:
            raise click.UsageError("--config-dir needs --config-name.")
        for name in names[len(self.words) :]:
            raise click.UsageError(f"Missing argument '{name}'.")
        return list(self.words[: len(names)]), list(self.words[len(names) :])


class Composition(NamedTuple):
    """One config of an application.

    Args:
        swept: the overrides that tell it from the others of a sweep.
        config: as `hydra.main` would give it.
        source: what messages call it.
    """

    swept: tuple[str, ...]
    config: Any
    source: str

    @property
    def label(self) -> str:
        """Its name among the others of a sweep."""
        return " ".join(self.swept)

    def recipe(self) -> Recipe:
        """Return the node `init`, validated; nothing in it is ever instantiated."""
        node = _node_at(self.config, "init")
        if node is None:
            raise Failure(f"{self.source} has no init: choose a recipe, such as +init=resnext", 2)
        from initplug.language.loading import load

        with user_code():  # initializers of installed packages
            return load(node)

    def model(self) -> Model:
        """Return the node `model`, the application's own, of which Hydra makes a model; its class is imported here."""
        from hydra.utils import get_object, instantiate

        node = _node_at(self.config, "model")
        name = _node_at(node, "_target_") if hasattr(node, "keys") else None
        if not isinstance(name, str):
            lacks = "no model" if node is None else "no model._target_"
            raise Failure(f"{self.source} has {lacks}, the class or function that makes the model", 2)
        sys.path.insert(0, str(Path.cwd()))
        with user_code(f"MODEL {shown_target(name)} cannot be imported:", 2), _unlogged():
            try:
                get_object(name)
            except Exception as error:
                raise _deepest(error) from None

        # Hydra 1.4 wants to be told what may be called: what the model's own node names, which was asked for.
        trusted = {} if version_base() else {"_execution_whitelist_": sorted(set(_targets(node)))}

        def built() -> Any:
            from hydra.errors import InstantiationException

            try:
                return instantiate(node, **trusted)
            except InstantiationException as error:
                raise _deepest(error) from None

        return Model(name, built, [], {})


def _node_at(config: Any, key: str) -> Any:
    """Return a node of a config; None where there is none."""
    if key not in config:  # a value that is still missing is none, too
        return None
    return config[key]


def _targets(node: Any) -> Iterator[str]:
    """Yield what a node and those below it name for Hydra to call."""
    from omegaconf import OmegaConf

    below = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if isinstance(below, dict):
        yield from (str(value) for key, value in below.items() if key == "_target_")
    if isinstance(below, dict | list):
        for part in below.values() if isinstance(below, dict) else below:
            yield from _targets(part)


def _deepest(error: BaseException) -> BaseException:
    """Return what Hydra's errors are about."""
    cause = error.__cause__
    return error if cause is None else _deepest(cause)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep Hydra from logging what it also raises, which would be said twice."""
    log = logging.getLogger("hydra.utils")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


@contextmanager
def application(given: CommandWords) -> Iterator[None]:
    """Make the process an application of Hydra with these configs for a while; `enter_composition` says with which."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    folder = Path.cwd() if given.folder is None else given.folder
    if not folder.is_dir():
        raise Failure(f"{folder}: there is no such folder", 2)
    before = HydraConfig.instance().cfg
    try:
        with initialize_config_dir(str(folder.absolute()), job_name="initplug", **version_base()):
            yield
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().clear()


@contextmanager
def composed(given: CommandWords, *, sweep: bool = False) -> Iterator[list[Composition]]:
    """Compose every config that the overrides stand for: one, or those of a sweep in Hydra's order."""
    assert given.config is not None  # who comes here has a config
    source = str((given.folder or Path()) / given.config)
    with application(given):
        yield [
            Composition(swept, _composed(given.config, overrides), source)
            for swept, overrides in _combinations(given.words, sweep)
        ]


def version_base() -> dict[str, str]:
    """Return the argument by which Hydra 1.3 is told that it is meant as it is; later ones warn of it."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def enter_composition(composition: Composition) -> Composition:
    """Make a composition the one of the running application, as `hydra.main` does."""
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().set_config(composition.config)
    return composition


def _composed(name: str, overrides: list[str]) -> Any:
    import yaml
    from hydra import compose
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return compose(name, overrides, return_hydra_config=True)
    except MissingConfigException as error:
        group, _, missing = str(error.missing_cfg_file).rpartition("/")
        if not error.options:
            raise Failure(_one_line(error), 2) from None
        hint = did_you_mean(missing, error.options)
        has = ", ".join(row.strip() for row in shortened(list(error.options)))
        raise Failure(
            f"the config group {group} has no {missing}" + (f" ({hint})" if hint else "") + f"; it has {has}", 2
        ) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise Failure(_one_line(error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"{mark.name}:{mark.line + 1}:{mark.column + 1}: "
        raise Failure(f"{place}not YAML: {error.problem or error.context}") from None


def _one_line(error: BaseException) -> str:
    """Return all that an error of Hydra says, in one line, with what it follows from."""
    said, _, _ = str(error).partition("Config search path:")
    text = " ".join(said.split())
    cause = _deepest(error)
    return text if cause is error else f"{text} ({first_line(cause)})"


def _combinations(words: Sequence[str], sweep: bool) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return the cartesian product of what is swept, each with the overrides that tell it from the others."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    choices: list[list[str]] = []
    swept: list[int] = []
    for word in words:
        try:
            parsed = parser.parse_override(word)
            if not parsed.is_sweep_override():
                choices.append([word])
                continue
            if not sweep or not parsed.is_discrete_sweep():
                what = "stands for many configs, and this takes one" if not sweep else "has no end of values"
                raise Failure(f"override: {word}: a sweep {what}", 2)
            key = parsed.get_key_element()
            swept.append(len(choices))
            choices.append([f"{key}={value}" for value in parsed.sweep_string_iterator()])
        except HydraException as error:
            raise Failure(f"override: {word}: not in Hydra's notation, key=value: {first_line(error)}", 2) from None
    products = [list(chosen) for chosen in itertools.product(*choices)]
    return [(tuple(overrides[place] for place in swept), overrides) for overrides in products]
