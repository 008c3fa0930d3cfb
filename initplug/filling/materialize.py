"""Models without memory: building them with parameters on meta, and giving meta tensors a place on a device."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from itertools import compress
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.weak import WeakTensorKeyDictionary

from initplug.auditing.audit import Status
from initplug.columns import Coded
from initplug.errors import ApplyError, Finding, brief, first_line, shortened
from initplug.filling.sharding import is_sharded, local_of, twin_of
from initplug.filling.torch_draws import draw_from_generator
from initplug.planning.advice import own_rule
from initplug.planning.evaluation import FROZEN, Share, has_default
from initplug.planning.meta_buffers import Buffer, Restoration, restorations
from initplug.planning.parametrized import Computed, computed_by_hooks
from initplug.planning.plan import Plan
from initplug.planning.resets import Replays
from initplug.planning.slots import Slot, Slots, Tree
from initplug.schemes.distributions import Keep, Stacked, parts_of

# Building -----------------------------------------------------------------------------------------------------


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
    with _building(WeakTensorKeyDictionary()), _patched(), _SkippedFills():
        yield


@contextmanager
def _building(twins: Any) -> Iterator[None]:
    before, _BUILDING.twins = _BUILDING.twins, twins
    try:
        yield
    finally:
        _BUILDING.twins = before


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
            twin = twins.get(param)
            if twin is None:
                twin = twins[param] = _twin(param, torch.device("meta"))
                # One dictionary for both: attributes that are set on the original after it was registered count, too.
                twin.__dict__ = param.__dict__
            param = twin
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


def _twin(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor without values on another device: its class, strides, requires_grad and attributes kept."""
    with torch.no_grad():
        if is_sharded(tensor):
            data = twin_of(tensor, device)
        elif tensor.layout == torch.strided and not tensor.is_quantized:
            data = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        else:
            data = torch.empty_like(tensor.detach(), device=device)
    if not is_sharded(tensor):
        twin = torch.Tensor._make_subclass(type(tensor), data, tensor.requires_grad)
    else:
        twin = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
    vars(twin).update(vars(tensor))
    return twin


# Checking -----------------------------------------------------------------------------------------------------


