"""Values that are not drawn on their way into a tensor: from another slot, or from a file, a window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from initplug.auditing import Status
from initplug.errors import Finding
from initplug.filling.writing import value_of
from initplug.judging import Verdict
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Tree
from initplug.planning.transfers import DTYPES, depths, unlike
from initplug.schemes.distributions import Copy, Load

WINDOW = 1 << 22
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


Source = Slot | Stored
"""Where values come from. A slot, and not its tensor: it may yet be given another one."""


def sources_of(plan: Plan, tree: Tree, slots: Sequence[Slot]) -> tuple[dict[int, Source], dict[int, str]]:
    """Where the copied and loaded slots of a model get their values, files opened.

    Args:
        plan: of the model, or cut to it.
        tree: the walked model.
        slots: of the plan, in its order.

    Returns:
        By position in the plan: the sources, and for those that have none, or one that does not fit, the reason.
    """
    sources: dict[int, Source] = {}
    lost: dict[int, str] = {}
    files: dict[str, Any] = {}
    places: dict[str, Slot] = {}
    for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True)):
        found: Source | str
        match share.distribution:
            case Copy(name):
                places = places or {place: each for each in tree.slots for place, _, _ in each.places}
                # A part of a model may know the source by an alias alone: the plan has them all.
                found = _copied(name, slots[plan.index_of(name)] if name in plan else places.get(name), slot)
            case Load(path, key):
                found = _opened(path, key, slot, files)
            case _:
                continue
        if isinstance(found, str):
            lost[index] = found
        else:
            sources[index] = found
    return sources, lost


def _copied(name: str, source: Slot | None, slot: Slot) -> Slot | str:
    """The slot that is copied, or why it cannot be."""
    if source is None:
        return f"its source {name} is not in this model"
    tensor = source.tensor
    if source.lazy:
        return f"its source {name} waits for a first batch to learn its shape"
    if tensor.layout != torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        return f"its source {name} is {kind}"
    return unlike(name, tuple(tensor.shape), tensor.dtype, slot.tensor) or source


def _opened(path: str, key: str, slot: Slot, files: dict[str, Any]) -> Stored | str:
    """The tensor in a file, or why it cannot be read any more."""
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
    return reason or Stored(files[path], key, shape, DTYPES[dtype].itemsize)


def unsourced(
    slots: Sequence[Slot], statuses: Sequence[Status], sources: Mapping[int, Source], lost: Mapping[int, str]
) -> list[Finding]:
    """The slots that are to be written and whose source has no values to give."""
    writing = {id(slot) for slot, status in zip(slots, statuses, strict=True) if status == "initialized"}
    findings = []
    for index, slot in enumerate(slots):
        source, reason = sources.get(index), lost.get(index)
        if isinstance(source, Slot) and source.on_meta and id(source) not in writing:
            reason = f"its source {source.name} is on meta and holds no values"
        if reason is not None and id(slot) in writing:
            findings.append(Finding(slot.name, reason))
    return findings


def in_order(plan: Plan) -> list[int]:
    """Positions of a plan's slots as they are written: draws and loads in its order, copies after their sources."""
    if not any(isinstance(share.distribution, Copy) for share in plan.shares):
        return list(range(len(plan)))
    depth = depths(dict(zip(plan.names, (share.distribution for share in plan.shares), strict=True)))
    return sorted(range(len(plan)), key=lambda index: depth.get(plan.names[index], 0))


def transfer(source: Source, tensor: Tensor) -> None:
    """Fill a tensor with the values of its source, cast to its dtype."""
    if isinstance(source, Slot):
        tensor.copy_(value_of(source))
    else:
        for window in windows(source.shape, _itemsize(source, tensor)):
            tensor[window].copy_(_read(source, window))


def compared(source: Source, tensor: Tensor) -> Verdict:
    """Whether a tensor holds exactly what its source does after the cast; what is not finite differs."""
    tensor = tensor.detach()
    if tensor.is_meta or (isinstance(source, Slot) and source.on_meta):
        return "untestable"
    read = value_of(source).detach().__getitem__ if isinstance(source, Slot) else partial(_read, source)
    for window in windows(tuple(tensor.shape), _itemsize(source, tensor)):
        found = tensor[window]
        expected = read(window).to(dtype=found.dtype, device=found.device)
        found, expected = _plain(found), _plain(expected)
        if not torch.equal(found, expected) or not torch.isfinite(found).all():
            return "differs"
    return "ok"


def _itemsize(source: Source, tensor: Tensor) -> int:
    """Bytes of an element in the widest form that it takes on its way; short floats are compared as float32."""
    stored = source.itemsize if isinstance(source, Stored) else source.tensor.element_size()
    return max(4, tensor.element_size(), stored)


def _read(source: Stored, window: Window) -> Tensor:
    # Libraries before 0.5 slice no tensor without dimensions.
    values: Tensor = source.file.get_slice(source.key)[window] if window else source.file.get_tensor(source.key)
    return values


def _plain(values: Tensor) -> Tensor:
    """The same numbers in a dtype that torch compares: short floats have few operations."""
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    return values.float() if values.is_floating_point() and values.element_size() < 4 else values


def windows(shape: tuple[int, ...], itemsize: int) -> Iterator[Window]:
    """Slices that cover a tensor in order, each of at most WINDOW bytes, of leading dimensions as far as they go.

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
    if row <= WINDOW:
        step = max(1, WINDOW // max(row, 1))
        yield from ((slice(start, min(start + step, size)),) for start in range(0, size, step))
        return
    for start in range(size):
        yield from ((slice(start, start + 1), *window) for window in windows(tuple(rest), itemsize))
