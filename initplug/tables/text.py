"""Rows as a table for a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from initplug.errors import InitplugError, visible
from initplug.values import is_whole, plain

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 110
"""Columns of a terminal that has room for what is only good to know."""

LEAST = 8
"""Characters that a shortened column keeps."""

UNBOUNDED = 10_000
"""Columns of what is no terminal: a file or a pipe gets whole lines."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: its heading.
        key: of the row's value.
        least: columns of terminal below which it is left out.
        gives: shortened where the terminal is too narrow.
    """

    title: str
    key: str
    least: int = 0
    gives: bool = False


def table(
    columns: Iterable[Column],
    rows: Iterable[Mapping[str, Any]],
    *,
    more: str = "",
    footer: str = "",
    width: int | None = None,
    color: bool = False,
) -> str:
    """Return rows as aligned text, as wide as the terminal.

    Args:
        columns: what to show of each row.
        rows: plain data.
        more: a line on the rows that are not shown.
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

    width = plain(width)
    if width is not None and not (is_whole(width) and width >= 1):
        raise InitplugError("a width is a whole number of at least 1, or None for the terminal's")
    width = min(width or terminal_width(), UNBOUNDED)
    chosen = [column for column in columns if width >= column.least]
    listed = list(rows)
    cells = [[cell(row.get(column.key)) for column in chosen] for row in listed]
    headings: dict[int, str] = {}
    if _total(_widths(chosen, cells)) > width and chosen[0].key == "name":
        listed, cells = _move_under_headings(listed, cells, headings)
    limits = _limited(chosen, _widths(chosen, cells), width)
    stream = StringIO()
    console = Console(file=stream, width=UNBOUNDED, force_terminal=color, no_color=not color)
    console.print(_grid(chosen, listed, cells, limits), highlight=False, emoji=False)
    top, rule, *lines = (line.rstrip() for line in stream.getvalue().splitlines())
    body = (
        f" {_shortened(headings[index], width - 1)}" if index in headings else line for index, line in enumerate(lines)
    )
    below = (textwrap.wrap(visible(text), width, subsequent_indent="  ") for text in (more and f" {more}", footer))
    return "\n".join([top, rule, *body, *chain.from_iterable(below)])


def terminal_width() -> int:
    """Return the columns of the terminal, or as many as a table wants where there is none."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return UNBOUNDED


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(column.title), *(_width(row[index]) for row in cells)]) for index, column in enumerate(columns)]


def _width(text: str) -> int:
    """Return the places that a text takes on a terminal: some characters take two, some none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * len(widths)


def _limited(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return widths that fit: columns that may give way do, the widest first."""
    limits = list(widths)
    giving = [index for index, column in enumerate(columns) if column.gives]
    while giving and _total(limits) > width:
        widest = max(giving, key=lambda index: limits[index])
        if limits[widest] <= LEAST:
            break
        limits[widest] -= 1
    return limits


def _shortened(text: str, width: int) -> str:
    """Return the end of a text that is too long: names differ at their ends."""
    if _width(text) <= width:
        return text
    kept = text[max(len(text) - width + 1, 0) :]
    while _width(kept) > width - 1:
        kept = kept[1:]
    return f"…{kept}"


def _grid(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], cells: Sequence[Sequence[str]], limits: Sequence[int]
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.HORIZONTALS, show_edge=False, padding=(0, 1), collapse_padding=True)
    for column, limit in zip(columns, limits, strict=True):
        justify: Literal["left", "right"] = "right" if column.key == "shape" else "left"
        grid.add_column(_shortened(column.title, limit), justify=justify, no_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        shown = (_shortened(text, limit) for text, limit in zip(texts, limits, strict=True))
        grid.add_row(*(Text(text, style=_style(row, column)) for text, column in zip(shown, columns, strict=True)))
    return grid


def _move_under_headings(
    rows: Sequence[Mapping[str, Any]], cells: Sequence[Sequence[str]], headings: dict[int, str]
) -> tuple[list[Mapping[str, Any]], list[list[str]]]:
    """Return short names below what the names have in common, for terminals that long names do not fit.

    `headings` gets the common parts, by the position of the empty row that stands for each.
    """
    grouped: list[Mapping[str, Any]] = []
    texts: list[list[str]] = []
    heading = ""
    for row, (name, *others) in zip(rows, cells, strict=True):
        parts = name.split(".")
        above, short = ".".join(parts[:-2]), ".".join(parts[-2:])
        if above != heading:
            heading = above
            headings[len(grouped)] = f"{heading}." if heading else ""
            grouped.append({})
            texts.append([""] * (1 + len(others)))
        grouped.append(row)
        texts.append([f"  {short}" if heading else short, *others])
    return grouped, texts


def _style(row: Mapping[str, Any], column: Column) -> str:
    if column.key == "verdict":
        return {"ok": "green", "exact": "green", "differs": "bold red"}.get(str(row.get("verdict")), "dim")
    unmatched = row.get("rule") is None and row.get("reason") not in ("frozen", "adapter")
    return "bold red" if column.key == "rule" and unmatched else ""


def cell(value: Any) -> str:
    """Return a value as a person reads it: four significant digits, shapes as 64×3×7×7.

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
        return visible(", ".join(map(str, value)))
    return visible(str(value))


def spread(mean: float | None, std: float | None) -> str | None:
    """Return the mean and standard deviation as one text; a constant is its value.

    Example:
        >>> spread(0.0, 0.02), spread(1.0, 0.0)
        ('0 ± 0.02', '1')
    """
    if mean is None or std is None:
        return None
    return cell(mean) if std == 0 else f"{_small(mean, std)} ± {std:.4g}"


def _small(mean: float, std: float) -> str:
    """Return a mean to the digits that its spread makes worth reading."""
    if not mean or abs(mean) > 1e15 * std:  # the quotient may be beyond what a double holds
        return f"{mean:.4g}"
    rounded = round(mean / std, 3) * std
    return f"{rounded:.2g}" if rounded else "0"
