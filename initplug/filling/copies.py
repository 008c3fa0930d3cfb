"""Values that are not drawn on their way into a tensor: from another slot, or from a file, a window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from initplug.auditing.verdicts import Verdict
from initplug.columns import Rows
from initplug.filling.cuts import give
from initplug.filling.owners import value_of
from initplug.filling.sharding import held_in, is_sharded, local_of, region_of
from initplug.filling.sources import Redrawn, Stored, ValueSource
from initplug.filling.work import Work
from initplug.planning.copies import depths
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot
from initplug.schemes.compositions import Copy, Drawn

WINDOW_BYTES = 1 << 22
"""Bytes that are read or compared at a time, whatever the tensor's size."""

Window = tuple[slice, ...]


def redraw_across_ranks(work: Work) -> None:
    """Draw once more what is copied between tensors of which a rank holds different parts.

    The sources of the run are changed.
    """
    slots, sources = work.slots, work.sources
    places = {slot: index for index, slot in enumerate(slots)}
    for index, source in [*sources.items()]:
        if not isinstance(source, Slot) or _reaches(source.tensor, slots[index].tensor):
            continue
        casts: list[torch.dtype] = []
        at, name = places.get(source), source.name
        while at is not None and work.statuses[at] == "initialized" and at not in work.lost:
            casts.append(slots[at].tensor.dtype)
            share, further = work.plan.shares[at], sources.get(at)
            if further is None and slots[at].computed is None:
                sources[index] = Redrawn(work.plan.names[at], share, tuple(reversed(casts)))
                break
            if isinstance(further, Redrawn):
                sources[index] = replace(further, casts=(*further.casts, *reversed(casts)))
                break
            at = places.get(further) if isinstance(further, Slot) else None
        else:
            del sources[index]
            work.lost[index] = (
                f"its source {name} is not drawn here and placed differently: give both the same placements"
            )


def redraw_from_elsewhere(work: Work) -> None:
    """Draw what is copied from another part of the model, such as a pipeline stage, which the whole's plan knows.

    The sources of the run are changed.
    """
    plan = work.plan
    whole = plan.whole
    for index in [*work.lost]:
        copy = plan.shares[index].distribution
        if work.statuses[index] != "initialized" or not isinstance(copy, Copy) or copy.source not in whole:
            continue
        casts: list[torch.dtype] = []
        while isinstance(copy, Copy):
            at = whole.index_of(copy.source)
            casts.append(getattr(torch, whole.shares[at].dtype))
            copy = whole.shares[at].distribution
        if isinstance(copy, Drawn):
            work.sources[index] = Redrawn(whole.names[at], whole.shares[at], tuple(reversed(casts)))
            del work.lost[index]


def _reaches(source: Tensor, target: Tensor) -> bool:
    """Return whether a rank holds all of a source that it needs for a target."""
    region = region_of(source)
    return region is None or region == region_of(target)


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
