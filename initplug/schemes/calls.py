"""Calling initializers: what one comes down to for a tensor; what code of others gives is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any, cast

from initplug.errors import brief
from initplug.schemes.compositions import Batched, Drawn, Keep, Planned, Single, Stacked
from initplug.schemes.distributions import Constant, Elementwise
from initplug.schemes.fans import FanError, Fans
from initplug.schemes.registry import Initializer
from initplug.schemes.structures.base import Structured
from initplug.schemes.structures.custom import Custom
from initplug.values import is_whole, plain


def error_text(error: Exception) -> str:
    """Return what an error of arithmetic says, in words where Python has a number for it."""
    return "its numbers are beyond what a double holds" if isinstance(error, OverflowError) else str(error)


class MisfitError(ValueError):
    """An initializer that comes to nothing for a tensor; the text says which and why."""


def distribution_of(
    initializer: Initializer, fans: Fans, shape: Sequence[int], arguments: Mapping[str, Any]
) -> Planned:
    """Return the distribution of a tensor.

    Args:
        initializer: the registered function.
        fans: what it is given; those of another tensor where `of` says so.
        shape: sizes of the tensor.
        arguments: as the recipe gives them, validated.

    Raises:
        MisfitError: whatever the function raises, or a result that the tensor cannot have.
    """
    name = initializer.name
    arguments = {argument: plain(value) for argument, value in arguments.items()}  # a number may carry its text
    if initializer.kind == "whole":
        return Custom(name, initializer.function, tuple(arguments.items()), tuple(shape))
    try:
        made = initializer.function(fans, **arguments)
    except FanError as error:
        raise MisfitError(f"{name}: {error}") from None
    except (ValueError, ArithmeticError) as error:
        raise MisfitError(f"{name} does not fit: {error_text(error)}") from None
    except (Exception, SystemExit) as error:  # the function is code of others
        raise MisfitError(f"{name} failed: {brief(error)}") from None
    if initializer.built_in:
        return cast(Planned, made)
    try:
        return check_result(made, tuple(shape))
    except ValueError as error:
        raise MisfitError(f"{name} gave {error}") from None


def check_result(made: object, shape: tuple[int, ...]) -> Drawn:
    """Return a distribution with plain numbers that a tensor of this shape can have.

    Raises:
        ValueError: saying what it is instead.
    """
    match made:
        case Stacked(parts, dim, sizes):
            if not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
                raise ValueError(f"parts along dimension {dim!r}, which a tensor of shape {shape} does not have")
            parts, sizes = tuple(parts), tuple(sizes)
            elements = f"the {shape[dim]} elements of dimension {dim}"
            unequal = not sizes and len(parts) > 0 and shape[dim] % len(parts) > 0
            if len(parts) < 2 or all(isinstance(part, Keep) for part in parts) or unequal:
                raise ValueError(f"{len(parts)} parts for {elements}")
            if sizes and (len(sizes) != len(parts) or not all(map(_is_size, sizes)) or sum(sizes) != shape[dim]):
                raise ValueError(f"{len(parts)} parts of sizes {', '.join(map(str, sizes))} for {elements}")
            stacked = Stacked(parts, dim, sizes)
            pieces = ((part, stacked.shape_of(place, shape)) for place, part in enumerate(parts))
            checked = (part if isinstance(part, Keep) else _check_one(part, piece) for part, piece in pieces)
            return Stacked(tuple(checked), dim, sizes)
        case _:
            return _check_one(made, shape)


def _check_one(made: object, shape: tuple[int, ...]) -> Single | Batched:
    match made:
        case Constant() | Elementwise():
            given = {one.name: (one.type, getattr(made, one.name)) for one in fields(cast(Any, made))}
            checked = {
                name: _check_number(value, made) if kind == "float" else value for name, (kind, value) in given.items()
            }
            return replace(cast(Any, made), **checked)  # type: ignore[no-any-return]  # of its own class
        case Batched(part, dims):
            if not isinstance(part, Structured) or not isinstance(dims, int) or not 0 < dims < len(shape):
                raise ValueError(f"{made!r}, which a tensor of shape {shape} cannot have")
            return Batched(cast("Structured", _check_one(part, shape[dims:])), dims)
        case Structured():
            if not made.holds(shape):
                raise ValueError(f"{made!r}, which is for a tensor of another shape than {shape}")
            return made
    text = repr(made)
    raise ValueError(f"{text if len(text) <= 60 else text[:59] + '…'}, which is no distribution")


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _check_number(value: object, made: object) -> float:
    if isinstance(value, Integral):  # whole numbers stay exact
        if not is_whole(int(value)):
            raise ValueError(f"a {type(made).__name__} of a number beyond 64 bits")
        return int(value)
    if isinstance(value, Real) and not math.isnan(value):
        return float(value)
    raise ValueError(f"{made!r}, in which {value!r} is no number")
