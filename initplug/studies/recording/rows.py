"""The rows of a recording: for each parameter what it holds, and which lines of code wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.planning.parametrized import Computed as Parametrized
from initplug.planning.references import padding_row
from initplug.planning.slots import Slot, Tree
from initplug.schemes.compositions import Batched, Drawn, Stacked
from initplug.schemes.distributions import Constant, Elementwise
from initplug.schemes.structures.base import Structured
from initplug.studies.recording.forms import (
    UNDRAWN,
    Computed,
    Content,
    Form,
    Given,
    Outcome,
    Table,
    Unwritten,
    compacted,
    distinct,
)
from initplug.studies.recording.origins import Origins
from initplug.studies.recording.parts import is_norm, written_alike
from initplug.studies.recording.watching import Watch
from initplug.studies.recording.writes import Call, Place, Value


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter of a recorded model.

    Args:
        name: canonical name.
        aliases: further names of the same tensor.
        module_type: class of the owner.
        shape: sizes, in elements.
        numel: number of elements.
        trainable: whether it requires a gradient.
        outcome: what it holds.
        places: the lines of code that wrote it, in order.
        call: the call of torch.nn.init that wrote all of it, if one did.
        twin: the parameter whose values it has, to the bit, where they were drawn once.
        over: the row meant for padding, where it holds what all others do.
    """

    name: str
    aliases: tuple[str, ...]
    module_type: str
    shape: tuple[int, ...]
    numel: int
    trainable: bool
    outcome: Outcome
    places: tuple[Place, ...]
    call: Call | None = None
    twin: str | None = None
    over: int | None = None

    @property
    def distribution(self) -> Drawn | None:
        """The distribution of its elements; None where it has no closed form."""
        return self.outcome if isinstance(self.outcome, Drawn) else None

    @property
    def reason(self) -> str | None:
        """A note on why it has no distribution; None where it has one."""
        return None if isinstance(self.outcome, Drawn) else self.outcome.text

    @property
    def place(self) -> Place | None:
        """The line of code that wrote it last."""
        return self.places[-1] if self.places else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data; missing numbers are None."""
        drawn = self.distribution
        mean, std = (None, None) if drawn is None else (drawn.mean, drawn.std)
        return {
            "name": self.name,
            "aliases": list(self.aliases),
            "module_type": self.module_type,
            "shape": list(self.shape),
            "numel": self.numel,
            "trainable": self.trainable,
            "distribution": None if drawn is None else drawn.text,
            "reason": self.reason,
            "mean": _finite(mean),
            "std": _finite(std),
            "twin": self.twin,
            "places": [str(place) for place in self.places],
        }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def rows_of(tree: Tree, watch: Watch) -> list[Row]:
    """Return a row for every parameter of a model that was built under a watch."""
    origins = Origins()
    rows, sources = [], []
    for slot in tree.slots:
        if slot.kind == "parameter":
            row, drawn = _row(tree, slot, watch, origins)
            rows.append(row)
            sources.append((slot, drawn))
    return _with_twins(rows, sources, watch)


def _row(tree: Tree, slot: Slot, watch: Watch, origins: Origins) -> tuple[Row, frozenset[Value]]:
    tensor, computed = slot.tensor, slot.computed
    shape = tuple(slot.kin.shape)
    if slot.lazy:
        content = _single(Computed("it waits for a first batch to learn its shape"))
    elif not slot.kin.plain or tensor.layout is not torch.strided:
        content = _single(Computed("it is no plain tensor in memory"))
    elif not tensor.numel():
        content = _single(Given())
    elif computed is not None:
        content = _of_parametrized(computed, watch, origins)
    else:
        content = origins.of(watch.read(tensor.detach()))
    row = None if slot.lazy else padding_row(tree, slot)
    outcome, forms = _laid_out(content, shape, row)
    if isinstance(outcome, Table) and computed is None:
        outcome = _constant(watch.values(tensor)) or outcome
    elif isinstance(outcome, Constant) and computed is None and (found := _constant(watch.values(tensor))) is not None:
        meant = torch.tensor(outcome.value, dtype=tensor.dtype).item()
        near = meant != found.value and math.isclose(found.value, outcome.value, rel_tol=ROUNDED)
        outcome = found if near else outcome
    if not watch.meta and any(stored.is_meta for stored in ((tensor,) if computed is None else computed.stored)):
        # Functions of torch.nn.init return at once.
        outcome = Computed("it is on meta, where it cannot be seen what would be written")
    places = [form.place for form in forms if form.place is not None]
    return Row(
        name=slot.name,
        aliases=slot.aliases,
        module_type=tree.nodes[slot.node].cls.__name__,
        shape=shape,
        numel=0 if slot.lazy else tensor.numel(),
        trainable=tensor.requires_grad,
        outcome=outcome,
        places=tuple(dict.fromkeys(places)),
        call=forms[0].call if len(forms) == 1 else None,
        over=row if content.ids is None and outcome != Constant(0.0) else None,
    ), frozenset(draw for form in forms for draw in form.sources)


ROUNDED = 1e-6
"""The relative distance of a number that code computes in single precision from what it is in double precision."""


def _single(outcome: Outcome) -> Content:
    return Content((Form(outcome, {}),))


def _constant(values: Tensor | None) -> Constant | None:
    """Return the number that all elements of a table are."""
    if values is None or not values.numel() or values.is_complex():
        return None
    low, high = torch.aminmax(values)
    return Constant(float(low)) if low == high else None


# Parametrizations -----------------------------------------------------------------------------------------------------


def _of_parametrized(computed: Parametrized, watch: Watch, origins: Origins) -> Content:
    """Return what a tensor holds that its owner computes: what was there when that began."""
    stored = [origins.of(watch.read(tensor.detach())) for tensor in computed.stored]
    if len(stored) == 1:
        return stored[0]
    if len(stored) == 2:  # weight norm: a norm, and the tensor that it is the norm of
        for one, other in (stored, stored[::-1]):
            if is_norm(one, other):
                return other
    return _single(Computed("its parametrization makes it of several tensors"))


# Layout ---------------------------------------------------------------------------------------------------------------

MOST_PARTS = 64
"""The most parts that a tensor is told to be drawn in."""


def _laid_out(content: Content, shape: tuple[int, ...], row: int | None) -> tuple[Outcome, Sequence[Form]]:
    """Return what a whole tensor holds, and the forms of its elements."""
    forms, ids = content.forms, content.ids
    if ids is None:
        return _held(forms[0].outcome, shape), forms
    ids = ids.reshape(shape)
    if row is not None:  # a plan zeroes it for every initializer
        zeroed = {forms[code].outcome for code in np.unique(distinct(ids[row])).tolist()} == {Constant(0.0)}
        if zeroed:
            few = distinct(ids)
            few = few if len(few) == 1 else np.delete(few, row, 0)
            forms, rest = compacted(forms, np.broadcast_to(few, (shape[0] - 1, *shape[1:])))
            if rest is None:
                return _held(forms[0].outcome, shape), forms
            ids = rest
    failed = next((form.outcome for form in forms if isinstance(form.outcome, Computed | Unwritten)), None)
    if failed is not None:
        part = isinstance(failed, Unwritten)
        return Computed("a part of it is never written") if part else failed, forms
    if all(isinstance(form.outcome, UNDRAWN) and not form.sources for form in forms):
        stacked = _stacked(forms, ids, shape) if row is None else None
        return (Table() if stacked is None else stacked), forms
    if _overlap(forms):
        return Computed("a draw is repeated in it"), forms
    stacked = _stacked(forms, ids, tuple(ids.shape) if row is not None else shape)
    return (Computed("its parts are not equal parts along a dimension") if stacked is None else stacked), forms


def _held(outcome: Outcome, shape: tuple[int, ...]) -> Outcome:
    """Return an outcome where it may be that of a tensor of a shape: structures are drawn as wholes."""
    if isinstance(outcome, Structured) and not outcome.holds(shape):
        return Computed(f"a part of, or several {outcome.text}")
    return outcome


def _overlap(forms: Sequence[Form]) -> bool:
    """Return whether forms may hold the same elements of a draw."""
    seen: dict[Value, Any] = {}
    return any(seen.setdefault(draw, token) is not token for form in forms for draw, token in form.sources.items())


def _stacked(forms: Sequence[Form], ids: NDArray[Any], shape: tuple[int, ...]) -> Drawn | None:
    """Return equal parts along a dimension, each of one distribution; None where there are none."""
    outcomes = list(dict.fromkeys(form.outcome for form in forms))
    classes = np.array([outcomes.index(form.outcome) for form in forms])
    if len(outcomes) == 1 and isinstance(outcomes[0], Constant | Elementwise):
        return outcomes[0]
    whole = any(isinstance(outcome, Structured) for outcome in outcomes)
    few = distinct(ids)
    for dim in range(len(shape)):
        if few.shape[dim] == 1:
            continue
        lines = np.moveaxis(few if whole else classes[few], dim, 0).reshape(shape[dim], -1)
        if not (lines.min(1) == lines.max(1)).all():
            continue
        kinds = lines[:, 0]
        ends = [*(np.flatnonzero(np.diff(kinds)) + 1).tolist(), shape[dim]]
        sizes = np.diff([0, *ends])
        unit = int(np.gcd.reduce(sizes))
        if len(sizes) == 1:  # one structure is no whole
            continue
        if shape[dim] // unit > MOST_EQUAL:
            places, lengths = [end - 1 for end in ends], tuple(sizes.tolist())
        else:
            places, lengths = [*range(unit - 1, shape[dim], unit)], ()
        return _parts([outcomes[classes[kinds[at]] if whole else kinds[at]] for at in places], dim, shape, lengths)
    return None


MOST_EQUAL = 8
"""The most equal parts that a person would write down; more are runs of several sizes."""


def _parts(outcomes: Sequence[Outcome], dim: int, shape: tuple[int, ...], sizes: tuple[int, ...]) -> Drawn | None:
    parts = [outcome for outcome in outcomes if isinstance(outcome, Constant | Elementwise | Structured)]
    first, count = outcomes[0], len(outcomes)
    if len(parts) < count:
        return None
    if isinstance(first, Structured) and set(outcomes) == {first} and dim == 0 and count == shape[0]:
        return Batched(first, 1) if first.holds(shape[1:]) else None
    stacked = Stacked(tuple(parts), dim, sizes)
    fits = (
        part.holds(stacked.shape_of(place, shape)) for place, part in enumerate(parts) if isinstance(part, Structured)
    )
    return stacked if count <= MOST_PARTS and all(fits) else None


def constant_parts(tensor: Tensor) -> Drawn | None:
    """Return the equal parts of a table that each hold one number throughout; None where there are no such parts."""
    shape = tuple(tensor.shape)
    values, ids = np.unique(tensor.detach().double().cpu().numpy(), return_inverse=True)
    if len(values) > MOST_PARTS or tensor.numel() < 2 * len(values):
        return None
    found = _stacked([Form(Constant(float(value)), {}) for value in values], ids.reshape(shape), shape)
    fewer = isinstance(found, Stacked) and 2 * len(found.parts) <= shape[found.dim]
    return found if fewer else None


# Twins ----------------------------------------------------------------------------------------------------------------


def _with_twins(rows: Sequence[Row], sources: Iterable[tuple[Slot, frozenset[Value]]], watch: Watch) -> list[Row]:
    """Return the rows, of which those that hold the values of an earlier one say so."""
    first: dict[frozenset[Value], list[int]] = {}
    slots = []
    found = list(rows)
    for index, (slot, drawn) in enumerate(sources):
        slots.append(slot)
        if not drawn:
            continue
        for other in first.setdefault(drawn, []):
            if _equal(slots[other], slot, watch):
                found[index] = replace(rows[index], twin=rows[other].name)
                break
        else:
            first[drawn].append(index)
    return found


def _equal(one: Slot, other: Slot, watch: Watch) -> bool:
    if one.computed is not None or other.computed is not None or one.kin.shape != other.kin.shape:
        return False
    if watch.meta and (one.tensor.is_meta or other.tensor.is_meta):  # without values: the same writes
        return written_alike(watch.read(one.tensor.detach()), watch.read(other.tensor.detach()))
    if one.tensor.is_meta or other.tensor.is_meta:
        return False
    return torch.equal(one.tensor.detach(), other.tensor.detach())
