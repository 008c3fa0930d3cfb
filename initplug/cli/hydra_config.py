"""Model and recipe of a Hydra application's own config, also swept: what `--config-dir` and `--config-name` name."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import CompletionItem, get_completion_class

from initplug.cli.models import Failure, Model, shown_target, user_code
from initplug.errors import InitplugError, RecipeError, did_you_mean, first_line, shortened

if TYPE_CHECKING:
    from initplug.language.recipe import Recipe
    from initplug.planning.plan import Plan

CONFIG_HELP = """With --config-dir and --config-name model and recipe are the nodes model and init of that Hydra config,
and every word is an override: init=wrn model.depth=20."""


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


def with_config(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the words of a command as one parameter `given`, with the options that name a config."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        def called(words: tuple[str, ...], config_dir: Path | None, config_name: str | None, **others: Any) -> Any:
            return command(given=CommandWords(words, config_dir, config_name), **others)

        called.__name__, called.__doc__ = command.__name__, command.__doc__
        called.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # click's own
        folder = click.Path(path_type=Path)
        called = click.option("--config-name", metavar="NAME", help="Take model and recipe from this config.")(called)
        called = click.option("--config-dir", type=folder, metavar="DIR", help="Where the config is; else here.")(
            called
        )
        offered = _offering(metavar.split())
        return click.argument("words", nargs=-1, metavar=f"{metavar} [OVERRIDE]...", shell_complete=offered)(called)

    return decorated


Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offering(names: Sequence[str]) -> Offer:
    """Return what a shell completes words with: presets and files, then keys; with a config its groups and keys."""

    def offered(context: click.Context, _: click.Parameter, word: str) -> list[CompletionItem]:
        words = context.params.get("words") or ()
        given = CommandWords(tuple(words), context.params.get("config_dir"), context.params.get("config_name"))
        place = len(given.words)
        if given.config is None and names[place : place + 1] == ["RECIPE"]:
            from initplug.language.preset_list import presets

            known = [CompletionItem(name) for name in presets() if name.startswith(word)]
            return known or [CompletionItem(word, type="file")]
        if given.config is None and place < len(names):
            return [CompletionItem(word, type="file")]
        try:
            with user_code():
                return [CompletionItem(text) for text in _keys(given, len(names), word)]
        except Exception:  # a shell that completes shows no errors
            return []

    return offered


def _keys(given: CommandWords, arguments: int, word: str) -> list[str]:
    """Return what an override may begin with, by Hydra's own completion."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    if given.config is None:
        from initplug.language.loading import load

        recipe = load(given.words[arguments - 1], given.words[arguments:])
        return list(BashCompletion._get_matches(OmegaConf.create(recipe.plain()), word))
    with application(given):
        plugin = BashCompletion(GlobalHydra.instance().config_loader())
        return list(plugin._query(given.config, " ".join([*given.words, word])))


def completion_script(shell: str, commands: click.Command) -> str:
    """Return what makes a shell complete the words of `initplug`: click's own script."""
    known = get_completion_class(shell)
    assert known is not None  # the command knows which shells there are
    script = known(commands, {}, "initplug", "_INITPLUG_COMPLETE").source()
    if shell != "bash":
        return script
    # Else `init=` would be a word of its own, and a key that ends in = or . would be followed by a space.
    unspaced = "COMPREPLY+=($value)\n            [[ $value == *[.=] ]] && compopt -o nospace"
    return script.replace("COMPREPLY+=($value)", unspaced) + "\nCOMP_WORDBREAKS=${COMP_WORDBREAKS//=}\n"


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


# Sweeps -----------------------------------------------------------------------------------------------------


def differences(plans: Mapping[str, Plan], *, color: bool = False) -> str:
    """Return a table of the slots that not all plans treat alike, one column for each plan.

    Args:
        plans: by the heading of their column.
        color: whether it carries terminal colours.
    """
    from initplug.tables.text import Column, spread, table

    cells: dict[str, dict[str, str]] = {}
    values: dict[str, set[Any]] = {}
    for index, plan in enumerate(plans.values()):
        for row in plan:
            left = "frozen" if row.reason == "frozen" else "unmatched"
            treated = left if row.rule is None else str(row.init)
            expected = spread(row.mean, row.std)
            told = treated if expected is None or treated.endswith(f" {expected}") else f"{treated}: {expected}"
            cells.setdefault(row.name, {})[str(index)] = told
            # Two ways to say one distribution are no difference.
            values.setdefault(row.name, set()).add(treated if row.distribution is None else row.distribution)
    differing = (name for name, told in cells.items() if len(values[name]) > 1 or len(told) < len(plans))
    rows = [{"name": name, **cells[name]} for name in differing]
    if not rows:
        return "no differences"
    columns = [Column("parameter", "name", gives=True)]
    columns += [Column(label, str(index), gives=True) for index, label in enumerate(plans)]
    return table(columns, rows, footer=f"{len(rows)} of {len(cells)} slots differ", color=color)


def run_each(compositions: Iterable[Composition], work: Callable[[Composition], Any]) -> int:
    """Do the same with every composition of a sweep; what is wrong with one is told, and the others go on.

    Returns:
        The highest exit status.
    """
    return max(_run_one(composition, work) for composition in compositions)


def _run_one(composition: Composition, work: Callable[[Composition], Any]) -> int:
    try:
        work(enter_composition(composition))
    except RecipeError as error:
        click.echo(f"{composition.label}: {error}", err=True)
        return 2 if error.usage else 1
    except InitplugError as error:
        click.echo(f"{composition.label}: {type(error).__name__}: {error}", err=True)
        return 1
    except click.ClickException as error:
        click.echo(f"{composition.label}: {error.format_message()}", err=True)
        return error.exit_code
    return 0
