"""Models on meta: what is to get memory, what then has no values, and one new tensor for all places of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initplug.errors import ApplyError, Finding, brief, first_line, shortened
from initplug.filling.deferred import building, twin
from initplug.filling.sharding import is_sharded, local_of
from initplug.filling.torch_draws import draw_from_generator
from initplug.filling.work import Missing, Work
from initplug.planning.advice import own_rule
from initplug.planning.assignment import ADAPTER, FROZEN, Share
from initplug.planning.evaluation import has_default
from initplug.planning.meta_buffers import Restoration
from initplug.planning.parametrized import Computed, computed_by_hooks
from initplug.planning.remarks import causes
from initplug.planning.resets import Replays
from initplug.planning.slots import Slot, Tree
from initplug.schemes.compositions import Keep, Stacked, parts_of

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


def missing(
    work: Work, buffers: Sequence[Restoration], chosen: Collection[int], device: torch.device, *, whole: bool
) -> Missing:
    """Say what must get memory, and find what then had no values.

    Args:
        work: that is to be done.
        buffers: on meta, without a rule.
        chosen: positions of what is not to be left as it is: of the slots, then of the buffers.
        device: where the new tensors are going to be.
        whole: whether nothing may stay on meta.
    """
    tree, slots, statuses, shares = work.tree, work.slots, work.statuses, work.plan.shares
    # The stand-in of a computed tensor is always on meta, so that this settles most.
    on_meta = [*compress(range(len(slots)), map(IS_ON_META, slots.tensors))]
    written = [slots[row] for row in on_meta if statuses[row] in ("initialized", "empty") and slots[row].on_meta]
    known = {*written}
    restored = [
        one
        for index, one in enumerate(buffers, len(slots))
        if (one.weight in known if one.weight is not None else index in chosen)
    ]
    replays = Replays(tree)
    kept = (_nothing_to_keep(slots[row], shares[row], replays) for row in on_meta if row in chosen)
    findings = [finding for finding in kept if finding is not None]
    hint = "build it on a device, or under `initplug.deferred()` if it was not, or add a rule with `kind: buffer`"
    findings += [
        Finding(one.buffer.name, "it is a buffer on meta, and nothing restores it", hint=hint)
        for one in restored
        if one.buffer.restore == "none"
    ]
    found = Missing(written, restored, findings, whole and bool(written or restored), device)
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
    if share.reason == ADAPTER:
        hint = f"a rule that names adapters, such as `{own_rule(slot)}`, gives it values"
        return Finding(slot.name, "it is of an adapter, and there is nothing to keep: it is on meta", hint=hint)
    own = f"give it a later rule of its own, such as `{own_rule(slot)}`"
    if share.rule is None:
        return Finding(slot.name, "no rule takes it, and there is nothing to keep: it is on meta", hint=own)
    if not any(isinstance(part, Keep) for part in parts_of(planned)):
        return None
    if told := causes(planned):
        return Finding(slot.name, f"`default` leaves it unwritten, and it is on meta: {'; '.join(told)}", hint=own)
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


def materialize(tree: Tree, what: Missing) -> None:
    """Give tensors on meta memory on a device, one new tensor for all places of each, and buffers their constants.

    Args:
        tree: the walked model; its slots refer to the new tensors afterwards.
        what: the slots that are going to be written and the buffers.

    Raises:
        ApplyError: there is not memory enough, or a module refuses its tensor. The model is as it was.
    """
    old, device = what.tensors, what.device
    if not old:
        return
    try:
        new = _allocated(old, device)
        for buffer in what.buffers:
            if buffer.constant is not None:
                draw_from_generator(buffer.constant, local_of(new[id(buffer.slot.tensor)]))
    except (RuntimeError, TypeError, MemoryError) as error:
        raise ApplyError(f"{len(old)} tensors cannot be made on {device}: {brief(error)}") from None
    with building(None):  # else the new tensors would register on meta where `deferred()` is still open
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
        new[key] = twin(tensor, device)
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
