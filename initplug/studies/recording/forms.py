"""Forms: what the elements of a tensor are, as far as that has a closed form, and which elements are of which form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant
from initplug.studies.recording.writes import Call, Place, Read, Region, Value


@dataclass(frozen=True, slots=True)
class Table:
    """Values that depend on no draw of torch's."""

    text = "a table of fixed values that no initializer gives"


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Memory as it was found: nobody wrote to it."""

    text = "memory that is never written"


@dataclass(frozen=True, slots=True)
class Given:
    """Values that were there before watching began, or that came from elsewhere than torch."""

    text = "as given"


@dataclass(frozen=True, slots=True)
class Computed:
    """Values that nobody knows a closed form of.

    Args:
        reason: the operator, and what it works on.
    """

    reason: str

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return f"computed: {self.reason}"

    @property
    def plainly(self) -> Computed:
        """The same, without what only values have that nothing was done to."""
        return Computed(self.reason)


@dataclass(frozen=True, slots=True)
class Norm(Computed):
    """The norm of a tensor, along all of its dimensions but one."""


@dataclass(frozen=True, slots=True)
class Unlike:
    """Values that look like nothing that an initializer gives.

    Args:
        reason: what speaks against all that is known.
    """

    reason: str

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return f"like nothing that is known: {self.reason}"


Outcome = Drawn | Table | Unwritten | Given | Computed | Unlike
"""Outcomes: what the elements of a tensor are."""

UNDRAWN = (Constant, Table, Given)
"""Outcomes that depend on no draw."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """The elements of a tensor that are of one kind.

    Args:
        outcome: what they are.
        sources: the draws that they depend on, each with what brought it to where it lies: forms that have the same
            draw by other ways may hold the same elements of it.
        place: the line that wrote them last.
        call: the call of torch.nn.init that did.
    """

    outcome: Outcome
    sources: Mapping[Value, Value | Read]
    place: Place | None = None
    call: Call | None = None


class Content(NamedTuple):
    """The content of a tensor.

    Args:
        forms: of its elements.
        ids: of every element the place of its form; None where there is one form.
    """

    forms: tuple[Form, ...]
    ids: NDArray[np.int32] | None = None


def moved(form: Form, by: Value, part: Read | None = None) -> Form:
    """Return a form that lies elsewhere now; several parts that are laid side by side come by ways of their own."""
    if not form.sources:
        return replace(form, place=by.place or form.place)
    sources = dict.fromkeys(form.sources, by if part is None else part)
    return replace(form, sources=sources, place=by.place or form.place)


def because(form: Form, reason: str) -> Form:
    """Return a form that has no closed form any more, if it is drawn."""
    if not form.sources or isinstance(form.outcome, Computed):
        return form
    return replace(form, outcome=Computed(reason))


def repeated(form: Form) -> Form:
    """Return a form whose elements are there more than once."""
    return because(form, "a draw is repeated")


def once(content: Content, region: Region) -> Content:
    """Return a content whose draws are told to be repeated if the region shows elements more than once."""
    if all(stride or size == 1 for size, stride in zip(region.sizes, region.strides, strict=True)):
        return content
    return Content(tuple(repeated(form) for form in content.forms), content.ids)


def shown(owners: NDArray[Any], region: Region) -> NDArray[Any]:
    """Return the part of an array that a region shows."""
    strides = tuple(stride * owners.itemsize for stride in region.strides)
    return np.lib.stride_tricks.as_strided(owners[region.offset :], region.sizes, strides)


def coarse(regions: Sequence[Region], size: int) -> tuple[int, list[Region]]:
    """Return the elements of blocks that regions of a memory are made of, and the regions in blocks.

    Args:
        regions: the last is to keep its sizes but for one, along which blocks lie.
        size: elements of the memory.
    """
    flat = [_flat(region) for region in regions[:-1]] + [regions[-1]]
    runs = [_run(region) for region in flat]
    if None in runs:
        return 1, list(regions)
    unit = size
    for region, run in zip(flat, runs, strict=True):
        others = (
            stride
            for axis, (n, stride) in enumerate(zip(region.sizes, region.strides, strict=True))
            if axis != run and n > 1
        )
        unit = math.gcd(unit, region.offset, region.sizes[run], *others)  # type: ignore[index]  # none is None
    return unit, [_in_blocks(region, run, unit) for region, run in zip(flat, runs, strict=True)]


def _flat(region: Region) -> Region:
    """Return a region that lies in one piece as one row."""
    row = 1
    for n, stride in zip(region.sizes[::-1], region.strides[::-1], strict=True):
        if n > 1 and stride != row:
            return region
        row *= n
    return region._replace(sizes=(row,), strides=(1,))


def _run(region: Region) -> int | None:
    """Return the axis along which the elements of a region lie side by side."""
    axes = enumerate(zip(region.sizes, region.strides, strict=True))
    return next((axis for axis, (n, stride) in axes if n > 1 and stride == 1), None)


def _in_blocks(region: Region, run: int | None, unit: int) -> Region:
    sizes = tuple(n // unit if axis == run else n for axis, n in enumerate(region.sizes))
    strides = tuple(1 if axis == run else stride // unit for axis, stride in enumerate(region.strides))
    return region._replace(offset=region.offset // unit, sizes=sizes, strides=strides)


def compacted(forms: Sequence[Form], ids: NDArray[Any]) -> Content:
    """Return a content of the forms that occur."""
    if not ids.size:
        return Content(tuple(forms[:1]))
    few = distinct(ids)
    used = np.flatnonzero(_counts(few, len(forms)))
    if len(used) == 1:
        return Content((forms[int(used[0])],))
    places = np.zeros(len(forms), np.int32)
    places[used] = np.arange(len(used))
    small = places.astype(np.uint8) if len(used) < 256 else places
    return Content(tuple(forms[index] for index in used.tolist()), np.broadcast_to(small[few], ids.shape))


def distinct(ids: NDArray[Any]) -> NDArray[Any]:
    """Return an array without the repetitions of those axes along which it takes no memory: they have size 1."""
    return ids[tuple(slice(None) if stride else slice(0, 1) for stride in ids.strides)]


def _counts(ids: NDArray[Any], least: int) -> NDArray[np.intp]:
    """Return how often each number occurs; numpy counts wide numbers, so that it is done piece by piece."""
    flat, found = ids.reshape(-1), np.zeros(least, np.intp)
    for start in range(0, flat.size, CHUNK):
        found += np.bincount(flat[start : start + CHUNK], minlength=least)
    return found


CHUNK = 1 << 20
"""Elements that are counted at a time."""
