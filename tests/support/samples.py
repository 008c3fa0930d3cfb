"""Random numbers that the package has no part in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform


def numpy_sample(distribution: Any, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a sample that NumPy draws, by rejection where a normal is cut."""
    match distribution:
        case Normal(mean, std):
            return generator.normal(mean, std, shape)
        case Uniform(low, high):
            return generator.uniform(low, high, shape)
        case TruncatedNormal(loc, scale, low, high):
            count = math.prod(shape)
            share = (math.erf((high - loc) / scale / math.sqrt(2)) - math.erf((low - loc) / scale / math.sqrt(2))) / 2
            kept = np.empty(0)
            while len(kept) < count:
                tried = generator.normal(loc, scale, math.ceil(1.1 * (count - len(kept)) / share) + 10)
                kept = np.concatenate([kept, tried[(low <= tried) & (tried <= high)]])
            return kept[:count].reshape(shape)
    raise AssertionError(distribution)


def normals(*shape: int, std: float = 1.0, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return what torch draws from a seed."""
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std).to(dtype)
