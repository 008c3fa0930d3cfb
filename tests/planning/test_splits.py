"""Parts of packed tensors against hand-written loops over the parts, and their moments and verdicts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from recipes import QUIET
from torch import Tensor, nn

import initplug
from initplug.schemes.compositions import Keep, Stacked
from initplug.schemes.distributions import Normal, Uniform


def plan_of(model: nn.Module, match: str, init: Any) -> initplug.Plan:
    return initplug.plan(model, {**QUIET, "rules": {"r": {"match": match, "init": init}}})


def applied_rule(model: nn.Module, match: str, init: Any) -> initplug.Audit:
    torch.manual_seed(0)
    return initplug.apply(model, {**QUIET, "rules": {"r": {"match": match, "init": init}}})


def tensor_module(*shape: int) -> nn.Module:
    module = nn.Module()
    module.register_parameter("w", nn.Parameter(torch.full(shape, 7.0)))
    return module


def test_packed_projections_have_the_bits_of_a_loop_over_their_thirds() -> None:
    """timm vision_transformer init_weights_vit_moco: qkv is U(±√(6/(out/3 + in)))."""
    model = nn.MultiheadAttention(16, 4)
    audit = applied_rule(model, "in_proj_weight", {"fn": "xavier_uniform", "split": 3})
    torch.manual_seed(0)
    thirds = [nn.init.xavier_uniform_(torch.empty(16, 16)) for _ in range(3)]
    assert torch.equal(model.in_proj_weight, torch.cat(thirds))
    row = audit["in_proj_weight"]
    assert (row.fan_in, row.fan_out, row.verdict) == (16, 16, "ok")
    assert row.high == pytest.approx(math.sqrt(6 / 32))
    assert row.std == pytest.approx(math.sqrt(2 / 32))


def test_columns_of_a_transposed_projection_are_split_along_them() -> None:
    model = tensor_module(8, 24)
    applied_rule(model, "w", "xavier_normal split=3 dim=1")
    torch.manual_seed(0)
    expected = torch.empty(8, 24)
    for third in expected.chunk(3, 1):
        nn.init.xavier_normal_(third)
    assert torch.equal(model.get_parameter("w"), expected)


def test_the_forget_gate_of_an_lstm() -> None:
    """Gates lie in the order i, f, g, o: Jozefowicz et al. 2015 set the bias of f to 1."""
    model = nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    audit = applied_rule(model, "bias_ih_l*", {"split": [0, 1, 0, 0]})
    for name in ("bias_ih_l0", "bias_ih_l1", "bias_ih_l0_reverse", "bias_ih_l1_reverse"):
        assert model.get_parameter(name).tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10
        row = audit[name]
        assert (row.mean, row.std, row.low, row.high, row.verdict) == (0.25, math.sqrt(3) / 4, 0, 1, "ok")
    assert audit["bias_hh_l0"].status == "kept"


def test_the_gates_of_a_gru_are_orthogonal_one_by_one() -> None:
    model = nn.GRU(4, 6)
    applied_rule(model, "weight_hh_l0", "orthogonal split=3")
    torch.manual_seed(0)
    gates = [nn.init.orthogonal_(torch.empty(6, 6)) for _ in range(3)]
    assert torch.equal(model.get_parameter("weight_hh_l0"), torch.cat(gates))


def test_a_zero_gate_leaves_the_other_parts() -> None:
    model = tensor_module(6, 4)
    audit = applied_rule(model, "w", {"split": ["keep", "keep", 0]})
    assert model.get_parameter("w").sum(1).tolist() == [28.0] * 4 + [0.0] * 2
    assert (audit["w"].mean, audit["w"].std, audit["w"].verdict) == (None, None, "ok")
    with torch.no_grad():
        model.get_parameter("w")[5, 3] = 1
    recipe = {"rules": {"r": {"match": "w", "init": {"split": ["keep", "keep", 0]}}}}
    assert initplug.audit(model, recipe)["w"].verdict == "differs"


def test_parts_are_judged_one_by_one() -> None:
    recipe = {"rules": {"r": {"match": "w", "init": {"split": ["normal std=1", "normal std=3"]}}}}
    model = tensor_module(1000, 4)
    assert initplug.apply(model, recipe)["w"].verdict == "ok"
    assert initplug.plan(model, recipe)["w"].std == pytest.approx(math.sqrt(5))
    with torch.no_grad():  # the mixture stays what it was
        weight = model.get_parameter("w")
        weight.copy_(torch.cat([weight[500:], weight[:500]]))
    assert initplug.audit(model, recipe)["w"].verdict == "differs"


def test_an_expert_stack_has_the_fans_of_one_expert() -> None:
    plan = plan_of(tensor_module(8, 16, 32), "w", "kaiming_normal batch_dims=1")
    assert (plan["w"].fan_in, plan["w"].fan_out) == (32, 16)
    assert plan["w"].std == pytest.approx(math.sqrt(2 / 32))


@pytest.mark.parametrize("shape", [(5, 8, 6), (2, 3, 6, 8)])
def test_every_matrix_of_a_stack_is_orthogonal(shape: tuple[int, ...]) -> None:
    model = tensor_module(*shape)
    audit = applied_rule(model, "w", f"orthogonal 2 batch_dims={len(shape) - 2}")
    torch.manual_seed(0)
    stack = model.get_parameter("w").detach().reshape(-1, *shape[-2:])
    for matrix in stack:
        assert torch.equal(matrix, nn.init.orthogonal_(torch.empty(shape[-2:]), 2))
    assert audit["w"].verdict == "ok"
    assert audit["w"].std == pytest.approx(2 / math.sqrt(8))


def test_packed_experts_are_split_within_the_stack() -> None:
    row = plan_of(tensor_module(4, 12, 5), "w", "xavier_normal batch_dims=1 split=2 dim=1")["w"]
    assert (row.fan_in, row.fan_out) == (5, 6)


def test_factors_go_to_every_part() -> None:
    init = {"split": [1, {"fn": "normal", "std": 2, "factor": 3}], "factor": 0.5}
    row = plan_of(tensor_module(4, 2), "w", init)["w"]
    assert isinstance(row.distribution, initplug.Stacked)
    assert row.distribution.parts == (initplug.Constant(0.5), initplug.Normal(0.0, 3.0))
    assert row.init == "split [constant 1, normal std=2 factor=3] factor=0.5"


def test_a_strided_tensor_is_written_in_place() -> None:
    module = nn.Module()
    base = torch.full((4, 6, 3), 7.0)
    module.register_parameter("w", nn.Parameter(base.transpose(0, 2)))
    applied_rule(module, "w", {"fn": "orthogonal", "batch_dims": 1, "split": 2, "dim": -1})
    part: Tensor = module.get_parameter("w").detach()[1, :, :2]
    assert torch.allclose(part.T @ part, torch.eye(2), atol=1e-6)
    assert not base.eq(7).any()


class Drawn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(96, 32))

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.w)


@pytest.mark.parametrize(
    "init", [{"fn": "default", "split": 3}, {"fn": "default", "batch_dims": 1}, {"split": ["default", 0, 0]}]
)
def test_a_reset_that_draws_the_whole_has_no_parts(init: Any) -> None:
    with pytest.raises(initplug.PlanError, match="default: the reset draws the tensor as a whole"):
        plan_of(Drawn(), "w", init)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"split": ["keep", 1], "dim": 1}, [7, 7, 0, 0]),
        ({"split": ["keep", 1]}, [7, 7, 7, 7]),
        ({"split": [1, "keep"]}, [0, 0, 0, 0]),
        (1, [0, 0, 0, 0]),
    ],
)
def test_the_padding_row_is_zero_where_it_is_drawn(split: Any, expected: list[float]) -> None:
    model = nn.Embedding(8, 4, padding_idx=2)
    nn.init.constant_(model.weight, 7)
    audit = applied_rule(model, "weight", split)
    assert model.weight[2].tolist() == expected
    assert audit["weight"].verdict != "differs"


def test_kept_parts_are_not_scaled_on_meta_either() -> None:
    init = {"split": ["keep default", 1], "factor": 2}
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    distribution = plan_of(model, "weight", init)["weight"].distribution
    assert isinstance(distribution, initplug.Stacked)
    kept, drawn = distribution.parts
    assert isinstance(kept, initplug.Uniform)
    assert kept.high == pytest.approx(0.5)
    assert drawn == initplug.Constant(2.0)


@pytest.mark.parametrize(
    ("shape", "init"), [((8, 64), "orthogonal"), ((4, 1, 1), "orthogonal batch_dims=1"), ((5, 3), "orthogonal 2")]
)
def test_orthogonal_tensors_raise_no_alarm(shape: tuple[int, ...], init: str) -> None:
    model = tensor_module(*shape)
    plan = plan_of(model, "w", init)
    torch.manual_seed(0)
    assert {initplug.apply(model, plan)["w"].verdict for _ in range(200)} == {"ok"}


@pytest.mark.parametrize("init", ["orthogonal", "orthogonal split=2 dim=2", "orthogonal batch_dims=2"])
def test_orthogonal_tensors_in_any_layout(init: str) -> None:
    module = nn.Module()
    memory = torch.full((8, 4, 6, 2), 7.0).contiguous(memory_format=torch.channels_last)
    module.register_parameter("w", nn.Parameter(memory))
    assert applied_rule(module, "w", init)["w"].verdict == "ok"


# Parts of unequal sizes.


@pytest.mark.parametrize("sizes", [[12, 4, 4], [3, 1, 1]])
def test_a_grouped_query_projection_has_the_bits_of_a_loop_over_its_parts(sizes: list[int]) -> None:
    """llm-foundry attention.py: Wqkv of grouped-query attention is (d + 2·d_kv, d), drawn part by part."""
    model = tensor_module(20, 8)
    audit = applied_rule(model, "w", {"fn": "kaiming_normal", "mode": "fan_out", "split": 3, "sizes": sizes})
    torch.manual_seed(0)
    parts = [nn.init.kaiming_normal_(torch.empty(size, 8), mode="fan_out") for size in (12, 4, 4)]
    assert torch.equal(model.get_parameter("w"), torch.cat(parts))
    row = audit["w"]
    assert (row.fan_in, row.fan_out, row.verdict) == (8, None, "ok")
    assert "sizes=[12, 4, 4]" in str(row.to_dict()["distribution"])
    variances = (2 / 12, 2 / 4, 2 / 4)
    assert row.std == pytest.approx(math.sqrt(sum(n * v for n, v in zip((12, 4, 4), variances, strict=True)) / 20))


def test_the_input_projection_of_mamba2_is_drawn_part_by_part() -> None:
    """mamba_ssm/modules/mamba2.py: in_proj gives z, x, B, C and dt, of d_inner, d_inner, N, N and n_heads."""
    init = {"split": ["xavier_uniform", "xavier_uniform", "keep", 0, 1], "sizes": [16, 16, 4, 4, 2]}
    model = tensor_module(42, 8)
    audit = applied_rule(model, "w", init)
    torch.manual_seed(0)
    expected = torch.full((42, 8), 7.0)
    nn.init.xavier_uniform_(expected[:16])
    nn.init.xavier_uniform_(expected[16:32])
    expected[36:40], expected[40:] = 0, 1
    assert torch.equal(model.get_parameter("w"), expected)
    assert audit["w"].verdict == "ok"


@pytest.mark.parametrize("init", ["orthogonal", "normal", "uniform -1 1"])
def test_unequal_parts_under_a_seed_are_proved_and_judged_one_by_one(init: str) -> None:
    recipe = {"rules": {"w": {"match": "w", "init": {"split": [init, "normal std=5"], "sizes": [3, 1], "dim": 1}}}}
    model = tensor_module(64, 32)
    assert initplug.apply(model, recipe, seed=3)["w"].verdict == "ok"
    assert initplug.audit(model, recipe, seed=3)["w"].verdict == "exact"
    assert initplug.audit(model, recipe)["w"].verdict == "ok"
    weight = model.get_parameter("w")
    assert weight[:, 24:].std().item() == pytest.approx(5, rel=0.1)
    with torch.no_grad():
        weight.copy_(weight.flip(1))
    assert initplug.audit(model, recipe)["w"].verdict == "differs"


def test_the_seeded_bits_of_a_part_are_those_at_its_place_in_the_whole() -> None:
    whole, parted = tensor_module(10, 6), tensor_module(10, 6)
    initplug.apply(whole, {"rules": {"w*": "normal"}}, seed=1)
    initplug.apply(parted, {"rules": {"w*": {"fn": "normal", "split": 3, "sizes": [5, 3, 2]}}}, seed=1)
    assert torch.equal(whole.get_parameter("w"), parted.get_parameter("w"))


def test_the_law_of_unequal_parts_is_that_of_the_mixture() -> None:
    parts = (Normal(1.0, 2.0), Uniform(-3.0, 0.0), Keep())
    stacked = Stacked(parts, 0, (6, 2, 5))
    values = np.random.default_rng(0)
    drawn = np.concatenate([values.normal(1, 2, 600_000), values.uniform(-3, 0, 200_000)])
    assert stacked.mean == pytest.approx(drawn.mean(), abs=0.01)
    assert stacked.std == pytest.approx(drawn.std(), rel=0.005)
    assert sum(share for share, _ in stacked.law.smooth) == pytest.approx(1)


MISFITS: list[tuple[tuple[int, ...], Any, str]] = [
    ((10, 4), "normal split=3", "split: 3 parts do not divide the 10 elements of dimension 0"),
    ((10, 4), "normal split=2 dim=2", "split: there is no dimension 2"),
    (
        (10, 4),
        {"fn": "normal", "split": 2, "sizes": [2, 1]},
        "split: sizes 2, 1 are 3 in all, which does not divide the 10 elements of dimension 0",
    ),
    (
        (6, 4),
        {"split": [0, 1], "sizes": [5, 3]},
        "split: sizes 5, 3 are 8 in all, which does not divide the 6 elements of dimension 0",
    ),
    ((10,), "kaiming_normal split=2", "kaiming_normal: there is no fan_in below two dimensions"),
    ((3, 4), "xavier_normal batch_dims=1", "xavier_normal: there is no fan_in below two dimensions"),
    ((3, 4), "normal batch_dims=2", "normal: 2 batch dimensions leave nothing of 2"),
]


@pytest.mark.parametrize(("shape", "init", "reason"), MISFITS, ids=[reason for *_, reason in MISFITS])
def test_a_tensor_that_cannot_be_split_is_told(shape: tuple[int, ...], init: Any, reason: str) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        plan_of(tensor_module(*shape), "w", init)
    assert f"w {shape}: {reason}; rule 'r'" in str(caught.value)


BAD: list[tuple[str, str]] = [
    ("{split: [0]}", "rules.r.init.split: a split has at least two parts"),
    ("{split: [0, kaimng_normal]}", "rules.r.init.split[1]: unknown initializer 'kaimng_normal'"),
    ("{split: [0, {fn: normal, std: -1}]}", "rules.r.init.split[1].std: -1 is not a number of at least 0"),
    ("{split: [0, 1], mode: fan_in}", "rules.r.init.mode: a list of parts takes no mode"),
    ("{split: [0, 1], dim: x}", "rules.r.init.dim: 'x' is not a whole number"),
    ("{fn: normal, split: 1}", "rules.r.init.split: 1 is not a whole number of at least 2"),
    ("{fn: normal, split: [0, 1]}", "rules.r.init.fn: a list of parts takes no fn"),
    ("{fn: normal, dim: 1}", "rules.r.init.dim: dim says where to split, and nothing is split"),
    (
        "{fn: normal, sizes: [1, 2]}",
        "rules.r.init.sizes: sizes says how large parts are, and nothing is split (write split: N beside it)",
    ),
    ("{fn: normal, split: 3, sizes: [1, 2]}", "rules.r.init.sizes: 2 sizes for 3 parts (sizes has one for each part)"),
    ("{split: [0, 1], sizes: [1]}", "rules.r.init.sizes: 1 size for 2 parts"),
    ("{split: [0, 1], sizes: [1, 0]}", "rules.r.init.sizes: [1, 0] is no list of whole numbers above 0"),
    ("{split: [0, 1], sizes: [1, 0.5]}", "rules.r.init.sizes: [1, 0.5] is no list of whole numbers above 0"),
    ("{split: [0, 1], sizes: 2}", "rules.r.init.sizes: 2 is no list of whole numbers above 0"),
    ("{fn: normal, batch_dims: 0}", "rules.r.init.batch_dims: 0 is not a whole number of at least 1"),
    ("{fn: keep, split: 2}", "rules.r.init.split: keep takes no split"),
]


@pytest.mark.parametrize(("init", "expected"), BAD)
def test_a_bad_split_has_its_message(init: str, expected: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(f"rules:\n  r: {{match: a*, init: {init}}}\n")
    assert expected in str(caught.value)


def test_recipes_with_parts_read_back() -> None:
    init = {"split": [0, "keep", {"fn": "normal", "std": 2, "split": 2}], "dim": -1, "factor": 0.5}
    recipe = initplug.load({"rules": {"a*": init, "b*": "xavier_normal gain=2 split=3 dim=1 batch_dims=1"}})
    assert initplug.load(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    "init",
    [
        {"split": [0, 1], "sizes": [3, 1], "dim": 1},
        "normal std=2 split=3 sizes=[4, 1, 1]",
        "normal fans={in: 0, out: [1, -1]}",
    ],
)
def test_sizes_and_axes_read_back(init: Any) -> None:
    recipe = initplug.load({"rules": {"a*": init}})
    assert initplug.load(recipe.to_yaml()) == recipe
    rule = recipe.rules["a*"]
    assert rule is not None
    assert isinstance(init, dict) or rule.init.text == init
