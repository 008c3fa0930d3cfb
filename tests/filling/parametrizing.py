"""Parametrizations that several tests register."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Halved(nn.Module):
    """Exact in floating point both ways."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2

    def right_inverse(self, value: Tensor) -> Tensor:
        return value * 2


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
