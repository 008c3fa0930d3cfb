"""What every slot really got: moments, verdicts, and the `Audit` that holds them beside the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from os import PathLike
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch

from initplug.merging import Entry, exchanged, merged
from initplug.moments import Moments
from initplug.planning.plan import ROW_KEYS, SHARED, Assignment, Plan
from initplug.regions import Region
from initplug.schemes.distributions import Batched, Distribution, Planned, Single
from initplug.schemes.structures import Fixed
from initplug.tables.files import save, to_csv, to_json, to_markdown
from initplug.tables.text import WIDE, Column, spread, table

Status = Literal["initialized", "kept", "empty", "lazy", "projected", "read"]
Verdict = Literal["ok", "differs", "untestable"]

ROUNDINGS = 64
"""How many units in the last place a constant may be off that was computed from others."""

SIGMAS = 6.0
"""How many standard errors a measured moment may be off."""


# Verdicts ---------------------------------------------------------------------------------------------------


def judged(distribution: Planned | None, moments: Moments | None, dtype: torch.dtype, *, exact: bool = True) -> Verdict:
    """Whether measured moments agree with a distribution.

    Constants must agree exactly after the cast to the dtype; means and variances within six standard errors of
    that distribution; extremes must lie inside its support.

    Args:
        distribution: what was to be drawn; the parts of a stacked one are judged one by one.
        moments: what was measured.
        dtype: of the tensor.
        exact: whether constants must be exact: those that an owner computes are rounded on their way.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> judged(Normal(0.0, 1.0), Moments(1000, 0.01, 0.99, -3.1, 3.2), torch.float32)
        'ok'
        >>> judged(Normal(0.0, 1.0), Moments(1000, 0.5, 0.99, -3.1, 3.2), torch.float32)
        'differs'
    """
    if not isinstance(distribution, Single | Batched) or moments is None:
        return "untestable"
    return _within(_limits(distribution, moments.numel, dtype), moments, dtype, exact)


def judge_of(distribution: Planned | None, numel: int, dtype: torch.dtype) -> Callable[[Moments], Verdict]:
    """`judged` for many tensors that are alike."""
    if not isinstance(distribution, Single | Batched):
        return partial(judged, distribution, dtype=dtype)
    return partial(_within, _limits(distribution, numel, dtype), dtype=dtype, exact=True)


def _within(limits: Limits, moments: Moments, dtype: torch.dtype, exact: bool) -> Verdict:
    if not (math.isfinite(moments.std) and math.isfinite(moments.min) and math.isfinite(moments.max)):
        return "differs"
    if limits.unknown:
        return "untestable"
    if limits.constant is not None:
        return "ok" if _is_constant(limits.constant, moments, dtype, exact) else "differs"
    if not limits.low <= moments.min <= moments.max <= limits.high:
        return "differs"
    if not limits.mean_low <= moments.mean <= limits.mean_high:
        return "differs"
    if limits.square is not None:
        return "ok" if _square_agrees(limits.square, moments, dtype) else "differs"
    if limits.varied and moments.min == moments.max:
        return "differs"
    return "ok" if limits.std_low <= moments.std <= limits.std_high else "differs"


class Limits(NamedTuple):
    """What the moments of a tensor must keep to.

    Args:
        constant: the one value of all elements, as the dtype holds it; None where they are drawn.
        low: least element.
        high: largest element.
        mean_low: least mean.
        mean_high: largest mean.
        std_low: least standard deviation.
        std_high: largest standard deviation.
        square: mean square that a structure fixes; None where none does.
        varied: whether elements cannot be equal by chance.
        unknown: whether nobody knows the moments.
    """

    constant: float | None
    low: float = 0.0
    high: float = 0.0
    mean_low: float = 0.0
    mean_high: float = 0.0
    std_low: float = 0.0
    std_high: float = 0.0
    square: float | None = None
    varied: bool = False
    unknown: bool = False


@lru_cache(maxsize=4096)
def _limits(distribution: Single | Batched, numel: int, dtype: torch.dtype) -> Limits:
    """The limits of a sample of a distribution; tensors that are alike share them."""
    if math.isnan(distribution.std):
        return Limits(None, unknown=True)
    if distribution.std == 0:
        return Limits(_cast(distribution.mean, dtype))
    part = distribution.part if isinstance(distribution, Batched) else distribution
    off = _mean_off(distribution, numel, dtype)
    least, most = _std_limits(distribution, numel, dtype)
    return Limits(
        constant=None,
        low=_cast(distribution.low, dtype),
        high=_cast(distribution.high, dtype),
        mean_low=distribution.mean - off,
        mean_high=distribution.mean + off,
        std_low=least,
        std_high=most,
        square=distribution.std**2 + distribution.mean**2 if isinstance(part, Fixed) else None,
        # A draw repeats itself with a probability of about eps, numel - 1 times over.
        varied=torch.finfo(dtype).eps ** (numel - 1) < 1e-10,
    )


def _square_agrees(expected: float, moments: Moments, dtype: torch.dtype) -> bool:
    """Whether the mean square is the one that the structure fixes, to rounding."""
    measured = moments.std**2 + moments.mean**2
    return abs(measured - expected) <= (4 * torch.finfo(dtype).eps + 1e-5) * expected


def _is_constant(value: float, moments: Moments, dtype: torch.dtype, exact: bool) -> bool:
    if not exact:
        off = ROUNDINGS * torch.finfo(dtype).eps * abs(value)
        return value - off <= moments.min <= moments.max <= value + off
    if dtype.is_complex:  # the extremes are those of both parts
        return (moments.mean, moments.std) == (value, 0.0)
    return moments.min == moments.max == value


def _mean_off(distribution: Distribution, numel: int, dtype: torch.dtype) -> float:
    """Six standard errors of the mean, and what a skewed distribution adds to them in small samples.

    Source: Cornish and Fisher 1938, Moments and cumulants in the specification of distributions.
    """
    error = distribution.std / math.sqrt(numel)
    sigmas = SIGMAS + (SIGMAS**2 - 1) / 6 * abs(distribution.skewness) / math.sqrt(numel)
    return sigmas * error + _grain(distribution, dtype)


def _std_limits(distribution: Distribution, numel: int, dtype: torch.dtype) -> tuple[float, float]:
    """Six standard errors on the cube root of the variance, where small samples are close to normal.

    The sample variance has relative variance κ/n - (n-3)/(n(n-1)), that of a chi-square with 2 over it degrees
    of freedom.

    Source: Wilson and Hilferty 1931, The distribution of chi-square.
    """
    if numel < 2:
        return 0.0, math.inf
    freedom = 2 / (distribution.kurtosis / numel - (numel - 3) / (numel * (numel - 1)))
    spread = 2 / (9 * freedom)
    limits = torch.finfo(dtype)
    # Rounding to a short dtype adds its own variance, near the smallest numbers most of all, and moves the bounds.
    smallest = limits.smallest_normal * limits.eps
    rounding = (
        1e-5 + limits.eps**2 + (smallest / distribution.std) ** 2 + 2 * _grain(distribution, dtype) / distribution.std
    )
    middle, reach = 1 - spread, SIGMAS * math.sqrt(spread)
    least, most = min(max(middle - reach, 0.0) ** 3, 1 - rounding), max((middle + reach) ** 3, 1 + rounding)
    sample = distribution.std * math.sqrt((numel - 1) / numel)
    return sample * math.sqrt(max(least, 0.0)), sample * math.sqrt(most)


def _grain(distribution: Distribution, dtype: torch.dtype) -> float:
    """How far rounding to a dtype can move a bound, or a mean."""
    ends = (abs(value) for value in (distribution.mean, distribution.low, distribution.high) if math.isfinite(value))
    return float(torch.finfo(dtype).eps * max(ends))


@lru_cache(maxsize=4096)
def _cast(value: float, dtype: torch.dtype) -> float:
    """A number as the dtype holds it."""
    if not math.isfinite(value):
        return value
    if not (dtype.is_floating_point or dtype.is_complex):
        return float(int(value))
    cast = torch.tensor(value, dtype=torch.float64, device="cpu").to(dtype)
    return float(cast.real if dtype.is_complex else cast)


# Audits -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audited(Assignment):
    """An assignment with what was measured after the write.

    Args:
        measured_mean: mean of the elements; None where nothing was measured.
        measured_std: population standard deviation.
        measured_min: smallest element.
        measured_max: largest element.
        measured_count: number of elements measured; an embedding's padding row is not.
        status: what happened to the slot.
        verdict: whether what was measured agrees with the distribution.
    """

    measured_mean: float | None = None
    measured_std: float | None = None
    measured_min: float | None = None
    measured_max: float | None = None
    measured_count: int | None = None
    status: Status = "initialized"
    verdict: Verdict = "untestable"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data; missing and non-finite numbers are None."""
        # Named, since `super()` without arguments does not survive a dataclass with slots.
        row = Assignment.to_dict(self)
        for field in MEASURED:
            value = row[field]
            row[field] = value if value is None or math.isfinite(value) else None
        return row


