"""The verdicts of an audit while it is made, by columns, and what speaks against slots that differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from initplug.auditing.moments import Measured
from initplug.auditing.verdicts import VERDICTS, Judgement, Verdict


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts of an audit by now, on every slot.

    Args:
        measured: moments of every slot.
        codes: the place of every slot's verdict among all.
        problems: what speaks against those that differ.
        reasons: why slots were left alone, and in a word what is wrong with those that differ.
    """

    measured: Measured
    codes: NDArray[np.intp]
    problems: dict[int, str]
    reasons: dict[int, str]

    @classmethod
    def none(cls, measured: Measured, reasons: Mapping[int, str]) -> Verdicts:
        """Return verdicts that know nothing of any slot but why some were left alone."""
        return cls(measured, np.full(len(measured), VERDICTS.index("untestable"), np.intp), {}, {**reasons})

    def note(self, row: int, judged: Judgement) -> None:
        """Judge a slot, anew if it was judged before."""
        self.codes[row] = VERDICTS.index(judged.verdict)
        if judged.problem is not None:
            self.problems[row] = judged.problem
        if judged.reason is not None:
            self.reasons[row] = judged.reason

    def settle(self, row: int, judged: Judgement) -> None:
        """Judge a slot by other means, which overrule what was said before."""
        self.problems.pop(row, None)
        self.reasons.pop(row, None)
        self.note(row, judged)

    def add(self, row: int, judged: Judgement) -> None:
        """Tell of something more that speaks against a slot."""
        problem = "; ".join(filter(None, (self.problems.get(row), judged.problem)))
        self.note(row, Judgement(judged.verdict, problem, self.reasons.get(row, judged.reason)))

    def mask(self, *verdicts: Verdict) -> NDArray[np.bool_]:
        """Return of every slot whether it was judged to be one of these."""
        return np.isin(self.codes, [VERDICTS.index(verdict) for verdict in verdicts])

    def judgement(self, row: int) -> Judgement:
        """Return how a slot was judged."""
        return Judgement(VERDICTS[self.codes[row]], self.problems.get(row), self.reasons.get(row))
