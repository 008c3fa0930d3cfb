"""Tensors that are copies of each other, though a plan draws them independently: equal, negated or scaled.

What is asked first is little and the same for all: a few elements of each tensor, brought to unit length, and how far
they reach along fixed directions. Neither a sign nor a factor changes that, and rounding hardly. Tensors that agree in
it are then compared in full, each with one other.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import array_of
from initplug.auditing.repetition import WORD_DTYPES, collision
from initplug.auditing.verdicts import Judgement
from initplug.columns import Coded, Rows
from initplug.filling.batches import SMALL
from initplug.filling.cuts import SERIAL, paired_pieces
from initplug.filling.owners import value_of
from initplug.filling.sharding import local_of, region_of
from initplug.filling.writable import are_in_order
from initplug.planning.assignment import Share
from initplug.planning.dtypes import finest
from initplug.planning.slots import PLAIN_TENSORS, Slots
from initplug.schemes.compositions import sized_singles

CHANCE_OF_TWINS = 1e-12
"""How probable it may be that independent draws of a model agree anywhere."""

SAMPLED = 32
"""Elements of each tensor that are asked first."""

DIRECTIONS = 8


class Twin(NamedTuple):
    """A copy.

    Args:
        row: of the copy.
        original: row of what it is a copy of.
        how: in words that the original's name fits in.
    """

    row: int
    original: int
    how: str


def judged_as_twins(slots: Slots, shares: Coded[Share], rows: Rows, exact: Container[int]) -> dict[int, Judgement]:
    """Return judgements of tensors that are copies, though they were to be independent.

    Args:
        slots: all slots.
        shares: what a plan says of each.
        rows: of the slots whose values can be read and were to be drawn.
        exact: rows of those that hold what was planned, so that others are copies of them.
    """
    found: dict[int, Judgement] = {}
    for copy in twins(slots, shares, rows, exact):
        name = slots[copy.original].name
        problem = f"{copy.how.format(name)}, though the plan draws both independently"
        found[copy.row] = Judgement("differs", problem, f"twin of {name}")
    return found


def twins(slots: Slots, shares: Coded[Share], rows: Rows, exact: Container[int]) -> Iterator[Twin]:
    """Yield the copies among tensors, each with its original: the one that is exact, or the first."""
    alike: dict[Any, list[_Samples]] = {}
    for share, group in shares.taken(rows).groups():
        draws = _draws(share)
        if _is_rare(draws.equal, draws.free, len(rows)):
            tolerance = 8 * torch.finfo(getattr(torch, share.dtype)).eps
            scaled = _is_rare(draws.scaled, draws.free, len(rows))
            for kind, samples in _samples_of_alike(slots, rows[group], tolerance if scaled else 0.0):
                alike.setdefault(kind, []).append(samples)
    for several in alike.values():
        for family, scaled in _families(several):
            left = sorted(family, key=lambda row: (row not in exact, row))
            while len(left) > 1:
                original, *others = left
                left = []
                for row in others:
                    how = _how(_values(slots, original), _values(slots, row), scaled=scaled)
                    if how is None:
                        left.append(row)
                    elif row not in exact:
                        yield Twin(row, original, how)


# Chance -------------------------------------------------------------------------------------------------------


class _Draws(NamedTuple):
    """The probability that a draw repeats another.

    Args:
        free: elements that are drawn independently.
        equal: how probable it is, at most, that one of them is equal to that of another tensor.
        scaled: that it is to rounding, once both are scaled alike.
    """

    free: int
    equal: float
    scaled: float


NOTHING = _Draws(0, 1.0, 1.0)


def _draws(share: Share) -> _Draws:
    """Return what is known of a share's draws: nothing if they are constant, computed by others, or of another kind."""
    dtype: torch.dtype = getattr(torch, share.dtype)
    distribution = share.distribution

    if share.rule is None or not dtype.is_floating_point:
        return NOTHING
    free, equal = 0, 0.0
    for single, size in sized_singles(distribution, share.numel):
        drawn = single.free(size)
        if not drawn or single.std == 0:
            continue
        free += drawn
        atoms = sum(chance**2 for _, chance in single.law.atoms)
        smooth = max((collision(density, dtype) for _, density in single.law.smooth), default=0.0)
        equal = max(equal, min(atoms + smooth, 1.0))
    return _Draws(free, equal, min(8 * equal, 1.0))


def _is_rare(chance: float, free: int, count: int) -> bool:
    """Return whether no two of so many tensors agree by chance in so many elements, of which one may be given."""
    return (
        free > 1
        and chance < 1
        and math.log(max(count, 2) ** 2 / 2) + (free - 1) * math.log(chance) < math.log(CHANCE_OF_TWINS)
    )


# Samples ------------------------------------------------------------------------------------------------------


class _Samples(NamedTuple):
    """A few elements of each of some tensors.

    Args:
        rows: of the tensors.
        reach: how far the elements of each reach along the directions, whatever their sign and length.
        tolerance: how far rounding moves that in a scaled copy; 0 where such a one could be chance.
    """

    rows: list[int]
    reach: NDArray[np.float64]
    tolerance: float


