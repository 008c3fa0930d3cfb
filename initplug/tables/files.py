"""Plain data as JSON, CSV and Markdown files, written as a whole or not at all."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from initplug.errors import InitplugError, did_you_mean, visible
from initplug.tables.replacement import check_destination, replacing
from initplug.tables.text import cell


def to_json(data: Mapping[str, Any]) -> str:
    """Return JSON text; missing numbers are null, never NaN."""
    return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_csv(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> str:
    r"""Return CSV text with a heading; missing values are empty, lists are joined by spaces, line breaks are escapes.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.

    Example:
        >>> to_csv([{"name": "fc.bias", "shape": [10], "std": None}], ["name", "shape", "std"])
        'name,shape,std\r\nfc.bias,10,\r\n'
        >>> to_csv([{"name": "=1+1", "mean": -0.5}], ["name", "mean"])
        "name,mean\r\n'=1+1,-0.5\r\n"
    """
    stream = StringIO()
    writer = csv.writer(stream)
    writer.writerow(keys)
    writer.writerows([_field(row[key]) for key in keys] for row in rows)
    return stream.getvalue()


FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""The beginning of a text that spreadsheets run, wide forms of these signs included."""

SIGNED_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def _field(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if FORMULA.match(text) and not SIGNED_NUMBER.fullmatch(text) else text


def to_markdown(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> str:
    r"""Return a Markdown table of the values that a reader looks for; problems have a column where there are any.

    Example:
        >>> print(to_markdown([{"name": "a|b", "std": 0.5}], ["name", "std"]))
        | name | std |
        | --- | --- |
        | `a\|b` | 0.5 |
        <BLANKLINE>
    """
    rows = list(rows)
    wrong = any(row.get("problem") for row in rows)
    chosen = [key for key in keys if key in MARKDOWN_KEYS and (wrong or key != "problem")]
    lines = [chosen, ["---"] * len(chosen)]
    lines += [[_code(row[key]) if key in CODE_KEYS else _escaped(row.get(key)) for key in chosen] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_frame(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> Any:
    """Return a pandas DataFrame: a row for each, a column for each key; missing values are missing.

    Raises:
        InitplugError: pandas is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped]  # it has no types of its own, and need not be installed
    except ImportError as error:
        raise InitplugError(f"a frame is made by pandas, which is not here ({error}): pip install pandas") from None
    return pandas.DataFrame([[row[key] for key in keys] for row in rows], columns=[*keys])


MARKDOWN_KEYS = (
    "name",
    "shape",
    "rule",
    "init",
    "mean",
    "std",
    "measured_mean",
    "measured_std",
    "status",
    "verdict",
    *("holds", "confidence", "place"),
    *("what", "a", "b", "ratio", "rule_a", "rule_b", "location_a", "location_b"),
    "problem",
)
CODE_KEYS = ("name", "rule", "init", "holds", "place", "a", "b", "rule_a", "rule_b", "location_a", "location_b")
"""The keys whose values may hold any character and are set as code, so that none of them means anything."""


SIGNS = re.compile(r"[\\`*_~|<>&\[\]]")
"""The signs that mean something in Markdown, HTML included."""


def _escaped(value: Any) -> str:
    """Return a value inside a table, in which nothing but letters is read."""
    return SIGNS.sub(r"\\\g<0>", cell(value))


def _code(value: str | None) -> str:
    """Return a text as code inside a table: fenced by more backticks than it has in a row."""
    if value is None:
        return cell(value)
    text = visible(value).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if len(fence) > 1 or text != text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


TABLE_SUFFIXES = (".json", ".csv", ".md")
"""Files that rows are written to."""

REPORTS = (".html", *TABLE_SUFFIXES)
"""Files that an audit is written to."""


def check_path(path: str | PathLike[str], suffixes: Iterable[str]) -> Path:
    """Return the path, if its suffix is known and a file can be written there.

    Raises:
        InitplugError: otherwise.
    """
    target, known = Path(path), list(suffixes)
    if target.suffix not in known:
        hint = did_you_mean(target.suffix, known) or f"known: {', '.join(known)}"
        raise InitplugError(f"{visible(str(target))}: unknown suffix {target.suffix!r} ({hint})")
    check_destination(target)
    return target


def save(
    path: str | PathLike[str], writers: Mapping[str, Callable[..., str]], page: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write what the suffix of a path asks for; `writers` has the text for each suffix.

    Args:
        path: of the file.
        writers: what gives the text, by suffix.
        page: what a page is told beside its rows.

    Raises:
        InitplugError: an unknown suffix, or a path that cannot be written, or another file is told what is a page's;
            an old file is kept.
    """
    target = check_path(path, writers)
    if page and target.suffix != ".html":
        given = ", ".join(page)
        raise InitplugError(f"{visible(str(target))}: {given}: for pages alone, which end in .html")
    # Half a character, which a name may hold, reads back as itself from the escape that JSON has for it.
    content = writers[target.suffix](**page).encode(errors="backslashreplace")
    with replacing(target) as file:
        file.write_bytes(content)
