"""Elements that rise or fall from one to the next, as no independent draws do."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.auditing.moments import MEASURED_AT_A_TIME, array_of
from initplug.schemes.compositions import Planned, parts_of
from initplug.schemes.distributions import Elementwise

CHANCE_OF_ORDER = 1e-12
"""How probable it may be, at most, that independent draws come in the order that they are found in."""


def order(tensor: Tensor, distribution: Planned | None, padding_row: int | None = None) -> str | None:
    """Return the order of elements in a tensor that was to be drawn one by one; None where they are in no order.

    Args:
        tensor: with values.
        distribution: what was to be drawn; of others than independent elements nothing is said.
        padding_row: a row that nothing draws.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> values = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        >>> order(values.sort(dim=1).values, Normal(0.0, 1.0))
        'the elements of every row rise'
        >>> order(values, Normal(0.0, 1.0))
    """
    independent = all(isinstance(part, Elementwise) and part.law.continuous for part in parts_of(distribution))
    if not independent or tensor.layout != torch.strided or tensor.is_complex() or tensor.numel() < 2:
        return None
    tensor = tensor.detach()
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    parts = [tensor] if padding_row is None else [tensor[:padding_row], tensor[padding_row + 1 :]]
    parts = [part for part in parts if part.numel()]
    if not parts or not any(_begins_in_order(line) for line in _beginnings(parts[0])):
        return None  # nearly always
    for word, sign in (("rise", 1.0), ("fall", -1.0)):
        if all(_rises(lines, sign) for part in parts for lines in _row_pieces(part)):
            if _is_improbable(lines for part in parts for lines in _row_pieces(part)):
                joined = all(_rises(ends, sign) for part in parts for ends in _seams(part))
                return f"its elements {word} from first to last" if joined else f"the elements of every row {word}"
        elif all(_rises(lines, sign) for part in parts for lines in _columns(part)) and _is_improbable(
            lines for part in parts for lines in _columns(part, whole=True)
        ):
            return f"the elements of every column {word}"
    return None


BEGINNING = 16
"""Elements that are looked at first."""


def _beginnings(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the first elements of the first row, and of the first column."""
    row, column = tensor[0], tensor[:BEGINNING]
    while row.ndim > 1 and row[0].numel() >= BEGINNING:
        row = row[0]
    yield (row[:BEGINNING] if row.ndim == 1 else row).reshape(-1)[:BEGINNING]
    while column.ndim > 1:
        column = column.select(1, 0)
    if len(column) > 1:
        yield column


def _begins_in_order(line: Tensor) -> bool:
    values = _as_doubles(line)
    return bool((values[:-1] <= values[1:]).all() or (values[:-1] >= values[1:]).all())


def _rises(lines: NDArray[np.float64], sign: float) -> bool:
    """Return whether no element of a line is below the one before it, once multiplied."""
    return bool((sign * lines[:, :-1] <= sign * lines[:, 1:]).all())


def _as_doubles(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = array_of(values.resolve_neg().cpu().to(torch.float64))
    return found


def _row_pieces(tensor: Tensor) -> Iterator[NDArray[np.float64]]:
    """Yield the rows in pieces of bounded size; a long one in stretches that begin where the one before ends."""
    inner = tensor.numel() // tensor.shape[0]
    step = max(MEASURED_AT_A_TIME // inner, 1)
    for start in range(0, tensor.shape[0], step):
        rows = tensor[start : start + step].reshape(-1, inner)
        for left in range(0, max(inner - 1, 1), MEASURED_AT_A_TIME):
            yield _as_doubles(rows[:, left : left + MEASURED_AT_A_TIME + 1])


def _seams(tensor: Tensor) -> Iterator[NDArray[np.float64]]:
    """Yield the last element of every row and the first of the next, side by side."""
    inner = tensor[0].numel()
    flat = tensor.reshape(tensor.shape[0], inner) if tensor.is_contiguous() else tensor.flatten(1)
    if len(flat) > 1:
        yield np.stack([_as_doubles(flat[:-1, -1]), _as_doubles(flat[1:, 0])], axis=1)


def _columns(tensor: Tensor, *, whole: bool = False) -> Iterator[NDArray[np.float64]]:
    """Yield the columns as lines, in pieces of bounded size.

    Args:
        tensor: with rows.
        whole: whether lines are whole columns; otherwise stretches of them that overlap.
    """
    count, inner = tensor.shape[0], tensor.numel() // tensor.shape[0]
    if count == 1:
        yield np.full((1, 2), np.nan)  # there is no next one
        return
    step = count if whole else max(MEASURED_AT_A_TIME // inner, 1)
    for start in range(0, count - 1, step):
        yield _as_doubles(tensor[start : start + step + 1].reshape(-1, inner)).T
        if whole:
            return


def _is_improbable(pieces: Iterator[NDArray[np.float64]]) -> bool:
    """Return whether independent draws hardly ever come in one order: equal ones may change places."""
    most, logarithm = math.log(CHANCE_OF_ORDER / 6), 0.0  # of two directions, and all elements, rows, or columns
    for lines in pieces:
        for line in lines:
            counts = np.unique(line, return_counts=True)[1].tolist()
            logarithm += math.fsum(math.lgamma(count + 1) for count in counts) - math.lgamma(len(line) + 1)
            if logarithm < most:
                return True
    return False
