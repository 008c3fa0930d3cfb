"""Verdicts on a trace, in words: what is wrong, in which layer, by how much, and the way out; and mere notes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from initplug.errors import cut, visible
from initplug.studies.probing.traces import Layer, Station, Trace

Kind = Literal[
    "not finite",
    "signal dies",
    "signal explodes",
    "gradient vanishes",
    "gradient explodes",
    "dead units",
    "saturated units",
    "drowned stream",
    "one-hot attention",
    "first loss",
    "zero output",
    "zero branches",
    "uniform attention",
    "unreached",
]

LOST = 1e-4
"""The part of a signal, or of a gradient, below which it is lost: plain nets of 56 layers that train keep more."""

HUGE = 1e2
"""The factor above which a signal has exploded: sound nets grow by less than ten."""

STEEP = 1e3
"""The factor above which a gradient has: batch norm makes that of a ResNet-50 grow to a hundred on small batches."""

DEAD = 0.6
"""The share of dead units that is too much: where all inputs have come to look alike, half are dead."""

SATURATED = 0.5
"""The share of saturated elements that is too much."""

DROWNED = 8.0
"""The size beside that of the stream from which a branch drowns it."""

ONE_HOT = 0.8
"""The mean of the largest attention weight from which on attention is one-hot."""

UNIFORM = 0.99
"""The evenness from which on attention is uniform."""

EXCESS = 2.0
"""Nats above ln(classes) at which the first loss is far off."""

FEWEST = 3
"""Stations that a line must have to be judged."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something that one pass shows.

    Args:
        kind: what it is.
        layer: where, by the name of the trace's row or block.
        value: the number that was judged.
        message: the verdict in words.
        hint: the way out; None of a note.
        alarm: whether it is wrong; sound recipes do what is only noted.
    """

    kind: Kind
    layer: str
    value: float
    message: str
    hint: str | None
    alarm: bool

    def __str__(self) -> str:
        return visible(self.message + (f" ({self.hint})" if self.hint else ""))

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data; a number beyond what JSON holds is null."""
        value = self.value if math.isfinite(self.value) else None
        names = ("kind", "layer", "message", "hint", "alarm")
        return {"value": value, **{name: getattr(self, name) for name in names}}


def judged(trace: Trace) -> tuple[Verdict, ...]:
    """Return the verdicts on a trace, alarms first."""
    judges: Sequence[Callable[[Trace], Iterator[Verdict]]] = (
        _not_finite,
        _signal,
        _gradient,
        _dead,
        _saturated,
        _drowned,
        _attention,
        _first_loss,
        _zero_output,
        _unreached,
    )
    found = [verdict for judge in judges for verdict in judge(trace)]
    return tuple(sorted(found, key=lambda verdict: not verdict.alarm))


def _not_finite(trace: Trace) -> Iterator[Verdict]:
    broken = next((layer for layer in trace.layers if not layer.finite), None)
    if broken is not None:
        place = trace.layers.index(broken)
        before = f"after {trace.layers[place - 1].name} was finite" if place else "the inputs are finite"
        text = f"NaN or infinity first appears in {broken.name} ({broken.kind}); {before}"
        hint = "look at what this layer divides by, takes the root or logarithm of, or overflows in its dtype"
        yield Verdict("not finite", broken.name, float("nan"), text, hint, True)
        return
    back = [layer for layer in trace.layers if layer.gradient_finite is False]
    if back:
        layer = back[-1]
        text = f"the gradient is NaN or infinite from {layer.name} ({layer.kind}) on towards the input"
        hint = "look at what comes after this layer: roots and norms of zero have no slope"
        yield Verdict("not finite", layer.name, float("nan"), text, hint, True)


# The line against depth -------------------------------------------------------------------------------------


def _signal(trace: Trace) -> Iterator[Verdict]:
    stations = [station for station in _inner(trace) if _level(station) is not None]
    if len(stations) < FEWEST:
        return
    levels = [_level(station) or 0.0 for station in stations]
    first, last = levels[0], levels[-1]
    if not first:
        return
    ratio = last / first
    unit, where = trace.unit, stations[-1].name
    if ratio < LOST:
        gone = next(place for place, level in enumerate(levels) if level < LOST * first)
        step = _step(levels[: gone + 1])  # what comes later may be rounding alone
        stds = [station.layer.std or 0.0 for station in stations]
        after = f"below a ten-thousandth after {gone} {unit}s ({stations[gone].name})"
        if stds[-1] > 10 * LOST * stds[0]:
            text = (
                f"differences between inputs die: their variance {_changes(step)} each {unit}, {after}; what is left "
                f"in {where}, std {stds[-1]:.2g}, is the same for all inputs"
            )
        else:
            text = f"the signal dies: variance {_changes(step)} each {unit}, {after}; std {stds[-1]:.2g} in {where}"
        yield Verdict("signal dies", stations[gone].name, ratio, text, _gain_hint(trace), True)
    elif ratio > HUGE:
        gone = next(place for place, level in enumerate(levels) if level > HUGE * first)
        step = _step(levels[: gone + 1])
        text = (
            f"the signal explodes: variance {_changes(step)} each {unit}, above a hundredfold after {gone} {unit}s "
            f"({stations[gone].name}); std {last:.2g} in {where}"
        )
        yield Verdict("signal explodes", stations[gone].name, ratio, text, _damping_hint(trace), True)


