"""The messages of recipes that are refused, for tests that need no torch too."""

from __future__ import annotations

from typing import Any

import pytest

import initplug


def recipe_error(source: Any, *overrides: str) -> str:
    """Return the message of a recipe that cannot be loaded."""
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(source, overrides)
    assert caught.value.findings
    return str(caught.value)


def rule_error(init: Any) -> str:
    """Return the message of an initializer that no recipe takes."""
    return recipe_error({"rules": {"w*": init}})
