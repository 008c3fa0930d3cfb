"""Tensors as they are written: what can be written at all, and proof that it arrived."""

from __future__ import annotations

import torch
from torch import Tensor

from initplug.planning.slots import Slot, Tree
from initplug.schemes.distributions import Keep, Planned, Stacked


def refusal(tensor: Tensor) -> str | None:
    """Why a tensor cannot be filled in place; None if it can."""
    if tensor.is_meta:
        return "it is on meta and holds no values: build the model on a device"
    if tensor.layout != torch.strided:
        return f"its layout is {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_quantized:
        return "it is quantized"
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "it is an inference tensor: apply inside torch.inference_mode()"
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        return "it is expanded: several elements share one place in memory"
    return None


def padding(tensor: Tensor, row: int | None, distribution: Planned | None) -> list[Tensor]:
    """The views of an embedding's padding row that a draw covers: all of it, less what lies in kept parts."""
    if row is None:
        return []
    if not isinstance(distribution, Stacked):
        return [tensor[row]]
    parts, dim = distribution.parts, distribution.dim % tensor.ndim
    pieces = tensor.chunk(len(parts), dim)
    if dim:
        return [piece[row] for part, piece in zip(parts, pieces, strict=True) if not isinstance(part, Keep)]
    place, inside = divmod(row, pieces[0].shape[0])
    return [] if isinstance(parts[place], Keep) else [pieces[place][inside]]


def arrived(tree: Tree, slot: Slot) -> bool:
    """Whether every owner still holds the very tensor that was written."""
    for _, key, node in slot.places:
        module = tree.nodes[node].module
        held = module._parameters if slot.kind == "parameter" else module._buffers
        if held.get(key) is not slot.tensor:
            return False
    return True
