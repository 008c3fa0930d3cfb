"""Owners of tensors: values as they compute them, their setters, rehearsed on copies first, and proof of arrival."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from initplug.columns import Rows
from initplug.errors import first_line
from initplug.filling.sharding import is_sharded
from initplug.planning.parametrized import Computed, computed_by_list, evaluating, originals, vectors_of
from initplug.planning.slots import Slot, Slots, Tree

# Rehearsing ---------------------------------------------------------------------------------------------------


def rehearsed(slot: Slot, fill: Callable[[Tensor], object]) -> bool | str:
    """Return whether a computed slot would read what was written, tried on copies; or why it cannot be written.

    Args:
        slot: whose owner computes it. Neither it nor a global generator is moved.
        fill: gives a tensor the values that would be written.
    """
    read = rehearsal(slot, fill)
    return read if isinstance(read, str) else read.kept


class Rehearsal(NamedTuple):
    """The value that a computed slot would read as after a write.

    Args:
        value: what it would be given.
        read: what its owner would make of it.
        kept: whether that is the same, to rounding, as far as is known.
    """

    value: Tensor
    read: Tensor
    kept: bool


def rehearsal(slot: Slot, fill: Callable[[Tensor], object]) -> Rehearsal | str:
    """Return what a computed slot would read as after a write, tried on copies; or why it cannot be written.

    Args:
        slot: whose owner computes it. Neither it nor a global generator is moved.
        fill: gives a tensor the values that would be written.
    """
    assert slot.computed is not None  # only what is computed needs a rehearsal
    device = torch.device("cpu") if slot.on_meta else slot.stored[0].device
    with torch.no_grad(), generators_kept(device):
        try:
            copied, known = _computation_over_copies(slot.computed)
            value = _own(computed_value(copied))
            fill(value)
            assign(copied, value.clone())
            read = computed_value(copied)
        except Exception as error:  # parametrizations are the model's own code, which may raise anything
            return f"it cannot be assigned: {first_line(error)[:200]}"
    if read.shape != slot.tensor.shape:
        return f"assigning gives it the shape {tuple(read.shape)}"
    if not known:
        return Rehearsal(value, read, kept=True)
    if not torch.isfinite(read).all():
        kind = type(slot.computed.by[0] if isinstance(slot.computed.by, ParametrizationList) else slot.computed.by)
        return f"{kind.__name__.lstrip('_')} makes it infinite or NaN"
    return Rehearsal(value, read, same(read, value))


def _computation_over_copies(computed: Computed) -> tuple[Computed, bool]:
    """Return the same computation over copies of what is stored, on the CPU for what is on meta.

    Returns:
        The copy, and whether it has all values: a parametrization's own tensors on meta have none yet.
    """
    if isinstance(computed.by, ParametrizationList):
        by = copy.deepcopy(computed.by)
        known = True
        copied = computed_by_list(computed.owner, computed.key, by)
        written = {id(tensor) for tensor in (*copied.stored, *vectors_of(copied))}
        for part in by.modules():
            for held in (part._parameters, part._buffers):
                for key, tensor in held.items():
                    if tensor is not None and tensor.is_meta:
                        known = known and id(tensor) in written
                        held[key] = _zeros(tensor)
        return computed_by_list(computed.owner, computed.key, by), known
    owner = nn.Module()
    for held in (computed.owner._parameters, computed.owner._buffers):
        for key, tensor in held.items():
            if tensor is not None and key.startswith(f"{computed.key}_"):
                owner.register_buffer(key, _zeros(tensor) if tensor.is_meta else tensor.detach().clone())
    return Computed(computed.key, owner, computed.by, ()), True


def _zeros(tensor: Tensor) -> Any:
    """Return zeros on the CPU in the place of a tensor on meta; a parameter, if it is one."""
    zeros = torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
    return nn.Parameter(zeros, requires_grad=False) if isinstance(tensor, nn.Parameter) else zeros


_KEEPING = threading.RLock()


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Leave the global generators as they were, those of a device included, whatever draws.

    One thread at a time: another's would be put back with what this one has drawn.
    """
    with _KEEPING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


