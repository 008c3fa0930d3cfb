"""Structured tensors: torch's bits where torch has the function, their defining property and moments everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nets import of_shape
from numpy.typing import NDArray
from torch import Tensor, nn

import initplug
from initplug.auditing.moments import measure
from initplug.auditing.verdicts import judged
from initplug.schemes.structures.base import Structured


def filled_by(shape: tuple[int, ...], init: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    module = of_shape(*shape, dtype=dtype)
    torch.manual_seed(3)
    audit = initplug.apply(module, {"rules": {"w*": init}})
    assert audit["w"].verdict == "ok"
    return module.get_parameter("w").detach()


BY_TORCH: list[tuple[tuple[int, ...], str, Callable[[Tensor], object]]] = [
    ((6, 6), "orthogonal", nn.init.orthogonal_),
    ((8, 3), "orthogonal", nn.init.orthogonal_),
    ((3, 8), "orthogonal relu", lambda t: nn.init.orthogonal_(t, nn.init.calculate_gain("relu"))),
    ((8, 3, 3, 3), "orthogonal 0.5", lambda t: nn.init.orthogonal_(t, 0.5)),
    ((6, 4, 3), "dirac", nn.init.dirac_),
    ((4, 6, 3, 3), "dirac", nn.init.dirac_),
    ((6, 4, 3, 3, 3), "dirac groups=2", lambda t: nn.init.dirac_(t, 2)),
    ((5, 5), "eye", nn.init.eye_),
    ((3, 7), "eye", nn.init.eye_),
    ((50, 20), "sparse 0.3", lambda t: nn.init.sparse_(t, 0.3)),
    ((50, 20), "sparse sparsity=0.11 std=2", lambda t: nn.init.sparse_(t, 0.11, 2.0)),
]


@pytest.mark.parametrize(("shape", "init", "torchs"), BY_TORCH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bits_are_those_of_torch(
    shape: tuple[int, ...], init: str, torchs: Callable[[Tensor], object], dtype: torch.dtype
) -> None:
    expected = torch.full(shape, 7.0, dtype=dtype)
    torch.manual_seed(3)
    torchs(expected)
    assert torch.equal(filled_by(shape, init, dtype), expected)


@pytest.mark.parametrize(("shape", "init"), [((64, 32), "orthogonal 2"), ((16, 8, 3), "dirac"), ((9, 9), "eye")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_dtypes_hold_the_float32_values_rounded(shape: tuple[int, ...], init: str, dtype: torch.dtype) -> None:
    assert torch.equal(filled_by(shape, init, dtype), filled_by(shape, init).to(dtype))


@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (8, 32), (16, 4, 3, 3)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    matrix = filled_by(shape, "orthogonal gain=1.5").double().flatten(1)
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    assert torch.allclose(small @ small.T, 2.25 * torch.eye(small.shape[0], dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 4, 3), (8, 8, 3, 5), (6, 2, 1, 3, 3), (4, 4, 2, 2)])
def test_delta_orthogonal_keeps_norms(shape: tuple[int, ...]) -> None:
    tensor = filled_by(shape, "delta_orthogonal gain=2").double()
    centre = tensor
    for dim in reversed(range(2, len(shape))):
        centre = centre.select(dim, (shape[dim] - 1) // 2)
    assert torch.allclose(centre.T @ centre, 4 * torch.eye(shape[1], dtype=torch.float64), atol=1e-5)
    assert tensor.count_nonzero() == centre.numel()


def mae_table(dim: int, side: int) -> NDArray[np.float64]:
    """The procedure of facebookresearch/mae, util/pos_embed.py:20-56, step by step."""
    across, down = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))

    def block(positions: NDArray[np.float32]) -> NDArray[np.float64]:
        omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=float) / (dim / 4.0))
        angles = np.einsum("m,d->md", positions.reshape(-1), omega)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    return np.concatenate([block(across), block(down)], axis=1)


def test_sincos_on_a_grid_is_that_of_mae() -> None:
    table = filled_by((1, 1 + 49, 24), "sincos grid=2 skip=1")
    assert torch.equal(table[0, 0], torch.zeros(24))
    assert torch.allclose(table[0, 1:], torch.from_numpy(mae_table(24, 7)).float(), atol=1e-6)


def test_sincos_of_a_sequence() -> None:
    table = filled_by((10, 6), "sincos base=100")
    position, frequency = 7, 2
    angle = position * 100 ** (-2 * frequency / 6)
    assert table[position, frequency] == pytest.approx(np.sin(angle), abs=1e-6)
    assert table[position, 3 + frequency] == pytest.approx(np.cos(angle), abs=1e-6)


def test_sincos_interleaved_is_that_of_the_paper() -> None:
    """The tutorial of torch: pe[:, 0::2] = sin(position·div_term), pe[:, 1::2] = cos(position·div_term)."""
    position = torch.arange(50).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, 16, 2) * (-np.log(10000.0) / 16))
    pe = torch.zeros(50, 16)
    pe[:, 0::2] = torch.sin(position * div_term)
    pe[:, 1::2] = torch.cos(position * div_term)
    assert torch.allclose(filled_by((50, 16), "sincos interleaved"), pe, atol=1e-5)


@pytest.mark.parametrize("grid", [1, 2])
def test_both_orders_hold_the_same_columns(grid: int) -> None:
    halves = filled_by((25, 24), f"sincos grid={grid} order=halves")
    woven = filled_by((25, 24), f"sincos grid={grid} order=interleaved")
    width = 24 // grid
    for block in range(grid):
        one, other = (table[:, block * width : (block + 1) * width] for table in (halves, woven))
        assert torch.equal(torch.cat([other[:, 0::2], other[:, 1::2]], dim=1), one)
    assert torch.equal(filled_by((25, 24), f"sincos grid={grid}"), halves)


def test_arange_is_the_state_matrix_of_mamba() -> None:
    """mamba_ssm/modules/mamba_simple.py: A = repeat(arange(1, d_state + 1), "n -> d n"), A_log = log(A)."""
    expected = torch.log(torch.arange(1, 17, dtype=torch.float32).repeat(24, 1))
    assert torch.allclose(filled_by((24, 16), "arange start=1 log"), expected, rtol=0, atol=2.5e-7)


def test_arange_is_the_imaginary_part_of_s4d() -> None:
    """state-spaces/s4 models/s4/s4d.py: A_imag = π·repeat(arange(N//2), 'n -> h n'), S4D-Lin."""
    expected = np.pi * torch.arange(32).repeat(8, 1)
    init = {"fn": "arange", "factor": float(np.pi)}
    assert torch.allclose(filled_by((8, 32), init), expected.float(), rtol=1e-6)


@pytest.mark.parametrize(("dim", "shape"), [(0, (5, 3)), (-2, (5, 3)), (1, (2, 4, 3)), (-1, (7,))])
def test_arange_counts_along_its_dimension(dim: int, shape: tuple[int, ...]) -> None:
    found = filled_by(shape, f"arange start=-2 step=0.5 dim={dim}")
    line = -2 + 0.5 * torch.arange(shape[dim])
    assert torch.equal(found.movedim(dim, -1), line.expand(found.movedim(dim, -1).shape))


def test_arange_counts_in_every_part_of_a_split() -> None:
    found = filled_by((6, 3), {"split": ["arange dim=0", "arange start=9 step=-1 dim=0"], "sizes": [2, 1]})
    assert found[:, 1].tolist() == [0, 1, 2, 3, 9, 8]


def test_the_dimension_of_arange_and_that_of_a_split_are_told_apart() -> None:
    with pytest.raises(initplug.RecipeError, match=r"dim may be arange's or that of split \(write split with a list"):
        initplug.load({"rules": {"w*": {"fn": "arange", "split": 2, "dim": 1}}})
    assert filled_by((4, 3), "arange split=2")[3].tolist() == [0, 1, 2]


def test_arange_of_one_number_is_a_constant() -> None:
    plan = initplug.plan(of_shape(4, 1), {"rules": {"w*": "arange start=3"}})
    assert plan["w"].distribution == initplug.Constant(3.0)


def fcn_filter(size: int) -> NDArray[np.float64]:
    """shelhamer/fcn.berkeleyvision.org, surgery.py: upsample_filt."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    og = np.ogrid[:size, :size]
    found: NDArray[np.float64] = (1 - abs(og[0] - center) / factor) * (1 - abs(og[1] - center) / factor)
    return found


def caffe_filter(size: int) -> NDArray[np.float64]:
    """BVLC/caffe include/caffe/filler.hpp: BilinearFiller."""
    f = int(np.ceil(size / 2.0))
    c = (2 * f - 1 - f % 2) / (2.0 * f)
    x, y = np.ogrid[:size, :size]
    found: NDArray[np.float64] = (1 - abs(x / f - c)) * (1 - abs(y / f - c))
    return found


@pytest.mark.parametrize("size", range(1, 10))
def test_bilinear_is_the_filter_of_fcn(size: int) -> None:
    found = filled_by((3, 3, size, size), "bilinear")
    expected = torch.zeros(3, 3, size, size)
    expected[range(3), range(3)] = torch.from_numpy(fcn_filter(size)).float()
    assert torch.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("stride", range(1, 7))
def test_bilinear_is_the_filler_of_caffe_for_its_kernels(stride: int) -> None:
    size = 2 * stride - stride % 2
    found = filled_by((4, 1, size, size), "bilinear")
    assert torch.allclose(found, torch.from_numpy(caffe_filter(size)).float().expand(4, 1, size, size), atol=1e-7)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_bilinear_enlarges_every_channel_as_interpolation_does(groups: int) -> None:
    layer = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=groups, bias=False)
    assert initplug.apply(layer, {"rules": {"*": "bilinear"}})["weight"].verdict == "ok"
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    wanted = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(layer(x)[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-5)


def test_bilinear_between_other_numbers_of_channels_is_told() -> None:
    with pytest.raises(initplug.PlanError, match="bilinear: each channel is interpolated by itself, and 6 go to 3;"):
        initplug.plan(nn.ConvTranspose2d(6, 3, 4, bias=False), {"rules": {"*": "bilinear"}})
    with pytest.raises(initplug.PlanError, match="bilinear: each channel is interpolated by itself, and 3 go to 6;"):
        initplug.plan(nn.Conv2d(3, 6, 4, bias=False), {"rules": {"*": "bilinear"}})


SHAPES = [
    ((64, 64), "orthogonal"),
    ((24, 16), "arange start=1 log"),
    ((90, 3, 2), "arange start=-3 step=0.25 dim=0"),
    ((6, 6, 4, 4), "bilinear"),
    ((8, 1, 3, 5), "bilinear"),
    ((300, 20), "orthogonal 3"),
    ((32, 16, 3, 3), "delta_orthogonal"),
    ((16, 12, 3, 3), "dirac groups=4"),
    ((30, 20), "eye"),
    ((400, 50), "sparse 0.25"),
    ((1, 50, 24), "sincos grid=2 skip=1"),
]


@pytest.mark.parametrize(("shape", "init"), SHAPES)
@pytest.mark.parametrize("factor", [1.0, -0.5])
def test_moments_are_those_of_the_values(shape: tuple[int, ...], init: str, factor: float) -> None:
    tensor = filled_by(shape, init).double() * factor
    planned = initplug.plan(of_shape(*shape), {"rules": {"w*": init}})["w"].distribution
    assert isinstance(planned, Structured)
    distribution = planned.times(factor)
    error = distribution.std / tensor.numel() ** 0.5
    assert tensor.mean().item() == pytest.approx(distribution.mean, abs=6 * error)
    assert tensor.std(correction=0).item() == pytest.approx(distribution.std, rel=0.05 if "sparse" in init else 0.01)
    assert distribution.low <= tensor.min()
    assert tensor.max() <= distribution.high
    assert judged(distribution, measure(tensor), torch.float64) == "ok"
    assert judged(distribution, measure(tensor * 1.2), torch.float64) == "differs"


MISFITS = [
    ((8,), "orthogonal", "an orthogonal tensor has at least two dimensions"),
    ((4, 4), "delta_orthogonal", "a delta-orthogonal tensor has three to five dimensions"),
    ((4, 8, 3), "delta_orthogonal", "it needs at least as many output channels as input channels, not 4 for 8"),
    ((4, 4), "dirac", "a dirac tensor has three to five dimensions"),
    ((4, 4, 3), "dirac groups=3", "3 groups do not divide 4 output channels"),
    ((4, 4, 3), "eye", "an identity matrix has two dimensions"),
    ((4,), "sparse 0.1", "a sparse matrix has two dimensions"),
    ((4,), "sincos", "a position table has two dimensions, and before them only dimensions of size 1"),
    ((2, 9, 8), "sincos", "a position table has two dimensions, and before them only dimensions of size 1"),
    ((9, 6), "sincos grid=2", "its rows need a multiple of 4 columns for sines and cosines, not 6"),
    ((8, 8), "sincos grid=2", "8 rows less 0 skipped are no square grid"),
    ((4, 4), "arange dim=2", "there is no dimension 2 to count along"),
    ((4, 4), "arange log", "logarithms are of positive numbers, and these go from 0 to 3"),
    ((4, 4), "arange start=2 step=-1 link=log", "logarithms are of positive numbers, and these go from 2 to -1"),
    ((4, 4), "bilinear", "an interpolating filter is that of a convolution, of three to five dimensions"),
    ((4, 3, 2), "bilinear", "its 4 channels do not each have one of 3 of their own"),
]


@pytest.mark.parametrize(("shape", "init", "reason"), MISFITS)
def test_a_shape_that_cannot_hold_the_structure_is_told(shape: tuple[int, ...], init: str, reason: str) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(of_shape(*shape), {"rules": {"w*": init}})
    assert f"w {shape}: {init.split()[0]} does not fit: {reason}; rule 'w*'" in str(caught.value)
