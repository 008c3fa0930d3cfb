"""What proves the presets, proven: draws are followed wherever they end up, and the tests of samples are exact."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checking import ALARM, TESTS, Sample, compared, differing, fault_of, sampled, samples_of
from recording import recorded
from scipy import stats
from torch import nn

import initplug

SEED = 5


# Draws --------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Parameters that reach their values in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.scale = nn.Parameter(torch.ones(8))
        self.table = nn.Parameter(torch.empty(8, 8).normal_(std=0.02))
        self.last = nn.Linear(16, 8, bias=False)


RECIPE = {
    "rules": {
        "^(first|last)": "default",
        "<Net>.scale": 1,
        "<Net>.table": "normal std=0.02",
    }
}


def test_passes_are_cut_where_the_order_of_the_draws_is_not_that_of_the_names() -> None:
    original = recorded(Net, SEED)
    # A module's own parameters are named before those of its children.
    assert [part.names for part in original.passes] == [("first.weight", "first.bias"), ("table", "last.weight")]
    assert str(compared(original, RECIPE)) == "every tensor to the bit"


def redrawn() -> nn.Module:
    net = Net()
    nn.init.normal_(net.first.weight, std=0.5)
    return net


def test_the_last_draw_counts_and_overwritten_ones_part_the_passes() -> None:
    original = recorded(redrawn, SEED)
    assert [part.names for part in original.passes] == [("first.bias",), ("table", "last.weight"), ("first.weight",)]
    recipe = {"rules": {**RECIPE["rules"], "first.weight": "normal std=0.5"}}
    assert compared(original, recipe).mode == "bits by only"
    assert compared(recorded(redrawn, SEED), RECIPE).mode == "distribution"


WAYS: dict[str, Callable[[torch.Tensor], Any]] = {
    "scaled in place": lambda tensor: tensor.normal_().mul_(0.5),
    "copied": lambda tensor: tensor.copy_(torch.randn(tensor.shape) * 0.5),
    "through .data": lambda tensor: tensor.data.normal_(0, 0.5),
    "through a view": lambda tensor: tensor.view(-1).normal_(0, 0.5),
    "cut by rejection": lambda tensor: nn.init.trunc_normal_(tensor, 0.0, 0.5, -3.0, 3.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_draw_is_followed(way: str) -> None:
    def build() -> nn.Module:
        torch.rand(3)  # in no parameter
        net = nn.Linear(16, 16, bias=False)
        with torch.no_grad():
            WAYS[way](net.weight)
        return net

    original = recorded(build, SEED)
    assert [part.names for part in original.passes] == [("weight",)]
    assert compared(original, {"rules": {"*": "normal std=0.5"}}).equal == 1


def test_a_copied_layer_begins_where_the_first_began() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(8, 8)
        return nn.ModuleList([layer, copy.deepcopy(layer)])

    original = recorded(build, SEED)
    assert torch.equal(original.values["0.weight"], original.values["1.weight"])
    assert compared(original, "torch_default").equal == 4


def test_a_constant_after_a_draw_is_no_draw() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(8, 8)
        nn.init.zeros_(layer.bias)
        return layer

    assert [part.names for part in recorded(build, SEED).passes] == [("weight",)]


# Samples ------------------------------------------------------------------------------------------------------------

LAWS: dict[str, tuple[Any, Any]] = {
    "normal": (initplug.Normal(1.0, 0.02), stats.norm(1.0, 0.02)),
    "uniform": (initplug.Uniform(-0.1, 0.3), stats.uniform(-0.1, 0.4)),
    "truncated": (initplug.TruncatedNormal(0.0, 1.0, -2.0, 2.0), stats.truncnorm(-2, 2)),
}
TRIALS, THRESHOLD = 600, 0.01


def sample(law: Any, count: int, generator: np.random.Generator, tensors: int = 1) -> Sample:
    drawn = law.rvs((tensors, count), random_state=generator)
    return sampled(torch.from_numpy(drawn).float())


@pytest.mark.parametrize("count", [2, 200])
@pytest.mark.parametrize("law", LAWS)
def test_false_alarms_are_no_more_than_stated_at_any_size(law: str, count: int) -> None:
    planned, scipys = LAWS[law]
    generator = np.random.default_rng(7)
    faults = [fault_of(planned, sample(scipys, count, generator), THRESHOLD) for _ in range(TRIALS)]
    alarms = sum(fault is not None for fault in faults)
    assert stats.binom.sf(alarms - 1, TRIALS, TESTS * THRESHOLD) > 1e-4
    assert alarms > 0.2 * TRIALS * THRESHOLD  # and the tests are no formality


WRONG: dict[str, tuple[Any, Any]] = {
    "std 5 % off": (initplug.Normal(0.0, 1.0), stats.norm(0, 1.05)),
    "mean off": (initplug.Normal(0.0, 1.0), stats.norm(0.08, 1)),
    "cut or not": (initplug.Normal(0.0, 1.0), stats.truncnorm(-2, 2)),
    "cut or shrunk": (initplug.Normal(0.0, 0.8796), stats.truncnorm(-2, 2)),
    "uniform of the same std": (initplug.Normal(0.0, 1.0), stats.uniform(-(3**0.5), 2 * 3**0.5)),
    "beyond the bounds": (initplug.Uniform(-1.0, 1.0), stats.uniform(-1.01, 2.02)),
    "narrower": (initplug.Uniform(-1.0, 1.0), stats.uniform(-0.95, 1.9)),
    "constant": (initplug.Normal(0.0, 1e-6), stats.norm(0, 1e-9)),
    "drawn": (initplug.Constant(0.0), stats.norm(0, 1e-6)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_found_in_the_sample_of_one_tensor(wrong: str) -> None:
    planned, scipys = WRONG[wrong]
    assert fault_of(planned, sample(scipys, 4096, np.random.default_rng(7), tensors=3), ALARM / 500) is not None


def test_a_number_that_is_none_is_found() -> None:
    tensor = torch.randn(64)
    assert fault_of(initplug.Normal(0.0, 1.0), sampled([tensor]), ALARM) is None
    tensor[7] = torch.nan
    assert fault_of(initplug.Normal(0.0, 1.0), sampled([tensor]), ALARM) is not None


def test_parts_of_a_packed_tensor_are_tested_one_by_one() -> None:
    parts = (initplug.Normal(0.0, 1.0), initplug.Normal(0.0, 2.0), initplug.Constant(0.0))
    tensor = torch.cat([torch.randn(64, 64), 2 * torch.randn(64, 64), torch.zeros(64, 64)])
    assert fault_of(initplug.Stacked(parts, 0), sampled([tensor]), ALARM) is None
    assert fault_of(initplug.Stacked(parts[::-1], 0), sampled([tensor]), ALARM) is not None


def test_a_padding_row_is_no_draw() -> None:
    def build() -> nn.Module:
        return nn.Embedding(10, 64, padding_idx=3)

    original = recorded(lambda: nn.Sequential(build()), SEED)
    samples = samples_of(lambda: nn.Sequential(build()), original, range(3))
    assert differing(initplug.plan(original.model, "torch_default"), samples) == {}
    assert compared(original, "torch_default").equal == 1


@pytest.mark.parametrize(("gain", "fine"), [(1.0, True), (1.1, False)])
def test_orthogonal_tensors_are_known_by_their_products(gain: float, fine: bool) -> None:
    tensor = nn.init.orthogonal_(torch.empty(12, 30))
    assert (fault_of(initplug.Orthogonal(gain, 12, 30), sampled([tensor]), ALARM) is None) == fine
