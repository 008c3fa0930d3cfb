"""Whether planned distributions are what a model's own code draws: bit by bit, and by tests of samples.

A sample is mapped by its planned distribution's own function, F(x), which makes it uniform in [0, 1] if the plan is
right, and by the normal quantile, which makes it standard normal. Then five tests hold at any size: its mean is
N(0, 1/n), its sum of squares is χ²(n), Kolmogorov and Smirnov's distance is bounded by their limit, and of N elements
none is below x with probability (1 - F(x))^N, none above it with F(x)^N. Constants are compared exactly, bounds to
rounding, for every element.

A model with P drawn parameters is flagged by chance with a probability of at most `ALARM`: each of the 5P tests is
held to `ALARM`/5P.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from recording import Recorded
from scipy import special, stats
from torch import Tensor, nn

import initplug
from initplug.schemes.log_uniform import LogUniform
from initplug.schemes.structures.arange import Arange
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.sincos import SinCos
from initplug.schemes.uniform_log import UniformLog

Mode = Literal["bits", "bits by only", "distribution"]

ALARM = 1e-6
"""Probability that a model whose draws are as planned has a parameter that is flagged."""

TESTS = 5
"""Tests of a sample."""

ROUNDING = 1e-6
"""By how much single precision moves a bound, relative to it."""

SAMPLE = 4096
"""Elements of a tensor that one construction gives to a sample; constants and bounds are compared on all."""

FILL = 7.0  # no recipe gives what lies between it and 8, so a parameter that nobody wrote cannot pass for equal
Array = NDArray[np.float64]


# Bits -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How far a preset reproduces what a model's own code draws.

    Args:
        mode: `bits` where one pass gives every parameter that the preset does not leave to `default`, `bits by only`
            where it takes several passes, `distribution` where the original draws in another way.
        parameters: how many the model has.
        equal: how many of them have the original's bits, each pass begun where the original began.
    """

    mode: Mode
    parameters: int
    equal: int

    def __str__(self) -> str:
        """What the table of the guide says."""
        if self.mode == "distribution":
            return f"in distribution; {self.equal} of {self.parameters} tensors to the bit"
        return "every tensor to the bit" + (", in several passes" if self.mode == "bits by only" else "")


def compared(original: Recorded, preset: Any) -> Outcome:
    """Apply a preset pass by pass, from the generator's states that the original had, and compare the values."""
    model = original.model
    plan = initplug.plan(model, preset)
    for place, parameter in enumerate(model.parameters(), 2):  # each its own, or modules would be copies of each other
        parameter.data.copy_(torch.linspace(FILL, FILL + 1 - 1 / place, parameter.numel()).view_as(parameter))
    drawn = [name for part in original.passes for name in part.names]
    fixed = [name for name in original.values if name not in set(drawn)]
    if fixed:
        initplug.apply(model, plan, only=every_name(plan, fixed), measure=False)
    for part in original.passes:
        torch.random.set_rng_state(part.state)
        initplug.apply(model, plan, only=every_name(plan, part.names), measure=False)
    named = dict(model.named_parameters())
    equal = [name for name, value in original.values.items() if torch.equal(named[name], value)]
    if len(equal) < len(original.values):
        return Outcome("distribution", len(named), len(equal))
    by_rule = {row.name for row in plan if row.init not in ("default", "default keep")}
    touched = [part for part in original.passes if by_rule.intersection(part.names)]
    return Outcome("bits" if len(touched) < 2 else "bits by only", len(named), len(equal))


def every_name(plan: initplug.Plan, names: Iterable[str]) -> list[str]:
    """Names of slots with their further ones: tied tensors are written where all are listed."""
    return [each for name in names for each in (name, *plan[name].aliases)]


