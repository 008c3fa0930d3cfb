"""How long a probe takes beside the bare forward and backward pass, and what memory it needs.

    python tests/benchmarks/probing.py [--small]

Needs torchvision, timm and transformers. The times are of one thread's CPU, the least of several rounds; a probe is to
take at most twice the bare passes. Memory is the most that tensors took at a time, above the model and its inputs.
"""

import argparse
import sys
import time
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))
import libraries

import initplug

ROUNDS = 4
MOST = 2.0

Case = tuple[Callable[[], Any], Any]


def cases(small: bool) -> dict[str, Case]:
    libraries.declare_torchvision_operators()
    import transformers

    deep = libraries.load_example("deep")
    images, layers = torch.randn(4, 3, 64, 64), 2 if small else 4
    gpt = transformers.GPT2Config(n_layer=layers, n_embd=256, n_head=4, vocab_size=1000, use_cache=False)
    return {
        "plain-56": (lambda: deep.DeepNet(depth=56, width=16, residual=False, classes=10), torch.randn(8, 3, 32, 32)),
        "ResNet-50": (lambda: libraries.torchvision_model("resnet18" if small else "resnet50"), images),
        "ViT-tiny": (lambda: libraries.timm_model("vit_tiny_patch16_224"), torch.randn(4, 3, 224, 224)),
        "GPT-2": (lambda: transformers.GPT2LMHeadModel(gpt), torch.randint(1000, (4, 128))),
    }


def least(call: Callable[[], object]) -> float:
    """CPU seconds, the least of several rounds."""
    return min(timeit.repeat(call, timer=time.process_time, number=1, repeat=ROUNDS))


def peak(call: Callable[[], object]) -> float:
    """The most memory of tensors that a call had at a time, in MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    held = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="smaller models")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'model':12}{'bare':>9}{'probe':>9}{'ratio':>7}{'bare':>9}{'probe':>9}")
    worst = 0.0
    for name, (build, inputs) in cases(given.small).items():
        model = build()

        def bare(model: Any = model, inputs: Any = inputs) -> None:
            output = model(inputs)
            logits = output if isinstance(output, torch.Tensor) else output.logits
            torch.autograd.grad(logits, list(model.parameters()), torch.ones_like(logits), allow_unused=True)

        def probed(model: Any = model, inputs: Any = inputs) -> None:
            initplug.probe(model, inputs)

        alone, seen = least(bare), least(probed)
        worst = max(worst, seen / alone)
        memory = f"{peak(bare):7.0f}MB{peak(probed):7.0f}MB"
        print(f"{name:12}{alone:8.3f}s{seen:8.3f}s{seen / alone:7.2f}{memory}", flush=True)
    sys.exit(f"a probe took {worst:.1f} times the passes" if worst > MOST else 0)


if __name__ == "__main__":
    main()
