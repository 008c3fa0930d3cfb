"""Parts: reads and contents by themselves: arguments, copies, what a tensor has its values of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from initplug.planning.closed_forms import FIXED, WHOLE
from initplug.schemes.distributions import Complex, Normal, Uniform
from initplug.schemes.fans import Fans
from initplug.studies.recording.forms import Computed, Content, Form, Norm, Outcome, shown
from initplug.studies.recording.writes import Call, Read, Region, Value

ALIKE = frozenset({"clone", "_to_copy", "lift_fresh_copy", "detach_copy", "alias_copy", "contiguous", "_reshape_copy"})
"""Operators whose result has the elements of their first argument where they were."""


def whole(value: Value, outcome: Outcome, sources: Mapping[Value, Value | Read]) -> Content:
    """Return a content of one form, whose elements are where they were written."""
    return Content((Form(outcome, sources, value.place, value.call),))


def as_another(content: Content, read: Read, value: Value) -> Content:
    """Return a content that is looked at as another dtype: complex numbers as pairs of real ones, or the reverse."""
    form = content.forms[0]
    if content.ids is None and read.last.whole and not form.sources:
        return content
    match form.outcome:
        case Complex(real, imaginary) if real == imaginary and content.ids is None and read.last.whole:
            return Content((replace(form, outcome=real),))
        case Uniform() as drawn if content.ids is None and read.last.whole and read.dtype.is_complex:
            return Content((replace(form, outcome=Complex(drawn, drawn)),))
        case Normal(0.0, std) if content.ids is None and read.last.whole:
            if value.dtype.is_complex and read.dtype.is_floating_point:
                return Content((replace(form, outcome=Normal(0.0, std / math.sqrt(2))),))
            if value.dtype.is_floating_point and read.dtype.is_complex:
                return Content((replace(form, outcome=Normal(0.0, std * math.sqrt(2))),))
    return Content((replace(form, outcome=Computed("it is looked at as another type")),))


def of_call(call: Call, sizes: tuple[int, ...]) -> Outcome:
    """Return what a function of torch.nn.init of several steps gives."""
    try:
        return {**WHOLE, **FIXED}[call.name](Fans(sizes), call.arguments)
    except (KeyError, TypeError, ValueError) as error:
        return Computed(f"{call.name} ({error})")


def is_smaller(given: Any, sizes: tuple[int, ...]) -> bool:
    """Return whether an argument is a tensor of fewer elements than sizes have."""
    return isinstance(given, Read) and math.prod(given.region.sizes) < math.prod(sizes)


def argument(value: Value, place: int, name: str, default: Any) -> Any:
    """Return what an operator was given by place or by name."""
    given = value.args[place] if len(value.args) > place else value.kwargs.get(name)
    return default if given is None else given


def is_norm(one: Content, other: Content) -> bool:
    """Return whether a content is the norm of another."""
    if one.ids is not None or other.ids is not None or not other.forms[0].sources:
        return False
    return isinstance(one.forms[0].outcome, Norm) and set(one.forms[0].sources) == set(other.forms[0].sources)


def read_apart(parts: Sequence[Read]) -> set[int]:
    """Return the memories of which several parts were looked at, no element by two of them."""
    groups: dict[int, list[Read]] = {}
    for part in parts:
        groups.setdefault(id(part.writes), []).append(part)
    found = set()
    for key, group in groups.items():
        if len(group) < 2 or len({(part.count, part.dtype, part.size) for part in group}) > 1:
            continue
        marks = np.zeros(group[0].size, np.uint8)
        for part in group:
            shown(marks, part.region)[...] += 1
        if marks.max() == 1:
            found.add(key)
    return found


def one_way(content: Content) -> bool:
    """Return whether every draw in a content came to it by one way."""
    ways: dict[Value, Any] = {}
    return all(ways.setdefault(draw, way) is way for form in content.forms for draw, way in form.sources.items())


def origin_of(given: Any) -> Value | None:
    """Return the value that is all of what was looked at; copies are looked through."""
    while isinstance(given, Read):
        last = given.last
        if not last.whole and last.region != given.region:
            return None
        if last.value.op not in ALIKE:
            return last.value
        given = last.value.args[0]
    return None


def written_alike(one: Read, other: Read) -> bool:
    """Return whether two tensors hold the same values, as they were copied from each other or from a third one."""
    return _copied_from(one) == _copied_from(other)


def _copied_from(read: Read) -> tuple[int, int, Region]:
    """Return the writes that a tensor has its values of, by way of copies of all of them."""
    while True:
        last = read.last
        source = last.value.args[1 if last.value.op == "copy" else 0] if last.value.op in (*ALIKE, "copy") else None
        same = isinstance(source, Read) and source.dtype == read.dtype and source.region.sizes == last.value.sizes
        if not isinstance(source, Read) or not same or not last.whole or last.region != read.region:
            return id(read.writes), read.count, read.region
        read = source
