"""How long it takes to calibrate a model, beside passes of the same inputs through it.

    python tests/benchmarks/calibrating.py [--small]

Needs torchvision, timm and transformers. The times are of one thread's CPU, the least of several rounds. What two
applications of the recipe take is taken off, since calibrating begins and ends with one. The procedure of the paper
takes two passes for each layer that it scales; calibrating is to take at most ten in all.
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

ROUNDS = 3
MOST = 10.0
RECIPE = {
    "unused": "ignore",
    "rules": {"*": 0, "weights": {"match": "*.weight", "ndim": ">=2", "init": "xavier_normal"}, "<*Norm*>.weight": 1},
}


def models(small: bool) -> dict[str, tuple[Any, Any]]:
    libraries.declare_torchvision_operators()
    import timm
    import torchvision
    import transformers

    images = torch.randn(2 if small else 16, 3, 64 if small else 128, 64 if small else 128)
    config = transformers.GPT2Config(n_layer=2 if small else 6, bos_token_id=0, eos_token_id=0)
    return {
        "ResNet-18": (torchvision.models.resnet18(), images),
        "DenseNet-121": (torchvision.models.densenet121(), images),
        "ViT-Ti/16": (timm.create_model("vit_tiny_patch16_224", img_size=images.shape[-1]), images),
        "GPT-2": (transformers.GPT2LMHeadModel(config), torch.randint(50257, (2, 32 if small else 256))),
    }


def least(call: Callable[[], object]) -> float:
    """CPU seconds, the least of several rounds."""
    return min(timeit.repeat(call, timer=time.process_time, number=1, repeat=ROUNDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="few and small inputs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'model':14}{'layers':>7}{'pass':>8}{'apply':>8}{'calibrate':>11}{'passes':>8}{'of the paper':>14}")
    worst = 0.0
    for name, (model, inputs) in models(given.small).items():
        model.eval()
        with torch.no_grad():
            once = least(partial(model, inputs))
        applied = least(partial(initplug.apply, model, RECIPE, seed=0))
        found = initplug.calibrate(model, RECIPE, inputs, seed=0)
        calibrated = least(partial(initplug.calibrate, model, RECIPE, inputs, seed=0))
        layers = sum(row.outcome != "left" for row in found)
        ratio = (calibrated - 2 * applied) / once
        worst = max(worst, ratio)
        times = f"{once:8.3f}{applied:8.3f}{calibrated:11.3f}{ratio:8.1f}"
        print(f"{name:14}{layers:7}{times}{layers + found.summary['rounds']:14}")
    if worst > MOST and not given.small:
        sys.exit(f"calibrating takes {worst:.1f} passes, more than {MOST:.0f}")


if __name__ == "__main__":
    main()