def _samples_of_alike(slots: Slots, rows: Rows, tolerance: float) -> Iterator[tuple[Any, _Samples]]:
    """Yield samples of tensors that are alike, with what those have in common that are compared."""
    listed, tensors = rows.tolist(), slots.taken(rows).tensors
    first, computed = tensors[0], {*slots.computed}
    plain = PLAIN_TENSORS.issuperset(map(type, tensors)) and not computed.intersection(listed)
    if plain and first.numel() <= SMALL and not first.is_complex() and are_in_order(tensors):
        places = _sampled_places(first.numel())
        step = max((SERIAL - 1) // first.numel(), 1)
        chosen = [
            torch.stack(tensors[start : start + step]).detach().reshape(-1, first.numel())[:, places].cpu()
            for start in range(0, len(tensors), step)
        ]
        values = torch.cat(chosen).to(torch.float64).numpy()
        yield (first.numel(), first.dtype, None), _Samples(listed, _reach_along_directions(values), tolerance)
        return
    for row in listed:
        whole = value_of(slots[row])
        if whole.layout == torch.strided and not whole.is_quantized:
            held = _values(slots, row)
            kind = (held.numel(), held.dtype, region_of(whole))
            yield kind, _Samples([row], _reach_along_directions(_sample_of(held)[None]), tolerance)


def _values(slots: Slots, row: int) -> Tensor:
    values = local_of(value_of(slots[row])).detach()
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def _sample_of(values: Tensor) -> NDArray[np.float64]:
    words = values.resolve_neg().view(WORD_DTYPES[values.element_size()])
    chosen = torch.take(words, _sampled_places(values.numel()).to(values.device)).view(values.dtype)
    found: NDArray[np.float64] = chosen.cpu().to(torch.float64).numpy()
    return found


@lru_cache(maxsize=256)
def _sampled_places(count: int) -> Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(SAMPLED, count)).astype(np.int64)))


def _reach_along_directions(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far rows of elements, brought to unit length, reach along directions; NaN of what has no length."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        units = values / np.sqrt(np.vecdot(values, values))[:, None]
        found: NDArray[np.float64] = np.abs(np.stack([np.vecdot(units, way) for way in _directions(units.shape[1])], 1))
    return found


@lru_cache(maxsize=64)
def _directions(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(count).normal(size=(DIRECTIONS, count))


def _families(several: Sequence[_Samples]) -> Iterator[tuple[list[int], bool]]:
    """Yield rows of tensors that seem to be copies of each other, two or more at a time, and whether by a factor."""
    reaches = np.concatenate([samples.reach for samples in several])
    rows = [row for samples in several for row in samples.rows]
    tolerances = np.concatenate([np.full(len(samples.rows), samples.tolerance) for samples in several])
    families: dict[bytes, list[int]] = {}
    for place in np.flatnonzero(np.isfinite(reaches).all(1)).tolist():
        # What is equal, negated or scaled by a power of 2 agrees to the bit.
        families.setdefault(reaches[place].tobytes(), []).append(place)
    merged: list[list[int]] = []
    firsts: list[float] = []
    for family in sorted(families.values(), key=lambda family: float(reaches[family[0], 0])):
        head, tolerance = reaches[family[0]], tolerances[family[0]]
        near = bisect_left(firsts, float(head[0]) - tolerance)
        for other in merged[near:]:
            if np.abs(reaches[other[0]] - head).max() <= tolerance:
                other += family
                break
        else:
            merged.append(family)
            firsts.append(float(head[0]))
    for family in merged:
        if len(family) > 1:
            yield [rows[place] for place in family], bool((tolerances[family] > 0).all())


# In full ------------------------------------------------------------------------------------------------------


def _how(original: Tensor, copy: Tensor, *, scaled: bool) -> str | None:
    """Return in what way one tensor is a copy of another; None where it is not."""
    original = original.reshape(copy.shape) if original.shape != copy.shape else original
    if _agree(original, copy, lambda one, other: np.array_equal(one, other)):
        return "equals {}"
    if _agree(original, copy, lambda one, other: np.array_equal(-one, other)):
        return "is {} negated"
    if not scaled:
        return None
    one, other = (
        values.reshape(-1)[_sampled_places(copy.numel()).to(copy.device)].double() for values in (original, copy)
    )
    largest = int(one.abs().argmax())
    factor, eps, smallest = float(other[largest] / one[largest]), torch.finfo(copy.dtype).eps, finest(copy.dtype)

    def is_scaled(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
        return bool((np.abs(one * factor - other) <= 4 * eps * np.abs(other) + smallest).all())

    return f"is {factor:.6g} times {{}}" if _agree(original, copy, is_scaled) else None


def _agree(original: Tensor, copy: Tensor, agrees: Callable[[NDArray[np.float64], NDArray[np.float64]], bool]) -> bool:
    return all(
        agrees(*(array_of(piece.resolve_neg().reshape(-1).cpu().to(torch.float64)) for piece in (one, other)))
        for one, other, _ in paired_pieces(original, copy)
    )
