"""The terminal of the command line: tables, a bar for what takes long, warnings as lines."""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from initplug.cli.models import Failure
from initplug.errors import InitplugWarning

if TYPE_CHECKING:
    from initplug.auditing.audit import Audit
    from initplug.planning.plan import Plan


def table_of(rows: Plan | Audit, every: bool, wide: bool) -> str:
    """Return a plan or an audit as a table for this terminal; `wide` for any."""
    from initplug.tables.text import UNBOUNDED

    return rows.to_text(width=UNBOUNDED if wide else None, color=colored(), every=every)


class Reported(Protocol):
    """Rows that are written to files, a page among them."""

    def save(self, path: Path, **page: str) -> None:
        """Write the file that its suffix asks for."""


def save_report(rows: Reported, path: Path) -> None:
    """Write a report; a page says when it was made, and by which command."""
    command = shlex.join(["initplug", *sys.argv[1:]])
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    rows.save(path, **({"command": command, "date": date} if path.suffix == ".html" else {}))


def colored() -> bool:
    """Return whether standard output shows colours."""
    return sys.stdout.isatty()


PATIENCE = 2.0
"""Seconds after which a bar says how far it is."""


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error for what takes longer than `PATIENCE`, with its rate and the time that remains."""
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
def reported(strict: bool) -> Iterator[None]:
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
