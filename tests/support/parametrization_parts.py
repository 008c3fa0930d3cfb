"""Parametrizations that several tests register, and how they register them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Halved(nn.Module):
    """Exact in floating point both ways."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2

    def right_inverse(self, value: Tensor) -> Tensor:
        return value * 2


class Doubled(nn.Module):
    """Exact in floating point both ways, as `Halved`."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def right_inverse(self, value: Tensor) -> Tensor:
        return value / 2


class Exponential(nn.Module):
    """Takes positive values alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.log()


class Symmetric(nn.Module):
    """One way only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).T


class Noisy(nn.Module):
    """Noise and a count of readings, in training mode alone."""

    readings: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("readings", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.readings += 1
            return x + torch.randn_like(x)
        return x

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def with_parts(module: nn.Module, *parts: nn.Module, name: str = "weight", unsafe: bool = False) -> nn.Module:
    """Return a module with these parametrizations of one of its tensors."""
    for part in parts:
        parametrize.register_parametrization(module, name, part, unsafe=unsafe)
    return module


def older(wrap: Callable[..., Any], module: nn.Module, *arguments: Any, **named: Any) -> Any:
    """Return what one of torch's older functions makes of a module; they warn that they are old."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*(weight_norm|spectral_norm).*")
        return wrap(module, *arguments, **named)


def public_weight(module: nn.Module) -> Tensor:
    """Return the weight that a module computes in evaluation mode, read on a copy."""
    copied: Any = copy.deepcopy(module).eval()
    value: Tensor = copied.weight.detach()
    return value
