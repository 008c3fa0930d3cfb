"""What construction draws: a module's own reset, replayed on a meta copy that only takes notes.

The reset runs under a mode that sees every torch call. Calls that fill a tensor are noted and not executed; a call
that changes a noted tensor in a way that has no closed form makes it unreadable, with the call's name as the reason.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initplug.schemes.distributions import Constant, Drawn, Normal, Uniform, scaled
from initplug.schemes.fans import Fans
from initplug.schemes.initializers import kaiming_normal, kaiming_uniform

RESETS = ("reset_parameters", "_reset_parameters")

Outcome = Drawn | str
"""What a reset leaves in a tensor, or why that cannot be told."""


class Replay:
    """Outcomes of resets for the modules of one model, each kind of module replayed once."""

    def __init__(self) -> None:
        self._known: dict[Any, Mapping[str, Outcome]] = {}

    def of(self, module: nn.Module) -> Mapping[str, Outcome]:
        """What the module's own reset writes, by name relative to the module; empty without a reset."""
        reset = _reset_name(module)
        if reset is None:
            return {}
        key = _signature(module)
        if key is None:
            return replay(module, reset)
        if key not in self._known:
            self._known[key] = replay(module, reset)
        return self._known[key]


def _reset_name(module: nn.Module) -> str | None:
    return next((name for name in RESETS if callable(getattr(type(module), name, None))), None)


def replay(module: nn.Module, reset: str) -> dict[str, Outcome]:
    """Run one reset on a meta copy and read what it writes.

    Args:
        module: whose reset it is; neither it nor a random generator is touched.
        reset: name of the method.
    """
    try:
        shadow = _meta_copy(module)
    except Exception as error:  # copying runs the module's own code, which may raise anything
        return _every(module, f"its {type(module).__name__} cannot be copied ({_brief(error)})")
    named = [*shadow.named_parameters(remove_duplicate=False), *shadow.named_buffers(remove_duplicate=False)]
    notes = _Notes([tensor for _, tensor in named])
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings(), torch.no_grad(), notes, torch.device("meta"):
            warnings.simplefilter("ignore")  # said at construction already
            getattr(shadow, reset)()
    except Exception as error:  # the same: a reset is the module's own code
        return _every(module, f"{type(module).__name__}.{reset} cannot be replayed ({_brief(error)})")
    finally:
        torch.set_rng_state(state)
    after = {
        **dict(shadow.named_parameters(remove_duplicate=False)),
        **dict(shadow.named_buffers(remove_duplicate=False)),
    }
    outcomes: dict[str, Outcome] = {}
    for name, tensor in named:
        if after.get(name) is not tensor:
            outcomes[name] = f"{type(module).__name__}.{reset} replaces the tensor"
        elif (outcome := notes.of(tensor)) is not None:
            outcomes[name] = outcome
    return outcomes


def _every(module: nn.Module, reason: str) -> dict[str, Outcome]:
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: reason for name, _ in tensors}


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"


def _meta_copy(module: nn.Module) -> nn.Module:
    """The module with its whole subtree, every tensor replaced by one of the same shape on meta."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(module, memo)


def _signature(module: nn.Module) -> Any:
    """What a module's reset can depend on, hashable, or None where that cannot be told."""
    try:
        return _frozen(module)
    except TypeError:
        return None


def _frozen(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | type):
        return (type(value), value)
    if isinstance(value, Tensor):
        return (Tensor, tuple(value.shape), value.dtype)
    if isinstance(value, nn.Module):
        return (type(value), _frozen({key: part for key, part in vars(value).items() if key not in UNREAD}))
    if isinstance(value, Mapping):
        return (dict, tuple((key, _frozen(part)) for key, part in value.items()))
    if isinstance(value, list | tuple | set | frozenset | torch.Size):
        return (type(value), tuple(_frozen(part) for part in value))
    raise TypeError(type(value).__name__)


UNREAD = frozenset(key for key in vars(nn.Module()) if key not in ("_parameters", "_buffers", "_modules"))
"""Attributes that every module has and no reset depends on: hooks and flags."""

Reader = Callable[..., Drawn]


def _kaiming(scheme: Callable[..., Drawn]) -> Callable[..., Drawn]:
    def read(
        tensor: Tensor, a: float = 0, mode: Any = "fan_in", nonlinearity: Any = "leaky_relu", generator: Any = None
    ) -> Drawn:
        slope = float(a) if nonlinearity == "leaky_relu" else None
        return scheme(Fans(tensor.shape), mode=mode, nonlinearity=nonlinearity, a=slope)

    return read


FILLS: Mapping[str, Reader] = {
    "uniform_": lambda tensor, a=0.0, b=1.0, **_: Uniform(float(a), float(b)),
    "normal_": lambda tensor, mean=0.0, std=1.0, **_: Normal(float(mean), float(std)),
    "fill_": lambda tensor, value: Constant(_number(value)),
    "zero_": lambda tensor: Constant(0.0),
    "constant_": lambda tensor, val: Constant(_number(val)),
    "kaiming_uniform_": _kaiming(kaiming_uniform),
    "kaiming_normal_": _kaiming(kaiming_normal),
}
"""Calls that give a whole tensor its values, with what they give it; keywords as torch names them."""

KEYWORDS = {"from": "a", "to": "b", "low": "a", "high": "b"}
"""Keywords of `Tensor.uniform_` that torch.nn.init spells differently."""

SCALES: Mapping[str, Callable[[float], float]] = {"mul_": lambda by: by, "div_": lambda by: 1 / by}
"""Calls that multiply what is there by a number."""


def _number(value: Any) -> float | int:
    if isinstance(value, bool | int | float):
        return value
    raise TypeError("the value is a tensor")


class _Notes(TorchFunctionMode):
    """Notes fills of the watched tensors instead of executing them."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self._watched = {_storage(tensor): tensor for tensor in tensors}
        self._written: dict[int, Outcome] = {}

    def of(self, tensor: Tensor) -> Outcome | None:
        """What is in the tensor; None where nothing wrote it."""
        return self._written.get(_storage(tensor))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name not in ("__setitem__",) and not (name.endswith("_") and not name.endswith("__")):
            return func(*args, **kwargs)
        target = args[0] if args else kwargs.get("tensor")
        if not isinstance(target, Tensor) or _storage(target) not in self._watched:
            return func(*args, **kwargs)
        if name in ("requires_grad_", "detach_", "retain_grad"):
            return func(*args, **kwargs)
        rest = args[1:] if args else ()
        kwargs.pop("tensor", None)
        self._note(name, target, rest, kwargs)
        return target

    def _note(self, name: str, target: Tensor, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key = _storage(target)
        whole = self._watched[key]
        before = self._written.get(key)
        if target.shape != whole.shape:
            # Embeddings zero their padding row after the draw; a plan does that for every initializer.
            if name in ("fill_", "zero_") and target.ndim == whole.ndim - 1 and not (rest and rest[0]):
                return
            self._written[key] = f"{name} writes a part of it"
            return
        try:
            if name in FILLS:
                keywords = {KEYWORDS.get(word, word): value for word, value in kwargs.items() if word != "generator"}
                self._written[key] = FILLS[name](whole, *rest, **keywords)
            elif name in SCALES and not kwargs and before is not None and not isinstance(before, str):
                self._written[key] = scaled(before, SCALES[name](float(_number(rest[0]))))
            else:
                self._written[key] = f"{name} has no closed form"
        except (TypeError, ValueError, ArithmeticError) as error:
            self._written[key] = f"{name} cannot be read ({error})"


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
