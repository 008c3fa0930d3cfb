"""Random numbers for a scheme that computes a tensor as a whole, by tags: of a seed's streams, or torch's generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.filling.streams import fill_box
from initplug.filling.words import key_of
from initplug.regions import Box
from initplug.schemes.distributions import Elementwise, Normal, Uniform
from initplug.schemes.structures.base import check_tag


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of a scheme; the same tag gives the same ones.

    Args:
        source: gives numbers of a distribution under a tag, in the tensor's shape.
        kinds: what the tags by now were taken for.
    """

    source: Callable[[Elementwise, str], NDArray[np.float32]]
    kinds: dict[str, str] = field(default_factory=dict)

    def normal(self, tag: str) -> NDArray[np.float32]:
        """Return standard normals of the tensor's shape."""
        check_tag(self.kinds, tag, "normal")
        return self.source(Normal(0.0, 1.0), tag)

    def uniform(self, tag: str) -> NDArray[np.float32]:
        """Return numbers in [0, 1) of the tensor's shape."""
        check_tag(self.kinds, tag, "uniform")
        return self.source(Uniform(0.0, 1.0), tag)


def draws_from_streams(seed: int, name: str, box: Box, shape: tuple[int, ...]) -> Draws:
    """Return draws from the streams of a name, one for each tag.

    Args:
        seed: of all streams.
        name: of the whole tensor.
        box: which part of the whole tensor is computed.
        shape: its sizes, those of a stack left out.
    """

    def source(distribution: Elementwise, tag: str) -> NDArray[np.float32]:
        out = np.empty(math.prod(shape), np.float32)
        fill_box(out, distribution, key_of(seed, name, tag), box)
        return out.reshape(shape)

    return Draws(source)


def draws_from_generator(shape: tuple[int, ...]) -> Draws:
    """Return draws from torch's global generator of the CPU.

    Example:
        >>> draws = draws_from_generator((2, 3))
        >>> bool((draws.uniform("angle") == draws.uniform("angle")).all())
        True
    """
    drawn: dict[str, Tensor] = {}

    def source(distribution: Elementwise, tag: str) -> NDArray[np.float32]:
        if tag not in drawn:
            function = torch.randn if isinstance(distribution, Normal) else torch.rand
            drawn[tag] = function(shape, dtype=torch.float32, device="cpu")
        return drawn[tag].numpy().copy()  # whoever computes in place must not change what the tag gives

    return Draws(source)
