"""What versions of torch keep in different places, or lack: DTensor and its placements, `fully_shard`, dtypes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from torch.distributed.fsdp import fully_shard as fully_shard
    from torch.distributed.tensor import DTensor as DTensor
    from torch.distributed.tensor import Partial as Partial
    from torch.distributed.tensor import Replicate as Replicate
    from torch.distributed.tensor import Shard as Shard
    from torch.distributed.tensor import distribute_tensor as distribute_tensor
    from torch.distributed.tensor import empty, placement_types
    from torch.distributed.tensor.placement_types import Placement as Placement
    from torch.distributed.tensor.placement_types import _StridedShard

    StridedShard, sharded_empty = _StridedShard, empty
else:
    tensors = import_module("torch.distributed.tensor")
    if not hasattr(tensors, "DTensor"):  # before 2.5
        tensors = import_module("torch.distributed._tensor")
    placement_types = import_module(f"{tensors.__name__}.placement_types")
    DTensor, Replicate, Shard = tensors.DTensor, tensors.Replicate, tensors.Shard
    distribute_tensor, sharded_empty = tensors.distribute_tensor, tensors.empty
    Placement, Partial = placement_types.Placement, placement_types.Partial
    StridedShard = getattr(placement_types, "_StridedShard", None)
    fsdp = import_module("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):  # before 2.6
        fsdp = import_module("torch.distributed._composable.fsdp")
    fully_shard = fsdp.fully_shard

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])

STRIDED: bool = hasattr(placement_types, "_StridedShard")
"""Whether placements say in which order a dimension was cut twice: since 2.5."""

CUTS_UNEVENLY: bool = VERSION >= (2, 10)
"""Whether a dimension that is cut twice may have parts of unequal sizes.

Torch 2.5 to 2.7 refuse them; what 2.8 and 2.9 hold of them differs from where they say that it lies.
"""

PACKED = pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="torch has float4_e2m1fn_x2 since 2.8")


@cache
def draws_well(dtype: torch.dtype) -> bool:
    """Return whether torch's own normals of a dtype have the tails of one: their kurtosis is 3 within 3 in 1,000.

    Those of half precision were cut off before 2.12.
    """
    drawn = torch.empty(1 << 22, dtype=dtype).normal_(generator=torch.Generator().manual_seed(0)).double()
    return bool(abs(drawn.pow(4).mean() / drawn.var() ** 2 - 3) < 0.009)  # 3.8 standard errors


def eager() -> AbstractContextManager[Any]:
    """Return a context in which compiled modules run uncompiled."""
    if hasattr(torch.compiler, "set_stance"):  # since 2.6
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    context: AbstractContextManager[Any] = import_module("torch._dynamo.config").patch(disable=True)
    return context
