"""Long runs: kinds in turn, in several processes that are watched from outside, and a table at the end."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fuzzing import BOUND, Failure, Kind, tried, watched

SLICE = 2.0
"""Seconds of CPU time for a kind with share 1 before the next has its turn."""

STUCK = 6 * BOUND
"""Seconds after which a process that is still at the same input is ended: code in C heeds no timer."""

CONTEXT = multiprocessing.get_context("spawn")


def work(names: Sequence[str], seconds: float, first: int, step: int, beat: Any, told: Any) -> None:
    """Try inputs in turn, and tell of each turn: the kind, how many, how many were taken, what failed."""
    from fuzz_kinds import KINDS

    kinds = [KINDS[name] for name in names]
    until, numbers = time.monotonic() + seconds, dict.fromkeys(names, first)
    known: set[tuple[str, str]] = set()
    with watched():
        while time.monotonic() < until:
            for place, kind in enumerate(kinds):
                count = taken = 0
                failures: list[Failure] = []
                stop = time.process_time() + SLICE * kind.share
                while time.process_time() < stop and time.monotonic() < until:
                    number = numbers[kind.name]
                    numbers[kind.name] += step
                    beat[0], beat[1] = place, number
                    found = tried(kind, number, shrink=False)
                    if isinstance(found, Failure) and (kind.name, found.cause) not in known:
                        known.add((kind.name, found.cause))
                        found = tried(kind, number)
                    if isinstance(found, Failure):
                        failures.append(found)
                    else:
                        taken += found
                    count += 1
                told.put((kind.name, count, taken, failures))
    told.put(None)


def campaign(kinds: Sequence[Kind], seconds: float, jobs: int, start: int) -> int:
    """Run for a time, print what came of it; the status is 1 if anything failed."""
    counts: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    failed: dict[tuple[str, str], list[Failure]] = {}
    names, told = [kind.name for kind in kinds], CONTEXT.Queue()
    until = time.monotonic() + seconds

    def begun(first: int) -> tuple[Any, Any]:
        beat = CONTEXT.Array("q", [0, -1], lock=False)
        left = until - time.monotonic()
        process = CONTEXT.Process(target=work, args=(names, left, first, jobs, beat, told), daemon=True)
        process.start()
        return process, beat

    running = {job: (*begun(start + job), -1, time.monotonic()) for job in range(jobs)}
    finished = 0
    while finished < len(running):
        try:
            turn = told.get(timeout=5)
        except queue.Empty:
            turn = ()
        if turn is None:
            finished += 1
        elif turn:
            name, count, accepted, failures = turn
            counts[name] += count
            taken[name] += accepted
            for failure in failures:
                failed.setdefault((name, failure.cause), []).append(failure)
        for job, (process, beat, number, since) in running.items():
            if process.exitcode == 0:
                continue
            if process.exitcode is None and (beat[1] != number or number < 0):
                running[job] = process, beat, beat[1], time.monotonic()
            elif process.exitcode is not None or time.monotonic() - since > STUCK:
                why = (
                    "more than its time, in code that heeds no timer"
                    if process.exitcode is None
                    else "the process ended"
                )
                process.kill()
                name = names[beat[0]]
                failed.setdefault((name, why), []).append(Failure(name, beat[1], why, "the process was ended\n"))
                # The next begins where no other has been, and takes the same steps.
                running[job] = (*begun(beat[1] + jobs), -1, time.monotonic())
    print(table(kinds, counts, taken, failed))
    return int(bool(failed))


def table(
    kinds: Sequence[Kind], counts: Counter[str], taken: Counter[str], failed: dict[tuple[str, str], list[Failure]]
) -> str:
    """Inputs by kind, how many were taken, how many failed; then each cause once, with its first input."""
    lines = [f"{'kind':10} {'inputs':>10} {'taken':>10} {'failed':>8} {'causes':>7}"]
    for kind in kinds:
        causes = [found for (name, _), found in failed.items() if name == kind.name]
        row = (counts[kind.name] * kind.each, taken[kind.name] * kind.each, sum(map(len, causes)), len(causes))
        lines.append(f"{kind.name:10} {row[0]:10,} {row[1]:10,} {row[2]:8,} {row[3]:7}")
    lines.append(f"{'in all':10} {sum(counts[kind.name] * kind.each for kind in kinds):10,}")
    for found in failed.values():
        lines += ["", f"{len(found)} × {min(found, key=lambda one: one.number)}"]
    return "\n".join(lines).encode(errors="backslashreplace").decode()
