"""The choice that `only=` makes of a model: tensors by their names, whatever selectors select."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor, nn

from initplug.errors import NAME, ROWS, ApplyError, Finding, brief, did_you_mean, headed, near, shortened, warn
from initplug.language.faults import shown
from initplug.language.matcher import Matcher
from initplug.language.selectors import Selector, SelectorError, parse, selector_of
from initplug.planning.matching import hits_of, states_of
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Tree
from initplug.planning.walk import buffers_of
from initplug.values import plain

BUFFER_HINT = "rules take buffers with `kind: buffer`"


class InPart(NamedTuple):
    """A tensor of which some names are listed and others are not.

    Args:
        name: its canonical name.
        listed: the first of its names that is listed.
        missing: the first that is not.
        stored: as how many tensors it is stored, where that is the name of one of them; else 1.
    """

    name: str
    listed: str
    missing: str
    stored: int = 1

    @property
    def reason(self) -> str:
        """The reason that it is left alone."""
        tie = "tied to" if self.stored == 1 else "also stored as"
        return f"{tie} {self.missing}, not listed"

    def __str__(self) -> str:
        why = "" if self.stored == 1 else f": {self.name} is stored as {self.stored} tensors"
        return f"{self.listed} is listed, {self.missing} is not{why}"


class Chosen(NamedTuple):
    """The slots that are to be written, unless the plan leaves them alone.

    Args:
        rows: positions of the slots, and after them of the buffers; a range where it is all.
        in_part: the slots of which some names are listed and others are not.
        beside: names that are listed of buffers that no rule takes.
    """

    rows: Collection[int]
    in_part: Mapping[int, InPart] = MappingProxyType({})
    beside: Sequence[str] = ()

    def reason(self, row: int) -> str | None:
        """Return the reason that a slot is left alone for; None where it is not."""
        if row in self.rows:
            return None
        return self.in_part[row].reason if row in self.in_part else "not in only"


def chosen_by(only: Any, model: nn.Module, plan: Plan, tree: Tree, slots: Sequence[Slot], prefix: str) -> Chosen:
    """Return the slots that `only` names or selects.

    An entry of a list that is a tensor's name is a name, any other a selector. A tensor of several names is chosen by
    names if all of them are listed, since torch lists every name as missing under which a tensor was not loaded; by a
    selector if any is selected.

    Args:
        only: None for all, a selector, or names and selectors.
        model: as the user has it, whose names are torch's.
        plan: of the slots, which knows further names that they have in the whole model.
        tree: the walked model.
        slots: in the plan's order, and after them buffers.
        prefix: the name of the model in the whole one.

    Raises:
        ApplyError: with all that names and selects nothing.
    """
    if only is None:
        return Chosen(range(len(slots)))
    if isinstance(only, str):
        return Chosen(_selected(only, tree, slots, prefix))
    if not isinstance(only, Iterable):
        raise ApplyError(f"only= is a selector or names, not {shown(only)}")
    try:
        given = [plain(entry) for entry in only]
    except Exception as error:  # an iterable is code of others, and a tensor without dimensions is none
        raise ApplyError(f"only= is a selector or names, and reading it raised {brief(error, NAME)}") from None
    entries = [*dict.fromkeys(entry for entry in given if isinstance(entry, str))]
    names = _Names(slots, plan)
    for spelled in (_tensors_by_name, _keyed):
        if not names.known.issuperset(entries):
            with suppress(Exception):  # of the model's own code, or of a tree that is too deep for torch to name
                names.add(spelled(model), prefix)
    selectors = [entry for entry in entries if entry not in names.known]
    selected, missed = _selected_by(selectors, tree, slots, prefix)
    found = [Finding(entry, f"the model has no such tensor, and it {why}", hint=hint) for entry, why, hint in missed]
    found[:ROWS] = [replace(each, hint=each.hint or names.nearest(each.path)) for each in found[:ROWS]]
    found += [Finding(shown(entry), "it is no text") for entry in given if not isinstance(entry, str)]
    if found:
        counted = "1 entry that names and selects" if len(found) == 1 else f"{len(found)} entries that name and select"
        raise ApplyError(headed(f"only= holds {counted} nothing", found), found)
    return names.chosen(entries, selected)


def warn_of_parts(chosen: Chosen, ruled: Container[int], *, writing: bool) -> None:
    """Warn of tensors of which some names are listed and others are not.

    Args:
        chosen: by `only=`.
        ruled: positions of the slots that are written, or judged, where nothing is left out.
        writing: whether it is chosen what to write, and not what to judge.
    """
    found = [part for row, part in chosen.in_part.items() if row in ruled]
    if not found:
        return
    verb, selector = "write" if writing else "judge", repr(selector_of(found[0].name))
    if len(found) == 1:
        head = f"only= lists 1 tensor in part, which {'keeps its values' if writing else 'is not judged'}"
        hint = f"To {verb} it, list all of its names, or the selector {selector}."
    else:
        left = "keep their values" if writing else "are not judged"
        head = f"only= lists {len(found)} tensors in part, which {left}"
        hint = f"To {verb} them, list all of their names, or selectors such as {selector}."
    warn("\n".join([head, *shortened([f"  {part}" for part in found]), hint]))


def warn_of_unruled(chosen: Chosen, plan: Plan) -> None:
    """Warn where nothing that is chosen has a rule, not even one that leaves it alone."""
    if isinstance(chosen.rows, range) or chosen.in_part:
        return
    rows = [row for row in sorted(chosen.rows) if row < len(plan)]
    if any(plan.shares[row].rule or plan.shares[row].passed for row in rows):
        return
    names = [*chosen.beside, *(plan.names[row] for row in rows)]
    if names:
        hint = f"; {BUFFER_HINT}" if chosen.beside else ""
        warn(f"only= chooses nothing that a rule takes: {', '.join(shortened(names))}{hint}")


class _Names:
    """The names of tensors and what they stand for: the canonical ones, and those that torch has for them.

    A piece of a slot is (row, place of a tensor among those that are stored for it, place that it is at): nearly always
    the one there is. A tied slot has one for every place, a parametrized one for every tensor that it is computed from.

    Args:
        slots: that are planned, and buffers.
        plan: of the former.
    """

    def __init__(self, slots: Sequence[Slot], plan: Plan) -> None:
        self.slots, self.planned = slots, len(plan)
        self.holders: dict[int, tuple[int, int]] = {}
        self.pieces: dict[str, list[tuple[int, int, int]]] = {}
        self.labels: dict[tuple[int, int, int], str] = {}
        for row, slot in enumerate(slots):
            stored = slot.stored
            self.holders.update((id(tensor), (row, index)) for index, tensor in enumerate(stored))
            for place, (name, _, _) in enumerate(slot.places):
                self.pieces[name] = [(row, index, place) for index in range(len(stored))]
        for row, name in enumerate(plan.names):
            for further in (name, *plan.aliases(row)):  # which a part of a model need not have
                if further not in self.pieces:
                    self.pieces[further] = [piece for each, _, _ in slots[row].places for piece in self.pieces[each]]
        self.known = {*self.pieces}

    def add(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Learn torch's names: with wrappers, and of what computed tensors are stored as.

        They hold buffers too, which a recipe need not speak of. Those of a part begin as in the whole model, or in it.
        """
        spellings: dict[int, list[str]] = {}
        for name, tensor in tensors.items():
            spellings.setdefault(id(tensor), []).append(name)
        for start in dict.fromkeys((prefix and f"{prefix}.", "")):
            for key, names in spellings.items():
                row, index = self.holders.get(key, (None, 0))
                if row is None:
                    continue
                count = len(self.slots[row].places)
                for place, name in enumerate(names):  # torch visits the places in the same order
                    # Hooks may leave out or rename what they like: then each of the names means all places.
                    places = [place] if len(names) == count else range(count)
                    pieces = [(row, index, each) for each in places]
                    self.labels.update(dict.fromkeys(pieces, start + name))
                    self.pieces.setdefault(start + name, pieces)
            self.known.update(start + name for name in tensors)

    def chosen(self, entries: Iterable[str], selected: Collection[int]) -> Chosen:
        """Return the slots of which all pieces are listed, and those that are selected."""
        rows = {*selected}
        listed: dict[int, dict[tuple[int, int, int], str]] = {}
        for entry in entries:
            for piece in self.pieces.get(entry, ()):
                listed.setdefault(piece[0], {})[piece] = entry
        in_part: dict[int, InPart] = {}
        for row in sorted(listed.keys() - rows):
            missing = self._missing(row, listed[row])
            if missing is None:
                rows.add(row)
            else:
                in_part[row] = InPart(self.slots[row].name, next(iter(listed[row].values())), *missing)
        named = {entry: self.pieces.get(entry, ()) for entry in entries if entry in self.known}
        beside = [entry for entry, pieces in named.items() if all(row >= self.planned for row, _, _ in pieces)]
        return Chosen(rows, in_part, beside)

    def nearest(self, entry: str) -> str | None:
        """Return the hint for an entry that is no name: the nearest, or what is stored under it among others."""
        match = near(entry, self.known)
        pieces = self.pieces.get(match or "")
        if pieces and len((slot := self.slots[pieces[0][0]]).stored) > 1:
            match = slot.name
        return match and f"did you mean {match}?"

    def _missing(self, row: int, listed: Container[tuple[int, int, int]]) -> tuple[str, int] | None:
        """Return the first unlisted name of a slot: of a place, or of one of so many tensors stored for it."""
        count = len(self.slots[row].stored)
        for place, (name, _, _) in enumerate(self.slots[row].places):
            pieces = [(row, index, place) for index in range(count)]
            missing = [piece for piece in pieces if piece not in listed]
            if missing:
                return (name, 1) if missing == pieces else (self.labels.get(missing[0], name), count)
        return None


