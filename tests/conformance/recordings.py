"""How much of the models of others has a closed form: each recorded, its recipe tried under other seeds and sizes.

    python tests/conformance/recordings.py                      # record all models, write examples/guide/recordings.md
    python tests/conformance/recordings.py timm transformers    # these libraries
    python tests/conformance/recordings.py transformers:Mamba   # models whose names hold this
    python tests/conformance/recordings.py --verify             # recipes compared with other constructions, too
    python tests/conformance/recordings.py --verify --unverified  # only models of which that is not known
    python tests/conformance/recordings.py --missing            # only models of which there is no result yet

A model is whole if its recipe gives every parameter what the code does. Whether recipes are right is asked of
constructions: under further seeds, which `checking` compares with the recipe's plan by tests of samples, and of another
width and depth, whose own recording the recipe of the first has to agree with, row by row.

Models are built one by one in a process of their own, which begins anew after some of them, with bounds on memory and
time. Results are kept in build/recordings, and the table is written from them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import resource
import signal
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from checking import differing, samples_of
from libraries import ROOT
from recorded_models import Build, Subject, subjects
from recording import recorded

import initplug
from initplug.studies.drafting.agreement import agrees

RESULTS = ROOT / "build" / "recordings"
GUIDE = ROOT / "examples" / "guide" / "recordings.md"
BEGIN, END = "<!-- written by `make recordings` -->\n", "<!-- until here -->\n"

SEEDS = (11, 12)
SECONDS = 240
"""The most that one model may take."""

GIGABYTES = 10
"""The most memory that a process may take."""

MODELS = 12
"""Models that a process builds before it begins anew."""

Result = dict[str, Any]


# Asked of one model -------------------------------------------------------------------------------------------------


def result_of(place: int, verify: bool) -> Result:
    """What is found of a model, in a process of its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES << 30, GIGABYTES << 30))
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        return studied(subjects()[place], verify)
    except ModuleNotFoundError as error:
        return {"absent": str(error)}
    except (Exception, TimeoutError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        signal.alarm(0)


def _late(*_: Any) -> None:
    raise TimeoutError(f"it takes more than {SECONDS} s")


def studied(subject: Subject, verify: bool) -> Result:
    """A model's recording in figures, and what its recipe gets wrong."""
    torch.manual_seed(1)
    start = time.process_time()
    recording = initplug.record(subject.build)
    seconds = time.process_time() - start
    result: Result = {
        "parameters": len(recording),
        "numel": sum(row.numel for row in recording),
        "closed": sum(row.distribution is not None for row in recording),
        "rules": len(recording.recipe.rules),
        "problems": [[problem.name, problem.reason, problem.place] for problem in recording.problems()],
        "seconds": round(seconds, 2),
    }
    if verify:
        result["seeds"] = under_other_seeds(recording, subject.build)
        if subject.larger is not None:
            result["sizes"] = at_another_size(recording, subject)
    return result


def under_other_seeds(recording: initplug.Recording, build: Build) -> Result:
    """How many parameters were compared with further constructions, and what of them is not as the recipe plans."""
    original = recorded(build, 1)
    plan = initplug.plan(original.model, recording.recipe.model_copy(update={"frozen": "write"}))
    problems = {problem.name for problem in recording.problems()}
    drawn = [row for row in plan if row.name not in problems and recording[row.name].twin is None and row.numel]
    drawn = [row for row in drawn if recording[row.name].distribution is not None and row.name in original.values]
    samples = samples_of(build, original, SEEDS)
    compared, wrong = 0, {}
    for row in drawn:
        try:
            wrong.update(differing([row], samples))
        except TypeError:  # a law that scipy has not
            continue
        compared += 1
    return {"compared": compared, "wrong": wrong}


def at_another_size(recording: initplug.Recording, subject: Subject) -> Result:
    """How many parameters were compared, and what the recipe of a larger model gives this one otherwise.

    In this direction, since a model of two blocks does not tell √4 of blocks from √4 of anything else.
    """
    assert subject.larger is not None
    torch.manual_seed(1)
    recipe = initplug.record(subject.larger, check=False).recipe
    torch.manual_seed(1)
    plan = initplug.plan(subject.build(), recipe.model_copy(update={"frozen": "write", "unmatched": "keep"}))
    rows = [row for row in recording if row.distribution is not None and row.numel]
    differ = {
        row.name: f"{plan[row.name].init}, and not {row.outcome.text}"
        for row in rows
        if not agrees(plan[row.name].distribution, row)
    }
    numbers = {name: told for name, told in differ.items() if NUMBERS.match(str(plan[name].init))}
    wrong = {name: told for name, told in differ.items() if name not in numbers}
    return {"compared": len(rows), "wrong": wrong, "numbers": numbers}


NUMBERS = re.compile(r"(constant|normal|uniform|trunc_normal|log_uniform|split)(?!.*(factor|fans|kaiming|xavier))")
"""Initializers by numbers alone, which are those of a size where the code computes them of one."""


# All of them --------------------------------------------------------------------------------------------------------


def results_of(places: Sequence[int], verify: bool) -> Iterator[tuple[int, Result]]:
    """The result of each, from processes that begin anew after some models, or after one that brought them down."""
    context = multiprocessing.get_context("spawn")
    waiting = [*places]
    while waiting:
        with ProcessPoolExecutor(1, context) as pool:
            for place in waiting[:MODELS]:
                try:
                    yield place, pool.submit(result_of, place, verify).result()
                except BrokenProcessPool:
                    yield place, {"error": "its process ended"}
                    waiting.remove(place)
                    break
                waiting.remove(place)


def file_of(subject: Subject) -> Any:
    """Where the result of a model is kept."""
    return RESULTS / f"{subject.library}:{subject.name}.json".replace("/", "_").replace(" ", "_")


def wanted(words: Sequence[str]) -> list[int]:
    """The places of the models that the command line asks for."""
    asked = [word.partition(":") for word in words]
    return [
        place
        for place, subject in enumerate(subjects())
        if not words or any(subject.library == library and part in subject.name for library, _, part in asked)
    ]


def kept_results() -> dict[Subject, Result]:
    """The results that there are, in the order of the models."""
    return {one: json.loads(file_of(one).read_text()) for one in subjects() if file_of(one).exists()}


# The table ----------------------------------------------------------------------------------------------------------


def is_whole(result: Result) -> bool:
    """Whether a recipe gives every parameter what the code does."""
    return not result["problems"]


def lines_of(results: Mapping[Subject, Result]) -> Iterator[str]:
    """The table: totals by library, then what is not whole and why."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for subject, result in results.items():
        groups[subject.library].append(result)
    yield "| models of | models | whole | parameters | closed form | rules, median |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, group in [*sorted(groups.items()), ("all", [*results.values()])]:
        parameters, closed = (sum(one[key] for one in group) for key in ("parameters", "closed"))
        whole, rules = sum(map(is_whole, group)), statistics.median([one["rules"] for one in group])
        share = 100 * closed / max(parameters, 1)
        yield f"| {name} | {len(group)} | {whole} | {parameters:,} | {share:.2f} % | {rules:g} |"
    for key, told in (("seeds", "constructions under other seeds"), ("sizes", "recordings at another size")):
        asked = [one[key] for one in results.values() if key in one]
        if asked:
            compared, wrong = sum(one["compared"] for one in asked), sum(len(one["wrong"]) for one in asked)
            yield ""
            numbers = sum(len(one.get("numbers", ())) for one in asked)
            more = f"; {numbers} are given by a number that goes with the size" if key == "sizes" else ""
            yield f"Compared with {told}: {len(asked)} models, {compared:,} parameters, {wrong} of them wrong{more}."
    yield from ("", "| not whole | parameters | of | why |", "| --- | --- | --- | --- |")
    for subject, result in results.items():
        if not is_whole(result):
            reasons = dict.fromkeys(reason for _, reason, _ in result["problems"])
            first = ", ".join(f"`{name}`" for name, _, _ in result["problems"][:2])
            why = f"{first}: {'; '.join([*reasons][:2])}".replace("|", "\\|")
            yield f"| {subject.label} | {len(result['problems'])} | {result['parameters']} | {why} |"


def main() -> None:
    """Record the models that are asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="libraries, or LIBRARY:PART of a name")
    parser.add_argument("--verify", action="store_true", help="compare recipes with further constructions")
    parser.add_argument("--missing", action="store_true", help="only those of which there is no result")
    parser.add_argument("--unverified", action="store_true", help="only those whose recipes were not compared")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="when to stop, with a part of them in any order")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    known = subjects()
    places = [place for place in wanted(given.models) if not (given.missing and file_of(known[place]).exists())]
    if given.unverified:
        verified = {subject for subject, result in kept_results().items() if "seeds" in result}
        places = [place for place in places if known[place] not in verified]
    random.Random(0).shuffle(places)  # so that a part of them is a fair one
    end = time.monotonic() + 60 * given.minutes
    for place, result in results_of(places, given.verify):
        if time.monotonic() > end:
            break
        subject = known[place]
        if "absent" in result or "error" in result:
            print(f"{subject.label}: {result}", flush=True)
            continue
        file_of(subject).write_text(json.dumps(result, indent=1))
        wrong = [*result.get("seeds", {}).get("wrong", ()), *result.get("sizes", {}).get("wrong", ())]
        told = f"{result['closed']} of {result['parameters']}, {result['rules']} rules, {result['seconds']} s"
        print(
            f"{subject.label}: {told}", *result["problems"][:3], f"WRONG {wrong[:3]}" if wrong else "", flush=True
        )  # likewise
    before, _, rest = GUIDE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    GUIDE.write_text(before + BEGIN + "".join(f"{line}\n" for line in lines_of(kept_results())) + END + after)


if __name__ == "__main__":
    main()
