"""Commands that learn of a model and write nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from initplug.cli.models import build_model, import_model, user_code
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
