"""Tensors that a module computes from others that it stores: what they are called, and what holds their values.

torch.nn.utils.parametrize keeps `weight` under `parametrizations.weight.original`; the older weight_norm, spectral_norm
and prune keep it under `weight_g` and `weight_v`, or `weight_orig`. A plan knows them all by their public name.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from initplug.errors import PlanError, first_line
from initplug.planning.wrappers import public_type

Hook = WeightNorm | SpectralNorm | BasePruningMethod
"""Hooks that compute a tensor before every forward pass."""

PARAMETRIZATIONS = "parametrizations"


@dataclass(frozen=True, slots=True)
class Computed:
    """A tensor that its owner computes.

    Args:
        key: its public name, an attribute of the owner.
        owner: the module that computes it.
        by: what computes it.
        stored: the tensors that it is computed from, which hold its value.
    """

    key: str
    owner: nn.Module
    by: ParametrizationList | Hook
    stored: tuple[Tensor, ...]


def computed_by_hooks(module: nn.Module) -> dict[str, Computed]:
    """Return the tensors that a module's hooks compute, by the names of the parameters that they are stored under."""
    found: dict[str, Computed] = {}
    for hook in module._forward_pre_hooks.values():
        names: tuple[str, ...]
        if isinstance(hook, WeightNorm):
            key, names = hook.name, (f"{hook.name}_g", f"{hook.name}_v")
        elif isinstance(hook, SpectralNorm):
            key, names = hook.name, (f"{hook.name}_orig",)
        elif isinstance(hook, BasePruningMethod):
            key, names = hook._tensor_name, (f"{hook._tensor_name}_orig",)
        else:
            continue
        held = [module._parameters.get(name) for name in names]
        stored = tuple(tensor for tensor in held if tensor is not None and not is_lazy(tensor))
        if len(stored) == len(names):  # else another hook stores one of them in its turn
            found.update(dict.fromkeys(names, Computed(key, module, hook, stored)))
    return found


def computed_by_list(owner: nn.Module, key: str, by: ParametrizationList) -> Computed:
    """Return the tensor that a list of parametrizations computes for its owner."""
    return Computed(key, owner, by, tuple(originals(by).values()))


def vectors_of(computed: Computed) -> list[Tensor]:
    """Return the singular vectors that a spectral norm keeps beside a weight and that belong to it."""
    held: list[Tensor | None] = []
    if isinstance(computed.by, ParametrizationList):
        norms = [part for part in computed.by if isinstance(part, _SpectralNorm)]
        held = [norm._buffers.get(key) for norm in norms for key in ("_u", "_v")]
    elif isinstance(computed.by, SpectralNorm):
        held = [computed.owner._buffers.get(f"{computed.key}_{side}") for side in ("u", "v")]
    return [vector for vector in held if vector is not None]


def originals(by: ParametrizationList) -> dict[str, Tensor]:
    """Return what a list of parametrizations stores, by name."""
    held = {**by._parameters, **by._buffers}
    return {key: tensor for key, tensor in held.items() if key.startswith("original") and tensor is not None}


def lists_of(module: nn.Module) -> dict[str, ParametrizationList]:
    """Return the lists of parametrizations of a module, by the name of the tensor that each computes."""
    holder = module._modules.get(PARAMETRIZATIONS)
    if not isinstance(holder, nn.ModuleDict):
        return {}
    return {key: by for key, by in holder._modules.items() if isinstance(by, ParametrizationList)}


def stand_in(computed: Computed, name: str) -> Tensor:
    """Return a tensor on meta of the shape and dtype that is computed; no value is read.

    Raises:
        PlanError: they cannot be told without values.
    """
    by, stored = computed.by, computed.stored
    like = stored[-1]  # the direction of weight_norm, or the one tensor that is stored
    if isinstance(by, ParametrizationList) and (by.unsafe or not by.is_tensor):
        try:
            with evaluating(shadow := meta_copy(by)), torch.no_grad():
                like = shadow()
            if not isinstance(like, Tensor):
                raise TypeError(f"it gives {type(like).__name__} and no tensor")
        except Exception as error:  # a parametrization is the model's own code, which may raise anything
            reason = first_line(error)[:120]
            message = f"the shape of {name} cannot be told without values: its parametrization says {reason!r}"
            raise PlanError(message) from None
    trainable = any(tensor.requires_grad for tensor in stored)
    return torch.empty_like(like, device="meta", requires_grad=trainable)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Keep a module in evaluation mode for a while: in training mode, reading spectral_norm moves its vectors."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training


