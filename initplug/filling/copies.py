"""Values that are not drawn on their way into a tensor: from another slot, or from a file, a window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from initplug.auditing.audit import Status, to_write
from initplug.auditing.verdicts import Verdict
from initplug.columns import Coded, Rows
from initplug.errors import Finding
from initplug.filling.cuts import give
from initplug.filling.owners import untouchable, value_of
from initplug.filling.sharding import held_in, is_sharded, local_of, region_of
from initplug.planning.assignment import Share
from initplug.planning.copies import WORDS, depths, unlike
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Tree
from initplug.schemes.distributions import Copy, Drawn, Load

WINDOW_BYTES = 1 << 22
"""Bytes that are read or compared at a time, whatever the tensor's size."""

Window = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in an open file.

    Args:
        file: what safetensors opened.
        key: name of the tensor.
        shape: its sizes.
        itemsize: bytes of an element.
    """

    file: Any
    key: str
    shape: tuple[int, ...]
    itemsize: int


@dataclass(frozen=True, slots=True)
class Redrawn:
    """A slot whose values are drawn once more, since no rank holds those that it needs.

    Args:
        name: canonical name of the slot that is drawn, which selects its streams.
        share: what the plan says of it.
        casts: the dtypes that the values take on their way, from copy to copy.
    """

    name: str
    share: Share
    casts: tuple[torch.dtype, ...]


ValueSource = Slot | Stored | Redrawn
"""Where values come from. A slot, and not its tensor: it may yet be given another one."""


def sources_of(plan: Plan, tree: Tree, slots: Sequence[Slot]) -> tuple[dict[int, ValueSource], dict[int, str]]:
    """Return where the copied and loaded slots of a model get their values, files opened.

    Args:
        plan: of the model, or cut to it.
        tree: the walked model.
        slots: of the plan, in its order.

    Returns:
        By position in the plan: the sources, and for those that have none, or one that does not fit, the reason.
    """
    sources: dict[int, ValueSource] = {}
    lost: dict[int, str] = {}
    files: dict[str, Any] = {}
    places: dict[str, Slot] = {}
    for index in plan.shares.where(lambda share: isinstance(share.distribution, Copy | Load)).tolist():
        slot = slots[index]
        found: ValueSource | str
        match plan.shares[index].distribution:
            case Copy(name):
                places = places or {place: each for each in tree.slots for place, _, _ in each.places}
                # A part of a model may know the source by an alias alone: the plan has them all.
                found = _source_slot(name, slots[plan.index_of(name)] if name in plan else places.get(name), slot)
            case Load(path, key):
                found = _source_in_file(path, key, slot, files)
            case _:
                continue
        if isinstance(found, str):
            lost[index] = found
        else:
            sources[index] = found
    return sources, lost


def _source_slot(name: str, source: Slot | None, slot: Slot) -> Slot | str:
    """Return the slot that is copied, or why it cannot be."""
    if source is None:
        return f"its source {name} is not in this model"
    tensor = source.tensor
    if source.lazy:
        return f"its source {name} waits for a first batch to learn its shape"
    hidden = untouchable(tensor)
    if hidden is not None:
        return f"its source {name} cannot be read: {hidden}"
    return unlike(name, tuple(tensor.shape), tensor.dtype, slot.tensor) or source


def _source_in_file(path: str, key: str, slot: Slot, files: dict[str, Any]) -> Stored | str:
    """Return the tensor in a file, or why it cannot be read any more."""
    try:
        if path not in files:
            if not Path(path).is_file():
                return f"there is no file {path} any more"
            files[path] = safe_open(path, framework="pt")
        part = files[path].get_slice(key)
        shape, dtype = tuple(part.get_shape()), part.get_dtype()
    except (SafetensorError, OSError) as error:
        return f"{path} has changed: {error}"
    reason = unlike(f"{key!r} in {path}", shape, dtype, slot.tensor)
    return reason or Stored(files[path], key, shape, getattr(torch, WORDS[dtype]).itemsize)


def redraw_across_ranks(
    plan: Plan,
    slots: Sequence[Slot],
    statuses: Coded[Status],
    sources: dict[int, ValueSource],
    lost: dict[int, str],
) -> None:
    """Draw once more what is copied between tensors of which a rank holds different parts.

    Args:
        plan: of the slots.
        slots: in its order.
        statuses: what applying does to each.
        sources: of the copied slots, changed.
        lost: why others have none, changed.
    """
    places = {slot: index for index, slot in enumerate(slots)}
    for index, source in [*sources.items()]:
        if not isinstance(source, Slot) or _reaches(source.tensor, slots[index].tensor):
            continue
        casts: list[torch.dtype] = []
        at, name = places.get(source), source.name
        while at is not None and statuses[at] == "initialized" and at not in lost:
            casts.append(slots[at].tensor.dtype)
            share, further = plan.shares[at], sources.get(at)
            if further is None and slots[at].computed is None:
                sources[index] = Redrawn(plan.names[at], share, tuple(reversed(casts)))
                break
            if isinstance(further, Redrawn):
                sources[index] = replace(further, casts=(*further.casts, *reversed(casts)))
                break
            at = places.get(further) if isinstance(further, Slot) else None
        else:
            del sources[index]
            lost[index] = f"its source {name} is not drawn here and placed differently: give both the same placements"


def redraw_from_elsewhere(
    plan: Plan, statuses: Coded[Status], sources: dict[int, ValueSource], lost: dict[int, str]
) -> None:
    """Draw what is copied from another part of the model, such as a pipeline stage, which the whole's plan knows.

    Args:
        plan: cut out of the whole model's.
        statuses: what applying does to each slot.
        sources: of the copied slots, changed.
        lost: why others have none, changed.
    """
    whole = plan.whole
    for index in [*lost]:
        copy = plan.shares[index].distribution
        if statuses[index] != "initialized" or not isinstance(copy, Copy) or copy.source not in whole:
            continue
        casts: list[torch.dtype] = []
        while isinstance(copy, Copy):
            at = whole.index_of(copy.source)
            casts.append(getattr(torch, whole.shares[at].dtype))
            copy = whole.shares[at].distribution
        if isinstance(copy, Drawn):
            sources[index] = Redrawn(whole.names[at], whole.shares[at], tuple(reversed(casts)))
            del lost[index]


def drawn_from(plan: Plan, slots: Sequence[Slot], row: int) -> Redrawn | None:
    """Return what a copied slot's values were drawn for, by way of further copies too; None where they were not drawn.

    Args:
        plan: of the slots, or cut out of the whole model's.
        slots: in its order.
        row: of the copy.
    """
    casts: list[torch.dtype] = []
    known, at = plan, row
    while isinstance(copy := known.shares[at].distribution, Copy):
        if known is plan and copy.source not in plan:
            known = plan.whole
        if copy.source not in known:
            return None
        at = known.index_of(copy.source)
        if known is plan and slots[at].computed is not None:
            return None  # its owner may round what it was given
        casts.append(slots[at].tensor.dtype if known is plan else getattr(torch, known.shares[at].dtype))
    share = known.shares[at]
    return Redrawn(known.names[at], share, tuple(reversed(casts))) if isinstance(share.distribution, Drawn) else None


def _reaches(source: Tensor, target: Tensor) -> bool:
    """Return whether a rank holds all of a source that it needs for a target."""
    region = region_of(source)
    return region is None or region == region_of(target)


def unsourced(
    slots: Sequence[Slot], statuses: Coded[Status], sources: Mapping[int, ValueSource], lost: Mapping[int, str]
) -> list[Finding]:
    """Return the slots that are to be written and whose source has no values to give."""
    findings: list[Finding] = []
    if not sources and not lost:
        return findings
    writing = {slots[row] for row in to_write(statuses).tolist()}
    for index in sorted({*sources, *lost}):
        slot, source, reason = slots[index], sources.get(index), lost.get(index)
        if isinstance(source, Slot) and source.on_meta and source not in writing:
            reason = f"its source {source.name} is on meta and holds no values"
        if reason is not None and slot in writing:
            findings.append(Finding(slot.name, reason))
    return findings


def in_order(plan: Plan, rows: Rows) -> Rows:
    """Return the rows of a plan as they are written: draws and loads in its order, copies after their sources."""
    if not any(isinstance(share.distribution, Copy) for share in plan.shares.values):
        return rows
    depth = depths(dict(zip(plan.names, (share.distribution for share in plan.shares), strict=True)))
    return rows[np.argsort([depth.get(plan.names[row], 0) for row in rows.tolist()], kind="stable")]


def transfer(source: Slot | Stored, tensor: Tensor) -> None:
    """Fill a tensor with the values of its source, cast to its dtype; of a sharded one what this rank holds."""
    if isinstance(source, Slot):
        given = value_of(source)
        if not is_sharded(tensor) and not is_sharded(given):
            give(tensor, given)
            return
    for view, read, window in _held_windows(source, tensor):
        give(view[window], read)


def _held_windows(source: Slot | Stored, tensor: Tensor) -> Iterator[tuple[Tensor, Tensor, Window]]:
    """Yield what is held of a tensor, window by window, with the values that its source has there."""
    itemsize = _itemsize(source, tensor)
    region = region_of(tensor)
    if isinstance(source, Slot):
        given = value_of(source).detach()
        if region is not None and region_of(given) == region:
            region = None  # of both the same part is held
        given = local_of(given)
    for view, box in held_in(local_of(tensor), region):
        for window in windows(box.sizes, itemsize):
            there = tuple(
                slice(part.start + start, part.stop + start) for part, start in zip(window, box.starts, strict=False)
            )
            there += tuple(
                slice(start, start + size)
                for start, size in zip(box.starts[len(there) :], box.sizes[len(there) :], strict=True)
            )
            yield view, _window_of_file(source, there) if isinstance(source, Stored) else given[there], window


def compared_to_source(source: ValueSource, tensor: Tensor) -> Verdict:
    """Return whether a tensor holds exactly what its source does after the cast; what is not finite differs."""
    tensor = tensor.detach()
    if isinstance(source, Redrawn) or tensor.is_meta:
        return "untestable"
    if isinstance(source, Slot) and (source.on_meta or not _reaches(source.tensor, tensor)):
        return "untestable"
    for view, read, window in _held_windows(source, tensor):
        found = view[window]
        expected = read.to(dtype=found.dtype, device=found.device)
        found, expected = _comparable(found), _comparable(expected)
        if not torch.equal(found, expected) or not torch.isfinite(found).all():
            return "differs"
    return "ok"


def _itemsize(source: Slot | Stored, tensor: Tensor) -> int:
    """Return bytes of an element in the widest form that it takes on its way; short floats are compared as float32."""
    stored = source.itemsize if isinstance(source, Stored) else source.tensor.element_size()
    return max(4, tensor.element_size(), stored)


def _window_of_file(source: Stored, window: Window) -> Tensor:
    # Libraries before 0.5 slice no tensor without dimensions.
    values: Tensor = source.file.get_slice(source.key)[window] if window else source.file.get_tensor(source.key)
    return values


def _comparable(values: Tensor) -> Tensor:
    """Return the same numbers in a dtype that torch compares: short floats have few operations."""
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    return values.float() if values.is_floating_point() and values.element_size() < 4 else values


def windows(shape: tuple[int, ...], itemsize: int) -> Iterator[Window]:
    """Yield slices that cover a tensor in order, of at most `WINDOW_BYTES` each, along as few dimensions as will do.

    Args:
        shape: of the tensor.
        itemsize: bytes of an element.

    Example:
        >>> [tuple((part.start, part.stop) for part in window) for window in windows((3, 1 << 19), 4)]
        [((0, 2),), ((2, 3),)]
    """
    if not shape:
        yield ()
        return
    size, *rest = shape
    row = itemsize * math.prod(rest)
    if row <= WINDOW_BYTES:
        step = max(1, WINDOW_BYTES // max(row, 1))
        yield from ((slice(start, min(start + step, size)),) for start in range(0, size, step))
        return
    for start in range(size):
        yield from ((slice(start, start + 1), *window) for window in windows(tuple(rest), itemsize))
