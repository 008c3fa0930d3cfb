"""A model that is as it was after whatever ran through it: buffers, attributes, modes, hooks, generators, weights."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from initplug.errors import InitplugError, shortened
from initplug.studies.generators import generators_kept

SEED = 0x9B0BE
"""Of torch's generator during a pass, so that dropout drops the same in each."""


def _refill(held: Any, content: Any) -> None:
    held.clear()
    held.update(content)


def _relist(held: Any, content: Any) -> None:
    held.clear()
    held.extend(content)


class Weights:
    """Parameters that are about to be written by a forward, copied before that."""

    def __init__(self, model: nn.Module) -> None:
        self.held = {id(parameter): parameter for parameter in model.parameters()}
        self.versions = {key: _version(parameter) for key, parameter in self.held.items()}
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.saved: dict[int, Tensor] = {}

    def save(self, tensor: Tensor) -> None:
        """Copy a parameter, unless that was done."""
        key = id(tensor)
        if key in self.held and key not in self.saved:
            with torch.no_grad():
                self.saved[key] = tensor.detach().clone()

    def restore(self) -> list[str]:
        """Put the values of written parameters back, and return the names of those that were written unseen."""
        for key, value in self.saved.items():
            parameter = self.held[key]
            if _version(parameter) != self.versions[key] or not torch.equal(parameter.detach(), value):
                with torch.no_grad():
                    parameter.detach().copy_(value)
                _set_version(parameter, self.versions[key])
        return [
            self.names[key]
            for key, parameter in self.held.items()
            if key not in self.saved and _version(parameter) != self.versions[key]
        ]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _set_version(tensor: Tensor, version: int) -> None:
    """Say that a tensor was not written: backward passes of the user's that wait for it hold it to its version."""
    setter: Any = torch._C._autograd._unsafe_set_version_counter
    try:
        setter((tensor,), (version,))
    except TypeError:  # torch before 2.7 took one
        setter(tensor, version)


@contextmanager
def kept(model: nn.Module) -> Iterator[Weights]:
    """Leave a model as it was, whatever happens inside: all that `surroundings_kept` does, and its parameters.

    Yields:
        What parameters can be handed to before they are written, so that they get their values back, too.

    Raises:
        InitplugError: a parameter was written in a way that nobody saw coming.
    """
    weights = Weights(model)
    unseen: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(surroundings_kept(model))
        stack.callback(lambda: unseen.extend(weights.restore()))
        torch.manual_seed(SEED)
        yield weights
    if unseen:
        names = ", ".join(shortened(unseen, 3))
        raise InitplugError(
            f"forward wrote {len(unseen)} parameters in place, and they could not be put back: {names}\n"
            "Probe a copy of the model."
        )


@contextmanager
def surroundings_kept(model: nn.Module) -> Iterator[None]:
    """Leave all of a model but the values of its parameters as it was, and the generators.

    Buffers and other tensors that modules hold are replaced by copies for the time; attributes, training modes among
    them, lists and dictionaries get back what they held; so do generators, torch's, NumPy's, Python's and those that
    modules hold.
    """
    before = [(vars(module), dict(vars(module))) for module in model.modules()]
    held = [(value, copy(value)) for _, found in before for value in found.values() if type(value) in REFILLED]
    generators = [(one, one.get_state()) for _, found in before for one in found.values() if _is_generator(one)]
    with ExitStack() as stack:
        stack.enter_context(generators_kept())
        for attributes, found in before:
            stack.callback(_put_back, attributes, found)
        for value, content in held:
            stack.callback(_put_content_back, value, content)
        for generator, state in generators:
            stack.callback(generator.set_state, state)
        _replace_tensors([attributes for attributes, _ in before])
        yield


def _is_generator(value: Any) -> bool:
    return isinstance(value, torch.Generator)


REFILLED: dict[type, Callable[[Any, Any], None]] = {
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter, set), _refill),
    **dict.fromkeys((list, deque), _relist),
}
"""Functions that give containers of exactly these classes back what they held."""


def _put_back(attributes: dict[str, Any], found: dict[str, Any]) -> None:
    """Give a module its attributes back, the order too."""
    if list(attributes) != list(found) or any(attributes[key] is not value for key, value in found.items()):
        attributes.clear()
        attributes.update(found)


def _put_content_back(value: Any, content: Any) -> None:
    REFILLED[type(value)](value, content)


def _replace_tensors(attributes: list[dict[str, Any]]) -> None:
    """Replace the buffers and other tensors that modules hold by copies, one for all places of each."""
    copies: dict[int, Tensor] = {}
    kept_alive = []  # an identity is one only while its tensor lives

    def replaced(value: Any) -> Any:
        if not _is_plain_tensor(value):
            return value
        kept_alive.append(value)
        if id(value) not in copies:
            with torch.no_grad():
                copies[id(value)] = value.detach().clone()
        return copies[id(value)]

    for held in attributes:
        for key, value in list(held.items()):
            if isinstance(value, dict):
                value.update({name: replaced(one) for name, one in value.items()})
            elif type(value) is list:
                value[:] = [replaced(one) for one in value]
            else:
                held[key] = replaced(value)


def _is_plain_tensor(value: Any) -> bool:
    """Return whether a value is a tensor that a forward may write: no parameter, and no part of a graph."""
    if not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
        return False
    return not value.requires_grad and not value.is_meta and not value.is_inference()
