"""The native kernel gives what the reference gives, to the bit; it is built, chosen, and done without."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import initplug
from initplug import kernels
from initplug.kernels import binary, build_hook, native, qr_reference, reference
from initplug.kernels.reference import MOMENTS, STORED, Draw, table_of

ROOT = Path(__file__).parents[2]

SOURCES = sorted(path for path in Path(kernels.__file__).parent.iterdir() if path.suffix in (".c", ".h"))

needs_binary = pytest.mark.skipif(not binary.BINARY.exists(), reason="the native kernel is not built")


def forget() -> None:
    for known in (kernels.kernel, kernels.chosen, binary.library):
        known.cache_clear()


@pytest.fixture(autouse=True)
def _chosen_anew() -> Iterator[None]:
    yield
    forget()


def addresses_of(rows: NDArray[Any]) -> NDArray[np.uintp]:
    first: int = rows.__array_interface__["data"][0]
    return (first + np.arange(len(rows)) * rows.strides[0]).astype(np.uintp)


def filled(
    kernel: kernels.Kernel,
    dtype: str,
    draws: list[Draw],
    keys: NDArray[np.uint64],
    runs: reference.Runs,
    begin: int,
    count: int,
) -> tuple[bytes, bytes]:
    out, measured, table = np.zeros((len(keys), count), STORED[dtype]), np.zeros(len(keys), MOMENTS), table_of(draws)
    kernel.fill(addresses_of(out), dtype, table, keys, runs, begin, count, measured)
    alone = np.zeros_like(out)
    kernel.fill(addresses_of(alone), dtype, table, keys, runs, begin, count)
    assert alone.tobytes() == out.tobytes(), "measuring changes no value"
    again = np.zeros_like(measured)
    kernel.measure(addresses_of(out), dtype, count, again)
    if dtype != "float64":  # whose scale depends on what is held
        assert again.tobytes() == measured.tobytes()
    return out.tobytes(), measured.tobytes()


def altered_sources(folder: Path, old: str = "", new: str = "") -> None:
    """Copy the sources of the native kernel into a folder, with a change of kernel.c."""
    for path in SOURCES:
        shutil.copy(path, folder)
    text = (folder / "kernel.c").read_text()
    assert old in text
    (folder / "kernel.c").write_text(text.replace(old, new) if old else text)


DRAWS = st.builds(
    Draw,
    uniform=st.booleans(),
    scale=st.sampled_from([1.0, 0.02, 1e-30, 1e-44, 70000.0, 1e30, -2.0, 0.0]),
    shift=st.sampled_from([-0.0, 0.5, -1e6, 1e-8]),
    low=st.sampled_from([-math.inf, -0.04, 0.0]),
    high=st.sampled_from([math.inf, 0.04, 65504.0]),
    first=st.integers(0, 1 << 31),
    number=st.sampled_from([1, 2, 1000, 1 << 31]),
) | st.builds(lambda uniform, scale: Draw(uniform, scale), st.booleans(), st.floats(1e-10, 1e10))

COUNTS = st.integers(1, 40) | st.sampled_from([63, 64, 2047, 2048, 2049, 4096, 6001])
STARTS = st.integers(0, 40) | st.integers(0, 2**40)


@needs_binary
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*STORED]),
    st.lists(st.tuples(DRAWS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=3),
    COUNTS,
    STARTS,
    st.integers(1, 50) | st.just(10_000),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_the_native_kernel_gives_the_bits_of_the_reference(
    dtype: str, drawn: list[tuple[Draw, int, int]], count: int, start: int, length: int, gap: int, begin: int
) -> None:
    runs = start + np.arange((begin + count) // length + 1, dtype=np.int64) * (length + gap), length
    draws, keys = [draw for draw, *_ in drawn], np.array([key for _, *key in drawn], np.uint64)
    assert filled(native, dtype, draws, keys, runs, begin, count) == filled(
        reference, dtype, draws, keys, runs, begin, count
    )


@needs_binary
@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("offset", range(1, 8))
def test_memory_may_begin_anywhere(dtype: str, offset: int) -> None:
    keys, runs = np.array([[1, 2]], np.uint64), (np.zeros(1, np.int64), 5000)
    for count in (1, 64, 4097):
        expected = filled(native, dtype, [Draw()], keys, runs, 0, count)
        memory, measured = np.zeros((1, 8 * count + 8), np.uint8), np.zeros((2, 1), MOMENTS)
        addresses = addresses_of(memory) + np.uintp(offset)
        native.fill(addresses, dtype, table_of([Draw()]), keys, runs, 0, count, measured[0])
        native.measure(addresses, dtype, count, measured[1])
        assert memory[0, offset : offset + len(expected[0])].tobytes() == expected[0]
        assert not memory[0, :offset].any() and not memory[0, offset + len(expected[0]) :].any()
        assert measured[0].tobytes() == measured[1].tobytes() == expected[1]


HELD = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 1.0, 1e300, 5e-324, math.inf])


@needs_binary
@settings(max_examples=150, deadline=None)
@given(st.lists(HELD, min_size=1, max_size=40), st.integers(1, 120), st.sampled_from([*STORED]))
def test_whatever_memory_holds_is_measured_alike(held: list[float], times: int, dtype: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        rows = reference.as_dtype(np.array(held * times).astype(np.float32), dtype)[None]
        if dtype == "float64":
            rows = np.array([held * times])
    found = []
    for kernel in (native, reference):
        measured = np.zeros(1, MOMENTS)
        kernel.measure(addresses_of(rows), dtype, rows.shape[1], measured)
        found.append(measured)
    for field in MOMENTS.fields or ():
        np.testing.assert_array_equal(found[0][field], found[1][field])


def test_moments_are_those_of_numpy() -> None:
    held = np.random.default_rng(0).normal(3, 2, 100_003)
    numel, mean, std, low, high = reference.moments_of(held)
    assert (numel, low, high) == (len(held), held.min(), held.max())
    assert mean == pytest.approx(held.mean(), rel=1e-14)
    assert std == pytest.approx(held.std(), rel=1e-13)
    for size in (1e-200, 1e200):
        _, mean, std, _, _ = reference.moments_of(held * size, reference.scale_of(held * size))
        assert mean == pytest.approx(held.mean() * size)
        assert std == pytest.approx(held.std() * size)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_values_are_cast_as_torch_casts_them(dtype: str) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 18, np.uint32)
    values = np.append(
        bits.view(np.float32), np.array([0.0, -0.0, 65519.99, 65520, 6e-8, 3e-8, math.inf, -math.inf], np.float32)
    )
    values = values[~np.isnan(values)]
    expected = torch.from_numpy(values.copy()).to(getattr(torch, dtype)).view(torch.int16).numpy()
    assert (reference.as_dtype(values, dtype).view(np.int16) == expected).all()


@needs_binary
@pytest.mark.skipif(build_hook.compiler() is None, reason="there is no C compiler")
@pytest.mark.parametrize("level", [0, 1])
def test_versions_for_other_processors_give_the_same_bits(
    level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, keys = (np.arange(9, dtype=np.int64) * 999 + 3, 800), np.array([[1, 2], [3, 4]], np.uint64)
    draws = [Draw(), Draw(True, 0.4, -0.1), Draw(False, 70000.0, 0.5, -1e5, 1e5, 98765, 1 << 31)]
    cases = [
        (dtype, [draw, *draws[:1]], keys, runs, begin, 2100 + begin)
        for dtype in STORED
        for draw in draws
        for begin in (0, 13)
    ]
    expected = [filled(native, *case) for case in cases]
    matrices = [np.random.default_rng(0).standard_normal(shape) for shape in [(97, 97), (65, 33), (200, 40), (5, 3)]]
    decomposed = [orthonormalized(native, matrix) for matrix in matrices]
    altered_sources(tmp_path, "known = -1", f"known = {level}")
    assert build_hook.build(build_hook.compiler() or [], tmp_path) is None
    monkeypatch.setattr(binary, "BINARY", tmp_path / "kernel.bin")
    monkeypatch.setattr(binary, "DIGEST", tmp_path / "kernel.blake2b")
    forget()
    assert [filled(native, *case) for case in cases] == expected
    assert [orthonormalized(native, matrix) for matrix in matrices] == decomposed


GOLDEN = {
    "normal": (Draw(), "7225016192c6b22e80ff6e138dd68701"),
    "narrow": (Draw(scale=0.02, shift=0.5), "662d67afa86181634056c38f054c7ba0"),
}
"""As in `filling/test_streams`."""


@pytest.mark.parametrize("kernel", [reference, pytest.param(native, marks=needs_binary)], ids=kernels.KERNELS)
@pytest.mark.parametrize("kind", GOLDEN)
def test_version_1_does_not_drift(kernel: kernels.Kernel, kind: str) -> None:
    draw, expected = GOLDEN[kind]
    digest = hashlib.blake2b(digest_size=16)
    for seed in (0, 1, 2**63):
        for name in ("weight", "layers.11.mlp.c_fc.weight"):
            key = hashlib.blake2b(f"initplug/1\0{seed}\0{name}".encode(), digest_size=16).digest()
            for begin in (0, 1_000_003):
                out = np.empty((1, 70_000), np.float32)
                keys, runs = np.frombuffer(key, "<u8").reshape(1, 2), (np.zeros(1, np.int64), 1 << 40)
                kernel.fill(addresses_of(out), "float32", table_of([draw]), keys, runs, begin, 70_000)
                digest.update(out.astype("<f4").tobytes())
    assert digest.hexdigest() == expected


def _digest(kernel: kernels.Kernel) -> str:
    out, measured = np.empty((1, 300_000), np.float32), np.zeros(1, MOMENTS)
    keys, runs = np.array([[1, 2]], np.uint64), (np.zeros(1, np.int64), 300_000)
    kernel.fill(addresses_of(out), "float32", table_of([Draw()]), keys, runs, 0, 300_000, measured)
    return hashlib.blake2b(out.tobytes() + measured.tobytes()).hexdigest()


def _digest_in_use(_: int = 0) -> str:
    return _digest(kernels.kernel())


@needs_binary
def test_threads_and_forked_processes_get_the_same_bits() -> None:
    expected = _digest(native)
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(_digest_in_use, range(16))} == {expected}
    if "fork" in multiprocessing.get_all_start_methods():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which torch has
            with multiprocessing.get_context("fork").Pool(2) as forked:
                assert {*forked.map(_digest_in_use, range(4))} == {expected}


# Orthonormal columns ---------------------------------------------------------------------------------------------


def orthonormalized(kernel: kernels.Kernel, matrix: NDArray[np.float64], offset: int = 0) -> bytes:
    strips = qr_reference.in_strips(matrix)
    moved = np.zeros(strips.size + 8)[offset : offset + strips.size].reshape(strips.shape)
    moved[...] = strips
    kernel.orthonormalize(moved, matrix.shape[1])
    assert not moved[-1:, :, matrix.shape[1] - (len(moved) - 1) * qr_reference.PANEL :].any(), "padding stays zero"
    return moved.tobytes()


SIZES = st.integers(0, 40) | st.sampled_from(
    [size + more for size in (qr_reference.PANEL, 2 * qr_reference.PANEL, 96) for more in (-1, 0, 1)]
)
TALLER = st.integers(0, 3) | st.sampled_from([16, 47, 48, 49, qr_reference.BLOCK, qr_reference.BLOCK + 1])
HOLDS = ["normal", "few integers", "zeros", "negative zeros", "equal columns", "large", "small", "triangular"]


def matrix_of(shape: tuple[int, int], kind: str, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    normals: NDArray[np.float64] = rng.standard_normal(shape)
    match kind:
        case "few integers":
            return -rng.integers(-1, 2, shape).astype(np.float64)
        case "zeros":
            return np.zeros(shape)
        case "negative zeros":
            return np.where(normals > 0, normals, -0.0)
        case "equal columns":
            return np.repeat(normals[:, :1], shape[1], axis=1)
        case "triangular":
            return np.triu(normals)
    return normals * {"normal": 1.0, "large": 1e100, "small": 1e-100}[kind]


@needs_binary
@settings(max_examples=150, deadline=None)
@given(SIZES, TALLER, st.sampled_from(HOLDS), st.integers(0, 99), st.integers(0, 7))
def test_the_native_decomposition_has_the_bits_of_the_reference(
    columns: int, taller: int, kind: str, seed: int, offset: int
) -> None:
    matrix = matrix_of((columns + taller, columns), kind, seed)
    assert orthonormalized(native, matrix, offset) == orthonormalized(reference, matrix)


@pytest.mark.parametrize("kernel", [reference, pytest.param(native, marks=needs_binary)], ids=kernels.KERNELS)
@pytest.mark.parametrize("kind", HOLDS)
def test_whatever_is_decomposed_columns_are_orthonormal_and_span_it(kernel: kernels.Kernel, kind: str) -> None:
    matrix = matrix_of((150, 100), kind, 0)
    strips = qr_reference.in_strips(matrix)
    kernel.orthonormalize(strips, 100)
    q = np.concatenate([*strips], axis=1)[:, :100]
    np.testing.assert_allclose(q.T @ q, np.eye(100), rtol=0, atol=1e-14)
    r, size = q.T @ matrix, np.abs(matrix).max()
    np.testing.assert_allclose(q @ r, matrix, rtol=0, atol=1e-13 * size)
    np.testing.assert_allclose(np.tril(r, -1), np.zeros((100, 100)), rtol=0, atol=1e-13 * size)
    assert (r.diagonal() >= -1e-13 * size).all()


@needs_binary
def test_matrices_are_decomposed_beside_each_other() -> None:
    matrices = [np.random.default_rng(seed).standard_normal((300, 200)) for seed in range(6)]
    expected = [orthonormalized(native, matrix) for matrix in matrices]
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(lambda matrix: orthonormalized(native, matrix), matrices)] == expected


# Which kernel is in use ------------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_exist_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "cuda")
    forget()
    with pytest.raises(kernels.KernelError) as caught:
        kernels.kernel()
    assert str(caught.value) == "INITPLUG_KERNELS is 'cuda', which is no kernel: it may be reference or native"


def test_the_reference_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "reference")
    forget()
    assert kernels.chosen() == "reference"


DAMAGES = ["cut short", "overwritten", "of another version", "nothing"]


def damage(damaged: Path, kind: str) -> None:
    """Leave a binary that does not do; its digest is right where only loading can tell."""
    digest = damaged.with_name("kernel.blake2b")
    if kind == "of another version":
        altered_sources(damaged.parent, f"#define ABI {binary.ABI}", "#define ABI 999")
        assert build_hook.build(build_hook.compiler() or [], damaged.parent) is None
        return
    shutil.copy(binary.DIGEST, digest)
    held = binary.BINARY.read_bytes()
    damaged.write_bytes({"cut short": held[:5000], "overwritten": held[:-800] + bytes(800), "nothing": b""}[kind])
    if kind == "nothing":
        digest.write_text(hashlib.blake2b(b"").hexdigest())


@needs_binary
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_binary_is_one_warning_and_the_reference(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "of another version" and build_hook.compiler() is None:
        pytest.skip("there is no C compiler")
    damaged = tmp_path / binary.BINARY.name
    damage(damaged, kind)
    monkeypatch.setattr(binary, "BINARY", damaged)
    monkeypatch.setattr(binary, "DIGEST", damaged.with_name("kernel.blake2b"))
    monkeypatch.delenv(kernels.KERNEL_VARIABLE, raising=False)
    forget()
    with pytest.warns(RuntimeWarning, match="the native kernel cannot be used") as caught:
        assert [kernels.chosen() for _ in range(2)] == ["reference", "reference"]
    assert len(caught) == 1
    assert str(caught[0].message).endswith("): the reference gives the same values, more slowly")
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "native")
    forget()
    with pytest.raises(kernels.KernelError) as refused:
        kernels.kernel()
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("): pip install --force-reinstall initplug")


def test_without_a_binary_the_reference_does_it_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "BINARY", tmp_path / "kernel.bin")
    monkeypatch.setattr(binary, "DIGEST", tmp_path / "kernel.blake2b")
    monkeypatch.delenv(kernels.KERNEL_VARIABLE, raising=False)
    forget()
    assert kernels.chosen() == "reference"
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "native")
    forget()
    with pytest.raises(kernels.KernelError, match="it was not built"):
        kernels.kernel()


# Building --------------------------------------------------------------------------------------------------------


def test_a_compiler_that_fails_is_told_in_a_line_and_leaves_no_binary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = tmp_path / "kernel.bin"
    built.write_bytes(b"an older one")
    (tmp_path / "kernel.c").write_text("this is no C\n")
    for command in (["cc"] if shutil.which("cc") else [], ["no-such-compiler"], None):
        if command == []:
            continue
        assert not build_hook.build_or_tell(command, tmp_path)
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and told.startswith("initplug: the native kernel is not built (")
        assert [path.name for path in tmp_path.iterdir()] == ["kernel.c"]


@pytest.mark.skipif(build_hook.compiler() is None, reason="there is no C compiler")
def test_a_binary_is_built_with_its_digest(tmp_path: Path) -> None:
    altered_sources(tmp_path)
    built = tmp_path / binary.BINARY.name
    assert build_hook.build_or_tell(build_hook.compiler(), tmp_path)
    assert hashlib.blake2b(built.read_bytes()).hexdigest() == (tmp_path / "kernel.blake2b").read_text().strip()
    names = {"kernel.bin", "kernel.blake2b", *(path.name for path in SOURCES)}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_hook_and_the_kernel_call_the_binary_the_same() -> None:
    assert binary.BINARY == build_hook.BINARY
    assert binary.DIGEST == build_hook.DIGEST
    assert f"#define ABI {binary.ABI}\n" in Path(kernels.__file__).with_name("kernel.c").read_text()
    assert f"#define BLOCK {reference.BLOCK} " in Path(kernels.__file__).with_name("kernel.c").read_text()
    assert f"#define PANEL {qr_reference.PANEL} " in Path(kernels.__file__).with_name("qr.c").read_text()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("reference", "initplug, version {}, reference kernel, torch {}\n"),
        ("nought", "INITPLUG_KERNELS is 'nought', which is no kernel: it may be reference or native\n"),
    ],
)
def test_the_version_tells_which_kernel_is_in_use(wanted: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "initplug", "--version"],
        cwd=ROOT,
        env={**os.environ, kernels.KERNEL_VARIABLE: wanted},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout or done.stderr) == told.format(initplug.__version__, importlib.metadata.version("torch"))
    assert done.returncode == (0 if wanted == "reference" else 1)


@needs_binary
@pytest.mark.parametrize(("level", "told"), [(0, ""), (1, " (AVX2)"), (2, " (AVX-512)"), (None, "")])
def test_the_instructions_that_the_kernel_makes_use_of_are_told(
    level: int | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = SimpleNamespace() if level is None else SimpleNamespace(instructions=lambda: level)
    monkeypatch.setattr(kernels, "chosen", lambda: "native")
    monkeypatch.setattr(binary, "library", lambda: library)
    assert kernels.described_kernel() == f"native kernel{told}"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the system tells otherwise what its processor has")
@pytest.mark.skipif(build_hook.compiler() is None, reason="there is no C compiler")
def test_the_kernel_finds_the_instructions_that_the_system_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered_sources(tmp_path)
    assert build_hook.build(build_hook.compiler() or [], tmp_path) is None
    monkeypatch.setattr(binary, "BINARY", tmp_path / "kernel.bin")
    monkeypatch.setattr(binary, "DIGEST", tmp_path / "kernel.blake2b")
    forget()
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    wide = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    level = 2 if wide | {"avx2", "bmi2"} <= flags else 1 if {"avx2", "bmi2"} <= flags else 0
    assert binary.library().instructions() == level


def test_an_unknown_kernel_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.KERNEL_VARIABLE, "nought")
    forget()
    layer = nn.Linear(3, 3)
    before = layer.weight.clone()
    for seed in (0, None):
        with pytest.raises(initplug.ApplyError, match="INITPLUG_KERNELS is 'nought'"):
            initplug.apply(layer, {"rules": {"*": "normal"}}, seed=seed)
        with pytest.raises(initplug.ApplyError, match="INITPLUG_KERNELS is 'nought'"):
            initplug.audit(layer, {"rules": {"*": "normal"}}, seed=seed)
    assert torch.equal(layer.weight, before)


def test_the_table_of_normals_is_held_while_a_kernel_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Threads that are the first to ask for it each load one, of which the cache keeps the last alone.
    loaded: list[weakref.ref[Any]] = []

    def load() -> NDArray[np.float32]:
        table = reference.normal_table().copy()
        loaded.append(weakref.ref(table))
        return table

    def fill(*_: object) -> None:
        assert loaded[-1]() is not None, "its memory is another's by now"

    monkeypatch.setattr(native, "normal_table", load)
    monkeypatch.setattr(native, "library", lambda: SimpleNamespace(fill=fill))
    out = np.zeros((1, 8), np.float32)
    draws = table_of([Draw()])
    runs = (np.zeros(1, np.int64), 8)
    native.fill(addresses_of(out), "float32", draws, np.zeros((1, 2), np.uint64), runs, 0, 8)
    assert len(loaded) == 1
