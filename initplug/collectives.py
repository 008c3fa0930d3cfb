"""What ranks tell each other: one record each, over torch's own process groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from initplug.errors import ApplyError, Finding, InitplugError, brief, listed

Result = TypeVar("Result")


def gathered(record: Any, groups: Sequence[Any]) -> dict[int, Any]:
    """The record of every rank that can be heard of, by its global rank.

    Args:
        record: this rank's, which can be pickled.
        groups: process groups that are used one after another, so that what the first has brought together the next
            hands on; every rank names its own in the same order.

    Raises:
        ApplyError: a rank cannot be reached.
    """
    import torch.distributed as dist

    known = {dist.get_rank(): record}
    for group in groups:
        heard: list[Any] = [None] * dist.get_world_size(group)
        try:
            dist.all_gather_object(heard, known, group)
        except RuntimeError as error:  # a rank that is gone, or does not come in the time that the group allows
            raise ApplyError(f"another rank cannot be reached: {brief(error, 300)}") from error
        for others in heard:
            known.update(others)
    return known


def agreed(
    work: Callable[[], Result], groups: Sequence[Any], facts: Callable[[Result], Mapping[str, Any]], when: str
) -> Result:
    """What work gives, once every rank has done its own and all have the same facts.

    Args:
        work: of this rank.
        groups: over which ranks hear of each other; without any it is this rank's business alone.
        facts: what must be the same on all ranks.
        when: what others are told of a rank that failed.

    Raises:
        ApplyError: another rank failed, or the facts differ.
    """
    if not groups:
        return work()
    try:
        result = work()
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, InitplugError) else brief(error)
        gathered((said, {}), groups)
        raise
    records = gathered((None, dict(facts(result))), groups)
    failed = {rank: said for rank, (said, _) in records.items() if said is not None}
    if failed:
        findings = [Finding(f"rank {rank}", failed[rank].replace("\n", "\n    ")) for rank in sorted(failed)]
        counted = f"{len(failed)} of {len(records)} ranks failed {when}"
        raise ApplyError(listed(counted, findings), findings)
    findings = [
        Finding(fact, differing)
        for fact in facts(result)
        if (differing := _different({rank: told[fact] for rank, (_, told) in records.items()}))
    ]
    if findings:
        raise ApplyError(listed("the ranks disagree, so that nothing has been written", findings), findings)
    return result


def _different(values: Mapping[int, Any]) -> str:
    """What ranks say of a fact; nothing, if they all say the same."""
    by_value: dict[Any, list[int]] = {}
    for rank in sorted(values):
        by_value.setdefault(values[rank], []).append(rank)
    if len(by_value) == 1:
        return ""
    return ", ".join(f"{value} on {ranked(ranks)}" for value, ranks in by_value.items())


def ranked(ranks: Iterable[int]) -> str:
    """Ranks as text, the first few of many.

    Example:
        >>> ranked([3]), ranked([0, 1, 2])
        ('rank 3', 'ranks 0, 1, 2')
    """
    known = list(ranks)
    shown = ", ".join(map(str, known[:8])) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    return f"rank{'s' * (len(known) > 1)} {shown}"
