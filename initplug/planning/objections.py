"""Objections to a plan: raised together where they make it unfit, warned of where it is only suspicious."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from initplug.errors import PlanError, shortened, warn
from initplug.planning.assignment import LAZY, Share
from initplug.planning.findings import (
    Block,
    left_alone,
    misfit,
    not_as_expected,
    nothing_selected,
    unmatched_slots,
    wins_nothing,
    without_effect,
)
from initplug.planning.plan import Plan
from initplug.planning.slots import Slots, Tree
from initplug.schemes.compositions import Keep


def warn_of_lazy(plan: Plan) -> None:
    """Warn of slots that have a rule and cannot be written before a first batch."""
    rows = plan.shares.where(lambda share: share.reason == LAZY).tolist()
    if rows:
        names = ", ".join(shortened([plan.names[row] for row in rows]))
        counted = f"{len(rows)} of {len(plan)} slots"
        warn(f"{counted} wait for a first batch to learn their shape, and cannot be written before it: {names}")


def warn_if_bare(tree: Tree) -> None:
    """Warn of a model that has no parameters, of which nothing can be initialised."""
    if not len(tree.slots.kins.where(lambda kin: kin.kind == "parameter")):
        kind = tree.nodes[0].cls.__name__
        warn(f"the {kind} has no parameters, so that there is nothing to initialise; is it built later?")


def raise_or_warn(
    result: Plan, slots: Slots, misses: Mapping[int, str], chosen: Collection[int], *, part: bool
) -> None:
    """Raise what makes the plan unfit, warn of what is only suspicious.

    Args:
        result: the plan.
        slots: in its order.
        misses: why initializers do not fit, by row.
        chosen: positions of the slots that are to be written: what is wrong with others does not matter.
        part: whether it is of a part of a model.
    """
    recipe = result.recipe
    blocks: list[Block] = []
    result.unmatched = tuple(name for name in result.unmatched if result.find(name) in chosen)
    if result.unmatched and recipe.unmatched == "error":
        rows = [result.index_of(name) for name in result.unmatched]
        on_meta = any(slots[row].on_meta for row in rows)
        blocks.append(unmatched_slots([*map(result.row, rows)], len(result), recipe, on_meta))
    if misfits := [(result.row(row), reason) for row, reason in misses.items() if row in chosen]:
        blocks.append(misfit(misfits, recipe))
    left = _left(result, range(len(result)))
    if left and not part and not any(_is_written(share) for share in result.shares.distinct):
        blocks.append(left_alone([*map(result.row, left)], recipe, all_of_them=True))
    blocks += [not_as_expected(each, recipe) for each in result.accounts.unmet]
    for block in _without_use(result):
        if recipe.unused == "error":
            blocks.append(block)
        else:
            warn(block[0])
    if blocks:
        result.findings = tuple(finding for _, found in blocks for finding in found)
        raise PlanError("\n".join(text for text, _ in blocks), result.findings, plan=result)


def _without_use(result: Plan) -> Iterator[Block]:
    """Yield what the recipe says that has no effect, as far as it is reported."""
    accounts, recipe = result.accounts, result.recipe
    if accounts.idle:
        yield nothing_selected(result.unused, accounts, recipe, result.every_name)
    if accounts.dead:
        yield without_effect(accounts, recipe, result.every_name)
    if accounts.covered:
        yield wins_nothing(accounts, recipe)


def warn_of_frozen(result: Plan, slots: Slots, chosen: Collection[int]) -> None:
    """Warn of the frozen parameters that rules would draw, were they not frozen.

    Args:
        result: the plan.
        slots: in its order.
        chosen: positions of the slots that are to be written.
    """
    left = _left(result, chosen)
    if left:
        on_meta = any(slots[row].on_meta for row in left)
        warn(left_alone([*map(result.row, left)], result.recipe, on_meta=on_meta)[0])


def _left(result: Plan, chosen: Collection[int]) -> list[int]:
    return [row for row in result.shares.where(lambda share: share.passed is not None).tolist() if row in chosen]


def _is_written(share: Share) -> bool:
    """Return whether a rule gives a parameter values: at once, later, or where there are none (`keep default`)."""
    kept = isinstance(share.distribution, Keep) and share.distribution.otherwise == "error"
    return share.kind == "parameter" and share.rule is not None and not kept
