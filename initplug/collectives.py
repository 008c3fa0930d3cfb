"""Records that ranks tell each other, one each, over torch's own process groups."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from initplug.errors import ApplyError, Finding, InitplugError, brief, headed

Result = TypeVar("Result")


class Circle(NamedTuple):
    """The ranks that hear of each other.

    Args:
        groups: process groups that are used one after another, so that what the first has brought together the next
            hands on. All ranks have an order of theirs in common.
        ranks: that share something with this one, itself included.
    """

    groups: Sequence[Any] = ()
    ranks: frozenset[int] = frozenset()

    @classmethod
    def of(cls, group: Any) -> Circle:
        """Return the ranks of one process group; None for all. A rank that is not one of them is alone.

        Raises:
            ApplyError: it is no process group.
        """
        import torch.distributed as dist

        try:
            if dist.get_rank(group) < 0:
                return cls()
            # Before torch 2.5 None has no ranks.
            return cls([group], frozenset(dist.get_process_group_ranks(group or dist.group.WORLD)))
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ApplyError(f"group={group!r} is no process group that can be used: {brief(error, 300)}") from error


def gather(record: Any, circle: Circle) -> dict[int, Any]:
    """Gather the record of every rank that can be heard of, by its global rank.

    Groups are used until each rank has heard of all with which those that it has heard of share something. Whether they
    have is known to all members of a group alike, so that none waits for another.

    Args:
        record: this rank's, which can be pickled.
        circle: over which groups, and what ranks are to be heard of.

    Raises:
        ApplyError: a rank cannot be reached.
    """
    import torch.distributed as dist

    known = {dist.get_rank(): (record, circle.ranks)}
    waiting = circle.groups
    while waiting:
        unfinished = []
        for group in waiting:
            heard: list[Any] = [None] * dist.get_world_size(group)
            try:
                dist.all_gather_object(heard, known, group)
            except RuntimeError as error:  # a rank that is gone, or does not come in the time that the group allows
                raise ApplyError(f"another rank cannot be reached: {brief(error, 300)}") from error
            for others in heard:
                known.update(others)
            if not frozenset[int]().union(*(ranks for _, ranks in known.values())) <= known.keys():
                unfinished.append(group)
        waiting = unfinished
    return {rank: told for rank, (told, _) in known.items()}


Table = Mapping[str, str]
"""What a rank plans for each of some tensors, by name."""


class Facts(NamedTuple):
    """The facts that ranks must say alike.

    Args:
        settings: by what they are called; the same on all ranks.
        shared: by ranks what exactly those have in common: the same names, and the same of each.
        held: what other ranks may hold too, and then the same; None where that is not asked.
    """

    settings: Mapping[str, Any]
    shared: Mapping[tuple[int, ...], Table] = {}
    held: Table | None = None


NO_FACTS = Facts({})


def agree_on(work: Callable[[], Result], circle: Circle, facts: Callable[[Result], Facts], when: str) -> Result:
    """Do work, and return what it gives once every rank has done its own and all have the same facts.

    Args:
        work: of this rank.
        circle: the ranks that hear of each other; without groups it is this rank's business alone.
        facts: what must be the same on all ranks.
        when: what others are told of a rank that failed.

    Raises:
        ApplyError: another rank failed, or the facts differ.
    """
    if not circle.groups:
        return work()
    try:
        result = work()
        own = facts(result)
        digests = {ranks: _digest(table) for ranks, table in _tables(own).items()}
    except BaseException as error:  # of Ctrl-C, too, others hear at once
        said = f"{type(error).__name__}: {error}" if isinstance(error, InitplugError) else brief(error)
        with suppress(ApplyError):  # what went wrong here is what counts
            gather((said, {}, {}), circle)
        raise
    records = gather((None, dict(own.settings), digests), circle)
    failed = {rank: said for rank, (said, _, _) in records.items() if said is not None}
    if failed:
        findings = [Finding(f"rank {rank}", failed[rank].replace("\n", "\n    ")) for rank in sorted(failed)]
        counted = f"{len(failed)} of {len(records)} ranks failed {when}"
        raise ApplyError(headed(counted, findings), findings)
    findings = [
        Finding(fact, differing)
        for fact in own.settings
        if (differing := _different({rank: told.get(fact) for rank, (_, told, _) in records.items()}))
    ]
    findings += _unlike(own, {rank: told for rank, (_, _, told) in records.items()}, circle)
    if findings:
        raise ApplyError(headed("the ranks disagree, so that nothing has been written", findings), findings)
    return result


# Tables -------------------------------------------------------------------------------------------------------

HELD = ()
"""What stands for the ranks of a table that any rank may hold rows of."""


def _tables(facts: Facts) -> dict[tuple[int, ...], Table]:
    return {**facts.shared, **({} if facts.held is None else {HELD: facts.held})}


def _digest(table: Table) -> bytes:
    """Return what stands for a table, whatever the order of its rows."""
    rows = "\n".join(f"{name}\0{table[name]}" for name in sorted(table))
    return hashlib.blake2b(rows.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _unlike(own: Facts, digests: Mapping[int, Mapping[tuple[int, ...], bytes]], circle: Circle) -> list[Finding]:
    """Return what ranks plan differently, name by name: told only where digests differ, by one rank for each digest.

    Args:
        own: of this rank.
        digests: of the tables of every rank.
        circle: the ranks that hear of each other.
    """
    import torch.distributed as dist

    doubtful: dict[tuple[int, ...], dict[bytes | None, list[int]]] = {}
    for key in sorted({key for told in digests.values() for key in told}):
        by_digest: dict[bytes | None, list[int]] = defaultdict(list)
        for rank in sorted(digests):
            if rank in key or (key == HELD and HELD in digests[rank]):
                by_digest[digests[rank].get(key)].append(rank)
        if len(by_digest) > 1:
            doubtful[key] = by_digest
    if not doubtful:
        return []
    tables = _tables(own)
    mine = {
        key for key, by_digest in doubtful.items() if any(each[0] == dist.get_rank() for each in by_digest.values())
    }
    packed = {key: zlib.compress(json.dumps(dict(tables.get(key, {}))).encode()) for key in mine}
    told = gather(packed, circle)
    findings: dict[str, Finding] = {}
    for key, by_digest in doubtful.items():
        columns = {tuple(ranks): json.loads(zlib.decompress(told[ranks[0]][key])) for ranks in by_digest.values()}
        for name in sorted({name for table in columns.values() for name in table}):
            rows = {ranks: table.get(name) for ranks, table in columns.items() if key != HELD or name in table}
            if len({*rows.values()}) > 1:
                findings.setdefault(name, Finding(name, _apart_in_rows(rows)))  # which may be in two tables
    return [*findings.values()]


APART = "; "
"""What stands between the parts of a row's text."""


