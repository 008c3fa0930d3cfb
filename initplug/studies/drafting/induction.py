"""Induction: rules, few and readable, that give all parameters what was recorded, general ones first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from initplug.language.recipe import Recipe
from initplug.language.selectors import selector_of
from initplug.planning.matching import Frozen, Winner, matched
from initplug.planning.slots import Tree
from initplug.schemes.distributions import Constant
from initplug.studies.drafting.formulas import Candidate
from initplug.studies.recording.rows import Row


@dataclass(slots=True)
class Proposal:
    """A rule on its way into a recipe.

    Args:
        selectors: of the parameters.
        init: what it gives them.
        wins: the places of the rows that it is the last to match.
        frozen: whether one of them requires no gradient.
    """

    selectors: list[str]
    init: Candidate
    wins: list[int] = field(default_factory=list)
    frozen: bool = False
    exceptions: list[str] = field(default_factory=list)


def rules_for(
    tree: Tree, rows: Sequence[Row], candidates: Sequence[Candidate], copies: Sequence[Candidate] = ()
) -> list[Proposal]:
    """Return rules in the order that they need: of all that match a parameter, the last wins.

    Args:
        tree: the recorded model.
        rows: of its parameters.
        candidates: initializers, at least one for every row, as if all were drawn.
        copies: initializers of those that are copies.
    """
    if not rows:
        return []
    drawn = _drawn(tree, rows, candidates)
    copied = [_copied(tree, rows, copy, drawn) for copy in copies]
    return _settled(tree, rows, [*_merged(tree, rows, drawn), *copied])


def _drawn(tree: Tree, rows: Sequence[Row], candidates: Sequence[Candidate]) -> list[Proposal]:
    search = _Search(tree, rows, candidates)
    found = search.found()
    for _ in range(ROUNDS):
        hits = _hits(tree, found)
        found = _pruned(found, hits, rows)
        hits = _hits(tree, found)
        wrong = [place for place, row in enumerate(rows) if row.numel and not _is_given(found, hits, place)]
        if not wrong:
            break
        found.extend(search.exceptions(wrong))
    return found


def _copied(tree: Tree, rows: Sequence[Row], copy: Candidate, drawn: Sequence[Proposal]) -> Proposal:
    """Return the rule of what is copied: all that is beside its source and alike, or parameters by their names."""
    source = copy.form["source"]
    above, _, last = source[1:].rpartition(".")
    wide = re.sub(r"\d+", "*", last)
    twins = [place for place, gives in enumerate(copy.gives) if gives and rows[place].twin]
    if "*" in wide:
        siblings, depth = f"^{above}.{wide}" if above else f"^{wide}", len(source.split("."))
        below = dict.fromkeys(".".join(rows[place].name.split(".")[depth:]) for place in twins)
        known = {row.name: row for row in rows}
        for selectors in ([siblings], [f"{siblings}.{name}" for name in below]):
            proposal = Proposal(selectors, copy, exceptions=[source])
            taken = {place for place, rules in enumerate(_hits(tree, [*drawn, proposal])) if len(drawn) in rules}
            if taken.issuperset(twins) and all(
                place in twins or _is_number_there(rows[place], known, source[1:], depth) for place in taken
            ):
                return proposal
    return Proposal([selector_of(rows[place].name) for place in twins], copy)


def _is_number_there(row: Row, known: Mapping[str, Row], source: str, depth: int) -> bool:
    """Return whether a parameter holds one number throughout, which its namesake below a source holds, too."""
    namesake = known.get(".".join([source, *row.name.split(".")[depth:]]))
    return namesake is not None and isinstance(row.outcome, Constant) and row.outcome == namesake.outcome


ROUNDS = 4
"""The number of times that exceptions are added for what a rule takes that was not meant for it."""


class _Search:
    """The search for selectors, from types to names."""

    def __init__(self, tree: Tree, rows: Sequence[Row], candidates: Sequence[Candidate]) -> None:
        self.rows = rows
        self.candidates = candidates
        self.popular = [float(candidate.gives.sum()) for candidate in candidates]
        self.families = [_families(tree, place) for place in range(len(rows))]
        self.starred: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            if row.numel:
                self.starred[self.families[place][STARRED]].append(place)

    def best(self, places: Sequence[int]) -> Candidate | None:
        """Return the initializer that gives most of some parameters what was recorded, the plainest of several."""
        where = np.array(places)
        scored = [
            (int(candidate.gives[where].sum()), -candidate.cost, popular, -index)
            for index, (candidate, popular) in enumerate(zip(self.candidates, self.popular, strict=True))
        ]
        most = max(scored, default=(0, 0.0, 0.0, 0))
        return self.candidates[-most[3]] if most[0] else None

    def found(self) -> list[Proposal]:
        """Return rules for all parameters, general ones first."""
        places = [place for place, row in enumerate(self.rows) if row.numel or row.distribution is None]
        default = next((candidate for candidate in self.candidates if candidate.text == "default"), None)
        proposals = []
        if default is not None:
            proposals.append(Proposal(["*"], default))
        groups: dict[str, list[int]] = defaultdict(list)
        for place in places:
            groups[self.families[place][0]].append(place)
        # A class comes before those that are derived from it, which its selector matches too.
        order = sorted(groups, key=lambda selector: self.families[groups[selector][0]].depth)
        for selector in order:
            group = groups[selector]
            if default is not None and default.gives[np.array(group)].all():
                if _has_base(selector, proposals, self.families[group[0]].bases):
                    proposals.append(Proposal([selector], default))
                continue
            self._add(selector, group, 1, proposals)
        return proposals

    def exceptions(self, places: Sequence[int]) -> list[Proposal]:
        """Return rules for what others do not give, by names with any numbers where one initializer gives all such."""
        groups: dict[str, list[int]] = defaultdict(list)
        for place in places:
            groups[self.families[place][STARRED]].append(place)
        found = []
        for selector, group in groups.items():
            best, alike = self.best(group), np.array(self.starred[selector])
            if len(group) > 1 and best is not None and best.gives[alike].all():
                found.append(Proposal([selector], best))
                continue
            alone = ((place, self.best([place])) for place in group)
            found += [Proposal([selector_of(self.rows[place].name)], one) for place, one in alone if one is not None]
        return found

    def _add(self, selector: str, group: Sequence[int], level: int, proposals: list[Proposal]) -> None:
        """Add a rule for a group, and narrower ones for those of it that it does not fit."""
        best = self.best(group)
        if best is None:
            return
        proposals.append(Proposal([selector], best))
        bad = [place for place in group if not best.gives[place]]
        if bad:
            self._narrow(group, set(bad), level, proposals)

    def _narrow(self, group: Sequence[int], bad: set[int], level: int, proposals: list[Proposal]) -> None:
        options = []
        for family in range(level, LEVELS):
            parts: dict[str, list[int]] = defaultdict(list)
            for place in group:
                parts[self.families[place][family]].append(place)
            needed = {selector: part for selector, part in parts.items() if bad.intersection(part)}
            whole = all(
                (best := self.best(part)) is not None and best.gives[np.array(part)].all() for part in needed.values()
            )
            if whole:
                options.append((len(needed), family, needed))
        if options:
            for selector, part in min(options, key=lambda option: option[:2])[2].items():
                self._add(selector, part, LEVELS, proposals)
        else:
            for place in sorted(bad):
                self._add(selector_of(self.rows[place].name), [place], LEVELS, proposals)


LEVELS = 6
"""Families of selectors, from types to names."""

STARRED = 4
"""The family of names whose numbers may be any."""


@dataclass(frozen=True, slots=True)
class _Families:
    """The selectors of a parameter, the widest first.

    Args:
        selectors: of each family one.
        depth: how many classes the owner's is derived from.
        bases: their names.
    """

    selectors: tuple[str, ...]
    depth: int
    bases: tuple[str, ...]

    def __getitem__(self, level: int) -> str:
        return self.selectors[level]


def _families(tree: Tree, place: int) -> _Families:
    slot = tree.slots[place]
    node = tree.nodes[slot.node]
    parent = tree.nodes[node.parent] if node.parent >= 0 else None
    key, owner = _glob(slot.key), f"<{node.cls.__name__}>"
    names = slot.name.split(".")
    starred = ".".join("*" if name.isdigit() else _glob(name) for name in names)
    by_parent = f"<{parent.cls.__name__}>.{_glob(node.key)}.{key}" if parent is not None else f"{owner}.{key}"
    selectors = (
        f"{owner}.{key}",
        f"{_glob(node.key)}.{key}" if parent is not None and not node.key.isdigit() else by_parent,
        by_parent,
        re.sub(r"\d+", "*", by_parent),
        f"^{starred}",
        selector_of(slot.name),
    )
    classes = [cls.__name__ for cls in node.cls.__mro__]
    return _Families(selectors, len(classes), tuple(classes[1:]))


def _glob(name: str) -> str:
    return re.sub(r"[^\w-]", "?", name)


def _has_base(selector: str, proposals: Iterable[Proposal], bases: Sequence[str]) -> bool:
    """Return whether a rule by a base class would take what `*` is meant for."""
    key = selector.partition(">.")[2]
    wide = {f"<{base}>.{key}" for base in bases}
    return any(wide.intersection(proposal.selectors) for proposal in proposals)


# Checked by the matcher -----------------------------------------------------------------------------------------------


def _hits(tree: Tree, proposals: Sequence[Proposal]) -> list[tuple[int, ...]]:
    """Return for every parameter the rules that take it, in order; those that draw take no adapter but by its name."""
    rules = {
        str(index): {
            "match": one.selectors,
            "init": "keep" if one.init.text == "keep" else 0,
            **({"except": one.exceptions} if one.exceptions else {}),
        }
        for index, one in enumerate(proposals)
    }
    recipe = Recipe.model_validate({"frozen": "write", "rules": rules})
    return [*matched(tree, recipe).winners.each(_taking)]


def _taking(winner: Winner | Frozen | None) -> tuple[int, ...]:
    return tuple(sorted(map(int, (winner.rule, *winner.shadowed)))) if isinstance(winner, Winner) else ()


def _is_given(proposals: Sequence[Proposal], hits: Sequence[tuple[int, ...]], place: int) -> bool:
    return bool(hits[place]) and bool(proposals[hits[place][-1]].init.gives[place])


def _pruned(proposals: Sequence[Proposal], hits: Sequence[tuple[int, ...]], rows: Sequence[Row]) -> list[Proposal]:
    """Return the rules without those that are not needed, the narrowest looked at first."""
    alive = set(range(len(proposals)))
    touched: dict[int, list[int]] = defaultdict(list)
    for place, indices in enumerate(hits):
        for index in indices:
            touched[index].append(place)

    def given(place: int, without: int) -> bool:
        left = [index for index in hits[place] if index in alive and index != without]
        return not rows[place].numel or (bool(left) and bool(proposals[left[-1]].init.gives[place]))

    for index in reversed(range(len(proposals))):
        if all(given(place, index) or not given(place, -1) for place in touched[index]):
            alive.discard(index)
    return [proposal for index, proposal in enumerate(proposals) if index in alive]


def _merged(tree: Tree, rows: Sequence[Row], proposals: Sequence[Proposal]) -> list[Proposal]:
    """Return the rules, of which those of one initializer are one where their order allows it."""
    found = list(proposals)
    index = 0 if len(found) <= MOST_MERGED else len(found)
    while index < len(found):
        for other in range(len(found) - 1, index, -1):
            if found[other].init is not found[index].init or found[index].selectors == ["*"]:
                continue
            joined = Proposal([*found[index].selectors, *found[other].selectors], found[index].init)
            # The later place, or the earlier one.
            for trial in (
                [*found[:index], joined, *found[index + 1 : other], *found[other + 1 :]],
                [*found[:index], *found[index + 1 : other], joined, *found[other + 1 :]],
            ):
                hits = _hits(tree, trial)
                if all(not row.numel or _is_given(trial, hits, place) for place, row in enumerate(rows)):
                    found = trial
                    break
        index += 1
    return found


MOST_MERGED = 100
"""Rules beyond which none are merged: every try asks the matcher."""


def _settled(tree: Tree, rows: Sequence[Row], proposals: Sequence[Proposal]) -> list[Proposal]:
    """Return the rules with the rows that each wins, and selectors that say the same in fewer words."""
    found = [Proposal(_joined(one.selectors), one.init, exceptions=one.exceptions) for one in proposals]
    for place, indices in enumerate(_hits(tree, found)):
        if indices:
            winner = found[indices[-1]]
            winner.wins.append(place)
            winner.frozen |= not rows[place].trainable
    return found


def _joined(selectors: Sequence[str]) -> list[str]:
    """Return selectors with those that differ in one class, or one last name, as one of alternatives."""
    for pattern, brackets in ((TYPED, "<>"), (NAMED, "()")):
        groups: dict[str, list[str]] = defaultdict(list)
        others = []
        for selector in selectors:
            found = pattern.fullmatch(selector)
            if found is None:
                others.append(selector)
            else:
                groups[found["rest"]].append(found["word"])
        made = []
        for rest, words in groups.items():
            joined = f"{brackets[0]}{'|'.join(words)}{brackets[1]}"
            plain = words[0] if brackets == "()" else f"<{words[0]}>"
            word = joined if len(words) > 1 else plain
            made.append(f"{word}.{rest}" if brackets == "<>" else f"{rest}.{word}")
        selectors = [*made, *others]
    return list(selectors)


TYPED = re.compile(r"<(?P<word>\w+)>\.(?P<rest>[^<>|]+)")
NAMED = re.compile(r"(?P<rest>(?:<[\w|]+>|\w+)(?:\.\w+)*)\.(?P<word>\w+)")