def device_of(device: Any) -> torch.device:
    """Return the device that meta tensors go to.

    Raises:
        ApplyError: it does not exist, or holds no values.
    """
    try:
        found = torch.device("cpu" if device is None else device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise ApplyError(f"device={device!r} cannot be used: {first_line(error)}") from None
    if found.type == "meta":
        raise ApplyError(f"device={device!r} holds no values: name the device that the tensors shall be on")
    return found


def without_rule(plan: Plan, tree: Tree) -> list[Restoration]:
    """Return the buffers on meta that no rule takes; the plan is told of all that are on meta."""
    buffers = restorations(tree, plan)
    plan.buffers = tuple(Buffer(buffer.name, buffer.restore) for buffer in buffers)
    return [buffer for buffer in buffers if buffer.restore != "rule"]


@dataclass(frozen=True, slots=True)
class Missing:
    """The tensors that a model has on meta, and what is to become of them.

    Args:
        slots: that are on meta and going to be written.
        buffers: on meta and without a rule, to be restored.
        findings: what would stay on meta, or come off it without its values.
        whole: whether nothing may stay on meta.
    """

    slots: Sequence[Slot]
    buffers: Sequence[Restoration]
    findings: Sequence[Finding]
    whole: bool

    @property
    def tensors(self) -> dict[int, Tensor]:
        """The tensors that need memory, by their ids."""
        slots = (*self.slots, *(buffer.slot for buffer in self.buffers))
        return {id(tensor): tensor for slot in slots for tensor in slot.stored if tensor.is_meta}


def missing(
    plan: Plan,
    tree: Tree,
    slots: Slots,
    statuses: Coded[Status],
    buffers: Sequence[Restoration],
    chosen: Collection[int],
    *,
    whole: bool,
) -> Missing:
    """Say what must get memory, and find what then had no values.

    Args:
        plan: what the slots get.
        tree: the walked model.
        slots: in the plan's order.
        statuses: what applying does to each.
        buffers: on meta, without a rule.
        chosen: positions of what is not to be left as it is: of the slots, then of the buffers.
        whole: whether nothing may stay on meta.
    """
    # The stand-in of a computed tensor is always on meta, so that this settles most.
    on_meta = [*compress(range(len(slots)), map(IS_ON_META, slots.tensors))]
    written = [slots[row] for row in on_meta if statuses[row] in ("initialized", "empty") and slots[row].on_meta]
    known = {*written}
    restored = [
        buffer
        for index, buffer in enumerate(buffers, len(slots))
        if (buffer.weight in known if buffer.weight is not None else index in chosen)
    ]
    shares = plan.shares
    replays = Replays(tree)
    kept = (_nothing_to_keep(slots[row], shares[row], replays) for row in on_meta if row in chosen)
    findings = [finding for finding in kept if finding is not None]
    hint = "build it on a device, or under `initplug.deferred()` if it was not, or add a rule with `kind: buffer`"
    findings += [
        Finding(buffer.name, "it is a buffer on meta, and nothing restores it", hint=hint)
        for buffer in restored
        if buffer.restore == "none"
    ]
    found = Missing(written, restored, findings, whole and bool(written or restored))
    if found.whole:
        registered = {id(tensor) for _, tensor in _registered(tree)}
        findings += [
            Finding(name, "it is on meta, neither a parameter nor a buffer, and nothing restores it")
            for name, tensor in _attributes(tree)
            if id(tensor) not in registered
        ]
    return found


IS_ON_META = attrgetter("is_meta")


def _nothing_to_keep(slot: Slot, share: Share, replays: Replays) -> Finding | None:
    """Return what is wrong with a slot that is to keep values which it does not have, as a whole or in part."""
    planned = share.distribution
    if share.rule is not None and not isinstance(planned, Keep | Stacked):
        return None
    if not slot.on_meta or share.lazy:
        return None
    if share.reason == FROZEN:
        hint = "`frozen: write`, or a rule with `trainable: any`, gives it values"
        return Finding(slot.name, "it is frozen, and there is nothing to keep: it is on meta", hint=hint)
    own = f"give it a later rule of its own, such as `{own_rule(slot)}`"
    if share.rule is None:
        return Finding(slot.name, "no rule takes it, and there is nothing to keep: it is on meta", hint=own)
    if not any(isinstance(part, Keep) for part in parts_of(planned)):
        return None
    if share.init == "keep default":
        hint = "the plan is of a model with values: plan this one"
    elif has_default(replays, slot, whole=isinstance(planned, Keep)):
        hint = "`keep default` draws what the resets of construction draw"
    else:
        hint = own
    return Finding(slot.name, "`keep` has nothing to keep: it is on meta", hint=hint)


def _registered(tree: Tree) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers on meta, at every place, lazy ones left out."""
    for node in tree.nodes:
        for held in (node.module._parameters, node.module._buffers):
            for key, tensor in held.items():
                if tensor is not None and tensor.is_meta and not is_lazy(tensor):
                    yield f"{node.name}.{key}".strip("."), tensor


def _attributes(tree: Tree) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors on meta that modules hold beside parameters and buffers, those that hooks compute left out."""
    for node in tree.nodes:
        hooked = {one.key for one in computed_by_hooks(node.module).values()} if node.module._forward_pre_hooks else ()
        for key, value in vars(node.module).items():
            if key not in REGISTERED and key not in hooked:
                for part in _contained(value):
                    if isinstance(part, Tensor) and part.is_meta:
                        yield f"{node.name}.{key}".strip("."), part


REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})


def _contained(value: Any) -> Collection[Any]:
    """Return a value, or what a plain container holds."""
    if type(value) in (list, tuple):
        return value  # type: ignore[no-any-return]  # one of the two
    return list(value.values()) if type(value) is dict else (value,)


def check_complete(tree: Tree, what: Missing) -> None:
    """Make sure that nothing is left on meta after a model was filled as a whole.

    Raises:
        ApplyError: naming what is.
    """
    if not what.whole:
        return
    left = [*dict.fromkeys(name for name, _ in (*_registered(tree), *_attributes(tree)))]
    if left:
        counted = "1 tensor is" if len(left) == 1 else f"{len(left)} tensors are"
        head = f"all slots have been written, but {counted} still on meta"
        findings = [Finding(name, "it is still on meta") for name in left]
        raise ApplyError("\n".join([head, *(f"  {row}" for row in shortened(left))]), findings)


# Memory -------------------------------------------------------------------------------------------------------


