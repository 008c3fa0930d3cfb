"""Commands that learn of a model and write nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from initplug.cli.models import build_model, constructor_of, import_model, user_code
from initplug.cli.options import ALL_OPTION, MODEL_HELP, REAL_OPTION, STRICT_OPTION, WIDE_OPTION
from initplug.cli.terminal import colored, reported


@click.command(epilog=f"{MODEL_HELP} A side that ends in .json is a plan or an audit that was saved.")
@click.argument("model")
@click.argument("a", metavar="RECIPE")
@click.argument("b", metavar="RECIPE")
@click.option("--json", "as_json", is_flag=True, help="Print what differs as JSON.")
@click.option("--exit-code", "ends", is_flag=True, help="End in status 1 where any slot differs.")
@click.option("--report", type=click.Path(path_type=Path), help="Write what differs to this .json, .csv or .md file.")
@ALL_OPTION
@WIDE_OPTION
@STRICT_OPTION
@REAL_OPTION
def diff(
    model: str,
    a: str,
    b: str,
    as_json: bool,
    ends: bool,
    report: Path | None,
    every: bool,
    wide: bool,
    strict: bool,
    real: bool,
) -> None:
    """Say which parameters two recipes do not give the same distribution, and the ratio of their deviations.

    Each side is a preset, a file, or a plan or an audit saved as .json.
    """
    from initplug.tables.files import check_path
    from initplug.tables.text import UNBOUNDED

    target = import_model(model)
    if report is not None:
        check_path(report, (".json", ".csv", ".md"))
    built = build_model(target, meta=not real)
    import initplug

    with reported(strict):
        with user_code():
            found = initplug.diff(built, a, b)
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
@click.option("--table", "as_table", is_flag=True, help="Print a table of what each parameter holds, and from where.")
@ALL_OPTION
@WIDE_OPTION
def record(model: str, as_json: bool, as_table: bool, every: bool, wide: bool) -> None:
    """Say what a model's own code initialises: a recipe that does the same, with the lines of code it comes from.

    The model is built while every operator is watched. The recipe on standard output is checked against every
    parameter; parameters that it does not give what the code does are told on standard error, and end in status 1.
    """
    from initplug.tables.text import UNBOUNDED

    build = constructor_of(import_model(model))
    import initplug

    with reported(strict=False), user_code():
        recording = initplug.record(build)
    if as_json:
        click.echo(recording.to_json())
    elif as_table:
        click.echo(recording.to_text(width=UNBOUNDED if wide else None, color=colored(), every=every))
    else:
        click.echo(recording.yaml, nl=False)
    for line in [*recording.told(), recording.headline()]:
        click.echo(line, err=True)
    if recording.problems():
        sys.exit(1)
