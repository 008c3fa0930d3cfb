"""Compositions: what tensors get that is no one draw: stacks, parts, the values of others, those that are there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from initplug.schemes.distributions import Constant, Elementwise
from initplug.schemes.laws import Distribution, Law
from initplug.schemes.structures.base import Structured


@dataclass(frozen=True, slots=True)
class Default:
    """The draws of construction's resets: replaced, at plan time, by what those are, or `otherwise` kept."""

    otherwise: Literal["error", "keep"] = "error"


@dataclass(frozen=True, slots=True)
class Keep:
    """The values stay as they are.

    Args:
        otherwise: what a tensor without values (on meta) gets.
        because: why they do, where the recipe asks for something else first.
    """

    otherwise: Literal["error", "default"] = "error"
    because: str | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return "keep" if self.otherwise == "error" else f"keep({self.otherwise})"


Single = Constant | Elementwise | Structured
"""Distributions of one tensor."""


@dataclass(frozen=True, slots=True)
class Batched(Distribution):
    """A stack of tensors along leading dimensions, each a structured one of its own.

    Args:
        part: of each tensor of the stack.
        dims: leading dimensions that are the stack's.
    """

    part: Structured
    dims: int

    @property
    def law(self) -> Law:
        return self.part.law

    @property
    def text(self) -> str:
        return f"{self.part.text} along {self.dims} leading dimension{'s' if self.dims > 1 else ''}"

    def times(self, factor: float, divisor: float = 1.0) -> Batched:
        return replace(self, part=self.part.times(factor, divisor))


