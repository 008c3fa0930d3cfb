"""Fans along axes and effective fans, against variances of real layers and formulas of other frameworks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import QUIET
from torch import nn

import initplug
from initplug.schemes.fans import Axes, AxisError, Fans, fans_along


def fans_of_jax(shape: Sequence[int], in_axis: Sequence[int], out_axis: Sequence[int]) -> tuple[float, float]:
    """jax/_src/nn/initializers.py, _compute_fans, without batch axes."""
    in_size = math.prod(shape[axis] for axis in in_axis)
    out_size = math.prod(shape[axis] for axis in out_axis)
    receptive_field_size = math.prod(shape) / in_size / out_size
    return in_size * receptive_field_size, out_size * receptive_field_size


@given(st.data())
def test_axes_count_as_in_jax(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    order = data.draw(st.permutations(range(len(shape))))
    count = data.draw(st.integers(2, len(shape)))
    cut = data.draw(st.integers(1, count - 1))
    signs = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    axes = [axis - len(shape) if sign else axis for axis, sign in zip(order, signs, strict=False)]
    into, out = axes[:cut], axes[cut:count]
    found = fans_along(shape, Axes(tuple(into), tuple(out)))
    assert (found.fan_in, found.fan_out) == pytest.approx(fans_of_jax(shape, into, out))


def model_of(*shape: int) -> nn.Module:
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(torch.zeros(shape)))
    return module


def row_of(module: nn.Module, init: Any, name: str = "w") -> initplug.Assignment:
    return initplug.plan(module, {**QUIET, "rules": {"r": {"match": name, "init": init}}})[name]


def test_axes_of_matrices_and_heads() -> None:
    row = row_of(model_of(300, 40), {"fn": "kaiming_normal", "nonlinearity": "linear", "fans": {"in": 0, "out": 1}})
    assert (row.fan_in, row.fan_out) == (300, 40)
    assert row.std == pytest.approx(1 / math.sqrt(300))
    row = row_of(model_of(8, 512, 64), {"fn": "xavier_uniform", "fans": {"in": 1, "out": [0, 2]}})
    assert (row.fan_in, row.fan_out) == (512, 512)
    assert row.high == pytest.approx(math.sqrt(6 / 1024))


def test_axes_are_counted_in_the_part_without_its_stack() -> None:
    init = {"fn": "kaiming_normal", "split": 2, "dim": 2, "batch_dims": 1, "fans": {"in": 0, "out": 1}}
    row = row_of(model_of(5, 12, 8), init)
    assert (row.fan_in, row.fan_out) == (12, 4)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"in": 0, "out": 0}, "kaiming_normal: fans: axis 0 is given twice ({in: 0, out: 0})"),
        ({"in": [0, -2], "out": 1}, "kaiming_normal: fans: axis 0 is given twice ({in: [0, -2], out: 1})"),
        ({"in": 0, "out": 2}, "kaiming_normal: fans: there is no axis 2 among 2 dimensions"),
        ({"in": -3, "out": 1}, "kaiming_normal: fans: there is no axis -3 among 2 dimensions"),
    ],
)
def test_axes_that_a_tensor_does_not_have_are_told_with_the_slot(axes: Any, reason: str) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        row_of(model_of(6, 4), {"fn": "kaiming_normal", "fans": axes})
    assert f"w (6, 4): {reason}; rule 'r'" in str(caught.value)


def test_one_dimension_has_no_two_axes() -> None:
    with pytest.raises(AxisError, match=r"there is no axis 1 among 1 dimension$"):
        fans_along((4,), Axes((0,), (1,)))


@pytest.mark.parametrize(
    ("fans", "message"),
    [
        ("{in: 0}", "fans: fans needs out (such as fans: {in: 0, out: 1})"),
        ("{in: 0, out: x}", "fans.out: 'x' is no dimension, nor a list of them (such as fans: {in: 0, out: 1})"),
        ("{in: 0, out: []}", "fans.out: [] is no dimension, nor a list of them"),
        ("{in: 0, out: 1, batch: 2}", "fans.batch: fans takes no batch (it takes in and out: {in: 0, out: 1})"),
        ("{in: 0, out: true}", "fans.out: true is no dimension, nor a list of them"),
    ],
)
def test_bad_axes_have_their_message(fans: str, message: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(f"rules:\n  r: {{match: a*, init: {{fn: normal, fans: {fans}}}}}\n")
    assert f"rules.r.init.{message}" in str(caught.value)


@pytest.mark.parametrize("fn", ["orthogonal", "delta_orthogonal", "dirac", "eye"])
def test_structures_take_no_axes(fn: str) -> None:
    with pytest.raises(initplug.RecipeError, match=rf"{fn} has no fans to count along axes \(remove fans\)"):
        initplug.load({"rules": {"a*": {"fn": fn, "fans": {"in": 0, "out": 1}}}})


# Effective fans.

TRANSPOSED = [
    nn.ConvTranspose1d(64, 32, 4, stride=2, padding=1, bias=False),
    nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1, bias=False),
    nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, bias=False),
    nn.ConvTranspose2d(64, 64, 2, stride=2, bias=False),
    nn.ConvTranspose2d(64, 32, (6, 4), stride=(3, 2), groups=4, bias=False),
    nn.ConvTranspose3d(32, 32, 4, stride=(2, 2, 1), padding=1, bias=False),
    nn.ConvTranspose2d(64, 64, 3, bias=False),
]


@pytest.mark.parametrize("layer", TRANSPOSED, ids=str)
def test_a_transposed_convolution_keeps_the_variance(layer: nn.Module) -> None:
    assert isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    initplug.apply(layer, {"rules": {"*": "kaiming_normal linear effective"}}, seed=0)
    size = (12,) * len(layer.kernel_size)
    torch.manual_seed(0)
    with torch.no_grad():
        out = layer(torch.randn(8, layer.in_channels, *size))
    inner = out[(..., *(slice(6, -6) for _ in size))]
    assert 0.85 < inner.var().item() < 1.15


def test_a_kernel_shorter_than_the_stride_feeds_an_output_once() -> None:
    row = row_of(nn.ConvTranspose2d(16, 8, 2, stride=3, bias=False), "kaiming_normal effective", "weight")
    assert (row.fan_in, row.fan_out) == (16, 32)


def test_a_convolution_is_fed_by_all_of_its_taps_whatever_its_stride() -> None:
    row = row_of(nn.Conv2d(8, 16, 3, stride=2, groups=2), "kaiming_normal effective", "weight")
    assert (row.fan_in, row.fan_out) == (36, 72)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(4, 3),
        nn.Conv1d(4, 3, 2),
        nn.ConvTranspose1d(4, 3, 2),
        nn.Bilinear(2, 3, 4),
        nn.LSTM(3, 4),
        nn.GRUCell(3, 4),
        nn.MultiheadAttention(4, 2),
    ],
    ids=str,
)
def test_layers_of_torch_have_a_known_layout(module: nn.Module) -> None:
    recipe = {**QUIET, "rules": {"r": {"match": "*", "init": "xavier_uniform effective", "ndim": ">=2"}}}
    rows = [row for row in initplug.plan(module, recipe) if row.rule is not None]
    assert rows
    assert {row.note for row in rows} == {None}


def test_a_row_says_where_effective_knew_no_layout() -> None:
    plan = initplug.plan(model_of(4, 3), {"rules": {"w*": "xavier_uniform effective"}})
    said = "nobody knows how its module uses it, so its effective fans are counted as torch counts them"
    assert plan["w"].note == plan["w"].to_dict()["note"] == said
    assert (plan["w"].fan_in, plan["w"].fan_out) == (Fans((4, 3)).fan_in, Fans((4, 3)).fan_out)
    assert [str(note) for note in plan.notes] == [f"rule 'w*': {said}"]
    assert f"note: rule 'w*': {said}" in str(plan)


# Groups of dirac.


@pytest.mark.parametrize("init", ["dirac effective", "dirac groups=2"])
def test_dirac_passes_the_channels_of_groups_on(init: str) -> None:
    layer, x = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), torch.randn(2, 4, 5, 5)
    for seed in (None, 0):
        audit = initplug.apply(layer, {"rules": {"*": init}}, seed=seed)
        assert torch.equal(layer(x), x)
        assert audit["weight"].verdict == "ok"


def test_dirac_passes_the_channels_of_a_grouped_transposed_convolution_on() -> None:
    layer, x = nn.ConvTranspose2d(6, 6, 3, padding=1, groups=3, bias=False), torch.randn(2, 6, 5, 5)
    initplug.apply(layer, {"rules": {"*": "dirac effective"}})
    assert torch.equal(layer(x), x)


def test_dirac_that_would_mix_groups_is_told() -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(nn.Conv2d(4, 4, 1, groups=2, bias=False), {"rules": {"*": "dirac"}})
    assert (
        "weight (4, 2, 1, 1): dirac: the convolution has 2 groups, and one group would mix them; "
        "write `dirac groups=2` or `dirac effective`; rule '*'"
    ) in str(caught.value)


def test_dirac_with_its_groups_given_has_the_bits_of_torch() -> None:
    layer, expected = nn.Conv2d(4, 4, 3, groups=2, bias=False), torch.empty(4, 2, 3, 3)
    initplug.apply(layer, {"rules": {"*": {"fn": "dirac", "groups": 1}}})
    assert torch.equal(layer.weight, nn.init.dirac_(expected))


# Cuts that cut nothing.


@pytest.mark.parametrize(
    ("init", "stds"),
    [("trunc_normal std=0.02 low=-2 high=2", "100"), ("trunc_normal cutoff=7", "7"), ("trunc_normal cutoff=3", None)],
)
def test_a_cut_that_cuts_nothing_is_remarked(init: str, stds: str | None) -> None:
    row = row_of(model_of(4, 3), init)
    assert row.note == (None if stds is None else f"its bounds lie {stds} std out, so that they cut nothing")
