"""How much of the models of the preset library has a closed form: each recorded, its recipe tried under another seed.

    python tests/conformance/recordings.py                    # a table of libraries, and every model that is not whole
    python tests/conformance/recordings.py timm --large       # of models whose name begins so, large ones too
    python tests/conformance/recordings.py --verify --write   # compared with other constructions; into the guide
    python tests/conformance/recordings.py --meta             # compared with recordings on meta; --tiny: of all tensors

A model is whole if its recipe gives every parameter what the code draws. Whether recipes are right is asked of
constructions under further seeds, which `checking` compares with the recipe's plan by tests of samples.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from checking import differing, samples_of
from families import Case, all_families
from recording import recorded

import initplug
from initplug.studies import meta
from initplug.studies.agreement import alike
from initplug.studies.forms import Given, Table

SEEDS = (11, 12)

GUIDE = Path(__file__).parents[2] / "examples" / "guide" / "record.md"
BEGIN, END = "<!-- recorded -->\n", "<!-- end -->"


@dataclass(frozen=True)
class Found:
    """What was recorded of a model.

    Args:
        case: the model.
        recording: of it; None where its constructor or the recording raised.
        error: why.
        wrong: the parameters of which further constructions are not as the recipe plans.
        seconds: of CPU time that recording took.
    """

    case: Case
    recording: initplug.Recording | None
    error: str = ""
    wrong: tuple[str, ...] = ()
    seconds: float = 0.0


def found(case: Case, verify: bool) -> Found:
    torch.manual_seed(1)
    start = time.process_time()
    try:
        recording = initplug.record(case.build)
    except Exception as error:
        return Found(case, None, f"{type(error).__name__}: {error}"[:200])
    seconds = time.process_time() - start
    wrong: tuple[str, ...] = ()
    if verify:
        original = recorded(case.build, 1)
        plan = initplug.plan(original.model, recording.recipe.model_copy(update={"frozen": "write"}))
        drawn = [
            row for row in plan if recording[row.name].distribution is not None and recording[row.name].twin is None
        ]
        try:
            wrong = tuple(differing(drawn, samples_of(case.build, original, SEEDS)))
        except TypeError:  # a law that scipy has not
            wrong = ()
    return Found(case, recording, "", wrong, seconds)


def beside_meta(case: Case, recording: initplug.Recording) -> tuple[str, ...]:
    """What a recording on meta says otherwise."""
    torch.manual_seed(1)
    other = initplug.record(case.build, meta=True, check=False)
    found = [] if other.meta else ["needs values"]
    for row, without in zip(recording, other, strict=True):
        one, two = row.distribution, without.distribution
        same = one is not None and two is not None and alike(one, two)
        same = same or (one is two is None and row.reason == without.reason)
        if not same or (row.twin, row.places) != (without.twin, without.places):
            found.append(f"{row.name}: {without.outcome if two is None else two.text}")
    return (*found, *(["another recipe"] if other.recipe != recording.recipe else []))


def cases(prefix: str, large: bool) -> list[Case]:
    known: dict[str, Case] = {}
    for family in all_families():
        for case in family.cases:
            if case.model.startswith(prefix) and (large or not case.large):
                known.setdefault(case.model, case)
    return [*known.values()]


def summary(results: Sequence[Found]) -> list[str]:
    """Rows of a table, by library and of all."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for one in results:
        rewritten = one.case.model.endswith("rewritten")
        groups["procedures of papers, rewritten" if rewritten else one.case.model.split()[0]].append(one)
    rows = ["| models of | models | whole | parameters | closed form | rules, median |", "|---|---|---|---|---|---|"]
    for name, group in [*sorted(groups.items()), ("all", list(results))]:
        known = [one.recording for one in group if one.recording is not None]
        parameters = sum(len(one) for one in known)
        closed = sum(sum(row.distribution is not None for row in one) for one in known)
        whole = sum(not one.problems() for one in known)
        rules = statistics.median([len(one.recipe.rules) for one in known] or [0])
        share = 100 * closed / max(parameters, 1)
        rows.append(f"| {name} | {len(group)} | {whole} | {parameters} | {share:.2f} % | {rules:g} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--verify", action="store_true", help="compare with constructions under further seeds")
    parser.add_argument("--write", action="store_true", help="write the table into the guide")
    parser.add_argument("--meta", action="store_true", help="compare with recordings on meta")
    parser.add_argument("--tiny", action="store_true", help="there without values for tensors of 64 elements, too")
    given = parser.parse_args()
    if given.tiny:
        meta.DRAWN = meta.FIXED = 64
    results, alike_on_meta = [], 0
    for case in cases(given.prefix, given.large):
        one = found(case, given.verify)
        if one.error.startswith("ModuleNotFoundError"):  # its library is not installed here
            print(f"{case.model}: {one.error}", flush=True)
            continue
        results.append(one)
        if one.recording is None:
            print(f"{case.model}: {one.error}", flush=True)
            continue
        for problem in one.recording.problems()[:4]:
            print(f"{case.model}: {problem}", flush=True)
        if given.meta:
            otherwise = beside_meta(case, one.recording)
            alike_on_meta += not otherwise
            if otherwise:
                print(f"{case.model}: ON META {'; '.join(otherwise[:4])}", flush=True)
        if one.wrong:
            print(f"{case.model}: WRONG {', '.join(one.wrong[:4])}", flush=True)
        kept = [row for row in one.recording if isinstance(row.outcome, Table | Given)]
        print(f"{case.model}: {one.recording.headline()}; {len(kept)} tables; {one.seconds:.2f} s", flush=True)
    table = "\n".join(summary(results))
    print(table)
    if given.meta:
        print(f"{alike_on_meta} of {len(results)} are recorded on meta as they are for real")
    if given.write:
        before, _, rest = GUIDE.read_text().partition(BEGIN)
        GUIDE.write_text(f"{before}{BEGIN}{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