# Reading and writing ------------------------------------------------------------------------------------------


def blank(slot: Slot) -> Tensor:
    """Return a tensor of what a computed slot reads as, to be filled: parts that are kept stay."""
    return _own(value_of(slot))


def _own(value: Tensor) -> Tensor:
    """Return a copy in row-major order, in which torch draws the same whatever the layout of the original."""
    return value.detach().clone(memory_format=torch.contiguous_format)


def value_of(slot: Slot) -> Tensor:
    """Return the tensor of a slot as it stands, computed if its owner computes it."""
    return slot.tensor if slot.computed is None else computed_value(slot.computed)


def needs_others(slot: Slot) -> bool:
    """Return whether reading a slot takes what other ranks hold: one that is computed from sharded tensors."""
    return slot.computed is not None and any(is_sharded(tensor) for tensor in slot.stored)


def computed_value(computed: Computed) -> Tensor:
    """Return what an owner computes, read in evaluation mode, so that reading changes nothing."""
    owner, by = computed.owner, computed.by
    value: Any
    with torch.no_grad():
        match by:
            case ParametrizationList():
                with evaluating(by):
                    value = by()
            case SpectralNorm():
                value = by.compute_weight(owner, do_power_iteration=False)
            case WeightNorm():
                value = by.compute_weight(owner)
            case BasePruningMethod():
                value = by.apply_mask(owner)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if not isinstance(value, Tensor):  # which torch demands of each of them, unless it is told not to look
        raise TypeError(f"{computed.key} is computed as {type(value).__name__} and no tensor")
    return value


def assign(computed: Computed, value: Tensor) -> None:
    """Give a computed tensor a value through its owner's setter, and bring up to date what hangs on it.

    Source: torch.nn.utils.parametrize, ParametrizationList.right_inverse.
    """
    owner, by, key = computed.owner, computed.by, computed.key
    with torch.no_grad():
        if isinstance(by, ParametrizationList):
            _set_originals(by, value)
        elif isinstance(by, WeightNorm):
            getattr(owner, f"{key}_g").copy_(torch.norm_except_dim(value, 2, by.dim))
            getattr(owner, f"{key}_v").copy_(value)
        else:
            getattr(owner, f"{key}_orig").copy_(value)
        refresh(computed)


def _set_originals(by: ParametrizationList, value: Tensor) -> None:
    """Give what parametrizations store its values in the memory that it has, which others may share.

    The setter itself gives it the memory of what comes out of `right_inverse`.
    """
    former = [(tensor, tensor.detach()) for tensor in originals(by).values()]
    by.right_inverse(value)
    for tensor, memory in former:
        if tensor.shape == memory.shape and tensor.dtype == memory.dtype and not tensor.is_set_to(memory):
            memory.copy_(tensor)
            tensor.data = memory


def refresh(computed: Computed) -> None:
    """Bring up to date what an owner derives from a stored tensor: singular vectors, attributes of older hooks."""
    owner, by, key = computed.owner, computed.by, computed.key
    with torch.no_grad():
        if isinstance(by, ParametrizationList):
            _refresh_singular_vectors(by)
            return
        if isinstance(by, SpectralNorm):
            matrix = by.reshape_weight_to_matrix(getattr(owner, f"{key}_orig"))
            _write_dominant_vectors(matrix, getattr(owner, f"{key}_u"), getattr(owner, f"{key}_v"))
        setattr(owner, key, computed_value(computed))


def _refresh_singular_vectors(by: ParametrizationList) -> None:
    """Write the singular vectors of spectral norms, which belong to the weight that was there before."""
    if not any(isinstance(part, _SpectralNorm) for part in by):
        return
    with evaluating(by):
        value: Any = tuple(originals(by).values())
        for part in by:
            if isinstance(part, _SpectralNorm) and value[0].ndim > 1:
                _write_dominant_vectors(part._reshape_weight_to_matrix(value[0]), part._u, part._v)
            value = (part(*value),)