# Distributions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Values of one parameter over several constructions.

    Args:
        values: a part of the elements of each, in double precision.
        low: least element of all.
        high: largest element of all.
        whole: the tensor of each construction, for what is fixed by its shape.
    """

    values: Array
    low: float
    high: float
    whole: tuple[Tensor, ...]

    def part(self, count: int, dim: int, index: int) -> Sample:
        """The sample of one of equal parts along a dimension."""
        return sampled([tensor.chunk(count, dim)[index] for tensor in self.whole])

    def through(self, function: Callable[[Array], Array], gain: float) -> Sample:
        """The sample that a growing function makes of this one, its gain undone."""
        low, high = function(np.array([self.low, self.high]) / gain)
        return Sample(function(self.values / gain), float(low), float(high), self.whole)


UNLINKED: dict[str, Callable[[Array], Array]] = {
    "none": lambda values: values,
    "exp": np.log,
    "inverse_softplus": lambda values: np.logaddexp(values, 0),
}
"""What undoes the links of log-uniform draws."""


def sampled(tensors: Iterable[Tensor]) -> Sample:
    """The sample that tensors of one parameter give."""
    whole = tuple(tensors)
    steps = [max(1, tensor.numel() // SAMPLE) for tensor in whole]
    values = torch.cat([tensor.reshape(-1)[::step] for tensor, step in zip(whole, steps, strict=True)])
    extremes = torch.stack([torch.stack(torch.aminmax(tensor)) for tensor in whole])
    low, high = extremes[:, 0].min().item(), extremes[:, 1].max().item()
    return Sample(values.double().numpy(), float(low), float(high), whole)


def samples_of(build: Callable[[], nn.Module], first: Recorded, seeds: Iterable[int]) -> dict[str, Sample]:
    """Samples of every parameter, over the construction at hand and those under further seeds."""
    constructions = [first.values]
    for seed in seeds:
        torch.manual_seed(seed)
        constructions.append({name: value.detach() for name, value in build().named_parameters()})
    assert all(values.keys() == first.values.keys() for values in constructions)
    padding = {f"{path}.weight": row for path, row in padding_rows(first.model)}
    samples = {}
    for name in first.values:
        tensors = [values[name] for values in constructions]
        row = padding.get(name)
        samples[name] = sampled(tensors if row is None else [without(row, tensor) for tensor in tensors])
    return samples


def padding_rows(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The embeddings that have a padding row, and which it is: it is zero, whatever the others are drawn from."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
            yield path, module.padding_idx


def without(row: int, tensor: Tensor) -> Tensor:
    """A matrix without one of its rows."""
    return torch.cat([tensor[:row], tensor[row + 1 :]])


def differing(plan: Iterable[initplug.Assignment], samples: Mapping[str, Sample]) -> dict[str, str]:
    """The parameters whose samples are not as planned, with what is wrong with them."""
    rows = list(plan)
    threshold = ALARM / (TESTS * max(1, sum(bool(row.std) for row in rows)))
    findings = ((row.name, fault_of(row.distribution, samples[row.name], threshold)) for row in rows)
    return {name: fault for name, fault in findings if fault is not None}


def fault_of(distribution: Any, sample: Sample, threshold: float) -> str | None:
    """What of a sample a distribution does not explain; None where it explains it."""
    if not np.isfinite([sample.low, sample.high]).all():
        return "it holds numbers that are not finite"
    match distribution:
        case initplug.Stacked(parts, dim):
            parted = enumerate(parts)
            faults = (fault_of(part, sample.part(len(parts), dim, index), threshold) for index, part in parted)
            return next((fault for fault in faults if fault is not None), None)
        case initplug.Constant(value):
            meant = torch.tensor(value, dtype=sample.whole[0].dtype).item()
            found = f"{sample.low:g} to {sample.high:g}, planned {meant:g}"
            return None if sample.low == sample.high == meant else found
        case initplug.Orthogonal(gain):
            return None if all(_is_orthogonal(tensor, gain) for tensor in sample.whole) else "it is not orthogonal"
        case LogUniform(least, most, link, floor, gain):
            undone = sample.through(UNLINKED[link], gain)
            return _continuous(stats.loguniform(max(least, floor or 0), most), undone, threshold)
        case UniformLog(least, most, gain):
            return _continuous(stats.uniform(least, most - least), sample.through(np.exp, gain), threshold)
        case SinCos() | Dirac() | Eye() | Arange():
            return _of_fixed_values(distribution, sample)
    return _continuous(_law(distribution), sample, threshold)


def _continuous(law: Any, sample: Sample, threshold: float) -> str | None:
    """What of a sample a law of scipy's does not explain."""
    reach = ROUNDING * max(abs(value) for value in (*law.support(), law.mean()) if np.isfinite(value))
    if sample.low < law.support()[0] - reach or sample.high > law.support()[1] + reach:
        return f"[{sample.low:g}, {sample.high:g}] reaches beyond [{law.support()[0]:g}, {law.support()[1]:g}]"
    return _improbable(law, sample, threshold)


def _law(distribution: Any) -> Any:
    """The same distribution by scipy."""
    match distribution:
        case initplug.Normal(mean, std):
            return stats.norm(mean, std)
        case initplug.Uniform(low, high):
            return stats.uniform(low, high - low)
        case initplug.TruncatedNormal(loc, scale, low, high):
            return stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)
    raise TypeError(f"no test for {distribution}")


def _improbable(law: Any, sample: Sample, threshold: float) -> str | None:
    """Which of the tests of a sample fails."""
    values, count = sample.values, len(sample.values)
    elements = sum(tensor.numel() for tensor in sample.whole)
    share = np.sort(law.cdf(values)).clip(1e-15, 1 - 1e-15)
    normal = special.ndtri(share)
    steps = np.arange(count + 1) / count
    distance = max(np.max(steps[1:] - share), np.max(share - steps[:-1]))
    squares = np.sum(np.square(normal))
    tests = {
        "mean": 2 * stats.norm.sf(abs(np.sum(normal)) / np.sqrt(count)),
        "std": 2 * min(stats.chi2.sf(squares, count), stats.chi2.cdf(squares, count)),
        "distribution": special.kolmogorov(np.sqrt(count) * distance),
        "least element": law.sf(sample.low) ** elements,
        "largest element": law.cdf(sample.high) ** elements,
    }
    for test, probability in tests.items():
        if probability < threshold:
            expected = f"{law.mean():g} ± {law.std():g}"
            return f"{test}: {np.mean(values):g} ± {np.std(values):g}, planned {expected} (p={probability:.0e})"
    return None


def _of_fixed_values(structure: Any, sample: Sample) -> str | None:
    """Whether constructions agree with each other and with the moments of a structure that nothing draws."""
    if not all(torch.equal(tensor, sample.whole[0]) for tensor in sample.whole):
        return "its values are drawn, planned are fixed ones"
    values = sample.whole[0].double()
    found = [values.mean().item(), values.std(correction=0).item()]
    if not np.allclose(found, [structure.mean, structure.std], atol=1e-4):
        return f"moments {found}, planned {[structure.mean, structure.std]}"
    inside = structure.low - ROUNDING <= sample.low and sample.high <= structure.high + ROUNDING
    return None if inside else f"[{sample.low:g}, {sample.high:g}] reaches beyond what is planned"


def _is_orthogonal(tensor: Tensor, gain: float) -> bool:
    """Whether rows, or columns where there are fewer, are orthogonal and of the gain's length."""
    matrix = tensor.flatten(1).double()
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    return torch.allclose(matrix @ matrix.T, gain**2 * torch.eye(len(matrix)).double(), atol=1e-4)
