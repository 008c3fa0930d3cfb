"""Sources of values that are not drawn: another slot, a tensor in a file, or a draw that is made once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from initplug.filling.writable import untouchable
from initplug.planning.assignment import Share
from initplug.planning.copies import WORDS, unlike
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Tree
from initplug.planning.weight_files import UNREADABLE, open_weights
from initplug.schemes.compositions import Copy, Drawn, Load


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in an open file.

    Args:
        file: an open file of weights.
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
"""The origin of values. A slot, and not its tensor: it may yet be given another one."""


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
            files[path] = open_weights(Path(path))
        part = files[path].get_slice(key)
        shape, dtype = tuple(part.get_shape()), part.get_dtype()
    except (*UNREADABLE, LookupError) as error:
        return f"{path} has changed: {error}"
    reason = unlike(f"{key!r} in {path}", shape, dtype, slot.tensor)
    return reason or Stored(files[path], key, shape, getattr(torch, WORDS[dtype]).itemsize)


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
