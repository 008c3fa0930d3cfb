"""Repetition that moments do not show: rows that are equal or hold one value, and blocks that come several times over.

A row is an index of the first dimension with all that it holds, a column one of the second. Rows are told apart by
64-bit sums of their bits times random odd numbers, computed in chunks; those that look equal are compared in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from initplug.planning.dtypes import finest
from initplug.schemes.compositions import Batched, Planned, Stacked
from initplug.schemes.laws import Density, Distribution, Law
from initplug.schemes.structures.base import Structured

CHANCE_OF_REPETITION = 1e-10
"""Rows are compared only where a tensor that was drawn has equal ones with a smaller probability."""

SEARCHED_AT_A_TIME = (1 << 15) - 1
"""Elements looked at at a time: so few that torch adds them up in the calling thread."""

MOST_BLOCKS = 64
"""How many equal blocks are looked for: the shards of a dimension."""

WORD_DTYPES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of as many bytes as an element has."""


def repetition(tensor: Tensor, distribution: Planned | None, padding_row: int | None = None) -> str | None:
    """Return what repeats itself in a tensor that was to be drawn element by element; None where nothing does.

    Args:
        tensor: with values; its rows and columns are looked at, and those of the parts of a stacked one.
        distribution: what was to be drawn. Constants and structures that repeat themselves by design are passed over.
        padding_row: a row that nothing draws.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> values = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
        >>> repetition(torch.cat([values, values]), Normal(0.0, 1.0))
        'its rows are 2 equal blocks of 4'
        >>> repetition(values, Normal(0.0, 1.0))
    """
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.ndim == 0 or tensor.numel() == 0:
        return None
    if (
        isinstance(distribution, Stacked)
        and padding_row is None
        and not all(map(_is_drawn_at_random, distribution.parts))
    ):
        parts = distribution.parts
        lengths = distribution.lengths(tensor.shape[distribution.dim])
        pieces = zip(parts, torch.split(tensor, lengths, distribution.dim), strict=True)
        problems = [(place, repetition(piece, part)) for place, (part, piece) in enumerate(pieces, 1)]
        return next((f"part {place} of {len(parts)}: {problem}" for place, problem in problems if problem), None)
    drawn = distribution.drawn if isinstance(distribution, Stacked) else [distribution]
    varied = [part for part in drawn if _is_drawn_at_random(part)]
    if not drawn or len(varied) < len(drawn):
        return None
    if isinstance(distribution, Batched):
        tensor = tensor.flatten(0, distribution.dims)
    chance = max(collision(part.law, tensor.dtype) for part in varied)
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    # Orthonormal vectors leave one element of each no choice.
    fixed = 1 if any(isinstance(part, Batched | Structured) for part in drawn) else 0
    for sums in _sums(tensor, padding_row):
        free = tensor.numel() // tensor.shape[sums.dim] - fixed
        problem = _slices_repeated(tensor, sums, chance, free)
        if problem is not None:
            return problem
    return None


def _is_drawn_at_random(part: object) -> TypeGuard[Distribution]:
    """Return whether equal elements are a matter of chance."""
    return isinstance(part, Distribution) and not isinstance(part, Stacked) and part.law.continuous


def collision(law: Law | Density, dtype: torch.dtype) -> float:
    """Return how probable it is, at most, that two elements are equal: draws have 24 bits, dtypes their grid."""
    limits = torch.finfo(dtype)
    ends = (abs(value) for value in (law.mean, law.low, law.high) if math.isfinite(value))
    grid = finest(dtype) + limits.eps * max(ends, default=0.0)
    return min(1.0, max(limits.eps, 2.0**-23) + grid / law.std)


class _Sums(NamedTuple):
    """The sums that tell the slices of one dimension apart.

    Args:
        dim: the dimension.
        sums: of each slice, of its bits times random numbers.
        level: the sums that slices would have that hold their first element throughout.
        places: the index of each slice; a padding row has none.
    """

    dim: int
    sums: Tensor
    level: Tensor
    places: Tensor


