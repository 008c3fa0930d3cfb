"""Origins: what was noted of a memory -> what its elements are drawn from, as far as that has a closed form.

The content of a tensor is a map of its elements to few `Form`s: each a distribution, a table that depends on no draw,
memory that nobody wrote, or what is computed in a way without a closed form, with the operator as the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils._pytree import tree_leaves

from initplug.planning.closed_forms import inverse_softplus
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Complex, Constant, Normal, Uniform
from initplug.studies.recording.conditions import Test, firsts, kept, redrawn
from initplug.studies.recording.forms import (
    Computed,
    Content,
    Form,
    Given,
    Norm,
    Outcome,
    Table,
    Unwritten,
    because,
    coarse,
    compacted,
    distinct,
    moved,
    once,
    repeated,
    shown,
)
from initplug.studies.recording.maps import BINARY, UNARY, mapped
from initplug.studies.recording.parts import (
    ALIKE,
    argument,
    as_another,
    is_norm,
    is_smaller,
    of_call,
    one_way,
    origin_of,
    read_apart,
    whole,
)
from initplug.studies.recording.placements import PLACEMENTS, placed
from initplug.studies.recording.writes import Read, Value, reads_in

ZEROS, ONES = ("zero", "zeros", "zeros_like", "new_zeros", "_efficientzerotensor"), ("ones", "ones_like", "new_ones")
FILLED = {"fill": 1, "full": 1, "full_like": 1, "new_full": 2, "scalar_tensor": 0}
"""Operators that fill a tensor with a number, and which argument that is."""

STANDARD = frozenset({"randn", "randn_like", "rand", "rand_like"})
"""Draws without further numbers."""

NORMS = frozenset({"norm", "linalg_vector_norm"})
NORMED = frozenset({"_weight_norm", "_weight_norm_interface[0]"})
"""Operators that give a tensor other norms."""

EMPTY = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted"})


class Origins:
    """The contents of what was watched, each value's found once."""

    def __init__(self) -> None:
        self._known: dict[Value, Content] = {}

    def of(self, read: Read) -> Content:
        """Return the content of a tensor that was looked at."""
        last = read.last
        if last.value.dtype != read.dtype and last.value.op != "given":
            return as_another(self.value(last.value), read, last.value)
        if last.whole or last.region == read.region:
            found = self.value(last.value)
            if found.ids is None or last.region == read.region:
                return once(found, read.region)
        return once(self._laid(read), read.region)

    def _laid(self, read: Read) -> Content:
        """Return a content by laying all writes over each other."""
        writes = read.writes[: read.count]
        if any(write.region.itemsize != read.region.itemsize for write in writes):
            return Content((Form(Computed("it is looked at as another type"), {}, read.last.value.place),))
        contents = [self.value(write.value) for write in writes]
        forms = tuple(form for content in contents for form in content.forms)
        unit, regions = 1, [*(write.region for write in writes), read.region]
        if all(content.ids is None for content in contents):  # of large tensors blocks are looked at, such as rows
            unit, regions = coarse(regions, read.size)
        # Few forms are the rule, and tensors may be large.
        owners = np.zeros(read.size // unit, np.uint8 if len(forms) < 256 else np.int32)
        start = 0
        for write, region, content in zip(writes, regions, contents, strict=False):
            part = shown(owners, region)
            if write.whole and content.ids is None:
                owners[...] = start
            elif part.size:
                part[...] = start if content.ids is None else content.ids.reshape(part.shape) + start
            start += len(content.forms)
        ids = shown(owners, regions[-1])
        axis = next((axis for axis, n in enumerate(ids.shape) if n != read.region.sizes[axis]), None)
        if axis is not None:
            repeats = read.region.sizes[axis] // ids.shape[axis]
            ids = np.repeat(ids, repeats, axis) if ids.shape[axis] > 1 else np.broadcast_to(ids, read.region.sizes)
        return compacted(forms, ids)

    def value(self, value: Value) -> Content:
        """Return the content of the result of an operator."""
        found = self._known.get(value)
        if found is None:
            try:
                found = self._result(value)
            except RecursionError:
                found = whole(value, Computed("a chain of too many steps"), {})
            self._known[value] = found
        return found

    def _result(self, value: Value) -> Content:
        op, args = value.op, value.args
        if value.call is not None and value.call.name == op:
            return whole(value, of_call(value.call, value.sizes), {value: value} if value.draws else {})
        if op in EMPTY or op == "given":
            return whole(value, Given() if op == "given" else Unwritten(), {})
        if op in ZEROS or op in ONES:
            return whole(value, Constant(0.0 if op in ZEROS else 1.0), {})
        if op in FILLED:
            given = (
                args[FILLED[op]]
                if len(args) > FILLED[op]
                else value.kwargs.get("fill_value", value.kwargs.get("value"))
            )
            number = self._number(given)
            return self._unknown(value) if number is None else whole(value, Constant(number), {})
        if value.draws:
            return self._drawn(value)
        if op in ALIKE or op == "copy":
            return self._copied(value, args[1 if op == "copy" else 0])
        if op in UNARY or op in BINARY or op == "clamp":
            return self._mapped(value)
        if op in ("cat", "stack"):
            return self._joined(value)
        if op in NORMED:
            return self._normed(value)
        if op == "constant_pad_nd":
            return self._padded(value)
        if op in PLACEMENTS:
            return self._placed(value)
        return self._unknown(value)

    def _number(self, given: Any) -> float | None:
        """Return an argument as a number; None where it is none, or depends on a draw."""
        if isinstance(given, bool | int | float):
            return float(given)
        if not isinstance(given, Read):
            return None
        content = self.of(given)
        if any(form.sources for form in content.forms):
            return None
        if content.ids is None and isinstance(content.forms[0].outcome, Constant):
            return content.forms[0].outcome.value
        return given.number

    def _drawn(self, value: Value) -> Content:
        """Return what an operator draws."""
        if value.op in STANDARD:
            first, second = 0.0, 1.0
        elif value.op in ("normal", "normal_functional", "uniform"):
            low, high = ("mean", "std") if value.op != "uniform" else ("from", "to")
            at = 1 if value.in_place or value.op != "normal" else 0
            ends = [self._number(argument(value, at + n, key, float(n))) for n, key in enumerate((low, high))]
            if ends[0] is None or ends[1] is None:
                return whole(value, Computed(f"{value.op} of tensors"), {value: value})
            first, second = ends[0], ends[1]
        else:
            return whole(value, Computed(f"draws by {value.op}"), {value: value})
        if value.op in ("rand", "rand_like", "uniform"):
            outcome: Drawn = Uniform(first, second) if first < second else Constant(first)
            if value.dtype.is_complex and isinstance(outcome, Uniform):
                outcome = Complex(outcome, outcome)
        else:
            outcome = Normal(first, second) if second else Constant(first)
        return whole(value, outcome, {value: value} if not isinstance(outcome, Constant) else {})

    def _copied(self, value: Value, source: Any) -> Content:
        """Return the content of a copy, which may be cast and, into something larger, repeated."""
        if not isinstance(source, Read):
            number = self._number(source)
            return self._unknown(value) if number is None else whole(value, Constant(number), {})
        content = self.of(source)
        forms = [moved(form, value) for form in content.forms]
        if is_smaller(source, value.sizes):
            forms = [repeated(form) for form in forms]
        if not (value.dtype.is_floating_point or value.dtype.is_complex):
            forms = [because(form, "a draw is cast to whole numbers") for form in forms]
        ids = content.ids
        if ids is not None:
            ids = np.broadcast_to(ids, value.sizes)
        return Content(tuple(forms), ids)

    def _joined(self, value: Value) -> Content:
        """Return the content of tensors that are laid side by side."""
        parts = [part for part in value.args[0] if isinstance(part, Read) and all(part.region.sizes)]
        dim = argument(value, 1, "dim", 0)
        contents = [self.of(part) for part in parts]
        forms: list[Form] = []
        arrays = []
        apart = read_apart(parts)
        for part, content in zip(parts, contents, strict=True):
            ids = np.zeros(part.region.sizes, np.int32) if content.ids is None else content.ids.astype(np.int32)
            arrays.append(ids + len(forms))
            way = None if id(part.writes) in apart and one_way(content) else part
            forms.extend(moved(form, value, way) for form in content.forms)
        if not arrays or isinstance(dim, str):
            return self._unknown(value)
        joined = np.stack(arrays, dim) if value.op == "stack" else np.concatenate(arrays, dim)
        return compacted(tuple(forms), joined)

    def _padded(self, value: Value) -> Content:
        """Return the content of a tensor that others of one number are laid around."""
        source, number = value.args[0], self._number(argument(value, 2, "value", 0.0))
        if not any(value.args[1]):
            return self._copied(value, source)
        content = self.of(source)
        if content.ids is None and number is not None and content.forms[0].outcome == Constant(number):
            return whole(value, Constant(number), {})
        return self._placed(value)

    def _mapped(self, value: Value) -> Content:
        """Return what an operator makes of its arguments, element by element."""
        if value.op == "add" and (linked := self._inverse_softplus(value)) is not None:
            return linked
        given = list(value.args[:2])
        if value.op == "clamp":
            ends = ((1, "min", -math.inf), (2, "max", math.inf))
            bounds = [self._number(argument(value, *end)) for end in ends]
            given = given[:1]
        else:
            bounds = None
        contents = [self._operand(one) for one in given]
        if any(content is None for content in contents):
            return self._unknown(value)
        known = [content for content in contents if content is not None]
        if all(content.ids is None for content in known):
            return Content((self._one(value, [content.forms[0] for content in known], bounds),))
        arrays = [
            np.zeros((), np.int32) if content.ids is None else distinct(content.ids).astype(np.int32)
            for content in known
        ]
        width = max(len(content.forms) for content in known)
        coded = np.asarray(sum(array * width**n for n, array in enumerate(arrays)))
        codes, ids = np.unique(coded, return_inverse=True)
        forms = [
            self._one(value, [content.forms[code // width**n % width] for n, content in enumerate(known)], bounds)
            for code in codes.tolist()
        ]
        return compacted(tuple(forms), np.broadcast_to(ids.reshape(coded.shape).astype(np.int32), value.sizes))

    def _operand(self, given: Any) -> Content | None:
        """Return the content of an argument; None where it is neither a tensor nor a number."""
        number = self._number(given)
        if number is not None:
            return Content((Form(Constant(number), {}),))
        return self.of(given) if isinstance(given, Read) else None

    def _one(self, value: Value, forms: Sequence[Form], bounds: Any) -> Form:
        """Return what an operator makes of elements that are of one form each."""
        sources: dict[Value, Value | Read] = {draw: value for form in forms for draw in form.sources}
        if value.in_place:  # what was in place stays where it was
            sources.update(forms[0].sources)
        repeats = any(
            is_smaller(one, value.sizes) and form.sources for one, form in zip(value.args, forms, strict=False)
        )
        try:
            outcome = mapped(value, forms, bounds)
        except (ValueError, ArithmeticError) as error:
            outcome = Computed(f"{value.op} ({error})") if sources else Table()
        if repeats and not isinstance(outcome, Computed):
            outcome = Computed(f"{value.op} repeats a draw")
        return Form(outcome, sources, value.place, value.call)

    def _normed(self, value: Value) -> Content:
        """Return the content of a tensor that is given a norm, where that is the one that it has."""
        if all(isinstance(one, Read) for one in value.args[:2]):
            content, norm = (self.of(one) for one in value.args[:2])
            if is_norm(norm, content):
                return Content(tuple(moved(form, value) for form in content.forms), content.ids)
        return self._unknown(value)

    def _placed(self, value: Value) -> Content:
        """Return the content of what is selected of tensors, or written to some of their elements."""
        _, at = PLACEMENTS[value.op]
        operands = {place: self._operand(value.args[place]) for place in at if place < len(value.args)}
        known = {place: content for place, content in operands.items() if content is not None}
        beside = [one for place, one in enumerate(value.args) if place not in at]
        masks = [self.of(read) for read in tree_leaves(beside) if isinstance(read, Read)]
        try:
            if len(known) < len(operands):
                raise ValueError("of tensors that are not known")
            if any(form.sources for mask in masks for form in mask.forms):
                return self._selected(value, known, masks)
            return placed(value, known, Form(Constant(0.0), {}, value.place))
        except ValueError as error:
            found = self._unknown(value)
            drawn = isinstance(found.forms[0].outcome, Computed)
            return whole(value, Computed(f"{value.op} {error}"), found.forms[0].sources) if drawn else found

    def _selected(self, value: Value, operands: Mapping[int, Content], masks: Sequence[Content]) -> Content:
        """Return the content of draws that are selected, or replaced, by what they are compared with.

        Raises:
            ValueError: it has no closed form.
        """
        if value.op == "gather":
            first = origin_of(value.args[2])
            if first is None or first.op not in ("max[1]", "argmax"):
                raise ValueError("at places that are drawn")
            dim = int(argument(first, 1, "dim", -1))
            if dim % len(first.args[0].region.sizes) != int(value.args[1]) % len(value.sizes):
                raise ValueError("at places that are drawn")
            masks, count = [self.of(first.args[0])], first.args[0].region.sizes[dim]
        if len(masks) != 1 or any(content.ids is not None for content in (*masks, *operands.values())):
            raise ValueError("by a comparison of several draws")
        (test,), forms = masks[0].forms, [content.forms[0] for content in operands.values()]
        if not isinstance(test.outcome, Test):
            raise ValueError("by a mask that is drawn")
        if len(forms) > 1 and value.op in ("index_put", "_index_put_impl") and argument(value, 3, "accumulate", False):
            raise ValueError("adds")
        sources: dict[Value, Value | Read] = {draw: value for form in (*forms, test) for draw in form.sources}
        if value.op == "gather":
            outcome: Outcome = firsts(forms[0], test, count)
        elif len(forms) == 1:
            same = not test.sources.keys().isdisjoint(forms[0].sources)
            outcome = kept(forms[0], test, where=True) if same else forms[0].outcome
            sources = sources if same else dict.fromkeys(forms[0].sources, value)
        else:
            new, old = forms if value.op == "where" else forms[::-1]
            own = test.sources.keys() == old.sources.keys()
            one, other = (old, new) if own else (new, old)
            outcome = redrawn(other.outcome, kept(one, test, where=not own))
        return whole(value, outcome, sources)

    def _inverse_softplus(self, value: Value) -> Content | None:
        """Return the content of x + log(-expm1(-x)), as Mamba has it; None where it is something else."""
        if len(value.args) != 2 or not all(isinstance(one, Read) for one in value.args):
            return None
        x, other = (origin_of(one) for one in value.args)
        for name in ("log", "neg", "expm1", "neg"):
            if other is None or other.op != name:
                return None
            other = origin_of(other.args[0])
        if other is not x or x is None:
            return None
        content = self.value(x)
        form = content.forms[0]
        if content.ids is not None or not isinstance(form.outcome, Drawn):
            return None
        try:
            return whole(value, inverse_softplus(form.outcome), dict.fromkeys(form.sources, value))
        except ValueError:
            return None

    def _unknown(self, value: Value) -> Content:
        """Return the content of what an operator gives that has no closed form, or that needs none."""
        reads = [*reads_in(value)]
        forms = [form for read in reads for form in self.of(read).forms]
        sources = {draw: value for form in forms for draw in form.sources}
        if value.draws:
            sources[value] = value
        reason = next((form.outcome for form in forms if isinstance(form.outcome, Computed)), None)
        if sources:
            unknown = Norm("norm of draws") if value.op in NORMS else Computed(f"{value.op} of draws")
            return whole(value, unknown if reason is None else reason.plainly, sources)
        if any(isinstance(form.outcome, Unwritten) for form in forms):
            fills = value.in_place and len(reads) > 1
            return whole(value, Computed(f"{value.op} into memory that was not written") if fills else Unwritten(), {})
        return whole(value, reason or Table(), {})
