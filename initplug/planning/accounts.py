"""Accounts of a recipe: what each of its selectors does in a model, and which of its rules win nothing."""

from __future__ import annotations

import fnmatch
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from initplug.columns import paired
from initplug.errors import NAME, ROWS, cut, shortened
from initplug.language.faults import shown
from initplug.language.habits import selector_meant
from initplug.language.loading import load
from initplug.language.matcher import Matcher, class_matches
from initplug.language.preset_list import presets
from initplug.language.recipe import Recipe, Rule
from initplug.language.selectors import Segment, parse
from initplug.language.yaml import Place
from initplug.planning.expected import Unmet, unmet
from initplug.planning.matching import Clause, Decision, Matched, Winner, fits, states_of
from initplug.planning.slots import Tree


class Entry(NamedTuple):
    """A selector that has no effect.

    Args:
        clause: the selector.
        effect: what it does instead, as a sentence about it.
        lost: whether nothing in the model is what it says, so that it may be misspelt.
        harmless: whether what it is meant to do is done all the same.
        meant: for one that another habit wrote, what it was meant to be; that selects something.
    """

    clause: Clause
    effect: str
    lost: bool = False
    harmless: bool = False
    meant: str | None = None


class Covered(NamedTuple):
    """A rule that selects slots and wins none, and the later rule that takes them all, and others too."""

    rule: str
    by: str


class Note(NamedTuple):
    """A remark on what of a rule has no effect in a model, or is good to know.

    Args:
        rule: its name.
        message: what is to be known.
        location: file, line and column of what it is about, where known.
        shipped: whether that is part of a preset.
        reported: whether it is warned of, or an error, as the recipe's `unused` says.
    """

    rule: str
    message: str
    location: str | None
    shipped: bool = False
    reported: bool = False

    def __str__(self) -> str:
        return f"rule {shown(self.rule)}{f' ({self.location})' if self.location else ''}: {self.message}"


@dataclass(frozen=True, slots=True)
class Accounts:
    """All that a recipe says and that has no effect in a model.

    Args:
        idle: the selectors of rules that select nothing.
        dead: selectors without effect of rules that select something.
        covered: rules that win nothing, and should stand further down.
        unmet: rules that do not select what they expect.
        notes: all that, and what nobody is warned of.
        remarks: what is good to know of how slots get their values.
        classes: names of the classes of the model, for what is misspelt.
    """

    idle: tuple[Entry, ...] = ()
    dead: tuple[Entry, ...] = ()
    covered: tuple[Covered, ...] = ()
    unmet: tuple[Unmet, ...] = ()
    notes: tuple[Note, ...] = ()
    classes: tuple[str, ...] = ()
    remarks: tuple[Note, ...] = ()

    @property
    def told(self) -> tuple[Note, ...]:
        """The notes that a reader of the plan is to see: the user's own, of which no warning tells."""
        return tuple(note for note in (*self.notes, *self.remarks) if not note.shipped and not note.reported)

    @property
    def counted(self) -> list[str]:
        """Return what a line that sums the plan up says of it."""
        shipped, told = sum(note.shipped for note in self.notes), len(self.told)
        parts = [
            (len(self.dead), "selector without effect", "selectors without effect"),
            (len(self.covered), "rule that wins nothing", "rules that win nothing"),
            (told, "note", "notes"),
            (shipped, "selector or rule of a preset without effect", "selectors and rules of presets without effect"),
        ]
        return [f"{count} {one if count == 1 else several}" for count, one, several in parts if count]


def accounts_of(tree: Tree, recipe: Recipe, matched: Matched, unused: Iterable[str], *, part: bool) -> Accounts:
    """Return what a recipe says that has no effect in a model.

    Args:
        tree: the walked model.
        recipe: the recipe.
        matched: what its selectors match.
        unused: its rules that select nothing.
        part: whether the tree is a part of a model, which need not use all that is said of the whole.
    """
    if part:
        expecting = (name for name, rule in recipe.rules.items() if rule is not None and rule.expect is not None)
        message = "what it expects is judged on the whole model, and this is a part of one"
        return Accounts(notes=tuple(Note(name, message, recipe.location(name)) for name in expecting))
    failed = tuple(unmet(tree, matched))
    if recipe.unused == "ignore":
        return Accounts(unmet=failed)
    decisions = _decision_counts(matched)
    at_work = {hit for decision, _ in decisions for hit in (*decision.taking, *decision.excluding)}
    idle, dead, notes = _without_effect(tree, recipe, matched, decisions, at_work, {*unused})
    covered, outdone = _outdone(recipe, decisions)
    notes = [
        *(_clause_note(recipe, entry.clause, entry.effect)._replace(reported=True) for entry in dead),
        *(Note(name, _outdone_by([by]), recipe.location(name), reported=True) for name, by in covered),
        *notes,
        *outdone,
        *_without_need(recipe, matched, decisions),
        *_alternatives(tree, recipe, matched, at_work),
    ]
    names = {base.__name__: None for cls in _classes(tree) for base in cls.__mro__[:-1]} if idle or dead else {}
    return Accounts(tuple(idle), tuple(dead), tuple(covered), failed, tuple(notes), tuple(names))


