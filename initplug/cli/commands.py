"""The command line. Imports stay inside commands: help, presets, check and show answer without torch."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from initplug._version import __version__
from initplug.cli.hydra_config import CommandWords, Composition, composed, enter_composition
from initplug.cli.models import ENDS, Failure, Model, build_model, import_model, raised_at, user_code
from initplug.cli.options import (
    AUDIT_OPTIONS,
    CONFIG_HELP,
    MODEL_HELP,
    REAL_OPTION,
    RECORDED_OPTION,
    STRICT_OPTION,
    TABLE_OPTIONS,
    completion_script,
    recipe_from,
    recipe_source,
    with_config,
)
from initplug.cli.probing import probe
from initplug.cli.studies import calibrate, diff, infer, record, recorded_by
from initplug.cli.sweeps import differences, run_each
from initplug.cli.terminal import colored, progress, reported, save_report, table_of
from initplug.errors import InitplugError, PlanError, RecipeError, brief, shortened, visible
from initplug.kernels import KernelError, described_kernel

if TYPE_CHECKING:
    from initplug.auditing.audit import Audit
    from initplug.language.recipe import Recipe
    from initplug.planning.plan import Plan


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
        except ENDS:
            raise
        except ImportError as error:  # of what initplug needs: what users import is told by `user_code`
            raise Failure(f"{error}: pip install --force-reinstall initplug") from None
        except Exception as error:  # nobody has foreseen it, and the place is all that can be told
            raise Failure(f"unexpected {brief(error)}{raised_at(error)}") from None


def main() -> None:
    """Run the command `initplug`: whatever happens ends in a line, not in a traceback."""
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


def _tell_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Tell the version, which kernel is in use, and that of torch, which is not imported for that."""
    if wanted and not ctx.resilient_parsing:
        try:
            with reported(strict=False):
                click.echo(f"initplug, version {__version__}, {described_kernel()}, {_version_of('torch')}")
        except KernelError as error:
            raise Failure(str(error)) from None
        ctx.exit()


def _version_of(package: str) -> str:
    """Return the name and the version of an installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and exit.",
)
def commands() -> None:
    """Initialization for PyTorch: declared in recipes, planned, applied, audited.

    Exit status: 0 fine; 1 errors in a recipe, a plan or a model, or audit problems; 2 usage, or something that
    cannot be found.
    """


# Recipes ----------------------------------------------------------------------------------------------------


@commands.command()
@click.argument("pattern", required=False)
@click.option("--family", metavar="WORDS", help="Those whose family holds these words: convolutional, language.")
@click.option("--json", "as_json", is_flag=True, help="Print name, family and what it is about as JSON.")
@click.option("--for", "model", metavar="MODEL", help="Say which fit this model best: package.module:callable.")
@REAL_OPTION
def presets(pattern: str | None, family: str | None, as_json: bool, model: str | None, real: bool) -> None:
    """List the recipes that ship with initplug, by family; or, the best first, those that fit a model.

    PATTERN is a glob over names, 'timm_*', or any part of a name: resnet.
    """
    if model is None:
        if real:
            raise click.UsageError("--real says how the model of --for is built")
        _list_presets(pattern, family, as_json)
        return
    if pattern is not None or family is not None or as_json:
        raise click.UsageError("--for asks for all presets: without PATTERN, --family and --json")
    built = build_model(import_model(model), meta=not real)
    import initplug

    with user_code():
        fits = initplug.suggest(built)
    click.echo(fits.to_text(color=colored()))


def _list_presets(pattern: str | None, family: str | None, as_json: bool) -> None:
    """Print the presets that are asked for; none is a failure that names what may be meant."""
    from initplug.language.preset_list import described, listed, preset_names, presets_for

    names = preset_names(pattern, family)
    if not names:
        meant = presets_for(pattern) if pattern is not None and family is None else []
        hint = f" (presets for it: {', '.join(shortened(meant, limit=5))})" if meant else ""
        asked = " and ".join(
            f"{key} {visible(repr(value))}" for key, value in (("name", pattern), ("family", family)) if value
        )
        raise Failure(f"no preset has the {asked}{hint}; `initplug presets` lists all", 2)
    if as_json:
        click.echo(json.dumps(described(names), indent=1, ensure_ascii=False))
    else:
        click.echo(listed(names, shutil.get_terminal_size().columns))


@commands.command()
@with_config("RECIPE")
def show(given: CommandWords) -> None:
    """Print a recipe as composed: its source and proofs, defaults merged, overrides applied.

    OVERRIDE is in Hydra's notation: rules.conv.init.mode=fan_in, rules.bias=null, ~rules.bias,
    '+rules.head={match: head.weight, init: zeros}'. With --config-dir and --config-name the recipe is the node init of
    that Hydra config, and every word is an override of the config: init=wrn init.rules.bias=null.
    """
    if given.config is None:
        (recipe,), overrides = given.split(["RECIPE"])
        loaded = recipe_from(recipe, overrides)
    else:
        with composed(given) as (composition,):
            loaded = enter_composition(composition).recipe()
    click.echo(loaded.to_yaml(), nl=False)


@commands.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@STRICT_OPTION
def check(recipes: tuple[str, ...], strict: bool) -> None:
    """Validate recipes; every fault is printed as file:line:column: message."""
    from initplug.language.loading import compose, validate

    status = 0
    for source in recipes:
        try:
            composed = compose(recipe_source(source))
            with user_code():
                recipe = validate(composed)
        except RecipeError as error:
            click.echo(str(error), err=True)
            status = max(status, 2 if error.usage else 1)
            continue
        for place in composed.stars:
            where = f"{place.file}:{place.line}:{place.column}"
            warning = "warning: other YAML readers, Hydra's included, refuse an unquoted leading *"
            click.echo(f"{visible(where)}: {warning}", err=True)
        status = max(status, 1 if strict and composed.stars else 0)
        count = len(recipe.rules)
        click.echo(f"{visible(source)}: ok, {count} rule{'' if count == 1 else 's'}")
    sys.exit(status)


@commands.command()
def schema() -> None:
    """Print the JSON Schema of recipe files, for editors."""
    from initplug.language.schema import schema as recipe_schema

    with user_code():
        described = recipe_schema()
    click.echo(json.dumps(described, indent=1, ensure_ascii=False))


@commands.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, presets and keys: eval "$(initplug completion bash)".

    zsh: eval "$(initplug completion zsh)"; fish: initplug completion fish | source.
    """
    click.echo(completion_script(shell, commands))


