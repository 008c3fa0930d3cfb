"""Fuzz for some minutes, or try one input again.

python tests/fuzz --minutes 15            every kind, on two cores; a table, and status 1 if anything failed
python tests/fuzz --kinds recipes,files   some kinds
python tests/fuzz KIND NUMBER             one input, with what comes of it
"""

from __future__ import annotations

import argparse
import sys

from campaigns import campaign
from fuzz_kinds import KINDS
from fuzzing import SHOWN, Failure, tried, watched


def main() -> int:
    """Do what the command line says; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(
        "python tests/fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", nargs="?", choices=[*KINDS])
    parser.add_argument("number", nargs="?", type=int)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--start", type=int, default=0, help="the number of the first input of each kind")
    given = parser.parse_args()
    if given.kind is not None:
        return replayed(given.kind, given.number or 0)
    unknown = {*given.kinds.split(",")} - {*KINDS}
    if unknown:
        parser.error(f"no such kinds: {', '.join(sorted(unknown))}")
    return campaign([KINDS[name] for name in given.kinds.split(",")], given.minutes * 60, given.jobs, given.start)


def replayed(name: str, number: int) -> int:
    """Try one input and show it."""
    kind = KINDS[name]
    print(SHOWN.repr(kind.input(number)).encode(errors="backslashreplace").decode())
    with watched():
        found = tried(kind, number)
    failed = isinstance(found, Failure)
    print(str(found).encode(errors="backslashreplace").decode() if failed else "taken" if found else "refused")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