DecisionCounts = Sequence[tuple[Decision, int]]
"""Decisions that occur, each with the number of its slots."""


def _decision_counts(matched: Matched) -> DecisionCounts:
    counts = np.bincount(matched.decisions.codes, minlength=len(matched.decisions.values)).tolist()
    known: dict[int, tuple[Decision, int]] = {}
    for decision, count in zip(matched.decisions.values, counts, strict=True):
        if count:
            known[id(decision)] = decision, known.get(id(decision), (decision, 0))[1] + count
    return [*known.values()]


def _classes(tree: Tree) -> dict[type, None]:
    return dict.fromkeys(node.cls for node in tree.nodes)


def _clause_note(recipe: Recipe, clause: Clause, message: str) -> Note:
    """Return a note on one of the selectors of a rule."""
    place = recipe.place(clause.name, clause.key, clause.place)
    said = f'{recipe.word(clause.name, clause.key)} "{cut(clause.selector, NAME)}" {message}'
    return Note(clause.name, said, None if place is None else place.text, _is_shipped(recipe, clause))


def _is_shipped(recipe: Recipe, clause: Clause) -> bool:
    """Return whether a preset says it."""
    place = recipe.place(clause.name, clause.key, clause.place)
    return _of_preset(recipe, place, clause.name, clause.key, (clause.selector,))


def _of_preset(recipe: Recipe, place: Place | None, name: str, key: str, selectors: tuple[str, ...]) -> bool:
    """Return whether it stands in a preset; where no place is known, whether the preset of the recipe's name has it."""
    if place is not None and place.text is not None:
        return recipe.is_shipped(place)
    return {*selectors} <= {*_said(recipe.name, name, key)}


def is_of_preset(recipe: Recipe, name: str) -> bool:
    """Return whether a preset gives a rule its initializer."""
    place = recipe.place(name)
    if place is not None and recipe.is_shipped(place):
        return True
    rule = load(recipe.name).rules.get(name) if recipe.name in _presets() else None
    known = recipe.rules[name]
    return rule is not None and known is not None and rule.init == known.init


@lru_cache(maxsize=4096)
def _said(preset: str | None, name: str, key: str) -> tuple[str, ...]:
    """Return the selectors of a rule of a preset."""
    rule = load(preset).rules.get(name) if preset in _presets() else None
    return () if rule is None else rule.match if key == "match" else rule.except_


@cache
def _presets() -> frozenset[str | None]:
    return frozenset(presets())


# Selectors without effect -----------------------------------------------------------------------------------

BUFFERS, PARAMETERS = "only buffers, and the rule takes parameters", "only parameters, and the rule takes buffers"
MODULES, NONE = "only modules that hold nothing to be initialised", "only what is None in this model"


def _without_effect(
    tree: Tree, recipe: Recipe, matched: Matched, decisions: DecisionCounts, at_work: set[int], unused: set[str]
) -> tuple[list[Entry], list[Entry], list[Note]]:
    """Return the selectors of unused rules, those without effect of others, and notes on what no warning tells."""
    met: dict[int, list[Decision]] = {
        number: []
        for number, clause in enumerate(matched.clauses)
        if clause.key not in ("per", "adapter") and not clause.rule.optional
        if number not in at_work or (clause.name in unused and clause.key == "match")
    }
    for decision, _ in decisions if met else ():
        for hit in met.keys() & decision.hits:
            met[hit].append(decision)
    beside = _beside_slots(tree, matched, {number for number, found in met.items() if not found})
    idle, dead, notes = [], [], []
    selecting: set[str] = set()  # of the unused rules those whose `match` selects what they could take
    for number, found in met.items():
        clause = matched.clauses[number]
        if clause.key == "match":
            entry = _selecting(clause, found, beside.get(number), number in at_work, recipe.word(clause.name, "except"))
        else:
            entry = _excepting(clause, found, beside.get(number), number)
        if clause.key == "match" and clause.name in unused:
            idle.append(entry)
            if any(fits(clause.rule, decision.kind, decision.ndim) for decision in found):
                selecting.add(clause.name)
        elif clause.name in unused and clause.name not in selecting:
            continue  # where nothing is selected nothing can be taken away
        elif entry.harmless or _is_shipped(recipe, clause):
            notes.append(_clause_note(recipe, clause, entry.effect))
        else:
            dead.append(entry)
    known = _meant(tree, [entry.clause.selector for entry in (*idle, *dead) if entry.lost])
    idle, dead = (
        [entry._replace(meant=known.get(entry.clause.selector)) for entry in entries] for entries in (idle, dead)
    )
    return idle, dead, notes


