"""Expectations of rules: how many slots they select below each module of a kind, counted in the whole model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from initplug.columns import Rows
from initplug.errors import near
from initplug.language.expectation import Expectation
from initplug.language.matcher import class_matches
from initplug.language.selectors import Selector
from initplug.planning.matching import Clause, Frozen, Matched, Winner
from initplug.planning.slots import Tree


class Unmet(NamedTuple):
    """A rule that does not select what it expects.

    Args:
        rule: its name.
        expected: what it expects.
        modules: how many modules it expects something of.
        found: names of those where it is wrong, their classes, and how many slots it selects below each.
        closest: where there is no such module, the name of one that may be meant.
    """

    rule: str
    expected: Expectation
    modules: int
    found: tuple[tuple[str, str, int], ...] = ()
    closest: str | None = None


def unmet(tree: Tree, matched: Matched) -> Iterator[Unmet]:
    """Yield the rules of a recipe that do not select what they expect.

    Args:
        tree: the walked model, the whole of it.
        matched: what a recipe's selectors match.
    """
    ends: list[int] = []
    nodes = tree.nodes
    for number, clause in enumerate(matched.clauses):
        expected = clause.rule.expect
        if clause.key != "per" or expected is None:
            continue
        places = _matched_modules(tree, matched, number)
        if not places:
            if not clause.rule.optional:
                yield Unmet(clause.name, expected, 0, closest=closest_module(tree, expected.selector))
            continue
        ends = ends or _ends(tree)
        counts = _counts(tree, places, _taken(matched, clause), ends)
        wrong = [(row, counts[key]) for key, row in places.items() if counts[key] != expected.times]
        if wrong:
            found = tuple((nodes[row].name, nodes[row].cls.__name__, count) for row, count in wrong)
            yield Unmet(clause.name, expected, len(places), found)


def closest_module(tree: Tree, selector: Selector) -> str | None:
    """Return a class, or the name of a module, that a selector of none may mean."""
    classes = {node.cls for node in tree.nodes}
    absent = (
        glob
        for segment in selector.segments
        for glob in segment.types or ()
        if not any(class_matches(cls, (glob,)) for cls in classes)
    )
    for glob in absent:
        like = near(glob.strip("*"), sorted({base.__name__ for cls in classes for base in cls.__mro__[:-1]}))
        return like and f"<{like}>"
    return near(selector.text.replace("*", "").strip(".^"), [node.name for node in tree.nodes])


def _matched_modules(tree: Tree, matched: Matched, number: int) -> dict[int, int]:
    """Return the modules that a selector matches, by their ids: of a shared one the first node."""
    places: dict[int, int] = {}
    for row in matched.states.where(lambda state: number in state.here).tolist():
        places.setdefault(id(tree.nodes[row].module), row)
    return places


def _taken(matched: Matched, clause: Clause) -> Rows:
    """Return the slots that a rule selects; frozen ones too, unless it says which it takes."""

    def holds(winner: Winner | Frozen | None) -> bool:
        if winner is None:
            return False
        if clause.rule.trainable is None:
            return clause.name in winner.rules
        return isinstance(winner, Winner) and clause.name in (winner.rule, *winner.shadowed)

    return matched.winners.where(holds)


def _ends(tree: Tree) -> list[int]:
    """Return, for every node, the one after the last below it; nodes stand before what is below them."""
    ends = list(range(1, len(tree.nodes) + 1))
    for index in range(len(ends) - 1, 0, -1):
        parent = tree.nodes[index].parent
        ends[parent] = max(ends[parent], ends[index])
    return ends


def _counts(tree: Tree, places: dict[int, int], taken: Rows, ends: list[int]) -> Counter[int]:
    """Return the number of slots below each module; a tied one counts once below every module that has it."""
    tied = np.isin(taken, tree.slots.tied)
    nodes = np.array(tree.slots.nodes, np.intp)[taken[~tied]]
    before = np.concatenate([[0], np.cumsum(np.bincount(nodes, minlength=len(ends)))])
    counts = Counter({key: int(before[ends[row]] - before[row]) for key, row in places.items()})
    for row in taken[tied].tolist():
        above = {
            id(tree.nodes[node].module) for _, _, place in tree.slots[row].places for node in tree.ancestors(place)
        }
        counts.update(above & places.keys())
    return counts
