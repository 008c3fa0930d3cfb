"""Recognition: tables of fixed values that initializers give, too."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from torch import Tensor

from initplug.language.init import Init, read_init
from initplug.planning.composition import NO_CONTEXT, distribution_for
from initplug.schemes.calls import MisfitError
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant
from initplug.schemes.fans import PLAIN_LAYOUT
from initplug.schemes.structures.base import Structured

TABLES: tuple[Any, ...] = (
    "eye",
    "dirac",
    "sincos",
    {"fn": "sincos", "order": "halves"},
    {"fn": "sincos", "order": "interleaved"},
    "sincos skip=1",
    "sincos grid=2",
    "sincos grid=2 skip=1",
    "bilinear",
    "arange",
    "arange start=1",
    "arange start=1 link=log",
    "arange link=log",
)
"""Initializers without draws that tables are compared with; those that do not exist are passed over."""

NEAR = 1e-5
"""The distance of elements, relative to the largest, within which a table is another."""


@lru_cache(maxsize=1)
def known_tables() -> tuple[tuple[Any, Init], ...]:
    """Return initializers without draws, each as a recipe has it and as it is read."""
    return tuple((form, init) for form in TABLES if (init := _read(form)) is not None)


def _read(form: Any) -> Init | None:
    try:
        return read_init(form)
    except (ValidationError, PydanticCustomError):  # not an initializer here
        return None


def recognised(tensor: Tensor) -> tuple[Drawn, Any] | None:
    """Return the distribution that a table of fixed values is, and an initializer that gives it; None for any other.

    Args:
        tensor: of floating point, with values.
    """
    values = tensor.detach()
    low, high = torch.aminmax(values)
    if low == high:
        return Constant(float(low)), float(low)
    shape = tuple(tensor.shape)
    wanted = values.double().cpu().numpy()
    reach = NEAR * float(np.abs(wanted).max())
    for form, init in known_tables():
        try:
            drawn, _ = distribution_for(init, shape, shape, PLAIN_LAYOUT, NO_CONTEXT)
        except MisfitError:
            continue
        if isinstance(drawn, Structured) and not drawn.generated and drawn.holds(shape):
            given: Any = None  # nothing is drawn
            if np.allclose(drawn.compute(shape, given), wanted, rtol=0, atol=reach):
                return drawn, form
    return None
