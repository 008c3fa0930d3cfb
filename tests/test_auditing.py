"""Measured moments are numpy's; verdicts neither cry wolf nor sleep."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_parts import draws_well

from initplug.auditing.moments import Moments, lie_in_order, measure, measure_alike
from initplug.auditing.verdicts import judged
from initplug.filling.torch_draws import draw_from_generator
from initplug.filling.writable import unwritable
from initplug.schemes.compositions import Drawn, Keep
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda base: base,
    "transposed": lambda base: base.transpose(0, 1),
    "channels_last": lambda base: base.contiguous(memory_format=torch.channels_last),
    "every second": lambda base: base[::2, 1:],
    "expanded": lambda base: base[:1].expand(5, *base.shape[1:]),
    "half": lambda base: base.half(),
    "bfloat16": lambda base: base.bfloat16(),
    "double": lambda base: base.double(),
    "int64": lambda base: (base * 10).long(),
    "bool": lambda base: base > 0,
    "0-d": lambda base: base[0, 0, 0, 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_moments_are_those_of_numpy(layout: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("initplug.auditing.moments.MEASURED_AT_A_TIME", chunk)
    base = torch.randn(6, 4, 5, 3, generator=torch.Generator().manual_seed(0)) + 2
    tensor = LAYOUTS[layout](base)
    values = tensor.double().numpy()
    moments = measure(tensor)
    assert moments is not None
    assert moments.numel == values.size
    assert moments.mean == pytest.approx(values.mean(), rel=1e-6)
    assert moments.std == pytest.approx(values.std(), rel=1e-5, abs=1e-12)
    assert (moments.min, moments.max) == (values.min(), values.max())


def test_a_constant_has_no_spread_however_it_rounds() -> None:
    assert measure(torch.full((3_000_001,), 0.1)) == Moments(
        3_000_001, *(float(np.float32(0.1)) * w for w in (1, 0, 1, 1))
    )


NARROW: dict[str, Callable[[Tensor], Tensor]] = {
    "as drawn": lambda base: base,
    "far from zero": lambda base: 4096 + base / 4096,
    "half": lambda base: base.half(),
    "bfloat16": lambda base: base.bfloat16(),
    "one constant among them": lambda base: torch.cat([torch.full_like(base[:1], 0.1), base[1:]]),
    "constants": lambda base: torch.full_like(base, 0.1),
    "different constants": lambda base: base[:, :1, :1].expand(base.shape).clone(),
    "of one element": lambda base: base[:, :1, :1],
    "every second": lambda base: base[:, ::2, 1:],
}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("batch", [1, 40, 1 << 18])
def test_moments_of_small_tensors_at_once_are_those_of_numpy(
    name: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("initplug.auditing.moments.MEASURED_AT_A_TIME", batch)
    tensors = NARROW[name](torch.randn(30, 6, 5, generator=torch.Generator().manual_seed(0))).unbind(0)
    found = measure_alike(tensors, in_order=lie_in_order(tensors))
    assert found.rows.tolist() == list(range(30))
    for tensor, moments in zip(tensors, found, strict=True):
        values = tensor.double().numpy()
        assert moments is not None
        assert moments.numel == values.size
        assert moments.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-15)
        assert moments.std == pytest.approx(values.std(), rel=1e-12, abs=1e-15)
        assert (moments.min, moments.max) == (values.min(), values.max())
        if values.min() == values.max():
            assert moments.std == 0
            assert moments.mean == values.min()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_in_its_own_moments_alone(wrong: float) -> None:
    tensors = [torch.ones(4), torch.arange(4.0), torch.tensor([0.0, wrong, 1.0, 2.0]), torch.full((4,), wrong)]
    *fine, mixed, whole = measure_alike(tensors, in_order=lie_in_order(tensors))
    assert fine == [measure(tensor) for tensor in tensors[:2]]
    for moments, tensor in ((mixed, tensors[2]), (whole, tensors[3])):
        assert moments is not None
        assert not all(map(math.isfinite, moments))
        for place in range(4):  # whichever element is the first
            alone = measure(tensor.roll(place))
            at_once = measure_alike([tensor.roll(place), tensors[1]], in_order=lie_in_order([tensor]))[0]
            assert alone is not None and at_once is not None
            assert np.array_equal(alone, at_once, equal_nan=True)


def test_a_padding_row_is_left_out() -> None:
    table = torch.arange(12.0).reshape(4, 3)
    for row in range(4):
        kept = np.delete(table.numpy(), row, axis=0)
        moments = measure(table, padding_row=row)
        assert moments is not None
        assert moments.mean == pytest.approx(kept.mean())
        assert moments.numel == 9


def test_what_has_no_moments() -> None:
    assert measure(torch.zeros(0, 3)) is None


def test_complex_elements_have_the_moments_of_numpy() -> None:
    tensor = torch.randn(500, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)) + 2
    moments = measure(tensor)
    assert moments is not None
    assert moments.mean == pytest.approx(tensor.numpy().real.mean(), rel=1e-6)
    values = tensor.numpy().astype(np.complex128)
    assert moments.std == pytest.approx(np.sqrt(np.mean(np.abs(values - values.real.mean()) ** 2)), rel=1e-6)
    assert judged(Normal(2.0, 1.0), moments, torch.complex64) == "ok"
    assert judged(Normal(2.0, 1.5), moments, torch.complex64) == "differs"
    assert judged(Constant(2.0), measure(torch.full((3,), 2 + 0j)), torch.complex64) == "ok"
    assert judged(Constant(2.0), measure(torch.full((3,), 2 + 1j)), torch.complex64) == "differs"


@pytest.mark.parametrize("numel", [3, 5, 8, 100])
def test_equal_elements_were_not_drawn(numel: int) -> None:
    assert judged(Normal(0.0, 1.0), measure(torch.zeros(numel)), torch.float32) == "differs"
    assert judged(Uniform(-1.0, 1.0), measure(torch.full((numel,), 0.3)), torch.float32) == "differs"


DRAWN: list[Drawn] = [
    Normal(0.0, 0.02),
    Normal(3.0, 1e-6),
    Uniform(-0.1, 0.1),
    Uniform(0.0, 1.0),
    TruncatedNormal(0.0, 0.02, -0.04, 0.04),
    TruncatedNormal(0.0, 1.0, 1.0, 3.0),
    TruncatedNormal(0.0, 0.02, -2.0, 2.0),
    TruncatedNormal(0.0, 1.0, 3.0, 5.0),
]


@pytest.mark.parametrize("distribution", DRAWN, ids=str)
@pytest.mark.parametrize("numel", [1, 2, 3, 5, 10, 100])
def test_no_false_alarm_in_hundreds_of_small_tensors(distribution: Drawn, numel: int) -> None:
    torch.manual_seed(0)
    dtype = torch.float64 if distribution == Normal(3.0, 1e-6) else torch.float32
    for _ in range(400):
        tensor = torch.empty(numel, dtype=dtype)
        draw_from_generator(distribution, tensor)
        assert judged(distribution, measure(tensor), dtype) == "ok", tensor


@pytest.mark.parametrize("distribution", [one for one in DRAWN if one.std > 1e-3], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_false_alarm_in_large_tensors_of_short_dtypes(distribution: Drawn, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = torch.empty(2_000_000, dtype=dtype)
    draw_from_generator(distribution, tensor)
    if not draws_well(dtype) and not isinstance(distribution, Uniform):
        assert judged(distribution, measure(tensor), dtype) == "differs"  # and rightly so
        tensor = torch.empty(2_000_000)
        draw_from_generator(distribution, tensor)
    assert judged(distribution, measure(tensor.to(dtype)), dtype) == "ok"


@pytest.mark.parametrize("distribution", DRAWN, ids=str)
@pytest.mark.parametrize(
    "spoil",
    [lambda t, d: t * 1.1 - 0.1 * d.mean, lambda t, d: t + 0.2 * d.std, lambda t, d: t * 0.9 + 0.1 * d.mean],
    ids=["wider", "shifted", "narrower"],
)
def test_ten_percent_off_is_seen_in_ten_thousand_elements(
    distribution: Drawn, spoil: Callable[[Tensor, Drawn], Tensor]
) -> None:
    torch.manual_seed(0)
    tensor = torch.empty(10_000, dtype=torch.float64)
    draw_from_generator(distribution, tensor)
    assert judged(distribution, measure(tensor), torch.float64) == "ok"
    assert judged(distribution, measure(spoil(tensor, distribution)), torch.float64) == "differs"


def test_one_element_out_of_bounds_is_seen() -> None:
    tensor = torch.zeros(1000).uniform_(-1, 1)
    tensor[3] = 1.01
    assert judged(Uniform(-1.0, 1.0), measure(tensor), torch.float32) == "differs"


def test_one_element_that_is_not_finite_is_seen() -> None:
    for value in (math.nan, math.inf):
        tensor = torch.randn(1000)
        tensor[3] = value
        assert judged(Normal(0.0, 1.0), measure(tensor), torch.float32) == "differs"


@given(st.floats(-1e4, 1e4), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_constants_agree_after_the_cast_and_only_then(value: float, dtype: torch.dtype) -> None:
    tensor = torch.full((4,), value, dtype=dtype)
    assert judged(Constant(value), measure(tensor), dtype) == "ok"
    tensor[2] = torch.nextafter(tensor[2].float(), torch.tensor(math.inf)) if dtype == torch.float32 else tensor[2] + 64
    assert judged(Constant(value), measure(tensor), dtype) == "differs"


def test_what_was_not_drawn_is_untestable() -> None:
    moments = measure(torch.randn(10))
    assert judged(Keep(), moments, torch.float32) == "untestable"
    assert judged(None, moments, torch.float32) == "untestable"
    assert judged(Constant(0.0), None, torch.float32) == "untestable"


@pytest.mark.parametrize("distribution", [*DRAWN, Constant(0.5)], ids=str)
@pytest.mark.parametrize("factor", [2.0, -0.5, 1.0])
def test_scaling_scales_every_moment(distribution: Drawn, factor: float) -> None:
    result = distribution.times(factor)
    assert result.mean == pytest.approx(distribution.mean * factor)
    assert result.std == pytest.approx(distribution.std * abs(factor))
    bounds = sorted((distribution.low * factor, distribution.high * factor))
    assert result.low == pytest.approx(bounds[0])
    assert result.high == pytest.approx(bounds[1])


def test_what_cannot_be_filled_in_place() -> None:
    with torch.inference_mode():
        inference = torch.zeros(2)
    assert unwritable(inference) == "it is an inference tensor: apply inside torch.inference_mode()"
    assert unwritable(torch.zeros(2, 2).to_sparse()) == "its layout is sparse_coo"
    assert unwritable(torch.zeros(2, 2).t()) is None
