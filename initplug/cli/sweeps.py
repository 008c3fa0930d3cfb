"""Sweeps of a Hydra application's configs: the same work with each, and what differs between their plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from initplug.cli.hydra_config import Composition, enter_composition
from initplug.errors import InitplugError, RecipeError

if TYPE_CHECKING:
    from initplug.planning.plan import Plan


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