def _inner(trace: Trace) -> list[Station]:
    """Return the stations without the head, which has a scale of its own, as small as zero."""
    stations = list(trace.stations)
    if trace.unit == "layer" and stations and stations[-1].layer is trace.layers[-1]:
        stations.pop()
    return stations


def _level(station: Station) -> float | None:
    """Return how strong the signal is: what differs between inputs, or the std where there is one input."""
    return station.layer.std if station.layer.signal is None else station.layer.signal


def _step(levels: Sequence[float]) -> float:
    """Return the factor of the variance from one station to the next, in the geometric mean."""
    kept = [level for level in levels if level]
    return float((kept[-1] / kept[0]) ** (2 / max(len(kept) - 1, 1)))


def _changes(step: float) -> str:
    """Return what a variance does by a factor, in words.

    Example:
        >>> _changes(0.52), _changes(0.17), _changes(2.1), _changes(5.0)
        ('halves', 'falls to 0.17', 'doubles', 'grows by 5')
    """
    if 0.42 < step < 0.6:
        return "halves"
    if 1.7 < step < 2.4:
        return "doubles"
    return f"falls to {step:.2g}" if step < 1 else f"grows by {step:.2g}"


def _functions(trace: Trace) -> set[str]:
    return {layer.function for layer in trace.layers if layer.function is not None}


def _gain_hint(trace: Trace) -> str:
    """Return the initializer that keeps the variance under the model's nonlinearity."""
    functions = _functions(trace)
    for function in ("selu", "tanh", "gelu", "silu", "elu", "mish", "leaky_relu"):
        if function in functions:
            fitting = {"selu": "lecun_normal", "leaky_relu": "kaiming_normal"}
            return f"{fitting.get(function, f'xavier_normal gain={function}')} keeps it with {function}, biases 0"
    if functions & {"relu", "relu6"}:
        return "kaiming_normal nonlinearity=relu keeps it, biases 0"
    return "lecun_normal keeps it, biases 0, or a norm between the layers"


def _damping_hint(trace: Trace) -> str:
    if trace.branches:
        count = "factor: {count: <Block>, times: 2}"
        return f"scale what ends a branch by the number of branches, {count}, or let it begin with zeros"
    return _gain_hint(trace)


def _gradient(trace: Trace) -> Iterator[Verdict]:
    stations = [station for station in _inner(trace) if station.layer.gradient_norm is not None]
    if len(stations) < FEWEST:
        return
    levels = [station.layer.gradient_norm or 0.0 for station in stations]
    last = levels[-1]
    if not last or not all(map(math.isfinite, levels)):
        return
    ratio, step, unit = levels[0] / last, _step(levels[::-1]), trace.unit
    if ratio < LOST:
        gone = next(place for place in reversed(range(len(levels))) if levels[place] < LOST * last)
        name = stations[gone].name
        text = (
            f"gradients vanish towards the input: their variance {_changes(step)} each {unit}, below a ten-thousandth "
            f"{len(levels) - 1 - gone} {unit}s before the last ({name}); {ratio:.1g} of it reaches {stations[0].name}"
        )
        yield Verdict("gradient vanishes", name, ratio, text, _gain_hint(trace), True)
    elif ratio > STEEP:
        gone = next(place for place in reversed(range(len(levels))) if levels[place] > STEEP * last)
        name = stations[gone].name
        text = (
            f"gradients explode towards the input: their variance {_changes(step)} each {unit}, above a thousandfold "
            f"{len(levels) - 1 - gone} {unit}s before the last ({name}); {ratio:.1g} times as much reaches "
            f"{stations[0].name}"
        )
        yield Verdict("gradient explodes", name, ratio, text, _damping_hint(trace), True)


# Units ------------------------------------------------------------------------------------------------------


def _dead(trace: Trace) -> Iterator[Verdict]:
    dead = [layer for layer in trace.layers if layer.dead is not None and layer.dead > _by_chance(layer)]
    if dead:
        worst = max(dead, key=lambda layer: layer.dead or 0)
        text = f"{_share(worst.dead)} of the units of {worst.name} are dead: zero for every input and place"
        hint = "biases of 0 and weights of mean 0 before it"
        yield Verdict("dead units", worst.name, worst.dead or 0, text + _others(dead), hint, True)


