"""Building models without memory: their parameters register on meta."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.weak import WeakTensorKeyDictionary

from initplug.filling.sharding import is_sharded, twin_of


class _Building(threading.local):
    """The memory of a thread while it builds: the meta twin of every parameter that it has registered."""

    twins: Any = None  # WeakTensorKeyDictionary[Parameter, Parameter]; None outside `deferred()`


_BUILDING = _Building()


@contextmanager
def deferred() -> Iterator[None]:
    """Build a model without memory for its parameters: they register on meta, buffers stay real.

    Buffers come out on meta only where they are made from a parameter, from its values or on its device; `plan` lists
    them. Calls of `torch.nn.init` on meta are skipped. A Parameter that is registered at several places is one tensor
    on meta. Afterwards `apply` gives the model memory and values. Other threads build as ever; use nests.

    Example:
        >>> with deferred():
        ...     model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
        >>> model[0].weight.is_meta, model[1].running_var.is_meta
        (True, False)
        >>> import initplug
        >>> initplug.apply(model, "torch_default")["0.weight"].verdict
        'ok'
    """
    if _BUILDING.twins is not None:
        yield
        return
    with building(WeakTensorKeyDictionary()), _patched(), _SkippedFills():
        yield


@contextmanager
def building(twins: Any) -> Iterator[None]:
    """Make this thread register parameters as their twins on meta; with None as they are."""
    before, _BUILDING.twins = _BUILDING.twins, twins
    try:
        yield
    finally:
        _BUILDING.twins = before


@contextmanager
def deferring_nothing() -> Iterator[None]:
    """Make `deferred()` do nothing in this thread: who asks for it sees to memory himself."""
    with building({}):
        yield


class _Patch:
    """The one replacement of `Module.register_parameter`, shared by all threads that build."""

    lock = threading.Lock()
    threads = 0
    ours: Any = None
    theirs: Any = None


@contextmanager
def _patched() -> Iterator[None]:
    """Replace `register_parameter` while any thread builds.

    torch's own registration hooks would be kept in a dictionary that threads iterate over while others change it.
    """
    with _Patch.lock:
        if _Patch.threads == 0:
            _Patch.theirs = nn.Module.register_parameter
            _Patch.ours = _registering(_Patch.theirs)
            nn.Module.register_parameter = _Patch.ours  # type: ignore[method-assign]  # undone below
        _Patch.threads += 1
    try:
        yield
    finally:
        with _Patch.lock:
            _Patch.threads -= 1
            # Somebody who has replaced it in the meantime calls ours, which does nothing outside `deferred()`.
            if _Patch.threads == 0 and nn.Module.register_parameter is _Patch.ours:
                nn.Module.register_parameter = _Patch.theirs  # type: ignore[method-assign]  # what it was


def _registering(register: Callable[..., None]) -> Callable[..., None]:
    """Return a `register_parameter` that registers parameters on meta in threads that build."""

    @wraps(register)
    def register_parameter(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        twins = _BUILDING.twins
        if twins is not None and isinstance(param, nn.Parameter) and _is_deferrable(param):
            own = twins.get(param)
            if own is None:
                own = twins[param] = twin(param, torch.device("meta"))
                # One dictionary for both: attributes that are set on the original after it was registered count, too.
                own.__dict__ = param.__dict__
            param = own
        register(module, name, param)

    return register_parameter


def _is_deferrable(param: nn.Parameter) -> bool:
    made_of_others: bool = is_traceable_wrapper_subclass(param)
    return not (param.is_meta or is_lazy(param) or made_of_others)


DRAWS = frozenset({"normal_", "uniform_"})
"""Tensor methods that do nothing on meta but import sympy, which takes a second."""


class _SkippedFills(TorchFunctionMode):
    """Skips what would give tensors on meta values; of new `.data` they take shape and dtype."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        if isinstance(target, Tensor) and target.is_meta:
            if getattr(func, "__module__", None) == "torch.nn.init" or getattr(func, "__name__", None) in DRAWS:
                return target
            if func == SET_DATA and isinstance(args[1], Tensor):
                args = (target, args[1].to("meta"))
        return func(*args, **kwargs)


SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]  # a property to the stubs, a descriptor at run time


def twin(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor without values on another device: its class, strides, requires_grad and attributes kept."""
    with torch.no_grad():
        if is_sharded(tensor):
            data = twin_of(tensor, device)
        elif tensor.layout == torch.strided and not tensor.is_quantized:
            data = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        else:
            data = torch.empty_like(tensor.detach(), device=device)
    if not is_sharded(tensor):
        found = torch.Tensor._make_subclass(type(tensor), data, tensor.requires_grad)
    else:
        found = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
    vars(found).update(vars(tensor))
    return found
