"""The draws of construction's resets: each module's own, replayed on a meta copy that only takes notes.

The reset runs under two modes. One sees every torch call: calls that fill a tensor are noted and not executed. The
other sees every operator that is executed all the same: one that writes to a watched tensor, in whatever way, makes
it unreadable, with the operator's name as the reason; one that would write to a real tensor, or draw real random
numbers, ends the replay before it is executed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from initplug.errors import brief
from initplug.planning.closed_forms import WHOLE, clamped, divided, inverse_erf, scaled, shifted
from initplug.planning.parametrized import make_plain, meta_copy, submodules_of
from initplug.planning.slots import Slot, Tree
from initplug.planning.walk import walk
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Normal, Uniform
from initplug.schemes.fans import Fans
from initplug.schemes.initializers import kaiming_normal, kaiming_uniform

RESETS = ("reset_parameters", "_reset_parameters")

Outcome = Drawn | str
"""The distribution that a reset leaves in a tensor, or why that cannot be told."""


class Recorded(NamedTuple):
    """A parameter as a recording of the model's own code tells it.

    Args:
        shape: sizes, in elements.
        outcome: its distribution, or why it has none.
        place: the line of code that wrote it last.
    """

    shape: tuple[int, ...]
    outcome: Outcome
    place: str | None

    @property
    def told(self) -> str:
        """The line that it is from, in words."""
        return AS_RECORDED if self.place is None else f"{AS_RECORDED} of {self.place}"


AS_RECORDED = "as recorded"
"""The words by which notes on slots begin whose distribution a recording tells."""


@dataclass(frozen=True, slots=True)
class Replays:
    """The draws of the resets of one walked model, each read once, for all plans of it.

    Args:
        tree: the walked model.
        modules: outcomes of modules, by their ids; added to.
        alike: outcomes of modules by what a reset can depend on; added to.
        recorded: what is known of parameters that no reset tells of, by name.
    """

    tree: Tree
    modules: dict[int, Mapping[str, Outcome]] = field(default_factory=dict)
    alike: dict[Any, Mapping[str, Outcome]] = field(default_factory=dict)
    recorded: Mapping[str, Recorded] = field(default_factory=dict)


def recorded_of(replays: Replays, slot: Slot) -> Recorded | None:
    """Return what a recording tells of a tensor that no reset writes, or none that can be read; None without one."""
    found = replays.recorded.get(slot.name)
    if found is None or slot.kind == "buffer" or isinstance(default_of(replays, slot), Drawn):
        return None
    if found.shape == tuple(slot.kin.shape):
        return found
    return found._replace(outcome=f"it is of shape {found.shape} in the recording")


def default_of(replays: Replays, slot: Slot) -> Outcome | None:
    """Return what the resets of the owner and its ancestors leave, innermost first, the last write counting.

    What an outer reset writes settles the matter, so that only what it leaves is asked of inner ones: a reset that
    calls those below it, level by level, is replayed once.

    Args:
        replays: of the walked model, added to.
        slot: a tensor of it.

    Returns:
        What is in the tensor then, or why that cannot be told; None where no reset writes it.
    """
    tree = replays.tree
    for index in reversed([*tree.ancestors(slot.node)]):
        name, module = tree.nodes[index].name, tree.nodes[index].module
        outcomes = replays.modules.get(id(module))
        if outcomes is None:
            outcomes = replays.modules[id(module)] = replayed(module, replays.alike)
        outcome = outcomes.get(slot.name[len(name) + 1 :] if name else slot.name)
        if outcome is not None:
            return outcome
    return None


def replayed(module: nn.Module, known: dict[Any, Mapping[str, Outcome]]) -> Mapping[str, Outcome]:
    """Return what the module's own reset writes, by name relative to the module; empty without a reset.

    Args:
        module: whose reset is read.
        known: outcomes of modules like it, added to.
    """
    reset = _reset_name(module)
    if reset is None:
        return {}
    key = _signature(module)
    if key is None:
        return replay(module, reset)
    if key not in known:
        known[key] = replay(module, reset)
    return known[key]


def _reset_name(module: nn.Module) -> str | None:
    return next((name for name in RESETS if callable(getattr(type(module), name, None))), None)


def replay(module: nn.Module, reset: str) -> dict[str, Outcome]:
    """Run one reset on a meta copy and read what it writes.

    Args:
        module: whose reset it is; no tensor of it and no generator of torch's is touched.
        reset: name of the method.
    """
    try:
        shadow = meta_copy(module)
        make_plain(shadow)
    except Exception as error:  # copying runs the module's own code, which may raise anything
        return _every(module, f"its {type(module).__name__} cannot be copied ({brief(error, 120)})")
    named = _tensors_at_places(shadow)
    notes = _Notes(shadow)
    try:
        with warnings.catch_warnings(), torch.no_grad(), torch.device("meta"), notes, _Writes(notes):
            warnings.simplefilter("ignore")  # said at construction already
            getattr(shadow, reset)()
    except Exception as error:  # the same: a reset is the module's own code
        return _every(module, f"{type(module).__name__}.{reset} cannot be replayed ({brief(error, 120)})")
    after = _tensors_at_places(shadow)
    outcomes: dict[str, Outcome] = {}
    for name, tensor in named.items():
        if after.get(name) is not tensor or not notes.watches(tensor):
            outcomes[name] = f"{type(module).__name__}.{reset} replaces the tensor"
        elif (outcome := notes.of(tensor)) is not None:
            outcomes[name] = outcome
    return outcomes


def _tensors_at_places(module: nn.Module) -> dict[str, Tensor]:
    """Return every tensor at each of its places, by canonical name."""
    return {name: slot.tensor for slot in walk(module).slots for name, _, _ in slot.places}


def _every(module: nn.Module, reason: str) -> dict[str, Outcome]:
    return dict.fromkeys(_tensors_at_places(module), reason)


def _signature(module: nn.Module) -> Any:
    """Return what a module's reset can depend on, hashable, or None where that cannot be told."""
    try:
        return _freeze(module, {})
    except (TypeError, RecursionError):
        return None


