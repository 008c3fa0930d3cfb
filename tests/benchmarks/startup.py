"""CPU time until the command line has answered, beside a bare Python: the least of several runs of each command."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 7

RECIPE = """\
rules:
  conv:   {match: <_ConvNd>.weight, init: {fn: kaiming_normal, mode: fan_out}}
  norm:   {match: <_BatchNorm>.weight, init: 1}
  bias:   {match: "*.bias", init: 0}
  linear: {match: <Linear>.weight, init: {fn: trunc_normal, std: 0.02}}
"""


def seconds(*command: str) -> float:
    """Return the CPU time of a process, its start included."""
    times = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *command], stdout=subprocess.DEVNULL, check=True, env={**os.environ, "NO_COLOR": "1"}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main() -> None:
    """Print one line a command."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE)
        bare = seconds("-c", "pass")
        print(f"CPU seconds above `python -c pass` ({bare:.3f}), the least of {RUNS}")
        for words in (["--help"], ["presets"], ["show", "resnext"], ["check", str(recipe)]):
            told = " ".join(["initplug", *words]).replace(f"{folder}/", "")
            print(f"  {told:32} {seconds('-m', 'initplug', *words) - bare:.3f}")


if __name__ == "__main__":
    main()
