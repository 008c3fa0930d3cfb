"""Rules and slots -> plan: which rule each slot gets, and what distribution that comes down to."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

import torch
from torch import nn

from initplug.columns import Coded, coded
from initplug.errors import Finding, PlanError, did_you_mean, shortened, visible, warn
from initplug.language.loading import load
from initplug.language.recipe import Recipe, Rule
from initplug.planning.accounts import Accounts, Note, accounts_of
from initplug.planning.elsewhere import refuse_flat, warn_of_elsewhere
from initplug.planning.evaluation import FROZEN, LAZY, UNMATCHED, Miss, Share, evaluate
from initplug.planning.findings import (
    Block,
    Left,
    Unmatched,
    left_alone,
    misfit,
    not_as_expected,
    nothing_selected,
    unmatched_slots,
    wins_nothing,
    without_effect,
)
from initplug.planning.matching import matched
from initplug.planning.meta_buffers import Buffer, restorations
from initplug.planning.opaque import warn_of_opaque
from initplug.planning.resets import Replays
from initplug.planning.slots import SlotKind, Slots, Tree
from initplug.planning.walk import walk
from initplug.schemes import distributions
from initplug.schemes.distributions import Keep, Planned, closed_form, peak_of
from initplug.tables.files import save, to_csv, to_json, to_markdown
from initplug.tables.grouping import collapsed
from initplug.tables.text import WIDE, Column, spread, table
from initplug.values import plain


@dataclass(frozen=True, slots=True)
class Assignment:
    """One slot of a plan: who it is, which rule it gets, and what that comes down to.

    Args:
        name: canonical name.
        aliases: further names of the same tensor.
        kind: parameter or buffer.
        module_type: class of the owner.
        shape: sizes, in elements.
        dtype: such as `float32`.
        numel: number of elements.
        trainable: whether it requires a gradient.
        rule: name of the winning rule; None where no rule matches.
        selector: the selector of the rule that matched.
        location: file and line of the rule.
        shadowed: rules that match too and come before.
        init: the initializer as one line.
        distribution: what the initializer comes down to; None where nothing is to be drawn.
        fan_in: under the rule's fan rule; None below two dimensions.
        fan_out: likewise.
        reason: why nothing is to be written, such as `no rule`, `frozen` or `keep`; None where something is.
    """

    name: str
    aliases: tuple[str, ...]
    kind: SlotKind
    module_type: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    trainable: bool
    rule: str | None
    selector: str | None
    location: str | None
    shadowed: tuple[str, ...]
    init: str | None
    distribution: Planned | None
    fan_in: int | None
    fan_out: int | None
    reason: str | None

    @property
    def mean(self) -> float | None:
        """Expected mean of the elements."""
        drawn = closed_form(self.distribution)
        return None if drawn is None else drawn.mean

    @property
    def std(self) -> float | None:
        """Expected standard deviation of the elements."""
        drawn = closed_form(self.distribution)
        return None if drawn is None else drawn.std

    @property
    def low(self) -> float | None:
        """Lower bound of the elements; None where there is none."""
        return self._bound("low")

    @property
    def high(self) -> float | None:
        """Upper bound of the elements; None where there is none."""
        return self._bound("high")

    @property
    def peak(self) -> int | None:
        """Bytes that drawing it whole from a seed holds at the peak; None where it is drawn in chunks of a few MB."""
        return peak_of(self.distribution, self.shape)

    def _bound(self, side: str) -> float | None:
        drawn = closed_form(self.distribution)
        bound = None if drawn is None else getattr(drawn, side)
        return None if bound is None or math.isinf(bound) else bound

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data; missing numbers are None."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        row["distribution"] = distributions.text(self.distribution)
        row.update(mean=self.mean, std=self.std, low=self.low, high=self.high, peak=self.peak)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}


def agreed(row: Mapping[str, Any]) -> Hashable:
    """Return what rows of repeated blocks have in common where one line stands for all of them."""
    return tuple(tuple(row[key]) if isinstance(row[key], list) else row[key] for key in AGREED)


def table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as tables show it: with mean and standard deviation as one text, and a mark of what is frozen."""
    frozen = row["rule"] is None and not row["trainable"]
    return {**row, "init": FROZEN if frozen else row["init"], "expected": spread(row["mean"], row["std"])}


SHARED = tuple(field.name for field in fields(Assignment) if field.name not in ("name", "aliases"))
AGREED = (*(key for key in SHARED if key not in ("selector", "location")), "mean", "std")
ROW_KEYS = (*(field.name for field in fields(Assignment)), "mean", "std", "low", "high", "peak")


