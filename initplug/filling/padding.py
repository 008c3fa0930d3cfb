"""The padding row of an embedding, which no draw fills: where it lies in what is held, and zeros for it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from initplug.filling.sharding import Part, held_in
from initplug.regions import Box, Region, split
from initplug.schemes.compositions import Keep, Planned, Stacked


def padding(tensor: Tensor, row: int | None, distribution: Planned | None, region: Region | None) -> list[Tensor]:
    """Return the views of an embedding's padding row that a draw covers: all of it, less what lies in kept parts.

    Args:
        tensor: what is held of the embedding.
        row: of the whole; None where there is none.
        distribution: of the whole.
        region: which part of the whole is held; None for all.
    """
    if row is None:
        return []
    whole = Box.whole(tensor.shape if region is None else region.shape)
    line = inside([*held_in(tensor, region)], whole.part(0, row, 1))
    return [part.view for part in covered(distribution, line, whole)]


def zero_padding(tensor: Tensor, row: int | None, distribution: Planned | None, region: Region | None = None) -> None:
    """Zero what a draw covers of an embedding's padding row."""
    for part in padding(tensor, row, distribution, region):
        part.zero_()


def covered(distribution: Planned | None, parts: Sequence[Part], extent: Box) -> list[Part]:
    """Return what a draw covers of some parts: all but what is kept."""
    if not isinstance(distribution, Stacked):
        return [*parts]
    extents = split(extent, distribution.lengths(extent.sizes[distribution.dim]), distribution.dim)
    return [
        part
        for share, inner in zip(distribution.parts, extents, strict=True)
        if not isinstance(share, Keep)
        for part in inside(parts, inner)
    ]


def inside(parts: Sequence[Part], extent: Box) -> list[Part]:
    """Return what is held of an extent."""
    found = []
    for view, box in parts:
        shared = box.shared_with(extent)
        if shared.count:
            found.append(Part(view[shared.within(box)], shared))
    return found
