"""Inputs of a forward, as they are told and before it is called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initplug.errors import ProbeError, cut, did_you_mean, near
from initplug.studies.inputs import arguments_of


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments that a forward is called with.

    Args:
        positional: arguments.
        named: keyword arguments.
    """

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The shapes and dtypes, as they are told."""
        parts = [_described(value) for value in self.positional]
        return ", ".join([*parts, *(f"{name}={_described(value)}" for name, value in self.named.items())])


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        sizes = "×".join(map(str, value.shape)) or "scalar"
        return f"{sizes} {_name(value.dtype)}"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return f"[{', '.join(map(_described, value[:3]))}{', …' if len(value) > 3 else ''}]"
    return type(value).__name__ if not isinstance(value, int | float | bool | str | None) else cut(repr(value), 40)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def inputs_of(given: Any) -> Inputs:
    """Return inputs as they were given: a mapping is keyword ones, a tuple positional ones, anything else is one.

    Raises:
        InitplugError: a mapping whose keys are no names, or inputs without values, or that are not finite.

    Example:
        >>> inputs_of((torch.zeros(2, 3), torch.ones(2, dtype=torch.int64))).text
        '2×3 float32, 2 int64'
    """
    if isinstance(given, Inputs):
        return given
    found = Inputs(*arguments_of(given))
    _check_values(found)
    return found


def _check_values(inputs: Inputs) -> None:
    """Refuse inputs that are no numbers for a forward.

    Raises:
        ProbeError: some are on meta, or hold NaN or infinities.
    """
    named = chain(((f"input {place}", one) for place, one in enumerate(inputs.positional, 1)), inputs.named.items())
    for name, value in named:
        if isinstance(value, np.ndarray):
            raise ProbeError(f"{name} is a NumPy array: torch.from_numpy makes a tensor of it")
        if not isinstance(value, Tensor):
            continue
        if value.is_meta:
            raise ProbeError(f"{name} is on meta and has no values")
        if value.is_floating_point() and value.layout == torch.strided and not bool(torch.isfinite(value).all()):
            kind = "NaN" if bool(torch.isnan(value).any()) else "infinities"
            raise ProbeError(f"{name} holds {kind} itself: nothing can be said of the layers")


def check_names(model: nn.Module, inputs: Inputs) -> None:
    """Refuse keyword inputs that a forward does not take, and too many positional ones, before it is called.

    Raises:
        ProbeError: with the nearest name.
    """
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return
    kinds = {parameter.kind for parameter in parameters.values()}
    known = [name for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in inputs.named:
            if name not in known:
                hint = did_you_mean(name, known) or f"it takes {', '.join(known) or 'nothing'}"
                raise ProbeError(f"forward of {type(model).__name__} takes no {name!r} ({hint})")
    else:  # it takes any, and drops what it does not know
        for name in inputs.named:
            close = None if name in known else near(name, known, 0.8)
            if close is not None:
                raise ProbeError(f"forward of {type(model).__name__} names no {name!r} (did you mean {close}?)")
    if inspect.Parameter.VAR_POSITIONAL not in kinds and len(inputs.positional) > len(known):
        counted = f"{len(known)} input{'' if len(known) == 1 else 's'}"
        raise ProbeError(f"forward of {type(model).__name__} takes {counted}, not {len(inputs.positional)}")
