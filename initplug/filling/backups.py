"""Copies of what a model was before it was written to, and the way back to it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from initplug.columns import Rows
from initplug.errors import ApplyError, InitplugError, brief
from initplug.filling.sharding import local_of
from initplug.planning.parametrized import Computed
from initplug.planning.slots import Slot, Slots, Tree

CONTAINERS = (list, dict, OrderedDict)
"""Containers of tensors in modules; their own parameters and buffers are in an OrderedDict before torch 2.5."""


@dataclass(frozen=True, slots=True)
class _Values:
    """The values that a tensor holds.

    Args:
        tensor: that is going to be written; of a DTensor the part that this rank holds.
        memory: another view of the same elements: setters may give the tensor other memory.
        copy: of the elements.
    """

    tensor: Tensor
    memory: Tensor
    copy: Tensor


@dataclass(frozen=True, slots=True)
class _Attributes:
    """The objects that a module refers to.

    Args:
        module: the module.
        own: its attributes.
        contents: lists and dictionaries among them, parameters and buffers included, each with what is in it.
    """

    module: nn.Module
    own: dict[str, Any]
    contents: Sequence[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Backup:
    """All that writing may change: values, where tensors are and which, and torch's global generators.

    What has no memory yet, on meta, costs none here.
    """

    values: Sequence[_Values]
    attributes: Sequence[_Attributes]
    generators: Sequence[tuple[torch.device, Tensor]]


def backed_up(tree: Tree, slots: Slots, rows: Rows, device: torch.device) -> Backup:
    """Copy what is going to be written.

    Args:
        tree: the walked model.
        slots: of it.
        rows: the slots that are going to be written.
        device: where what is on meta will be.

    Raises:
        ApplyError: there is not memory enough; nothing has been written.
    """
    tensors = {id(one): one for one in _written(slots.taken(rows)) if not one.is_meta}
    devices = {device, *(one.device for one in tensors.values())}
    try:
        with torch.no_grad():
            values = [_Values(one, alias := one.detach(), alias.clone()) for one in tensors.values()]
    except (RuntimeError, MemoryError) as error:
        size = sum(one.nbytes for one in tensors.values())
        message = f"atomic=True takes a copy of what is going to be written, {size / 2**20:,.1f} MB, and there is no"
        raise ApplyError(f"{message} memory for it ({brief(error, 200)}); nothing has been written") from None
    modules = {id(node.module): node.module for node in tree.nodes}
    attributes = [
        _Attributes(
            one, {**vars(one)}, [(held, held.copy()) for held in vars(one).values() if type(held) in CONTAINERS]
        )
        for one in modules.values()
    ]
    return Backup(values, attributes, [(one, _state(one)) for one in devices if one.type in ("cpu", "cuda")])


def _written(slots: Slots) -> Iterator[Tensor]:
    """Yield the tensors that hold the values of slots, and those that setters keep beside them."""
    computed = {*slots.computed}
    for row, tensor in enumerate(slots.tensors):
        if row not in computed:
            yield local_of(tensor)
    for row in computed:
        yield from _stored(slots[row])


def _stored(slot: Slot) -> Iterator[Tensor]:
    for one in (slot.computed, *slot.also):
        if one is not None:
            yield from map(local_of, (*one.stored, *_beside(one)))


def _beside(computed: Computed) -> Iterator[Tensor]:
    """Yield the tensors of what computes a value: singular vectors, and whatever parametrizations have of their own."""
    if isinstance(computed.by, ParametrizationList):
        for part in computed.by.modules():
            every = (*part._parameters.values(), *part._buffers.values(), *vars(part).values())
            yield from (one for one in every if isinstance(one, Tensor))
    else:
        for held in (computed.owner._parameters, computed.owner._buffers):
            start = f"{computed.key}_"
            yield from (one for key, one in held.items() if one is not None and key.startswith(start))


def _state(device: torch.device) -> Tensor:
    """Return the state of the generator that torch draws from on a device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def put_back(backup: Backup) -> None:
    """Make a model what it was."""
    with torch.no_grad():
        for values in backup.values:
            values.memory.copy_(values.copy)
            if not values.tensor.is_set_to(values.memory):
                values.tensor.data = values.memory
    for one in backup.attributes:
        for held, content in ((vars(one.module), one.own), *one.contents):
            _refill(held, content)
    for device, state in backup.generators:
        torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)


def _refill(held: Any, content: Any) -> None:
    """Give a list or a dictionary the very objects that were in it."""
    if isinstance(held, list):
        if not (len(held) == len(content) and all(map(is_, held, content))):
            held[:] = content
        return
    for key in [key for key in held if key not in content]:
        del held[key]
    for key, value in content.items():
        if key not in held or held[key] is not value:
            held[key] = value


RESTORED = "Everything is as it was: what had been written has been restored."


@contextmanager
def restored_on_failure() -> Iterator[list[Backup]]:
    """Make a model what it was if anything fails inside, Ctrl-C included.

    Yields:
        A list that takes the backup; without one the model is left as far as it came.

    Raises:
        ApplyError: what failed inside, and that everything is as it was.
    """
    backups: list[Backup] = []
    try:
        yield backups
    except BaseException as error:
        if not backups:
            raise
        try:
            put_back(backups[0])
        except Exception as failure:
            message = f"{_failure_text(error)}\nWhat was there could not be restored: {brief(failure)}"
            raise ApplyError(message) from error
        if not isinstance(error, Exception) or isinstance(error, Warning):
            raise
        findings = error.findings if isinstance(error, InitplugError) else ()
        raise ApplyError(f"{_failure_text(error)}\n{RESTORED}", findings) from error


def _failure_text(error: BaseException) -> str:
    return str(error) if isinstance(error, InitplugError) else brief(error)