# Models -----------------------------------------------------------------------------------------------------


@commands.command(epilog=f"{MODEL_HELP} {CONFIG_HELP}")
@with_config("MODEL RECIPE")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@TABLE_OPTIONS
@REAL_OPTION
@RECORDED_OPTION
def plan(given: CommandWords, as_json: bool, every: bool, wide: bool, strict: bool, real: bool, recorded: bool) -> None:
    """Say which rule every parameter gets, without writing anything.

    With --config-name a sweep, such as init=resnext,wrn model.depth=20,56, gives one line for every combination and a
    table of the slots that differ.
    """
    if given.config is not None:
        with composed(given, sweep=True) as compositions:
            if len(compositions) > 1:
                sys.exit(_print_swept_plans(compositions, as_json, strict, real, recorded))
            _print_plan(*_model_and_recipe_of_config(compositions[0]), as_json, every, wide, strict, real, recorded)
    else:
        _print_plan(*_model_and_recipe_named(given), as_json, every, wide, strict, real, recorded)


def _print_plan(
    target: Model,
    recipe: Recipe,
    as_json: bool,
    every: bool,
    wide: bool,
    strict: bool,
    real: bool,
    recorded: bool,
) -> None:
    with reported(strict):
        result, problem = _plan_of(target, recipe, real, recorded)
        click.echo(result.to_json() if as_json else table_of(result, every, wide), nl=not as_json)
        if problem is not None:
            raise problem


def _plan_of(target: Model, recipe: Recipe, real: bool, recorded: bool) -> tuple[Plan, PlanError | None]:
    """Return the plan, or as much as there is of it and what is wrong."""
    built = build_model(target, meta=not real)
    recording = recorded_by(target, not real or None, check=False) if recorded else None
    import initplug

    try:
        with user_code():
            return initplug.plan(built, recipe, recorded=recording), None
    except PlanError as error:
        if error.plan is None:
            raise
        return error.plan, error


def _print_swept_plans(compositions: list[Composition], as_json: bool, strict: bool, real: bool, recorded: bool) -> int:
    """Plan every combination of a sweep: a line for each, and what differs."""
    plans: dict[tuple[str, ...], Plan] = {}

    def work(composition: Composition) -> None:
        with reported(strict):
            result, problem = _plan_of(*_model_and_recipe_of_config(composition), real, recorded)
            plans[composition.swept] = result
            if not as_json:
                click.echo(f"{composition.label}: {result.headline()}")
            if problem is not None:
                raise problem

    status = run_each(compositions, work)
    if as_json:
        found = [{"overrides": swept, "plan": result.to_dict()} for swept, result in plans.items()]
        click.echo(json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False))
    elif len(plans) > 1:
        click.echo(f"\n{differences({' '.join(swept): result for swept, result in plans.items()}, color=colored())}")
    return status