MEASURED = tuple(f"measured_{field}" for field in ("mean", "std", "min", "max", "count"))
COLUMNS = (
    Column("parameter", "name", gives=True),
    Column("shape", "shape", least=WIDE),
    Column("rule", "rule", gives=True),
    Column("initializer", "init", least=WIDE, gives=True),
    Column("expected", "expected", least=76),
    Column("measured", "measured"),
    Column("verdict", "verdict"),
)


KEYS = (*ROW_KEYS, *MEASURED, "status", "verdict")


class Audit:
    """A plan with what every slot really got.

    Iterating gives a row per slot; `audit[name]` finds one by any of its names. Printed, it is a table.
    """

    def __init__(
        self,
        plan: Plan,
        moments: Sequence[Moments | None],
        statuses: Sequence[Status],
        verdicts: Sequence[Verdict],
        seed: int | None = None,
        regions: Mapping[int, Region] = MappingProxyType({}),
    ) -> None:
        self.plan = plan
        self.seed = seed
        self._regions = regions
        self._moments = moments
        self._statuses = statuses
        self._verdicts = verdicts

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Slots that no rule matches."""
        return self.plan.unmatched

    @property
    def unused(self) -> tuple[str, ...]:
        """Rules that select nothing."""
        return self.plan.unused

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Audited]:
        return (self.row(index) for index in range(len(self)))

    def __getitem__(self, name: str) -> Audited:
        return self.row(self.plan.index_of(name))

    def __contains__(self, name: object) -> bool:
        return name in self.plan

    def row(self, index: int) -> Audited:
        """The row at a position."""
        share, moments = self.plan.shares[index], self._moments[index]
        shared = {key: getattr(share, key) for key in SHARED}
        measured: dict[str, Any] = {}
        if moments is not None:
            values = (moments.mean, moments.std, moments.min, moments.max, moments.numel)
            measured = dict(zip(MEASURED, values, strict=True))
        return Audited(
            name=self.plan.names[index],
            aliases=self.plan.aliases(index),
            status=self._statuses[index],
            verdict=self._verdicts[index],
            **shared,
            **measured,
        )

    def reduced(self, group: Any = None) -> Audit:
        """The audit of the whole model from those of all ranks, which all call this; one of them may save it.

        Of a sharded slot the parts are put together, each once, and judged as a whole; of one that every rank holds,
        a rank that differs is what counts. Slots that only some ranks have, as those of pipeline stages, are all there.

        Args:
            group: process group of the ranks; None for all. Without torch.distributed it is this audit.

        Raises:
            ApplyError: another rank cannot be reached.
        """
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self
        entries = [
            Entry(moments, self._regions.get(index), status, verdict)
            for index, (moments, status, verdict) in enumerate(
                zip(self._moments, self._statuses, self._verdicts, strict=True)
            )
        ]
        plan, known = exchanged(self.plan, entries, group)
        slots = [merged(known[name], share.numel) for name, share in zip(plan.names, plan.shares, strict=True)]
        verdicts = [
            judged(share.distribution, slot.moments, getattr(torch, share.dtype))
            if slot.whole and slot.status in ("initialized", "read") and slot.verdict != "differs" and share.judgeable
            else slot.verdict
            for slot, share in zip(slots, plan.shares, strict=True)
        ]
        return Audit(plan, [slot.moments for slot in slots], [slot.status for slot in slots], verdicts, self.seed)

    @property
    def summary(self) -> dict[str, Any]:
        """How many slots and elements, and how many slots have each status and verdict."""
        return {
            "slots": len(self),
            "numel": self.plan.summary["numel"],
            "status": _counted(self._statuses),
            "verdict": _counted(self._verdicts),
        }

    def problems(self) -> list[Audited]:
        """The rows whose values are not what the plan says."""
        return [self.row(index) for index, verdict in enumerate(self._verdicts) if verdict == "differs"]

    def to_dict(self) -> dict[str, Any]:
        """The audit as plain data: schema, recipe, digest, seed, versions, rows, unmatched, unused, summary."""
        from initplug import __version__

        return {
            "schema": 1,
            "recipe": self.plan.name,
            "digest": self.plan.digest,
            "seed": self.seed,
            "versions": {"initplug": __version__, "torch": torch.__version__},
            "rows": [row.to_dict() for row in self],
            "unmatched": list(self.unmatched),
            "unused": list(self.unused),
            "summary": self.summary,
        }

    def to_json(self) -> str:
        """The audit as JSON text."""
        return to_json(self.to_dict())

    def to_csv(self) -> str:
        """The rows as CSV text."""
        return to_csv((row.to_dict() for row in self), KEYS)

    def to_markdown(self) -> str:
        """The rows as a Markdown table."""
        return to_markdown((row.to_dict() for row in self), KEYS)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the audit to a file; the suffix (.json, .csv, .md) says how.

        Raises:
            InitplugError: an unknown suffix, or a path that cannot be written; an old file is kept.
        """
        save(path, self.to_dict(), KEYS)

    def __repr__(self) -> str:
        return f"<Audit {self.headline()}>"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int | None = None, color: bool = False) -> str:
        """The rows as a table for a terminal."""
        rows = (_with_ranges(row.to_dict()) for row in self)
        return table(COLUMNS, rows, footer=self.headline(), width=width, color=color)

    def headline(self) -> str:
        """One line that sums the audit up."""
        summary = self.summary
        counts = [f"{count} {word}" for group in ("status", "verdict") for word, count in summary[group].items()]
        return f"{self.plan.headline()}; {', '.join(counts)}"


def _counted(words: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def _with_ranges(row: dict[str, Any]) -> dict[str, Any]:
    """The row with mean and standard deviation of what was expected and measured as one text each."""
    verdict = row["verdict"] if row["status"] in ("initialized", "read") else row["status"]
    return {
        **row,
        "expected": spread(row["mean"], row["std"]),
        "measured": spread(row["measured_mean"], row["measured_std"]),
        "verdict": verdict,
    }
