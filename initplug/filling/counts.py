"""Slots -> histograms of what they hold, of sharded ones of what this rank holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initplug.auditing.histograms import Histogram, histogram
from initplug.auditing.moments import Moments
from initplug.filling.owners import value_of
from initplug.filling.sharding import local_of, local_row
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot
from initplug.schemes.compositions import Drawn, closed_form

HISTOGRAM_REACH = 4.5
"""Standard deviations about the mean that a histogram shows, of what was expected and of what was measured."""


def count(plan: Plan, slots: Sequence[Slot], moments: Sequence[Moments | None]) -> dict[int, Histogram]:
    """Return a histogram of every slot that was measured and whose elements vary.

    Args:
        plan: of the slots.
        slots: in its order.
        moments: of the slots.
    """
    found: dict[int, Histogram] = {}
    for index, (share, measured) in enumerate(zip(plan.shares, moments, strict=True)):
        if measured is None or measured.min == measured.max or slots[index].tensor.is_complex():
            continue
        window = _window(closed_form(share.distribution), measured)
        if window is not None:
            value = value_of(slots[index])
            found[index] = histogram(local_of(value), *window, local_row(value, share.padding_row))
    return found


def _window(expected: Drawn | None, measured: Moments) -> tuple[float, float] | None:
    """Return the ends between which values are counted: where they were expected, and where they are.

    Few elements far out stay outside, lest the others share one bin.
    """
    ends = [(measured.mean, measured.std, measured.min, measured.max)]
    if expected is not None:
        ends.append((expected.mean, expected.std, expected.low, expected.high))
    known = [end for end in ends if math.isfinite(end[0]) and math.isfinite(end[1])]
    lows = [max(low, mean - HISTOGRAM_REACH * std) for mean, std, low, _ in known]
    highs = [min(high, mean + HISTOGRAM_REACH * std) for mean, std, _, high in known]
    return (min(lows), max(highs)) if known and min(lows) < max(highs) else None
