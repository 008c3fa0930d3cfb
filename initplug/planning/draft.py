"""Recipe and model -> plan: the model is walked, rules are matched, and what they come down to is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from initplug.errors import Finding, InitplugError, PlanError
from initplug.language.loading import load
from initplug.language.recipe import Recipe, Rule
from initplug.planning.accounts import accounts_of
from initplug.planning.assignment import UNMATCHED
from initplug.planning.elsewhere import refuse_flat, warn_of_elsewhere
from initplug.planning.evaluation import evaluate
from initplug.planning.matching import matched
from initplug.planning.meta_buffers import restorations
from initplug.planning.objections import raise_or_warn, warn_if_bare, warn_of_frozen, warn_of_lazy
from initplug.planning.opaque import warn_of_opaque
from initplug.planning.plan import Plan
from initplug.planning.remarks import remarks, warn_of_unread
from initplug.planning.resets import Recorded, Replays
from initplug.planning.slots import Slots, Tree
from initplug.planning.walk import walk
from initplug.values import plain


def plan(model: nn.Module, recipe: Any, *, prefix: str = "", recorded: Any = None) -> Plan:
    """Say which rule every parameter of a model gets, without touching a value.

    Args:
        model: any module, on meta too.
        recipe: a Recipe, or anything that `load` takes.
        prefix: the canonical name of `model` in the whole model that the recipe is about.
        recorded: a Recording of the model's constructor, which `default` asks about parameters that no reset writes.

    Raises:
        InitplugError: `recorded` is no recording, or one of another model.
        RecipeError: the recipe cannot be read.
        PlanError: with all findings together: unmatched parameters, initializers that do not fit their tensor, and,
            with `unused: error`, rules that select nothing. Its `plan` is as much as could be planned.

    Example:
        >>> assignment = plan(nn.Linear(4, 2), {"rules": {"*.weight": "xavier_uniform", "*.bias": 0}})["weight"]
        >>> assignment.rule, round(assignment.high, 6)
        ('*.weight', 1.0)
    """
    recipe, prefix = load(recipe), plain(prefix)
    told = {} if recorded is None else _told(recorded)
    tree = tree_for(model, recipe, prefix)
    if told and tree.slots and told.keys().isdisjoint(slot.name for slot in tree.slots):
        first = f"{next(iter(told))}, not {tree.slots[0].name}"
        raise InitplugError(f"recorded is of another model: it has no parameter of this one ({first})")
    warn_of_elsewhere(tree)
    result, slots = plan_walked(tree, recipe, prefix, told)
    warn_of_lazy(result)
    warn_of_opaque(slots, result.shares)
    return result


def _told(recording: Any) -> dict[str, Recorded]:
    """Return what a recording tells, by all names of parameters.

    Raises:
        InitplugError: it is none.
    """
    try:
        rows = [(row, row.reason, row.place) for row in recording.rows]
        return {
            name: Recorded(
                row.shape,
                f"a copy of {row.twin}" if row.twin else row.distribution if reason is None else reason,
                None if place is None else place.short,
            )
            for row, reason, place in rows
            for name in (row.name, *row.aliases)
        }
    except AttributeError:
        kind = type(recording).__name__
        raise InitplugError(f"recorded takes a Recording, such as initplug.record(build), not a {kind}") from None


def tree_for(model: nn.Module, recipe: Recipe, prefix: str = "") -> Tree:
    """Return the model's slots as far as the recipe can speak of them: buffers only if a rule does, or may copy one."""
    rules = [rule for rule in recipe.rules.values() if rule is not None]
    buffers = any(rule.kind == "buffer" or rule.init.fn == "copy" for rule in rules)
    return walk(model, prefix, buffers=buffers)


def plan_walked(
    tree: Tree, recipe: Recipe, prefix: str = "", recorded: Mapping[str, Recorded] | None = None
) -> tuple[Plan, Slots]:
    """Return the plan of a walked model, and the slots that have a row in it; raises and warns as `plan` does."""
    if not prefix:  # a stage of a pipeline may well have none
        warn_if_bare(tree)
    refuse_flat([*tree.flat.values()])
    replays = Replays(tree, recorded=recorded or {})
    result, slots, misses = drafted(tree, recipe, prefix, replays)
    result.buffers = tuple(one.buffer for one in restorations(tree, result, replays))
    raise_or_warn(result, slots, misses, range(len(result)), part=bool(prefix))
    warn_of_frozen(result, slots, range(len(result)))
    warn_of_unread(result, slots, range(len(result)))
    return result, slots


def drafted(
    tree: Tree, recipe: Recipe, prefix: str = "", replays: Replays | None = None
) -> tuple[Plan, Slots, dict[int, str]]:
    """Return as much of a plan as can be made, the slots with a row in it, and what keeps rows from fitting.

    Args:
        tree: the walked model.
        recipe: whose rules are matched.
        prefix: the name of the tree's root in the whole model.
        replays: what resets draw, as far as it is known from other plans of the model; added to.
    """
    rules = {name: rule for name, rule in recipe.rules.items() if rule is not None}
    if prefix:
        _refuse_places(rules, recipe)
    found = matched(tree, recipe, prefix)
    winners = found.winners
    slots, shares, misses = evaluate(tree, recipe, winners, Replays(tree) if replays is None else replays)
    used = {name for winner in winners.distinct if winner is not None for name in winner.rules}
    names = slots.names
    unused = [name for name, rule in rules.items() if name not in used and not rule.optional]
    accounts = accounts_of(tree, recipe, found, unused, part=bool(prefix))
    result = Plan(
        recipe,
        names=names,
        aliases={row: slots[row].aliases for row in slots.tied},
        shares=shares,
        unmatched=[names[row] for row in shares.where(lambda share: share.reason == UNMATCHED)],
        unused=unused,
        accounts=replace(accounts, remarks=(*remarks(shares, recipe),)),
        model=tree.nodes[0].cls.__name__,
    )
    return result, slots, misses


def _refuse_places(rules: Mapping[str, Rule], recipe: Recipe) -> None:
    for name, rule in rules.items():
        counting = [selector.text for selector in (*rule.selectors, *rule.exceptions) if selector.counts_places]
        inits = (rule.init, *rule.init.parts)
        counting += [factor.text for init in inits for factor in init.factors if factor.selector is not None]
        if counting:
            message = f"rule {name!r} counts in the model ({counting[0]}), which takes the whole of it"
            hint = "plan the whole (meta) model and apply that Plan to the part"
            raise PlanError(f"{message}; {hint}", [Finding.at(recipe.location(name), name, message, hint)])
