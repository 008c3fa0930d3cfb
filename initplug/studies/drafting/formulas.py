"""Formulas: initializers that give what was recorded, each tried by the planner itself on all parameters at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from initplug.columns import Coded, paired
from initplug.language.recipe import Recipe
from initplug.planning.assignment import Share
from initplug.planning.evaluation import evaluate
from initplug.planning.matching import Frozen, Winner
from initplug.planning.resets import Replays
from initplug.planning.slots import Tree
from initplug.schemes.structures.base import Fixed
from initplug.studies.drafting.agreement import agrees
from initplug.studies.drafting.depths import attribute_factors, deep_scales, depth_factors
from initplug.studies.drafting.scales import NAMED, RULES, priors, scales
from initplug.studies.drafting.spelling import form_of, is_short, spelled_number
from initplug.studies.recording.recognition import known_tables
from initplug.studies.recording.rows import Row
from initplug.studies.recording.writes import Call

DEFAULT, CALLED, PLAIN, DEEP, FITTED, SCALED, LONG = 1.0, 0.5, 2.0, 2.5, 3.0, 4.0, 6.0
"""The distance of initializers from what a person would write: what was called comes first, long numbers last."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An initializer, and the parameters that it gives what was recorded.

    Args:
        form: as a recipe has it.
        text: in one line.
        cost: the distance from what a person would write.
        gives: of every parameter whether it does.
    """

    form: Any
    text: str
    cost: float
    gives: Mask


class Trials:
    """Initializers that were tried on the parameters of a recorded model."""

    def __init__(self, tree: Tree, rows: Sequence[Row], replays: Replays) -> None:
        self.found: dict[str, Candidate] = {}
        self._tree, self._rows, self._replays = tree, rows, replays
        distinct: dict[Any, int] = {}
        codes = [distinct.setdefault((row.outcome, row.twin, row.numel > 0), len(distinct)) for row in rows]
        firsts = [rows[codes.index(code)] for code in range(len(distinct))]
        self._kinds = Coded(firsts, np.array(codes, np.intp))
        self.open = np.array([row.numel > 0 for row in rows], np.bool_)

    def add(self, form: Any, cost: float) -> None:
        """Try an initializer on all parameters; one that gives none what was recorded is forgotten."""
        recipe = rule_for_all(form)
        text = None if recipe is None else text_of(recipe)
        if recipe is None or text is None or text in self.found:
            return
        gives = self._tried(recipe)
        if gives.any():
            self.found[text] = Candidate(form, text, cost, gives)
            self.open &= ~gives

    def _tried(self, recipe: Recipe) -> Mask:
        pairs = paired(given_to_all(self._tree, recipe, self._replays), self._kinds)
        return pairs.mask(lambda pair: agrees(pair[0].distribution, pair[1]) and (pair[0].rule is not None))


def rule_for_all(form: Any) -> Recipe | None:
    """Return the recipe that gives an initializer to all parameters; None where it is no initializer."""
    try:
        return Recipe.model_validate({"frozen": "write", "unmatched": "keep", "rules": {"*": {"init": form}}})
    except ValidationError:
        return None


def text_of(recipe: Recipe) -> str:
    """Return the initializer of a recipe of one rule, in one line."""
    rule = recipe.rules["*"]
    assert rule is not None
    return rule.init.text


def given_to_all(tree: Tree, recipe: Recipe, replays: Replays) -> Coded[Share]:
    """Return what a recipe of one rule plans for every parameter."""
    everywhere: Coded[Winner | Frozen | None] = Coded([Winner("*", "*", ())], np.zeros(len(tree.slots), np.intp))
    _, shares, _ = evaluate(tree, recipe, everywhere, replays)
    return shares


def candidates(tree: Tree, rows: Sequence[Row], replays: Replays, named: Sequence[Any] = ()) -> list[Candidate]:
    """Return initializers that give parameters what was recorded of them, at least one for each.

    Args:
        tree: the recorded model.
        rows: what was recorded, a row for each of its parameters.
        replays: what resets draw, added to.
        named: initializers that are known to be meant, as those are that the code calls.
    """
    trials = Trials(tree, rows, replays)
    trials.add("keep", LONG)
    trials.add("default", DEFAULT)
    for form in named:
        trials.add(form, CALLED)
    for form in _distinct(_called(row.call) for row in rows if row.call is not None and row.distribution is not None):
        trials.add(form, CALLED)
    for form in _tables(rows):
        trials.add(form, PLAIN)
    for form in filter(is_short, _plain_forms(rows, trials.open)):
        trials.add(form, PLAIN)
    # Numbers with many digits are of a formula, of which several may fit: what is given by one is tried with all.
    wanted = trials.open.copy()
    for form in priors(rows, wanted):
        trials.add(form, FITTED)
    if wanted.any():
        for rule in RULES:
            for place, form in enumerate(NAMED):
                trials.add(form if rule == "torch" else {**form, "fans": rule}, FITTED + place / 100)
    for form in depth_factors(tree, rows, wanted):
        trials.add(form, DEEP)
    for form in attribute_factors(tree, rows, trials.open):
        trials.add(form, SCALED)
    for form in deep_scales(tree, rows, trials.open):
        trials.add(form, SCALED)
    for form in scales(tree, rows, trials.open):
        trials.add(form, SCALED)
    for form in _plain_forms(rows, trials.open):
        trials.add(form, LONG)
    return [*trials.found.values()]


def _distinct(forms: Iterator[Any]) -> list[Any]:
    return [*{repr(form): form for form in forms if form is not None}.values()]


def copies(tree: Tree, rows: Sequence[Row], replays: Replays) -> list[Candidate]:
    """Return initializers that copy what is drawn once and held by several parameters, a module at a time if possible.

    Args:
        tree: the recorded model.
        rows: of its parameters.
        replays: what resets draw, added to.
    """
    trials = Trials(tree, rows, replays)
    for row in rows:
        if row.twin is not None:
            trials.add({"fn": "copy", "source": source_of(row)}, PLAIN)
    return [*trials.found.values()]


def source_of(row: Row) -> str:
    """Return the reference to the module, or the parameter, that a twin is a copy of."""
    names, others = row.name.split("."), str(row.twin).split(".")
    while len(names) > 1 and len(others) > 1 and names[-1] == others[-1]:
        names.pop()
        others.pop()
    return "^" + ".".join(others)


# Calls ----------------------------------------------------------------------------------------------------------------

SCHEMES: Mapping[str, Sequence[str]] = {
    "xavier_uniform_": ("gain",),
    "xavier_normal_": ("gain",),
    "kaiming_uniform_": ("mode", "nonlinearity", "a"),
    "kaiming_normal_": ("mode", "nonlinearity", "a"),
    "orthogonal_": ("gain",),
}
"""Functions of torch.nn.init that are initializers of the same name, and their arguments."""


def _called(call: Call) -> Any:
    """Return the initializer that a call of torch.nn.init is; None where numbers say it as well."""
    keys = SCHEMES.get(call.name)
    if keys is None:
        return None
    given = {key: call.arguments[key] for key in keys if key in call.arguments}
    linear = str(given.get("nonlinearity", ""))
    if linear.startswith("conv"):
        given["nonlinearity"] = "linear"
    if given.get("nonlinearity") != "leaky_relu" or not given.get("a"):
        given.pop("a", None)
    plain = {"gain": 1, "mode": "fan_in", "nonlinearity": "leaky_relu"}
    kept = {key: _argument(value) for key, value in given.items() if plain.get(key) != value}
    return {"fn": call.name.removesuffix("_"), **kept} if kept else call.name.removesuffix("_")


def _argument(value: Any) -> Any:
    return spelled_number(float(value)) if isinstance(value, int | float) else value


def _tables(rows: Sequence[Row]) -> Iterator[Any]:
    """Yield the initializers of tables that are among what was recorded, times what they are multiplied by."""
    drawn = dict.fromkeys(row.distribution for row in rows if isinstance(row.distribution, Fixed))
    gains = {(type(one).__name__.lower(), one.gain) for one in drawn if one is not None and not one.generated}
    for form, init in known_tables():
        for name, gain in sorted(gains):
            if name == init.fn.replace("_", ""):
                plain = form if isinstance(form, dict) else init.plain()
                factor = {} if gain == 1 else {"factor": spelled_number(gain)}
                yield {**(plain if isinstance(plain, dict) else {"fn": plain}), **factor}


def _plain_forms(rows: Sequence[Row], wanted: Mask) -> list[Any]:
    """Return the initializers that say by numbers what some of the rows are."""
    drawn = dict.fromkeys(rows[place].distribution for place in np.flatnonzero(wanted).tolist())
    return [form for one in drawn if one is not None and (form := form_of(one)) is not None]