def materialize(tree: Tree, what: Missing, device: torch.device) -> None:
    """Give tensors on meta memory on a device, one new tensor for all places of each, and buffers their constants.

    Args:
        tree: the walked model; its slots refer to the new tensors afterwards.
        what: the slots that are going to be written and the buffers.
        device: where the new tensors are.

    Raises:
        ApplyError: there is not memory enough, or a module refuses its tensor. The model is as it was.
    """
    old = what.tensors
    if not old:
        return
    try:
        new = _allocated(old, device)
        for buffer in what.buffers:
            if buffer.constant is not None:
                draw_from_generator(buffer.constant, local_of(new[id(buffer.slot.tensor)]))
    except (RuntimeError, TypeError, MemoryError) as error:
        raise ApplyError(f"{len(old)} tensors cannot be made on {device}: {brief(error)}") from None
    with _building(None):  # else the new tensors would register on meta where `deferred()` is still open
        _install(tree, new)
    for columns, position in (*what.slots, *(buffer.slot for buffer in what.buffers)):
        tensor = columns.tensors[position]
        columns.tensors[position] = new.get(id(tensor), tensor)
        if position in columns.computed:
            columns.computed[position] = _moved(columns.computed[position], new)
        if position in columns.also:
            columns.also[position] = tuple(_moved(one, new) for one in columns.also[position])


def _allocated(old: Mapping[int, Tensor], device: torch.device) -> dict[int, Tensor]:
    """Return a new tensor for each; those that share a storage on meta share one on the device."""
    plain = {key: tensor for key, tensor in old.items() if tensor.layout == torch.strided and not is_sharded(tensor)}
    keys = {key: tensor.untyped_storage()._cdata for key, tensor in plain.items()}
    counts = Counter(keys.values())
    shared: dict[int, torch.UntypedStorage] = {}
    new: dict[int, Tensor] = {}
    for key, tensor in old.items():
        new[key] = _twin(tensor, device)
        on_meta = keys.get(key, 0)
        if counts[on_meta] > 1:
            if on_meta not in shared:
                size = tensor.untyped_storage().nbytes()
                shared[on_meta] = torch.UntypedStorage(size, device=device)  # type: ignore[no-untyped-call]  # torch's stubs
            with torch.no_grad():
                new[key].set_(shared[on_meta], tensor.storage_offset(), tensor.shape, tensor.stride())
    return new


def _install(tree: Tree, new: Mapping[int, Tensor]) -> None:
    """Put new tensors wherever the old ones are, through the owners' `__setattr__`, or leave all as it was.

    An LSTM keeps a list of its weights up to date there; lists that other modules keep are brought up to date here.
    """
    undo: list[tuple[Any, Any, Any]] = []
    for node in tree.nodes:  # a shared module comes again and holds no old tensor any more
        module, key = node.module, ""
        try:
            for container, place in [*_holders(module, new)]:
                undo.append((container, place, container[place]))
                container[place] = _exchanged(container[place], new)
            for held in (module._parameters, module._buffers):
                for key, tensor in [*held.items()]:
                    if tensor is not None and id(tensor) in new:
                        undo.append((held, key, tensor))
                        if isinstance(tensor, nn.Parameter) and held is module._buffers:
                            module._buffers[key] = new[id(tensor)]  # `__setattr__` would make it a parameter
                        else:
                            setattr(module, key, new[id(tensor)])
        except Exception as error:  # `__setattr__` is the module's own code, which may raise anything
            for container, place, value in reversed(undo):
                container[place] = value
            name = f"{node.name}.{key}".strip(".")
            message = f"it cannot be replaced ({brief(error)})"
            raise ApplyError(f"{name}: {message}", [Finding(name, message)]) from error


def _holders(module: nn.Module, new: Mapping[int, Tensor]) -> Iterator[tuple[Any, Any]]:
    """Yield the places of old tensors beside a module's parameters and buffers, each with its container."""
    for key, value in vars(module).items():
        if key in REGISTERED:
            continue
        if type(value) is list:
            yield from ((value, place) for place, part in enumerate(value) if id(part) in new)
        elif type(value) is dict:
            yield from ((value, place) for place, part in value.items() if id(part) in new)
        elif any(id(part) in new for part in _contained(value)):
            yield vars(module), key


def _exchanged(value: Any, new: Mapping[int, Tensor]) -> Any:
    return tuple(new.get(id(part), part) for part in value) if type(value) is tuple else new[id(value)]


def _moved(computed: Computed, new: Mapping[int, Tensor]) -> Computed:
    """Return the same computation over the new tensors."""
    return replace(computed, stored=tuple(new.get(id(tensor), tensor) for tensor in computed.stored))
