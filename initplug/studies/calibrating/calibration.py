"""A calibration as data: which weight got which factor, and the recipe that holds the factors."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from initplug._version import __version__
from initplug.auditing.audit import Audit
from initplug.errors import InitplugError, RecipeError, did_you_mean, first_line, shortened, visible
from initplug.language.loading import load
from initplug.language.recipe import Recipe
from initplug.studies.calibrating.scaling import Goal, Outcome
from initplug.tables.files import save, to_csv, to_json, to_markdown
from initplug.tables.grouping import collapsed
from initplug.tables.text import WIDE, Column, table


@dataclass(frozen=True, slots=True)
class Scaling:
    """A weight, and what was done to it.

    Args:
        name: canonical name of the parameter.
        aliases: further names of the same tensor.
        module: name of the module whose output counted; None where there was none.
        module_type: class of that module, or else of the owner.
        shape: sizes, in elements.
        rule: that gives its values; None where none does.
        outcome: `scaled`, `fits` (no factor is needed), `off` (none was found that fits) or `left`.
        factor: that its draw is multiplied by, beside those of the recipe.
        rounds: how often it was drawn again.
        before: standard deviation of the output when the weight's turn came; None where there was no output.
        std: of the output in the end.
        mean: of the output in the end.
        calls: how often the forward calls the module; the first call counts.
        reason: why it was left, or is off.
    """

    name: str
    aliases: tuple[str, ...]
    module: str | None
    module_type: str
    shape: tuple[int, ...]
    rule: str | None
    outcome: Outcome
    factor: float
    rounds: int
    before: float | None
    std: float | None
    mean: float | None
    calls: int
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        values = {key: getattr(self, key) for key in KEYS}
        return {**values, "aliases": [*self.aliases], "shape": [*self.shape]}

    def __str__(self) -> str:
        return visible(f"{self.name} ({self.module_type}): {self.reason or self.outcome}")


KEYS = (
    *("name", "aliases", "module", "module_type", "shape", "rule", "outcome"),
    *("factor", "rounds", "before", "std", "mean", "calls", "reason"),
)


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """A model's weights with the factors that bring the outputs of its layers to one standard deviation.

    Iterating gives a `Scaling` for each parameter of two or more dimensions, those that were looked at in the order of
    the forward, then those that were left; `calibration[name]` finds one by any of its names. Printed, it is a table.

    Args:
        model: class of the model.
        recipe: with a factor for each weight that was scaled; under the same seed it gives the same weights to the bit.
        rows: of its parameters of two or more dimensions.
        goal: that outputs were brought to.
        seed: of the draws.
        passes: how often the inputs went through the model; the last pass found nothing to change.
        audit: of what was written in the end.
    """

    model: str
    recipe: Recipe
    rows: tuple[Scaling, ...]
    goal: Goal
    seed: int
    passes: int
    audit: Audit

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Scaling]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Scaling:
        known = {each: row for row in reversed(self.rows) for each in (row.name, *row.aliases)}
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise KeyError(f"the calibration has no weight {name!r}" + (f" ({hint})" if hint else ""))
        return known[name]

    def problems(self) -> tuple[Scaling, ...]:
        """Return the weights for which no factor was found that fits."""
        return tuple(row for row in self.rows if row.outcome == "off")

    def left(self) -> tuple[Scaling, ...]:
        """Return the weights that were left as the recipe gives them, each with its reason."""
        return tuple(row for row in self.rows if row.outcome == "left")

    @property
    def yaml(self) -> str:
        """The recipe as YAML, under a comment that says where its factors come from."""
        told = f"# {self.headline()}; by initplug {__version__} for seed {self.seed}"
        return f"{told}\n{self.recipe.to_yaml()}"

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of weights by outcome, of rounds and of passes."""
        outcomes = [row.outcome for row in self.rows]
        counts = {outcome: outcomes.count(outcome) for outcome in ("scaled", "fits", "off", "left")}
        return {**counts, "rounds": sum(row.rounds for row in self.rows), "passes": self.passes}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: schema, model, seed, goal, rows, recipe, summary."""
        return {
            "schema": 1,
            "model": self.model,
            "seed": self.seed,
            "target": self.goal.target,
            "tolerance": self.goal.tolerance,
            "rows": [row.to_dict() for row in self.rows],
            "recipe": self.recipe.plain(),
            "summary": self.summary,
        }

    def to_json(self) -> str:
        """Return JSON text."""
        return to_json(self.to_dict())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file that its suffix asks for: the rows as .json, .csv or .md, the recipe as .yaml."""
        rows = [row.to_dict() for row in self.rows]
        writers = {
            ".yaml": self._file,
            ".json": self.to_json,
            ".csv": lambda: to_csv(rows, KEYS),
            ".md": lambda: to_markdown(rows, KEYS),
        }
        save(path, writers)

    def _file(self) -> str:
        """Return the recipe as a file that can be read again.

        Raises:
            InitplugError: it has more rules than a file may have.
        """
        try:
            load(self.yaml)
        except RecipeError as error:
            said = f"the recipe has {len(self.recipe.rules)} rules, more than a file may hold ({first_line(error)})"
            raise InitplugError(f"{said}: apply calibration.recipe itself") from None
        return self.yaml

    def __repr__(self) -> str:
        return f"<Calibration {self.headline()}>"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a line for every weight, also where those of repeated blocks were left alike.
        """
        rows: Iterable[Mapping[str, Any]] = map(_table_row, self.rows)
        rows = rows if every else collapsed(rows, _agreed)
        return table(COLUMNS, rows, footer=self.headline(), width=width, color=color)

    def told(self) -> list[str]:
        """Return a line for each weight that was left or is off."""
        return shortened([str(row) for row in (*self.problems(), *self.left())])

    def headline(self) -> str:
        """Return one line that sums the calibration up."""
        counts, goal = self.summary, self.goal
        looked = counts["scaled"] + counts["fits"] + counts["off"]
        reached = counts["scaled"] + counts["fits"]
        parts = [
            f"{self.model}: {reached} of {looked} layers have outputs of std {goal.target:g} ± {goal.tolerance:.3g}"
            + (" (relative)" if goal.target != 1 else ""),
            f"{counts['scaled']} scaled in {counted(counts['rounds'], 'round')}",
        ]
        if counts["left"]:
            parts.append(f"{counted(counts['left'], 'weight')} left")
        return visible("; ".join(parts))


def counted(number: int, word: str) -> str:
    """Return a number of things.

    Example:
        >>> counted(1, "round"), counted(2, "round")
        ('1 round', '2 rounds')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


COLUMNS = (
    Column("weight", "name", gives=True),
    Column("layer", "module_type", least=WIDE, gives=True),
    Column("rule", "rule", gives=True),
    Column("factor", "factor"),
    Column("rounds", "rounds"),
    Column("std before", "before"),
    Column("std", "std"),
    Column("note", "note", gives=True),
)


def _table_row(row: Scaling) -> dict[str, Any]:
    calls = f"called {row.calls} times, the first counts" if row.calls > 1 and row.outcome != "left" else ""
    note = "; ".join(part for part in (row.reason, calls) if part)
    looked = row.outcome != "left"
    return {
        "name": row.name,
        "module_type": row.module_type,
        "rule": row.rule,
        "factor": row.factor if looked else None,
        "rounds": row.rounds if looked else None,
        "before": row.before,
        "std": row.std,
        "note": note or None,
        "outcome": row.outcome,
    }


def _agreed(row: Mapping[str, Any]) -> Hashable | None:
    return (row["module_type"], row["rule"], row["note"]) if row["outcome"] == "left" and row["std"] is None else None
