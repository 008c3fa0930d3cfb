"""All that a refusal leaves as it is: values to the bit, identities, versions, flags, modes, classes, the generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def bits(tensor: Tensor) -> object:
    """The values of a tensor, NaN and negative zero told apart; None where there are none."""
    if is_lazy(tensor) or tensor.is_meta:
        return None
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    flat = tensor.resolve_conj().resolve_neg().reshape(-1).clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def places(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Every tensor of a module at every one of its places, whatever the module says of itself."""
    modules = nn.Module.named_modules(model, remove_duplicate=False)
    return [
        (f"{prefix}.{key}", tensor)
        for prefix, module in modules
        for held in (module._parameters, module._buffers)
        for key, tensor in held.items()
        if tensor is not None
    ]


def image(model: nn.Module) -> list[dict[str, Any]]:
    """All that a refusal leaves alone, tensor by tensor."""
    return [
        {
            "name": name,
            "tensor": id(tensor),
            "memory": None if is_lazy(tensor) or tensor.layout != torch.strided else tensor.data_ptr(),
            "resizable": None
            if is_lazy(tensor) or tensor.layout != torch.strided
            else tensor.untyped_storage().resizable(),
            "version": None if is_lazy(tensor) or tensor.is_inference() else tensor._version,
            "requires_grad": tensor.requires_grad,
            "gradient": id(tensor.grad) if tensor.is_leaf and tensor.grad is not None else None,
            "bits": bits(tensor),
        }
        for name, tensor in places(model)
    ]


def modes(model: nn.Module) -> list[tuple[str, type, bool]]:
    """Class and mode of every module."""
    return [(name, type(part), part.training) for name, part in nn.Module.named_modules(model, remove_duplicate=False)]


def attributes(model: nn.Module) -> list[Any]:
    """Return what modules refer to, by identity: tensors, lists, dictionaries and what is in them."""
    found: list[Any] = []
    for name, module in nn.Module.named_modules(model, remove_duplicate=False):
        for key, value in vars(module).items():
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            found.append((name, key, id(value), [id(one) for one in inside], type(value)))
    return found


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Assert that nothing of a model, nor the global generator, is changed inside."""
    # Held, else an identity could be given anew.
    alive = places(model), [dict(vars(module)) for module in nn.Module.modules(model)]
    before, held = image(model), attributes(model)
    modes_before, state = modes(model), torch.get_rng_state()
    yield
    assert image(model) == before and alive
    assert attributes(model) == held
    assert modes(model) == modes_before
    assert torch.equal(torch.get_rng_state(), state)
