"""Validation errors in the language's own words, and values as messages show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError


def fault(
    message: str, *, hint: str | None = None, offset: int = 0, leftover: str | None = None
) -> PydanticCustomError:
    """A validation error in our words.

    Args:
        message: what is wrong.
        hint: the way out.
        offset: characters into the offending text.
        leftover: for a key that the initializer does not take, the text that replaces the whole initializer.
    """
    context = {"message": message, "hint": hint, "offset": offset, "leftover": leftover}
    return PydanticCustomError("initplug", "{message}", context)


def shown(value: Any) -> str:
    """A value as the recipe spells it, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]


def kind_of(value: Any) -> str:
    """What sort of thing a value is, in the language's words."""
    if isinstance(value, bool) or value is None:
        return shown(value)
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return {
        str: f"the text {shown(value)}",
        int: f"the number {shown(value)}",
        float: f"the number {shown(value)}",
    }.get(type(value), f"a {type(value).__name__}")
