"""Histograms are numpy's, of the values that the model holds, and only where they are asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import initplug
from initplug.auditing.histograms import BINS, histogram

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda base: base,
    "transposed": lambda base: base.transpose(0, 1),
    "every second": lambda base: base[::2, 1:],
    "bfloat16": lambda base: base.bfloat16(),
    "double": lambda base: base.double(),
    "int64": lambda base: (base * 10).long(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [7, 1 << 16])
def test_counts_are_those_of_numpy(layout: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("initplug.auditing.moments.MEASURED_AT_A_TIME", chunk)
    tensor = LAYOUTS[layout](torch.randn(16, 25, generator=torch.Generator().manual_seed(0)))
    found = histogram(tensor, -1.5, 2.0)
    values = tensor.double().numpy()
    expected, _ = np.histogram(values, BINS, (-1.5, 2.0))
    assert np.abs(np.array(found.counts) - expected).sum() <= 2  # at the edges of bins single precision decides
    assert (found.below, found.above) == ((values < -1.5).sum(), (values > 2.0).sum())
    assert sum(found.counts) + found.below + found.above == values.size


def test_both_ends_belong_to_the_bins_and_nan_to_none() -> None:
    found = histogram(torch.tensor([-1.0, 1.0, math.nan, math.inf, -math.inf, 2.0]), -1.0, 1.0)
    assert (found.counts[0], found.counts[-1], sum(found.counts)) == (1, 1, 2)
    assert (found.below, found.above) == (1, 2)


def test_a_padding_row_is_not_counted() -> None:
    table = torch.ones(4, 3)
    table[2] = 0
    assert sum(histogram(table, 0.0, 1.0, padding_row=2).counts) == 9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-320, 1e-44, 1e-38, 1.0, 1e38])
def test_windows_of_any_size(dtype: torch.dtype, size: float) -> None:
    tensor = torch.linspace(-1, 1, 101, dtype=torch.float64).mul(size).to(dtype)
    found = histogram(tensor, -size, size)
    assert sum(found.counts) + found.below + found.above == 101
    assert found.below == found.above == 0


RULES = {"rules": {"*.weight": "normal std=0.02", "*.bias": 0}}


def test_every_slot_that_varies_is_counted_whole() -> None:
    model = nn.Sequential(
        nn.Linear(40, 30), nn.Embedding(9, 4, padding_idx=2), parametrizations.weight_norm(nn.Linear(8, 8))
    )
    for audit in (
        initplug.apply(model, RULES, seed=0, histograms=True),
        initplug.apply(model, RULES, histograms=True),
        initplug.audit(model, RULES, histograms=True),
    ):
        assert list(audit.histograms) == ["0.weight", "1.weight", "2.weight"]
        for name, found in audit.histograms.items():
            assert sum(found.counts) + found.below + found.above == audit[name].measured_count
    values = model.get_parameter("0.weight").detach().double().numpy()
    found = audit.histograms["0.weight"]
    assert (found.low, found.high) == pytest.approx((-0.09, 0.09))
    assert np.array(found.counts) == pytest.approx(np.histogram(values, BINS, (found.low, found.high))[0], abs=1)


def test_the_window_shows_what_was_expected_and_what_is_there() -> None:
    model = nn.Linear(50, 50)
    initplug.apply(model, RULES, seed=0)
    with torch.no_grad():
        model.weight += 1
        model.weight[0, 0] = 1e6
    found = initplug.audit(model, RULES, histograms=True).histograms["weight"]
    assert found.low == pytest.approx(-0.09)
    assert 1.05 < found.high < 1e6
    assert found.above == 1
    with torch.no_grad():
        model.weight[0, 0] = math.nan
    found = initplug.audit(model, RULES, histograms=True).histograms["weight"]
    assert (found.low, found.high) == pytest.approx((-0.09, 0.09))
    assert found.above == 2499


def test_what_does_not_vary_or_was_not_measured_has_none() -> None:
    model = nn.ParameterDict({"weight": torch.zeros(4, 4, dtype=torch.complex64), "bias": torch.zeros(4)})
    assert initplug.apply(model, RULES, seed=0, histograms=True).histograms == {}
    assert initplug.apply(nn.Linear(4, 4), RULES, measure=False, histograms=True).histograms == {}
    lazy = nn.Sequential(nn.LazyLinear(4), nn.ParameterDict({"weight": torch.zeros(0, 4)}))
    assert initplug.apply(lazy, RULES, histograms=True, only="^1").histograms == {}


def test_histograms_are_plain_data_where_they_were_asked_for() -> None:
    model = nn.Linear(40, 30)
    asked = json.loads(initplug.apply(model, RULES, seed=0, histograms=True).to_json())["histograms"]
    assert asked.keys() == {"weight"}
    assert asked["weight"].keys() == {"low", "high", "counts", "below", "above"}
    assert sum(asked["weight"]["counts"]) == 1200
    assert "histograms" not in initplug.apply(model, RULES, seed=0).to_dict()


def test_counting_changes_no_value_and_moves_no_generator() -> None:
    plain, counted = nn.Linear(40, 30), nn.Linear(40, 30)
    torch.manual_seed(0)
    initplug.apply(plain, RULES)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    initplug.apply(counted, RULES, histograms=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(plain.weight, counted.weight)
