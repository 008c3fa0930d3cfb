"""How often verdicts on signals are wrong: misses and false alarms over seeds that no threshold was set on.

    python tests/benchmarks/verdicts.py [--seeds 50]

Ends in status 1 where more than one of the nets with a fault is missed, or more than one without is accused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from signal_nets import CASES, alarms

FIRST = 100
"""Thresholds were set on the seeds below it."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Count misses and false alarms of verdicts over seeds.")
    parser.add_argument("--seeds", type=int, default=50)
    seeds = range(FIRST, FIRST + parser.parse_args().seeds)
    print(f"{'verdict':20}{'misses':>8}{'false alarms':>14}  of {len(seeds)}")
    missed, accused = 0, 0
    for kind in CASES:
        told = [alarms(kind, seed) for seed in seeds]
        misses, false = sum(kind not in faulty for faulty, _ in told), sum(bool(sound) for _, sound in told)
        print(f"{kind:20}{misses:8}{false:14}", flush=True)
        missed, accused = missed + misses, accused + false
    print(f"{'all':20}{missed:8}{accused:14}  of {len(seeds) * len(CASES)}")
    sys.exit(missed > 1 or accused > 1)


if __name__ == "__main__":
    main()
