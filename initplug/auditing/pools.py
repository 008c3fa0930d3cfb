"""Tensors judged together: a fault too small to be seen in any of them shows in the sums over all.

Squares and deviations are added up in units of the standard deviation that each tensor was to have. Pools are the
tensors of one rule, and those of the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from initplug.auditing.moments import Measured
from initplug.auditing.verdicts import MOST_LAWS, Judgement, grain, rounding
from initplug.columns import Coded, Rows
from initplug.planning.assignment import Share
from initplug.schemes.compositions import Stacked
from initplug.schemes.distributions import Elementwise

SIGMAS_OF_POOL = 6.3
"""How many standard errors a pooled moment may be off: on two sides of two, less than 1e-9 of all pools are."""

POOLED_REASON = "pooled"
"""The reason of tensors that differ together."""


class _Terms(NamedTuple):
    """The numbers that a pool takes of a law.

    Args:
        mean: as planned.
        std: as planned.
        skewness: of elements.
        kurtosis: of elements.
        shift: how far rounding moves a mean at most, in standard deviations.
        stretch: what share of a variance rounding adds or takes at most.
    """

    mean: float
    std: float
    skewness: float
    kurtosis: float
    shift: float
    stretch: float


@dataclass(frozen=True, slots=True)
class _Pool:
    """Sums over tensors.

    Args:
        rows: of them.
        numel: of their elements.
        deviations: of elements from their means as planned, in standard deviations.
        skewness: of these, times the elements.
        squares: of deviations from the means as measured, in variances as planned.
        freedom: the sum of squares that is expected.
        variance: of the sum of squares.
        shift: how far rounding moves the sum of deviations, at most.
        stretch: how far rounding moves the sum of squares, at most.
    """

    rows: tuple[int, ...] = ()
    numel: float = 0.0
    deviations: float = 0.0
    skewness: float = 0.0
    squares: float = 0.0
    freedom: float = 0.0
    variance: float = 0.0
    shift: float = 0.0
    stretch: float = 0.0

    @classmethod
    def of(cls, rows: Rows, table: NDArray[Any], terms: Coded[_Terms]) -> _Pool:
        """Return the sums over some rows, as measured and as planned."""
        mean, std, skewness, kurtosis, shift, stretch = terms.packed().table(len(_Terms._fields)).T
        count = table["numel"].astype(np.float64)
        beyond = np.maximum(count - 1, 1)
        relative = np.maximum(kurtosis / count - (count - 3) / (count * beyond), 0.0)
        return cls(
            rows=tuple(rows.tolist()),
            numel=float(count.sum()),
            deviations=float((count * ((table["mean"] - mean) / std)).sum()),
            skewness=float((count * skewness).sum()),
            squares=float((count * np.square(table["std"] / std)).sum()),
            freedom=float((count - 1).sum()),
            variance=float((np.square(count - 1) * relative).sum()),
            shift=float((count * shift).sum()),
            stretch=float(((count - 1) * stretch).sum()),
        )

    def __add__(self, other: _Pool) -> _Pool:
        names = (field.name for field in fields(self))
        return _Pool(*(getattr(self, name) + getattr(other, name) for name in names))

    def problem(self, what: str) -> str | None:
        """Return what speaks against all of them together.

        Args:
            what: they are, such as `18 tensors of rule 'fc'`.
        """
        sigmas = SIGMAS_OF_POOL + (SIGMAS_OF_POOL**2 - 1) / 6 * abs(self.skewness) / self.numel**1.5
        off = (sigmas * math.sqrt(self.numel) + self.shift) / self.numel
        mean = self.deviations / self.numel
        if abs(mean) > off:
            side = "above" if mean > 0 else "below"
            return f"together the {what} have a mean {abs(mean):.3g} std {side} the planned one, not within {off:.3g}"
        if self.freedom and self.variance:
            # The cube root of a chi-square is close to normal: Wilson and Hilferty 1931.
            spread = 2 / (9 * 2 * self.freedom**2 / self.variance)
            reach, tolerance = SIGMAS_OF_POOL * math.sqrt(spread), self.stretch / self.freedom
            least = min(max(1 - spread - reach, 0.0) ** 3, 1 - tolerance)
            most = max((1 - spread + reach) ** 3, 1 + tolerance)
            ratio = self.squares / self.freedom
            if not least <= ratio <= most:
                low, high = math.sqrt(max(least, 0.0)), math.sqrt(most)
                times = f"{math.sqrt(ratio):.5g} times the planned one, not {low:.5g} to {high:.5g}"
                return f"together the {what} have a std {times}"
        return None


def judged_in_pools(shares: Coded[Share], measured: Measured, rows: Rows) -> dict[int, Judgement]:
    """Return judgements of tensors that differ together, though none does by itself.

    Args:
        shares: of all slots.
        measured: moments of all slots.
        rows: of the slots that have been judged to be as planned, each by itself.

    Example:
        A rule's weights that are all 2 % too large: each is `differs`, with the reason `pooled`.
    """
    rows = rows[measured.table["numel"][rows] > 0]
    terms = shares.taken(rows).packed().each(_terms_of)
    known = terms.where(lambda one: one is not None)
    rows, terms = rows[known], cast("Coded[_Terms]", terms.taken(known))
    rules = shares.taken(rows).alike(lambda share: share.rule or "")
    pools = {
        rule: _Pool.of(rows[group], measured.table[rows[group]], terms.taken(group)) for rule, group in rules.groups()
    }
    told = dict(_problems({rule: (pool, f"tensors of rule {rule!r}") for rule, pool in pools.items()}))
    if len(pools) - len(told) > 1:
        pools[""] = sum((pool for rule, pool in pools.items() if rule not in told), _Pool())
        told.update(_problems({"": (pools[""], "drawn tensors")}))
    return {
        row: Judgement("differs", problem, POOLED_REASON) for key, problem in told.items() for row in pools[key].rows
    }


def _problems(pools: Mapping[str, tuple[_Pool, str]]) -> Iterable[tuple[str, str]]:
    for key, (pool, what) in pools.items():
        if len(pool.rows) > 1 and (problem := pool.problem(f"{len(pool.rows):,} {what}")) is not None:
            yield key, problem


def _terms_of(share: Share) -> _Terms | None:
    """Return what a pool takes of the law of every element, where all are independent draws of one."""
    distribution, dtype = share.distribution, getattr(torch, share.dtype)
    if isinstance(distribution, Stacked) and len({*distribution.parts}) == 1:
        distribution = distribution.parts[0]
    if share.rule is None or not isinstance(distribution, Elementwise) or dtype.is_complex:
        return None
    return _terms(distribution, dtype)


@lru_cache(maxsize=MOST_LAWS)
def _terms(distribution: Elementwise, dtype: torch.dtype) -> _Terms | None:
    law = distribution.law
    if not law.std > 0:
        return None
    shift, stretch = grain(law, dtype) / law.std, rounding(law, dtype)
    return _Terms(law.mean, law.std, law.skewness, law.kurtosis, shift, stretch)
