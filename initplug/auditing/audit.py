"""The `Audit`: what every slot really got, with moments and verdicts beside the plan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from initplug.auditing.histograms import Histogram
from initplug.auditing.moments import Measured, Moments
from initplug.auditing.pools import POOLED_REASON, judged_in_pools
from initplug.auditing.ranks import RankEntry, exchange, merged
from initplug.auditing.verdicts import OK, Judgement, Verdict, judgement
from initplug.columns import Coded, Rows
from initplug.errors import InitplugError
from initplug.planning.assignment import ADAPTER, FROZEN, ROW_KEYS, Assignment, Share, agreed, table_row
from initplug.planning.plan import Plan
from initplug.regions import Region
from initplug.reporting.documents import Document
from initplug.schemes.compositions import Load, text
from initplug.tables.files import REPORTS, check_path
from initplug.tables.grouping import collapsed
from initplug.tables.text import WIDE, Column, spread, table
from initplug.tables.totals import by_depth, by_module

if TYPE_CHECKING:
    from initplug.reporting.page import Report

Status = Literal["initialized", "kept", "empty", "lazy", "projected", "read"]


def to_write(statuses: Coded[Status]) -> Rows:
    """Return the rows of what applying gives values."""
    return statuses.where(lambda status: status == "initialized")


@dataclass(frozen=True, slots=True, repr=False)
class Audited(Assignment):
    """An assignment with what was measured after the write.

    Args:
        measured_mean: mean of the elements; None where nothing was measured.
        measured_std: population standard deviation.
        measured_min: smallest element.
        measured_max: largest element.
        measured_count: number of elements measured; an embedding's padding row is not.
        status: what happened to the slot.
        verdict: whether what was measured agrees with the distribution.
        problem: what speaks against it where the verdict is `differs`, or why it is `untestable` though a rule gives it
            values: it can neither be written nor read. `exact` is to the bit what a seed gives.

    Its `reason` says why a slot was kept, or in a few words what is wrong with it where there is a problem.
    """

    measured_mean: float | None = None
    measured_std: float | None = None
    measured_min: float | None = None
    measured_max: float | None = None
    measured_count: int | None = None
    status: Status = "initialized"
    verdict: Verdict = "untestable"
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data; missing and non-finite numbers are None."""
        # Named, since `super()` without arguments does not survive a dataclass with slots.
        row = Assignment.to_dict(self)
        for field in MEASURED:
            value = row[field]
            row[field] = value if value is None or math.isfinite(value) else None
        return row


MEASURED = tuple(f"measured_{field}" for field in ("mean", "std", "min", "max", "count"))
AUDIT_COLUMNS = (
    Column("parameter", "name", gives=True),
    Column("shape", "shape", least=WIDE),
    Column("rule", "rule", gives=True),
    Column("initializer", "init", least=WIDE, gives=True),
    Column("expected", "expected", least=76),
    Column("measured", "measured"),
    Column("verdict", "verdict"),
)


AUDIT_KEYS = (*ROW_KEYS, *MEASURED, "status", "verdict", "problem")


