"""Write the table of the guide, and `proven_on` in each preset: the models it is compared on, and how far it goes.

Beside each model stands whether what `record` tells of its constructor is what the preset plans, row by row.

    python tests/conformance/presets_table.py                   # all presets; rows that are there are made anew
    python tests/conformance/presets_table.py NAME…             # these; rows that are missing are always made
    python tests/conformance/presets_table.py --recordings      # only how recordings compare, where that is not known
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable

import torch
from checking import Outcome, compared
from families import Case, Family, all_families
from libraries import ROOT  # it makes the libraries importable, too
from recording import recorded

import initplug
from initplug.language.loading import load
from initplug.language.preset_list import PRESETS

GUIDE = ROOT / "examples" / "guide" / "presets.md"
BEGIN, END = "<!-- written by `make presets-table` -->\n", "<!-- until here -->\n"
HEAD = ["preset", "model", "parameters", "result", "its recording"]
UNKNOWN = "not recorded"
SEED = 20261125


def cells(family: Family, case: Case, outcome: Outcome) -> list[str]:
    """A row of the table."""
    return [f"`{family.preset}`", case.model, str(outcome.parameters), str(outcome)]


def beside(case: Case, preset: str) -> str:
    """What differs between the recording of a model and what a preset plans on it."""
    torch.manual_seed(SEED)
    recording = initplug.record(case.build, check=False)
    torch.manual_seed(SEED)
    names = {row.name for row in recording}
    rows = [row for row in initplug.diff(case.build(), recording, case.recipe(preset)) if row.name in names]
    if not rows:
        return "same"
    first = f"`{rows[0].name}` is {rows[0].a}, and not {rows[0].b}".replace("|", "\\|")
    return f"{len(rows)} of {len(recording)} differ: {first}"


def table_rows() -> list[list[str]]:
    """The rows of the table as it stands in the guide."""
    table = GUIDE.read_text().partition(BEGIN)[2].partition(END)[0]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()[2:]]


def proven_on(preset: str, rows: Iterable[list[str]]) -> list[str]:
    """What a preset says of the models, by the rows of the table."""
    return [f"{model}, {result}" for name, model, _, result, *_ in rows if name == f"`{preset}`"]


def is_generated(entry: str) -> bool:
    """Whether an entry of `proven_on` is one of the table's; others are written by hand."""
    return re.search(r", (every tensor to the bit|in distribution)", entry) is not None


def write_proven_on(preset: str, entries: list[str]) -> None:
    """Put the entries into a preset's file, before those that were written by hand."""
    path = PRESETS / f"{preset}.yaml"
    texts = load(preset).proven_on or []
    others = [entry for entry in ([texts] if isinstance(texts, str) else texts) if not is_generated(entry)]
    block = "proven_on:\n" + "".join(f"  - {entry}\n" for entry in [*entries, *others])
    path.write_text(re.sub(r"^proven_on:\n(?:  .*\n)*", lambda _: block, path.read_text(), flags=re.MULTILINE))


def main() -> None:
    """Compare every preset with all of its models, or the named presets only, and write the table."""
    wanted = {word for word in sys.argv[1:] if not word.startswith("--")}
    recordings = "--recordings" in sys.argv
    known = {(row[0], row[1]): row for row in table_rows()}
    rows = [HEAD, ["---"] * len(HEAD)]
    for family in all_families():
        for case in family.cases:
            row = [*known.get((f"`{family.preset}`", case.model), ())]
            asked = case.is_here and (not wanted or family.preset in wanted)
            if len(row) < 4 or (asked and not recordings):
                row = cells(family, case, compared(recorded(case.build, SEED), case.recipe(family.preset)))
            row = [*row, UNKNOWN][: len(HEAD)]
            if asked and (not recordings or row[-1] == UNKNOWN):
                row = [*row[:-1], beside(case, family.preset)]
                print(*row, sep="  ", flush=True)  # noqa: T201  # how far it is
            rows.append(row)
    before, _, rest = GUIDE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    for family in all_families():
        write_proven_on(family.preset, proven_on(family.preset, rows))
    GUIDE.write_text(before + BEGIN + "".join(f"| {' | '.join(row)} |\n" for row in rows) + END + after)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
