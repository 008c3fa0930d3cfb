"""Factored recipes: a recipe in which single slots have a factor beside what their rules give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from initplug.language.factor import Factor
from initplug.language.init import Init
from initplug.language.recipe import Recipe, Rule
from initplug.language.selectors import selector_of
from initplug.planning.plan import Plan


def factored(plan: Plan, factors: Mapping[str, float]) -> Recipe:
    """Return the recipe of a plan in which slots are drawn times a factor; under the same seed all others are the same.

    A slot that has a rule of its own keeps it, and the factor goes there. Any other gets a rule at the end that selects
    it by its name, with the initializer of the rule that it had. Relative paths are made absolute.

    Args:
        plan: of a model.
        factors: by the name of a slot that is drawn.

    Example:
        >>> from torch import nn
        >>> from initplug.planning.draft import plan
        >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        >>> recipe = factored(plan(model, {"rules": {"*.weight": "xavier_uniform"}}), {"1.weight": 1.5})
        >>> recipe.rules["^1.weight"].init.text
        'xavier_uniform factor=1.5'
    """
    recipe = plan.recipe
    rules = {name: rule and _alone(rule, name, recipe) for name, rule in recipe.rules.items()}
    taken = Counter(name for share in plan.shares for name in (share.rule, share.passed, *share.shadowed))
    for name, factor in factors.items():
        winner = plan[name].rule or ""
        rule = rules[winner]
        assert rule is not None  # what is drawn has one
        init = times(rule.init, factor)
        if taken[winner] == 1:
            rules[winner] = rule.model_copy(update={"init": init})
        else:
            update = {"match": (selector_of(name),), "except_": (), "init": init, "ndim": None, "expect": None}
            rules[_free(selector_of(name), rules)] = rule.model_copy(update=update)
    about = f"{recipe.about}, with factors" if factors and isinstance(recipe.about, str) else recipe.about
    # What it was compared with had no factors.
    proven_on = None if factors else recipe.proven_on
    return recipe.model_copy(update={"about": about, "proven_on": proven_on, "rules": rules})


def times(init: Init, factor: float) -> Init:
    """Return an initializer with a further factor; a plain number at the end of those it has takes it up."""
    *others, last = init.factors or (Factor(),)
    if last.counted is not None:
        return replace(init, factors=(*others, last, Factor(number=factor)))
    return replace(init, factors=(*others, Factor(number=last.number * factor)))


def _free(name: str, rules: Mapping[str, Rule | None]) -> str:
    """Return a name that no rule has."""
    while name in rules:
        name += "'"
    return name


def _alone(rule: Rule, name: str, recipe: Recipe) -> Rule:
    """Return a rule that means the same outside the file that it is from.

    A path is absolute. Entries of a shipped preset that are for other models are not warned of, as there.
    """
    place = recipe.place(name)
    several = bool(rule.except_) or len(rule.match) > 1
    if place is not None and recipe.is_shipped(place) and several and rule.expect is None:
        rule = rule.model_copy(update={"optional": True})
    if rule.init.fn != "load":
        return rule
    path = str((recipe.folder(name) / rule.init.arguments["path"]).absolute())
    return rule.model_copy(update={"init": replace(rule.init, arguments={**rule.init.arguments, "path": path})})
