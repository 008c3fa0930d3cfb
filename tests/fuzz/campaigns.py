"""Long runs: kinds in turn, in several processes that are watched from outside, and a table at the end."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fuzzing import BOUND, Failure, Kind, tried, watched

TURN = 2.0
"""Seconds of CPU time for a kind with share 1 before the next has its turn."""

STUCK = 6 * BOUND
"""Seconds after which a process that is still at the same input is ended: code in C heeds no timer."""

CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Tally:
    """Counts of what was tried.

    Args:
        tried: inputs, by kind.
        taken: of them, those that the product took.
        failed: failures, by kind and cause.
        firsts: one failure of each cause, that with the lowest number.
    """

    tried: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    firsts: dict[tuple[str, str], Failure] = field(default_factory=dict)

    def count(self, kind: str, found: bool | Failure) -> None:
        """Count what came of an input."""
        self.tried[kind] += 1
        if isinstance(found, Failure):
            self.failed[kind, found.cause] += 1
            self._first(found)
        else:
            self.taken[kind] += found

    def add(self, other: Tally) -> None:
        """Count what another has counted."""
        self.tried += other.tried
        self.taken += other.taken
        self.failed += other.failed
        for failure in other.firsts.values():
            self._first(failure)

    def _first(self, failure: Failure) -> None:
        known = self.firsts.get((failure.kind, failure.cause))
        if known is None or failure.number < known.number:
            self.firsts[failure.kind, failure.cause] = failure


# Processes ---------------------------------------------------------------------------------------------------


def work(names: Sequence[str], seconds: float, firsts: Sequence[int], step: int, beat: Any, told: Any) -> None:
    """Try inputs in turn, and tell of each turn what came of it; None at the end.

    Args:
        names: of the kinds.
        seconds: after which it ends.
        firsts: the number of the first input of each kind.
        step: from one number to the next.
        beat: says where it is: the place of the kind, then the number that each kind has come to.
        told: the queue that tallies go to.
    """
    from fuzz_kinds import KINDS

    until = time.monotonic() + seconds
    beat[1:] = firsts
    known: set[tuple[str, str]] = set()
    with watched():
        while time.monotonic() < until:
            for place, kind in enumerate(KINDS[name] for name in names):
                tally, beat[0] = Tally(), place
                stop = time.process_time() + TURN * kind.share
                while time.process_time() < stop and time.monotonic() < until:
                    number = beat[1 + place]
                    found = tried(kind, number, shrink=False)
                    if isinstance(found, Failure) and (kind.name, found.cause) not in known:
                        known.add((kind.name, found.cause))
                        found = tried(kind, number)
                    tally.count(kind.name, found)
                    beat[1 + place] += step
                told.put(tally)
    told.put(None)


class Worker(NamedTuple):
    """A process, where it says it is, and where it was seen when."""

    process: Any
    beat: Any
    seen: tuple[int, ...]
    since: float


def campaign(kinds: Sequence[Kind], seconds: float, jobs: int, start: int) -> int:
    """Run for a time, print what came of it; the status is 1 if anything failed."""
    names, told, total = [kind.name for kind in kinds], CONTEXT.Queue(), Tally()
    until = time.monotonic() + seconds

    def begun(firsts: Sequence[int]) -> Worker:
        beat = CONTEXT.Array("q", [0, *firsts], lock=False)
        given = (names, until - time.monotonic(), firsts, jobs, beat, told)
        process = CONTEXT.Process(target=work, args=given, daemon=True)
        process.start()
        return Worker(process, beat, (), time.monotonic())

    workers = [begun([start + job] * len(names)) for job in range(jobs)]
    working = jobs
    while working:
        try:
            tally = told.get(timeout=5)
        except queue.Empty:
            pass
        else:
            working -= tally is None
            total.add(tally or Tally())
        for job, worker in enumerate(workers):
            fate = fate_of(worker)
            if fate is None:
                workers[job] = seen(worker)
            elif fate:
                worker.process.kill()
                place, *numbers = worker.beat
                failure = Failure(names[place], numbers[place], fate, "its process was ended\n")
                total.count(names[place], failure)
                workers[job] = begun([number + jobs for number in numbers])
    print(table(kinds, total))
    return int(bool(total.failed))


def seen(worker: Worker) -> Worker:
    """The worker as it is seen now."""
    now = (*worker.beat,)
    return worker if worker.seen == now else worker._replace(seen=now, since=time.monotonic())


def fate_of(worker: Worker) -> str | None:
    """The cause that has ended a process or has to; None while it works, no words if it has ended well."""
    if worker.process.exitcode is not None:
        return f"the process ended with {worker.process.exitcode}" if worker.process.exitcode else ""
    stuck = worker.seen == (*worker.beat,) and time.monotonic() - worker.since > STUCK
    return f"more than {STUCK:g} s in code that heeds no timer" if stuck else None


# Table -------------------------------------------------------------------------------------------------------


def table(kinds: Sequence[Kind], total: Tally) -> str:
    """Inputs by kind, how many were taken, how many failed; then each cause once, with its first input."""
    lines = [f"{'kind':10} {'inputs':>10} {'taken':>10} {'failed':>8} {'causes':>7}"]
    for kind in kinds:
        causes = [times for (name, _), times in total.failed.items() if name == kind.name]
        counts = (total.tried[kind.name] * kind.each, total.taken[kind.name] * kind.each)
        lines.append(f"{kind.name:10} {counts[0]:10,} {counts[1]:10,} {sum(causes):8,} {len(causes):7}")
    lines.append(f"{'in all':10} {sum(total.tried[kind.name] * kind.each for kind in kinds):10,}")
    for cause, times in total.failed.most_common():
        lines += ["", f"{times} × {total.firsts[cause]}"]
    return "\n".join(lines).encode(errors="backslashreplace").decode()
