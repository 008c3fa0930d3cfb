"""For tests: hold a model's initialization to a lock."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def assert_initialization(build: Callable[[], nn.Module], lock: str | PathLike[str]) -> None:
    """Assert that a constructor initialises a model as its lock says: distributions and ties of all parameters.

    `initplug record MODEL --lock FILE` writes the lock.

    Args:
        build: returns the model: a class, a function, a lambda.
        lock: path of the file.

    Raises:
        AssertionError: with the parameters that differ, both distributions, and the line of code that wrote each.
        InitplugError: the lock cannot be read, or `build` builds nothing.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torch import nn
        >>> from initplug import record
        >>> from initplug.studies.lock import save_lock
        >>> path = Path(tempfile.mkdtemp()) / "init.lock.json"
        >>> save_lock(record(lambda: nn.Linear(2, 2)), path)
        >>> assert_initialization(lambda: nn.Linear(2, 2), path)
    """
    from initplug.studies.lock import hold_to_lock

    differing = hold_to_lock(build, lock)
    if differing:
        raise AssertionError(differing.to_text(width=160, every=True))
