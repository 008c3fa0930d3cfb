"""Locks: the initialization of a model as a file, which a later recording is held to."""

from __future__ import annotations

import json
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initplug._version import __version__
from initplug.errors import InitplugError
from initplug.studies.diff import Diff, compared, recorded_rows, rows_of
from initplug.studies.record import record
from initplug.studies.recording.recording import Recording
from initplug.tables.files import save, to_json

HELD = ("name", "aliases", "shape", "distribution", "reason", "mean", "std", "rule", "init", "location")
"""The keys of a lock's rows; `location` informs and is not compared."""


def locked(recording: Recording) -> dict[str, Any]:
    """Return a lock as plain data: what every parameter holds, which are tied, and for information from where."""
    rows = [{key: row.get(key) for key in HELD} for row in recorded_rows(recording)]
    made = {"initplug": __version__, "torch": torch.__version__}
    return {"schema": 1, "lock": recording.model, "meta": recording.meta, "made_by": made, "rows": rows}


def save_lock(recording: Recording, path: str | PathLike[str]) -> None:
    """Write a lock, a .json file, whole or not at all.

    Raises:
        InitplugError: another suffix, or a path that cannot be written.
    """
    save(path, {".json": lambda: to_json(locked(recording))})


def beside_lock(path: str | PathLike[str], recording: Recording) -> Diff:
    """Return what a recording does differently from a lock.

    Raises:
        InitplugError: the file cannot be read, or is no lock.
    """
    return compared(fspath(path), "recorded", rows_of(None, path), recorded_rows(recording))


def made_on_meta(path: str | PathLike[str]) -> bool | None:
    """Return whether a lock was recorded on meta, as what is held to it is then; None where it was not."""
    try:
        return json.loads(Path(path).read_bytes())["meta"] is True or None
    except (OSError, ValueError, TypeError, KeyError):  # which is told where its rows are read
        return None


def hold_to_lock(build: Callable[[], nn.Module], path: str | PathLike[str]) -> Diff:
    """Return what a constructor does differently from a lock.

    Raises:
        InitplugError: the file cannot be read, or is no lock; `build` is a module that is there already.
    """
    if isinstance(build, nn.Module):
        raise InitplugError(
            f"what is compared is how a model is built: give its constructor, such as lambda: {type(build).__name__}(…)"
        )
    return beside_lock(path, record(build, meta=made_on_meta(path), check=False))
