"""Rows as a table for a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

NARROW = 110
"""Below this many columns of terminal, columns that say so are left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: its heading.
        key: of the row's value.
        narrow: shown on narrow terminals too.
        keep: never shortened: folded where it does not fit.
    """

    title: str
    key: str
    narrow: bool = True
    keep: bool = False


def table(
    columns: Iterable[Column],
    rows: Iterable[Mapping[str, Any]],
    *,
    footer: str = "",
    width: int | None = None,
    color: bool = False,
) -> str:
    """Rows as aligned text, as wide as the terminal.

    Args:
        columns: what to show of each row.
        rows: plain data.
        footer: a last line.
        width: in characters; the terminal's unless given.
        color: whether verdicts and statuses carry terminal colours.

    Example:
        >>> columns = [Column("parameter", "name"), Column("std", "std")]
        >>> print(table(columns, [{"name": "fc.weight", "std": 0.02}], width=40))
         parameter    std
        ──────────────────
         fc.weight   0.02
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = width or shutil.get_terminal_size((120, 24)).columns
    chosen = [column for column in columns if column.narrow or width >= NARROW]
    grid = Table(box=box.HORIZONTALS, show_edge=False, padding=(0, 1), pad_edge=True)
    numeric = {"shape", "std"}
    for column in chosen:
        grid.add_column(
            column.title,
            justify="right" if column.key in numeric else "left",
            overflow="fold" if column.keep else "ellipsis",
            no_wrap=not column.keep,
            ratio=None,
        )
    for row in rows:
        grid.add_row(*(Text(cell(row.get(column.key)), style=_style(row, column)) for column in chosen))
    stream = StringIO()
    console = Console(file=stream, width=width, force_terminal=color, no_color=not color, highlight=False, emoji=False)
    console.print(grid)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join([*lines, *([footer] if footer else [])])


def _style(row: Mapping[str, Any], column: Column) -> str:
    if column.key == "verdict":
        return {"ok": "green", "differs": "bold red"}.get(str(row.get("verdict")), "dim")
    return "bold red" if column.key == "rule" and row.get("rule") is None else ""


def cell(value: Any) -> str:
    """A value as a person reads it: four significant digits, shapes as 64×3×7×7.

    Example:
        >>> cell(0.0589256), cell([64, 3, 7, 7]), cell(None)
        ('0.05893', '64×3×7×7', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if all(isinstance(part, int) for part in value):
            return "×".join(map(str, value)) or "()"
        return ", ".join(map(str, value))
    return str(value)


def spread(mean: float | None, std: float | None) -> str | None:
    """Mean and standard deviation as one text; a constant is its value.

    Example:
        >>> spread(0.0, 0.02), spread(1.0, 0.0)
        ('0 ± 0.02', '1')
    """
    if mean is None or std is None:
        return None
    return cell(mean) if std == 0 else f"{_small(mean, std)} ± {std:.4g}"


def _small(mean: float, std: float) -> str:
    """A mean to the digits that its spread makes worth reading."""
    rounded = round(mean / std, 3) * std
    return f"{rounded:.2g}" if rounded else "0"
