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

from initplug.errors import did_you_mean
from initplug.language.factor import REFERENCE
from initplug.language.faults import NUMBER, fault, mismatch
from initplug.language.idioms import word_meant
from initplug.language.numbers import formula
from initplug.schemes.fans import FanRule
from initplug.schemes.registry import Parameter, Reference, kinds_of, union_parts, words_of
from initplug.values import is_whole

MODIFIERS: Mapping[str, Any] = {
    "fans": FanRule,
    "split": Annotated[int, annotated_types.Ge(2)],
    "dim": int,
    "batch_dims": Annotated[int, annotated_types.Ge(1)],
    "factor": Any,
}
"""Arguments of every initializer that draws."""


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
