"""Options and words that commands share, and what a shell completes them with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from initplug.cli.hydra_config import CommandWords, application
from initplug.cli.models import Failure, call_target, user_code
from initplug.errors import InitplugError

if TYPE_CHECKING:
    from initplug.language.recipe import Recipe

MODEL_HELP = """MODEL is package.module:callable or path/to/file.py:callable, optionally with literal arguments:
'torchvision.models:resnet50(num_classes=10)'. RECIPE is a preset, a file, or - for standard input."""

CONFIG_HELP = """With --config-dir and --config-name model and recipe are the nodes model and init of that Hydra config,
and every word is an override: init=wrn model.depth=20."""

ALL_OPTION = click.option(
    "--all", "every", is_flag=True, help="A line for every slot, also where repeated blocks agree."
)
WIDE_OPTION = click.option("--wide", is_flag=True, help="All columns, however wide the terminal is.")
STRICT_OPTION = click.option("--strict", is_flag=True, help="Warnings count as errors.")
REAL_OPTION = click.option("--real", is_flag=True, help="Build the model on the CPU instead of meta.")
RECORDED_OPTION = click.option(
    "--recorded",
    is_flag=True,
    help="Where no reset tells what `default` draws, take what the constructor is recorded to write.",
)
REPORT_OPTION = click.option(
    "--report", type=click.Path(path_type=Path), help="Write the audit to this .html, .json, .csv or .md file."
)


INPUT_OPTION = click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="INPUT",
    help="What the model gets: a shape of normals (8x3x32x32), of whole numbers (2x128:int64<50257), a .pt, .npy or "
    ".safetensors file, or package.module:callable; name=… for a keyword. May be given several times.",
)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def several(*options: Decorator) -> Decorator:
    """Return one option that stands for several, which help lists in this order."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


TABLE_OPTIONS = several(ALL_OPTION, WIDE_OPTION, STRICT_OPTION)
"""The options of whatever prints a table of slots."""

AUDIT_OPTIONS = several(REPORT_OPTION, TABLE_OPTIONS)
"""The options of whatever prints an audit."""


def inputs_from(texts: Sequence[str], seed: int) -> Any:
    """Return the inputs that `--input` options say, what is drawn of them under a seed."""
    from initplug.studies.inputs import make_inputs, parse_input

    try:
        return make_inputs([parse_input(text) for text in texts], seed, lambda target: call_target(target, "input"))
    except InitplugError as error:
        raise Failure(str(error), 2) from None


def with_config(metavar: str) -> Decorator:
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


# Recipes ----------------------------------------------------------------------------------------------------


def recipe_source(recipe: str) -> str:
    """Return a RECIPE argument as `load` takes it; - is standard input."""
    if recipe != "-":
        return recipe.replace("\n", " ")
    from initplug.language.yaml import MAX_CHARACTERS

    try:
        return sys.stdin.read(MAX_CHARACTERS + 1) + "\n"
    except UnicodeDecodeError:
        raise Failure("standard input: not a text (UTF-8)") from None


def recipe_from(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that a RECIPE argument and overrides say."""
    from initplug.language.loading import load

    with user_code():  # initializers of installed packages
        return load(recipe_source(recipe), overrides)


# Completion -------------------------------------------------------------------------------------------------

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


ZSH_OFFERS = "compadd -U -V unsorted -a completions"
ZSH_OFFERS_UNSPACED = """local -a open=(${(M)completions:#*[.=]}) whole=(${completions:#*[.=]})
        (( $#whole )) && compadd -U -V unsorted -a whole
        (( $#open )) && compadd -U -S '' -V unsorted -a open"""
"""The line of click's script that offers words, and the same without a space behind keys."""


def completion_script(shell: str, commands: click.Command) -> str:
    """Return what makes a shell complete the words of `initplug`: click's own script."""
    known = get_completion_class(shell)
    assert known is not None  # the command knows which shells there are
    script = known(commands, {}, "initplug", "_INITPLUG_COMPLETE").source()
    if shell == "zsh":  # as below; fish leaves such words without a space by itself
        return script.replace(ZSH_OFFERS, ZSH_OFFERS_UNSPACED)
    if shell != "bash":
        return script
    # Else `init=` would be a word of its own, and a key that ends in = or . would be followed by a space.
    unspaced = "COMPREPLY+=($value)\n            [[ $value == *[.=] ]] && compopt -o nospace"
    return script.replace("COMPREPLY+=($value)", unspaced) + "\nCOMP_WORDBREAKS=${COMP_WORDBREAKS//=}\n"
