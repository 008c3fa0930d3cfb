"""Write the table of the guide, and `proven_on` in each preset: the models it is compared on, and how far it goes."""

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

from initplug.language.loading import load
from initplug.language.preset_list import PRESETS

GUIDE = ROOT / "examples" / "guide" / "presets.md"
BEGIN, END = "<!-- written by `make presets-table` -->\n", "<!-- until here -->\n"
HEAD = ["preset", "model", "parameters", "result"]
SEED = 20261125


def cells(family: Family, case: Case, outcome: Outcome) -> list[str]:
    """A row of the table."""
    return [f"`{family.preset}`", case.model, str(outcome.parameters), str(outcome)]


def table_rows() -> list[list[str]]:
    """The rows of the table as it stands in the guide."""
    table = GUIDE.read_text().partition(BEGIN)[2].partition(END)[0]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()[2:]]


def proven_on(preset: str, rows: Iterable[list[str]]) -> list[str]:
    """What a preset says of the models, by the rows of the table."""
    return [f"{model}, {result}" for name, model, _, result in rows if name == f"`{preset}`"]


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
    wanted = set(sys.argv[1:])
    known = {(row[0], row[1]): row for row in table_rows()}
    rows = [HEAD, ["---"] * len(HEAD)]
    for family in all_families():
        for case in family.cases:
            row = known.get((f"`{family.preset}`", case.model))
            if row is None or (case.is_here and (not wanted or family.preset in wanted)):
                row = cells(family, case, compared(recorded(case.build, SEED), case.recipe(family.preset)))
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