@dataclass(frozen=True, slots=True)
class Stacked(Distribution):
    """Parts along a dimension, each with a distribution of its own: packed projections, gates.

    Its mean and standard deviation are those of the mixture; kept parts have no say in them.

    Args:
        parts: the distributions, in order; `Keep` for a part that is left as it is.
        dim: the dimension that is split.
        sizes: of the parts along it, in elements; none where all are equal.

    Example:
        >>> gates = Stacked((Constant(0.0), Constant(1.0), Constant(0.0), Constant(0.0)), 0)
        >>> gates.mean, round(gates.std, 4)
        (0.25, 0.433)
        >>> Stacked((Constant(0.0), Constant(1.0)), 0, (3, 1)).mean
        0.25
    """

    parts: tuple[Single | Batched | Keep, ...]
    dim: int
    sizes: tuple[int, ...] = ()

    @property
    def drawn(self) -> list[Single | Batched]:
        """The parts that are given values."""
        return [part for part in self.parts if not isinstance(part, Keep)]

    def lengths(self, size: int) -> list[int]:
        """Return the sizes of the parts of a dimension of so many elements.

        Example:
            >>> Stacked((Constant(0.0), Keep()), 0).lengths(6)
            [3, 3]
        """
        return [*self.sizes] or [size // len(self.parts)] * len(self.parts)

    def shape_of(self, place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a part of a tensor, counted from 0."""
        along = self.dim % len(shape)
        return (*shape[:along], self.lengths(shape[along])[place], *shape[along + 1 :])

    @property
    def law(self) -> Law:
        lengths = self.lengths(len(self.parts))
        sized = [(part.law, n) for part, n in zip(self.parts, lengths, strict=True) if not isinstance(part, Keep)]
        laws, count = [law for law, _ in sized], sum(size for _, size in sized)
        mean = math.fsum(law.mean * size / count for law, size in sized)
        if len(set(self.drawn)) == 1:
            std = laws[0].std
        else:
            offs = (math.sqrt(size) * math.hypot(law.std, law.mean - mean) for law, size in sized)
            std = math.hypot(*offs) / math.sqrt(count)
        known = all(law.atoms or law.smooth for law in laws)
        return Law(
            mean,
            std,
            min(law.low for law in laws),
            max(law.high for law in laws),
            skewness=math.nan,  # which nobody asks of a mixture
            kurtosis=math.nan,
            atoms=tuple((value, share * size / count) for law, size in sized for value, share in law.atoms if known),
            smooth=tuple((share * size / count, each) for law, size in sized for share, each in law.smooth if known),
        )

    @property
    def text(self) -> str:
        sizes = f", sizes=[{', '.join(map(str, self.sizes))}]" if self.sizes else ""
        return f"stacked({', '.join(part.text for part in self.parts)}, dim={self.dim}{sizes})"

    def times(self, factor: float, divisor: float = 1.0) -> Stacked:
        parts = (part if isinstance(part, Keep) else part.times(factor, divisor) for part in self.parts)
        return replace(self, parts=tuple(parts))


Drawn = Single | Batched | Stacked
"""Distributions that give values."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The values of another slot.

    Args:
        source: canonical name of the other slot.
        drawn: what the values come from where they are drawn, by way of further copies too.
    """

    source: str
    drawn: Drawn | None = None

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return f"copy({self.source})"


@dataclass(frozen=True, slots=True)
class Load:
    """The values of a tensor in a file.

    Args:
        path: of the file.
        key: name of the tensor in it.
    """

    path: str
    key: str

    @property
    def text(self) -> str:
        """One line that a person reads."""
        return f"load({self.path}, key={self.key})"


Planned = Drawn | Copy | Load | Keep
"""The entries that a plan may have for a slot."""


def parts_of(planned: Planned | None) -> tuple[Single | Batched | Copy | Load | Keep | None, ...]:
    """Return the parts of a tensor that is drawn in parts, in order, or all of it as one.

    Example:
        >>> parts_of(Stacked((Constant(0.0), Keep()), 0))
        (Constant(value=0.0), Keep(otherwise='error'))
        >>> parts_of(Constant(0.0))
        (Constant(value=0.0),)
    """
    return planned.parts if isinstance(planned, Stacked) else (planned,)


def singles(planned: Planned | None) -> list[Single]:
    """Return the distributions of single tensors that a draw is made of; none where nothing is drawn.

    Example:
        >>> singles(Stacked((Constant(0.0), Keep()), 0))
        [Constant(value=0.0)]
    """
    drawn = (part for part in parts_of(planned) if isinstance(part, Single | Batched))
    return [part.part if isinstance(part, Batched) else part for part in drawn]


def sized_singles(planned: Planned | None, numel: int) -> Iterator[tuple[Single, int]]:
    """Yield the distributions of single tensors that a draw is made of, with the elements that each is of.

    Example:
        >>> [size for _, size in sized_singles(Stacked((Constant(0.0), Keep(), Constant(1.0)), 0, (2, 1, 1)), 40)]
        [20, 10]
    """
    parts = parts_of(planned)
    lengths = planned.lengths(len(parts)) if isinstance(planned, Stacked) else [1]
    for part, length in zip(parts, lengths, strict=True):
        yield from ((single, numel * length // sum(lengths)) for single in singles(part))


def closed_form(distribution: object) -> Drawn | None:
    """Return the distribution itself where it has moments, for a copy that of its source, else None."""
    if isinstance(distribution, Copy):
        distribution = distribution.drawn
    if isinstance(distribution, Stacked) and len(distribution.drawn) < len(distribution.parts):
        return None
    return distribution if isinstance(distribution, Drawn) and not math.isnan(distribution.std) else None


def peak_of(planned: Planned | None, shape: tuple[int, ...]) -> int | None:
    """Return the peak bytes of a seed's draw of a tensor; None of what is drawn element by element, in chunks.

    Args:
        planned: of the tensor.
        shape: sizes of the tensor.

    Example:
        >>> from initplug.schemes.structures.identity import Eye
        >>> peak_of(Stacked((Eye(1.0, 4, 8), Eye(1.0, 4, 8)), 0), (8, 8))
        128
    """
    match planned:
        case Stacked(parts):
            peaks = (peak_of(part, planned.shape_of(place, shape)) for place, part in enumerate(parts))
            return max((one for one in peaks if one is not None), default=None)
        case Batched(part, dims):
            return part.peak(shape[dims:])
        case Structured():
            return planned.peak(shape)
    return None


def text(distribution: object) -> str | None:
    """Return one line that a person reads: `normal(0, 0.02)`, `uniform(-0.1, 0.1)`.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> text(Normal(0.0, 0.02))
        'normal(mean=0, std=0.02)'
    """
    return distribution.text if isinstance(distribution, Planned) else None
