"""What a constructor's own code draws: every tensor's ancestry among the draws of torch's generator.

A construction runs under a mode that sees each operator. A draw is numbered and the generator's state before it is
kept; what an operator computes from drawn tensors, or writes into one, descends from the same draws. So a parameter
that was drawn, cut, scaled and copied is known by the first and the last draw that it holds, and the generator can be
put back to where its values began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

OVERWRITES = frozenset({"zero_", "fill_", "copy_", "normal_", "uniform_", "random_", "bernoulli_", "randperm", "set_"})
"""Operators that leave nothing of what their tensor held, as long as they write the whole of its memory."""


class Span(NamedTuple):
    """The first and the last draw that a tensor holds."""

    first: int
    last: int


def joined(spans: list[Span]) -> Span | None:
    """From the first of the draws to the last; None where there are none."""
    return Span(min(span.first for span in spans), max(span.last for span in spans)) if spans else None


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's stubs
    """Numbers the draws, keeps the generator's state before each, and follows where they end up."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.states: list[Tensor] = []
        self._spans: dict[int, Span | None] = {}
        self._alive: dict[int, Any] = {}  # or the memory of another tensor would take its place

    def of(self, tensor: Tensor) -> Span | None:
        """The draws that are in a tensor."""
        return self._spans.get(self._key(tensor))

    def _key(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        key: int = storage._cdata
        self._alive.setdefault(key, storage)
        return key

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        name = func._schema.name.partition("::")[2]
        written = given[:1] if func._schema.is_mutable and given else []
        whole = bool(written) and written[0].untyped_storage().nbytes() == written[0].numel() * written[0].itemsize
        read = given[1:] if name in OVERWRITES and whole else given
        spans = [span for tensor in read if (span := self._spans.get(self._key(tensor))) is not None]
        before = torch.random.get_rng_state() if torch.Tag.nondeterministic_seeded in func.tags else None
        result = func(*args, **kwargs)
        if before is not None and not torch.equal(before, torch.random.get_rng_state()):
            spans.append(Span(len(self.states), len(self.states)))
            self.states.append(before)
        span = joined(spans)
        for tensor in [*written, *(value for value in tree_iter(result) if isinstance(value, Tensor))]:
            if func._schema.is_mutable or not self._shares(tensor, given):
                self._spans[self._key(tensor)] = span
        return result

    @staticmethod
    def _shares(tensor: Tensor, given: list[Tensor]) -> bool:
        """Whether a result is a view of an argument."""
        storage = tensor.untyped_storage()._cdata
        return any(storage == other.untyped_storage()._cdata for other in given)


@dataclass(frozen=True)
class Pass:
    """Parameters that the original draws one after another, in the order in which the model names them.

    Args:
        names: of the parameters.
        state: of the generator, before the first draw.
    """

    names: tuple[str, ...]
    state: Tensor


@dataclass(frozen=True)
class Recorded:
    """A model as its own code leaves it.

    Args:
        model: constructed.
        values: of its parameters, by name.
        passes: every drawn parameter in one of them, in the order of the draws.
    """

    model: nn.Module
    values: dict[str, Tensor]
    passes: tuple[Pass, ...]


def recorded(build: Callable[[], nn.Module], seed: int) -> Recorded:
    """Construct a model under a seed and follow what is drawn."""
    torch.manual_seed(seed)
    draws = Draws()
    with draws:
        model = build()
    named = dict(model.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in named.items()}
    return Recorded(model, values, _passes(draws, named))


def _passes(draws: Draws, named: dict[str, nn.Parameter]) -> tuple[Pass, ...]:
    """The draws that are in a model, cut wherever a draw between them is in no parameter, or their order is another."""
    places = {name: place for place, name in enumerate(named)}
    drawn = sorted((span, name) for name, parameter in named.items() if (span := draws.of(parameter)) is not None)
    groups: list[list[str]] = []
    before: tuple[Span, str] | None = None
    for span, name in drawn:
        if before is None or span.first != before[0].last + 1 or places[name] < places[before[1]]:
            groups.append([])
        groups[-1].append(name)
        before = (span, name)
    first = {name: span.first for span, name in drawn}
    return tuple(Pass(tuple(group), draws.states[first[group[0]]]) for group in groups)
