"""The course of inputs through a model, pass by pass: layers are heard, and their weights drawn until outputs fit."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initplug.columns import coded
from initplug.errors import NAME, ApplyError, Finding, brief
from initplug.filling.work import Progress, Work
from initplug.filling.write import write
from initplug.planning.plan import Plan
from initplug.schemes.compositions import Copy, Drawn
from initplug.studies.calibrating.layers import Layer
from initplug.studies.calibrating.passes import Spread, call, spread_of, undisturbed
from initplug.studies.probing.inputs import Inputs
from initplug.studies.probing.passage import first_float


@dataclass(slots=True)
class Course:
    """The inputs on their way through a model, layer after layer, as often as it takes.

    Args:
        work: what drawing again takes.
        layers: that are listened to.
        progress: told of every layer.
        searching: whether weights are drawn again, or outputs heard only.
        changed: whether this pass has drawn anything again.
        met: the rows of the layers that it has come to.
        fault: that ended it.
    """

    work: Work
    layers: Sequence[Layer]
    progress: Progress | None
    searching: bool = True
    changed: bool = False
    met: set[int] = field(default_factory=set)
    fault: ApplyError | None = None

    def run(self, model: nn.Module, inputs: Inputs, most: int) -> int:
        """Pass inputs through a model until a pass has changed nothing; return how many passes it took.

        Args:
            model: as the user has it.
            inputs: of its forward.
            most: passes that may change something; one more looks at what they left.
        """
        for number in range(1, most + 1):
            self._once(model, inputs)
            self.progress = None  # what is done is done
            if not self.changed:
                return number
        self.searching = False
        self._once(model, inputs)
        return most + 1

    def _once(self, model: nn.Module, inputs: Inputs) -> None:
        self.changed = False
        self.met.clear()
        for layer in self.layers:
            layer.calls = 0
            layer.search.tried.clear()
        assert self.work.settings.seed is not None  # which calibrating takes
        try:
            with undisturbed(model, self.work.settings.seed), self._listening():
                call(model, inputs.positional, inputs.named)
        except Exception as error:
            if self.fault is None:
                raise ApplyError(f"the forward raised {brief(error, NAME)}{_place(error)}") from error
        if self.fault is not None:  # whatever the model made of it
            raise self.fault

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Have the modules of layers tell of their outputs, before any hook changes these."""
        before: list[tuple[dict[str, Any], Any]] = []
        try:
            for layer in self.layers:
                for place, module in layer.modules.items():
                    own, forward = vars(module), module.forward
                    before.append((own, own.get("forward", ABSENT)))
                    own["forward"] = partial(self._heard, layer, place, forward)
            yield
        finally:
            for own, forward in reversed(before):
                own.pop("forward", None)
                if forward is not ABSENT:
                    own["forward"] = forward

    def _heard(self, layer: Layer, place: str, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the forward of a layer's module; for the first time in a pass, draw its weight until the output fits."""
        given = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and not one.is_inference()]
        versions = [one._version for one in given]
        output = forward(*args, **kwargs)
        spread = self._spread(layer, place, output, given)
        if spread is None:
            return output
        if versions != [one._version for one in given]:
            layer.reason = "its forward writes to its input"
        layer.calls += 1
        if layer.row in self.met:
            return output
        self.met.add(layer.row)
        layer.hear(spread, place, len(self.met))
        while self.searching and (factor := layer.next_factor()) is not None:
            self._draw(layer, factor)
            output = forward(*args, **kwargs)
            again = self._spread(layer, place, output, given)
            layer.hear(spread if again is None else again, place, len(self.met))
        if self.progress is not None:
            self.progress(len(self.met), len(self.layers))
        return output

    def _spread(self, layer: Layer, place: str, output: Any, given: Sequence[Tensor]) -> Spread | None:
        """Return the moments of an output for the tensors given; None where it has none.

        Raises:
            ApplyError: it holds NaN or infinities.
        """
        tensor = first_float(output)
        layer.silent = tensor is None or tensor.layout != torch.strided or tensor.is_nested
        if tensor is None or layer.silent or not tensor.numel():
            return None
        spread = spread_of(tensor)
        if spread.beyond:
            first = first_float([*given])
            already = first is not None and not bool(torch.isfinite(first).all())
            cause = ", as some of its input" if already else ""
            what = f"{spread.beyond} of the {spread.numel} elements of its output are NaN or infinite{cause}"
            found = Finding(place or layer.slot.name, what)
            self.fault = ApplyError(f"{found.path} ({layer.module_type}): {what}", [found])
            raise self.fault
        return spread

    def _draw(self, layer: Layer, factor: float) -> None:
        """Draw a weight again, times a factor, and what copies it."""
        layer.search.factor = factor
        self.changed = True
        work, row = self.work, layer.row
        share = work.plan.shares[row]
        assert isinstance(share.distribution, Drawn)  # what makes it a layer
        try:
            drawn = share._replace(distribution=share.distribution.times(factor))
        except (ValueError, ArithmeticError) as error:
            self.fault = ApplyError(f"{layer.slot.name} times {factor:g}: {error}")
            raise self.fault from None
        rows = [row, *_copies(work.plan, row)]
        shares = coded([drawn, *(work.plan.shares[one] for one in rows[1:])])
        sources = {place: work.sources[one] for place, one in enumerate(rows) if one in work.sources}
        write(
            replace(
                work,
                plan=work.plan.part(rows, shares),
                slots=work.slots.taken(np.array(rows)),
                statuses=work.statuses.taken(rows),
                sources=sources,
            )
        )
        torch.clear_autocast_cache()  # which holds what it was


ABSENT = object()


def _copies(plan: Plan, row: int) -> list[int]:
    """Return the rows that copy a row, by way of other copies too."""
    found, names = [row], {plan.names[row], *plan.aliases(row)}
    rows = plan.shares.where(lambda share: isinstance(share.distribution, Copy)).tolist()
    copied = [
        (other, distribution.source)
        for other in rows
        if isinstance(distribution := plan.shares[other].distribution, Copy)
    ]
    for _ in copied:
        for other, source in copied:
            if source in names and other not in found:
                found.append(other)
                names.update((plan.names[other], *plan.aliases(other)))
    return found[1:]


def _place(error: BaseException) -> str:
    """Return the line of code that raised an error, in brackets: of the model, if any of it was running."""
    own = str(Path(torch.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not frame.filename.startswith((own, PACKAGE))]
    return f" ({others[-1].filename}:{others[-1].lineno})" if others else ""


PACKAGE = str(Path(__file__).parents[2])
