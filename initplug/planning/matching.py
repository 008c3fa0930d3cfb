"""Rules x slots: the winning rule of every slot, from one walk of the module tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn.utils.parametrize import ParametrizationList

from initplug.columns import Coded, paired
from initplug.language.recipe import Recipe, Rule
from initplug.language.selectors import Matcher, Selector, State
from initplug.planning.slots import Kin, Kind, Slot, Tree


@dataclass(frozen=True, slots=True)
class Winner:
    """The rule that a slot gets: its name, the selector that matched, and the rules it shadows.

    Args:
        rule: the last that takes the slot.
        selector: of its selectors the first that matches.
        shadowed: rules that take it too and come before.
        leaving: rules that match it and leave it alone, since it is frozen.
        passed: that of those which would be the winner, were it not frozen.
    """

    rule: str
    selector: str
    shadowed: tuple[str, ...]
    leaving: tuple[str, ...] = ()
    passed: str | None = None

    @property
    def rules(self) -> tuple[str, ...]:
        """All rules that match the slot."""
        return (self.rule, *self.shadowed, *self.leaving)


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a frozen parameter gets that no rule takes: nothing.

    Args:
        rules: that match it and leave it alone, since it is frozen.
        passed: the rule that would draw it, were it not frozen.
    """

    rules: tuple[str, ...]
    passed: str | None


@dataclass(frozen=True, slots=True)
class _Clause:
    """One selector of a rule, and what it does there."""

    index: int
    name: str
    rule: Rule
    selector: str
    excludes: bool


def winners_of(tree: Tree, recipe: Recipe, prefix: str = "") -> Coded[Winner | Frozen | None]:
    """The winning rule of every slot: the last that takes it under any of its names.

    Args:
        tree: the walked model.
        recipe: whose rules are matched, in order.
        prefix: the name of the tree's root in the whole model.

    Returns:
        The winner of every slot of the tree; None for a slot that no rule takes, unless it is a frozen parameter.
    """
    clauses: list[_Clause] = []
    selectors: list[Selector] = []
    for index, (name, rule) in enumerate(recipe.rules.items()):
        if rule is None:
            continue
        for excludes, group in ((False, rule.selectors), (True, rule.exceptions)):
            selectors.extend(group)
            clauses.extend(_Clause(index, name, rule, selector.text, excludes) for selector in group)
    matcher = Matcher(selectors)
    states = states_of(tree, matcher, prefix)
    # Slots that the same selectors match are decided once: most of a deep model.
    decided: dict[tuple[tuple[int, ...], Kind, bool, int | None], Winner | Frozen | None] = {}

    def winner(hits: tuple[int, ...], kin: Kin) -> Winner | Frozen | None:
        key = (hits, kin.kind, kin.trainable or kin.kind == "buffer", None if kin.lazy else len(kin.shape))
        if key not in decided:
            decided[key] = _decided(recipe, [clauses[hit] for hit in hits], *key[1:])
        return decided[key]

    slots = tree.slots
    reached = paired(states.taken(slots.nodes), slots.kins)
    winners = reached.each(lambda pair: winner(matcher.step(pair[0], pair[1].key, None).hits, pair[1]))
    tied = {row: winner(hits_of(slots[row], states, matcher), slots[row].kin) for row in slots.tied}
    return winners.replaced(tied)


def states_of(tree: Tree, matcher: Matcher, prefix: str = "") -> Coded[State]:
    """The matcher's state at every module of a tree; of modules above a part only the names are known."""
    root = tree.nodes[0]
    if prefix:
        *above, last = prefix.split(".")
        state = matcher.root(None)
        for key in above:
            state = matcher.step(state, key, None)
        state = matcher.step(state, last, root.cls)
    else:
        state = matcher.root(root.cls)
    states, codes, places = [state], [state.number], matcher.counts_places
    for _, key, _, cls, index, place, _, _, _ in tree.nodes[1:]:
        parent = states[index]
        way = (key, cls, place if places else None)
        state = parent.moves.get(way) or matcher.step(parent, *way)
        # What computes `weight` is a module called `weight`, and `*.weight` means the tensor.
        if cls is ParametrizationList:
            state = matcher.passed(state, parent)
        states.append(state)
        codes.append(state.number)
    return Coded(matcher.states, np.array(codes, np.intp))


def hits_of(slot: Slot, states: Sequence[State], matcher: Matcher) -> tuple[int, ...]:
    """The selectors that match a slot under any of its names, ascending."""
    hits = matcher.step(states[slot.node], slot.key, None).hits
    if not slot.others:
        return hits
    further = (hit for _, key, node in slot.others for hit in matcher.step(states[node], key, None).hits)
    return tuple(sorted({*hits, *further}))


def _decided(
    recipe: Recipe, clauses: Sequence[_Clause], kind: Kind, trainable: bool, ndim: int | None
) -> Winner | Frozen | None:
    """The last rule of those that match; a lazy tensor, of which ndim is not known, may have any."""
    excluded = {clause.index for clause in clauses if clause.excludes}
    taking: dict[str, str] = {}
    leaving: dict[str, None] = {}
    passed = None
    for clause in clauses:
        rule = clause.rule
        fits = rule.kind == kind and (ndim is None or rule.takes_ndim(ndim))
        if not fits or clause.excludes or clause.index in excluded:
            continue
        if recipe.takes(rule, trainable):
            taking.setdefault(clause.name, clause.selector)
            passed = None
        elif not trainable:
            leaving[clause.name] = None
            passed = clause.name if rule.trainable is None else passed
    if not taking:
        return None if trainable else Frozen(tuple(leaving), passed)
    *others, last = taking
    return Winner(last, taking[last], tuple(others), tuple(leaving), passed)
