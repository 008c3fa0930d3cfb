"""Presets that fit a model: each planned on it, judged by the values there are, and what else speaks for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from torch import nn

from initplug.errors import NAME, cut
from initplug.filling.likeness import Held, likeness
from initplug.language.loading import load
from initplug.language.preset_list import heading, one_line, presets
from initplug.language.recipe import Recipe
from initplug.planning.draft import drafted
from initplug.planning.elsewhere import refuse_flat
from initplug.planning.resets import Replays
from initplug.planning.slots import Tree
from initplug.planning.walk import walk
from initplug.schemes.distributions import Constant
from initplug.studies.kinship import Kin
from initplug.tables.text import WIDE, Column, table

SHOWN = 10
"""The number of rows that a table shows."""

KNOWN = 0.35
"""The kinship from which a preset counts as one for a model."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The fit of a preset to a model.

    Args:
        preset: its name.
        about: its one line.
        family: the kind of architecture that it is for.
        slots: parameters that it gives a distribution; frozen ones as if they were not.
        of_slots: parameters of the model, without the frozen ones that it can give none.
        numel: elements of the former.
        of_numel: elements of the latter.
        own: parameters that get something else than what torch.nn draws.
        unmatched: parameters that no rule takes; frozen ones need none.
        misfits: parameters that are not frozen and whose rule's initializer does not fit them.
        unused: rules that select nothing and are not optional.
        evidence: what says that it was written for this model.
        score: what the order of structure goes by: coverage x share of rules in use x (1 + kinship).
        alike: parameters whose values look as the preset draws them; None where the model has none to be looked at.
        unlike: parameters whose values do not.
        unmet: rules that do not select what they expect, so that the preset cannot be applied.
    """

    preset: str
    about: str
    family: str
    slots: int
    of_slots: int
    numel: int
    of_numel: int
    own: int
    unmatched: tuple[str, ...]
    misfits: tuple[str, ...]
    unused: tuple[str, ...]
    evidence: tuple[str, ...]
    score: float
    alike: int | None = None
    unlike: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether every parameter gets a distribution, and every rule what it expects."""
        return self.slots == self.of_slots and not self.unmet

    @property
    def lacks(self) -> Iterator[str]:
        """Yield what keeps it from being applied, as a sentence has it."""
        if self.slots < self.of_slots:
            yield f"{self.of_slots - self.slots} of {self.of_slots} parameters need a rule"
        for rule in self.unmet:
            yield f"rule {rule!r} does not select what it expects"

    def to_dict(self) -> dict[str, Any]:
        """Return the row as the table shows it."""
        # Rounded down: what lacks a parameter is not 100 %.
        percent = math.floor(1000 * self.numel / self.of_numel) / 10 if self.of_numel else 100.0
        return {
            "preset": self.preset,
            "family": self.family,
            "parameters": f"{self.slots}/{self.of_slots}",
            "elements": f"{percent:g} %",
            "alike": None if self.alike is None else f"{self.alike}/{self.alike + len(self.unlike)}",
            "unmatched": len(self.unmatched) or None,
            "misfits": len(self.misfits) or None,
            "unused": ", ".join(self.unused) or None,
            "evidence": "; ".join(self.evidence) or None,
        }


FIT_COLUMNS = (
    Column("preset", "preset"),
    Column("family", "family", least=WIDE, gives=True),
    Column("parameters", "parameters"),
    Column("elements", "elements"),
    Column("look so", "alike"),
    Column("unmatched", "unmatched", least=WIDE),
    Column("misfits", "misfits", least=WIDE),
    Column("unused rules", "unused", gives=True),
    Column("because of its", "evidence", gives=True),
)


