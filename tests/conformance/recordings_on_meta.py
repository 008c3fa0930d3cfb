"""Whether models of the preset library are recorded on meta as they are for real: rows, copies, lines of code, recipe.

python tests/conformance/recordings_on_meta.py                 # all but the large ones
python tests/conformance/recordings_on_meta.py timm            # of models whose name begins so
python tests/conformance/recordings_on_meta.py --tiny          # with no values for tensors of 64 elements, too
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator

import torch
from families import Case, all_families

import initplug
from initplug.studies.drafting.agreement import alike
from initplug.studies.recording import meta
from initplug.studies.recording.rows import Row


def same(row: Row, other: Row) -> bool:
    """Whether two rows tell the same of a parameter."""
    one, two = row.distribution, other.distribution
    drawn = one is not None and two is not None and alike(one, two)
    return (drawn or (one is two is None and row.reason == other.reason)) and (row.twin, row.places) == (
        other.twin,
        other.places,
    )


def differences(case: Case) -> tuple[int, list[str]]:
    """How many parameters a model has, and what is recorded otherwise on meta."""
    found = []
    for on in (False, True):
        torch.manual_seed(1)
        found.append(initplug.record(case.build, meta=on, check=False))
    real, without = found
    told = [] if without.meta else ["needs values"]
    told += [f"{one.name}: {two.outcome}" for one, two in zip(real, without, strict=True) if not same(one, two)]
    return len(real), [*told, *(["another recipe"] if real.recipe != without.recipe else [])]


def cases(prefix: str) -> Iterator[Case]:
    """The models, each once."""
    known = set()
    for family in all_families():
        for case in family.cases:
            if case.model.startswith(prefix) and not case.large and case.model not in known:
                known.add(case.model)
                yield case


def main() -> None:
    """Record each model twice, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--tiny", action="store_true", help="no values for tensors of 64 elements, too")
    given = parser.parse_args()
    if given.tiny:
        meta.DRAWN = meta.FIXED = 64
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    models = alike_on_meta = parameters = 0
    for case in cases(given.prefix):
        try:
            count, told = differences(case)
        except ModuleNotFoundError as error:  # its library is not installed here
            print(f"{case.model}: {error}", flush=True)
            continue
        models, parameters, alike_on_meta = models + 1, parameters + count, alike_on_meta + (not told)
        if told:
            print(f"{case.model}: {'; '.join(told[:4])}", flush=True)
    print(f"{alike_on_meta} of {models} models, of {parameters} parameters, are recorded on meta as they are for real")


if __name__ == "__main__":
    main()
