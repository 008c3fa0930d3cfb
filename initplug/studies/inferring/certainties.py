"""Certainties: what values show beyond chance: one number, known tables, parts of one number, orthogonal vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from initplug.schemes.compositions import Batched, Drawn, Stacked
from initplug.schemes.distributions import Constant
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sparse import Sparse
from initplug.studies.drafting.spelling import is_short, spelled_number
from initplug.studies.inferring.round_numbers import snapped
from initplug.studies.inferring.samples import Sample
from initplug.studies.recording.recognition import recognised
from initplug.studies.recording.rows import constant_parts

SURE, MEANT, ODD, ALONE = 0.99, 0.95, 0.6, 0.1
"""The confidence in what is beyond chance; in one element of a number that a person writes down; in a number that
nobody would write down; in one element of any number."""

LARGE = 1 << 16
"""Elements from which tables are looked for only where something speaks for one."""


class Certainty(NamedTuple):
    """A thing that values show beyond chance.

    Args:
        drawn: what it is.
        confidence: in that.
    """

    drawn: Drawn
    confidence: float


def certainty(sample: Sample) -> Certainty | None:
    """Return what values show beyond chance; None where they vary by it, or where nothing is known of them.

    Example:
        >>> from initplug.studies.inferring.samples import sample_of
        >>> certainty(sample_of(torch.full((8,), 0.02, dtype=torch.bfloat16)))
        Certainty(drawn=Constant(value=0.02), confidence=0.99)
        >>> certainty(sample_of(torch.eye(4))).drawn.text
        'eye(gain=1)'
    """
    moments, tensor = sample.moments, sample.tensor
    if moments.min == moments.max:
        return _constant(sample)
    if _may_be_a_table(sample):
        table = recognised(tensor)
        drawn = table[0] if table is not None else None
        if drawn is None and sample.repeated > MOSTLY:
            drawn = constant_parts(tensor)
        if drawn is not None:
            return Certainty(drawn, SURE)
    found = _sparse(sample) or next(_orthogonal(tensor), None)
    return None if found is None else Certainty(found, SURE)


def _constant(sample: Sample) -> Certainty | None:
    """Return a number that all elements are; one alone that nobody would write down may as well be drawn."""
    value = _written(sample.moments.min, sample.tensor.dtype)
    short = is_short(spelled_number(value, exactly=True))
    if sample.numel == 1:
        return Certainty(Constant(value), MEANT) if short else None
    return Certainty(Constant(value), SURE if short else ODD)


def _written(value: float, dtype: torch.dtype) -> float:
    """Return the shortest number that a dtype holds as a value."""
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if float(torch.tensor(short, dtype=dtype).double()) == value:
            return short
    return value


MOSTLY = 0.5
"""The share of elements that equal another, beyond which values are no draw from a density."""


def _may_be_a_table(sample: Sample) -> bool:
    """Return whether tables are to be looked for: of a large tensor where elements repeat, or reach 1."""
    largest = max(abs(sample.moments.min), abs(sample.moments.max))
    return sample.numel <= LARGE or sample.repeated > MOSTLY or abs(largest - 1) < 1e-6


# Sparse ---------------------------------------------------------------------------------------------------------------


def _sparse(sample: Sample) -> Sparse | None:
    """Return a matrix of normal elements in whose columns the same number are zero."""
    tensor = sample.tensor
    if tensor.ndim != 2 or tensor.shape[0] < 2 or not 0 < (zeros := int((tensor[:, 0] == 0).sum())) < len(tensor):
        return None
    empty = tensor == 0
    if not bool((empty.sum(0) == zeros).all()):
        return None
    filled = int(tensor.numel() - empty.sum())
    if filled < LEAST_FILLED or bool(((~empty).sum(1) == 0).any() and tensor.shape[1] > LEAST_FILLED):
        return None  # rows of zeros are no chance
    rms = float(torch.linalg.vector_norm(tensor.double())) / math.sqrt(filled)
    return Sparse(snapped(rms, 3 / math.sqrt(2 * filled)), snapped(zeros / len(tensor), 0.5 / len(tensor)), len(tensor))


LEAST_FILLED = 16
"""Elements that tell a deviation at least roughly."""


# Orthogonal -----------------------------------------------------------------------------------------------------------

VECTORS = 32
"""Vectors of a matrix that are compared with each other."""

PARTS = (4, 3, 2)
"""Numbers of parts, as gates or projections have, that are looked at for orthogonal matrices: four make two, too."""


def _orthogonal(tensor: Tensor) -> Iterator[Drawn]:
    """Yield the orthogonal matrix that a tensor is, or those that it is made of."""
    if tensor.ndim < 2:
        return
    rows, columns = tensor.shape[0], tensor[0].numel()
    if rows > columns:  # parts that are orthogonal make a whole that is, not the other way round
        yield from _orthogonal_parts(tensor)
    gain = _gain(tensor)
    if gain is not None:
        yield Orthogonal(gain, rows, columns)
    if tensor.ndim > 2:  # a matrix for each index of the first dimension
        one = _gain(tensor[0])
        rows, columns = tensor.shape[1], tensor[0, 0].numel()
        if one is not None and min(rows, columns) > 1 and all(_gain(part) == one for part in tensor[1:VECTORS]):
            yield Batched(Orthogonal(one, rows, columns), 1)
    yield from _orthogonal_parts(tensor)


def _orthogonal_parts(tensor: Tensor) -> Iterator[Stacked]:
    for count in PARTS:
        if tensor.shape[0] % count or tensor.shape[0] < 2 * count:
            continue
        held = []
        for piece in tensor.chunk(count):
            one = _gain(piece)
            if one is None:
                break
            held.append(Orthogonal(one, len(piece), piece[0].numel()))
        else:
            yield Stacked(tuple(held), 0)


def _gain(tensor: Tensor) -> float | None:
    """Return the length of the vectors of a matrix, of rows or columns whichever are fewer, if they are orthogonal."""
    matrix = tensor.flatten(1)
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    count, size = matrix.shape
    if size < 2:
        return None
    near = max(1e-5, 8 * float(torch.finfo(tensor.dtype).eps) / math.sqrt(size))
    mean = 0.0
    for most in (2, VECTORS):  # two tell nearly always
        chosen = matrix[:: max(1, count // most)][:most].double().cpu().numpy()
        products = chosen @ chosen.T
        mean = float(products.diagonal().mean())
        if not mean or float(np.abs(products - mean * np.eye(len(chosen))).max()) > near * mean:
            return None
    gain = snapped(math.sqrt(mean), near)
    if gain == math.sqrt(mean):
        gain = math.sqrt(snapped(mean, near))
    return gain if count > 1 or (is_short(spelled_number(gain**2), digits=2) and size > 3) else None
