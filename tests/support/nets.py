"""Nets that several tests build, and their tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import initplug


class Tied(nn.Module):
    """An embedding that is also the head, and a layer of its own."""

    def __init__(self, rows: int = 4, columns: int = 3) -> None:
        super().__init__()
        self.emb, self.head = nn.Embedding(rows, columns), nn.Linear(columns, rows, bias=False)
        self.head.weight = self.emb.weight
        self.other = nn.Embedding(rows, columns)


def holding(**named: Tensor) -> nn.Module:
    """Return a module that holds these tensors as parameters."""
    module = nn.Module()
    for name, tensor in named.items():
        floats = tensor.is_floating_point() or tensor.is_complex()
        module.register_parameter(name, nn.Parameter(tensor, requires_grad=floats))
    return module


def of_shape(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a module that holds one tensor, w, full of sevens."""
    return holding(w=torch.full(shape, 7, dtype=dtype))


def filled(model: nn.Module, value: float = 0, *names: str) -> nn.Module:
    """Return a model with one value in these parameters, or in all."""
    with torch.no_grad():
        for name in names or [name for name, _ in model.named_parameters()]:
            model.get_parameter(name).fill_(value)
    return model


def built_deferred(build: Callable[[], nn.Module]) -> Any:
    """Return a model that is built under `initplug.deferred`."""
    with initplug.deferred():
        return build()


def built_on_meta(build: Callable[[], nn.Module]) -> Any:
    """Return a model that is built under torch's own `meta`."""
    with torch.device("meta"):
        return build()


def every_tensor(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers under all of their names."""
    found: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found.update(model.named_buffers(remove_duplicate=False))
    return found


def copied_values(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of what a model saves."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def quietly(build: Callable[[], Any]) -> Any:
    """Return what is built where torch warns that it is a prototype or new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build()
