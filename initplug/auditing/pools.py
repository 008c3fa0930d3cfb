"""Tensors judged together: a fault too small to be seen in any of them shows in the sums over all.

Squares and deviations are added up in units of the standard deviation that each tensor was to have. Pools are the
tensors of one rule, and those of the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from initplug.auditing.moments import Measured
from initplug.auditing.verdicts import Judgement, grain, rounding
from initplug.columns import Coded, Rows
from initplug.planning.assignment import Share
from initplug.schemes.compositions import Stacked
from initplug.schemes.distributions import Elementwise
from initplug.schemes.laws import Law

SIGMAS_OF_POOL = 6.3
"""How many standard errors a pooled moment may be off: on two sides of two, less than 1e-9 of all pools are."""

POOLED_REASON = "pooled"
"""The reason of tensors that differ together."""


@dataclass(slots=True)
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

    rows: list[int]
    numel: float = 0.0
    deviations: float = 0.0
    skewness: float = 0.0
    squares: float = 0.0
    freedom: float = 0.0
    variance: float = 0.0
    shift: float = 0.0
    stretch: float = 0.0

    def add(self, rows: Rows, table: NDArray[Any], law: Law, dtype: torch.dtype) -> None:
        """Add tensors of one law."""
        mean, std = law.mean, law.std
        count = table["numel"].astype(np.float64)
        beyond = np.maximum(count - 1, 1)
        relative = np.maximum(law.kurtosis / count - (count - 3) / (count * beyond), 0.0)
        self.rows += rows.tolist()
        self.numel += float(count.sum())
        self.deviations += float((count * ((table["mean"] - mean) / std)).sum())
        self.skewness += float(count.sum()) * law.skewness
        self.squares += float((count * np.square(table["std"] / std)).sum())
        self.freedom += float((count - 1).sum())
        self.variance += float((np.square(count - 1) * relative).sum())
        self.shift += float(count.sum()) * grain(law, dtype) / std
        self.stretch += float((count - 1).sum()) * rounding(law, dtype)

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
    pools: dict[str, _Pool] = {}
    added: list[tuple[str, Rows, Law, torch.dtype]] = []
    for share, group in shares.taken(rows).groups():
        law = _law_of_all(share.distribution)
        chosen = rows[group]
        chosen = chosen[measured.table["numel"][chosen] > 0]
        dtype: torch.dtype = getattr(torch, share.dtype)
        if law is None or share.rule is None or not len(chosen) or dtype.is_complex:
            continue
        pools.setdefault(share.rule, _Pool([])).add(chosen, measured.table[chosen], law, dtype)
        added.append((share.rule, chosen, law, dtype))
    told = dict(_problems({rule: (pool, f"tensors of rule {rule!r}") for rule, pool in pools.items()}))
    if len(pools) - len(told) > 1:
        model = _Pool([])
        for rule, chosen, law, dtype in added:
            if rule not in told:
                model.add(chosen, measured.table[chosen], law, dtype)
        told.update(_problems({"": (model, "drawn tensors")}))
        pools[""] = model
    return {
        row: Judgement("differs", problem, POOLED_REASON) for key, problem in told.items() for row in pools[key].rows
    }


def _problems(pools: Mapping[str, tuple[_Pool, str]]) -> Iterable[tuple[str, str]]:
    for key, (pool, what) in pools.items():
        if len(pool.rows) > 1 and (problem := pool.problem(f"{len(pool.rows):,} {what}")) is not None:
            yield key, problem


def _law_of_all(distribution: object) -> Law | None:
    """Return the law of every element, where all are independent draws of one."""
    one = (
        distribution.parts[0] if isinstance(distribution, Stacked) and len({*distribution.parts}) == 1 else distribution
    )
    law = one.law if isinstance(one, Elementwise) else None
    return law if law is not None and law.std > 0 else None
