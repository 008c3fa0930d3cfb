"""Arguments of initializers: what their annotations accept, how a text spells them, and what is said of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from initplug.errors import VALUE, cut, did_you_mean
from initplug.language.factor import REFERENCE
from initplug.language.faults import NUMBER, fault, mismatch, shown
from initplug.language.idioms import word_meant
from initplug.language.numbers import formula
from initplug.schemes.fans import Axes, FanRule
from initplug.schemes.registry import Parameter, Reference, kinds_of, union_parts, words_of
from initplug.values import is_whole

Size = Annotated[int, annotated_types.Ge(1)]

MODIFIERS: Mapping[str, Any] = {
    "fans": FanRule,
    "split": Annotated[int, annotated_types.Ge(2)],
    "sizes": list[Size],
    "dim": int,
    "batch_dims": Annotated[int, annotated_types.Ge(1)],
    "factor": Any,
}
"""Arguments of every initializer that draws."""


def modifier(name: str, value: Any) -> Any:
    """Return the value of a modifier as it is kept.

    Raises:
        ValidationError: it takes no such value.

    Example:
        >>> modifier("sizes", [4, 1, 1]), modifier("fans", {"in": 1, "out": [0, 2]})
        ((4, 1, 1), Axes(inputs=(1,), outputs=(0, 2)))
    """
    if name == "fans" and isinstance(value, Mapping):
        return _axes(value)
    value = list(value) if name == "sizes" and isinstance(value, tuple) else value
    if not is_accepted(MODIFIERS[name], value):
        if name == "sizes":
            hint = "one for each part: sizes: [4, 1, 1]"
            wrong = fault(f"{shown(value)} is no list of whole numbers above 0", hint=hint)
        else:
            raise ValidationError.from_exception_data("Init", [argument_error(name, value, MODIFIERS[name])])
        raise ValidationError.from_exception_data("Init", [InitErrorDetails(type=wrong, loc=(name,), input=value)])
    return tuple(value) if name == "sizes" else value


def _axes(value: Mapping[str, Any]) -> Axes:
    """Return the axes that a mapping gives inputs and outputs."""
    problems: list[InitErrorDetails] = []
    sides: dict[str, tuple[int, ...]] = {}
    for side in SIDES:
        given = value.get(side)
        axes = [given] if is_accepted(int, given) else given
        if isinstance(axes, list | tuple) and axes and all(is_accepted(int, axis) for axis in axes):
            sides[side] = tuple(axes)
        else:
            told = f"fans needs {side}" if given is None else f"{shown(given)} is no dimension, nor a list of them"
            error = fault(told, hint="such as fans: {in: 0, out: 1}")
            loc = ("fans",) if given is None else ("fans", side)
            problems.append(InitErrorDetails(type=error, loc=loc, input=given))
    for key in value:
        if key not in SIDES:
            error = fault(f"fans takes no {cut(str(key), VALUE)}", hint="it takes in and out: {in: 0, out: 1}")
            problems.append(InitErrorDetails(type=error, loc=("fans", key), input=value[key]))
    if problems:
        raise ValidationError.from_exception_data("Init", problems)
    return Axes(sides["in"], sides["out"])


SIDES = ("in", "out")
"""The keys of axes."""


def number(text: str) -> int | float | str:
    """Return the number that a text spells, else the text."""
    if not NUMBER.fullmatch(text):
        return formula(text)  # type: ignore[no-any-return]  # a number, or the text
    # Python reads no int of thousands of digits; as a float it is infinite, which no argument takes.
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,400}", text) else float(text)


def value_spelled(annotation: Any, given: str) -> Any:
    """Return the value that a text spells for an argument: free text stays as it is."""
    kinds = set(kinds_of(annotation))
    if bool in kinds and given in ("true", "false"):
        return given == "true"
    if given == "null" and NoneType in get_args(annotation):
        return None
    return number(given) if kinds & {int, float} or str not in kinds else given


def number_if_meant(parameter: Parameter | None, value: Any) -> Any:
    """Return the number that a text writes where one is expected, and no text of the user's own."""
    parts = () if parameter is None else tuple(union_parts(parameter.annotation))
    return formula(value) if str not in parts and float in {*map(_base, parts)} else value


def _base(part: Any) -> Any:
    return get_args(part)[0] if get_origin(part) is Annotated else part


def argument_error(name: str, value: Any, annotation: Any, elsewhere: str | None = None) -> InitErrorDetails:
    """Return the error of a value that does not fit the annotation of an argument, and may belong elsewhere."""
    message, hint = mismatch(value, described(annotation))
    if hint is None and isinstance(value, str):
        meant = word_meant(value, words_of(annotation))
        hint = f"write {meant}" if meant else elsewhere or did_you_mean(value, words_of(annotation))
    error = fault(message, hint=hint)
    return InitErrorDetails(type=error, loc=(name,), input=value)


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def is_accepted(annotation: Any, value: Any) -> bool:
    """Return whether a value is one that an annotation accepts, as it stands."""
    if value is None and NoneType in get_args(annotation):
        return True
    if _is_reference(annotation):
        return isinstance(value, str) and REFERENCE.fullmatch(value) is not None
    if type(value) is int and not is_whole(value):
        return False
    try:
        _adapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _is_reference(annotation: Any) -> bool:
    return annotation is Reference or Reference in get_args(annotation)


def described(annotation: Any) -> str:
    """Return what an annotation accepts, in words.

    Example:
        >>> described(float | Literal["relu", "tanh"])
        'a number or one of relu, tanh'
    """
    parts = list(union_parts(annotation))
    if int in parts and float in parts:
        parts.remove(int)
    return " or ".join(_described(part) for part in parts)


def _described(part: Any) -> str:
    if _is_reference(part):
        return "a reference (weight, ..q.weight, ^shared.weight)"
    if get_origin(part) is Literal:
        words = [str(word) for word in get_args(part)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if get_origin(part) is Annotated:
        base, *limits = get_args(part)
        bounds = []
        for limit in limits:
            match limit:
                case annotated_types.Gt(gt=bound):
                    bounds.append(f"above {bound}")
                case annotated_types.Ge(ge=bound):
                    bounds.append(f"of at least {bound}")
                case annotated_types.Lt(lt=bound):
                    bounds.append(f"below {bound}")
                case annotated_types.Le(le=bound):
                    bounds.append(f"of at most {bound}")
        return " ".join([_described(base), " and ".join(bounds)])
    return {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}.get(part, str(part))
