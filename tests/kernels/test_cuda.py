"""Kernels for CUDA and ROCm: run by Triton's interpreter, compiled without a device, and on a GPU where there is one.

As a program this file compares the kernels with the streams of the CPU and prints how many elements differ, by case.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from initplug.filling.streams import draw_of
from initplug.filling.words import key_of
from initplug.kernels import cuda, reference
from initplug.regions import Box
from initplug.schemes.distributions import Elementwise, Normal, TruncatedNormal, Uniform

Draw = Elementwise | None
"""A distribution; None for words themselves."""


def fill(out: torch.Tensor, draw: Draw, key: tuple[int, int], start: int, rows: cuda.StreamRows | None) -> None:
    if draw is None:
        cuda.fill_words(out, key, start, rows)
    else:
        cuda.fill(out, key, start, table_on(out.device), draw_of(draw), rows)


@lru_cache
def table_on(device: torch.device) -> torch.Tensor:
    return cuda.table_on(device, reference.normal_table())


def numbers_of_the_cpu(draw: Draw, key: np.ndarray[Any, Any], box: Box, dtype: torch.dtype) -> torch.Tensor:
    if not box.count:
        return torch.empty(0, dtype=dtype)
    words = reference.words_of_box(key, box.runs, 0, box.count)
    if draw is None:
        return torch.from_numpy(words.view(np.int32))
    return torch.from_numpy(reference.values(words, draw_of(draw))).to(dtype)


class Case(NamedTuple):
    """What is compared: a draw, the dtype, and the part of the whole that is filled."""

    draw: Draw
    dtype: torch.dtype
    box: Box

    @property
    def name(self) -> str:
        place = f"{self.box.starts} {self.box.sizes} of {self.box.shape}"
        return f"{self.draw} {str(self.dtype).removeprefix('torch.')} {place}"

    def differing(self, device: str = "cpu") -> int:
        """Elements that the kernels give other bits than the CPU."""
        key, (firsts, length) = key_of(7, "fc.weight"), self.box.runs
        pitches = {*np.diff(firsts).tolist()}
        assert len(pitches) <= 1
        rows = cuda.StreamRows(length, *pitches) if pitches else None
        around = torch.full((self.box.count + 2,), 77, dtype=self.dtype, device=device)
        low, high = key.tolist()
        fill(around[1:-1], self.draw, (low, high), int(firsts[0]), rows)
        assert around[0] == 77 and around[-1] == 77, "memory beside the tensor was written"
        expected = numbers_of_the_cpu(self.draw, key, self.box, self.dtype)
        return int((bits(around[1:-1].cpu()) != bits(expected)).sum())


def bits(values: torch.Tensor) -> torch.Tensor:
    """Bits as integers, which tell -0 from 0."""
    return values.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()])


def stretch(start: int, count: int) -> Box:
    return Box((start + count,), (start,), (count,))


BEYOND = 2 * 8 * cuda.STEP
"""Words of two instances of a kernel."""

DRAWS: list[Draw] = [
    *(None, Normal(0.0, 1.0), Normal(0.5, 0.02), Normal(-0.0, 1e-41), Normal(1.0, 1e38)),
    *(Uniform(0.0, 1.0), Uniform(-0.1, 0.1), Uniform(-1e-38, 3e-39), Uniform(3.0, 3.0 + 2.0**-20)),
    *(
        TruncatedNormal(0.0, 0.02, -0.04, 0.04),
        TruncatedNormal(1.0, 1.0, -2.0, 0.3),
        TruncatedNormal(0.0, 1.0, 5.0, 9.0),
    ),
    *(TruncatedNormal(0.0, 0.02, -2.0, 2.0), TruncatedNormal(0.1, 0.3, 0.0999999, 0.1000001)),
]
BOXES = [
    *(stretch(0, 1), stretch(0, 8), stretch(5, 2), stretch(3, BEYOND), stretch(16, BEYOND + 5), stretch(2**34 - 3, 9)),
    *(stretch(0, 0), Box((6, 24), (1, 8), (4, 16)), Box((7, 9), (0, 2), (7, 3)), Box((600, 5), (3, 4), (590, 1))),
    *(Box((4, 6, 8), (1, 0, 3), (3, 6, 5)), Box((3, 5, 64), (1, 2, 0), (2, 1, 64))),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def cases() -> list[Case]:
    """A draw of each kind at every place, and every draw in every dtype."""
    of_kinds = [(None, torch.int32), (DRAWS[2], torch.float32), (DRAWS[6], torch.bfloat16), (DRAWS[9], torch.float32)]
    at_places = [Case(draw, dtype, box) for draw, dtype in of_kinds for box in BOXES]
    return at_places + [Case(draw, dtype, stretch(4, BEYOND)) for draw in DRAWS[1:] for dtype in DTYPES]


def zeros_of_another_sign() -> int:
    """Elements that are cut to another 0 than NumPy cuts them to, which leaves what equals a bound."""
    out, draw = torch.empty(1000), reference.Draw(scale=1e-45)
    cuda.fill(out, (1, 2), 0, table_on(out.device), draw._replace(low=0.0))
    values = reference.values(reference.words(np.array([1, 2], np.uint64), 0, 1000), draw)
    assert {*np.signbit(values[values == 0]).tolist()} == {True, False}
    expected = np.clip(values, np.float32(0.0), np.float32(np.inf))
    return int((bits(out) != bits(torch.from_numpy(expected))).sum())


# By the interpreter -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def differing() -> dict[str, int]:
    """How many elements differ, by case."""
    pytest.importorskip("triton", minversion=".".join(map(str, cuda.OLDEST)), reason="needs Triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_kernels_give_the_bits_of_the_cpu(case: Case, differing: dict[str, int]) -> None:
    assert differing[case.name] == 0


def test_bounds_leave_zeros_as_they_are(differing: dict[str, int]) -> None:
    assert differing["zeros"] == 0


# As they are compiled ---------------------------------------------------------------------------------------


class Launch(NamedTuple):
    """A launch of the kernel as `cuda` makes it."""

    instances: int
    arguments: tuple[Any, ...]
    named: dict[str, Any]


def launches_of(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """The launches that something makes, none of which is carried out."""
    found: list[Launch] = []

    class Recorder:
        def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
            return lambda *arguments, **named: found.append(Launch(*grid, arguments, named))

    with monkeypatch.context() as patched:
        patched.setattr(cuda, "_kernel", Recorder)
        act()
    return found


def compiled(launch: Launch, target: Any, **others: Any) -> dict[str, Any]:
    """The kernel in all languages, from Triton's to the device's, compiled for a launch with other options."""
    import triton
    from triton.compiler import ASTSource

    kernel = cuda._kernel()
    constants = {name: value for name, value in launch.named.items() if name in kernel.arg_names}
    options = {name: value for name, value in launch.named.items() if name not in constants}
    pointers = {torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
    pointers |= {torch.int32: "*i32", torch.int64: "*i64"}
    signature = dict.fromkeys(constants, "constexpr")
    for parameter, given in zip(kernel.params, launch.arguments, strict=False):
        kind = pointers[given.dtype] if isinstance(given, torch.Tensor) else parameter.annotation_type or "fp32"
        signature[parameter.name] = kind
    signature = {name: signature[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants, {})
    return dict(triton.compile(source, target=target, options={**options, **others}).asm)


FUSED = re.compile(r"\b(?:fma|mad)\.[\w.]*\b(?:bf16|f16|f32|f64)\b|\bv_(?:pk_)?(?:fma|mad|mac|fmac)_\w*f\d+")


@pytest.mark.parametrize("draw", [Normal(0.5, 0.02), Uniform(-0.1, 0.1), TruncatedNormal(1.0, 1.0, -2.0, 0.3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("target", "language", "since"),
    [(("cuda", 90, 32), "ptx", "3.3"), (("hip", "gfx942", 64), "amdgcn", "3.6")],
    ids=["cuda", "hip"],
)
def test_no_product_is_fused_with_a_sum(
    draw: Draw,
    dtype: torch.dtype,
    target: tuple[Any, ...],
    language: str,
    since: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("triton", minversion=since, reason="needs Triton")
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    out = torch.empty(100, dtype=dtype)
    [launch] = launches_of(lambda: fill(out, draw, (1, 2), 3, None), monkeypatch)
    assert launch.named["enable_fp_fusion"] is False, "what Triton does by default changes"
    text = compiled(launch, GPUTarget(*target))[language]
    assert not FUSED.findall(text)
    assert ".ftz" not in text, "small numbers are kept"
    assert re.search(r"\bmul\.rn\.f32|\bv_(?:pk_)?mul_f32", text)
    if dtype == torch.float32:  # Triton would, by default
        assert FUSED.findall(compiled(launch, GPUTarget(*target), enable_fp_fusion=True)[language])


def test_nothing_is_launched_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launches_of(lambda: fill(torch.empty(0), Normal(0.0, 1.0), (1, 2), 3, None), monkeypatch)


@pytest.mark.parametrize(("start", "count", "instances"), [(0, BEYOND, 2), (1, BEYOND, 3), (8, BEYOND + 1, 3)])
def test_as_many_instances_as_blocks_need(
    start: int, count: int, instances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    [launch] = launches_of(lambda: fill(torch.empty(count), Uniform(0.0, 1.0), (1, 2), start, None), monkeypatch)
    assert launch.instances == instances


def test_a_long_tensor_is_counted_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    long = torch.empty(2**36 + 8, dtype=torch.bfloat16, device="meta")
    [launch] = launches_of(lambda: cuda.fill(long, (1, 2), 2**60, long, reference.Draw(uniform=True)), monkeypatch)
    assert launch.instances == 2**33 // cuda.STEP + 1 and launch.named["whole"]


# Where they are used ----------------------------------------------------------------------------------------


@pytest.fixture
def asked_anew() -> Any:
    cuda.available.cache_clear()
    yield
    cuda.available.cache_clear()


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_kernels_are_not_available_without_a_device() -> None:
    assert not cuda.available()


@pytest.mark.usefixtures("asked_anew")
def test_kernels_are_not_available_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not cuda.available()


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_kernels_that_fail_are_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not cuda.available()


def test_the_answer_that_is_asked_for_is_the_streams() -> None:
    assert tuple(reference.words(np.zeros(2, np.uint64), 0, 2).tolist()) == cuda.ANSWER


def test_importing_kernels_loads_neither_triton_nor_torch() -> None:
    program = "import initplug.kernels.cuda, sys; print(*{'triton', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout.strip()


# On a GPU ---------------------------------------------------------------------------------------------------


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.gpu
@on_a_gpu
def test_a_gpu_gives_the_bits_of_the_cpu() -> None:
    assert cuda.available()
    longer = [Case(draw, dtype, stretch(5, 10**6 + 3)) for draw in DRAWS[1:] for dtype in DTYPES]
    assert {case.name: count for case in (*cases(), *longer) if (count := case.differing("cuda"))} == {}


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_gpu_takes_at_most_twice_the_time_of_torch(dtype: torch.dtype) -> None:
    out = torch.empty(1 << 28, dtype=dtype, device="cuda")
    table = table_on(out.device)
    ours = milliseconds(lambda: cuda.fill(out, (1, 2), 0, table, reference.Draw(scale=0.02)))
    theirs = milliseconds(lambda: out.normal_(0.0, 0.02))
    assert ours <= 2 * theirs, f"{theirs / ours:.2f} times as fast as Tensor.normal_"


def milliseconds(act: Callable[[], object]) -> float:
    """The median of a few runs on the device, after one that compiles."""
    taken: list[float] = []
    for _ in range(11):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        act()
        torch.cuda.synchronize()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken[1:])


if __name__ == "__main__":
    found = {case.name: case.differing() for case in cases()}
    json.dump({**found, "zeros": zeros_of_another_sign()}, sys.stdout)
