"""The `Plan`: which rule each slot of a model gets, and what distribution that comes down to."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from initplug.columns import Coded, coded
from initplug.errors import Finding, did_you_mean, shortened, visible
from initplug.language.recipe import Recipe
from initplug.planning.accounts import Accounts, Note
from initplug.planning.assignment import ADAPTER, FROZEN, ROW_KEYS, UNMATCHED, Assignment, Share, agreed, table_row
from initplug.planning.meta_buffers import Buffer
from initplug.reporting.documents import Document
from initplug.schemes.compositions import peak_of
from initplug.tables.grouping import collapsed
from initplug.tables.text import WIDE, Column, table
from initplug.tables.totals import by_depth, by_module

if TYPE_CHECKING:
    from initplug.reporting.page import Report


class Plan(Document):
    """All assignments of a recipe to a model's slots, the unmatched slots and the unused rules. Pure data.

    Iterating gives an `Assignment` per slot; `plan[name]` finds one by any of its names; `buffers` says how the buffers
    that are on meta are restored. Printed, it is a table.
    """

    __slots__ = (
        "_aliases",
        "_index",
        "_names",
        "_shares",
        "_whole",
        "accounts",
        "buffers",
        "digest",
        "findings",
        "model",
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
        accounts: Accounts,
        model: str,
    ) -> None:
        self.recipe = recipe
        self.name = recipe.name
        self.origin = recipe.origin
        self.digest = recipe.digest
        self.unmatched = tuple(unmatched)
        self.unused = tuple(unused)
        self.findings: tuple[Finding, ...] = ()
        self.buffers: tuple[Buffer, ...] = ()
        self.accounts = accounts
        self.model = model
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
        return Assignment(self._names[index], self.aliases(index), self._shares[index])

    @property
    def shares(self) -> Coded[Share]:
        """The properties that each slot shares with those like it, in order."""
        return self._shares

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes on rules and selectors without effect, or good to know; rules that select nothing are in `unused`."""
        return (*self.accounts.notes, *self.accounts.remarks)

    @property
    def whole(self) -> Plan:
        """The plan of the model that this one's is a part of, where it was cut out of such a plan."""
        return self._whole or self

    @property
    def names(self) -> Sequence[str]:
        """The canonical name of each slot, in order."""
        return self._names

    @property
    def every_name(self) -> list[str]:
        """The canonical names, and after them the further ones."""
        return [*self._names, *(alias for aliases in self._aliases.values() for alias in aliases)]

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
        """Return plain data: schema, model, recipe, digest, rows, unmatched, unused, notes, buffers, summary.

        With `modules`, the elements of each, and `depths`, the deviations by kind of layer.
        """
        rows = [row.to_dict() for row in self]
        return {
            "schema": 1,
            "model": self.model,
            "recipe": self.name,
            "digest": self.digest,
            "rows": rows,
            "modules": by_module(rows),
            "depths": by_depth(rows),
            "unmatched": list(self.unmatched),
            "unused": list(self.unused),
            "notes": [note._asdict() for note in self.notes],
            "buffers": [buffer._asdict() for buffer in self.buffers],
            "summary": self.summary,
        }

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of slots, elements and bytes, by dtype and by rule, the largest `peak` of a slot, and `atomic`.

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
        return {
            "slots": len(self),
            "numel": numel,
            **self.sizes,
            "rules": dict(rules),
            "peak": peak or None,
            "atomic": atomic,
        }

    @property
    def sizes(self) -> dict[str, Any]:
        """The bytes of all slots, and of every dtype its slots, elements and bytes."""
        dtypes: dict[str, dict[str, int]] = {}
        for share, rows in self._shares.groups():
            one = dtypes.setdefault(share.dtype, {"slots": 0, "numel": 0, "bytes": 0})
            one["slots"] += len(rows)
            one["numel"] += share.numel * len(rows)
            one["bytes"] += share.numel * getattr(torch, share.dtype).itemsize * len(rows)
        ordered = dict(sorted(dtypes.items(), key=lambda item: -item[1]["bytes"]))
        return {"bytes": sum(one["bytes"] for one in ordered.values()), "dtypes": ordered}

    @property
    def _keys(self) -> tuple[str, ...]:
        return ROW_KEYS

    def _report(self) -> Report:
        from initplug.reporting.audits import audit_report

        data = self.to_dict()
        locations = {rule: self.recipe.location(rule) for rule in self.recipe.rules}
        drawn = [share.distribution for share in self._shares]
        return audit_report(data, self.recipe.plain(), locations, drawn, [*map(agreed, data["rows"])])

    def _repr_html_(self) -> str:
        from initplug.reporting.fragment import fragment

        return fragment(PLAN_COLUMNS, map(table_row, self._flat(every=False)), self._below())

    def __repr__(self) -> str:
        return f"<Plan {self.headline()}>"

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a line for every slot, also where those of repeated blocks agree.
        """
        rows, (footer, *notes) = map(table_row, self._flat(every)), self._below()
        return "\n".join([table(PLAN_COLUMNS, rows, footer=footer, width=width, color=color), *notes])

    def _flat(self, every: bool = True) -> Iterable[dict[str, Any]]:
        rows = (row.to_dict() for row in self)
        return rows if every else collapsed(rows, agreed)

    def _below(self) -> list[str]:
        """Return what stands below a table: the headline, then the notes."""
        return [self.headline(), *shortened([f"note: {visible(str(note))}" for note in self.accounts.told])]

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
        if adapters := len(self._shares.where(lambda share: share.reason == ADAPTER)):
            parts.append(f"{adapters} of adapters, kept")
        if self.unused:
            parts.append(f"unused rules: {', '.join(self.unused)}")
        parts += self.accounts.counted
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
