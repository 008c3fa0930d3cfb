"""What a constructor, or somebody after it, has set is not drawn over by `default` without a word."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import copied_state, filled
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.utils import parametrize
from torch_parts import Shard, distribute_tensor
from untouched import untouched

import initplug
from initplug.torch_versions import can_fill

SEEDS = [None, 0]


class Gate(nn.Module):
    """A layer that begins closed, and a norm that begins nearly so."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        nn.init.zeros_(self.fc.weight)
        nn.init.constant_(self.norm.weight, 1e-5)


def names_told(model: nn.Module, recipe: Any = "torch_default", **options: Any) -> list[str]:
    """The names that applying warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        initplug.apply(model, recipe, **options)
    lines = [line for one in caught for line in str(one.message).splitlines()]
    assert len(caught) <= 1
    return [line.split()[0] for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_constructor_sets_is_told_once_and_by_name(seed: int | None) -> None:
    model = Gate()
    assert names_told(model, seed=seed) == ["fc.weight", "norm.weight"]
    assert names_told(model, seed=seed) == []  # they hold what `default` gives now


FRESH: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "lstm": lambda: nn.LSTM(3, 4, proj_size=2),
    "gru": lambda: nn.GRU(3, 4, bidirectional=True),
    "embedding": lambda: nn.Embedding(5, 3, padding_idx=0),
    "bag": lambda: nn.EmbeddingBag(5, 3, padding_idx=4),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ConvTranspose1d(4, 2, 3), nn.Conv1d(2, 2, 1, bias=False)
    ),
    "norms": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)),
    "prelu": lambda: nn.PReLU(4),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10]),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True),
    "one weight": lambda: nn.Linear(1, 1),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
}


@pytest.mark.parametrize("kind", FRESH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_torch_constructs_is_silent(kind: str, dtype: torch.dtype) -> None:
    if kind == "spectral_norm" and dtype == torch.bfloat16:
        return  # torch cannot
    assert names_told(FRESH[kind]().to(dtype), seed=0) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0, 0.5, -3])
def test_every_dtype_is_looked_at(dtype: torch.dtype, value: float) -> None:
    assert names_told(filled(nn.Linear(8, 8, dtype=dtype), value), seed=0) == ["weight", "bias"]


def test_a_few_equal_draws_of_a_narrow_dtype_are_chance() -> None:
    assert names_told(filled(nn.Linear(8, 2, dtype=torch.bfloat16), 0.125, "bias"), seed=0) == []
    assert names_told(filled(nn.Linear(8, 2, dtype=torch.bfloat16), 0, "bias"), seed=0) == ["bias"]
    assert names_told(filled(nn.Linear(8, 2), 0.125, "bias"), seed=0) == ["bias"]


def test_one_element_and_one_that_is_other_say_nothing() -> None:
    model = filled(nn.Linear(8, 8), 2, "weight", "bias")
    with torch.no_grad():
        model.get_parameter("weight")[3, 3] = 1
        model.get_parameter("bias")[-1] = 1
    assert names_told(model) == []
    assert names_told(filled(nn.Linear(8, 1), 2, "bias")) == []
    assert names_told(filled(nn.Linear(8, 8), float("nan"))) == []


@pytest.mark.parametrize("order", ["slices", "channels_last", "transposed"])
def test_layouts_are_looked_at_as_they_are(order: str) -> None:
    def ordered(weight: Tensor) -> Tensor:
        if order == "channels_last":
            return weight.contiguous(memory_format=torch.channels_last)
        return (
            weight.transpose(0, 1).contiguous().transpose(0, 1)
            if order == "transposed"
            else weight.repeat(1, 1, 1, 2)[..., ::2]
        )

    for value in (0, None):
        layer = nn.Conv2d(6, 6, 3)
        weight = layer.weight.detach() if value is None else torch.full_like(layer.weight, value)
        layer.weight = nn.Parameter(ordered(weight))
        assert names_told(layer, seed=0) == ([] if value is None else ["weight"])


def test_what_is_not_written_or_not_by_default_is_not_told_of() -> None:
    assert names_told(Gate(), only="fc") == ["fc.weight"]
    assert names_told(Gate(), only="norm.bias") == []
    assert names_told(Gate(), {"rules": {"*": "default", "*.weight": "keep"}}) == []
    assert names_told(Gate(), {"rules": {"*": "normal", "norm.*": "keep default"}}) == []
    assert names_told(
        Gate(), {"rules": {"*": "default", "fc.weight": {"split": ["default", "keep"]}, "norm.*": 1}}
    ) == ["fc.weight"]
    with initplug.deferred():
        late = Gate()
    assert names_told(late) == []


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int8, torch.uint16, torch.bool])
def test_dtypes_that_few_can_compare_do_no_harm(dtype: torch.dtype) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(8).to(dtype), requires_grad=False)

        def reset_parameters(self) -> None:
            nn.init.normal_(self.one) if dtype.is_complex else nn.init.zeros_(self.one)

    model = Odd()
    recipe = {"frozen": "write", "rules": {"*": "default"}}
    if not can_fill(dtype):  # float8 before torch 2.5
        with pytest.raises(initplug.PlanError, match="cannot be filled by torch"):
            initplug.plan(model, recipe)
        return
    names = names_told(model, recipe, seed=0)
    assert names in ([], ["one"])  # where torch can compare, it is told
    assert names or dtype in (torch.float8_e4m3fn, torch.uint16)
    assert dtype.is_complex or not model.one.float().any()


@pytest.mark.filterwarnings("ignore:DTensor random operators may not")  # torch 2.4, of any CPU mesh
@pytest.mark.usefixtures("world_of_one")
def test_each_rank_looks_at_what_it_holds() -> None:
    mesh = init_device_mesh("cpu", (1,))
    for value in (0, None):
        model = nn.Sequential(nn.Embedding(4, 4, padding_idx=0), nn.Linear(4, 4))
        if value is not None:
            filled(model, value)
        for module in model:
            for name, tensor in [*module.named_parameters()]:
                module.register_parameter(name, nn.Parameter(distribute_tensor(tensor.detach(), mesh, [Shard(0)])))
        # Of an embedding with a padding row a rank may hold that row alone, so that nothing can be told.
        assert names_told(model, seed=0) == ([] if value is None else ["1.weight", "1.bias"])


def test_ties_are_told_of_once_and_what_owners_compute_too() -> None:
    class Shifted(nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            return value + 1

        def right_inverse(self, value: Tensor) -> Tensor:
            return value - 1

    tied = nn.ModuleDict({"one": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    tied["other"].weight = filled(tied["one"], 0, "weight").weight
    assert names_told(tied) == ["one.weight"]
    layer = filled(nn.Linear(4, 4), 0, "weight")
    parametrize.register_parametrization(layer, "weight", Shifted())
    with (
        untouched(layer),
        pytest.raises(initplug.InitplugWarning, match=r"weight \(4, 4\): 0, and `default` is uniform"),
    ):
        initplug.apply(layer, "torch_default", seed=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_told_before_anything_is_written(seed: int | None) -> None:
    model = Gate()
    before, state = copied_state(model), torch.get_rng_state()
    with pytest.raises(initplug.InitplugWarning):  # an error in these tests
        initplug.apply(model, "torch_default", seed=seed)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_both_ways_out_hold_what_was_set() -> None:
    with pytest.warns(initplug.InitplugWarning) as caught:
        initplug.apply(Gate(), "torch_default")
    ways = re.findall(r"`(\S+: [^`]+)`", str(caught[0].message))
    assert len(ways) == 2
    for way in ways:
        model = Gate()
        recipe = initplug.load(f'rules:\n  "*": default\n  norm.*: keep\n  {way}\n')
        initplug.apply(model, recipe)
        assert not model.fc.weight.any()
        assert model.fc.bias.any()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # torch's own
def test_the_bias_of_a_layer_without_inputs_is_zero_by_its_reset() -> None:
    assert names_told(nn.Linear(0, 4)) == []
