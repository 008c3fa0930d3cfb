"""A tensor in pieces: views whose elements are independent draws, and views whose values are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from initplug.filling.draws import draws_from_streams
from initplug.filling.padding import covered, inside
from initplug.filling.sharding import Part, held_in
from initplug.filling.words import StreamKey, key_of
from initplug.regions import Box, Region, split
from initplug.schemes.compositions import Batched, Drawn, Keep, Stacked
from initplug.schemes.distributions import Constant, Elementwise
from initplug.schemes.structures.base import Structured
from initplug.schemes.structures.custom import Custom


@dataclass(frozen=True, slots=True)
class Piece:
    """A view of a tensor whose elements are independent draws of one distribution.

    Args:
        view: of float, any dtype and layout.
        distribution: of every element.
        key: of the stream.
        box: the view's place in the whole tensor.
    """

    view: Tensor
    distribution: Elementwise
    key: StreamKey
    box: Box


@dataclass(frozen=True, slots=True)
class Given:
    """A view of a tensor whose values are known as a whole.

    Args:
        view: any dtype and layout.
        values: of the view's sizes, to be cast to its dtype; or the one of all elements.
        box: the view's place in the whole tensor.
    """

    view: Tensor
    values: Tensor | float
    box: Box


def pieces(
    distribution: Drawn,
    tensor: Tensor,
    seed: int,
    name: str,
    region: Region | None = None,
    padding_row: int | None = None,
) -> Iterator[Piece | Given]:
    """Yield the views of a tensor, with what each is given: draws element by element, or values.

    Args:
        distribution: of the whole tensor.
        tensor: any dtype and layout that the distribution fits; what is held of it.
        seed: of all streams.
        name: canonical name of the tensor, which selects its own.
        region: which part of the whole tensor is held; None for all.
        padding_row: of the whole tensor, which is zero afterwards, but for what a draw does not cover of it.

    Raises:
        ValueError: a function of others gives no such values.
    """
    parts = [*held_in(tensor, region)]
    whole = Box.whole(tensor.shape if region is None else region.shape)
    padding: list[Part] = []
    if padding_row is not None:
        rest = whole.shape[0] - padding_row - 1
        beside = (whole.part(0, 0, padding_row), whole.part(0, padding_row + 1, rest))
        padding = inside(parts, whole.part(0, padding_row, 1))
        parts = [part for extent in beside for part in inside(parts, extent)]
    found = _pieces_of_parts(distribution, parts, seed, name, whole)
    if isinstance(distribution, Stacked | Batched) and math.isnan(distribution.std):
        # A later part may fail: all are computed before one is handed out, and written.
        found = iter(list(found))
    yield from found
    yield from (Given(view, 0.0, box) for view, box in covered(distribution, padding, whole))


def _pieces_of_parts(
    distribution: Drawn, parts: Sequence[Part], seed: int, name: str, extent: Box
) -> Iterator[Piece | Given]:
    """Yield the views of parts, with what each is given.

    Args:
        distribution: of the extent.
        parts: what is held of it.
        seed: of all streams.
        name: of the whole tensor.
        extent: which part of the whole tensor the distribution is of.
    """
    if not parts:
        return
    match distribution:
        case Stacked(shares, dim):
            extents = split(extent, distribution.lengths(extent.sizes[dim]), dim)
            for share, inner in zip(shares, extents, strict=True):
                if not isinstance(share, Keep):
                    yield from _pieces_of_parts(share, inside(parts, inner), seed, name, inner)
        case Batched(part, dims):
            for index in itertools.product(*(range(size) for size in extent.sizes[:dims])):
                inner = extent
                for dim, place in enumerate(index):
                    inner = inner.part(dim, place, 1)
                yield from _whole_pieces(part, inside(parts, inner), seed, name, inner, inner.sizes[dims:])
        case Constant(value):
            yield from (Given(view, value, box) for view, box in parts)
        case Elementwise(complex_parts=(real, imaginary)) if parts[0].view.is_complex():
            for view, box in parts:  # also of a conjugated one, whose imaginary part is negated
                yield Piece(view.real, real, key_of(seed, name), box)
                yield Piece(view.imag, imaginary, key_of(seed, name, "imag"), box)
        case Elementwise():
            yield from (Piece(view, distribution, key_of(seed, name), box) for view, box in parts)
        case _:
            yield from _whole_pieces(distribution, parts, seed, name, extent, extent.sizes)


def _whole_pieces(
    distribution: Structured, parts: Sequence[Part], seed: int, name: str, extent: Box, shape: tuple[int, ...]
) -> Iterator[Given]:
    """Yield what is held of a tensor that is computed as a whole, which is done once.

    Args:
        distribution: of the extent.
        parts: what is held of it; nothing is computed for nothing.
        seed: of all streams.
        name: of the whole tensor.
        extent: which part of the whole tensor is computed.
        shape: its sizes, those of a stack left out.
    """
    if not parts:
        return
    values = torch.from_numpy(distribution.compute(shape, draws_from_streams(seed, name, extent, shape)))
    dtype = parts[0].view.dtype
    if isinstance(distribution, Custom) and not torch.isfinite(values.to(dtype)).all():
        raise ValueError(f"{distribution.name} gave values beyond {str(dtype).removeprefix('torch.')}")
    values = values.view(extent.sizes)
    yield from (Given(view, values[box.within(extent)], box) for view, box in parts)