@dataclass(frozen=True, slots=True)
class Fits:
    """The fits of all presets to a model, the best first. Printed, they are a short table with a conclusion.

    Args:
        model: class of the model.
        rows: of every preset.
        known: how many of the first rows are known to be for such a model.
        valued: whether the order goes by the values of the model, which look like those of some preset.
    """

    model: str
    rows: tuple[Fit, ...]
    known: int
    valued: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Fit:
        return self.rows[index]

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int | None = None, color: bool = False, limit: int = SHOWN) -> str:
        """Return the best rows as a table for a terminal, and what they come down to."""
        columns, rows, more = self._shown(limit)
        shown = table(columns, rows, footer=more, width=width, color=color)
        return f"{shown.rstrip()}\n{self.conclusion}"

    def _repr_html_(self) -> str:
        from initplug.reporting.fragment import fragment

        columns, rows, more = self._shown(SHOWN)
        return fragment(columns, rows, [*([more] if more else []), self.conclusion])

    def _shown(self, limit: int) -> tuple[list[Column], list[dict[str, Any]], str]:
        """Return the columns and rows of a table, and a line on the rows that it leaves out."""
        more = len(self.rows) - limit
        columns = [column for column in FIT_COLUMNS if column.key != "alike" or self.rows[0].alike is not None]
        return columns, [row.to_dict() for row in self.rows[:limit]], f"… and {more} more" if more > 0 else ""

    @property
    def conclusion(self) -> str:
        """One line on what to make of the rows."""
        best = self.rows[0]
        if not best.of_slots:
            return f"{self.model} has no parameters: every preset fits"
        if not best.slots:
            return f"no preset fits {self.model}: write a recipe of its own"
        if self.valued:
            return self._by_values(best)
        read = best.alike is not None and best.alike + len(best.unlike)
        unlike = f"; {best.alike} of {read} look so: it was trained, or drawn otherwise" if read else ""
        return f"{self._by_structure(best, 'is nearest to' if read else 'fits')}{unlike}"

    def _by_values(self, best: Fit) -> str:
        """Return what to make of the rows where the values look like those of a preset."""
        assert best.alike is not None  # there are values
        told = best.alike + len(best.unlike)
        because = f", by its {best.evidence[0]}" if self.known else ""
        if not best.unlike and best.complete:
            rest = (fit for fit in self.rows[1:] if fit.alike == told and fit.complete)
            same = [fit.preset for fit in rest if not (fit.unlike or fit.unused)]
            too = f", under {_listed(same)} too" if same and not self.known else ""
            return f"{best.preset} fits {self.model} best{because}; all {told} parameters look so{too}"
        do_not = "does not" if len(best.unlike) == 1 else "do not"
        unlike = f"; {_listed(best.unlike)} {do_not}" if best.unlike else ""
        lacks = "".join(f"; {lack}" for lack in best.lacks)
        return f"{best.preset} comes nearest to {self.model}{because}; {best.alike} of {told} look so{unlike}{lacks}"

    def _by_structure(self, best: Fit, fits: str) -> str:
        """Return what to make of the rows by what the presets and the model are."""
        left = best.of_slots - best.slots
        if self.known:
            rest = "; ".join(best.lacks) or "every parameter has a rule"
            most = " best" if fits == "fits" else ""
            return f"{best.preset} {fits} {self.model}{most}, by its {best.evidence[0]}; {rest}"
        complete = sum(row.complete for row in self.rows)
        if not complete:
            nearest = f"{best.preset} comes nearest and leaves {left} of {best.of_slots} parameters"
            return f"no preset fits {self.model}: {nearest}"
        return f"no preset is known to be for {self.model}; {complete} can be applied, none because of what it is"


