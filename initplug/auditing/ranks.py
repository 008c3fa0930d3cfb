"""The measurements of all ranks, each of its part of a model, brought together."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from initplug.auditing.moments import Moments, together
from initplug.auditing.verdicts import UNTESTABLE, Judgement
from initplug.collectives import NO_FACTS, Circle, agree_on, gather
from initplug.planning.plan import Plan
from initplug.regions import Region


class RankEntry(NamedTuple):
    """The knowledge of one rank about a slot.

    Args:
        moments: of what it holds; None where nothing was measured.
        region: which part it holds; None for all.
        status: of the slot.
        judgement: on what it holds.
        planned: of the slot, in words.
        sharing: the ranks of each group that keeps replicas of it.
    """

    moments: Moments | None
    region: Region | None
    status: Any
    judgement: Judgement
    planned: str = ""
    sharing: tuple[tuple[int, ...], ...] = ()


class Merged(NamedTuple):
    """The knowledge of all ranks together about a slot.

    Args:
        moments: of every part once, however many ranks hold it.
        status: of the slot; `projected` if it is on any rank.
        judgement: the worst of those on the parts; `differs`, if ranks disagree about what it is to hold, or hold other
            values where they should hold the same.
        whole: whether parts were put together to the whole, which can then be judged anew.
    """

    moments: Moments | None
    status: Any
    judgement: Judgement
    whole: bool


def merged(entries: Sequence[RankEntry], numel: int) -> Merged:
    """Bring together what ranks know of a slot.

    Args:
        entries: in the order of the ranks.
        numel: of the whole.

    Example:
        >>> from initplug.auditing.verdicts import OK
        >>> left, right = Region((4,), (((0, 2),),)), Region((4,), (((2, 2),),))
        >>> parts = [RankEntry(Moments(2, 1.0, 1.0, 0.0, 2.0), left, "initialized", OK)] * 2
        >>> parts += [RankEntry(Moments(2, 3.0, 1.0, 2.0, 4.0), right, "initialized", OK)]
        >>> merged(parts, 4).moments.numel, merged(parts, 4).whole
        (4, True)
    """
    judgements = [entry.judgement for entry in entries if entry.region is None or entry.region.count]
    order = ("differs", "untestable", "ok", "exact")
    worst = min(judgements, key=lambda judged: order.index(judged.verdict), default=UNTESTABLE)
    status = next((entry.status for entry in entries if entry.status == "projected"), entries[0].status)
    views = [*dict.fromkeys(f"{entry.planned}, {_outcome(entry.status)}" for entry in entries)]
    if len(views) > 1:
        worst = Judgement("differs", f"the ranks disagree about it: {'; '.join(views[:VIEWS])}", "ranks disagree")
    elif worst.verdict != "differs" and (apart := _extremes_apart(entries)):
        worst = Judgement("differs", f"the ranks hold different values of it: {apart}", "ranks disagree")
    complete = [entry for entry in entries if entry.region is None]
    if complete:
        moments = next((entry.moments for entry in complete if entry.moments is not None), None)
        return Merged(moments, status, worst, whole=False)
    parts = {entry.region: entry.moments for entry in reversed(entries) if entry.region is not None}
    measured = [moments for _, moments in reversed(parts.items()) if moments is not None]
    moments = reduce(together, measured) if measured else None
    # A rank may have left its part unmeasured.
    count = sum(region.count for region, moments in parts.items() if moments is not None)
    return Merged(moments, status, worst, whole=count == numel)


def _extremes_apart(entries: Sequence[RankEntry]) -> str:
    """Return the extremes of replicas, and of parts that several ranks hold, where those are not the same."""
    alike: dict[Any, dict[str, None]] = {}
    for entry in entries:
        if entry.moments is not None:
            low, high = entry.moments.min, entry.moments.max
            for key in entry.sharing if entry.region is None else (entry.region,):
                alike.setdefault(key, {})[f"{low!r} to {high!r}"] = None
    found = next((list(extremes) for extremes in alike.values() if len(extremes) > 1), [])
    return ", ".join(found[:VIEWS])


VIEWS = 2
"""How many of the things that ranks say of a slot are told."""


def _outcome(status: Any) -> str:
    """Return what has become of a slot, whether or not its owner computes something else."""
    return "kept" if status == "kept" else "written"


def exchange(plan: Plan, entries: Sequence[RankEntry], group: Any) -> tuple[Plan, dict[str, list[RankEntry]]]:
    """Exchange what ranks know of their slots, and join the plan of them: pipeline stages hold different ones.

    Args:
        plan: of this rank's slots.
        entries: of them, in its order.
        group: process group of the ranks.
    """
    circle = Circle.of(group)
    records = gather(dict(zip(plan.names, entries, strict=True)), circle)
    known: dict[str, list[RankEntry]] = {}
    for rank in sorted(records):
        for name, entry in records[rank].items():
            known.setdefault(name, []).append(entry)
    if any(record.keys() != known.keys() for record in records.values()):
        rows = [
            (name, plan.aliases(plan.index_of(name)), share)
            for name, share in zip(plan.names, plan.shares, strict=True)
        ]
        packed = agree_on(lambda: pickle.dumps(rows), circle, lambda _: NO_FACTS, "to tell the others of their slots")
        plan = plan.joined(_unpacked(gather(packed, circle)))
    return plan, known


def _unpacked(packed: Mapping[int, bytes]) -> Iterable[Any]:
    """Yield the rows of all ranks, which are of this program's own making."""
    for rank in sorted(packed):
        yield from pickle.loads(packed[rank])
