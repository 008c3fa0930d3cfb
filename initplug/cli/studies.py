"""Commands that learn of a model and write nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from initplug.cli.models import Failure, Model, build_model, constructor_of, import_model, user_code
from initplug.cli.options import (
    ALL_OPTION,
    INPUT_OPTION,
    MODEL_HELP,
    REAL_OPTION,
    STRICT_OPTION,
    TABLE_OPTIONS,
    WIDE_OPTION,
    inputs_from,
    recipe_from,
)
from initplug.cli.terminal import colored, progress, reported, save_report

if TYPE_CHECKING:
    from initplug.studies.recording.recording import Recording

FILE = "this .html, .json, .csv or .md file"

RECORDED = "recorded"
"""The side that is what the model's own code does."""


@click.command(
    epilog=f"{MODEL_HELP} A side that ends in .json is a plan or an audit that was saved; recorded is what the model's "
    "own code does, as `initplug record` tells it."
)
@click.argument("model")
@click.argument("sides", nargs=-1, metavar="RECIPE RECIPE")
@click.option("--lock", type=click.Path(path_type=Path), help="Compare with this lock, by default what is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print what differs as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print what differs as a Markdown table.")
@click.option("--exit-code", "ends", is_flag=True, help="End in status 1 where any slot differs.")
@click.option("--report", type=click.Path(path_type=Path), help=f"Write what differs to {FILE}.")
@ALL_OPTION
@WIDE_OPTION
@STRICT_OPTION
@REAL_OPTION
def diff(
    model: str,
    sides: tuple[str, ...],
    lock: Path | None,
    as_json: bool,
    as_markdown: bool,
    ends: bool,
    report: Path | None,
    every: bool,
    wide: bool,
    strict: bool,
    real: bool,
) -> None:
    """Say which parameters two recipes do not give the same distribution, and the ratio of their deviations.

    Each side is a preset, a file, a plan or an audit saved as .json, or the word recorded. With --lock one side is a
    file that `initplug record MODEL --lock FILE` wrote, the other one RECIPE, or else what is recorded now.
    """
    sides = sides if lock is None else (str(lock), *(sides or (RECORDED,)))
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown are two forms of one output")
    if len(sides) != 2:
        raise click.UsageError("two recipes are compared, or with --lock one recipe or none")
    from initplug.tables.files import REPORTS, check_path
    from initplug.tables.text import UNBOUNDED

    target = import_model(model)
    if report is not None:
        check_path(report, REPORTS)
    recorded = recorded_by(target, _made_on_meta(lock)) if RECORDED in sides else None
    built = build_model(target, meta=not real)
    import initplug

    with reported(strict):
        with user_code():
            found = initplug.diff(built, *(recorded if side == RECORDED else side for side in sides))
        if report is not None:
            save_report(found, report)
        if as_json or as_markdown:
            click.echo(found.to_json() if as_json else found.to_markdown(), nl=False)
        else:
            click.echo(found.to_text(width=UNBOUNDED if wide else None, color=colored(), every=every))
    if ends and found:
        sys.exit(1)


@click.command(epilog=MODEL_HELP.partition(" RECIPE is")[0])
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print rows, recipe and problems as JSON.")
@click.option(
    "--lock", type=click.Path(path_type=Path), help="Write what the code does to this .json file, to hold to."
)
@click.option(
    "--meta/--real",
    default=None,
    help="Record large tensors without values, in little memory, or for real. By default for real if that would fit.",
)
@click.option("--report", type=click.Path(path_type=Path), help=f"Write the recording to {FILE}.")
@click.option("--table", "as_table", is_flag=True, help="Print a table of what each parameter holds, and from where.")
@ALL_OPTION
@WIDE_OPTION
def record(
    model: str,
    as_json: bool,
    lock: Path | None,
    meta: bool | None,
    report: Path | None,
    as_table: bool,
    every: bool,
    wide: bool,
) -> None:
    """Say what a model's own code initialises: a recipe that does the same, with the lines of code it comes from.

    The model is built while every operator is watched. The recipe on standard output is checked against every
    parameter; parameters that it does not give what the code does are told on standard error, and end in status 1.

    With --lock a file is written that `initplug diff MODEL --lock FILE --exit-code` holds the code to later.
    """
    from initplug.tables.files import REPORTS, check_path
    from initplug.tables.replacement import check_destination
    from initplug.tables.text import UNBOUNDED

    target = import_model(model)
    if lock is not None:
        check_path(lock, (".json",))
    if report is not None:
        check_path(report, REPORTS)
    if lock is not None and report is not None and check_destination(lock) == check_destination(report):
        raise Failure(f"{lock} and {report} are one file")
    recording = recorded_by(target, meta)
    if lock is not None:
        from initplug.studies.lock import save_lock

        save_lock(recording, lock)
    if report is not None:
        save_report(recording, report)
    if as_json:
        click.echo(recording.to_json(), nl=False)
    elif as_table:
        click.echo(recording.to_text(width=UNBOUNDED if wide else None, color=colored(), every=every))
    else:
        click.echo(recording.yaml, nl=False)
    for line in [*recording.told(), recording.headline()]:
        click.echo(line, err=True)
    if recording.problems():
        sys.exit(1)


