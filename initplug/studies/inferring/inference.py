"""The `Inference`: what a model's values look like, row by row, each with a confidence and with what fits as well."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from initplug._version import __version__
from initplug.auditing.moments import Moments
from initplug.auditing.verdicts import judged
from initplug.errors import shortened, visible
from initplug.schemes.compositions import Drawn, Planned
from initplug.schemes.distributions import Constant
from initplug.studies.drafting.agreement import alike
from initplug.studies.recording.recording import Recording
from initplug.studies.recording.rows import Row
from initplug.tables.files import to_markdown
from initplug.tables.text import WIDE, Column

if TYPE_CHECKING:
    from initplug.reporting.page import Report

HIGH, LOW = 0.9, 0.5
"""Confidences from which a row is told as known, and below which as a guess."""

SHOWN = 3
"""Alternatives of a row that a table shows."""


class Alternative(NamedTuple):
    """Another initializer that the values of a parameter may come from.

    Args:
        init: in one line.
        distribution: that it gives the parameter.
        chance: of it, beside the confidence of the row.
    """

    init: str
    distribution: Drawn
    chance: float


@dataclass(frozen=True, slots=True)
class InferredRow(Row):
    """A parameter whose values were looked at.

    Args:
        confidence: that the distribution is right and, where there is a formula, at every width; 0 to 1.
        fit: p-value of the values under it; None where it is no matter of chance.
        formula: the initializer, in one line; None where numbers were fitted that no formula gives.
        rule: of the recipe that gives it.
        alternatives: what else the values may come from, the most probable first.
        moments: of the values; None where they are no real numbers.
        dtype: of the values.
    """

    confidence: float = 0.0
    fit: float | None = None
    formula: str | None = None
    rule: str | None = None
    alternatives: tuple[Alternative, ...] = ()
    moments: Moments | None = field(default=None, repr=False)
    dtype: torch.dtype = torch.float32

    def allows(self, planned: Planned | None) -> bool:
        """Return whether the values may come from a distribution, as an audit judges them."""
        mine = self.distribution
        if mine is None or not isinstance(planned, Drawn) or self.moments is None or isinstance(mine, Constant):
            return mine is not None and isinstance(planned, Drawn) and alike(planned, mine)
        return alike(planned, mine) or judged(planned, self.moments, self.dtype) == "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data; missing numbers are None."""
        others = [
            {"init": one.init, "distribution": one.distribution.text, "chance": round(one.chance, 6)}
            for one in self.alternatives
        ]
        return {
            **Row.to_dict(self),
            "init": self.formula,
            "rule": self.rule,
            "confidence": round(self.confidence, 6),
            "fit": self.fit,
            "alternatives": others,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Inference(Recording):
    """The initializers that values look like: a row for every parameter, and a recipe that draws such values.

    It is used as a `Recording` is; rows have a `confidence` and `alternatives`, and no lines of code.

    Args:
        step_0: the chance that the values are as they were drawn, before any training.
    """

    rows: tuple[InferredRow, ...]
    step_0: float = 1.0

    def __iter__(self) -> Iterator[InferredRow]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> InferredRow:
        found = super().__getitem__(name)
        assert isinstance(found, InferredRow)
        return found

    @property
    def about(self) -> str:
        """One line on what the recipe is."""
        return f"{self.model} as its values look, inferred by initplug {__version__}"

    def to_dict(self) -> dict[str, Any]:
        """Return the inference as plain data: what a recording has, and the chance that the model is at step 0."""
        return {**super().to_dict(), "step_0": round(self.step_0, 6)}

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers that a recording has, and of rows that are known and that are guesses."""
        known = sum(row.confidence >= HIGH for row in self.rows)
        return {**super().summary, "known": known, "guesses": sum(row.confidence < LOW for row in self.rows)}

    def __repr__(self) -> str:
        return f"<Inference {self.headline()}>"

    @property
    def _columns(self) -> Sequence[Column]:
        return INFERENCE_COLUMNS

    @property
    def _keys(self) -> tuple[str, ...]:
        return INFERENCE_KEYS

    @staticmethod
    def _shown(row: InferredRow) -> dict[str, Any]:
        return _table_row(row)

    @staticmethod
    def _agreed(row: Mapping[str, Any]) -> Hashable:
        return tuple(row["shape"]), row["holds"], row["formula"], row["confidence"]

    def _told_rows(self) -> list[dict[str, Any]]:
        rows = zip(super()._told_rows(), self.rows, strict=True)
        found = [{**told, "rule": row.rule, "confidence": _rounded_down(row.confidence)} for told, row in rows]
        for told in found:
            del told["alternatives"]  # `others` tells them
        return found

    def _report(self) -> Report:
        from initplug.reporting.recordings import inference_report

        return inference_report(
            self.to_dict(),
            self._told_rows(),
            self.comments,
            [row.distribution for row in self.rows],
            self._remarks(),
            {"initplug": __version__},
            self.headline(),
        )

    def to_markdown(self, *, every: bool = True) -> str:
        """Return the rows as a Markdown table; with `every` False one row where those of repeated blocks agree."""
        return to_markdown(self._flat(every), ("name", "shape", "holds", "init", "confidence", "problem"))

    def told(self) -> list[str]:
        """Return what is to be said of it: whether it looks trained, the nearest preset, copies, guesses, problems."""
        return self._remarks() + shortened([str(problem) for problem in self.problems()])

    def _remarks(self) -> list[str]:
        guesses = self._guesses_told() if self.step_0 >= LOW else ()
        lines = (*self._trained_told(), *self._preset_told(), *self._copies_told(), *guesses)
        return [visible(line) for line in lines]

    def _trained_told(self) -> Iterable[str]:
        if self.step_0 < LOW:
            chance = f"the chance that this model is at step 0 is {_percent(self.step_0)}"
            yield f"{chance}: more of it looks like nothing that is known than any constructor leaves"

    def _guesses_told(self) -> Iterable[str]:
        guesses = [row for row in self.rows if row.confidence < LOW and row.distribution is not None]
        if guesses:
            are = "1 parameter is a guess" if len(guesses) == 1 else f"{len(guesses)} parameters are guesses"
            few = "few elements tell little, or several formulas fit"
            yield f"{are} ({few}): {', '.join(shortened([row.name for row in guesses], 3))}"

    def headline(self) -> str:
        """Return one line that sums the inference up."""
        told = self.summary
        rules = f"{told['rules']} rule{'' if told['rules'] == 1 else 's'}"
        trained = "; it looks trained" if self.step_0 < LOW else ""
        known = f"{told['known']} of {told['parameters']} parameters are known, {told['guesses']} guessed"
        return visible(f"{self.model}: {told['numel']:,} elements; {rules}; {known}{trained}")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "below 1 %"


INFERENCE_KEYS = (
    *("name", "aliases", "module_type", "shape", "numel", "trainable", "holds", "init", "confidence", "fit", "others"),
    *("distribution", "reason", "mean", "std", "low", "high", "twin", "rule", "problem"),
)

INFERENCE_COLUMNS = (
    Column("parameter", "name", gives=True),
    Column("shape", "shape", least=WIDE),
    Column("looks like", "holds", gives=True),
    Column("formula", "formula", gives=True),
    Column("confidence", "confidence"),
    Column("or", "others", gives=True),
)


def _table_row(row: InferredRow) -> dict[str, Any]:
    holds = row.reason or (row.distribution.text if row.distribution is not None else "")
    twin = f", a copy of {row.twin}" if row.twin else ""
    others = shortened([f"{one.init} ({one.chance:.2f})" for one in row.alternatives], SHOWN)
    return {
        "name": row.name,
        "shape": list(row.shape),
        "holds": f"{holds}{twin}",
        "formula": row.formula,
        "confidence": f"{_rounded_down(row.confidence):.2f}",
        "others": ", ".join(others) or None,
    }


def _rounded_down(confidence: float) -> float:
    """Return two digits, of which 1 is nothing but certainty."""
    return int(confidence * 100) / 100
