"""The command line. Imports stay inside commands: help, presets, check and show answer without torch."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from initplug import __version__
from initplug.errors import InitplugError, InitplugWarning, PlanError, RecipeError, brief, shortened
from initplug.targets import Failure, built_from, named, user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from initplug.auditing import Audit

MODEL_HELP = """MODEL is package.module:callable or path/to/file.py:callable, optionally with literal arguments:
'torchvision.models:resnet50(num_classes=10)'. RECIPE is a preset, a file, or - for standard input."""


class Commands(click.Group):
    """A group in which every error of the library ends in its message and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors become messages and exit statuses."""
        try:
            return super().invoke(ctx)
        except RecipeError as error:
            raise Failure(str(error), 2 if error.usage else 1) from None
        except InitplugError as error:
            raise Failure(f"{type(error).__name__}: {error}") from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever reads has read enough: click ends quietly
                raise
            raise Failure(f"cannot write: {error.strerror or error}") from None


def main() -> None:
    """The command `initplug`: whatever happens ends in a line, not in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None or sys.stdin is None:
        sys.exit("initplug needs an open standard input and output")
    try:
        commands(prog_name="initplug")
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # what could not be written is not tried again
        sys.exit(f"cannot write: {error.strerror or error}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="initplug")
def commands() -> None:
    """Initialization for PyTorch: declared in recipes, planned, applied, audited.

    Exit status: 0 fine; 1 errors in a recipe, a plan or a model, or audit problems; 2 usage, or something that
    cannot be found.
    """


# Recipes ----------------------------------------------------------------------------------------------------


@commands.command()
@click.option("--for", "model", metavar="MODEL", help="Say which fit this model best: package.module:callable.")
def presets(model: str | None) -> None:
    """List the recipes that ship with initplug, by family; or, the best first, those that fit a model."""
    if model is None:
        from initplug.language.listing import listed

        click.echo(listed())
        return
    built = built_from(named(model), meta=True)
    import initplug

    with user_code():
        fits = initplug.suggest(built)
    click.echo(fits.to_text(color=_colored()))


@commands.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """Print a recipe as composed: its source and proofs, defaults merged, overrides applied.

    OVERRIDE is in Hydra's notation: rules.conv.init.mode=fan_in, rules.bias=null, ~rules.bias,
    '+rules.head={match: head.weight, init: zeros}'.
    """
    click.echo(_recipe(recipe, overrides).to_yaml(), nl=False)


@commands.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
def check(recipes: tuple[str, ...], strict: bool) -> None:
    """Validate recipes; every fault is printed as file:line:column: message."""
    from initplug.language.loading import compose, validate

    status = 0
    for source in recipes:
        try:
            composed = compose(_source(source))
            with user_code():
                recipe = validate(composed)
        except RecipeError as error:
            click.echo(str(error), err=True)
            status = max(status, 2 if error.usage else 1)
            continue
        for place in composed.stars:
            where = f"{place.file}:{place.line}:{place.column}"
            click.echo(
                f"{where}: warning: other YAML readers, Hydra's included, refuse an unquoted leading *", err=True
            )
        status = max(status, 1 if strict and composed.stars else 0)
        count = len(recipe.rules)
        click.echo(f"{source}: ok, {count} rule{'' if count == 1 else 's'}")
    sys.exit(status)


@commands.command()
def schema() -> None:
    """Print the JSON Schema of recipe files, for editors."""
    from initplug.language.schema import schema as recipe_schema

    with user_code():
        described = recipe_schema()
    click.echo(json.dumps(described, indent=2, ensure_ascii=False))


# Models -----------------------------------------------------------------------------------------------------


@commands.command(epilog=MODEL_HELP)
@click.argument("model")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--real", is_flag=True, help="Build the model on the CPU instead of meta.")
def plan(model: str, recipe: str, overrides: tuple[str, ...], as_json: bool, strict: bool, real: bool) -> None:
    """Say which rule every parameter gets, without writing anything."""
    target = named(model)
    loaded = _recipe(recipe, overrides)
    built = built_from(target, meta=not real)
    import initplug

    problem: PlanError | None = None
    with _reported(strict):
        try:
            with user_code():
                result = initplug.plan(built, loaded)
        except PlanError as error:
            if error.plan is None:
                raise
            problem, result = error, error.plan
        click.echo(result.to_json() if as_json else result.to_text(color=_colored()), nl=not as_json)
        if problem is not None:
            raise problem


@commands.command(epilog=MODEL_HELP)
@click.argument("model")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
@click.option("--seed", type=int, help="Seed of the named streams, 0 to 2^64 - 1; without it torch's generator draws.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the weights to this .safetensors file.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the audit to this .json, .csv or .md file.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
def apply(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    seed: int | None,
    out: Path | None,
    report: Path | None,
    strict: bool,
) -> None:
    """Initialise a model, print the audit, and write weights and report where asked."""
    from initplug.tables.files import check_path

    target = named(model)
    loaded = _recipe(recipe, overrides)
    if out is not None:
        check_path(out, (".safetensors",))
    if report is not None:
        check_path(report)
    built = built_from(target, meta=False)
    import initplug

    with _reported(strict):
        with _progress() as progress, user_code():
            audit = initplug.apply(built, loaded, seed=seed, progress=progress)
        if out is not None:
            _save_weights(built, out)
        if report is not None:
            audit.save(report)
        _show_audit(audit)


@commands.command(epilog=MODEL_HELP)
@click.argument("model")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
@click.option("--weights", type=click.Path(path_type=Path), help="Measure these .safetensors weights.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the audit to this .json, .csv or .md file.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
def audit(
    model: str, recipe: str, overrides: tuple[str, ...], weights: Path | None, report: Path | None, strict: bool
) -> None:
    """Measure weights (or the model as constructed) against what a recipe plans."""
    from initplug.tables.files import check_path

    target = named(model)
    loaded = _recipe(recipe, overrides)
    if report is not None:
        check_path(report)
    if weights is not None and not weights.is_file():
        raise Failure(f"{weights}: there is no such file", 2)
    built = built_from(target, meta=False)
    if weights is not None:
        _load_weights(built, weights)
    import initplug

    with _reported(strict):
        with user_code():
            result = initplug.audit(built, loaded)
        if report is not None:
            result.save(report)
        _show_audit(result)


def _show_audit(audit: Audit) -> None:
    click.echo(audit.to_text(color=_colored()))
    problems = audit.problems()
    if problems:
        rows = shortened([f"  {row.name}: {row.problem}" for row in problems])
        raise Failure("\n".join([f"{len(problems)} of {len(audit)} slots are not what the recipe says", *rows]))


def _colored() -> bool:
    return sys.stdout.isatty()


PATIENCE = 2.0
"""Seconds after which a bar says how far it is."""


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """What takes longer than `PATIENCE` shows a bar on standard error, with its rate and the time that remains."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]:.1f} slots/s")
    remaining = TimeRemainingColumn()
    columns = (BarColumn(), MofNCompleteColumn(), rate, remaining)
    # The streams are ours to redirect, in whatever order that is undone.
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False)
    began = time.monotonic()
    task = None

    def tell(done: int, total: int) -> None:
        nonlocal task
        elapsed = time.monotonic() - began
        if elapsed < PATIENCE:
            return
        if task is None:
            bar.start()
            task = bar.add_task("", total=total, rate=0.0)
        bar.update(task, completed=done, rate=done / elapsed)

    try:
        yield tell
    finally:
        if task is not None:  # a bar that is stopped ends its line, also one that never began
            bar.stop()


@contextmanager
def _reported(strict: bool) -> Iterator[None]:
    """Print our warnings as lines on standard error; with `strict` they end in status 1."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InitplugWarning)
        try:
            yield
        finally:
            for warning in caught:
                click.echo(f"warning: {warning.message}", err=True)
    ours = sum(issubclass(warning.category, InitplugWarning) for warning in caught)
    if strict and ours:
        raise Failure(f"{ours} warning{'s' if ours > 1 else ''} with --strict")


# Arguments --------------------------------------------------------------------------------------------------


def _source(recipe: str) -> str:
    """A RECIPE argument as `load` takes it; - is standard input."""
    return sys.stdin.read() + "\n" if recipe == "-" else recipe.replace("\n", " ")


def _recipe(recipe: str, overrides: tuple[str, ...]) -> Any:
    from initplug.language.loading import load

    with user_code():  # initializers of installed packages
        return load(_source(recipe), overrides)


# Weights ----------------------------------------------------------------------------------------------------


def _save_weights(model: nn.Module, path: Path) -> None:
    """`state_dict` as safetensors, tied tensors once under their first name, the file replaced as a whole."""
    from safetensors.torch import save

    from initplug.tables.files import replace

    state, name = _state_of(model), ""
    seen: set[int] = set()
    tensors = {}
    try:
        for name, tensor in state.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                tensors[name] = tensor.detach().contiguous().clone()
        name = ""
        content = save(tensors, metadata={"format": "pt"})
    except Exception as error:  # dtypes and kinds of tensors that the format lacks, tensors without values
        raise Failure(f"{path}: {name or 'the weights'} cannot be saved: {brief(error)}") from None
    replace(path, content)


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's `state_dict`, which is its own code."""
    from torch import Tensor

    try:
        with user_code():
            state = dict(model.state_dict(keep_vars=True))
    except Exception as error:
        raise Failure(f"the model's state_dict raised {brief(error)}") from None
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise Failure(f"{others[0]} of the model's state_dict is a {type(state[others[0]]).__name__}, not a tensor")
    return state


def _load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors into a model; the weights must be all of the model's and nothing else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        own = _state_of(model)
        given = {id(own[name]) for name in tensors if name in own}
        missing = [name for name, tensor in own.items() if id(tensor) not in given]
        unknown = [name for name in tensors if name not in own]
        if missing or unknown:
            rows = [f"  missing: {name}" for name in missing] + [f"  unknown: {name}" for name in unknown]
            raise Failure("\n".join([f"{path}: these are not the model's weights", *shortened(rows)]))
        model.load_state_dict(tensors, strict=False)
    except (SafetensorError, OSError, RuntimeError) as error:
        detail = " ".join(str(error).split())
        raise Failure(f"{path}: cannot be loaded: {detail}") from None