class Audit(Document):
    """A plan with what every slot really got.

    Iterating gives a row per slot; `audit[name]` finds one by any of its names. Printed, it is a table.
    """

    def __init__(
        self,
        plan: Plan,
        moments: Sequence[Moments | None],
        statuses: Sequence[Status],
        verdicts: Sequence[Verdict],
        seed: int | None = None,
        problems: Mapping[int, str] = MappingProxyType({}),
        reasons: Mapping[int, str] = MappingProxyType({}),
        histograms: Mapping[int, Histogram] | None = None,
        regions: Mapping[int, Region] = MappingProxyType({}),
        sharing: Mapping[int, tuple[tuple[int, ...], ...]] = MappingProxyType({}),
    ) -> None:
        self.plan = plan
        self.seed = seed
        self._problems = problems
        self._reasons = reasons
        self._histograms = histograms
        self._regions = regions
        self._sharing = sharing
        self._moments = moments
        self._statuses = statuses
        self._verdicts = verdicts

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Slots that no rule matches."""
        return self.plan.unmatched

    @property
    def unused(self) -> tuple[str, ...]:
        """Rules that select nothing."""
        return self.plan.unused

    @property
    def histograms(self) -> dict[str, Histogram]:
        """Counts of the values by name: of those that vary, where `histograms=True` asked for it."""
        return {self.plan.names[index]: found for index, found in (self._histograms or {}).items()}

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Audited]:
        return (self.row(index) for index in range(len(self)))

    def __getitem__(self, name: str) -> Audited:
        return self.row(self.plan.index_of(name))

    def __contains__(self, name: object) -> bool:
        return name in self.plan

    def row(self, index: int) -> Audited:
        """Return the row at a position."""
        share, moments = self.plan.shares[index], self._moments[index]
        if index in self._reasons:
            share = share._replace(reason=self._reasons[index])
        measured: dict[str, Any] = {}
        if moments is not None:
            values = (moments.mean, moments.std, moments.min, moments.max, moments.numel)
            measured = dict(zip(MEASURED, values, strict=True))
        return Audited(
            name=self.plan.names[index],
            aliases=self.plan.aliases(index),
            share=share,
            status=self._statuses[index],
            verdict=self._verdicts[index],
            problem=self._problems.get(index),
            **measured,
        )

    def reduced(self, group: Any = None) -> Audit:
        """Return the audit of the whole model from those of all ranks, which all call this; one of them may save it.

        Of a sharded slot the parts are put together, each once, and judged as a whole; of one that every rank holds,
        a rank that differs is what counts. Slots that only some ranks have, as those of pipeline stages, are all there.
        One of which ranks do not plan the same, or that only some of them wrote, `differs`, and so does one whose
        replicas do not hold the same.

        Args:
            group: process group of the ranks; None for all. Without torch.distributed it is this audit.

        Raises:
            ApplyError: another rank cannot be reached.
        """
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self
        planned = self.plan.shares.each(_planned_alike)
        entries = [
            RankEntry(
                moments,
                self._regions.get(index),
                status,
                self._alone(index, verdict),
                said,
                self._sharing.get(index, ()),
            )
            for index, (moments, status, verdict, said) in enumerate(
                zip(self._moments, self._statuses, self._verdicts, planned, strict=True)
            )
        ]
        plan, known = exchange(self.plan, entries, group)
        slots = [merged(known[name], share.numel) for name, share in zip(plan.names, plan.shares, strict=True)]
        found = [
            judgement(share.distribution, slot.moments, getattr(torch, share.dtype))
            if slot.whole
            and slot.status in ("initialized", "read")
            and share.judgeable
            and slot.judgement.verdict in ("ok", "untestable")
            and slot.judgement.problem is None
            else slot.judgement
            for slot, share in zip(slots, plan.shares, strict=True)
        ]
        measured = Measured.none(len(plan))
        for row, slot in enumerate(slots):
            measured[row] = slot.moments
        fine = [row for row, judged in enumerate(found) if judged.verdict == "ok"]
        for row, judged in judged_in_pools(plan.shares, measured, np.array(fine, np.intp)).items():
            found[row] = judged
        return Audit(
            plan,
            [slot.moments for slot in slots],
            [slot.status for slot in slots],
            [judged.verdict for judged in found],
            self.seed,
            {index: judged.problem for index, judged in enumerate(found) if judged.problem is not None},
            {index: judged.reason for index, judged in enumerate(found) if judged.reason is not None},
        )

    def _alone(self, index: int, verdict: Verdict) -> Judgement:
        """Return what was found of a slot by itself: in pools of all ranks' parts it is judged anew."""
        reason = self._reasons.get(index)
        return OK if reason == POOLED_REASON else Judgement(verdict, self._problems.get(index), reason)

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of slots, elements, bytes and problems, and those of each dtype, rule, status and verdict."""
        planned = self.plan.summary
        return {
            "slots": len(self),
            **{key: planned[key] for key in ("numel", "bytes", "dtypes", "rules")},
            "problems": len(self._wrong()),
            "status": dict(Counter(self._statuses)),
            "verdict": dict(Counter(self._verdicts)),
        }

    def problems(self) -> list[Audited]:
        """Return the rows whose values are not what the plan says, or can neither be written nor read."""
        return [self.row(row) for row in self._wrong()]

    def _wrong(self) -> list[int]:
        verdicts = enumerate(self._verdicts)
        return [row for row, verdict in verdicts if verdict == "differs" or row in self._problems]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: schema, model, recipe, digest, seed, versions, rows, unmatched, unused, notes, summary.

        With `modules`, the elements of each, with `depths`, the deviations by kind of layer, and with `histograms` by
        name, where they were asked for.
        """
        from initplug._version import __version__

        counted = {name: found._asdict() for name, found in self.histograms.items()}
        rows = [row.to_dict() for row in self]
        return {
            "schema": 1,
            "model": self.plan.model,
            "recipe": self.plan.name,
            "digest": self.plan.digest,
            "seed": self.seed,
            "versions": {"initplug": __version__, "torch": torch.__version__},
            "rows": rows,
            "modules": by_module(rows),
            "depths": by_depth(rows),
            "unmatched": list(self.unmatched),
            "unused": list(self.unused),
            "notes": [note._asdict() for note in self.plan.notes],
            "summary": self.summary,
            **({} if self._histograms is None else {"histograms": counted}),
        }

    @property
    def _keys(self) -> tuple[str, ...]:
        return AUDIT_KEYS

    def to_markdown(self, *, every: bool = True) -> str:
        """Return the rows as a Markdown table.

        Args:
            every: False for one row where those of repeated blocks agree, as an appendix has them, and for one line on
                what was kept where `only=` was given.
        """
        left = "" if every else self._left_out()
        return super().to_markdown(every=every) + (f"\n{left}\n" if left else "")

    def _report(self) -> Report:
        from initplug.reporting.audits import audit_report

        recipe, data = self.plan.recipe, self.to_dict()
        return audit_report(
            data,
            recipe.plain(),
            {rule: recipe.location(rule) for rule in recipe.rules},
            [share.distribution for share in self.plan.shares],
            [*map(_agreed, data["rows"])],
            self._left_out(),
        )

    def save(self, path: str | PathLike[str], **page: Any) -> None:
        """Write the audit to a file; the suffix (.html, .json, .csv, .md) says how.

        Args:
            path: of the file.
            page: what `to_html` takes, for .html alone.

        Raises:
            InitplugError: an unknown suffix, a path that cannot be written, or no rows; an old file is kept.
        """
        target = check_path(path, REPORTS)
        if not len(self):
            raise InitplugError(f"{target}: nothing to report: the model has no parameters; the file is left as it is")
        super().save(target, **page)

    def __repr__(self) -> str:
        return f"<Audit {self.headline()}>"

    def _repr_html_(self) -> str:
        from initplug.reporting.fragment import fragment

        lines = [line for line in (self._left_out(), self.headline()) if line]
        return fragment(AUDIT_COLUMNS, map(_with_ranges, self._flat(every=False)), lines)

    def _flat(self, every: bool = True) -> Iterable[dict[str, Any]]:
        if every:
            return (row.to_dict() for row in self)
        left = {*self._kept()}
        return collapsed((self.row(index).to_dict() for index in range(len(self)) if index not in left), _agreed)

    def _kept(self) -> list[int]:
        """Return the kept rows, which are not worth a line where only some of a model was to be written."""
        kept = [
            index
            for index, (status, verdict) in enumerate(zip(self._statuses, self._verdicts, strict=True))
            if status == "kept" and verdict != "differs"
        ]
        return kept if any(index in self._reasons for index in kept) else []

    def _left_out(self) -> str:
        """Return one line on the rows that are not worth one each."""
        kept = self._kept()
        reasons = Counter(self._reasons.get(index, self.plan.shares[index].reason) for index in kept)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        return f"… {len(kept)} more kept: {told}" if kept else ""

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return the rows as a table for a terminal.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a line for every slot, also where those of repeated blocks agree, or where it was kept by `only=`.
        """
        rows, left = map(_with_ranges, self._flat(every)), "" if every else self._left_out()
        return table(AUDIT_COLUMNS, rows, more=left, footer=self.headline(), width=width, color=color)

    def headline(self) -> str:
        """Return one line that sums the audit up."""
        summary = self.summary
        counts = [f"{count} {word}" for group in ("status", "verdict") for word, count in summary[group].items()]
        return "; ".join([self.plan.headline(), *([", ".join(counts)] if counts else [])])


def _planned_alike(share: Share) -> str:
    """Return what all ranks that know a slot say of it; the file that they load it from may be each one's own."""
    said = "load" if isinstance(share.distribution, Load) else text(share.distribution) or "nothing"
    return f"{share.shape} {share.dtype} {said}"


def _agreed(row: Mapping[str, Any]) -> Hashable | None:
    """Return what rows have in common where one line stands for all; what differs stands alone."""
    if row["verdict"] == "differs" or row["problem"] is not None:
        return None
    return agreed(row), row["status"], row["verdict"], row["measured_count"] is None


def _with_ranges(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with mean and standard deviation of what was expected and measured as one text each."""
    verdict = row["verdict"] if row["status"] in ("initialized", "read") else row["status"]
    left = row["status"] == "kept" and row["reason"] in (FROZEN, ADAPTER)
    verdict = f"{verdict}, {row['reason']}" if left else verdict
    return {
        **table_row(row),
        "measured": spread(row["measured_mean"], row["measured_std"]),
        "verdict": verdict,
    }
