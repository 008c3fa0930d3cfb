"""How long it takes to watch a constructor, beside the constructor alone, and to make a recipe of what was seen.

    python tests/benchmarks/watching.py [--small]

Needs torchvision and transformers. The times are of one thread's CPU, the least of several rounds; watching is to take
at most five times the bare constructor.
"""

import argparse
import sys
import time
import timeit
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))
import libraries

import initplug
from initplug.studies.recording.construction import watched

ROUNDS = 3
MOST = 5.0


def models(small: bool) -> dict[str, Callable[[], Any]]:
    libraries.declare_torchvision_operators()
    import torchvision
    import transformers

    layers = 2 if small else 12
    return {
        "ResNet-50": torchvision.models.resnet18 if small else torchvision.models.resnet50,
        "ViT-B/16": lambda: torchvision.models.VisionTransformer(224, 16, layers, 12, 768, 3072),
        "GPT-2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=layers)),
    }


def least(call: Callable[[], object]) -> float:
    """CPU seconds, the least of several rounds."""
    return min(timeit.repeat(call, timer=time.process_time, number=1, repeat=ROUNDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="two layers each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'model':12}{'bare':>8}{'watched':>9}{'ratio':>7}{'recorded':>10}")
    worst = 0.0
    for name, build in models(given.small).items():
        bare, seen, recorded = least(build), least(partial(watched, build)), least(partial(initplug.record, build))
        worst = max(worst, seen / bare)
        print(f"{name:12}{bare:7.2f}s{seen:8.2f}s{seen / bare:7.2f}{recorded:9.2f}s")
    sys.exit(f"watching took {worst:.1f} times the constructor" if worst > MOST else 0)


if __name__ == "__main__":
    main()
