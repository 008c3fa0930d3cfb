"""The plan of a model's slots: of a recipe, or one made earlier, cut to them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from initplug.columns import coded
from initplug.errors import ROWS, ApplyError, Finding, did_you_mean, headed, shortened, warn
from initplug.filling.only import Chosen, chosen_by
from initplug.filling.sharding import has_other_ranks
from initplug.language.loading import load
from initplug.language.recipe import Recipe
from initplug.planning.assignment import FROZEN, Share
from initplug.planning.draft import drafted, tree_for
from initplug.planning.dtypes import misfit_of
from initplug.planning.elsewhere import refuse_flat
from initplug.planning.meta_buffers import Restoration, restorations
from initplug.planning.objections import raise_or_warn, warn_if_bare
from initplug.planning.plan import Plan
from initplug.planning.references import EMBEDDINGS, padding_row
from initplug.planning.resets import Replays
from initplug.planning.slots import Kin, Slots, Tree
from initplug.planning.walk import walk
from initplug.schemes.compositions import Drawn


class Fitted(NamedTuple):
    """A plan with the model that it is about.

    Args:
        plan: of the slots.
        tree: the walked model.
        slots: in the plan's order.
        buffers: on meta, which no rule takes.
        chosen: what `only=` leaves of all that.
    """

    plan: Plan
    tree: Tree
    slots: Slots
    buffers: Sequence[Restoration]
    chosen: Chosen


def fitted(model: nn.Module, recipe: Any, prefix: str, only: Any = None) -> Fitted:
    """Return the plan of the model's slots, with the slots in its order; judged where they are chosen.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or `only` names what it does not have.
    """
    if isinstance(recipe, Plan):
        plan, tree, slots = _of_earlier(model, recipe, prefix)
        found = _fit_to_model(model, plan, tree, slots, Replays(tree), prefix, only)
        _refuse_thawed(plan, found.chosen)
        return found
    recipe = load(recipe)
    tree = tree_for(model, recipe, prefix)
    if not prefix:
        warn_if_bare(tree)
    replays = Replays(tree)
    plan, slots, misses = drafted(tree, recipe, prefix, replays)
    found = _fit_to_model(model, plan, tree, slots, replays, prefix, only)
    raise_or_warn(plan, slots, misses, found.chosen.rows, part=bool(prefix))
    return found


def _fit_to_model(
    model: nn.Module, plan: Plan, tree: Tree, slots: Slots, replays: Replays, prefix: str, only: Any
) -> Fitted:
    on_meta = restorations(tree, plan, replays)
    plan.buffers = tuple(one.buffer for one in on_meta)
    buffers = [one for one in on_meta if one.buffer.restore != "rule"]
    places = slots if not buffers else [*slots, *(buffer.slot for buffer in buffers)]
    chosen = chosen_by(only, model, plan, tree, places, prefix)
    if tree.flat:
        refuse_flat(
            [tree.flat[name] for row, name in enumerate(plan.names) if row in chosen.rows and name in tree.flat]
        )
    return Fitted(plan, tree, slots, buffers, chosen)


def _refuse_thawed(plan: Plan, chosen: Chosen) -> None:
    """Raise for slots that require a gradient and did not when they were planned: a rule may take them now."""
    rows = plan.shares.where(lambda share: share.trainable and (share.reason == FROZEN or share.passed is not None))
    reason = "it was frozen when it was planned, and is not any more"
    findings = [Finding(plan.names[row], reason, hint=REPLAN) for row in rows.tolist() if row in chosen.rows]
    if findings:
        raise ApplyError(headed(OTHER, findings), findings)


OTHER, REPLAN = "the plan is of another model", "plan the model as it is now"


def _of_earlier(model: nn.Module, whole: Plan, prefix: str) -> tuple[Plan, Tree, Slots]:
    """Return a plan, made earlier or of a larger model, cut to the slots of this one."""
    if whole.findings:
        head = f"the plan is unfinished: it was made with {len(whole.findings)} findings"
        raise ApplyError(headed(head, whole.findings), whole.findings)
    tree = walk(model, prefix)
    refuse_flat([*tree.flat.values()])
    if not prefix:
        warn_if_bare(tree)
    slots, tied = tree.slots, {*tree.slots.tied}
    positions: dict[int, int] = {}
    shares: list[Share] = []
    findings: list[Finding] = []
    # What is the same for slots that are alike is found once.
    known: dict[tuple[int, Kin, int | None], tuple[str | None, Share]] = {}
    for row, (name, kin) in enumerate(zip(slots.names, slots.kins, strict=True)):
        places = {whole.find(place) for place in (name, *(slots[row].aliases if row in tied else ()))}
        if len(places) > 1:
            findings.append(Finding(name, f"it is tied to {slots[row].aliases[0]}, which the plan does not say"))
            continue
        (position,) = places
        if position is None:
            if kin.kind == "parameter":  # a plan may leave buffers out
                hint = did_you_mean(name, whole.names) if len(findings) < ROWS else None
                findings.append(Finding(name, "the plan has no such slot", hint=hint))
            continue
        share = whole.shares[position]
        padding = _padding_row(whole, position, tree, row) if _may_be_padded(share, kin) or row in tied else None
        key = (id(share), kin, padding)
        if key not in known:
            own = _of_this_model(share, kin, padding)
            known[key] = _misfit(kin, share) or _switched(whole.recipe, share, kin), _if_frozen(whole.recipe, own)
        problem, own = known[key]
        problem = "the plan ties it to another slot" if position in positions else problem
        if problem is not None:
            findings.append(Finding(name, problem))
        positions[position] = row
        shares.append(own)
    if findings:
        raise ApplyError(headed(OTHER, findings), findings)
    if not prefix and len(positions) < len(whole) and not has_other_ranks():
        _warn_of_absent([name for position, name in enumerate(whole.names) if position not in positions])
    rows = np.array([*positions.values()], np.intp)
    return whole.part(list(positions), coded(shares)), tree, slots.taken(rows)


def _warn_of_absent(names: Sequence[str]) -> None:
    """Warn of slots of a plan that a model without a prefix does not have: it may have changed since."""
    counted = "1 slot of the plan is" if len(names) == 1 else f"{len(names)} slots of the plan are"
    part = "of a part of the planned one `prefix=` says which"
    stage = "a part that keeps the names of the whole may ignore this"
    hint = f"If it has changed, {REPLAN}; {part}, and {stage}."
    warn(f"{counted} not in this model: {', '.join(shortened(names))}\n{hint}")


def _misfit(kin: Kin, share: Share) -> str | None:
    """Return what keeps a planned distribution from going to a tensor."""
    if tuple(kin.shape) != share.shape:
        return f"its shape is {tuple(kin.shape)}, the plan's {share.shape}"
    return misfit_of(share.distribution, kin.dtype, str(share.init)) if isinstance(share.distribution, Drawn) else None


def _may_be_padded(share: Share, kin: Kin) -> bool:
    """Return whether a slot may be an embedding's weight with a padding row, here or elsewhere in the plan's model."""
    return share.padding_row is not None or issubclass(kin.cls, EMBEDDINGS)


def _padding_row(whole: Plan, position: int, tree: Tree, row: int) -> int | None:
    """Return the padding row of a slot that is drawn: its own, or that of a further place outside this model."""
    share, slot = whole.shares[position], tree.slots[row]
    found = padding_row(tree, slot) if isinstance(share.distribution, Drawn) else None
    if found is None and not {slot.name, *slot.aliases}.issuperset((whole.names[position], *whole.aliases(position))):
        return share.padding_row
    return found


def _switched(recipe: Recipe, share: Share, kin: Kin) -> str | None:
    """Return why another rule may take a slot that was frozen when it was planned, or is now."""
    rules = {name: rule for name, rule in recipe.rules.items() if rule is not None}
    if share.rule is None or kin.kind == "buffer" or kin.trainable == share.trainable:
        return None
    takes = recipe.takes(rules[share.rule], kin.trainable)
    if kin.trainable:
        return None if takes else f"it is not frozen any more, and rule {share.rule!r} is for what is: {REPLAN}"
    earlier = () if takes else (name for name in share.shadowed if recipe.takes(rules[name], False))
    names = [*rules]
    later = (name for name in names[names.index(share.rule) :] if rules[name].trainable is False)
    other = next(chain(earlier, later), None)
    return None if other is None else f"it is frozen now, and rule {other!r} may take it: {REPLAN}"


def _if_frozen(recipe: Recipe, share: Share) -> Share:
    """Return what is planned of a slot, which may have been frozen since: then rules that draw leave it alone."""
    rule = None if share.rule is None else recipe.rules[share.rule]
    if rule is None or share.kind == "buffer" or recipe.takes(rule, share.trainable):
        return share
    left = share._replace(rule=None, selector=None, location=None, shadowed=(), init=None, distribution=None)
    return left._replace(fan_in=None, fan_out=None, padding_row=None, reason=FROZEN, passed=share.rule)


def _of_this_model(share: Share, kin: Kin, padding: int | None) -> Share:
    """Return the share of a slot in a plan, with what is this model's own."""
    dtype = str(kin.dtype).removeprefix("torch.")
    return share._replace(padding_row=padding, dtype=dtype, trainable=kin.trainable)
