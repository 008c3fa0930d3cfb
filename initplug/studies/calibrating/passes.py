"""Passes: a model's forward on inputs, run to look at it; what it changes on the way is put back."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from initplug.filling.backups import backed_up, put_back
from initplug.filling.owners import generators_kept
from initplug.filling.words import key_of
from initplug.planning.parametrized import submodules_of
from initplug.planning.slots import Tree
from initplug.planning.walk import buffers_of
from initplug.planning.wrappers import unwrapped


@contextmanager
def undisturbed(model: nn.Module, tree: Tree, seed: int) -> Iterator[None]:
    """Run a model's code in evaluation mode without gradients, and make it what it was but for its parameters' values.

    Buffers, tensors that are attributes, attributes themselves, training modes and all global generators are as before;
    what is drawn meanwhile depends on the seed. No module is compiled, or skipped by a fused kernel.

    Args:
        model: as the user has it.
        tree: the walked model.
        seed: of what is drawn.
    """
    buffers = buffers_of(tree)
    device = next((tensor.device for tensor in tree.slots.tensors if tensor.device.type == "cuda"), torch.device("cpu"))
    with ExitStack() as stack:
        stack.enter_context(generators_kept(device))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # the global one, which models use
        backup = backed_up(tree, buffers, np.arange(len(buffers)), torch.device("cpu"))  # type: ignore[arg-type]  # slots
        stack.callback(put_back, backup)
        held = [(tensor, tensor.detach().clone()) for tensor in _attributes(model)]
        stack.callback(_give_back, held)
        modes = [(module, module.training) for module in submodules_of(model).values()]
        stack.callback(_set_modes, modes)
        _set_modes([(module, False) for module, _ in modes])
        for begin, end in _fused_off():
            stack.callback(end)
            begin()
        stack.enter_context(torch.no_grad())
        own = int(key_of(seed, "", "pass")[0]) % 2**32
        torch.manual_seed(own)
        random.seed(own)
        np.random.seed(own)  # as above
        yield


def call(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what a model gives for inputs; wrappers of the whole model are left out."""
    return unwrapped(model)(*args, **kwargs)


def _attributes(model: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that modules have as plain attributes."""
    for module in submodules_of(model).values():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_meta and value.layout == torch.strided:
                yield value


def _give_back(held: list[tuple[Tensor, Tensor]]) -> None:
    for tensor, value in held:
        if tensor.shape == value.shape and not torch.equal(tensor, value):
            tensor.copy_(value)


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Set training modes; not by `train`, which modules may have overridden to do more."""
    for module, training in modes:
        if module.training != training:
            module.training = training


def _fused_off() -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Yield how what goes around the forward of modules is turned off, and on again."""
    mha: Any = torch.backends.mha
    if mha.get_fastpath_enabled():
        yield lambda: mha.set_fastpath_enabled(False), lambda: mha.set_fastpath_enabled(True)
    set_stance: Any = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    if set_stance is not None and "torch._dynamo" in sys.modules:
        stance: Any = []
        yield lambda: stance.append(set_stance("force_eager")), lambda: stance.pop().__exit__(None, None, None)


class Spread(NamedTuple):
    """The moments of an output.

    Args:
        mean: of its elements.
        std: population standard deviation.
        numel: number of elements.
        beyond: how many of them are NaN or infinite.
    """

    mean: float
    std: float
    numel: int
    beyond: int = 0

    @property
    def constant(self) -> bool:
        """Return whether its elements are all the same but for rounding."""
        return self.std <= 1e-6 * abs(self.mean)


def spread_of(tensor: Tensor) -> Spread:
    """Return the moments of all elements of a tensor.

    Example:
        >>> spread_of(torch.tensor([1.0, 3.0]))
        Spread(mean=2.0, std=1.0, numel=2, beyond=0)
    """
    values = tensor.detach()
    if not values.is_complex():
        values = values.double() if values.numel() < SMALL else values.float()
    variance, mean = torch.var_mean(values, correction=0)
    if not torch.isfinite(variance):
        beyond = int((~torch.isfinite(values)).sum())
        if beyond:
            return Spread(float("nan"), float("nan"), values.numel(), beyond)
        variance, mean = torch.var_mean(values.double(), correction=0)
    return Spread(float(mean.real), float(variance) ** 0.5, values.numel())


SMALL = 1 << 20
"""Elements up to which moments are taken in double precision; of more, single is as good, and takes half the memory."""