def _meant(tree: Tree, lost: Sequence[str]) -> dict[str, str]:
    """Return the hints for selectors that another habit wrote, of those that select a slot as they were meant."""
    meant = [(text, found) for text in lost[:ROWS] if (found := selector_meant(text)) is not None]
    if not meant:
        return {}
    places = [(text, selector) for text, found in meant for selector in found.selectors]
    matcher = Matcher([parse(selector) for _, selector in places])
    reached = paired(states_of(tree, matcher).taken(tree.slots.nodes), tree.slots.kins)
    hits = {hit for state, kin in reached.distinct for hit in matcher.step(state, kin.key, None).hits}
    at_work = {places[hit] for hit in hits}
    return {text: one.hint for text, one in meant if all((text, selector) in at_work for selector in one.selectors)}


def _selecting(clause: Clause, found: Sequence[Decision], beside: str | None, taking: bool, leaving: str) -> Entry:
    """Return what a selector of `match` does, by which its rule takes nothing."""
    rule = clause.rule
    of_kind = [decision for decision in found if decision.kind == rule.kind]
    if not found:
        return Entry(clause, f"selects {beside or 'nothing'}", lost=beside is None)
    if not of_kind:
        return Entry(clause, f"selects {BUFFERS if rule.kind == 'parameter' else PARAMETERS}")
    if not any(fits(rule, decision.kind, decision.ndim) for decision in of_kind):
        known = sorted({decision.ndim for decision in of_kind if decision.ndim is not None})
        sizes = f"{' or '.join(map(str, known))} dimension{'' if known == [1] else 's'}"
        return Entry(clause, f"selects only tensors of {sizes}, and the rule's ndim is {_ndim(rule)}")
    if taking:
        return Entry(clause, "selects only parameters that require a gradient, and the rule takes frozen ones")
    return Entry(clause, f"selects only what `{leaving}` takes away", harmless=True)


def _excepting(clause: Clause, found: Sequence[Decision], beside: str | None, number: int) -> Entry:
    """Return what a selector of `except` does, which takes nothing away."""
    rule = clause.rule
    if not found:
        why = "" if beside is None else f": it selects {beside}"
        return Entry(clause, f"takes nothing away{why}", lost=beside is None)
    of_kind = [decision for decision in found if decision.kind == rule.kind]
    if not of_kind:
        return Entry(clause, f"takes nothing away: it selects {BUFFERS if rule.kind == 'parameter' else PARAMETERS}")
    first = number - clause.place - len(rule.match)
    matching = range(first, first + len(rule.match))  # the selectors of the rule's `match`
    if any(hit in matching for decision in of_kind for hit in decision.hits):
        return Entry(clause, "takes nothing away that the rule's ndim does not leave out", harmless=True)
    return Entry(clause, "takes nothing away: `match` selects nothing of what it selects")


def _ndim(rule: Rule) -> str:
    return str(list(rule.ndim)) if isinstance(rule.ndim, tuple) else shown(rule.ndim)


def _beside_slots(tree: Tree, matched: Matched, lost: set[int]) -> dict[int, str]:
    """Return what those selectors select that select no slot: buffers of which no rule speaks, empty modules, None."""
    buffers, modules, none = set[int](), set[int](), set[int]()
    for state in matched.states.distinct if lost else ():
        modules |= lost.intersection(state.here)
    for node, state in zip(tree.nodes, matched.states, strict=True) if lost else ():
        beside = [
            (key, none) for held in (node.parameters, node.buffers) for key, tensor in held.items() if tensor is None
        ]
        beside += [(key, buffers) for key, tensor in node.buffers.items() if tensor is not None]
        for key, found in beside:
            found |= lost.intersection(matched.matcher.step(state, key, None).hits)
    return dict.fromkeys(none, NONE) | dict.fromkeys(modules, MODULES) | dict.fromkeys(buffers, BUFFERS)


