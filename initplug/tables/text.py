"""Rows as a table for a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 110
"""Columns of a terminal that has room for what is only good to know."""

UNBOUNDED = 10_000
"""Columns of what is no terminal: a file or a pipe gets whole lines."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: its heading.
        key: of the row's value.
        least: columns of terminal below which it is left out.
    """

    title: str
    key: str
    least: int = 0


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
         parameter  std
        ─────────────────
         fc.weight  0.02
    """
    from rich.console import Console
    from rich.measure import Measurement

    width = width or terminal_width()
    chosen = [column for column in columns if width >= column.least]
    stream = StringIO()
    console = Console(file=stream, width=width, force_terminal=color, no_color=not color, highlight=False, emoji=False)
    listed = list(rows)
    grid = _grid(chosen, listed)
    headings: dict[int, str] = {}
    if Measurement.get(console, console.options.update(max_width=UNBOUNDED), grid).maximum > width:
        listed = _grouped(listed, headings)
        grid = _grid(chosen, listed)
    console.print(grid)
    top, rule, *lines = (line.rstrip() for line in stream.getvalue().splitlines())
    body = (f" {headings[index]}" if index in headings else line for index, line in enumerate(lines))
    return "\n".join([top, rule, *body, *([footer] if footer else [])])


def terminal_width() -> int:
    """Columns of the terminal, or as many as a table wants where there is none."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return UNBOUNDED


def _grid(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.HORIZONTALS, show_edge=False, padding=(0, 1), collapse_padding=True)
    for column in columns:
        grid.add_column(
            column.title,
            justify="right" if column.key == "shape" else "left",
            no_wrap=True,
        )
    for row in rows:
        cells = (cell(row[column.key]) if column.key in row else "" for column in columns)
        grid.add_row(*(Text(text, style=_style(row, column)) for text, column in zip(cells, columns, strict=True)))
    return grid


def _grouped(rows: Iterable[Mapping[str, Any]], headings: dict[int, str]) -> list[Mapping[str, Any]]:
    """Rows with short names below what the names have in common, for terminals that long names do not fit.

    `headings` gets the common parts, by the position of the empty row that stands for each.
    """
    grouped: list[Mapping[str, Any]] = []
    heading = ""
    for row in rows:
        parts = str(row["name"]).split(".")
        above, short = ".".join(parts[:-2]), ".".join(parts[-2:])
        if above != heading:
            heading = above
            headings[len(grouped)] = f"{heading}." if heading else ""
            grouped.append({})
        grouped.append({**row, "name": f"  {short}" if heading else short})
    return grouped


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
