"""Rules x slots: the winning rule of every slot, from one walk of the module tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initplug.language.recipe import Rule
from initplug.language.selectors import Matcher, Selector, State
from initplug.planning.slots import Kind, Slot, Tree


def states_of(tree: Tree, matcher: Matcher, prefix: str) -> list[State]:
    """The matcher's state at every module of a tree; of modules above a part only the names are known."""
    root = tree.nodes[0]
    if prefix:
        *above, last = prefix.split(".")
        state = matcher.root(None)
        for key in above:
            state = matcher.step(state, key, None)
        states = [matcher.step(state, last, type(root.module))]
    else:
        states = [matcher.root(type(root.module))]
    step, places = matcher.step, matcher.counts_places
    for node in tree.nodes[1:]:
        states.append(step(states[node.parent], node.key, type(node.module), node.place if places else None))
    return states


@dataclass(frozen=True, slots=True)
class Winner:
    """The rule that a slot gets: its name, the selector that matched, and the rules it shadows."""

    rule: str
    selector: str
    shadowed: tuple[str, ...]


class Matching:
    """The winning rule of every slot: the last that matches any of its names, its kind and its dimensions.

    `winners` is parallel to the tree's slots; None stands for a slot that no rule takes.
    """

    def __init__(self, tree: Tree, rules: Mapping[str, Rule], prefix: str) -> None:
        self._names = list(rules)
        self._rules = list(rules.values())
        self._owners: list[tuple[int, bool]] = []  # of each selector: its rule, and whether it excludes
        selectors: list[Selector] = []
        for index, rule in enumerate(self._rules):
            for excludes, group in ((False, rule.selectors), (True, rule.exceptions)):
                selectors.extend(group)
                self._owners.extend([(index, excludes)] * len(group))
        self._texts = [selector.text for selector in selectors]
        self._decided: dict[tuple[Any, ...], Winner | None] = {}
        matcher = Matcher(selectors)
        states = states_of(tree, matcher, prefix)
        self.winners = [self._winner(slot, states, matcher) for slot in tree.slots]

    def shadowed(self) -> set[str]:
        """Every rule that another one shadows somewhere."""
        return {name for winner in self._decided.values() if winner is not None for name in winner.shadowed}

    def _winner(self, slot: Slot, states: Sequence[State], matcher: Matcher) -> Winner | None:
        hits = matcher.step(states[slot.node], slot.key, None).hits
        if slot.others:
            further = (matcher.step(states[node], key, None).hits for _, key, node in slot.others)
            hits = tuple(sorted({*hits, *(hit for group in further for hit in group)}))
        if not hits:
            return None
        ndim = None if slot.lazy else slot.tensor.ndim  # a lazy tensor may have any
        key = (hits, slot.kind, ndim)
        if key not in self._decided:
            self._decided[key] = self._decide(hits, slot.kind, ndim)
        return self._decided[key]

    def _decide(self, hits: tuple[int, ...], kind: Kind, ndim: int | None) -> Winner | None:
        excluded = {self._owners[hit][0] for hit in hits if self._owners[hit][1]}
        matched: dict[int, str] = {}
        for hit in hits:
            index, excludes = self._owners[hit]
            rule = self._rules[index]
            if not excludes and index not in excluded and rule.kind == kind and (ndim is None or rule.takes_ndim(ndim)):
                matched.setdefault(index, self._texts[hit])
        if not matched:
            return None
        *others, last = matched
        return Winner(self._names[last], matched[last], tuple(self._names[index] for index in others))
