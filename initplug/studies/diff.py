"""Two sides on the same slots: recipes, plans, audits, recordings, or what was saved of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from initplug.auditing.audit import Audit
from initplug.auditing.compare import load_report
from initplug.errors import InitplugError, PlanError, visible
from initplug.language.loading import load
from initplug.language.recipe import Recipe
from initplug.planning.draft import plan
from initplug.planning.plan import Plan
from initplug.reporting.documents import Document
from initplug.schemes.compositions import Copy, Drawn, Planned
from initplug.studies.drafting.agreement import alike
from initplug.studies.inferring.inference import Inference, InferredRow
from initplug.studies.recording.forms import Given
from initplug.studies.recording.recording import Recording
from initplug.tables.grouping import collapsed
from initplug.tables.text import WIDE, Column, spread, table

if TYPE_CHECKING:
    from initplug.reporting.page import Report

PLANNED = "planned"
"""The key of a row's distribution itself, where the side is no file."""

ALLOWS = "allows"
"""The key of what says whether a row that was inferred may come of another distribution, too."""

PRECISION = 2e-6
"""The relative difference up to which numbers of two distributions are the same: rows tell six digits."""

KEYS = ("name", "shape", "what", "a", "b", "ratio", "rule_a", "rule_b", "location_a", "location_b")


