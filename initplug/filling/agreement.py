"""The facts that the ranks of a sharded model must plan alike, so that their parts make one whole."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

from torch import Tensor

from initplug.auditing.audit import Status
from initplug.collectives import APART, Facts
from initplug.columns import paired
from initplug.filling.sharding import is_sharded, mesh_of
from initplug.filling.work import Work
from initplug.planning.assignment import Share


def facts_of(work: Work, settings: Mapping[str, Any], *, plain: bool) -> Facts:
    """Return what other ranks must say alike: settings, and the rows of what they share.

    Those are, for each mesh, the DTensors that live on it, and for each group that keeps replicas those.

    Args:
        work: that this rank is about to do.
        settings: by what they are called.
        plain: whether tensors that are no DTensors are the same on all ranks that hold one of their name.
    """
    plan, slots = work.plan, work.slots
    settings = {**settings, "recipe": plan.digest[:16]}
    sharing = work.replicas.by_row(slots)
    texts, names = paired(plan.shares, work.statuses).each(lambda pair: row_text(*pair)), plan.names
    shared: dict[tuple[int, ...], dict[str, str]] = {}
    for row, groups in sharing.items():
        for group in groups:
            shared.setdefault(group, {})[names[row]] = texts[row]
    if slots.plain and not slots.computed:  # no DTensor
        return Facts(settings, shared, dict(zip(names, texts, strict=True)) if plain else None)
    held: dict[str, str] = {}
    known: dict[Any, tuple[tuple[int, ...], str]] = {}
    for slot, name, text in zip(slots, names, texts, strict=True):
        sharded = next(filter(is_sharded, slot.stored), None)
        if sharded is None:
            held[name] = text
        elif mesh_of(sharded) is not None:
            placed = (mesh_of(sharded), cast("Any", sharded).placements)
            if placed not in known:
                known[placed] = _ranks_and_cuts(sharded)
            ranks, where = known[placed]
            shared.setdefault(ranks, {})[name] = f"{text}{APART}{where}"
    return Facts(settings, shared, held if plain else None)


def row_text(share: Share, status: Status) -> str:
    """Return all that matters of a row to others that hold parts of the same tensor, or the same tensor."""
    parts = [
        str(share.shape),
        share.dtype,
        share.kind if share.trainable or share.kind == "buffer" else f"frozen {share.kind}",
        "written" if status == "initialized" else status,
        "no rule" if share.rule is None else exact(share.distribution),
    ]
    if share.padding_row is not None:
        parts.append(f"padding row {share.padding_row}")
    return APART.join(parts)


def exact(value: object) -> str:
    """Return a text of a distribution that tells any two apart, the same in every process.

    Example:
        >>> from initplug.schemes.compositions import Stacked
        >>> from initplug.schemes.distributions import Normal
        >>> exact(Stacked((Normal(0.0, 0.02), Normal(0.0, 1.0)), 0))
        'Stacked(parts=(Normal(mean=0, std=0.02), Normal(mean=0, std=1)), dim=0, sizes=())'
    """
    if is_dataclass(value):
        told = (field.name for field in fields(value) if field.repr)
        arguments = ", ".join(f"{name}={exact(getattr(value, name))}" for name in told)
        return f"{type(value).__name__}({arguments})"
    if isinstance(value, tuple):
        return f"({', '.join(map(exact, value))})"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_WHOLE and math.copysign(1, value) > 0:
        return str(int(value))  # as the whole number that is equal to it, while -0.0 has other bits
    return repr(value)


EXACT_WHOLE = 1 << 53
"""Up to where floats hold whole numbers exactly."""

LISTED = 16
"""Up to how many ranks of a mesh are written out."""


def _ranks_and_cuts(tensor: Tensor) -> tuple[tuple[int, ...], str]:
    """Return the ranks that hold parts of a DTensor, and how it is cut among them."""
    sharded = cast("Any", tensor)
    mesh = sharded.device_mesh
    ranks = mesh.mesh.flatten().tolist()
    order = str(ranks) if len(ranks) <= LISTED else hashlib.blake2b(str(ranks).encode(), digest_size=4).hexdigest()
    sizes, placements = "x".join(map(str, mesh.shape)), ", ".join(map(str, sharded.placements))
    return tuple(sorted(ranks)), f"{placements} on a mesh {sizes} of ranks {order}"
