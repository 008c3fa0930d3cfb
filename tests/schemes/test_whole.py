"""Whole tensors from given numbers: torch and LAPACK as oracles, the laws, and the same bits everywhere."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import nn

import initplug
from initplug import kernels
from initplug.kernels.qr_reference import BLOCK, PANEL, in_strips
from initplug.schemes.structures.base import Structured
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.orthogonal import DeltaOrthogonal, Orthogonal
from initplug.schemes.structures.sincos import SinCos
from initplug.schemes.structures.sparse import Sparse


@dataclass(frozen=True)
class Drawn:
    """A draw from NumPy's generators."""

    shape: tuple[int, ...]
    seed: int = 0

    def _generator(self, tag: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *tag.encode()])

    def normal(self, tag: str = "") -> NDArray[np.float32]:
        return self._generator(tag).standard_normal(self.shape, np.float32)

    def uniform(self, tag: str = "") -> NDArray[np.float32]:
        return self._generator(tag).random(self.shape, np.float32)


@dataclass(frozen=True)
class Given:
    """A draw of these numbers."""

    normals: Any
    uniforms: Any = ()

    def normal(self, tag: str = "") -> NDArray[np.float32]:
        assert tag == ""
        return np.array(self.normals, np.float32)

    def uniform(self, tag: str = "") -> NDArray[np.float32]:
        assert tag == "zeros"
        return np.array(self.uniforms, np.float32)


NOTHING = Given(None)
"""For what is not random: reading it would give no shape."""


def orthogonal(shape: tuple[int, ...], gain: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return Orthogonal(gain, shape[0], math.prod(shape[1:])).compute(shape, Drawn(shape, seed))


def orthonormalized(matrix: NDArray[Any]) -> NDArray[np.float64]:
    strips = in_strips(matrix)
    kernels.kernel().orthonormalize(strips, matrix.shape[1])
    return np.concatenate([*strips], axis=1)[:, : matrix.shape[1]]


# Orthogonal ---------------------------------------------------------------------------------------------------

SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (17, 16), (16, 33), (64, 64), (130, 129), (300, 20), (40, 3, 3, 3)]


@pytest.mark.parametrize("shape", [*SHAPES, (700, 300), (PANEL * 2 + 1, PANEL * 4), (BLOCK * 2 + 1, 5)])
@pytest.mark.parametrize("gain", [1.0, -0.3])
def test_orthogonal_is_q_of_torchs_decomposition_with_the_signs_of_r_made_positive(
    shape: tuple[int, ...], gain: float
) -> None:
    normals = torch.from_numpy(Drawn(shape).normal()).double().flatten(1)
    wide = normals.shape[0] < normals.shape[1]
    q, r = torch.linalg.qr(normals.T if wide else normals)
    q *= r.diagonal().sign()
    expected = (gain * (q.T if wide else q)).float().reshape(shape)
    np.testing.assert_allclose(orthogonal(shape, gain), expected.numpy(), rtol=0, atol=1e-7)


@given(st.integers(1, 80), st.integers(1, 80), st.floats(-3, 3), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_shorter_side_of_an_orthogonal_matrix_is_orthonormal(
    rows: int, columns: int, gain: float, seed: int
) -> None:
    values = orthogonal((rows, columns), gain, seed)
    assert values.dtype == np.float32 and values.shape == (rows, columns)
    q = values.astype(np.float64) if rows >= columns else values.T.astype(np.float64)
    np.testing.assert_allclose(q.T @ q, gain**2 * np.eye(q.shape[1]), rtol=0, atol=1e-6 * max(1, gain**2))


@pytest.mark.parametrize("shape", [(600, 400), (PANEL, PANEL), (PANEL * 3 - 1, PANEL * 2 + 1), (3000, 40), (513, 512)])
def test_in_double_precision_it_is_the_decomposition_of_lapack(shape: tuple[int, int]) -> None:
    normals = np.random.default_rng(0).standard_normal(shape)
    expected, r = np.linalg.qr(normals)
    expected *= np.sign(r.diagonal())
    q = orthonormalized(normals)
    np.testing.assert_allclose(q.T @ q, np.eye(shape[1]), rtol=0, atol=1e-14)
    condition = np.linalg.cond(normals)
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-14 * condition)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_what_is_decomposed_does_not_matter(scale: float) -> None:
    normals = np.random.default_rng(0).standard_normal((50, 40))
    np.testing.assert_allclose(orthonormalized(normals * scale), orthonormalized(normals), rtol=0, atol=1e-13)


