"""Tensors that are copies of each other, though a plan draws them independently: equal, negated or scaled.

What is asked first is little and the same for all: a few elements of each tensor, brought to unit length, and how far
they reach along fixed directions. Neither a sign nor a factor changes that, and rounding hardly. Tensors that agree in
it are then compared in full, each with one other.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.filling.cutting import paired
from initplug.filling.repetition import WORDS, collision
from initplug.filling.sharding import local_of, region_of
from initplug.filling.writing import value_of
from initplug.judging import Judgement
from initplug.planning.evaluation import Share
from initplug.planning.slots import Slots
from initplug.schemes.distributions import Batched, Normal, Stacked, TruncatedNormal, Uniform
from initplug.schemes.structures import Orthogonal, Sparse

CHANCE = 1e-12
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


def judged_as_twins(
    slots: Slots, shares: Sequence[Share], rows: Sequence[int], exact: Container[int]
) -> dict[int, Judgement]:
    """Judgements of tensors that are copies, though they were to be independent.

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


def twins(
    slots: Slots,
    shares: Sequence[Share],
    rows: Sequence[int],
    exact: Container[int] | frozenset[int] = frozenset(),
) -> Iterator[Twin]:
    """The copies among tensors, each with its original: the one that is exact, or the first."""
    groups: dict[Any, list[_Sample]] = {}
    known: dict[Any, _Draws] = {}
    for row in rows:
        share = shares[row]
        if id(share) not in known:
            known[id(share)] = _draws(share)
        draws = known[id(share)]
        if draws.free > 1 and _is_rare(draws.equal, draws.free, len(rows)):
            scaled = _is_rare(draws.scaled, draws.free, len(rows))
            sample = _sample(row, slots, scaled)
            if sample is not None:
                groups.setdefault(sample.kind, []).append(sample)
    for group in groups.values():
        for family in _families(group):
            left = sorted(family, key=lambda member: (member.row not in exact, member.row))
            while left:
                original, *others = left
                left = []
                for member in others:
                    how = _how(_values(slots, original.row), _values(slots, member.row), scaled=member.tolerance > 0)
                    if how is None:
                        left.append(member)
                    elif member.row not in exact:
                        yield Twin(member.row, original.row, how)


# Chance -------------------------------------------------------------------------------------------------------


class _Draws(NamedTuple):
    """How probable it is that a draw repeats another.

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
    """What is known of a share's draws; nothing of what is constant, computed by others, or drawn in another way."""
    dtype: torch.dtype = getattr(torch, share.dtype)
    distribution = share.distribution
    parts = distribution.drawn if isinstance(distribution, Stacked) else [distribution]
    count = len(distribution.parts) if isinstance(distribution, Stacked) else 1
    if share.rule is None or not dtype.is_floating_point:
        return NOTHING
    free, equal = 0, 0.0
    for part in parts:
        size = share.numel // count
        single, zeros = part, 0.0
        if isinstance(part, Batched):
            single = part.part
        if isinstance(single, Sparse):
            zeros, single = 1 - single.filled, Normal(0.0, single.scale)
        if not isinstance(single, Normal | Uniform | TruncatedNormal | Orthogonal) or single.std == 0:
            continue
        # Orthonormal vectors are less free than their elements are many.
        free += max(size - min(single.rows, single.columns), 0) // 2 if isinstance(single, Orthogonal) else size
        equal = max(equal, min(zeros**2 + collision(single, dtype), 1.0))
    return _Draws(free, equal, min(8 * equal, 1.0))


def _is_rare(chance: float, free: int, count: int) -> bool:
    """Whether no two of so many tensors agree by chance in so many elements, of which one may be given."""
    return chance < 1 and math.log(max(count, 2) ** 2 / 2) + (free - 1) * math.log(chance) < math.log(CHANCE)


# Samples ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A few elements of a tensor.

    Args:
        row: of the tensor.
        kind: what tensors have in common that are compared.
        reach: how far the elements reach along the directions, whatever their sign and length.
        tolerance: how far rounding moves that in a scaled copy; 0 where such a one could be chance.
    """

    row: int
    kind: Any
    reach: NDArray[np.float64]
    tolerance: float


def _values(slots: Slots, row: int) -> Tensor:
    values = local_of(value_of(slots[row])).detach()
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def _sample(row: int, slots: Slots, scaled: bool) -> _Sample | None:
    whole = value_of(slots[row])
    if whole.layout != torch.strided or whole.is_quantized:
        return None
    values = _values(slots, row)
    places = _places(values.numel())
    if len(places) < 2:
        return None
    words = torch.take(values.resolve_neg().view(WORDS[values.element_size()]), places.to(values.device))
    chosen = words.view(values.dtype).cpu().to(torch.float64).numpy()
    length = math.sqrt(float(chosen @ chosen))
    if not 0 < length < math.inf:
        return None
    reach = np.abs(_directions(len(chosen)) @ (chosen / length))
    kind = (values.numel(), values.dtype, region_of(whole))
    return _Sample(row, kind, reach, 8 * torch.finfo(values.dtype).eps if scaled else 0.0)


def _places(count: int) -> Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(SAMPLED, count)).astype(np.int64)))


def _directions(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(count).normal(size=(DIRECTIONS, count))


def _families(samples: Sequence[_Sample]) -> Iterator[list[_Sample]]:
    """Tensors that seem to be copies of each other, in families of more than one."""
    families: dict[bytes, list[_Sample]] = {}
    for sample in samples:  # what is equal, negated or scaled by a power of 2 agrees to the bit
        families.setdefault(sample.reach.tobytes(), []).append(sample)
    ordered = sorted(families.values(), key=lambda family: float(family[0].reach[0]))
    merged: list[list[_Sample]] = []
    firsts: list[float] = []
    for family in ordered:
        head = family[0]
        near = bisect_left(firsts, float(head.reach[0]) - head.tolerance)
        for other in merged[near:]:
            if np.abs(other[0].reach - head.reach).max() <= head.tolerance:
                other += family
                break
        else:
            merged.append(family)
            firsts.append(float(head.reach[0]))
    return (family for family in merged if len(family) > 1)


# In full ------------------------------------------------------------------------------------------------------


def _how(original: Tensor, copy: Tensor, *, scaled: bool) -> str | None:
    """In what way one tensor is a copy of another; None where it is not."""
    original = original.reshape(copy.shape) if original.shape != copy.shape else original
    if _agree(original, copy, lambda one, other: np.array_equal(one, other)):
        return "equals {}"
    if _agree(original, copy, lambda one, other: np.array_equal(-one, other)):
        return "is {} negated"
    if not scaled:
        return None
    one, other = (values.reshape(-1)[_places(copy.numel()).to(copy.device)].double() for values in (original, copy))
    largest = int(one.abs().argmax())
    factor, limits = float(other[largest] / one[largest]), torch.finfo(copy.dtype)
    smallest = limits.smallest_normal * limits.eps

    def is_scaled(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
        return bool((np.abs(one * factor - other) <= 4 * limits.eps * np.abs(other) + smallest).all())

    return f"is {factor:.6g} times {{}}" if _agree(original, copy, is_scaled) else None


def _agree(original: Tensor, copy: Tensor, agrees: Callable[[NDArray[np.float64], NDArray[np.float64]], bool]) -> bool:
    return all(
        agrees(*(piece.reshape(-1).cpu().to(torch.float64).numpy() for piece in (one, other)))
        for one, other, _ in paired(original, copy)
    )