def _by_chance(layer: Layer) -> float:
    """Return the share of dead units that may be seen where half are: where all inputs look alike."""
    units = min((size for size in layer.shape[1:] if size > 1), default=1)
    units = layer.shape[1] if len(layer.shape) > 3 else layer.shape[-1] if len(layer.shape) > 1 else units
    return max(DEAD, 0.5 + 3 * math.sqrt(0.25 / units))


def _saturated(trace: Trace) -> Iterator[Verdict]:
    found = [layer for layer in trace.layers if layer.saturated is not None and layer.saturated > SATURATED]
    if found:
        worst = max(found, key=lambda layer: layer.saturated or 0)
        text = f"{_share(worst.saturated)} of {worst.name} are saturated: {worst.function} has nearly no slope there"
        function = "tanh" if worst.function == "tanh" else "sigmoid"
        hint = f"smaller weights before it: xavier_normal gain={function}"
        yield Verdict("saturated units", worst.name, worst.saturated or 0, text + _others(found), hint, True)


def _share(share: float | None) -> str:
    share = share or 0.0
    return "all" if share >= 0.995 else f"{share:.0%}"


def _others(layers: Sequence[Layer]) -> str:
    return f", and {len(layers) - 1} layers more" if len(layers) > 1 else ""


# Branches, attention, the head ------------------------------------------------------------------------------


def _drowned(trace: Trace) -> Iterator[Verdict]:
    drowned = [branch for branch in trace.branches if branch.stream and branch.ratio > DROWNED]
    if drowned:
        worst = max(drowned, key=lambda branch: branch.ratio)
        text = (
            f"the branch of {worst.name} drowns the stream: it adds std {worst.branch:.2g} to {worst.stream:.2g}, "
            f"{worst.ratio:.0f} times as much"
        )
        more = f", and {len(drowned) - 1} branches more" if len(drowned) > 1 else ""
        hint = "scale what ends a branch by the number of branches, factor: {count: <Block>, times: 2}, or begin with 0"
        yield Verdict("drowned stream", worst.name, worst.ratio, text + more, hint, True)
    zeros = [branch for branch in trace.branches if branch.branch == 0 and branch.stream]
    if zeros:
        counted = f"{len(zeros)} of {len(trace.branches)} residual branches begin as zero"
        text = f"{counted}, {zeros[0].name} the first: the net begins as its shortcuts"
        yield Verdict("zero branches", zeros[0].name, len(zeros), text, None, False)


def _attention(trace: Trace) -> Iterator[Verdict]:
    sharp = [one for one in trace.attentions if one.peaks.peak > ONE_HOT]
    if sharp:
        worst = max(sharp, key=lambda one: one.peaks.peak)
        more = f", and {len(sharp) - 1} more" if len(sharp) > 1 else ""
        text = f"attention of {worst.name} is one-hot at start: the largest weight is {worst.peaks.peak:.2f} on average"
        hint = "smaller queries and keys: std=0.02, or xavier_uniform split=3 where they are packed; or a norm of both"
        yield Verdict("one-hot attention", worst.name, worst.peaks.peak, text + more, hint, True)
    even = [one for one in trace.attentions if one.peaks.evenness > UNIFORM]
    if even:
        counted = f"{len(even)} of {len(trace.attentions)}"
        text = (
            f"attention is uniform at start in {counted} places, {even[0].name} the first: each query looks everywhere"
        )
        yield Verdict("uniform attention", even[0].name, even[0].peaks.evenness, text, None, False)


def _first_loss(trace: Trace) -> Iterator[Verdict]:
    if trace.logits is None:
        return
    loss, classes = trace.logits
    excess = loss - math.log(classes)
    if excess > EXCESS:
        name = trace.layers[-1].name if trace.layers else "the model"
        text = (
            f"the first loss would be {loss:.3g} over {classes} classes, far above ln({classes}) = "
            f"{math.log(classes):.3g}: logits of {name} have std {_number(trace.layers[-1].std)}"
        )
        hint = "a head of std=0.01, of zeros, or lecun_normal; or a norm before it"
        yield Verdict("first loss", name, loss, text, hint, True)


def _zero_output(trace: Trace) -> Iterator[Verdict]:
    last = trace.layers[-1] if trace.layers else None
    if last is not None and last.std == last.mean == 0 and last.weights:
        text = f"{last.name} gives the same for all inputs, since it begins as zeros: no gradient goes below it yet"
        yield Verdict("zero output", last.name, 0.0, text, None, False)


def _unreached(trace: Trace) -> Iterator[Verdict]:
    if trace.unreached:
        names = ", ".join(trace.unreached[:3]) + (", …" if len(trace.unreached) > 3 else "")
        counted = f"{len(trace.unreached)} modules were" if len(trace.unreached) > 1 else "1 module was"
        text = f"{counted} never reached: {cut(names, 200)}"
        yield Verdict("unreached", trace.unreached[0], len(trace.unreached), text, None, False)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
