"""The messages of plans and writes that are refused, after which a model is what it was."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from untouched import untouched

import initplug


def plan_error(model: nn.Module, recipe: Any, **options: Any) -> str:
    """Return the message of a plan that cannot be made."""
    with untouched(model), pytest.raises(initplug.PlanError) as caught:
        initplug.plan(model, recipe, **options)
    assert caught.value.findings
    return str(caught.value)


def apply_error(model: Any, recipe: Any, **options: Any) -> str:
    """Return the message of what cannot be applied."""
    with untouched(model), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, recipe, **options)
    return str(caught.value)