# What is only noted -----------------------------------------------------------------------------------------


def _outdone(recipe: Recipe, decisions: DecisionCounts) -> tuple[list[Covered], list[Note]]:
    """Return the rules that select slots and win none: those that should stand further down, and notes on others."""
    takes: Counter[str] = Counter()
    winning: set[str] = set()
    by: dict[str, dict[str, None]] = defaultdict(dict)
    for decision, count in decisions:
        winner = decision.winner
        if isinstance(winner, Winner):
            winning.add(winner.rule)
            takes[winner.rule] += count
            for name in winner.shadowed:
                takes[name] += count
                by[name][winner.rule] = None
    covered, notes = [], []
    for name, rule in recipe.rules.items():
        if rule is None or name in winning or name not in by:
            continue
        if any(_gives_back(recipe.rules[each]) for each in by[name]):
            continue
        first, *others = by[name]
        of_preset = _of_preset(recipe, recipe.place(name), name, "match", rule.match)
        wider = not others and takes[first] > takes[name]
        if wider and not rule.optional and not of_preset and recipe.layer(name) == recipe.layer(first):
            covered.append(Covered(name, first))
        else:
            notes.append(Note(name, _outdone_by([first, *others]), recipe.location(name), of_preset))
    return covered, notes


def _outdone_by(winners: Sequence[str]) -> str:
    return f"wins nothing, since {_listed(winners)} take{'s' if len(winners) == 1 else ''} all that it selects"


def _gives_back(rule: Rule | None) -> bool:
    """Return whether a rule may leave what it takes to rules before it."""
    return rule is not None and rule.init.fn == "load" and rule.init.arguments.get("missing") == "previous"


def _without_need(recipe: Recipe, matched: Matched, decisions: DecisionCounts) -> Iterator[Note]:
    """Yield notes on selectors that do nothing which those before them in their list do not."""
    leading: set[int] = set()
    following: set[int] = set()
    for decision, _ in decisions:
        for group in (decision.taking, decision.excluding):
            last = -1
            for hit in group:
                index = matched.clauses[hit].index
                (following if index == last else leading).add(hit)
                last = index
    for number in sorted(following - leading):
        clause = matched.clauses[number]
        if not clause.rule.optional and not _is_shipped(recipe, clause):
            does = "selects" if clause.key == "match" else "takes away"
            yield _clause_note(recipe, clause, f"{does} nothing that the selectors before it do not")


def _alternatives(tree: Tree, recipe: Recipe, matched: Matched, at_work: set[int]) -> Iterator[Note]:
    """Yield notes on alternatives inside selectors that no name, or no class, of the model is."""
    names: dict[str, None] = {}
    classes: dict[type, None] = {}
    for number in sorted(at_work):
        clause = matched.clauses[number]
        choices = [segment for segment in parse(clause.selector).segments if _is_choice(segment)]
        if not choices or clause.rule.optional or _is_shipped(recipe, clause):
            continue
        names, classes = names or _name_segments(tree), classes or _classes(tree)
        for segment in choices:
            without = [glob for glob in segment.names or () if not _is_name(glob, names)]
            if without and len(segment.names or ()) > 1:
                yield _clause_note(recipe, clause, f"has alternatives that no name of the model is: {_listed(without)}")
            absent = [glob for glob in segment.types or () if not _is_class(glob, classes)]
            if absent and len(segment.types or ()) > 1:
                yield _clause_note(recipe, clause, f"has alternatives that no class of the model is: {_listed(absent)}")


def _is_choice(segment: Segment) -> bool:
    return len(segment.names or ()) > 1 or len(segment.types or ()) > 1


def _name_segments(tree: Tree) -> dict[str, None]:
    """Return all segments of the names in a model."""
    names = dict.fromkeys(node.key for node in tree.nodes)
    for node in tree.nodes:
        names.update(dict.fromkeys(node.parameters))
        names.update(dict.fromkeys(node.buffers))
    return names | dict.fromkeys(tree.slots.keys)


def _is_name(glob: str, names: Mapping[str, None]) -> bool:
    return glob in names or any(fnmatch.fnmatchcase(name, glob) for name in names)


def _is_class(glob: str, classes: Iterable[type]) -> bool:
    return any(class_matches(cls, (glob,)) for cls in classes)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(shortened([shown(word) for word in words], limit=3))