@pytest.mark.parametrize("matrix", [np.vander(np.linspace(0, 1, 60), 40, increasing=True), np.ones((70, 50))], ids=len)
def test_an_ill_conditioned_matrix_still_gives_orthonormal_columns(matrix: NDArray[np.float64]) -> None:
    assert np.linalg.cond(matrix) > 1e15
    q = orthonormalized(matrix)
    np.testing.assert_allclose(q.T @ q, np.eye(matrix.shape[1]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (40, 40)])
def test_zeros_have_the_identity_as_q(shape: tuple[int, int]) -> None:
    zeros = np.zeros(shape, np.float32)
    np.testing.assert_array_equal(Orthogonal(2.0, *shape).compute(shape, Given(zeros)), 2 * np.eye(*shape))


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 3), (4, 0, 3)])
def test_empty_tensors_stay_empty(shape: tuple[int, ...]) -> None:
    distribution = Orthogonal(1.0, shape[0], math.prod(shape[1:]))
    assert distribution.compute(shape, NOTHING).shape == shape
    assert distribution.peak(shape) == 0


def test_orthogonal_matrices_are_uniform() -> None:
    count, size = 4000, 4
    drawn = np.stack([orthogonal((size, size), seed=seed) for seed in range(count)]).astype(np.float64)
    assert np.abs(drawn.mean(0)).max() < 5 / math.sqrt(size * count)
    for row, column in [(0, 0), (3, 3), (1, 2)]:
        # The square of an element of a uniform unit vector is Beta(1/2, (n-1)/2).
        law = stats.kstest(drawn[:, row, column] ** 2, stats.beta(0.5, (size - 1) / 2).cdf)
        assert law.pvalue > 1e-3
    assert np.mean(np.linalg.det(drawn) > 0) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(count))
    trace = drawn.trace(axis1=1, axis2=2)
    assert np.mean(trace**2) == pytest.approx(1, abs=5 * math.sqrt(2 / count)), "E tr² is 1 under Haar's measure alone"


@pytest.mark.parametrize("shape", [(8, 4, 3), (8, 8, 4, 5), (6, 2, 1, 3, 2), (1, 1, 2)])
def test_delta_orthogonal_holds_the_orthogonal_matrix_of_the_normals_at_its_centre(shape: tuple[int, ...]) -> None:
    rows, columns, *kernel = shape
    centre = np.ravel_multi_index([(size - 1) // 2 for size in kernel], kernel)
    values = DeltaOrthogonal(1.5, rows, columns, math.prod(kernel)).compute(shape, Drawn(shape))
    flat, normals = (array.reshape(rows, columns, -1)[..., centre] for array in (values, Drawn(shape).normal()))
    matrix = Given(normals)
    np.testing.assert_array_equal(flat, Orthogonal(1.5, rows, columns).compute((rows, columns), matrix))
    assert np.count_nonzero(values) == rows * columns


# The same bits everywhere -------------------------------------------------------------------------------------

DIGEST = """
import hashlib
import numpy as np
from initplug import kernels
from initplug.kernels.qr_reference import in_strips

bits = hashlib.sha256()
for rows, columns in [(1000, 129), (704, 257), (5000, 40), (3, 3)]:  # LAPACK's bits vary with threads for most
    numbers = np.arange(rows * columns, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    matrix = ((numbers >> np.uint64(40)).astype(np.float64) - 2.0**23).reshape(rows, columns)
    strips = in_strips(matrix)
    kernels.kernel().orthonormalize(strips, columns)
    bits.update(strips.tobytes())
print(bits.hexdigest())
"""
"""The bits of Q, in double precision, of integers that need no library to be drawn."""

PINNED = "3e80c61a4730c76c951b97f07516782c8e820a5ace0d95f3ce6c73bed8e67a20"


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"INITPLUG_KERNELS": "reference"},
        {"INITPLUG_KERNELS": "reference", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 X86_V3 X86_V4"},
    ],
    ids=lambda setting: " ".join(f"{key}={value}" for key, value in setting.items()) or "as it is",
)
def test_the_bits_depend_on_neither_threads_nor_processor(setting: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIGEST],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | setting,
    )
    assert done.stdout.strip() == PINNED


