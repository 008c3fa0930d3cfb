"""Rules x slots: the winning rule of every slot, from one walk of the module tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn.utils.parametrize import ParametrizationList

from initplug.columns import Coded, paired
from initplug.language.recipe import Rule
from initplug.language.selectors import Matcher, Selector, State
from initplug.planning.slots import Kin, Kind, Slot, Tree


@dataclass(frozen=True, slots=True)
class Winner:
    """The rule that a slot gets: its name, the selector that matched, and the rules it shadows."""

    rule: str
    selector: str
    shadowed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Clause:
    """One selector of a rule, and what it does there."""

    index: int
    name: str
    rule: Rule
    selector: str
    excludes: bool


def winners_of(tree: Tree, rules: Mapping[str, Rule], prefix: str = "") -> Coded[Winner | None]:
    """The winning rule of every slot: the last that takes it under any of its names.

    Args:
        tree: the walked model.
        rules: the rules that are not disabled, in order.
        prefix: the name of the tree's root in the whole model.

    Returns:
        The winner of every slot of the tree; None for a slot that no rule takes.
    """
    clauses: list[_Clause] = []
    selectors: list[Selector] = []
    for index, (name, rule) in enumerate(rules.items()):
        for excludes, group in ((False, rule.selectors), (True, rule.exceptions)):
            selectors.extend(group)
            clauses.extend(_Clause(index, name, rule, selector.text, excludes) for selector in group)
    matcher = Matcher(selectors)
    states = states_of(tree, matcher, prefix)
    # Slots that the same selectors match are decided once: most of a deep model.
    decided: dict[tuple[tuple[int, ...], Kind, int | None], Winner | None] = {}

    def winner(hits: tuple[int, ...], kin: Kin) -> Winner | None:
        key = (hits, kin.kind, None if kin.lazy else len(kin.shape))
        if key not in decided:
            decided[key] = _decided([clauses[hit] for hit in hits], kin.kind, key[2])
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


def _decided(clauses: Sequence[_Clause], kind: Kind, ndim: int | None) -> Winner | None:
    """The last rule of those that match; a lazy tensor, of which ndim is not known, may have any."""
    excluded = {clause.index for clause in clauses if clause.excludes}
    taking: dict[str, str] = {}
    for clause in clauses:
        fits = clause.rule.kind == kind and (ndim is None or clause.rule.takes_ndim(ndim))
        if fits and not clause.excludes and clause.index not in excluded:
            taking.setdefault(clause.name, clause.selector)
    if not taking:
        return None
    *others, last = taking
    return Winner(last, taking[last], tuple(others))
