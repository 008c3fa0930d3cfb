"""Recognition: tables of fixed values that initializers give, too."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
    return _in_order(wanted, reach)


def _in_order(values: NDArray[np.float64], reach: float) -> tuple[Drawn, Any] | None:
    """Return numbers in order along a dimension, from one to the next a step that a person writes down."""
    for dim in reversed(range(values.ndim)):
        line = values[tuple(slice(None) if axis == dim else 0 for axis in range(values.ndim))]
        along = line.reshape([-1 if axis == dim else 1 for axis in range(values.ndim)])
        if len(line) < LEAST or np.abs(values - along).max() > reach:
            continue
        start, step = _number(float(line[0])), _number(float(line[-1] - line[0]) / (len(line) - 1))
        if start is None or not step:
            continue
        form = {"fn": "arange", "start": start, "step": step, "dim": dim - values.ndim}
        form = {key: value for key, value in form.items() if (key, value) not in (("start", 0), ("dim", -1))}
        drawn, _ = distribution_for(read_init(form), values.shape, values.shape, PLAIN_LAYOUT, NO_CONTEXT)
        given: Any = None  # nothing is drawn
        if isinstance(drawn, Structured) and np.abs(drawn.compute(values.shape, given) - values).max() <= reach:
            return drawn, form
    return None


LEAST = 4
"""The fewest numbers that are told to be in order."""


def _number(value: float) -> Any:
    """Return a number as a person writes it down, also times pi; None where no person would."""
    for unit in (1.0, math.pi):
        short = float(f"{value / unit:.3g}")
        if abs(value / unit - short) <= NEAR * max(abs(short), 1e-3):
            return int(short) if unit == 1.0 and short == int(short) else short * unit
    return None