@dataclass(frozen=True, slots=True)
class Differing:
    """A slot that both sides do not treat alike.

    Args:
        name: of the slot.
        shape: of it, in the side that has it.
        what: that differs: `distribution`, `shape`, `ties`, or `only in a`, `only in b`.
        a: what the first side does, as text.
        b: what the second does.
        ratio: of the second standard deviation to the first; None where one is missing or 0.
        rules: names of the rules on both sides.
        locations: files and lines of the rules; of recordings those of the code that wrote the slot last.
        moments: mean, std, low and high of both sides, as far as they are known.
        drawn: the distributions of both sides, where the side is no file.
    """

    name: str
    shape: tuple[int, ...]
    what: str
    a: str
    b: str
    ratio: float | None
    rules: tuple[str | None, str | None]
    locations: tuple[str | None, str | None]
    moments: tuple[Mapping[str, Any], Mapping[str, Any]] = field(default=({}, {}), compare=False)
    drawn: tuple[Planned | None, Planned | None] = field(default=(None, None), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        values = (self.name, [*self.shape], self.what, self.a, self.b, self.ratio, *self.rules, *self.locations)
        return dict(zip(KEYS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Diff(Document):
    """The slots that two sides do not treat alike. Printed, it is a table by rule; its length is their number.

    Args:
        a: what the first side is called.
        b: what the second is called.
        slots: how many slots both have together.
        rows: those that differ, in the model's order.
    """

    a: str
    b: str
    slots: int
    rows: tuple[Differing, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Differing]:
        return iter(self.rows)

    @property
    def summary(self) -> str:
        """One line that says how many slots differ."""
        if not self.rows:
            return f"{visible(self.a)} and {visible(self.b)} give all {self.slots} slots the same"
        verb = "differs" if len(self.rows) == 1 else "differ"
        return f"{len(self.rows)} of {self.slots} slots {verb} between {visible(self.a)} and {visible(self.b)}"

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal, by rule; repeated blocks that differ alike take one line.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a line for every slot.
        """
        if not self.rows:
            return self.summary
        rows = self._by_rule(every)
        columns = [
            Column("parameter", "name", gives=True),
            Column("rules", "rules", gives=True),
            Column(visible(self.a), "a", gives=True),
            Column(visible(self.b), "b", gives=True),
            Column("std", "ratio"),
        ]
        if all(row.rules == (None, None) for row in self.rows):
            columns[1:2] = []  # of recordings, whose lines of code matter all the more
            columns.append(Column("at", "location", gives=True))
        else:
            columns.append(Column("at", "location", least=WIDE, gives=True))
        return table(columns, map(_shown, rows), footer=self.summary, width=width, color=color)

    def _by_rule(self, every: bool) -> list[dict[str, Any]]:
        """Return the rows as plain data, those of one pair of rules one after the other."""
        groups = self._groups()
        told = ([row.to_dict() for row in group] for group in groups)
        return [row for group in told for row in (group if every else collapsed(group, _agreed))]

    def _groups(self) -> list[list[Differing]]:
        found: dict[Hashable, list[Differing]] = {}
        for row in self.rows:
            found.setdefault(row.rules, []).append(row)
        return [*found.values()]

    def _repr_html_(self) -> str:
        from initplug.reporting.fragment import fragment

        titles = {"name": "parameter", "rules": "rules", "a": self.a, "b": self.b, "ratio": "std", "location": "at"}
        columns = [Column(title, key) for key, title in titles.items()]
        return fragment(columns if self.rows else [], map(_shown, self._by_rule(every=False)), [self.summary])

    def _report(self) -> Report:
        from initplug.reporting.diffs import diff_report

        ordered = [row for group in self._groups() for row in group]
        rows = []
        for row in ordered:
            sides = {
                f"{key}_{side}": each.get(key) for side, each in zip("ab", row.moments, strict=True) for key in MOMENTS
            }
            rows.append(_shown(row.to_dict()) | {"ratio": row.ratio} | sides)
        drawn = ([row.drawn[0] for row in ordered], [row.drawn[1] for row in ordered])
        return diff_report(self.to_dict(), rows, drawn, self.summary)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; missing numbers are None."""
        return {
            "schema": 1,
            "a": self.a,
            "b": self.b,
            "slots": self.slots,
            "rows": [row.to_dict() for row in self.rows],
        }

    @property
    def _keys(self) -> tuple[str, ...]:
        return KEYS

    def _flat(self, every: bool = True) -> Iterable[Mapping[str, Any]]:
        rows = (row.to_dict() for row in self.rows)
        return rows if every else collapsed(rows, _agreed)


def diff(model: nn.Module | None, a: Any, b: Any) -> Diff:
    """Return the slots that two recipes, plans, audits or recordings do not treat alike, with both sides of each.

    Distributions are compared, and ties: two ways to say one distribution are no difference, nor are dtypes, places
    and names of rules. A slot that is kept on both sides is the same. A row of an Inference is the same as whatever its
    values may come from, as an audit judges them.

    Args:
        model: any module, which recipes are planned on; None where both sides are plans or audits.
        a: a Plan, an Audit, a Recording, an Inference, the path of one saved as .json, a Recipe, or anything else that
            `load` takes.
        b: likewise.

    Raises:
        RecipeError: a recipe cannot be read.
        InitplugError: a recipe has no model to be planned on, or a file holds neither.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
        >>> one = {"rules": {"<Linear>.weight": "kaiming_normal", "<LayerNorm>.weight": 1, "*.bias": 0}}
        >>> other = one | {"rules": one["rules"] | {"<Linear>.weight": "kaiming_normal fan_out"}}
        >>> [(row.name, round(row.ratio, 3)) for row in diff(model, one, other)]
        [('0.weight', 0.707)]
        >>> print(diff(model, one, one))
        a and b give all 4 slots the same
    """
    one, other = _label(a) or "a", _label(b) or "b"
    if one == other:
        one, other = "a", "b"
    return compared(one, other, rows_of(model, a), rows_of(model, b))


def compared(a: str, b: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Diff:
    """Return what differs between the rows of two sides.

    Args:
        a: what the first side is called.
        b: what the second is called.
        before: rows as plans and audits give them, with `name` and `aliases`.
        after: likewise.
    """
    left = {name: row for row in after for name in (row["name"], *(row.get("aliases") or ()))}
    found, met, slots = [], set(), len(before)
    for row in before:
        names = (row["name"], *(row.get("aliases") or ()))
        other = next((left[name] for name in names if name in left), None)
        if other is not None:
            met.add(other["name"])
        found.append(_differing(row, other))
    for row in after:
        if row["name"] not in met:
            slots += 1
            found.append(_differing(None, row))
    return Diff(a, b, slots, tuple(row for row in found if row is not None))


def _differing(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Differing | None:
    """Return what differs between two rows of one slot, one of which may be missing; None where nothing does."""
    what = _what_differs(one, other)
    if what is None:
        return None
    sides = (one or {}, other or {})
    either = one or other or {}
    stds: list[Any] = [side.get("std") for side in sides]
    ratio = stds[1] / stds[0] if all(stds) and what == "distribution" else None
    rules, locations = ((sides[0].get(key), sides[1].get(key)) for key in ("rule", "location"))
    mine, theirs = ("not there" if side is None else _told(side, what) for side in (one, other))
    return Differing(
        name=either["name"],
        shape=tuple(either.get("shape") or ()),
        what=what,
        a=mine,
        b=theirs,
        ratio=ratio,
        rules=rules,
        locations=locations,
        moments=(_moments(sides[0]), _moments(sides[1])),
        drawn=(sides[0].get(PLANNED), sides[1].get(PLANNED)),
    )


MOMENTS = ("mean", "std", "low", "high")


def _moments(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row.get(key) for key in MOMENTS}


def _what_differs(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str | None:
    if one is None:
        return "only in b"
    if other is None:
        return "only in a"
    if _known(one, "shape") and _known(other, "shape") and [*one["shape"]] != [*other["shape"]]:
        return "shape"
    if not _same_values(one, other):
        return "distribution"
    ties = [{row["name"], *row["aliases"]} for row in (one, other) if _known(row, "aliases")]
    return "ties" if len(ties) == 2 and ties[0] != ties[1] else None


def _known(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None


def _same_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two rows have one distribution; what differs in its bounds alone may be one, too."""
    planned, recorded = one.get(PLANNED), other.get(PLANNED)
    for side, drawn in ((one, recorded), (other, planned)):
        if ALLOWS in side and isinstance(drawn, Drawn):
            return bool(side[ALLOWS](drawn))
    if isinstance(planned, Drawn) and isinstance(recorded, Drawn):
        return alike(planned, recorded)
    return _same_text(_drawn(one), _drawn(other))


def _drawn(row: Mapping[str, Any]) -> str | None:
    """Return what a slot is given, as text; None where its rule's initializer does not fit it."""
    kept = row.get("distribution") is None and (row.get("rule") is None or row.get("reason") is not None)
    return "keep" if kept else row.get("distribution")


NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)\b")


def _same_text(one: str | None, other: str | None) -> bool:
    """Return whether two texts say one distribution, but for the rounding of their numbers."""
    if one is None or other is None or one == other:
        return one == other
    numbers = [[*map(float, NUMBER.findall(text))] for text in (one, other)]
    return NUMBER.sub("#", one) == NUMBER.sub("#", other) and all(
        math.isclose(mine, theirs, rel_tol=PRECISION) for mine, theirs in zip(*numbers, strict=True)
    )


def _told(row: Mapping[str, Any], what: str) -> str:
    """Return what a side does with a slot, as text."""
    if what == "shape":
        return "×".join(map(str, row["shape"])) or "()"
    if what == "ties":
        return " = ".join((row["name"], *row["aliases"])) if row["aliases"] else "not tied"
    init = "" if row.get("init") is None else str(row["init"])
    if row.get("distribution") is None:
        reason = row.get("reason")
        if reason is None and row.get("rule") is not None:
            return f"{init}: no distribution"
        return init or (f"kept ({reason})" if reason else "kept")
    drawn = init or str(row["distribution"])
    if " factor=" in drawn:
        drawn = f"{drawn.partition(' factor=')[0]} …"
    expected = spread(row.get("mean"), row.get("std")) if init or row.get("std") else None
    return drawn if expected is None or drawn.endswith(f" {expected}") else f"{drawn}: {expected}"


def rows_of(model: nn.Module | None, side: Any) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a side: its own, those of a file, or those of a recipe's plan as far as there is one.

    Raises:
        RecipeError: a recipe cannot be read.
        InitplugError: a recipe has no model to be planned on, or a file holds neither.
    """
    if isinstance(side, Plan | Audit):
        return _planned_rows(side)
    if isinstance(side, Recording):
        return recorded_rows(side)
    path = _report_path(side)
    if path is not None:
        return [*load_report(path)["rows"]]
    recipe = side if isinstance(side, Recipe) else load(side)
    if model is None:
        raise InitplugError("a recipe is compared by what it plans for a model: give the model, not None")
    try:
        return _planned_rows(plan(model, recipe))
    except PlanError as error:
        if error.plan is None:
            raise
        return _planned_rows(error.plan)


def _planned_rows(side: Plan | Audit) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a plan or an audit, with their distributions."""
    return [row.to_dict() | {PLANNED: row.distribution} for row in side]


def recorded_rows(recording: Recording) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a recording as plans have them, with their distributions."""
    rows = []
    for row in recording:
        planned: Planned | None = row.distribution if row.twin is None else Copy(row.twin)
        reason = "keep" if isinstance(row.outcome, Given) else None
        told = row.reason if planned is None and reason is None else None if planned is None else planned.text
        place = None if row.place is None else row.place.short
        facts: dict[str, Any] = {"distribution": told, "rule": None, "init": None, "reason": reason, "location": place}
        if isinstance(row, InferredRow):
            facts |= {"rule": row.rule, "init": row.formula}
            if row.distribution is not None:  # what is a copy may as well be compared by what it looks like
                planned, facts = row.distribution, facts | {ALLOWS: row.allows, "distribution": row.distribution.text}
        rows.append(row.to_dict() | facts | {PLANNED: planned})
    return rows


def _report_path(side: Any) -> Path | None:
    """Return the path of a saved plan or audit; None where it is a recipe, which may be in JSON as well."""
    if not isinstance(side, str | PathLike) or "\n" in fspath(side) or not fspath(side).endswith(".json"):
        return None
    path = Path(side)
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return path
    return None if isinstance(held, dict) and "rules" in held and "rows" not in held else path


def _label(side: Any) -> str | None:
    if isinstance(side, Plan | Recipe):
        return side.name
    if isinstance(side, Audit):
        return side.plan.name
    if isinstance(side, Recording):
        return "inferred" if isinstance(side, Inference) else "recorded"
    return fspath(side) if isinstance(side, str | PathLike) and "\n" not in fspath(side) else None


def _agreed(row: Mapping[str, Any]) -> Hashable:
    return tuple(tuple(value) if isinstance(value, list) else value for key, value in row.items() if key != "name")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    one, other = (row[key] or "–" for key in ("rule_a", "rule_b"))
    ratio = None if row["ratio"] is None else f"×{row['ratio']:.4g}"
    location = row["location_b"] or row["location_a"]
    return {**row, "rules": one if one == other else f"{one} → {other}", "ratio": ratio, "location": location}
