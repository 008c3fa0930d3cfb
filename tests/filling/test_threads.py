"""What initplug does itself it does in the threads that it was given, and in no pool of torch's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.auditing import moments as measuring
from initplug.kernels import kernel

PROGRAM = """
import json, time, torch, initplug
from torch import nn

torch.set_num_threads(2)
model = nn.ModuleList([nn.Linear(512, 512) for _ in range(24)] + [nn.LayerNorm(64) for _ in range(200)]).to({dtype})
recipe = {{"rules": {{"<Linear>.weight": "normal std=0.02", "<LayerNorm>.weight": 1, "*.bias": "uniform -0.1 0.1"}}}}
initplug.apply(model, recipe, seed=0)


def share(work):
    process, thread = time.process_time(), time.thread_time()
    for _ in range(3):
        work()
    return (time.thread_time() - thread) / (time.process_time() - process)


torch.ones(1 << 22).add_(1)  # the pool is there, and would be used
works = {works}
print(json.dumps({{name: share(lambda: eval(work)) for name, work in works.items()}}))
"""

WORKS = {
    "measured after torch drew": "initplug.apply(model, recipe)",
    "measured, one thread asked for": "initplug.apply(model, recipe, threads=1)",
    "drawn under a seed by one thread": "initplug.apply(model, recipe, seed=0, threads=1)",
    "measured as it stands": "initplug.audit(model, recipe, histograms=True)",
}


@cache
def shares(dtype: str) -> dict[str, float]:
    """Return the share of the calling thread in the time of all, for each of the works."""
    program = PROGRAM.format(works=WORKS, dtype=dtype)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
@pytest.mark.parametrize("work", WORKS)
def test_the_calling_thread_does_all_the_work(work: str, dtype: str) -> None:
    # Of the processor's time, not of the clock's: neighbours change nothing. Torch's pool takes a third and more.
    assert shares(dtype)[work] > 0.8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_and_moments_are_the_same_whatever_the_threads(dtype: torch.dtype) -> None:
    found = []
    for threads in (1, 2, 3):
        model = nn.ParameterList([nn.Parameter(torch.zeros(700, 1000, dtype=dtype)), nn.Parameter(torch.zeros(50))])
        audit = initplug.apply(model, {"rules": {"*": "normal mean=3 std=0.02"}}, seed=1, threads=threads)
        found.append(([row.to_dict() for row in audit], [parameter.detach() for parameter in model]))
    for moments, values in found[1:]:
        assert moments == found[0][0]
        assert all(map(torch.equal, values, found[0][1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_share_the_measuring_of_a_large_tensor(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    held = torch.randn(5 * measuring.AT_ONCE + 3).to(dtype)
    alone = measuring.measure(held)
    native, seen = kernel(), set[int]()

    class Watched:
        @staticmethod
        def measure(*arguments: Any) -> None:
            seen.add(threading.get_ident())
            native.measure(*arguments)

    monkeypatch.setattr(measuring, "kernel", lambda: Watched)
    assert measuring.measure(held, threads=3) == alone
    assert len(seen - {threading.get_ident()}) >= 1
    assert alone is not None
    assert (alone.numel, alone.min) == (held.numel(), held.min().item())
    assert alone.mean == pytest.approx(held.double().mean().item(), rel=1e-9)
