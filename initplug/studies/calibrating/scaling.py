"""Scalings: the factor of one weight, looked for round by round until its layer's output has the standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["scaled", "fits", "off", "left"]
"""Of a weight: it got a factor; it needs none; no factor was found that fits; it was not looked at, or answers none."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The standard deviation that outputs shall have.

    Args:
        target: the standard deviation.
        tolerance: relative to the target.
        rounds: how often a weight is drawn again at most.
    """

    target: float = 1.0
    tolerance: float = 0.05
    rounds: int = 10

    def reached(self, std: float) -> bool:
        """Return whether an output is near enough."""
        return abs(std - self.target) <= self.tolerance * self.target

    def rounded(self, factor: float) -> float:
        """Return a factor with as many digits as the tolerance needs, at least six: what is written is what is drawn.

        Example:
            >>> Goal().rounded(1.23456789), Goal(tolerance=1e-7).rounded(1.23456789)
            (1.23457, 1.23456789)
        """
        digits = max(6, 2 - math.floor(math.log10(self.tolerance)))
        return float(f"{factor:.{min(digits, 17)}g}")


@dataclass(slots=True)
class Search:
    """The factors that a weight had so far, and what its layer's output was under each.

    The variance of an output is A·f² + B, where B is of what the weight does not multiply: a bias. Two rounds tell
    both.

    Args:
        goal: of it.
        tried: (factor, standard deviation), in order.
        rounds: how often the weight was drawn again.
        looped: whether the weight acts on the input, too, as that of an embedding which is also the head: then its
            first output in a pass tells what the factor of the pass before has done.
        starts: (factor, standard deviation) that passes began with.
        over: whether no further factor is looked for.
        reason: why the weight is left, where it is.

    Example:
        >>> search = Search(Goal(tolerance=0.001))
        >>> while (factor := search.following((0.25 * search.factor**2 + 0.09) ** 0.5)) is not None:
        ...     search.factor = factor
        >>> round(search.factor, 4), search.rounds
        (1.9079, 2)
    """

    goal: Goal
    factor: float = 1.0
    tried: list[tuple[float, float]] = field(default_factory=list)
    rounds: int = 0
    looped: bool = False
    starts: list[tuple[float, float]] = field(default_factory=list)
    over: bool = False
    reason: str | None = None

    def following(self, std: float) -> float | None:
        """Return the factor to draw with next, given the output's standard deviation; None where there is no other."""
        if self.over:
            return None
        first = not self.tried
        self.tried.append((self.factor, std))
        if first:
            self.starts.append(self.tried[0])
        if self.goal.reached(std):
            return None
        if self.looped and len(self.starts) > 1:
            return self._around() if first else None  # the next pass tells
        slope, rest = self._line
        beyond = slope > 0 and rest >= self.goal.target**2
        if self._deaf:
            return self._ended(1.0, "its output hardly follows the scale of its weight")
        found = self.goal.rounded(self._next)
        if self.rounds < self.goal.rounds and not (beyond and self._slow) and found != self.factor:
            self.rounds += 1
            return found
        if beyond:
            return self._ended(1.0, f"what its weight does not multiply has std {math.sqrt(rest):.3g} already")
        return self._ended(self._best)

    def _around(self) -> float | None:
        """Return the factor after those that whole passes began with, over which an output goes with a power of it."""
        (before, std_before), (now, std) = self.starts[-2:]
        power = 1.0 if now == before else math.log(std / std_before) / math.log(now / before)
        found = self.goal.rounded(now * (self.goal.target / std) ** (1 / min(max(power, 0.5), 4)))
        if self.rounds >= self.goal.rounds or found == now:
            return self._ended(now)
        self.rounds += 1
        return found

    def _ended(self, factor: float, reason: str | None = None) -> float | None:
        """End the search with a factor; return it unless the weight has it."""
        self.over, self.reason = True, reason
        return None if factor == self.factor else factor

    @property
    def _next(self) -> float:
        """The factor that should do."""
        target, (factor, std) = self.goal.target, self.tried[-1]
        slope, rest = self._line
        if slope > 0 and 0 < rest < target**2:
            return math.sqrt((target**2 - rest) / slope)
        return factor * target / std

    @property
    def _line(self) -> tuple[float, float]:
        """A and B of the last two rounds; zeros before there are two."""
        if len(self.tried) < 2:
            return 0.0, 0.0
        (before, std_before), (now, std) = self.tried[-2:]
        slope = (std**2 - std_before**2) / (now**2 - before**2)
        return slope, std**2 - slope * now**2

    @property
    def _deaf(self) -> bool:
        """Return whether the weight has no part in the output's variance, as behind a normalization of the weight."""
        if not self._slow:
            return False
        (factor, std), (slope, _) = self.tried[0], self._line
        return abs(slope) * factor**2 < DEAF * std**2

    @property
    def _slow(self) -> bool:
        """Return whether the output followed the first change of the factor little."""
        if len(self.tried) < 2:
            return False
        (before, std_before), (now, std) = self.tried[:2]
        asked = abs(math.log(now / before))
        return asked > HEARD and abs(math.log(std / std_before)) < SLOW * asked

    @property
    def _best(self) -> float:
        """The factor under which the output came nearest."""
        return min(self.tried, key=lambda one: abs(math.log(one[1] / self.goal.target)))[0]


HEARD = 0.01
"""The change of a factor, as a logarithm, from which on an output can be seen to follow it."""

SLOW = 0.1
"""The part of such a change below which an output has followed little."""

DEAF = 1e-3
"""The part of an output's variance that is no more than rounding."""
