"""Commands that learn of a model and write nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from initplug.cli.models import Model, build_model, constructor_of, import_model, user_code
from initplug.cli.options import ALL_OPTION, MODEL_HELP, REAL_OPTION, STRICT_OPTION, WIDE_OPTION
from initplug.cli.terminal import colored, reported

if TYPE_CHECKING:
    from initplug.studies.recording import Recording

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
@click.option("--exit-code", "ends", is_flag=True, help="End in status 1 where any slot differs.")
@click.option("--report", type=click.Path(path_type=Path), help="Write what differs to this .json, .csv or .md file.")
@ALL_OPTION
@WIDE_OPTION
@STRICT_OPTION
@REAL_OPTION
def diff(
    model: str,
    sides: tuple[str, ...],
    lock: Path | None,
    as_json: bool,
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
    if len(sides) != 2:
        raise click.UsageError("two recipes are compared, or with --lock one recipe or none")
    from initplug.tables.files import check_path
    from initplug.tables.text import UNBOUNDED

    target = import_model(model)
    if report is not None:
        check_path(report, (".json", ".csv", ".md"))
    recorded = recorded_by(target, _made_on_meta(lock)) if RECORDED in sides else None
    built = build_model(target, meta=not real)
    import initplug

    with reported(strict):
        with user_code():
            found = initplug.diff(built, *(recorded if side == RECORDED else side for side in sides))
        if report is not None:
            found.save(report)
        text = (
            found.to_json()
            if as_json
            else found.to_text(width=UNBOUNDED if wide else None, color=colored(), every=every)
        )
        click.echo(text, nl=not as_json)
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
@click.option("--table", "as_table", is_flag=True, help="Print a table of what each parameter holds, and from where.")
@ALL_OPTION
@WIDE_OPTION
def record(
    model: str, as_json: bool, lock: Path | None, meta: bool | None, as_table: bool, every: bool, wide: bool
) -> None:
    """Say what a model's own code initialises: a recipe that does the same, with the lines of code it comes from.

    The model is built while every operator is watched. The recipe on standard output is checked against every
    parameter; parameters that it does not give what the code does are told on standard error, and end in status 1.

    With --lock a file is written that `initplug diff MODEL --lock FILE --exit-code` holds the code to later.
    """
    from initplug.tables.files import check_path
    from initplug.tables.text import UNBOUNDED

    target = import_model(model)
    if lock is not None:
        check_path(lock, (".json",))
    recording = recorded_by(target, meta)
    if lock is not None:
        from initplug.studies.lock import save_lock

        save_lock(recording, lock)
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


def _made_on_meta(lock: Path | None) -> bool | None:
    from initplug.studies.lock import made_on_meta

    return None if lock is None else made_on_meta(lock)


def recorded_by(target: Model, meta: bool | None = None, *, check: bool = True) -> Recording:
    """Return what the constructor of a MODEL does."""
    build: Any = constructor_of(target)
    import initplug

    with reported(strict=False), user_code():
        return initplug.record(build, meta=meta, check=check)