@commands.command(epilog=f"{MODEL_HELP} {CONFIG_HELP}")
@with_config("MODEL RECIPE")
@click.option("--seed", type=int, help="Seed of the named streams, 0 to 2^64 - 1; without it torch's generator draws.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the weights to this .safetensors file.")
@AUDIT_OPTIONS
@RECORDED_OPTION
def apply(
    given: CommandWords,
    seed: int | None,
    out: Path | None,
    report: Path | None,
    every: bool,
    wide: bool,
    strict: bool,
    recorded: bool,
) -> None:
    """Initialise a model, print the audit, and write weights and report where asked."""
    from initplug.cli.weights import save_weights, weights_of
    from initplug.tables.files import REPORTS, check_path
    from initplug.tables.replacement import check_destination

    with ExitStack() as stack:
        if given.config is None:
            target, loaded = _model_and_recipe_named(given)
        else:
            target, loaded = _model_and_recipe_of_config(*stack.enter_context(composed(given)))
        if out is not None:
            check_path(out, (".safetensors",))
        if report is not None:
            check_path(report, REPORTS)
        if out is not None and report is not None and check_destination(out) == check_destination(report):
            raise Failure(f"{out} and {report} are one file")
        built = build_model(target, meta=False)
        if out is not None:
            weights_of(built, out)
    recording = recorded_by(target, check=False) if recorded else None
    import initplug

    with reported(strict):
        with progress() as tell, user_code():
            wanted = loaded if recording is None else initplug.plan(built, loaded, recorded=recording)
            audit = initplug.apply(built, wanted, seed=seed, histograms=_is_page(report), progress=tell)
        if out is not None:
            save_weights(built, out)
        if report is not None:
            save_report(audit, report)
        _show_audit(audit, every, wide)


@commands.command(epilog=MODEL_HELP)
@click.argument("model")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
@click.option("--weights", type=click.Path(path_type=Path), help="Measure these .safetensors weights.")
@click.option("--seed", type=int, help="Compute what this seed gives once more, and compare every value to the bit.")
@AUDIT_OPTIONS
@click.option("--against", type=click.Path(path_type=Path), help="Say what changed since this .json audit.")
def audit(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    weights: Path | None,
    seed: int | None,
    report: Path | None,
    every: bool,
    wide: bool,
    strict: bool,
    against: Path | None,
) -> None:
    """Measure weights (or the model as constructed) against what a recipe plans.

    With --seed every value is compared with the one that the seed gives, and exact is what is equal to the bit.

    With --against the rows that are not what they were are told by rule, and end in status 1.
    """
    from initplug.auditing.compare import changes, comparison, load_report
    from initplug.cli.weights import check_readable, load_weights
    from initplug.tables.files import REPORTS, check_path

    target = import_model(model)
    loaded = recipe_from(recipe, overrides)
    if report is not None:
        check_path(report, REPORTS)
    for given in (weights, against):
        if given is not None:
            check_readable(given)
    old = None if against is None else load_report(against)
    built = build_model(target, meta=False)
    if weights is not None:
        load_weights(built, weights)
    import initplug

    with reported(strict):
        with progress() as tell, user_code():
            result = initplug.audit(built, loaded, seed=seed, histograms=_is_page(report), progress=tell)
        if report is not None:
            save_report(result, report)
        if old is None:
            _show_audit(result, every, wide)
            return
        changed = changes(old, result.to_dict())
        click.echo(comparison(changed, str(against), every=every))
        if changed:
            raise Failure(f"{len(changed)} of {len(result)} rows changed")


def _is_page(report: Path | None) -> bool:
    """Return whether a report is the page, which draws histograms."""
    return report is not None and report.suffix == ".html"


def _show_audit(audit: Audit, every: bool, wide: bool) -> None:
    click.echo(table_of(audit, every, wide))
    problems = audit.problems()
    if problems:
        rows = shortened([f"  {row.name}: {row.problem}" for row in problems])
        raise Failure("\n".join([f"{len(problems)} of {len(audit)} slots are not what the recipe says", *rows]))


commands.add_command(diff)
commands.add_command(infer)
commands.add_command(record)
commands.add_command(calibrate)
commands.add_command(probe)


# Arguments --------------------------------------------------------------------------------------------------


def _model_and_recipe_named(given: CommandWords) -> tuple[Model, Recipe]:
    """Return the MODEL and the RECIPE of a command."""
    (model, recipe), overrides = given.split(["MODEL", "RECIPE"])
    return import_model(model), recipe_from(recipe, overrides)


def _model_and_recipe_of_config(composition: Composition) -> tuple[Model, Recipe]:
    """Return the model and the recipe of a config, which is validated before anything is made of it."""
    target = enter_composition(composition).model()
    return target, composition.recipe()
