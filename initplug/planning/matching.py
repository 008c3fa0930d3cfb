"""Rules x slots: the winning rule of every slot, from one walk of the module tree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from torch.nn.utils.parametrize import ParametrizationList

from initplug.columns import Coded, paired
from initplug.language.matcher import Matcher, Place, State, Types, class_matches
from initplug.language.recipe import Recipe, Rule
from initplug.language.selectors import Selector, parse
from initplug.planning.assignment import ADAPTER, FROZEN
from initplug.planning.slots import Kin, Slot, SlotKind, Tree


@dataclass(frozen=True, slots=True)
class Winner:
    """The rule that a slot gets: its name, the selector that matched, and the rules it shadows.

    Args:
        rule: the last that takes the slot.
        selector: of its selectors the first that matches.
        shadowed: rules that take it too and come before.
        leaving: rules that match it and leave it alone, since it is frozen.
        passed: that of those which would be the winner, were it not frozen.
        behind: of the shadowed rules the selectors that match first.
        left: of the rules that leave it alone the last that does not say so itself.
    """

    rule: str
    selector: str
    shadowed: tuple[str, ...]
    leaving: tuple[str, ...] = ()
    passed: str | None = None
    behind: tuple[str, ...] = ()
    left: str | None = None

    @property
    def rules(self) -> tuple[str, ...]:
        """All rules that match the slot."""
        return (self.rule, *self.shadowed, *self.leaving)

    def before(self, trainable: bool) -> Winner | Frozen | None:
        """Return what the slot would get without the rule; None where no other takes it."""
        if self.shadowed:
            (*others, last), (*behind, selector) = self.shadowed, self.behind
            return Winner(last, selector, tuple(others), self.leaving, self.passed, tuple(behind), self.left)
        return None if trainable else Frozen(self.leaving, self.left)


@dataclass(frozen=True, slots=True)
class Frozen:
    """The rule of a frozen parameter, or of one of an adapter, that no other rule takes: it gets nothing.

    Args:
        rules: that match it and leave it alone, since it is frozen or of an adapter.
        passed: the rule that would draw it, were it not frozen.
        reason: why they leave it alone.
    """

    rules: tuple[str, ...]
    passed: str | None
    reason: str = FROZEN


ADAPTERS = "(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)"
"""Low-rank adapters, whose one half is 0, or they would change the model: none but rules that name them draw them."""

Key = Literal["match", "except", "per", "adapter"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One selector of a rule, and what it does there.

    Args:
        index: of the rule among those of the recipe.
        name: of the rule.
        rule: the rule.
        selector: as written.
        key: under which the rule has it; `per` is that of what it expects, `adapter` of what is no rule's: `ADAPTERS`.
        place: among the selectors of that key.
    """

    index: int
    name: str
    rule: Rule
    selector: str
    key: Key
    place: int

    @property
    def names_adapters(self) -> bool:
        """Return whether the selector says that it means low-rank adapters."""
        return "lora" in self.selector.lower()


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of the selectors that match a slot; slots that the same ones match share it.

    Args:
        winner: the rule that the slot gets, if any.
        hits: the selectors that match it.
        kind: of the slot.
        ndim: of the slot; None where it is not known yet.
        taking: of the hits those of `match` by which a rule takes the slot, or would, were it not for `trainable` or
            an adapter's.
        excluding: of the hits those of `except` that take the slot from a rule which else would.
    """

    winner: Winner | Frozen | None
    hits: tuple[int, ...]
    kind: SlotKind
    ndim: int | None
    taking: tuple[int, ...]
    excluding: tuple[int, ...]


NO_RULE = Rule.model_validate({"match": ADAPTERS, "init": "keep", "optional": True})
"""The rule of a selector that is of none."""


class Matched(NamedTuple):
    """All selectors of a recipe, and what they match in a model.

    Args:
        clauses: the selectors; their positions are the numbers that decisions and states speak of.
        decisions: of every slot of the tree.
        states: of every module of the tree.
        matcher: of the selectors.
    """

    clauses: Sequence[Clause]
    decisions: Coded[Decision]
    states: Coded[State]
    matcher: Matcher

    @property
    def winners(self) -> Coded[Winner | Frozen | None]:
        """The winner of every slot; None where no rule takes it, unless it is a frozen parameter."""
        return self.decisions.each(lambda decision: decision.winner)


def matched(tree: Tree, recipe: Recipe, prefix: str = "") -> Matched:
    """Return the winning rule of every slot, the last that takes it by any name, and what every selector matches.

    Args:
        tree: the walked model.
        recipe: whose rules are matched, in order.
        prefix: the name of the tree's root in the whole model.
    """
    clauses: list[Clause] = []
    selectors: list[Selector] = []
    for index, (name, rule) in enumerate(recipe.rules.items()):
        if rule is None:
            continue
        expected = () if rule.expect is None else (rule.expect.selector,)
        groups: Iterable[tuple[Key, tuple[Selector, ...]]]
        groups = (("match", rule.selectors), ("except", rule.exceptions), ("per", expected))
        for key, group in groups:
            selectors.extend(group)
            clauses.extend(Clause(index, name, rule, each.text, key, place) for place, each in enumerate(group))
    selectors.append(parse(ADAPTERS))
    clauses.append(Clause(-1, "", NO_RULE, ADAPTERS, "adapter", 0))
    matcher = Matcher(selectors)
    states = states_of(tree, matcher, prefix)
    # Slots that the same selectors match are decided once: most of a deep model.
    decided: dict[tuple[tuple[int, ...], SlotKind, bool, int | None], Decision] = {}

    def decision(hits: tuple[int, ...], kin: Kin) -> Decision:
        key = (hits, kin.kind, kin.trainable or kin.kind == "buffer", None if kin.lazy else len(kin.shape))
        if key not in decided:
            decided[key] = _decided(recipe, clauses, *key)
        return decided[key]

    slots = tree.slots
    reached = paired(states.taken(slots.nodes), slots.kins)
    decisions = reached.each(lambda pair: decision(matcher.step(pair[0], pair[1].key, None).hits, pair[1]))
    tied = {row: decision(hits_of(slots[row], states, matcher), slots[row].kin) for row in slots.tied}
    return Matched(clauses, decisions.replaced(tied), states, matcher)


def states_of(tree: Tree, matcher: Matcher, prefix: str = "") -> Coded[State]:
    """Return the matcher's state at every module of a tree; of modules above a part only the names are known."""
    root = tree.nodes[0]
    if prefix:
        *above, last = prefix.split(".")
        state = matcher.root(None)
        for key in above:
            state = matcher.step(state, key, None)
        state = matcher.step(state, last, root.cls)
    else:
        state = matcher.root(root.cls)
    states, codes, places = [state], [state.number], _places_of(tree, matcher.counted)
    for number, (_, key, _, cls, index, *_) in enumerate(tree.nodes[1:], 1):
        parent = states[index]
        way = (key, cls, places[number] if places else ())
        state = parent.moves.get(way) or matcher.step(parent, *way)
        # What computes `weight` is a module called `weight`, and `*.weight` means the tensor.
        if cls is ParametrizationList:
            state = matcher.passed(state, parent)
        states.append(state)
        codes.append(state.number)
    return Coded(matcher.states, np.array(codes, np.intp))


