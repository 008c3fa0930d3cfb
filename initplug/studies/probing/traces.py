"""The trace of one pass: what every layer gave, what came back to it, and what was done on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from initplug.errors import did_you_mean
from initplug.studies.probing.statistics import FirstLoss, Peaks


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a module, or of a nonlinearity: its output in the forward pass, and the gradient that came back.

    Args:
        name: of the module; `name#2` is its second call, `name:relu` a function that it calls.
        kind: class of the module, or name of the function.
        function: the nonlinearity that gave the output, if one did.
        also: names of modules that hand this output on as theirs.
        shape: of the output; of its first floating-point tensor where there are several.
        mean: of the output's elements; null where they are not finite, as all numbers.
        std: of the output's elements, about their mean.
        signal: the deviation between samples at the same place: what is left of the inputs.
        zeros: share of elements that are zero.
        dead: share of units that are zero for all inputs and places; of rectifiers alone.
        saturated: share of elements where the nonlinearity has nearly no slope; of bounded ones alone.
        gradient: std of the gradient with respect to the output.
        ratio: of `std` to that of the layer before.
        gradient_ratio: of `gradient` to that of the layer before.
        finite: whether all elements of the output are finite.
        gradient_finite: whether all elements of the gradient are; None without one.
        weights: whether the module has parameters of its own with two or more dimensions.
    """

    name: str
    kind: str
    function: str | None
    also: tuple[str, ...]
    shape: tuple[int, ...]
    mean: float | None
    std: float | None
    signal: float | None
    zeros: float | None
    dead: float | None
    saturated: float | None
    gradient: float | None
    ratio: float | None
    gradient_ratio: float | None
    finite: bool
    gradient_finite: bool | None
    weights: bool

    @property
    def numel(self) -> int:
        """The number of elements of the output."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def gradient_norm(self) -> float | None:
        """The norm of the gradient about its mean, which pooling keeps."""
        return None if self.gradient is None else self.gradient * self.numel**0.5

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as plain data."""
        data = {key: getattr(self, key) for key in KEYS}
        return {**data, "shape": [*self.shape], "also": [*self.also]}


KEYS = (
    *("name", "kind", "function", "also", "shape", "mean", "std", "signal", "zeros", "dead", "saturated"),
    *("gradient", "ratio", "gradient_ratio", "finite", "gradient_finite"),
)


@dataclass(frozen=True, slots=True)
class Branch:
    """A sum in which a block adds what it computed to its own input.

    Args:
        name: of the block.
        branch: std of what it adds.
        stream: std of what it adds it to.
    """

    name: str
    branch: float
    stream: float

    @property
    def ratio(self) -> float:
        """The size of the branch beside that of the stream."""
        return self.branch / self.stream if self.stream else float("inf") if self.branch else 0.0


@dataclass(frozen=True, slots=True)
class Attention:
    """The spread of a module's attention at start.

    Args:
        name: of the module.
        peaks: the largest weight and the evenness.
    """

    name: str
    peaks: Peaks


class Station(NamedTuple):
    """A point of the line that is drawn against depth.

    Args:
        name: of the block or layer.
        layer: its row.
    """

    name: str
    layer: Layer


@dataclass(frozen=True, eq=False)
class Trace:
    """One pass through a model: a row for every call of a layer, in order.

    Iterating gives the layers; `trace[name]` finds one by any of its names.

    Args:
        name: what the pass is called among others: recipe and setting, or the model's class.
        layers: in the order in which they gave their outputs.
        branches: residual sums, likewise.
        attentions: that were seen, likewise.
        blocks: names of the repeated blocks that the model is made of, in the order of their calls.
        unreached: modules that were never called and got no gradient.
        start: what the backward pass began from.
        logits: the first loss, where the output looks like logits.
        remarks: on how the pass was made.
        failed: the layer whose forward raised; the trace ends before it.
    """

    name: str
    layers: tuple[Layer, ...]
    branches: tuple[Branch, ...] = ()
    attentions: tuple[Attention, ...] = ()
    blocks: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    start: str = ""
    logits: FirstLoss | None = None
    remarks: tuple[str, ...] = ()
    failed: str | None = None

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> Layer:
        found = self._by_name.get(name)
        if found is None:
            hint = did_you_mean(str(name), self._by_name)
            raise KeyError(f"the trace has no layer {name!r}" + (f" ({hint})" if hint else ""))
        return found

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {name: layer for layer in reversed(self.layers) for name in (layer.name, *layer.also)}

    @property
    def unit(self) -> Literal["block", "layer"]:
        """The word for a station."""
        return "block" if self.blocks else "layer"

    @cached_property
    def stations(self) -> tuple[Station, ...]:
        """The points of the line against depth: the outputs of blocks, or else of layers with weights.

        A layer whose output a nonlinearity takes next is represented by what that gives.
        """
        if self.blocks:
            return tuple(Station(name, self._by_name[name]) for name in self.blocks if name in self._by_name)
        found: list[Station] = []
        for layer in self.layers:
            if layer.weights:
                found.append(Station(layer.name, layer))
            elif layer.function is not None and found and found[-1].layer.shape == layer.shape:
                found[-1] = Station(found[-1].name, layer)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as plain data; missing numbers are null."""
        return {
            "name": self.name,
            "layers": [layer.to_dict() for layer in self.layers],
            "branches": [{"name": one.name, "branch": one.branch, "stream": one.stream} for one in self.branches],
            "attentions": [{"name": one.name, **one.peaks._asdict()} for one in self.attentions],
            "stations": [station.layer.name for station in self.stations],
            "unreached": [*self.unreached],
            "start": self.start,
            "logits": None if self.logits is None else self.logits._asdict(),
            "remarks": [*self.remarks],
        }