def _apart_in_rows(rows: Mapping[tuple[int, ...], str | None]) -> str:
    """Return what of a row is not the same on all ranks."""
    parts = {ranks: None if row is None else row.split(APART) for ranks, row in rows.items()}
    known = [part for part in parts.values() if part is not None]
    alike = {*known[0]}.intersection(*known) if len(known) == len(parts) else set()
    values: dict[int, str] = {}
    for ranks, part in parts.items():
        own = "not planned" if part is None else APART.join(one for one in part if one not in alike) or "nothing more"
        values.update(dict.fromkeys(ranks, own))
    return _different(values)


VALUES_SHOWN = 4
"""How many different values of one thing a message shows."""


def _different(values: Mapping[int, Any]) -> str:
    """Return what ranks say of a fact; nothing, if they all say the same."""
    by_value: dict[Any, list[int]] = {}
    for rank in sorted(values):
        by_value.setdefault(values[rank], []).append(rank)
    if len(by_value) == 1:
        return ""
    shown = [f"{value} on {ranked(ranks)}" for value, ranks in [*by_value.items()][:VALUES_SHOWN]]
    return ", ".join(shown) + (f" and {len(by_value) - VALUES_SHOWN} more" if len(by_value) > VALUES_SHOWN else "")


def ranked(ranks: Iterable[int]) -> str:
    """Return ranks as text, the first few of many.

    Example:
        >>> ranked([3]), ranked([0, 1, 2])
        ('rank 3', 'ranks 0, 1, 2')
    """
    known = list(ranks)
    shown = ", ".join(map(str, known[:8])) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    return f"rank{'s' * (len(known) > 1)} {shown}"