def _freeze(value: Any, seen: dict[int, int]) -> Any:
    """Return a hashable picture of a value; tensors and modules are numbered, so that ties are part of it."""
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | type):
        return (type(value), value)
    if isinstance(value, Tensor | nn.Module):
        if id(value) in seen:
            return seen[id(value)]
        seen[id(value)] = len(seen)
    if isinstance(value, Tensor):
        if is_lazy(value):
            raise TypeError("a tensor that waits for its shape")
        return (Tensor, tuple(value.shape), value.dtype, value.requires_grad, _freeze(vars(value), seen))
    if isinstance(value, nn.Module):
        return (type(value), _freeze({key: part for key, part in vars(value).items() if key not in UNREAD}, seen))
    if isinstance(value, Mapping):
        return (dict, tuple((key, _freeze(part, seen)) for key, part in value.items()))
    if isinstance(value, list | tuple | torch.Size):
        return (type(value), tuple(_freeze(part, seen) for part in value))
    raise TypeError(type(value).__name__)


READ = ("_parameters", "_buffers", "_modules", "training")
UNREAD = frozenset(key for key in vars(nn.Module()) if key not in READ)
"""Attributes that every module has and no reset depends on: hooks."""

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
    "fill_": lambda tensor, value: Constant(_recorded_number(value)),
    "zero_": lambda tensor: Constant(0.0),
    "constant_": lambda tensor, val: Constant(_recorded_number(val)),
    "kaiming_uniform_": _kaiming(kaiming_uniform),
    "kaiming_normal_": _kaiming(kaiming_normal),
}
"""Calls that give a whole tensor its values, with what they give it; keywords as torch names them."""

KEYWORDS = {"from": "a", "to": "b", "low": "a", "high": "b", "min": "least", "max": "most"}
"""Keywords of tensor methods that torch.nn.init spells differently, or that Python has a use for."""

CHANGES: Mapping[str, Callable[..., Drawn]] = {
    "mul_": lambda before, by: scaled(before, float(_recorded_number(by))),
    "div_": lambda before, by: divided(before, float(_recorded_number(by))),
    "add_": lambda before, by: shifted(before, float(_recorded_number(by))),
    "erfinv_": lambda before: inverse_erf(before),
    "clamp_": lambda before, least, most: clamped(
        before, float(_recorded_number(least)), float(_recorded_number(most))
    ),
}
"""Calls that change what is there; the last three are what older ways to draw truncated normals are made of."""


def _recorded_number(value: Any) -> float | int:
    if isinstance(value, bool | int | float):
        return value
    raise TypeError("the value is a tensor")


