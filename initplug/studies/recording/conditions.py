"""Conditions: comparisons of draws with numbers, and what is left of a draw whose elements they replace or select."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.studies.recording.forms import Computed, Form, Outcome


@dataclass(frozen=True, slots=True)
class Test(Computed):
    """A bound on the elements of a draw, or on their sizes: whether they lie in an interval.

    Args:
        reason: what it is where its values are asked for.
        of: the distribution of the draw.
        low: where the interval begins.
        high: where it ends.
        outside: whether it is true outside instead.
        size: whether sizes are compared.
    """

    of: Drawn
    low: float
    high: float
    outside: bool = False
    size: bool = False


@dataclass(frozen=True, slots=True)
class Size(Computed):
    """The size of the elements of a draw.

    Args:
        reason: what it is where its values are asked for.
        of: the distribution of the draw.
    """

    of: Drawn


COMPARED: Mapping[str, Callable[[float], tuple[float, float]]] = {
    "lt": lambda number: (-math.inf, number),
    "le": lambda number: (-math.inf, number),
    "gt": lambda number: (number, math.inf),
    "ge": lambda number: (number, math.inf),
}
"""Operators that compare, and the interval in which that is true."""

BOTH = {"bitwise_and": False, "logical_and": False, "bitwise_or": True, "logical_or": True}
"""Operators that join two conditions, and whether one of them is enough."""

NOT = frozenset({"bitwise_not", "logical_not"})
SIZES = frozenset({"abs", "absolute"})


def size_of(drawn: Drawn) -> Size:
    """Return what the sizes of the elements of a draw are."""
    return Size("sizes of draws", drawn)


def compared(op: str, outcome: Outcome, number: float) -> Test:
    """Return the condition that a comparison of a draw with a number is.

    Raises:
        ValueError: it is none of a draw.
    """
    low, high = COMPARED[op](number)
    if isinstance(outcome, Size):
        return Test("a comparison of draws", outcome.of, low, high, size=True)
    if isinstance(outcome, Drawn) and not isinstance(outcome, Constant):
        return Test("a comparison of draws", outcome, low, high)
    raise ValueError("what it compares is no draw")


def negated(one: Test) -> Test:
    """Return the condition that is true where another is not."""
    return replace(one, outside=not one.outside)


def joined(op: str, one: Test, other: Test) -> Test:
    """Return the condition that two of one draw are together.

    Raises:
        ValueError: it is no interval, or they are of two draws.
    """
    either = BOTH[op]
    (low, high), (least, most) = (_interval(test, outside=either) for test in (one, other))
    if (one.of, one.size) != (other.of, other.size):
        raise ValueError("of two draws")
    return replace(one, low=max(low, least), high=min(high, most), outside=either)


def _interval(test: Test, outside: bool) -> tuple[float, float]:
    """Return the interval in, or out of, which a condition is true."""
    if test.outside is outside:
        return test.low, test.high
    if math.isinf(test.low):
        return test.high, math.inf
    if math.isinf(test.high):
        return -math.inf, test.low
    raise ValueError("it is true in two intervals")


def kept(form: Form, test: Form, *, where: bool) -> Drawn:
    """Return the distribution of the elements of a draw for which a condition on it is true, or is not.

    Raises:
        ValueError: that has no closed form, or the condition is on another draw.
    """
    condition, drawn = test.outcome, form.outcome
    if not isinstance(condition, Test) or condition.of != drawn or set(test.sources) != set(form.sources):
        raise ValueError("by a comparison of other draws")
    low, high = _interval(condition, outside=not where)
    if condition.size:
        if low >= 0 or high <= 0:
            raise ValueError("by sizes that are not near 0")
        low = -high
    match drawn:
        case Normal(mean, std):
            return TruncatedNormal(mean, std, low, high)
        case TruncatedNormal(loc, scale, least, most):
            return TruncatedNormal(loc, scale, max(low, least), min(high, most))
        case Uniform(least, most):
            return Uniform(max(low, least), min(high, most))
    raise ValueError("by a comparison")


def redrawn(new: Outcome, left: Drawn) -> Drawn:
    """Return the distribution of what is left of a draw, with new elements in place of others, once none are outside.

    Raises:
        ValueError: the new ones are drawn from something else.
    """
    match left, new:
        case TruncatedNormal(loc, scale), Normal(mean, std) if (loc, scale) == (mean, std):
            return left
        case TruncatedNormal(), TruncatedNormal() if left == new:
            return left
        case Uniform(low, high), Uniform(least, most) if least <= low and high <= most:
            return left
    raise ValueError("by a comparison of draws, with draws of another kind")


def firsts(form: Form, test: Form, count: int) -> Drawn:
    """Return the distribution of the first of some draws for which a condition is true, as long as it is of one.

    Raises:
        ValueError: that has no closed form, or it may be of none.
    """
    found = kept(form, test, where=True)
    match form.outcome:
        case Normal(mean, std):
            law = statistics.NormalDist(mean, std)
            inside = law.cdf(found.law.high) - law.cdf(found.law.low)
            if (1 - inside) ** count < RARE:
                return found
    raise ValueError("of draws none of which may do")


RARE = 1e-4
"""The probability that is neglected of one element: with four tries to be within two deviations, it is 4e-6."""