def _tensors_by_name(model: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _keyed(model: nn.Module) -> dict[str, Tensor]:
    kept = dict(model.state_dict(keep_vars=True))
    return {name: tensor for name, tensor in kept.items() if isinstance(name, str)}  # hooks rename as they like


def _selected(text: str, tree: Tree, slots: Sequence[Slot], prefix: str) -> Collection[int]:
    """Return the slots that a selector selects."""
    try:
        parse(text)
    except SelectorError as error:
        raise ApplyError(f"only={text!r}: bad selector: {error} (column {error.offset + 1})") from None
    chosen, missed = _selected_by([text], tree, slots, prefix)
    if missed:
        _, why, hint = missed[0]
        hint = hint or did_you_mean(text, (slot.name for slot in slots))
        raise ApplyError(f"only={text!r} {why}" + (f" ({hint})" if hint else ""))
    return chosen


def _selected_by(
    texts: Iterable[str], tree: Tree, slots: Sequence[Slot], prefix: str
) -> tuple[Collection[int], list[tuple[str, str, str | None]]]:
    """Return the slots that any of some selectors selects; the selectors that select nothing, why, and the way out."""
    read = {text: _parsed_selector(text) for text in texts}
    missed: list[tuple[str, str, str | None]]
    missed = [(text, found, None) for text, found in read.items() if isinstance(found, str)]
    selectors = [found for found in read.values() if not isinstance(found, str)]
    if not selectors:
        return (), missed
    matcher = Matcher(selectors)
    states = states_of(tree, matcher, prefix)
    hits = {row: found for row, slot in enumerate(slots) if (found := hits_of(slot, states, matcher))}
    idle = {*range(len(selectors))}.difference(*hits.values())
    beside = {hit for slot in (buffers_of(tree) if idle else ()) for hit in hits_of(slot, states, matcher)}
    for index in sorted(idle):
        why = ("selects only buffers that no rule takes", BUFFER_HINT) if index in beside else ("selects nothing", None)
        missed.append((selectors[index].text, *why))
    return {*hits}, missed


def _parsed_selector(text: str) -> Selector | str:
    """Return a selector, or what is to be said of what is none."""
    try:
        return parse(text)
    except SelectorError as error:
        return f"is no selector: {error}"
