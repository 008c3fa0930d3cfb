"""Validation errors in the language's own words, and values as messages show them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from initplug.errors import VALUE, visible
from initplug.values import is_whole


def fault(
    message: str,
    *,
    hint: str | None = None,
    offset: int = 0,
    leftover: str | None = None,
    instead: str | None = None,
    unknown: str | None = None,
) -> PydanticCustomError:
    """Return a validation error in our words.

    Args:
        message: what is wrong.
        hint: the way out.
        offset: characters into the offending text.
        leftover: for a key that the initializer does not take, the text that replaces the whole initializer.
        instead: for a value that may stand where a rule stood, the initializer that it would be of that rule.
        unknown: the name of a rule without a selector, which may be that of another one, misspelt.
    """
    context = {"message": message, "hint": hint, "offset": offset, "leftover": leftover}
    context |= {"instead": instead, "unknown": unknown}
    return PydanticCustomError("initplug", "{message}", context)


def shown(value: Any) -> str:
    """Return a value as the recipe spells it, short and on one line.

    Example:
        >>> shown(None), shown("a" * 80)[-4:], shown(10**5000)
        ('null', "aa…'", 'a number of 16,610 bits')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, int) and value.bit_length() > 3 * VALUE:
        return f"a number of {value.bit_length():,} bits"
    try:
        text = visible(repr(value))
    except Exception:  # it holds such a number, or is code of others
        return f"a {type(value).__name__}"
    return text if len(text) <= VALUE else text[: VALUE - 3] + "…" + text[-1]


def kind_of(value: Any) -> str:
    """Return what sort of thing a value is, in the language's words."""
    if isinstance(value, bool) or value is None:
        return shown(value)
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if isinstance(value, int | float):
        text = shown(value)
        return text if text.startswith("a ") else f"the number {text}"
    return f"a {type(value).__name__}"


NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
"""The spelling of a number in a text."""


def mismatch(value: Any, expected: str) -> tuple[str, str | None]:
    """Return what is wrong with a value where a number is expected, or something else, and the way out.

    Example:
        >>> mismatch("1e-4", "a number")
        ("'1e-4' is a text, not a number", 'remove the quotes; PyYAML takes 1e-4 for a text and 1.0e-4 for a number')
        >>> mismatch("a", "a number")
        ("'a' is not a number", None)
    """
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return f"{shown(value)} is a text, not {expected}", _unquoted(value)
    if type(value) is int and not is_whole(value):
        return f"{shown(value)} is beyond 64 bits", "larger numbers have a point or an exponent: 1.5, 1e30"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{shown(value)} is not {expected}", "numbers are finite"
    meant = isinstance(value, str) and re.search(r"sqrt|[0-9)]\s*[*/]|\*\*", value)
    return f"{shown(value)} is not {expected}", "a number may be written 1/32, sqrt(2), -1/sqrt(768)" if meant else None


def _unquoted(text: str) -> str:
    digits, exponent, power = text.lower().partition("e")
    if not exponent or "." in digits or len(text) > 20:
        return "remove the quotes"
    signed = power if power[0] in "+-" else f"+{power}"
    return f"remove the quotes; PyYAML takes {text} for a text and {digits}.0e{signed} for a number"
