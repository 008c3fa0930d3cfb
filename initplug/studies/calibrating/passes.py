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

from initplug.filling.words import key_of
from initplug.planning.parametrized import submodules_of
from initplug.planning.wrappers import unwrapped
from initplug.studies.probing.kept import surroundings_kept


@contextmanager
def undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Run a model's code in evaluation mode without gradients, and make it what it was but for its parameters' values.

    What is drawn meanwhile depends on the seed. No module is compiled, or skipped by a fused kernel.

    Args:
        model: as the user has it.
        seed: of what is drawn.
    """
    with ExitStack() as stack:
        stack.enter_context(surroundings_kept(model))
        for module in submodules_of(model).values():
            if module.training:
                module.training = False  # not by `train`, which modules may have overridden to do more
        for begin, end in _fused_off():
            stack.callback(end)
            begin()
        stack.enter_context(torch.no_grad())
        own = int(key_of(seed, "", "pass")[0]) % 2**32
        torch.manual_seed(own)
        random.seed(own)
        np.random.seed(own)  # the global one, which models use
        yield


def call(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what a model gives for inputs; wrappers of the whole model are left out."""
    return unwrapped(model)(*args, **kwargs)


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
