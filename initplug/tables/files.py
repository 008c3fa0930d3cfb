"""Plain data as JSON, CSV and Markdown files."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

from initplug.errors import InitplugError, did_you_mean
from initplug.tables.text import cell


def to_json(data: Mapping[str, Any]) -> str:
    """JSON text; missing numbers are null, never NaN."""
    return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_csv(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> str:
    r"""CSV text with a heading; missing values are empty, lists are joined by spaces.

    Example:
        >>> to_csv([{"name": "fc.bias", "shape": [10], "std": None}], ["name", "shape", "std"])
        'name,shape,std\r\nfc.bias,10,\r\n'
    """
    stream = StringIO()
    writer = csv.writer(stream)
    writer.writerow(keys)
    for row in rows:
        values = (row[key] for key in keys)
        writer.writerow(" ".join(map(str, value)) if isinstance(value, list) else value for value in values)
    return stream.getvalue()


def to_markdown(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> str:
    r"""A Markdown table of the values that a reader looks for.

    Example:
        >>> print(to_markdown([{"name": "a|b", "std": 0.5}], ["name", "std"]))
        | name | std |
        | --- | --- |
        | a\|b | 0.5 |
        <BLANKLINE>
    """
    chosen = [key for key in keys if key in MARKDOWN_KEYS]
    lines = [chosen, ["---"] * len(chosen)]
    lines += [[cell(row.get(key)).replace("\\", "\\\\").replace("|", "\\|") for key in chosen] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


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
    "problem",
)


FORMATS: Mapping[str, Callable[[Mapping[str, Any], Sequence[str]], str]] = {
    ".json": lambda data, _: to_json(data),
    ".csv": lambda data, keys: to_csv(data["rows"], keys),
    ".md": lambda data, keys: to_markdown(data["rows"], keys),
}


def check_path(path: str | PathLike[str], suffixes: Iterable[str] = FORMATS) -> Path:
    """The path, if its suffix is known and its folder can be written to.

    Raises:
        InitplugError: otherwise.
    """
    target, known = Path(path), list(suffixes)
    if target.suffix not in known:
        hint = did_you_mean(target.suffix, known) or f"known: {', '.join(known)}"
        raise InitplugError(f"{target}: unknown suffix {target.suffix!r} ({hint})")
    if target.is_dir():
        raise InitplugError(f"{target}: cannot be written: Is a directory")
    folder = target.parent
    if not folder.is_dir():
        raise InitplugError(f"{target}: cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise InitplugError(f"{target}: cannot be written: Permission denied")
    return target


def save(path: str | PathLike[str], data: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Write data in the format that the suffix names; `keys` are those of its rows.

    Raises:
        InitplugError: an unknown suffix, or a path that cannot be written; an old file is kept.
    """
    target = check_path(path)
    replace(target, FORMATS[target.suffix](data, keys).encode())


def replace(target: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)  # mkstemp's files are private, a user's are not
            temporary.replace(target)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as error:
        raise InitplugError(f"{target}: cannot be written: {error.strerror or error}") from None