def _sums(tensor: Tensor, padding_row: int | None) -> Iterator[_Sums]:
    """Yield the sums of rows, then of columns, from one pass."""
    rows, columns = tensor.shape[0], tensor.shape[1] if tensor.ndim > 1 else 1
    inner = math.prod(tensor.shape[2:])
    device = tensor.device
    by_row = _random(rows, 1).to(device, copy=padding_row is not None)
    by_place = _random(columns * inner, 2).to(device)
    by_inner = _random(inner, 3).to(device)
    if padding_row is not None:
        by_row[padding_row] = 0
    row_sums = torch.zeros(rows, dtype=torch.int64, device=device)
    column_sums = torch.zeros(columns, dtype=torch.int64, device=device)
    step = max(1, SEARCHED_AT_A_TIME // max(columns * inner, 1))
    width = max(1, SEARCHED_AT_A_TIME // inner) if step == 1 else columns
    for start in range(0, rows, step):
        for left in range(0, columns, width):
            chunk = tensor[start : start + step]
            chunk = chunk[:, left : left + width] if tensor.ndim > 1 else chunk
            words = _element_bits(chunk).reshape(len(chunk), -1, inner)
            places = by_place[left * inner : (left + words.shape[1]) * inner].view(words.shape[1:])
            row_sums[start : start + step] += (words * places).sum((1, 2))
            if columns > 1:
                weighted = words * by_inner if inner > 1 else words
                weighted = (weighted * by_row[start : start + step, None, None]).sum((0, 2))
                column_sums[left : left + width] += weighted
    kept = torch.arange(rows, device=device)
    if padding_row is not None:
        kept = kept[kept != padding_row]
    if len(kept) > 1:
        firsts = _element_bits(_firsts(tensor))
        yield _Sums(0, row_sums[kept], (firsts * by_place.sum())[kept], kept)
    if columns > 1 and len(kept):
        firsts = _element_bits(_firsts(tensor[int(kept[0])]))
        yield _Sums(1, column_sums, firsts * by_row.sum() * by_inner.sum(), torch.arange(columns, device=device))


def _firsts(tensor: Tensor) -> Tensor:
    """Return the first element of every row."""
    while tensor.ndim > 1:
        tensor = tensor.select(1, 0)
    return tensor


def _random(count: int, seed: int) -> Tensor:
    """Return odd numbers of 64 bits, the same at every call."""
    return _kept_random(count, seed) if count <= SEARCHED_AT_A_TIME else _fresh_random(count, seed)


@lru_cache(maxsize=64)
def _kept_random(count: int, seed: int) -> Tensor:
    return _fresh_random(count, seed)


def _fresh_random(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**62), 2**62, (count,), dtype=torch.int64, generator=generator) * 2 + 1


def _element_bits(values: Tensor) -> Tensor:
    """Return the bits of elements as whole numbers; both zeros have the same."""
    return (values + 0).view(WORD_DTYPES[values.element_size()]).long()


def _slices_repeated(tensor: Tensor, sums: _Sums, chance: float, free: int) -> str | None:
    """Return what repeats itself among the slices of a dimension."""
    count, dim = len(sums.sums), sums.dim
    word = "element" if tensor.ndim == 1 else ("row", "column")[dim]
    distinct = len(np.unique(sums.sums.cpu().numpy())) == count  # nearly always
    if not distinct and len(sums.places) == tensor.shape[dim]:
        for blocks in range(min(MOST_BLOCKS, count), 1, -1):
            period, rest = divmod(count, blocks)
            certain = _improbable(chance, free * (count - period), 1)
            if not rest and certain and _repeats(tensor, sums, period):
                return f"its {word}s are {blocks} equal blocks of {period}" if period > 1 else f"its {word}s are equal"
    problems = []
    level = torch.zeros(count, dtype=torch.bool, device=sums.sums.device)
    if _improbable(chance, free - 1, count):
        level = sums.sums == sums.level
        found = [place for place in sums.places[level].tolist() if _is_level(tensor.select(dim, place))]
        if found:
            value = tensor.select(dim, found[0]).flatten()[0].item()
            head = f"{len(found)} of {tensor.shape[dim]} {word}s hold one value: " if len(found) > 1 else ""
            problems.append(f"{head}{word} {found[0]} is {value + 0.0:.6g} throughout")
    if not distinct and _improbable(chance, free, count * (count - 1) / 2):
        pairs = _equal_slices(tensor, sums, ~level)
        if pairs:
            first, second = pairs[0]
            head = f"{len(pairs)} of {tensor.shape[dim]} {word}s equal an earlier one: " if len(pairs) > 1 else ""
            problems.append(f"{head}{word} {second} equals {word} {first}")
    return "; ".join(problems) or None


def _improbable(chance: float, elements: int, attempts: float) -> bool:
    """Return whether so many elements are all equal, in any of so many attempts, by no chance worth thinking of."""
    return elements > 0 and attempts * chance**elements < CHANCE_OF_REPETITION


def _repeats(tensor: Tensor, sums: _Sums, period: int) -> bool:
    if not torch.equal(sums.sums[period:], sums.sums[:-period]):
        return False
    size = tensor.shape[sums.dim] - period
    pairs = zip(*(_pieces_of_rows(tensor.narrow(sums.dim, start, size)) for start in (0, period)), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def _pieces_of_rows(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a tensor in pieces of bounded size, of whole rows."""
    step = max(1, SEARCHED_AT_A_TIME * tensor.shape[0] // max(tensor.numel(), 1))
    for start in range(0, tensor.shape[0], step):
        yield tensor[start : start + step]


def _is_level(piece: Tensor) -> bool:
    return bool((piece == piece.flatten()[0]).all())


def _equal_slices(tensor: Tensor, sums: _Sums, among: Tensor) -> list[tuple[int, int]]:
    """Return pairs (first, later) of slices that are equal, later ones ascending."""
    firsts: dict[int, int] = {}
    found: list[tuple[int, int]] = []
    for value, place in zip(sums.sums[among].tolist(), sums.places[among].tolist(), strict=True):
        first = firsts.setdefault(value, place)
        if first != place and torch.equal(tensor.select(sums.dim, first), tensor.select(sums.dim, place)):
            found.append((first, place))
    return found
