"""What `suggest` costs: beside planning every preset by itself, and with the values of the model judged.

    python tests/benchmarks/suggesting.py

`suggest` walks the model once for all presets, so that it should take less than half of what planning each takes.
"""

import contextlib
import sys
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from third_party import named
from torch import nn

from initplug import PlanError, deferred, plan
from initplug.language.loading import load
from initplug.language.preset_list import presets
from initplug.studies.suggest import suggest

MODELS: dict[str, Callable[[], nn.Module]] = {
    "torchvision resnet50": lambda: named("torchvision.models:resnet50")(),
    "transformers GPT-2": lambda: named("transformers:GPT2LMHeadModel")(named("transformers:GPT2Config")()),
}


def best(work: Callable[[], object]) -> float:
    """Least CPU seconds of three."""
    return min(timeit.repeat(work, timer=process_time, number=1, repeat=3))


def main() -> None:
    """Build, measure, print."""
    recipes = [load(name) for name in presets()]
    print(f"{len(recipes)} presets; CPU seconds, least of 3; the ratio is to planning each by itself")
    print(f"{'model':24}{'each by itself':>16}{'suggest':>10}{'ratio':>8}{'with values':>14}{'ratio':>8}")
    for name, build in MODELS.items():
        with deferred():
            model = build()
        drawn = build()

        def each(model: nn.Module = model) -> None:
            for recipe in recipes:
                with contextlib.suppress(PlanError), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of rules that select nothing
                    plan(model, recipe)

        whole = best(each)
        tried = best(lambda model=model: suggest(model))  # type: ignore[misc]  # a default is no argument to mypy
        judged = best(lambda model=drawn: suggest(model))  # type: ignore[misc]
        print(f"{name:24}{whole:16.2f}{tried:10.2f}{tried / whole:7.2f}x{judged:14.2f}{judged / whole:7.2f}x")


if __name__ == "__main__":
    main()
