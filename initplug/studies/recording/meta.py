"""Watching on meta: large tensors have no values, so that a constructor takes neither their memory nor their draws.

The code that is watched is told that they are on the CPU, and runs as it does there: tensors that are small stay real,
so that what code reads of them is there, and the values of tables that are copied to large ones are kept beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from initplug.studies.recording.operators import Operator
from initplug.studies.recording.writes import Read

DRAWN, FIXED = 1 << 16, 1 << 21
"""Elements from which on tensors have no values: of draws, one number or memory as found, and of other numbers."""

ALIKE = ("empty", "zeros", "ones", "full", "_efficientzerotensor")
"""Words in the names of operators that make tensors of one number, or of memory as found."""


class ValuesError(RuntimeError):
    """Code that needs a value of a tensor without any."""


def executed(operator: Operator, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return what an operator gives; large tensors that it makes are on meta, as is what comes of such ones.

    Raises:
        ValuesError: it writes what has no values to a tensor that has.
    """
    if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in tree_leaves((args, kwargs))):
        if any(isinstance(target, Tensor) and not target.is_meta for target in operator.targets(args, kwargs)):
            raise ValuesError("a tensor with values is written from one without")
        if operator.draws and operator.in_place:
            return args[0]
        args, kwargs = tree_map(_on_meta, (args, dict(kwargs)))
        return func(*args, **({**kwargs, "device": META} if kwargs.get("device") is not None else kwargs))
    device = kwargs.get("device")
    if not operator.makes or (device is not None and device.type not in ("cpu", "meta")):
        return func(*args, **kwargs)
    made = func(*args, **{**kwargs, "device": META})
    alike = operator.draws or any(word in operator.name for word in ALIKE)
    if made.numel() < (DRAWN if alike else FIXED):
        return func(*args, **{**kwargs, "device": torch.device("cpu")})
    return made


def values_of(read: Read) -> Tensor | None:
    """Return the values of a tensor on meta that they were copied to; None where they are not all known."""
    writes = read.writes[: read.count]
    held = [torch.zeros(()) if write.value.op in ZEROED else write.value.held for write in writes]
    if all(write.value.held is None for write in writes):
        return None
    memory, known = torch.zeros(read.size, dtype=read.dtype), torch.zeros(read.size, dtype=torch.bool)
    for write, values in zip(writes, held, strict=True):
        written = write.region.sizes, write.region.strides, write.region.offset
        known.as_strided(*written).fill_(values is not None)
        if values is not None:
            memory.as_strided(*written).copy_(values)
    shown = read.region.sizes, read.region.strides, read.region.offset
    return memory.as_strided(*shown) if known.as_strided(*shown).all() else None


ZEROED = frozenset({"zero", "zeros"})
"""Operators after which a tensor holds zeros."""

META = torch.device("meta")


def _on_meta(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and not leaf.is_meta and leaf.dim():
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=META)
    return leaf


# What code is told ---------------------------------------------------------------------------------------------------

IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]  # a property to the stubs, a descriptor at run time
DEVICE = torch.Tensor.device.__get__
SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]  # likewise


class Disguise(TorchFunctionMode):
    """Tells a model's code that tensors on meta are on the CPU.

    Functions of torch.nn.init that ask whether a tensor is on meta return at once if it is: that call is seen here.

    Args:
        asked: called with the frame of a function of torch that asks.
        passed: whether a frame is torch's own or Python's.
    """

    def __init__(self, asked: Callable[[FrameType], None], passed: Callable[[FrameType], bool]) -> None:
        super().__init__()
        self._asked = asked
        self._passed = passed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (IS_META, DEVICE):
            found = func(*args)
            caller = sys._getframe(1)
            if func == IS_META and found:
                self._asked(caller)
            if self._passed(caller):
                return found
            return False if func == IS_META else torch.device("cpu") if found.type == "meta" else found
        if func == SET_DATA and isinstance(args[1], Tensor) and args[0].is_meta:
            args = (args[0], args[1].to(META))
        return func(*args, **(kwargs or {}))
