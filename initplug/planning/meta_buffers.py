"""Buffers on meta: what gives each its values back once the model has memory."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple

from initplug.planning.parametrized import vectors_of
from initplug.planning.resets import Replays, default_of
from initplug.planning.slots import Slot, Tree
from initplug.planning.walk import buffers_of
from initplug.schemes.distributions import Constant

Restore = Literal["rule", "module type", "recomputed after the fill", "none"]


class Buffer(NamedTuple):
    """A buffer that is on meta.

    Args:
        name: canonical name.
        restore: what gives it values: a `rule` with `kind: buffer`; its `module type`, whose reset writes a constant,
            such as the running statistics of BatchNorm; `recomputed after the fill` with the weight that it belongs
            to, such as the vectors of spectral_norm; or `none`.
    """

    name: str
    restore: Restore


@dataclass(frozen=True, slots=True)
class Restoration:
    """A buffer in its model and the way to restore it.

    Args:
        buffer: its name, and what gives it values.
        slot: where it is.
        constant: what its module's reset writes.
        weight: what it is recomputed with.
    """

    buffer: Buffer
    slot: Slot
    constant: Constant | None = None
    weight: Slot | None = None


def restorations(tree: Tree, ruled: Container[str], replays: Replays) -> list[Restoration]:
    """Return how every buffer on meta is restored; one that is also a parameter gets that one's values.

    Args:
        tree: the walked model.
        ruled: the names that rules take.
        replays: what resets leave, added to.
    """
    holding = filter(None, map(attrgetter("buffers"), tree.nodes))
    if not any(tensor is not None and tensor.is_meta for buffers in holding for tensor in buffers.values()):
        return []
    parameters = {id(tensor) for slot in tree.slots if slot.kind == "parameter" for tensor in slot.stored}
    weights = _weights_of_vectors(tree)
    found: list[Restoration] = []
    for slot in buffers_of(tree):
        if slot.lazy or not slot.on_meta or id(slot.tensor) in parameters:
            continue
        restore: Restore = "none"
        constant, weight = None, weights.get(id(slot.tensor))
        if slot.name in ruled:
            restore, weight = "rule", None
        elif weight is not None:
            restore = "recomputed after the fill"
        elif slot.computed is None and isinstance(written := default_of(replays, slot), Constant):
            restore, constant = "module type", written
        found.append(Restoration(Buffer(slot.name, restore), slot, constant, weight))
    return found


def _weights_of_vectors(tree: Tree) -> dict[int, Slot]:
    """Return the weights on meta that a spectral norm computes, by the ids of the vectors that belong to them."""
    return {
        id(vector): slot
        for slot in tree.slots
        if slot.on_meta
        for computed in (slot.computed, *slot.also)
        if computed is not None
        for vector in vectors_of(computed)
    }
