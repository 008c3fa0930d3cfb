"""Tensors that can be written and read, and why others cannot."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from initplug.filling.sharding import is_sharded, local_of, unplaceable
from initplug.planning.opaque import opaque
from initplug.planning.slots import PLAIN_TENSORS, Slot, Slots


def doubtful(slots: Slots) -> Iterable[Slot]:
    """Return the slots that are no ordinary tensors in order, as nearly all are: their `refusal` is to be asked for."""
    if not slots.computed and slots.plain and are_in_order(slots.tensors):
        return ()
    plain = ((slot, slot.computed is None and slot.kin.plain) for slot in slots)
    return (slot for slot, is_plain in plain if not is_plain or not are_in_order([slot.tensor]))


def are_in_order(tensors: Sequence[Tensor]) -> bool:
    """Return whether plain tensors are all in order: a question at a time for all of them."""
    return (
        {*map(LAYOUT, tensors)} <= {torch.strided}
        and all(map(Tensor.is_contiguous, tensors))
        and not any(map(Tensor.is_inference, tensors))
        and not any(map(IS_NESTED, tensors))
    )


LAYOUT, IS_NESTED = attrgetter("layout"), attrgetter("is_nested")


def refusal(slot: Slot) -> str | None:
    """Return why a slot cannot be written; None if it can, as far as is known without trying."""
    for tensor in slot.stored:
        reason = unwritable(tensor)
        if reason is not None:
            return reason
    if slot.computed is not None and any(is_sharded(tensor) for tensor in slot.stored):
        way = "initialise before sharding" if slot.on_meta else "initialise before sharding, or `keep` it"
        return f"its owner computes it from sharded tensors: {way}"
    if slot.computed is not None and isinstance(slot.computed.by, ParametrizationList):
        for parametrization in slot.computed.by:
            if not hasattr(parametrization, "right_inverse"):
                kind = type(parametrization).__name__
                way = "build the model with memory and `keep` it" if slot.on_meta else "`keep` it"
                return f"its parametrization {kind} has no right_inverse, so that nothing can be assigned; {way}"
    return None


def unwritable(tensor: Tensor) -> str | None:
    """Return why a tensor cannot be filled in place; None if it can."""
    if is_sharded(tensor):
        return unplaceable(tensor) or unwritable(local_of(tensor))
    reason = untouchable(tensor)
    if reason is not None:
        return reason
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "it is an inference tensor: apply inside torch.inference_mode()"
    if not tensor.is_contiguous() and _overlaps(tensor):
        return "it is expanded: several elements share one place in memory"
    return None


def untouchable(tensor: Tensor) -> str | None:
    """Return why the elements of a tensor can neither be written nor read; None if they can, and of a DTensor."""
    reason = opaque(tensor)
    if reason is None and _has_own_operations(tensor) and not (tensor.is_meta or is_sharded(tensor) or _obeys(tensor)):
        return f"it is a {type(tensor).__name__}, whose operations are its own"
    return reason


def _has_own_operations(tensor: Tensor) -> bool:
    """Return whether the class of a tensor has a say in what torch's operations do."""
    if type(tensor) in PLAIN_TENSORS:
        return False
    own: Any = type(tensor)
    ways = {getattr(way, "__func__", way) for way in (own.__torch_function__, own.__torch_dispatch__)}
    return not ways <= TORCHS_OWN


TORCHS_OWN = frozenset(
    getattr(way, "__func__", way)
    for one in (Tensor, nn.Parameter)
    for way in (one.__torch_function__, one.__torch_dispatch__)
)
"""The methods that decide what operations do, unless a class of tensors has its own."""


def _obeys(tensor: Tensor) -> bool:
    """Return whether a tensor with operations of its own takes values, keeps and tells them, tried on a copy."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may warn of whatever they lack
            tried = tensor.detach().clone()
            torch._foreach_copy_([tried], [torch.ones(tried.shape, dtype=tried.dtype, device=tried.device)])
            ones: Any = torch.stack([tried])
            return tried.data_ptr() != 0 and bool((ones == 1).all()) and tensor.detach().shape == tried.shape
    except Exception:  # they are others' own code, which may raise anything
        return False


def _overlaps(tensor: Tensor) -> bool:
    """Return whether two elements lie in one place: a stride that does not step over all that lies within."""
    reach = 0
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False
