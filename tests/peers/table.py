"""Write the table of the guide: every trap, and what comes of every way, each as it is measured here.

    python tests/peers/table.py

Ways whose package is not here keep their column. `make peers` installs the packages into a folder of their own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from others import PEERS, NotOfferedError, Peer
from traps import TRAPS

PAGE = Path(__file__).parents[2] / "examples" / "guide" / "peers.md"
BEGIN, END = "<!-- written by `make peers` -->\n", "<!-- until here -->\n"
CITED = {("mmengine", "what was done, afterwards"): "a log line for each [2]"}
"""What a way has beside the function that was run, by its source."""


def column_of(peer: Peer) -> list[str]:
    """Return what comes of a way in every trap."""
    way = peer.way()
    found = []
    for trap in TRAPS:
        torch.manual_seed(0)
        try:
            found.append(CITED.get((peer.name, trap.title)) or trap.spring(way))
        except NotOfferedError:
            found.append("–")
    return found


def columns() -> dict[str, list[str]]:
    """Return the columns of the table as it stands."""
    lines = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *body = rows
    names = [name if name == "a loop" else name.partition(" ")[0] for name in head]
    return {name: [row[i] for row in body] for i, name in enumerate(names) if i > 1}


def table(found: Mapping[str, Sequence[str]], versions: Mapping[str, str]) -> str:
    """Return the table as Markdown."""
    heads = ["trap", "right", *(f"{name} {versions[name]}".strip() for name in found)]
    rows = [heads, ["---"] * len(heads)]
    rows += [[trap.title, trap.right, *(cells[i] for cells in found.values())] for i, trap in enumerate(TRAPS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    """Measure, and write the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    known = columns() if rest.partition(END)[0].strip() else {}
    found, versions = {}, {}
    for peer in PEERS:
        here = peer.version is not None
        found[peer.name] = column_of(peer) if here else known[peer.name]
        versions[peer.name] = f"{peer.tried} ({peer.released})" if peer.tried else ""
    PAGE.write_text(before + BEGIN + table(found, versions) + END + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
