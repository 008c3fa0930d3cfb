"""Tensors whose elements torch's operations neither write nor read: what the tensor alone tells of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from initplug.columns import Coded
from initplug.errors import Finding, headed, warn
from initplug.planning.assignment import Share
from initplug.planning.slots import PLAIN_TENSORS, Slots
from initplug.schemes.compositions import Keep
from initplug.torch_versions import dtensor


def opaque(tensor: Tensor) -> str | None:
    """Return why the elements of a tensor can neither be written nor read; None if they can, and of a DTensor."""
    own = type(tensor) in PLAIN_TENSORS  # nearly always
    if not own and is_fake(tensor):
        return "it is a FakeTensor and holds no values"
    sharded = None if own else dtensor()
    if sharded is not None and isinstance(tensor, sharded):
        return None
    if tensor.is_nested:
        return "it is nested: its parts have sizes of their own"
    made_of_others: bool = not own and is_traceable_wrapper_subclass(tensor)
    if made_of_others:
        return f"it is a {type(tensor).__name__}, which is made of other tensors"
    if tensor.layout != torch.strided:
        return f"its layout is {str(tensor.layout).removeprefix('torch.').lstrip('_')}"
    if tensor.is_quantized:
        return "it is quantized"
    return None


def is_fake(tensor: Tensor) -> bool:
    """Return whether a tensor only pretends to have values, whatever it says of its device."""
    return type(tensor).__name__ == "FakeTensor"


def warn_of_opaque(slots: Slots, shares: Coded[Share]) -> None:
    """Warn of slots that a rule gives values and whose tensors take none; a FakeTensor stands for one that does."""
    rows = shares.where(lambda share: share.reason is None and not isinstance(share.distribution, Keep)).tolist()
    computed, tensors = {*slots.computed}, slots.tensors
    findings = [
        Finding(slots.names[row], reason)
        for row in rows
        if row not in computed and not is_fake(tensors[row]) and (reason := opaque(tensors[row])) is not None
    ]
    if findings:
        warn(headed(f"{len(findings)} of {len(slots)} slots can neither be written nor read", findings))