class Plan:
    """All assignments of a recipe to a model's slots, the unmatched slots and the unused rules. Pure data.

    Iterating gives an `Assignment` per slot; `plan[name]` finds one by any of its names; `buffers` says how the buffers
    that are on meta are restored. Printed, it is a table.
    """

    __slots__ = (
        "_accounts",
        "_aliases",
        "_index",
        "_names",
        "_shares",
        "_whole",
        "buffers",
        "digest",
        "findings",
        "name",
        "origin",
        "recipe",
        "unmatched",
        "unused",
    )

    def __init__(
        self,
        recipe: Recipe,
        names: Sequence[str],
        aliases: Mapping[int, tuple[str, ...]],
        shares: Coded[Share],
        unmatched: Sequence[str],
        unused: Sequence[str],
    ) -> None:
        self.recipe = recipe
        self.name = recipe.name
        self.origin = recipe.origin
        self.digest = recipe.digest
        self.unmatched = tuple(unmatched)
        self.unused = tuple(unused)
        self.findings: tuple[Finding, ...] = ()
        self.buffers: tuple[Buffer, ...] = ()
        self._accounts = Accounts()
        self._names = names
        self._aliases = aliases
        self._shares = shares
        self._index: dict[str, int] | None = None
        self._whole: Plan | None = None

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Assignment]:
        return (self.row(index) for index in range(len(self)))

    def __getitem__(self, name: str) -> Assignment:
        return self.row(self.index_of(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._positions()

    def row(self, index: int) -> Assignment:
        """Return the assignment at a position."""
        share = self._shares[index]
        return Assignment(self._names[index], self.aliases(index), *(getattr(share, key) for key in SHARED))

    @property
    def shares(self) -> Coded[Share]:
        """The properties that each slot shares with those like it, in order."""
        return self._shares

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes on rules and selectors without effect, or good to know; rules that select nothing are in `unused`."""
        return self._accounts.notes

    @property
    def whole(self) -> Plan:
        """The plan of the model that this one's is a part of, where it was cut out of such a plan."""
        return self._whole or self

    @property
    def names(self) -> Sequence[str]:
        """The canonical name of each slot, in order."""
        return self._names

    def aliases(self, index: int) -> tuple[str, ...]:
        """Return the further names of the slot at a position."""
        return self._aliases.get(index, ())

    def index_of(self, name: str) -> int:
        """Return the position of a slot, by any of its names.

        Raises:
            KeyError: with the nearest name.
        """
        if not isinstance(name, str):
            raise TypeError(f"slots are found by name, not by {name!r}; list(plan) has the rows in order")
        position = self.find(name)
        if position is None:
            hint = did_you_mean(name, self._positions())
            raise KeyError(f"the plan has no slot {name!r}" + (f" ({hint})" if hint else ""))
        return position

    def find(self, name: str) -> int | None:
        """Return the position of a slot, by any of its names; None where there is no such slot."""
        return self._positions().get(name)

    def part(self, indices: Sequence[int], shares: Coded[Share]) -> Plan:
        """Return the plan of some of the slots, in the order of the positions given, with shares of their own."""
        names = [self._names[index] for index in indices]
        aliases = {place: self._aliases[index] for place, index in enumerate(indices) if index in self._aliases}
        part = copy.copy(self)
        part._whole = self.whole
        part._names, part._aliases, part._index = names, aliases, None
        part._shares = shares
        part.buffers = ()  # what is on meta is each model's own
        known = {*names, *(alias for group in aliases.values() for alias in group)}
        part.unmatched = tuple(name for name in self.unmatched if name in known)
        return part

    def joined(self, rows: Iterable[tuple[str, tuple[str, ...], Share]]) -> Plan:
        """Return the plan of rows, as (name, aliases, share), each name once: those of several parts of one model."""
        known = {name: (aliases, share) for name, aliases, share in rows}
        whole = copy.copy(self)
        whole._names, whole._index, whole._whole = list(known), None, None
        whole._shares = coded([share for _, share in known.values()])
        whole._aliases = {index: aliases for index, (aliases, _) in enumerate(known.values()) if aliases}
        whole.unmatched = tuple(name for name, (_, share) in known.items() if share.reason == UNMATCHED)
        return whole

    def _positions(self) -> dict[str, int]:
        if self._index is None:
            self._index = {name: index for index, name in enumerate(self._names)}
            for index, names in self._aliases.items():
                self._index.update(dict.fromkeys(names, index))
        return self._index

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data: schema, recipe, digest, rows, unmatched, unused, notes, buffers, summary."""
        return {
            "schema": 1,
            "recipe": self.name,
            "digest": self.digest,
            "rows": [row.to_dict() for row in self],
            "unmatched": list(self.unmatched),
            "unused": list(self.unused),
            "notes": [note._asdict() for note in self.notes],
            "buffers": [buffer._asdict() for buffer in self.buffers],
            "summary": self.summary,
        }

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of slots and elements and of each rule's slots, the largest `peak` of a slot, and `atomic`.

        The last is how many bytes `apply(…, atomic=True)` holds a copy of: all that is written, less what is on meta.
        """
        rules: Counter[str] = Counter()
        numel, peak, atomic = 0, 0, 0
        for share, rows in self._shares.groups():
            numel += share.numel * len(rows)
            if share.reason is None:
                atomic += share.numel * getattr(torch, share.dtype).itemsize * len(rows)
            peak = max(peak, peak_of(share.distribution, share.shape) or 0)
            if share.rule is not None:
                rules[share.rule] += len(rows)
        return {"slots": len(self), "numel": numel, "rules": dict(rules), "peak": peak or None, "atomic": atomic}

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return to_json(self.to_dict())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan to a file; the suffix (.json, .csv, .md) says how.

        Raises:
            InitplugError: an unknown suffix, or a path that cannot be written; an old file is kept.
        """
        rows = (row.to_dict() for row in self)
        writers = {
            ".json": self.to_json,
            ".csv": lambda: to_csv(rows, ROW_KEYS),
            ".md": lambda: to_markdown(rows, ROW_KEYS),
        }
        save(path, writers)

    def __repr__(self) -> str:
        return f"<Plan {self.headline()}>"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a line for every slot, also where those of repeated blocks agree.
        """
        rows: Iterable[dict[str, Any]] = (row.to_dict() for row in self)
        rows = rows if every else collapsed(rows, agreed)
        body = table(PLAN_COLUMNS, map(table_row, rows), footer=self.headline(), width=width, color=color)
        return "\n".join([body, *shortened([f"note: {visible(str(note))}" for note in self._accounts.told])])

    def headline(self) -> str:
        """Return one line that sums the plan up."""
        summary = self.summary
        parts = [f"{self.name or self.origin}: {summary['slots']} slots, {summary['numel']:,} elements"]
        if summary["peak"] and summary["peak"] >= NOTABLE:
            parts.append(f"under a seed up to {summary['peak'] / 2**20:,.0f} MB at a time for tensors drawn whole")
        if self.unmatched:
            parts.append(f"{len(self.unmatched)} unmatched")
        if frozen := len(self._shares.where(lambda share: share.reason == FROZEN)):
            parts.append(f"{frozen} frozen")
        if self.unused:
            parts.append(f"unused rules: {', '.join(self.unused)}")
        parts += self._accounts.counted
        if self.buffers:
            counts = Counter(buffer.restore for buffer in self.buffers)
            parts.append("buffers on meta: " + ", ".join(f"{count} {restore}" for restore, count in counts.items()))
        return visible("; ".join(parts))


NOTABLE = 64 << 20
"""Bytes from which on memory that is needed beside the model is told of; drawing in chunks needs less."""


PLAN_COLUMNS = (
    Column("parameter", "name", gives=True),
    Column("shape", "shape", least=WIDE),
    Column("rule", "rule", gives=True),
    Column("initializer", "init", gives=True),
    Column("expected", "expected"),
)


def plan(model: nn.Module, recipe: Any, *, prefix: str = "") -> Plan:
    """Say which rule every parameter of a model gets, without touching a value.

    Args:
        model: any module, on meta too.
        recipe: a Recipe, or anything that `load` takes.
        prefix: the canonical name of `model` in the whole model that the recipe is about.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: with all findings together: unmatched parameters, initializers that do not fit their tensor, and,
            with `unused: error`, rules that select nothing. Its `plan` is as much as could be planned.

    Example:
        >>> assignment = plan(nn.Linear(4, 2), {"rules": {"*.weight": "xavier_uniform", "*.bias": 0}})["weight"]
        >>> assignment.rule, round(assignment.high, 6)
        ('*.weight', 1.0)
    """
    recipe, prefix = load(recipe), plain(prefix)
    tree = tree_for(model, recipe, prefix)
    warn_of_elsewhere(tree)
    result, slots = plan_walked(tree, recipe, prefix)
    warn_of_lazy(result)
    warn_of_opaque(slots, result.shares)
    return result


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


def tree_for(model: nn.Module, recipe: Recipe, prefix: str = "") -> Tree:
    """Return the model's slots as far as the recipe can speak of them: buffers only if a rule does, or may copy one."""
    rules = [rule for rule in recipe.rules.values() if rule is not None]
    buffers = any(rule.kind == "buffer" or rule.init.fn == "copy" for rule in rules)
    return walk(model, prefix, buffers=buffers)


def plan_walked(tree: Tree, recipe: Recipe, prefix: str = "") -> tuple[Plan, Slots]:
    """Return the plan of a walked model, and the slots that have a row in it; raises and warns as `plan` does."""
    if not prefix:  # a stage of a pipeline may well have none
        warn_if_bare(tree)
    refuse_flat([*tree.flat.values()])
    result, slots, misses = drafted(tree, recipe, prefix)
    result.buffers = tuple(Buffer(buffer.name, buffer.restore) for buffer in restorations(tree, result))
    report(result, slots, misses, range(len(result)), part=bool(prefix))
    warn_of_frozen(result, slots, range(len(result)))
    return result, slots


def drafted(
    tree: Tree, recipe: Recipe, prefix: str = "", replays: Replays | None = None
) -> tuple[Plan, Slots, list[Miss]]:
    """Return as much of a plan as can be made, the slots with a row in it, and what does not fit; raise nothing.

    Args:
        tree: the walked model.
        recipe: whose rules are matched.
        prefix: the name of the tree's root in the whole model.
        replays: what resets draw, as far as it is known from other plans of the model; added to.
    """
    rules = {name: rule for name, rule in recipe.rules.items() if rule is not None}
    if prefix:
        _refuse_places(rules, recipe)
    found = matched(tree, recipe, prefix)
    winners = found.winners
    slots, shares, misses = evaluate(tree, recipe, winners, Replays(tree) if replays is None else replays)
    used = {name for winner in winners.distinct if winner is not None for name in winner.rules}
    names = slots.names
    result = Plan(
        recipe,
        names=names,
        aliases={row: slots[row].aliases for row in slots.tied},
        shares=shares,
        unmatched=[names[row] for row in shares.where(lambda share: share.reason == UNMATCHED)],
        unused=[name for name, rule in rules.items() if name not in used and not rule.optional],
    )
    result._accounts = accounts_of(tree, recipe, found, result.unused, part=bool(prefix))
    return result, slots, misses


def _refuse_places(rules: Mapping[str, Rule], recipe: Recipe) -> None:
    for name, rule in rules.items():
        counting = [selector.text for selector in (*rule.selectors, *rule.exceptions) if selector.counts_places]
        inits = (rule.init, *rule.init.parts)
        counting += [factor.text for init in inits for factor in init.factors if factor.selector is not None]
        if counting:
            message = f"rule {name!r} counts in the model ({counting[0]}), which takes the whole of it"
            hint = "plan the whole (meta) model and apply that Plan to the part"
            raise PlanError(f"{message}; {hint}", [Finding.at(recipe.location(name), name, message, hint)])


def report(result: Plan, slots: Slots, misses: Sequence[Miss], chosen: Collection[int], *, part: bool) -> None:
    """Raise what makes the plan unfit, warn of what is only suspicious.

    Args:
        result: the plan.
        slots: in its order.
        misses: initializers that do not fit.
        chosen: positions of the slots that are to be written: what is wrong with others does not matter.
        part: whether it is of a part of a model.
    """
    recipe = result.recipe
    blocks: list[tuple[str, list[Finding]]] = []
    result.unmatched = tuple(name for name in result.unmatched if result.find(name) in chosen)
    misses = [miss for miss in misses if result.find(miss.name) in chosen]
    if result.unmatched and recipe.unmatched == "error":
        rows = [result[name] for name in result.unmatched]
        blank = [Unmatched(row.name, row.module_type, row.shape) for row in rows]
        on_meta = any(slots[result.index_of(name)].on_meta for name in result.unmatched)
        blocks.append(unmatched_slots(blank, len(result), recipe, on_meta))
    if misses:
        blocks.append(misfit(misses))
    left = _left(result, range(len(result)))
    if left and not part and not any(_is_written(share) for share in result.shares.distinct):
        blocks.append(left_alone(left, recipe, all_of_them=True))
    blocks += [not_as_expected(each, recipe) for each in result._accounts.unmet]
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
    accounts, recipe = result._accounts, result.recipe
    names = [*result.names, *(alias for index in result._aliases for alias in result.aliases(index))]
    if accounts.idle:
        yield nothing_selected(result.unused, accounts, recipe, names)
    if accounts.dead:
        yield without_effect(accounts, recipe, names)
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
        on_meta = any(slots[one.row].on_meta for one in left)
        warn(left_alone(left, result.recipe, on_meta=on_meta)[0])


def _left(result: Plan, chosen: Collection[int]) -> list[Left]:
    rows = [row for row in result.shares.where(lambda share: share.passed is not None).tolist() if row in chosen]
    return [Left(row, result.names[row], result.shares[row].passed or "") for row in rows]


def _is_written(share: Share) -> bool:
    """Return whether a rule gives a parameter values: at once, later, or where there are none (`keep default`)."""
    return share.kind == "parameter" and share.rule is not None and share.distribution != Keep()