# Sparse -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 20), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_column_of_a_sparse_matrix_has_its_zeros_and_else_the_normals(
    rows: int, columns: int, sparsity: float, seed: int
) -> None:
    shape, scale = (rows, columns), 0.3
    values = Sparse(scale, sparsity, rows).compute(shape, Drawn(shape, seed))
    zeros = values == 0
    assert (zeros.sum(0) == math.ceil(sparsity * rows)).all()
    expected = Drawn(shape, seed).normal() * np.float32(scale)
    np.testing.assert_array_equal(values[~zeros], expected[~zeros])


def test_zeros_lie_where_the_uniform_numbers_are_smallest_and_ties_go_to_the_first() -> None:
    uniforms = [[0.5, 0.2, 0.0], [0.1, 0.2, 0.0], [0.3, 0.2, 0.9], [0.3, 0.1, 0.0]]
    values = Sparse(1.0, 0.5, 4).compute((4, 3), Given(np.ones((4, 3)), uniforms))
    assert values.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1]]


def test_the_zeros_of_a_sparse_matrix_do_not_depend_on_its_values() -> None:
    shape, uniforms = (30, 7), Drawn((30, 7)).uniform("zeros")
    one, other = (
        Sparse(scale, 0.3, 30).compute(shape, Given(Drawn(shape, seed).normal(), uniforms))
        for scale, seed in [(1.0, 1), (5.0, 2)]
    )
    assert ((one == 0) == (other == 0)).all() and not (one == other).all(axis=0).any()


def test_zeros_fall_on_every_row_alike() -> None:
    shape = (10, 20000)
    zeros = Sparse(1.0, 0.25, 10).compute(shape, Drawn(shape)) == 0
    np.testing.assert_allclose(zeros.mean(1), 0.3, rtol=0, atol=5 * math.sqrt(0.3 * 0.7 / shape[1]))


def test_a_sparse_matrix_of_scale_zero_is_zero() -> None:
    assert not Sparse(0.0, 0.1, 5).compute((5, 4), Drawn((5, 4))).any()


# What is not random -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4, 3), (4, 6, 3), (6, 2, 4, 5), (12, 5, 1, 2, 3), (3, 0, 3)])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("gain", [1.0, -0.7])
def test_dirac_is_torchs(shape: tuple[int, ...], groups: int, gain: float) -> None:
    if shape[0] % groups:
        groups = shape[0]
    expected = nn.init.dirac_(torch.empty(shape), groups) * gain
    np.testing.assert_array_equal(Dirac(gain, groups, shape).compute(shape, NOTHING), expected.numpy())


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (1, 1)])
@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_eye_is_torchs(shape: tuple[int, int], gain: float) -> None:
    expected = nn.init.eye_(torch.empty(shape)) * gain
    np.testing.assert_array_equal(Eye(gain, *shape).compute(shape, NOTHING), expected.numpy())


@pytest.mark.parametrize("shape", [(50, 24), (1, 50, 24), (1, 1, 50, 24)])
def test_a_position_table_is_its_values_rounded(shape: tuple[int, ...]) -> None:
    table = SinCos(0.5, 2, 1, 10000.0, 50, 24)
    values = table.compute(shape, NOTHING)
    np.testing.assert_array_equal(values, torch.from_numpy(table.values()).float().reshape(shape).numpy())
    assert values.dtype == np.float32


# All of them --------------------------------------------------------------------------------------------------

