"""Classes and wrappers that torch puts in the place of a user's: what a user knows in their stead."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import nn


def public_type(cls: type) -> type:
    """Return the class that a user knows: torch derives `ParametrizedLinear` and `FSDPLinear` from it as it goes.

    Example:
        >>> linear = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
        >>> type(linear).__name__, public_type(type(linear)).__name__
        ('ParametrizedLinear', 'Linear')
    """
    base = cls.__bases__[-1]
    derived = (f"Parametrized{base.__name__}", f"FSDP{base.__name__}")
    return public_type(base) if cls.__name__ in derived and cls.__module__.startswith("torch.") else cls


WRAPPERS: Mapping[tuple[str, str], str] = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.distributed.fsdp.fully_sharded_data_parallel", "FullyShardedDataParallel"): "_fsdp_wrapped_module",
    ("torch.distributed.algorithms._checkpoint.checkpoint_wrapper", "ActivationWrapper"): "_checkpoint_wrapped_module",
}
"""Classes whose instances stand for the one module that they hold, with the attribute that holds it.

By name: importing them here would import all of torch.distributed.
"""


@lru_cache(maxsize=4096)
def wrapping_key(cls: type) -> str | None:
    """Return the attribute by which a class holds what it wraps; None for nearly all."""
    keys = (WRAPPERS.get((base.__module__, base.__qualname__)) for base in cls.__mro__)
    return next((key for key in keys if key is not None), None)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that wrappers stand for. A wrapper with tensors or modules of its own is no mere wrapper.

    Example:
        >>> type(unwrapped(nn.DataParallel(nn.Linear(2, 2)))).__name__
        'Linear'
    """
    cls: Any = type(module)  # hashable, which the types of torch's modules hide
    key = wrapping_key(cls)
    if key is None or set(module._modules) != {key} or module._parameters or module._buffers:
        return module
    inner = module._modules[key]
    return module if inner is None else unwrapped(inner)
