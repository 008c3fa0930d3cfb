"""Recipes of a few rules, and audits in short."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

QUIET = {"unmatched": "keep", "unused": "ignore"}
"""The settings of a recipe that is for some of a model's tensors."""


def rules(**inits: Any) -> dict[str, Any]:
    """Return a recipe with a rule for each of these names of tensors or modules."""
    return {**QUIET, "rules": {name: {"match": f"^{name}", "init": init} for name, init in inits.items()}}


def verdicts(audit: Iterable[Any]) -> dict[str, str]:
    """Return the verdict of each row."""
    return {row.name: row.verdict for row in audit}


def statuses(audit: Iterable[Any]) -> dict[str, str]:
    """Return the status of each row."""
    return {row.name: row.status for row in audit}