STEPS = 64
"""Products with a matrix and its transpose after which its largest singular value is known to 1e-4 or better."""


def _write_dominant_vectors(matrix: Tensor, left: Tensor, right: Tensor) -> None:
    """Write the singular vectors of the largest singular value, by the method of Lanczos.

    The power method, by which torch finds them at registration, leaves 2 % after its 15 rounds and still 0.5 % after
    100. The space that its rounds go through has the vectors in it after 64, to single precision. It starts from fixed
    numbers, so that they depend on the matrix alone.

    Source: Golub and Van Loan, Matrix Computations, 4th edition, section 10.4.
    """
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    if not torch.isfinite(matrix).all():  # whose decomposition raises; reading the weight tells what is wrong
        left.fill_(math.nan)
        return
    largest = matrix.abs().max()
    matrix = matrix / largest.clamp(min=torch.finfo(largest.dtype).tiny)  # or squares are infinite, or zero
    start = torch.linspace(1, 2, len(matrix), device=matrix.device).to(matrix.dtype)
    vector = nn.functional.normalize(torch.mv(matrix.mH, start), dim=0)
    basis = vector[:, None]
    for _ in range(min(STEPS, *matrix.shape) - 1):
        image = torch.mv(matrix.mH, nn.functional.normalize(torch.mv(matrix, vector), dim=0))
        rest = image - basis @ (basis.mH @ image)
        rest -= basis @ (basis.mH @ rest)  # once more, for what rounding has left
        if rest.norm() <= SPANNED * image.norm():
            break
        vector = nn.functional.normalize(rest, dim=0)
        basis = torch.cat([basis, vector[:, None]], dim=1)
    lefts, _, rights = torch.linalg.svd(matrix @ basis, full_matrices=False)
    left.copy_(lefts[:, 0])
    right.copy_(basis @ rights[0].conj())


SPANNED = 1e-6
"""The share of a vector that is rounding: what it points to is in the space already."""


# Proof --------------------------------------------------------------------------------------------------------


def arrived(tree: Tree, slot: Slot) -> bool:
    """Return whether every owner of a tensor still holds the very one that was written."""
    computing = {(id(one.owner), one.key) for one in (slot.computed, *slot.also) if one is not None}
    for _, key, node in slot.places:
        module = tree.nodes[node].module
        held = module._parameters if slot.kind == "parameter" else module._buffers
        if (id(module), key) not in computing and held.get(key) is not slot.stored[0]:
            return False
    return True


def in_place(holder: Mapping[str, Any], key: str, tensor: Tensor) -> bool:
    """Return whether an owner still holds a tensor."""
    return holder.get(key) is tensor


def strayed(tree: Tree, slots: Slots, rows: Rows) -> int | None:
    """Return the first of the rows whose owners do not all hold the very tensor that was written."""
    chosen = slots if len(rows) == len(slots) else slots.taken(np.sort(rows))
    rare = {*slots.tied, *slots.computed}
    if not rare and all(map(is_, map(dict.get, chosen.holders, chosen.keys), chosen.tensors)):
        return None
    return next((row for row in rows.tolist() if not arrived(tree, slots[row])), None)


def reads_back(slot: Slot, value: Tensor) -> bool:
    """Return whether every owner that computes a slot computes what it was given."""
    return all(same(computed_value(one), value) for one in (slot.computed, *slot.also) if one is not None)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same values up to the rounding of a computation.

    Example:
        >>> same(torch.ones(2), torch.ones(2) * (1 + 1e-7)), same(torch.ones(2), torch.zeros(2))
        (True, False)
    """
    one, other = one.detach(), other.detach()
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not (one.is_floating_point() or one.is_complex()) or not one.numel():
        return bool(torch.equal(one, other))
    tolerance = 64 * torch.finfo(one.dtype).eps
    return bool(torch.allclose(one, other, rtol=tolerance, atol=tolerance * one.detach().abs().max().item()))
