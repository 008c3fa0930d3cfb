"""Factors: what multiplies the result of an initializer, a number or a power of what the model counts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from initplug.errors import VALUE, cut, did_you_mean
from initplug.language.faults import fault, kind_of, mismatch, shown
from initplug.language.numbers import formula
from initplug.language.selectors import Selector, SelectorError, parse
from initplug.values import is_whole

FactorKind = Literal["count", "place", "attr"]

REFERENCE = re.compile(r"(?:\^|\.*)(?!_)[^\s.^]+(?:\.(?!_)[^\s.^]+)*")
"""A reference: `^` for the root or dots to climb, then names without leading underscores."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A number, or `(times·n)^power` where n is counted in the model.

    Args:
        number: the number itself, for a factor that is one.
        counted: what n is: the modules that a selector selects, the place of the one around the slot, or an attribute.
        of: the selector or the reference.
        times: multiplies n.
        power: of the product.
    """

    number: float = 1.0
    counted: FactorKind | None = None
    of: str = ""
    times: float = 1.0
    power: float = -0.5

    @property
    def selector(self) -> Selector | None:
        """The parsed selector of a `count` or `place`."""
        return parse(self.of) if self.counted in ("count", "place") else None

    @property
    def text(self) -> str:
        """One line that a person reads.

        Example:
            >>> read_factors({"count": "<Block>", "times": 2})[0].text
            '(2·count <Block>)^-0.5'
        """
        if self.counted is None:
            return str(self.number)
        times = "" if self.times == 1 else f"{self.times}·"
        return f"({times}{self.counted} {self.of})^{self.power}"

    def plain(self) -> float | dict[str, Any]:
        """Return the form that a recipe file holds."""
        if self.counted is None:
            return self.number
        data: dict[str, Any] = {self.counted: self.of}
        if self.times != 1:
            data["times"] = self.times
        if self.power != -0.5:
            data["power"] = self.power
        return data


def read_factors(value: Any) -> tuple[Factor, ...]:
    """Return the factors that a number, a mapping or a list of them says.

    Raises:
        ValidationError: with one error per fault.

    Example:
        >>> read_factors([0.5, {"place": "^layers.*", "times": 2}])[1].counted
        'place'
    """
    problems: list[InitErrorDetails] = []
    factors: list[Factor] = []
    parts = list(enumerate(value)) if isinstance(value, list | tuple) else [(None, value)]
    if not parts:
        problems.append(_factor_error((), "a list of factors cannot be empty", value))
    if len(parts) > MAX_FACTORS:
        problems.append(_factor_error((), f"a list of factors has at most {MAX_FACTORS}, not {len(parts)}", value))
    for index, part in parts[:MAX_FACTORS]:
        location: tuple[str | int, ...] = () if index is None else (index,)
        part = formula(part)
        if isinstance(part, Mapping):
            factors.append(_read_counted(part, location, problems))
        elif _is_finite_number(part):
            factors.append(Factor(number=part))
        else:
            message, way_out = mismatch(part, "a number")
            if way_out is None:
                message = f"a factor is a number or a mapping with count, place or attr, not {kind_of(part)}"
            problems.append(_factor_error(location, message, part, hint=way_out))
    if problems:
        raise ValidationError.from_exception_data("Factor", problems)
    return tuple(factors)


MAX_FACTORS = 32
"""The most factors that are multiplied: each may count in the whole model."""


def _factor_error(location: tuple[str | int, ...], message: str, value: Any, **more: Any) -> InitErrorDetails:
    return InitErrorDetails(type=fault(message, **more), loc=location, input=value)


def _read_counted(part: Mapping[str, Any], location: tuple[str | int, ...], problems: list[InitErrorDetails]) -> Factor:
    known = (*get_args(FactorKind), "times", "power")
    for key in (key for key in part if key not in known):
        hint = did_you_mean(str(key), known) or f"it takes {', '.join(known)}"
        problems += [_factor_error((*location, key), f"a factor takes no {cut(key, VALUE)}", part[key], hint=hint)]
    kinds = [kind for kind in get_args(FactorKind) if kind in part]
    if len(kinds) != 1:
        problems.append(_factor_error(location, f"a factor has one of {', '.join(get_args(FactorKind))}", part))
        return Factor()
    given = {key: formula(part[key]) for key in ("times", "power") if key in part}
    for key, value in given.items():
        if not _is_finite_number(value):
            message, way_out = mismatch(value, "a number")
            problems.append(_factor_error((*location, key), message, value, hint=way_out))
    of = part[kinds[0]]
    fault_of = _fault_of(kinds[0], of)
    if fault_of is not None:
        problems.append(_factor_error((*location, kinds[0]), fault_of[0], of, offset=fault_of[1]))
    if problems:
        return Factor()
    return Factor(1.0, kinds[0], of, **given)


def _is_finite_number(value: Any) -> bool:
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _fault_of(kind: FactorKind, of: Any) -> tuple[str, int] | None:
    """Return what is wrong with the selector or reference of a factor, and where in it."""
    if not isinstance(of, str):
        return f"expected a {'reference' if kind == 'attr' else 'selector'}, got {kind_of(of)}", 0
    if kind == "attr":
        bad = REFERENCE.fullmatch(of) is None
        return (f"{shown(of)} is not a reference (width, ..width, ^config.width)", 0) if bad else None
    try:
        parse(of)
    except SelectorError as error:
        return f"bad selector {shown(of)}: {error}", error.offset
    return None