# Copies on meta -----------------------------------------------------------------------------------------------


def meta_copy(module: nn.Module) -> Any:
    """Return the module with its whole subtree, every tensor replaced by one of the same shape on meta.

    Modules outside the subtree that it refers to stay themselves.
    """
    memo: dict[int, Any] = {}
    parts = submodules_of(module)
    for part in parts.values():
        for value in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            for element in value if isinstance(value, list | tuple) else (value,):
                if isinstance(element, Tensor):
                    if id(element) not in memo:
                        memo[id(element)] = _on_meta(element)
                elif isinstance(element, nn.Module) and id(element) not in parts:
                    memo[id(element)] = element
    # Their twins are known before any is filled, so that copying does not go down the tree: it may be deep.
    filled: list[tuple[Any, Mapping[str, Any]]] = []
    for part in parts.values():
        cls: Any = type(part)
        if _is_sharded(cls):
            cls, state = public_type(cls), _own_state(part)
        elif _is_copied_by_state(cls):
            state = vars(part)
        else:
            continue
        memo[id(part)] = cls.__new__(cls)
        filled.append((memo[id(part)], state))
    for twin, state in reversed(filled):  # what is below first: copying a class of its own kind may look at it
        vars(twin).update((key, _copied(value, memo)) for key, value in state.items())
    return copy.deepcopy(module, memo)


def submodules_of(module: nn.Module) -> dict[int, nn.Module]:
    """Return the modules of a subtree by their ids, each after one that holds it; the tree may be deep."""
    found: dict[int, nn.Module] = {}
    waiting: list[nn.Module | None] = [module]
    while waiting:
        part = waiting.pop()
        if part is not None and id(part) not in found:
            found[id(part)] = part
            waiting.extend(part._modules.values())
    return found


@lru_cache(maxsize=4096)
def _is_copied_by_state(cls: Any) -> bool:
    """Return whether a copy of a module is a new object of its class with copied attributes: nothing says otherwise."""
    if hasattr(cls, "__deepcopy__") or any("__slots__" in vars(base) for base in cls.__mro__):
        return False
    return all(getattr(cls, key) is getattr(nn.Module, key) for key in COPYING)


COPYING = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
"""Methods by which a class says how it is copied."""


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy of an attribute; most are plain, or empty dictionaries of hooks."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) in (dict, OrderedDict) and not value:
        return type(value)()
    return copy.deepcopy(value, memo)


def _is_sharded(cls: type) -> bool:
    """Return whether `fully_shard` made a class: it forbids copies, which would share the state of the ranks."""
    return any(base.__name__ == "FSDPModule" for base in cls.__mro__)


def _own_state(module: nn.Module) -> dict[str, Any]:
    """Return what a module has of its own, without the hooks and the state that `fully_shard` has given it."""
    state = {key: value for key, value in vars(module).items() if not key.startswith("__composable_api")}
    for key in ("_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_load_state_dict_post_hooks"):
        state[key] = OrderedDict((place, hook) for place, hook in state[key].items() if isinstance(hook, Hook))
    return state


def _on_meta(tensor: Tensor) -> Tensor:
    if tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized:
        # Of a DTensor the whole; row-major, since torch's own resets fill other layouts by way of a copy.
        twin = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    else:
        twin = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
    vars(twin).update(vars(tensor))
    return twin


def make_plain(module: nn.Module) -> None:
    """Give every module of a copy on meta the plain parameters that it had before any were computed."""
    for part in submodules_of(module).values():
        lists = lists_of(part)
        computed = [computed_by_list(part, key, by) for key, by in lists.items()]
        hooked = computed_by_hooks(part)
        plain = {one.key: stand_in(one, one.key) for one in (*computed, *hooked.values())}
        if lists:
            del part._modules[PARAMETRIZATIONS]
            part.__class__ = public_type(type(part))
        for key in hooked:
            del part._parameters[key]
        for key, tensor in plain.items():
            vars(part).pop(key, None)
            part._parameters[key] = nn.Parameter(tensor, requires_grad=tensor.requires_grad)
