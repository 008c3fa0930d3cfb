"""Expectations: how many slots a rule shall select below each module of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from initplug.errors import did_you_mean
from initplug.language.faults import fault, kind_of, shown
from initplug.language.selectors import Selector, SelectorError, parse

MAX_TIMES = 2**63 - 1
"""The largest number of slots that may be expected."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The number of slots that a rule selects below each module that `per` selects.

    Args:
        per: the selector of the modules.
        times: the number of slots.
    """

    per: str
    times: int

    @property
    def selector(self) -> Selector:
        """The parsed selector of the modules."""
        return parse(self.per)

    def plain(self) -> dict[str, Any]:
        """Return the form that a recipe file holds."""
        return {"per": self.per, "times": self.times}


def read_expectation(value: Any) -> Expectation | None:
    """Return the expectation that a mapping says; None says none.

    Raises:
        ValidationError: with one error per fault.

    Example:
        >>> read_expectation({"per": "<Block>", "times": 2}).times
        2
    """
    if value is None or isinstance(value, Expectation):
        return value
    if not isinstance(value, Mapping):
        raise fault(f"expected a mapping with per and times, got {kind_of(value)}", hint="{per: <Block>, times: 2}")
    problems = [
        _expect_error(
            key, f"expect takes no {key}", value[key], hint=did_you_mean(str(key), KEYS) or "it takes per, times"
        )
        for key in value
        if key not in KEYS
    ]
    if not problems:
        problems = [_expect_error(None, f"expect needs {key}", value) for key in KEYS if key not in value]
    if "times" in value and not _is_count(value["times"]):
        problems.append(_expect_error("times", f"{shown(value['times'])} is not a number of slots", value["times"]))
    if "per" in value:
        problems += _faults_of(value["per"])
    if problems:
        raise ValidationError.from_exception_data("Expectation", problems)
    return Expectation(value["per"], value["times"])


KEYS = ("per", "times")


def _expect_error(key: str | None, message: str, value: Any, **more: Any) -> InitErrorDetails:
    return InitErrorDetails(type=fault(message, **more), loc=() if key is None else (key,), input=value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TIMES


def _faults_of(per: Any) -> list[InitErrorDetails]:
    if not isinstance(per, str):
        return [_expect_error("per", f"expected a selector, got {kind_of(per)}", per, hint="quote the selector")]
    try:
        parse(per)
    except SelectorError as cause:
        return [_expect_error("per", f"bad selector {shown(per)}: {cause}", per, offset=cause.offset)]
    return []