@click.command(epilog=MODEL_HELP.partition(" RECIPE is")[0])
@click.argument("model")
@click.option("--weights", type=click.Path(path_type=Path), help="Look at these .safetensors, .pt or .pth weights.")
@click.option("--json", "as_json", is_flag=True, help="Print rows, recipe and problems as JSON.")
@click.option("--table", "as_table", is_flag=True, help="Print a table of what each parameter looks like.")
@ALL_OPTION
@WIDE_OPTION
def infer(model: str, weights: Path | None, as_json: bool, as_table: bool, every: bool, wide: bool) -> None:
    """Say which initializers weights look like, as those of a checkpoint at step 0, and how sure that is.

    Without --weights the model is looked at as constructed. The recipe on standard output draws such values; its
    comments tell confidences, and what fits as well. Parameters that look like nothing that is known, as after
    training, are kept in the recipe, told on standard error, and end in status 1. Where the code is at hand,
    `initplug record` knows more.
    """
    from initplug.cli.weights import check_readable, load_weights
    from initplug.tables.text import UNBOUNDED

    target = import_model(model)
    if weights is not None:
        check_readable(weights)
    built = build_model(target, meta=False)
    if weights is not None:
        load_weights(built, weights)
    import initplug

    with reported(strict=False), user_code():
        inference = initplug.infer(built)
    if as_json:
        click.echo(inference.to_json(), nl=False)
    elif as_table:
        click.echo(inference.to_text(width=UNBOUNDED if wide else None, color=colored(), every=every))
    else:
        click.echo(inference.yaml, nl=False)
    for line in [*inference.told(), inference.headline()]:
        click.echo(line, err=True)
    if inference.problems():
        sys.exit(1)


def _made_on_meta(lock: Path | None) -> bool | None:
    from initplug.studies.lock import made_on_meta

    return None if lock is None else made_on_meta(lock)


def recorded_by(target: Model, meta: bool | None = None, *, check: bool = True) -> Recording:
    """Return what the constructor of a MODEL does."""
    build: Any = constructor_of(target)
    import initplug

    with reported(strict=False), user_code():
        return initplug.record(build, meta=meta, check=check)


@click.command(epilog=MODEL_HELP)
@click.argument("model")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
@INPUT_OPTION
@click.option("--seed", type=int, required=True, help="Seed of the named streams, 0 to 2^64 - 1, of drawn inputs too.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the recipe with its factors to this .yaml file.")
@click.option("--target", type=float, default=1.0, show_default=True, help="Standard deviation of outputs.")
@click.option("--tolerance", type=float, default=0.05, show_default=True, help="Relative to the target.")
@click.option("--rounds", type=int, default=10, show_default=True, help="How often a weight is drawn again at most.")
@click.option("--skip", multiple=True, metavar="SELECTOR", help="Leave these weights. May be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print rows, recipe and summary as JSON.")
@TABLE_OPTIONS
def calibrate(
    model: str,
    recipe: str,
    overrides: tuple[str, ...],
    inputs: tuple[str, ...],
    seed: int,
    out: Path | None,
    target: float,
    tolerance: float,
    rounds: int,
    skip: tuple[str, ...],
    as_json: bool,
    every: bool,
    wide: bool,
    strict: bool,
) -> None:
    """Find the factors that bring the output of every layer to one standard deviation (LSUV), on inputs.

    The recipe is applied, then layer by layer, in the order of the forward, the weight is drawn again with a factor
    until the output fits. The recipe with these factors gives the same weights under the same seed, on any mesh.
    Layers whose output is not within reach end in status 1.
    """
    from initplug.filling.words import SEEDS
    from initplug.tables.files import check_path
    from initplug.tables.text import UNBOUNDED

    if not 0 <= seed < SEEDS:
        raise click.UsageError("--seed is a whole number from 0 to 2^64 - 1")
    target_model = import_model(model)
    loaded = recipe_from(recipe, overrides)
    if out is not None:
        check_path(out, (".yaml",))
    given = inputs_from(inputs, seed)
    built = build_model(target_model, meta=False)
    import initplug

    with reported(strict):
        with progress() as tell, user_code():
            found = initplug.calibrate(
                built,
                loaded,
                given,
                seed=seed,
                target=target,
                tolerance=tolerance,
                rounds=rounds,
                skip=skip,
                progress=tell,
            )
        if out is not None:
            found.save(out)
        width = UNBOUNDED if wide else None
        click.echo(
            found.to_json() if as_json else found.to_text(width=width, color=colored(), every=every), nl=not as_json
        )
    problems = found.problems()
    if problems:
        raise Failure(f"{len(problems)} of {len(found)} weights have no factor that fits")
