"""The `Recording`: what a model's own code initialises, row by row, with a recipe that does the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from initplug._version import __version__
from initplug.errors import did_you_mean, shortened, visible
from initplug.language.recipe import Recipe
from initplug.reporting.documents import Document
from initplug.schemes.compositions import Drawn
from initplug.studies.recording.forms import Given, Unwritten
from initplug.studies.recording.rows import Row
from initplug.tables.files import to_markdown
from initplug.tables.grouping import collapsed
from initplug.tables.text import WIDE, Column, table

if TYPE_CHECKING:
    from initplug.reporting.page import Report


class Problem(NamedTuple):
    """A parameter that the recipe does not give what the model's own code does.

    Args:
        name: of the parameter.
        reason: why.
        place: the line of code that wrote it last, if any.
    """

    name: str
    reason: str
    place: str | None

    def __str__(self) -> str:
        return visible(f"{self.name}: {self.reason}" + (f" ({self.place})" if self.place else ""))


class Nearest(NamedTuple):
    """The preset that is nearest to what was recorded.

    Args:
        preset: its name.
        differs: the parameters that it gives something else.
    """

    preset: str
    differs: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Recording(Document):
    """A model's own initialization: a row for every parameter, and a recipe that does the same.

    Iterating gives the rows; `recording[name]` finds one by any of its names. Printed, it is a table.

    Args:
        model: class of the model.
        rows: of its parameters, in order.
        recipe: that gives them what the code does; what has no closed form it keeps as constructed.
        comments: by rule how many parameters it takes, and where they come from.
        look: finds the nearest preset when it is first asked for; None where none is to be looked for.
        differing: what the recipe was found not to give, and why.
        checked: whether that was looked for.
        meta: whether large tensors were on meta, so that their values could not be looked at.
        takers: by parameter the rule of the recipe that takes it, where the recipe was planned.
    """

    model: str
    rows: tuple[Row, ...]
    recipe: Recipe
    comments: Mapping[str, str]
    look: Callable[[], Nearest | None] | None
    differing: Mapping[str, str]
    checked: bool
    meta: bool = False
    takers: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Row:
        found = self._by_name.get(name)
        if found is None:
            hint = did_you_mean(str(name), self._by_name)
            raise KeyError(f"the recording has no parameter {name!r}" + (f" ({hint})" if hint else ""))
        return found

    @cached_property
    def _by_name(self) -> dict[str, Row]:
        return {name: row for row in reversed(self.rows) for name in (row.name, *row.aliases)}

    @cached_property
    def nearest(self) -> Nearest | None:
        """The preset that gives most parameters what the code does; None where none gives any."""
        return None if self.look is None else self.look()

    def problems(self) -> list[Problem]:
        """Return the parameters that the recipe does not give what the code does, and why; unwritten memory first."""
        found = []
        for row in sorted(self.rows, key=lambda row: not isinstance(row.outcome, Unwritten)):
            reason = self.differing.get(row.name) or row.reason
            if reason is not None and not (isinstance(row.outcome, Given) and row.name not in self.differing):
                found.append(Problem(row.name, reason, None if row.place is None else row.place.short))
        return found

    @property
    def about(self) -> str:
        """One line on what the recipe is."""
        return f"{self.model} as its own code initialises it, recorded by initplug {__version__}"

    @property
    def yaml(self) -> str:
        """The recipe as YAML; comments say how many parameters each rule takes, and which line of code they are of."""
        lines = [f"# {self.about}"]
        for line in self.recipe.to_yaml().splitlines():
            named = re.fullmatch(r"  '?(\w+)'?:", line)
            if named is not None and named[1] in self.comments:
                lines.append(f"  # {visible(self.comments[named[1]])}")
            lines.append(line)
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the recording as plain data: schema, model, meta, rows, recipe, nearest preset, problems, summary."""
        return {
            "schema": 1,
            "model": self.model,
            "meta": self.meta,
            "rows": [row.to_dict() for row in self.rows],
            "recipe": self.recipe.plain(),
            "nearest": None if self.nearest is None else self.nearest._asdict(),
            "problems": [problem._asdict() for problem in self.problems()],
            "summary": self.summary,
        }

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of parameters and elements, of those that the recipe gives, and of its rules."""
        return {
            "parameters": len(self.rows),
            "numel": sum(row.numel for row in self.rows),
            "given": len(self.rows) - len(self.problems()),
            "rules": len(self.recipe.rules),
        }

    @property
    def _keys(self) -> tuple[str, ...]:
        return KEYS

    def _flat(self, every: bool = True) -> list[dict[str, Any]]:
        rows = self._told_rows()
        return rows if every else list(collapsed(rows, self._agreed))

    def to_markdown(self, *, every: bool = True) -> str:
        """Return the rows as a Markdown table; with `every` False one row where those of repeated blocks agree."""
        return to_markdown(self._flat(every), ("name", "shape", "holds", "place", "problem"))

    def _report(self) -> Report:
        from initplug.reporting.recordings import recording_report

        return recording_report(
            self.to_dict(),
            self._told_rows(),
            self.comments,
            [row.distribution for row in self.rows],
            [] if self.look is None and not any(row.twin for row in self.rows) else self._remarks(),
            {"initplug": __version__},
        )

    def _told_rows(self) -> list[dict[str, Any]]:
        """Return the rows with what each holds in words, where it was written, its rule, and what is wrong with it."""
        wrong = {problem.name: problem.reason for problem in self.problems()}
        return [
            {
                **row.to_dict(),
                **self._shown(row),
                "places": [place.short for place in row.places],
                "low": _bound(row.distribution, "low"),
                "high": _bound(row.distribution, "high"),
                "rule": self.takers.get(row.name),
                "verdict": "differs" if row.name in wrong else "ok",
                "problem": wrong.get(row.name),
            }
            for row in self.rows
        ]

    def __repr__(self) -> str:
        return f"<Recording {self.headline()}>"

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a line for every parameter, also where those of repeated blocks agree.
        """
        return table(self._columns, self._lines(every), footer=self.headline(), width=width, color=color)

    @property
    def _columns(self) -> Sequence[Column]:
        return RECORDING_COLUMNS

    @staticmethod
    def _shown(row: Any) -> dict[str, Any]:
        """Return the cells of a row of the table."""
        return _table_row(row)

    @staticmethod
    def _agreed(row: Mapping[str, Any]) -> Hashable:
        """Return what rows of repeated blocks have in common where they are told as one."""
        return tuple(row["shape"]), row["holds"], row["place"]

    def _lines(self, every: bool) -> Iterable[Mapping[str, Any]]:
        rows = map(self._shown, self.rows)
        return rows if every else collapsed(rows, self._agreed)

    def told(self) -> list[str]:
        """Return what is to be said of the recording: the nearest preset, copies, then every problem."""
        return self._remarks() + shortened([str(problem) for problem in self.problems()])

    def _remarks(self) -> list[str]:
        return [visible(line) for line in (*self._preset_told(), *self._copies_told())]

    def _preset_told(self) -> Iterator[str]:
        if self.nearest is not None:
            preset, differs = self.nearest
            if not differs:
                yield f"this is {preset}"
            elif len(differs) <= len(self.rows) / 2:
                names = ", ".join(shortened(differs, 3))
                yield f"nearest preset: {preset}; {len(differs)} of {len(self.rows)} differ: {names}"

    def _copies_told(self) -> Iterator[str]:
        twins = [row for row in self.rows if row.twin is not None]
        if twins:
            are = "parameter is a copy" if len(twins) == 1 else "parameters are copies"
            yield f"{len(twins)} {are} of others, drawn once: {twins[0].name} is {twins[0].twin}"

    def headline(self) -> str:
        """Return one line that sums the recording up."""
        told = self.summary
        rules = f"{told['rules']} rule{' gives' if told['rules'] == 1 else 's give'}"
        given = f"{rules} {told['given']} of {told['parameters']} parameters what the code does"
        unwritten = sum(isinstance(row.outcome, Unwritten) for row in self.rows)
        if unwritten:
            given += f"; {unwritten} {'is' if unwritten == 1 else 'are'} never written"
        unchecked = "" if self.checked else "; not checked"
        unchecked += "; on meta" if self.meta else ""
        return visible(f"{self.model}: {told['numel']:,} elements; {given}{unchecked}")

    def _repr_html_(self) -> str:
        from initplug.reporting.fragment import fragment

        return fragment(self._columns, self._lines(every=False), [self.headline(), *self.told()])


KEYS = (
    *(
        "name",
        "aliases",
        "module_type",
        "shape",
        "numel",
        "trainable",
        "holds",
        "distribution",
        "reason",
        "mean",
        "std",
    ),
    *("low", "high", "twin", "place", "places", "rule", "problem"),
)

RECORDING_COLUMNS = (
    Column("parameter", "name", gives=True),
    Column("shape", "shape", least=WIDE),
    Column("holds", "holds", gives=True),
    Column("written at", "place", gives=True),
)


def _table_row(row: Row) -> dict[str, Any]:
    holds = row.reason or (row.distribution.text if row.distribution is not None else "")
    twin = f", a copy of {row.twin}" if row.twin else ""
    place = None if row.place is None else row.place.short
    return {"name": row.name, "shape": list(row.shape), "holds": f"{holds}{twin}", "place": place}


def _bound(drawn: Drawn | None, side: str) -> float | None:
    bound = None if drawn is None else getattr(drawn, side)
    return bound if bound is not None and math.isfinite(bound) else None