def _places_of(tree: Tree, counted: Sequence[Types]) -> list[tuple[Place, ...]]:
    """Return the places of each module among its siblings, of all and of types, from the end; nothing if none count."""
    if not counted:
        return []
    found: list[tuple[Place, ...]] = [()] * len(tree.nodes)
    reached: dict[int, Counter[Types]] = defaultdict(Counter)  # by parent, from the last child on
    for number in range(len(tree.nodes) - 1, 0, -1):
        node = tree.nodes[number]
        if node.place is None:
            continue
        own = [types for types in counted if types is None or class_matches(node.cls, types)]
        reached[node.parent].update(own)
        ranks = reached[node.parent]
        found[number] = tuple((types, node.place if types is None else -ranks[types]) for types in own)
    return found


def hits_of(slot: Slot, states: Sequence[State], matcher: Matcher) -> tuple[int, ...]:
    """Return the selectors that match a slot under any of its names, ascending."""
    hits = matcher.step(states[slot.node], slot.key, None).hits
    if not slot.others:
        return hits
    further = (hit for _, key, node in slot.others for hit in matcher.step(states[node], key, None).hits)
    return tuple(sorted({*hits, *further}))


def _decided(
    recipe: Recipe, every: Sequence[Clause], hits: tuple[int, ...], kind: SlotKind, trainable: bool, ndim: int | None
) -> Decision:
    """Return the last rule of those that match; a lazy tensor, of which ndim is not known, may have any."""
    clauses = [(hit, every[hit]) for hit in hits]
    matching = {clause.index for _, clause in clauses if clause.key == "match" and fits(clause.rule, kind, ndim)}
    of_adapter = any(clause.key == "adapter" for _, clause in clauses) and kind == "parameter"
    excluding = [(hit, clause) for hit, clause in clauses if clause.key == "except" and clause.index in matching]
    matching -= {clause.index for _, clause in excluding}
    taken: dict[str, str] = {}
    frozen: dict[str, None] = {}
    passed = left = None
    taking = [(hit, clause) for hit, clause in clauses if clause.key == "match" and clause.index in matching]
    unnamed: dict[str, None] = {}
    for _, clause in taking:
        if of_adapter and clause.rule.draws and not clause.names_adapters:
            unnamed[clause.name] = None
        elif recipe.takes(clause.rule, trainable):
            taken.setdefault(clause.name, clause.selector)
            passed = None
        elif not trainable:
            frozen[clause.name] = None
            left = clause.name if clause.rule.trainable is None else left
            passed = clause.name if clause.rule.trainable is None else passed
    winner: Winner | Frozen | None = None if trainable else Frozen(tuple(frozen), passed)
    if taken:
        *others, last = taken
        behind = tuple(taken[name] for name in others)
        winner = Winner(last, taken[last], tuple(others), (*frozen, *unnamed), passed, behind, left)
    elif of_adapter:
        winner = Frozen((*unnamed, *frozen), passed, ADAPTER)
    return Decision(winner, hits, kind, ndim, tuple(hit for hit, _ in taking), tuple(hit for hit, _ in excluding))


def fits(rule: Rule, kind: SlotKind, ndim: int | None) -> bool:
    """Return whether a rule is for slots of a kind, with so many dimensions; where they are not known yet, with any."""
    return rule.kind == kind and (ndim is None or rule.takes_ndim(ndim))