ALL: list[tuple[Structured, tuple[int, ...]]] = [
    (Orthogonal(1.5, 300, 200), (300, 200)),
    (Orthogonal(0.5, 64, 576), (64, 64, 3, 3)),
    (DeltaOrthogonal(2.0, 128, 64, 9), (128, 64, 3, 3)),
    (Dirac(0.7, 4, (64, 32, 3)), (64, 32, 3)),
    (Eye(3.0, 200, 90), (200, 90)),
    (Sparse(0.01, 0.35, 400), (400, 300)),
    (SinCos(1.0, 2, 1, 10000.0, 197, 384), (1, 197, 384)),
]


@pytest.mark.parametrize(("distribution", "shape"), ALL, ids=str)
def test_the_moments_are_those_of_the_distribution(distribution: Structured, shape: tuple[int, ...]) -> None:
    values = distribution.compute(shape, Drawn(shape)).astype(np.float64)
    assert values.mean() == pytest.approx(distribution.mean, abs=6 * distribution.std / math.sqrt(values.size))
    # Of a fixed sum of squares the square of the mean alone is missing.
    tolerance = 6 * math.sqrt((distribution.law.kurtosis - 1) / (4 * values.size)) + 18 / values.size + 1e-6
    assert values.std() == pytest.approx(distribution.std, rel=tolerance)
    assert distribution.low <= values.min() and values.max() <= distribution.high


@pytest.mark.parametrize(("distribution", "shape"), ALL, ids=str)
def test_the_same_numbers_give_the_same_bits(distribution: Structured, shape: tuple[int, ...]) -> None:
    digests = {hashlib.sha256(distribution.compute(shape, Drawn(shape)).tobytes()).digest() for _ in range(3)}
    assert len(digests) == 1


LARGE: list[tuple[Structured, tuple[int, ...]]] = [
    (Orthogonal(1.0, 700, 700), (700, 700)),
    (Orthogonal(1.0, 30, 40000), (30, 40000)),
    (Orthogonal(1.0, 20000, 150), (20000, 150)),
    (DeltaOrthogonal(1.0, 512, 256, 9), (512, 256, 3, 3)),
    (Dirac(1.0, 1, (512, 512, 3)), (512, 512, 3)),
    (Eye(1.0, 900, 900), (900, 900)),
    (Sparse(1.0, 0.5, 900), (900, 900)),
    (SinCos(1.0, 1, 0, 10000.0, 900, 900), (900, 900)),
    (SinCos(1.0, 2, 0, 10000.0, 900, 900), (900, 900)),
]


@pytest.mark.parametrize(("distribution", "shape"), LARGE, ids=str)
def test_the_stated_peak_holds_and_is_near(distribution: Structured, shape: tuple[int, ...]) -> None:
    tracemalloc.start()
    try:
        distribution.compute(shape, Drawn(shape))
        measured = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert measured <= distribution.peak(shape) + 2**16
    assert measured >= distribution.peak(shape) / 1.5


def test_the_plan_states_the_peak_of_every_tensor_that_is_drawn_whole() -> None:
    model = nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 1500, device="meta"), nn.Linear(1500, 10))
    rules = {"*": "normal", "0.weight": "orthogonal", "1.weight": {"fn": "orthogonal", "split": 3}}
    plan = initplug.plan(model, {"rules": rules})
    assert {row.name: row.peak for row in plan} == {
        "0.weight": Orthogonal(1.0, 200, 300).peak((200, 300)),
        "0.bias": None,
        "1.weight": Orthogonal(1.0, 500, 200).peak((500, 200)),
        "1.bias": None,
        "2.weight": None,
        "2.bias": None,
    }
    assert plan.summary["peak"] == plan["1.weight"].peak == plan.to_dict()["rows"][2]["peak"]
    assert "at a time" not in plan.headline()


def test_a_peak_beyond_that_of_chunks_is_told_of() -> None:
    with torch.device("meta"):
        model = nn.Linear(4096, 4096, bias=False)
    assert (
        "; under a seed up to 256 MB at a time for tensors drawn whole"
        in initplug.plan(model, {"rules": {"*": "orthogonal"}}).headline()
    )
