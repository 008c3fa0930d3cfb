"""Faults of slots beyond their own moments: repetition, order, bounds, sums over many, copies of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from initplug.auditing.moments import SINGLE, Measured, Moments, measure
from initplug.auditing.pools import judged_in_pools
from initplug.auditing.repetition import repetition
from initplug.auditing.verdicts import NOT_FINITE, Judgement, cast, far_bounds, judgement, most_on_a_bound
from initplug.columns import Rows
from initplug.filling.cuts import SERIAL
from initplug.filling.order import BEGINNING, order
from initplug.filling.owners import needs_others, value_of
from initplug.filling.sharding import local_of, local_row, region_of
from initplug.filling.tally import Verdicts
from initplug.filling.twins import judged_as_twins
from initplug.filling.work import Work
from initplug.filling.writable import are_in_order
from initplug.planning.assignment import Share
from initplug.planning.slots import PLAIN_TENSORS, Slots
from initplug.schemes.compositions import Batched, Stacked
from initplug.schemes.distributions import Elementwise
from initplug.schemes.structures.base import Structured


def measured_of(tensor: Tensor, share: Share, without: Collection[float] = (), threads: int = 1) -> Moments | None:
    """Measure what this rank holds of a tensor, less some values; return None where torch cannot compute with it."""
    if tensor.layout != torch.strided:
        return None
    try:
        return measure(local_of(tensor), local_row(tensor, share.padding_row), without, threads)
    except (NotImplementedError, RuntimeError, TypeError):  # packed dtypes that torch stores and cannot compute with
        return None


def look_at_bounds(work: Work, found: Verdicts) -> Measured:
    """Return the moments without elements on a bound that draws do not come to; judge anew what has such elements."""
    trimmed = Measured(found.measured.table.copy())
    table, tested = trimmed.table, found.mask("ok", "differs")
    shares = work.plan.shares
    rows = np.flatnonzero(tested & shares.mask(lambda share: _is_cut(share.distribution)))
    low, high, steps = shares.taken(rows).packed().each(_bounds_held).table(3).T
    with np.errstate(invalid="ignore"):  # of infinite elements
        at_low, at_high = (
            np.isfinite(bound) & (np.abs(table[side][rows] - bound) <= steps * np.abs(bound))
            for side, bound in (("min", low), ("max", high))
        )
    for row in rows[at_low | at_high].tolist():
        share = shares[row]
        again = partial(measured_of, value_of(work.slots[row]), share)
        rest, judged = beside_bounds(share.distribution, trimmed[row], getattr(torch, share.dtype), again)
        if judged is not None:
            trimmed[row] = rest
            found.settle(row, judged)
    return trimmed


def _bounds_held(share: Share) -> tuple[float, float, float]:
    """Return the bounds of draws, as the dtype holds them, and how near to these an element is on them."""
    distribution, dtype = share.distribution, getattr(torch, share.dtype)
    assert _is_cut(distribution)  # others have none to look at
    return cast(distribution.low, dtype), cast(distribution.high, dtype), _steps(dtype)


def _steps(dtype: torch.dtype) -> float:
    """Return two steps from a number of a dtype to the next, relative to it: of draws that are scaled afterwards."""
    return 2 * torch.finfo(dtype).eps if dtype.is_floating_point or dtype.is_complex else 0.0


def _is_cut(distribution: object) -> TypeGuard[Elementwise]:
    """Return whether draws are cut at bounds, which may lie where none comes to."""
    return isinstance(distribution, Elementwise) and distribution.sampling.cut is not None


def beside_bounds(
    distribution: object,
    moments: Moments | None,
    dtype: torch.dtype,
    again: Callable[[Collection[float]], Moments | None],
) -> tuple[Moments | None, Judgement | None]:
    """Return the moments of a tensor without elements on a bound that draws do not come to, and what these say of it.

    Args:
        distribution: of every element; of no other than a truncated normal anything is said.
        moments: of all elements.
        dtype: of them.
        again: measures the tensor without some values.

    Source: timm's trunc_normal_ takes the inverse of a uniform number which is 0 once in 2^24, and cuts it at a bound.
    """
    if moments is None or not _is_cut(distribution):
        return moments, None
    ends, bounds = (moments.min, moments.max), far_bounds(distribution.law, moments.numel, dtype)
    far = [end for end in ends if any(math.isclose(end, bound, rel_tol=_steps(dtype)) for bound in bounds)]
    rest = again(far) if far else None
    if rest is None:
        return moments, None
    judged, count = judgement(distribution, rest, dtype), moments.numel - rest.numel
    if count > most_on_a_bound(moments.numel):
        problem = f"{count:,} elements are {far[0]:.6g}, the bound itself"
        judged = Judgement("differs", "; ".join(filter(None, (problem, judged.problem))))
    return rest, judged


def look_for_numbers(work: Work, found: Verdicts) -> None:
    """Judge what is not tested otherwise by whether it holds numbers; a buffer, such as a mask, may be infinite."""
    table = found.measured.table
    held = (table["numel"] > 0) & work.statuses.mask(lambda status: status in ("initialized", "read", "kept"))
    left = held & ~found.mask("differs") & ~(np.isfinite(table["min"]) & np.isfinite(table["max"]))
    for row in np.flatnonzero(left).tolist():
        if work.plan.shares[row].kind == "parameter" or math.isnan(table["min"][row]):
            found.add(row, Judgement("differs", NOT_FINITE))


def look_through(work: Work, found: Verdicts) -> None:
    """Judge what is read, and not known by other means, by what repeats itself in it and by its order."""
    left = work.statuses.mask(lambda status: status == "read") & ~found.mask("exact", "untestable")
    rows = np.flatnonzero(left & (found.measured.table["std"] != 0))
    for share, group in work.plan.shares.taken(rows).groups():
        for row in _worth_a_look(work.slots, rows[group], share).tolist():
            seen = _seen(value_of(work.slots[row]), share)
            if seen is not None:
                found.add(row, Judgement("differs", seen))


FEW_ELEMENTS = 512
"""Elements up to which tensors that are alike are first looked at all at once."""


def _worth_a_look(slots: Slots, rows: Rows, share: Share) -> Rows:
    """Return the rows of tensors, all alike, in which something may repeat itself, or be in order."""
    tensors = slots.taken(rows).tensors
    small = 1 < share.numel <= FEW_ELEMENTS and share.padding_row is None and getattr(torch, share.dtype) in SINGLE
    plain = PLAIN_TENSORS.issuperset(map(type, tensors)) and not {*slots.computed}.intersection(rows.tolist())
    if not small or not plain or not are_in_order(tensors):
        return rows
    found, step = [], max((SERIAL - 1) // share.numel, 1)
    for start in range(0, len(rows), step):
        values = torch.stack(tensors[start : start + step]).detach().to("cpu", torch.float32).reshape(-1, share.numel)
        lines = values.numpy()
        ordered = np.sort(lines, axis=1)
        repeats = (ordered[:, 1:] == ordered[:, :-1]).any(1)
        inner = share.numel // share.shape[0] if share.shape else 1
        for line in (lines[:, : min(inner if inner > 1 else share.numel, BEGINNING)], lines[:, ::inner][:, :BEGINNING]):
            before, after = line[:, :-1], line[:, 1:]
            repeats |= (before <= after).all(1) | (before >= after).all(1) if after.shape[1] else False
        found.append(rows[start : start + step][repeats])
    return np.concatenate(found)


def _seen(tensor: Tensor, share: Share) -> str | None:
    """Return what repeats itself in a tensor, or its order; of a sharded one in what this rank holds."""
    if region_of(tensor) is not None and isinstance(share.distribution, Stacked | Structured | Batched):
        return None  # which take all of it
    local, row = local_of(tensor), local_row(tensor, share.padding_row)
    return repetition(local, share.distribution, row) or order(local, share.distribution, row)


def look_at_pools(work: Work, trimmed: Measured, found: Verdicts) -> None:
    """Judge together what each by itself is as planned."""
    drawn = work.statuses.mask(lambda status: status in ("initialized", "read")) & found.mask("ok")
    for row, judged in judged_in_pools(work.plan.shares, trimmed, np.flatnonzero(drawn)).items():
        found.note(row, judged)


def look_for_twins(work: Work, found: Verdicts) -> None:
    """Judge tensors that are copies of each other."""
    slots = work.slots
    kept = (found.measured.table["std"] == 0) | ~work.statuses.mask(lambda status: status == "read")
    kept[[*work.projecting]] = True
    kept[[row for row in slots.computed if slots[row].on_meta or needs_others(slots[row])]] = True
    kept |= found.measured.table["numel"] == 0  # on meta, or nothing that torch computes with
    rows = np.flatnonzero(~kept)
    exact = {*np.flatnonzero(found.mask("exact")).tolist()}
    for row, judged in judged_as_twins(slots, work.plan.shares, rows, exact).items():
        found.add(row, judged)
