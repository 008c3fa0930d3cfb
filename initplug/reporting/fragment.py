"""Small static markup for notebooks: no script, no style sheet, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from initplug.errors import visible
from initplug.tables.text import Column, cell


def fragment(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]], footer: Iterable[str]) -> str:
    """Return rows as an HTML table without script, for notebooks.

    Example:
        >>> print(fragment([Column("parameter", "name")], [{"name": "<b>"}], ["1 slot"]))
        <table><thead><tr><th>parameter</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table><p>1 slot</p>
    """
    listed = list(columns)
    head = "".join(f"<th>{escape(column.title)}</th>" for column in listed)
    lines = ("".join(f"<td>{escape(cell(row.get(column.key)))}</td>" for column in listed) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    below = "".join(f"<p>{escape(visible(line))}</p>" for line in footer)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
