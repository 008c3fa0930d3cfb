"""Differences between versions of torch: what older ones lack or keep elsewhere, and the version that brought it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

LOWEST = (2, 4)
"""The lowest version that is supported: its DTensor and its `fully_shard` are the first that can be spoken to."""

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])

if VERSION < LOWEST:
    raise ImportError(f"initplug needs torch 2.4 or later, and this is {torch.__version__}: pip install 'torch>=2.4'")

from torch.autograd.graph import increment_version  # noqa: E402  # older versions are refused before

DTENSOR_HOMES = ("torch.distributed.tensor", "torch.distributed._tensor")
"""Modules that have DTensor: the public one since 2.5, the private one before."""

FSDP_HOMES = ("torch.distributed.fsdp", "torch.distributed._composable.fsdp")
"""Modules that have FSDPModule: the public one since 2.6, the private one before."""

DTYPES_SINCE = {"float8_e8m0fnu": "2.7"}
"""Dtypes that some supported version lacks."""


def dtype_named(word: str) -> torch.dtype | None:
    """Return a dtype by its name, or None where this torch lacks it.

    Example:
        >>> dtype_named("float32"), dtype_named("float33")
        (torch.float32, None)
    """
    found = getattr(torch, word, None)
    return found if isinstance(found, torch.dtype) else None


@cache
def marks_strided_shards() -> bool:
    """Return whether placements say in which order a dimension was cut twice: `_StridedShard` of 2.5 does."""
    return any(hasattr(sys.modules.get(f"{home}.placement_types"), "_StridedShard") for home in DTENSOR_HOMES)


STRIDED_UNEVENLY = VERSION >= (2, 10)
"""True where `_StridedShard` may cut a dimension into unequal parts: 2.5 to 2.7 refuse, 2.8 and 2.9 lose the order.

    https://github.com/pytorch/pytorch/pull/163843
"""


@cache
def can_fill(dtype: torch.dtype) -> bool:
    """Return whether plain tensors of a dtype can be given one value: float8 since 2.5.

    Example:
        >>> can_fill(torch.float32)
        True
    """
    if not dtype.is_floating_point:  # quantized ones are never plain
        return True
    try:
        torch.zeros(1, device="cpu").to(dtype).fill_(0)
    except RuntimeError:
        return False
    return True


MARKS_MANY = "Iterable" in str(increment_version.__annotations__)
"""True where autograd takes many tensors at once that were written: versions of old take one."""


def mark_written(tensors: Sequence[torch.Tensor]) -> None:
    """Tell autograd of tensors that were written past torch; none of them of inference mode."""
    if MARKS_MANY:
        increment_version(tensors)
        return
    for tensor in tensors:
        increment_version(tensor)


def dtensor() -> type[DTensor] | None:
    """Return DTensor, or None as long as nobody has imported it."""
    found: type[DTensor] | None = _class_if_imported(DTENSOR_HOMES, "DTensor")
    return found


def fsdp_module() -> type[Any] | None:
    """Return the class that `fully_shard` gives modules, or None as long as nobody has imported it."""
    found: type[Any] | None = _class_if_imported(FSDP_HOMES, "FSDPModule")
    return found


def _class_if_imported(homes: tuple[str, ...], name: str) -> Any:
    return next((found for home in homes if (found := getattr(sys.modules.get(home), name, None)) is not None), None)
