"""Maps: what operators that work element by element make of what they are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from initplug.planning.closed_forms import (
    clamped,
    divided,
    exponential,
    inverse_erf,
    logarithm,
    scaled,
    shifted,
    total,
)
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant
from initplug.studies.recording.conditions import BOTH, COMPARED, NOT, SIZES, Test, compared, joined, negated, size_of
from initplug.studies.recording.forms import Computed, Form, Outcome, Table, Unwritten
from initplug.studies.recording.writes import Value


def _refused(drawn: Drawn) -> Drawn:
    raise ValueError(f"it maps {drawn.text}")


UNARY: Mapping[str, tuple[Callable[[Drawn], Drawn], Callable[[float], float] | None]] = {
    "neg": (lambda drawn: scaled(drawn, -1.0), lambda x: -x),
    "erfinv": (inverse_erf, None),
    "special_erfinv": (inverse_erf, None),
    "exp": (exponential, math.exp),
    "log": (logarithm, math.log),
    "sqrt": (_refused, math.sqrt),
    "reciprocal": (_refused, lambda x: 1 / x),
    "expm1": (_refused, math.expm1),
    "log1p": (_refused, math.log1p),
    "abs": (_refused, abs),
    "bitwise_not": (_refused, lambda x: float(not x)),
    "logical_not": (_refused, lambda x: float(not x)),
}
"""Maps of single elements: what they make of a draw, and of a number."""

BINARY: Mapping[str, tuple[Callable[[Drawn, float], Drawn] | None, Callable[[float, float], float]]] = {
    "mul": (scaled, lambda x, y: x * y),
    "div": (divided, lambda x, y: x / y),
    "add": (shifted, lambda x, y: x + y),
    "sub": (lambda drawn, by: shifted(drawn, -by), lambda x, y: x - y),
    "rsub": (lambda drawn, by: shifted(scaled(drawn, -1.0), by), lambda x, y: y - x),
    "pow": (None, lambda x, y: x**y),
    "clamp_min": (lambda drawn, by: clamped(drawn, least=by), max),
    "clamp_max": (lambda drawn, by: clamped(drawn, most=by), min),
    "maximum": (lambda drawn, by: clamped(drawn, least=by), max),
    "minimum": (lambda drawn, by: clamped(drawn, most=by), min),
    "lt": (None, lambda x, y: float(x < y)),
    "le": (None, lambda x, y: float(x <= y)),
    "gt": (None, lambda x, y: float(x > y)),
    "ge": (None, lambda x, y: float(x >= y)),
    "bitwise_and": (None, lambda x, y: float(bool(x) and bool(y))),
    "logical_and": (None, lambda x, y: float(bool(x) and bool(y))),
    "bitwise_or": (None, lambda x, y: float(bool(x) or bool(y))),
    "logical_or": (None, lambda x, y: float(bool(x) or bool(y))),
}
"""Maps of two elements: what a number makes of a draw, and of a number."""

COMMUTES = frozenset({"mul", "add", "maximum", "minimum"})


def mapped(value: Value, forms: Sequence[Form], bounds: Any) -> Outcome:
    """Return what an operator makes of outcomes.

    Raises:
        ValueError: it has no closed form.
        ArithmeticError: neither has what comes of numbers.
    """
    outcomes = [form.outcome for form in forms]
    if value.op in CONDITIONS and (condition := _condition(value.op, outcomes)) is not None:
        return condition
    for outcome in outcomes:
        if isinstance(outcome, Computed):
            return outcome.plainly
    for outcome in outcomes:
        if isinstance(outcome, Unwritten):
            return outcome
    if value.op == "clamp":
        low, high = bounds
        if isinstance(outcomes[0], Drawn) and low is not None and high is not None:
            return clamped(outcomes[0], low, high)
        raise ValueError("its bounds are tensors")
    if value.op in UNARY:
        drawn, number = UNARY[value.op]
        if isinstance(outcomes[0], Constant):
            return Table() if number is None else Constant(number(outcomes[0].value))
        if isinstance(outcomes[0], Drawn):
            return drawn(outcomes[0])
        return Table()
    return _of_two(value, outcomes, [bool(form.sources) for form in forms], _independent(forms))


CONDITIONS = frozenset({*COMPARED, *BOTH, *NOT, *SIZES})
"""Operators that make conditions of draws, and their like."""


def _condition(op: str, outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the condition that an operator makes of draws; None where it makes none.

    Raises:
        ValueError: it is one that has no closed form.
    """
    one, other = outcomes[0], outcomes[-1]
    if op in SIZES:
        return size_of(one) if isinstance(one, Drawn) and not isinstance(one, Constant) else None
    if op in NOT:
        return negated(one) if isinstance(one, Test) else None
    if op in BOTH:
        return joined(op, one, other) if isinstance(one, Test) and isinstance(other, Test) else None
    return compared(op, one, other.value) if isinstance(other, Constant) and not isinstance(one, Constant) else None


def _of_two(value: Value, outcomes: Sequence[Outcome], drawn: Sequence[bool], independent: bool) -> Outcome:
    one, other = outcomes
    by_number, numbers = BINARY[value.op]
    alpha = float(value.kwargs.get("alpha", 1))
    if isinstance(one, Constant) and isinstance(other, Constant):
        return Constant(float(numbers(one.value, alpha * other.value)))
    if not any(drawn):
        return Table()
    if isinstance(one, Drawn) and isinstance(other, Constant) and by_number is not None:
        return by_number(one, alpha * other.value)
    if isinstance(one, Constant) and isinstance(other, Drawn) and by_number is not None:
        if value.op in COMMUTES:
            return by_number(scaled(other, alpha), one.value)
        if value.op == "sub":
            return shifted(scaled(other, -alpha), one.value)
    if isinstance(one, Drawn) and isinstance(other, Drawn) and all(drawn):
        if value.op in ("add", "sub") and independent:
            return total(one, scaled(other, alpha if value.op == "add" else -alpha))
        raise ValueError("of two draws")
    raise ValueError("with a tensor of values that differ")


def _independent(forms: Sequence[Form]) -> bool:
    return len(forms) < 2 or not set(forms[0].sources) & set(forms[1].sources)