class _Notes(TorchFunctionMode):
    """Notes fills of a module's tensors instead of executing them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        parts = submodules_of(module).values()
        held = (tensor for part in parts for tensor in (*part._parameters.values(), *part._buffers.values()))
        self._watched = {_storage(tensor): tensor for tensor in held if tensor is not None}
        self._written: dict[int, Outcome] = {}
        self._noted: FrameType | None = None
        self._padding = {
            _storage(part.weight): part.padding_idx
            for part in parts
            if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.padding_idx is not None
        }

    def of(self, tensor: Tensor) -> Outcome | None:
        """Return what is in the tensor; None where nothing wrote it."""
        return self._written.get(_storage(tensor))

    def watches(self, tensor: Tensor) -> bool:
        """Return whether the tensor still has the memory that it came with."""
        return self._watched.get(_storage(tensor)) is tensor

    def spoil(self, tensor: Tensor, reason: str) -> None:
        """Note that a tensor was written in a way that cannot be read."""
        if _storage(tensor) in self._watched and not self._within_noted():
            self._written[_storage(tensor)] = reason

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        target = args[0] if args else kwargs.get("tensor")
        if name == "__set__" and isinstance(target, Tensor) and not target.is_meta:
            raise OutsideError("it changes a tensor outside the module")
        if not isinstance(target, Tensor) or _storage(target) not in self._watched:
            return func(*args, **kwargs)
        self._note_caller(func, target, sys._getframe(1))
        if name in FILLS or name in CHANGES:
            kwargs.pop("tensor", None)
            if not self._within_noted():
                self._note(name, target, args[1:], kwargs)
            return target
        return func(*args, **kwargs)

    def _note_caller(self, func: Any, target: Tensor, caller: FrameType) -> None:
        """Note the function of torch.nn.init that makes a call: its steps have no meaning one by one.

        Those that ask whether a tensor is on meta return at once if it is; before torch 2.13 most do not ask.
        """
        if caller is self._noted or caller.f_globals.get("__name__") != "torch.nn.init":
            return
        name = caller.f_code.co_name.removeprefix("_no_grad_")
        key = _storage(target)
        if name not in WHOLE:
            if func == IS_META and name not in FILLS:
                self.spoil(target, f"{name} has no closed form")
            return
        if target.shape != self._watched[key].shape:
            self._written[key] = f"{name} writes a part of it"
        else:
            try:
                self._written[key] = WHOLE[name](Fans(target.shape), caller.f_locals)
            except (TypeError, ValueError) as error:
                self._written[key] = f"{name} cannot be read ({error})"
        self._noted = caller

    def _within_noted(self) -> bool:
        """Return whether the function that was noted last is still at work."""
        if self._noted is None:
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._noted:
            frame = frame.f_back
        if frame is None:
            self._noted = None
        return frame is not None

    def _note(self, name: str, target: Tensor, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key = _storage(target)
        whole, before = self._watched[key], self._written.get(key)
        keywords = {KEYWORDS.get(word, word): value for word, value in kwargs.items() if word != "generator"}
        try:
            if target.numel() != whole.numel():
                row = self._padding.get(key)
                zeroed = name in FILLS and FILLS[name](target, *rest, **keywords) == Constant(0.0)
                # Embeddings zero their padding row after the draw; a plan does that for every initializer.
                if not (zeroed and row is not None and _is_row(target, whole, row)):
                    self._written[key] = f"{name} writes a part of it"
            elif name in FILLS:
                self._written[key] = FILLS[name](whole, *rest, **keywords)
            elif before is None or isinstance(before, str):
                self._written[key] = before or f"{name} changes what no call has filled"
            else:
                self._written[key] = CHANGES[name](before, *rest, **keywords)
        except (TypeError, ValueError, ArithmeticError) as error:
            self._written[key] = f"{name} cannot be read ({error})"


class OutsideError(RuntimeError):
    """A reset reached for something that is not the module's own."""


def _device(args: Any, kwargs: Any) -> torch.device:
    """Return where an operator works: the device it is told, or that of its first tensor."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    return next((value.device for value in args if isinstance(value, Tensor)), torch.device("cpu"))


class _Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's stubs
    """Sees the operators that are executed, and spoils what they write to."""

    def __init__(self, notes: _Notes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stubs
        self._notes = notes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = kwargs.get(argument.name) if argument.name in kwargs or position >= len(args) else args[position]
            for tensor in value if isinstance(value, list | tuple) else [value]:
                if isinstance(tensor, Tensor):
                    if not tensor.is_meta:
                        raise OutsideError("it writes to a tensor outside the module")
                    self._notes.spoil(tensor, f"{func._schema.name.removeprefix('aten::')} has no closed form")
        if torch.Tag.nondeterministic_seeded in func.tags and _device(args, kwargs).type != "meta":
            raise OutsideError("it draws random numbers of its own")
        return func(*args, **kwargs)


IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]  # a property to the stubs, a descriptor at run time


def _is_row(part: Tensor, whole: Tensor, row: int) -> bool:
    return part.shape == whole.shape[1:] and part.storage_offset() == whole.storage_offset() + row * whole.stride(0)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