def _listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them, three at most."""
    shown = [cut(name, NAME) for name in names[:3]]
    if len(names) > 3:
        return f"{', '.join(shown)} and {len(names) - 3} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def suggest(model: nn.Module) -> Fits:
    """Say which presets fit a model best.

    Every preset is planned on the model. Where the model has values, they are measured once, and every parameter is
    judged as an audit judges it: the order goes by how many look as the preset draws them, unless fewer than half of
    those that are drawn look so under any preset, as after training.

    On meta, after training, and of equals, the order goes by the share of the model that a preset covers, times the
    share of its rules that are in use, times 1 to 2 for what says that it was written for this model: the source that
    it cites is the file that the model's class (or a base class, or the class of most of its layers) is defined in, or
    it names that class. Of equals by that, what says more comes first, and `torch_default`, which fits whatever
    torch.nn can construct, last; where the values look alike, what says less, `torch_default` first.

    Args:
        model: any module.

    Raises:
        PlanError: `model` is no module.

    Example:
        >>> fits = suggest(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)))
        >>> fits[0].complete
        True
        >>> fits.conclusion.partition(",")[0]
        'torch_default fits Sequential best; all 4 parameters look so'
        >>> suggest(nn.Sequential(nn.Linear(8, 8)).to("meta")).conclusion.partition(";")[0]
        'no preset is known to be for Sequential'
    """
    recipes = {name: _recipe(name) for name in presets()}
    rules = (rule for recipe in recipes.values() for rule in recipe.rules.values() if rule is not None)
    tree = walk(model, buffers=any(rule.kind == "buffer" for rule in rules))
    refuse_flat([*tree.flat.values()])
    found, valued = _ranked(tree, recipes, Replays(tree))
    known = 0
    while known < len(found) and found[known].kinship >= KNOWN:
        known += 1
    return Fits(tree.nodes[0].cls.__name__, tuple(one.fit for one in found), known, valued)


def best_of(tree: Tree, names: Iterable[str], replays: Replays) -> str:
    """Return that of some presets which fits a model best, by the order of `suggest`.

    Args:
        tree: the model.
        names: of presets, at least one; no other is planned.
        replays: what its resets draw, added to.
    """
    found, _ = _ranked(tree, {name: _recipe(name) for name in names}, replays)
    return found[0].fit.preset


def _ranked(tree: Tree, recipes: Mapping[str, Recipe], replays: Replays) -> tuple[list[_Candidate], bool]:
    """Return presets in the order of how well they fit, and whether values tell."""
    kin, held = Kin(tree), Held()
    found = [_candidate(name, recipe, tree, kin, replays, held) for name, recipe in recipes.items()]
    valued = max(one.drawn for one in found) * 2 >= held.varied > 0
    if not held.moments or not any(held.moments.values()):
        found = [one._replace(fit=replace(one.fit, alike=None, unlike=())) for one in found]
    found.sort(key=lambda one: one.by_values if valued else one.by_structure)
    return found, valued


@lru_cache(maxsize=1024)
def _recipe(name: str) -> Recipe:
    """Return a preset, read once, that makes no difference of frozen parameters: fit is a question of structure."""
    return load(name).model_copy(update={"frozen": "write", "unused": "ignore"})


class _Candidate(NamedTuple):
    """A preset that may fit a model.

    Args:
        fit: the row.
        kinship: how nearly it was written for the model.
        strange: how many words of its name the model denies.
        drawn: how many parameters that it draws, and that are no constants, look so.
        plain: whether no rule of it gives any model something else than torch.nn draws.
    """

    fit: Fit
    kinship: float
    strange: int
    drawn: int
    plain: bool

    @property
    def by_structure(self) -> tuple[Any, ...]:
        """The order of the rows where values do not tell."""
        fit = self.fit
        return (-fit.score, not fit.own, self.plain, self.strange, -fit.own, fit.preset)

    @property
    def by_values(self) -> tuple[Any, ...]:
        """Their order where values tell."""
        fit = self.fit
        return (
            -(fit.alike or 0),
            len(fit.unlike) - fit.slots,
            len(fit.unmet),
            -fit.score,
            fit.own,
            not self.plain,
            self.strange,
            fit.preset,
        )


def _candidate(name: str, recipe: Recipe, tree: Tree, kin: Kin, replays: Replays, held: Held) -> _Candidate:
    """Return how a preset fits a model."""
    plan, slots, misses = drafted(tree, recipe, replays=replays)
    wrong = {plan.names[row] for row in misses}
    pairs = [pair for pair in zip(plan.names, plan.shares, strict=True) if pair[1].kind == "parameter"]
    given = {slot for slot, share in pairs if share.rule is not None and share.reason != "keep"} - wrong
    looks = [
        (slot, verdict, share)
        for slot, verdict, share in zip(
            plan.names, likeness(held, slots, plan.names, plan.shares), plan.shares, strict=True
        )
        if share.kind == "parameter" and slot in given
    ]
    alike = [share for _, verdict, share in looks if verdict in ("ok", "exact")]
    covered = [share for slot, share in pairs if slot in given]
    asked = [share for slot, share in pairs if share.trainable or slot in given]
    own = sum(share.init not in UNSAID for share in covered)
    numel, every = sum(share.numel for share in covered), sum(share.numel for _, share in pairs)
    kinship, evidence, strange = kin.to(name, recipe)
    binding = [rule for rule in recipe.rules.values() if rule is not None and not rule.optional]
    coverage = (len(covered) / len(pairs) + numel / every) / 2 if every else 1.0
    idle = len(plan.unused) + len(plan.accounts.unmet)
    score = coverage * max(1 - idle / max(len(binding), 1), 0.0) * (1 + kinship)
    fit = Fit(
        preset=name,
        about=one_line(recipe.about),
        family=heading(recipe.family),
        slots=len(covered),
        of_slots=len(asked),
        numel=numel,
        of_numel=sum(share.numel for share in asked),
        own=own,
        unmatched=plan.unmatched,
        misfits=tuple(slot for slot, share in pairs if slot in wrong and share.trainable),
        unused=plan.unused,
        evidence=evidence,
        score=round(score, 6),
        alike=len(alike),
        unlike=tuple(slot for slot, verdict, _ in looks if verdict == "differs"),
        unmet=tuple(one.rule for one in plan.accounts.unmet),
    )
    drawn = sum(not isinstance(share.distribution, Constant) for share in alike)
    plain = all(rule is None or rule.init.text in UNSAID for rule in recipe.rules.values())
    return _Candidate(fit, kinship, strange, drawn, plain)


UNSAID = ("default", "default keep", "keep", "keep default")
"""Initializers that leave a parameter to its constructor."""
