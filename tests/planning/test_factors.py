"""Factors against hand-written loops of the sources that have them, bit for bit, and against hand-computed numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.planning.composition import distribution_for


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln, self.attn, self.mlp = nn.LayerNorm(width), nn.Linear(width, width), MLP(width)


class GPT(nn.Module):
    def __init__(self, depth: int = 5, width: int = 16) -> None:
        super().__init__()
        self.config = {"n_layer": depth}
        self.scale = 3
        self.wte = nn.Embedding(11, width)
        self.layers = nn.ModuleList([Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, 11, bias=False)


REST = {"*": "default"}


def rule(match: Any, fn: str, factor: Any, **arguments: Any) -> dict[str, Any]:
    return {"rules": {**REST, "r": {"match": match, "init": {"fn": fn, **arguments, "factor": factor}}}}


def initialized(model: nn.Module, recipe: dict[str, Any], only: str) -> nn.Module:
    torch.manual_seed(0)
    initplug.apply(model, recipe, only=only)
    return model


def test_the_residual_projections_of_nanogpt_have_their_bits() -> None:
    """karpathy/nanoGPT model.py:138-145: N(0, 0.02/√(2·n_layer)) for every c_proj.weight, in their order."""
    recipe = rule("c_proj.weight", "normal", {"count": "<Block>", "times": 2}, std=0.02)
    model = initialized(GPT(), recipe, "c_proj.weight")
    torch.manual_seed(0)
    for block in model.get_submodule("layers").children():
        expected = nn.init.normal_(torch.empty(16, 64), mean=0.0, std=0.02 / math.sqrt(2 * 5))
        assert torch.equal(block.get_parameter("mlp.c_proj.weight"), expected)


def test_the_depth_scaled_layers_of_torchtitan_have_their_bits() -> None:
    """torchtitan models/llama/model.py:255-258: trunc_normal_ of std 0.02/√(2·(layer_id+1)) and bounds ±2."""
    factor = {"place": "^layers.*", "times": 2}
    recipe = rule("c_proj.weight", "trunc_normal", factor, std=0.02, low=-2, high=2)
    plan = initplug.plan(GPT(), recipe)
    for layer in range(5):
        row = plan[f"layers.{layer}.mlp.c_proj.weight"]
        assert row.std == pytest.approx(0.02 / (2 * (layer + 1)) ** 0.5, rel=1e-12)
        # The whole result is scaled, bounds included: at 100 std they cut nothing either way.
        assert row.high == pytest.approx(2 / (2 * (layer + 1)) ** 0.5)


def test_fixup_scales_by_depth_to_the_power_of_its_convolutions() -> None:
    """Fixup imagenet fixup_resnet_imagenet.py:115-129: std √(2/(k·k·out))·L^-0.25 for the bottleneck's convolutions."""

    class Bottleneck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 8, 3, bias=False)

    model = nn.Sequential(*(Bottleneck() for _ in range(7)))
    factor = {"count": "<Bottleneck>", "power": -0.25}
    plan = initplug.plan(model, rule("<Bottleneck>.conv[12].weight", "kaiming_normal", factor, mode="fan_out"))
    assert plan["3.conv2.weight"].std == pytest.approx(math.sqrt(2 / (9 * 8)) * 7**-0.25, rel=1e-12)


class T5Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key_value_proj_dim = 8
        self.q, self.k = nn.Linear(32, 64, bias=False), nn.Linear(32, 64, bias=False)


def test_the_queries_of_t5_read_an_attribute_of_their_owner() -> None:
    """transformers modeling_t5.py: q is N(0, (d_model·key_value_proj_dim)^-1)."""
    factor = {"attr": "..key_value_proj_dim"}
    recipe = rule("<T5Attention>.q.weight", "variance_scaling", factor, distribution="normal")
    assert initplug.plan(T5Attention(), recipe)["q.weight"].std == pytest.approx((32 * 8) ** -0.5, rel=1e-12)


FACTORS: list[tuple[Any, float]] = [
    (0.5, 0.5),
    (-2, 2),
    ([0.5, 3], 1.5),
    ({"attr": "in_features", "power": 1}, 16),
    ({"attr": "^scale", "power": 2, "times": 2}, 36),
    ({"attr": "^config.n_layer", "power": -1}, 1 / 5),
    ({"attr": "...scale"}, 1 / math.sqrt(3)),
    ({"count": "layers.*"}, 1 / math.sqrt(5)),
    ({"count": "<Linear>", "power": 1}, 16),
    ({"place": "<Block>", "power": 1}, 3),
    ({"place": "<Linear|Block>", "power": 1}, 10),
    ([{"place": "layers.*", "power": 1}, {"count": "<Block>", "power": -1}, 10], 6),
]


@pytest.mark.parametrize(("factor", "expected"), FACTORS, ids=str)
def test_factors_are_counted(factor: Any, expected: float) -> None:
    model = GPT()
    slot = "layers.2.attn.weight"
    if factor == {"attr": "...scale"}:
        model.layers.scale = 3  # type: ignore[assignment]  # a plain attribute, two modules up from the slot's owner
    row = initplug.plan(model, rule(slot, "normal", factor, mean=1.0, std=0.1))[slot]
    assert row.std == pytest.approx(0.1 * expected, rel=1e-12)
    assert abs(row.mean or 0) == pytest.approx(expected, rel=1e-12)


def test_a_shared_module_counts_once() -> None:
    block = Block(4)
    model = nn.Sequential(block, Block(4), block)
    recipe = rule("attn.weight", "normal", {"count": "<Block>", "power": 1})
    assert initplug.plan(model, recipe)["1.attn.weight"].std == 2
    recipe = rule("attn.weight", "normal", {"place": "<Block>", "power": 1})
    assert initplug.plan(model, recipe)["0.attn.weight"].std == 1


@pytest.mark.parametrize(
    ("init", "std"),
    [("orthogonal", 0.5 / 4), ("sparse sparsity=0.5 std=1", 0.5 * 0.5**0.5), ("default", 0.5 / math.sqrt(3 * 16))],
)
def test_every_initializer_is_scaled(init: str, std: float) -> None:
    recipe = {"unmatched": "keep", "rules": {"w": {"match": "*.weight", "init": f"{init} factor=0.5"}}}
    assert initplug.plan(nn.Linear(16, 16), recipe)["weight"].std == pytest.approx(std, rel=1e-9)


MISFITS: list[tuple[Any, str]] = [
    ({"count": "<Blok>"}, "normal: factor: <Blok> selects no module (did you mean <Block>?)"),
    ({"place": "<atn>"}, "normal: factor: <atn> selects no module"),
    ({"place": "^layer.2"}, "normal: factor: ^layer.2 selects no module (did you mean layers.2?)"),
    ({"place": "<MLP>"}, "normal: factor: <MLP> selects no module around it"),
    ({"attr": "..widht"}, "normal: factor: Block has no 'widht' (reference '..widht')"),
    (
        {"attr": "in_featuers"},
        "normal: factor: Linear has no 'in_featuers' (reference 'in_featuers'; did you mean in_features?)",
    ),
    ({"attr": "zzz"}, "normal: factor: Linear has no 'zzz' (reference 'zzz')"),
    (
        {"attr": "^confg.n_layer"},
        "normal: factor: GPT has no 'confg' (reference '^confg.n_layer'; did you mean config?)",
    ),
    (
        {"attr": "^config.n_layers"},
        "normal: factor: dict has no 'n_layers' (reference '^config.n_layers'; did you mean n_layer?)",
    ),
    ({"attr": "....scale.x"}, "normal: factor: int has no 'x' (reference '....scale.x')"),
    ({"attr": ".....scale"}, "normal: factor: '.....scale' climbs above the model"),
    ({"attr": "weight"}, "normal: factor: 'weight' is a Parameter, not a number"),
    ({"attr": "training"}, "normal: factor: 'training' is a bool, not a number"),
    ({"attr": "in_features", "times": -1}, "normal: factor: (-1·attr in_features)^-0.5 is a power of -16"),
    ({"attr": "in_features", "power": 1e6}, "normal: factor: (attr in_features)^1000000.0 is beyond what numbers hold"),
    (
        {"attr": "in_features", "power": -1e6},
        "normal: factor: (attr in_features)^-1000000.0 is beyond what numbers hold",
    ),
    ([1e300, 1e300], "normal: factor: 1e+300 · 1e+300 is beyond what numbers hold"),
]


@pytest.mark.parametrize(("factor", "reason"), MISFITS, ids=[reason for _, reason in MISFITS])
def test_a_factor_that_cannot_be_counted_is_told(factor: Any, reason: str) -> None:
    slot = "layers.2.attn.weight"
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(GPT(), rule(slot, "normal", factor))
    assert f"{slot} (16, 16): {reason}; rule 'r'" in str(caught.value)


def test_a_model_that_cannot_list_its_attributes_has_no_nearest_one() -> None:
    class Secret(nn.Linear):
        def __dir__(self) -> Any:
            raise RuntimeError("no names")

    with pytest.raises(initplug.PlanError, match=r"Secret has no 'in_featuers' \(reference 'in_featuers'\);"):
        initplug.plan(Secret(2, 2), rule("*", "normal", {"attr": "in_featuers"}))


BAD: list[tuple[str, str]] = [
    ("{}", "rules.r.init.factor: a factor has one of count, place, attr"),
    ("{count: a, place: b}", "rules.r.init.factor: a factor has one of count, place, attr"),
    ("{cuont: a}", "rules.r.init.factor.cuont: a factor takes no cuont (did you mean count?)"),
    ("{count: 'a..b'}", "rules.r.init.factor.count: bad selector 'a..b': empty segment between dots"),
    ("{count: 3}", "rules.r.init.factor.count: expected a selector, got the number 3"),
    ("{attr: a._b}", "rules.r.init.factor.attr: 'a._b' is not a reference (width, ..width, ^config.width)"),
    ("{count: a, times: two}", "rules.r.init.factor.times: 'two' is not a number"),
    ("[]", "rules.r.init.factor: a list of factors cannot be empty"),
    ("[1, x]", "rules.r.init.factor[1]: a factor is a number or a mapping with count, place or attr, not the text 'x'"),
    ("true", "rules.r.init.factor: a factor is a number or a mapping with count, place or attr, not true"),
]


@pytest.mark.parametrize(("factor", "expected"), BAD)
def test_a_bad_factor_has_its_message(factor: str, expected: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(f"rules:\n  r: {{match: a*, init: {{fn: normal, factor: {factor}}}}}\n")
    assert expected in str(caught.value)


def test_a_number_beyond_floats_is_no_factor() -> None:
    for factor in (10**400, {"count": "*", "times": 10**400}):
        with pytest.raises(initplug.RecipeError, match="a number"):
            initplug.load({"rules": {"a*": {"fn": "normal", "factor": factor}}})


@pytest.mark.parametrize("init", ["trunc_normal", "normal", "lecun_normal", "orthogonal"])
def test_a_factor_of_zero_gives_zeros(init: str) -> None:
    model = nn.Linear(4, 4, bias=False)
    assert initplug.apply(model, {"rules": {"*": f"{init} factor=0"}})["weight"].verdict == "ok"
    assert not model.weight.any()


def test_keep_takes_no_factor() -> None:
    with pytest.raises(initplug.RecipeError, match="keep takes no factor"):
        initplug.load("rules:\n  a*: {fn: keep, factor: 2}\n")


def test_a_part_cannot_be_counted_in() -> None:
    with pytest.raises(initplug.PlanError, match=r"rule 'r' counts in the model \(\(count <Block>\)\^-0.5\)"):
        initplug.plan(Block(4), rule("attn.weight", "normal", {"count": "<Block>"}), prefix="layers.0")


def test_a_stage_gets_the_factors_of_the_whole() -> None:
    whole, recipe = GPT(), rule("c_proj.weight", "normal", {"place": "^layers.*", "power": 1})
    plan = initplug.plan(whole, recipe)
    audit = initplug.apply(Block(16), plan, prefix="layers.3")
    assert audit["layers.3.mlp.c_proj.weight"].std == 4


def test_a_recipe_with_factors_reads_back() -> None:
    factor = [0.5, {"count": "<Block>", "times": 2}, {"attr": "..width", "power": -1}]
    recipe = initplug.load(rule("a*", "normal", factor, std=0.02))
    assert initplug.load(recipe.to_yaml()) == recipe
    init = recipe.rules["r"].init  # type: ignore[union-attr]  # it is not disabled
    assert init.text == "normal std=0.02 factor=0.5 factor=(2·count <Block>)^-0.5 factor=(attr ..width)^-1"


# Layers that are alike but for their factors.


def test_layers_that_are_alike_are_evaluated_once_whatever_their_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[tuple[int, ...]] = []

    def noting(init: Any, shape: tuple[int, ...], *rest: Any) -> Any:
        evaluated.append(shape)
        return distribution_for(init, shape, *rest)

    monkeypatch.setattr("initplug.planning.evaluation.distribution_for", noting)
    factor = {"place": "<Block>", "power": -0.5}
    plan = initplug.plan(GPT(depth=40), rule("<Block>.**.<Linear>.weight", "normal", factor, std=0.02))
    assert len(evaluated) < 20
    assert [plan[f"layers.{place}.attn.weight"].std for place in range(40)] == [
        0.02 / math.sqrt(place + 1) for place in range(40)
    ]


def test_of_layers_that_are_alike_those_that_do_not_fit_are_named() -> None:
    model = GPT(depth=4)
    factor = {"place": "<Block>", "power": 200, "times": 100}
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(model, rule("mlp.c_fc.weight", "normal", factor, std=1e-30))
    assert [finding.path for finding in caught.value.findings] == [f"layers.{n}.mlp.c_fc.weight" for n in range(4)]
    factor = {"place": "<Block>", "power": 20}
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(model, rule("mlp.c_fc.weight", "normal", factor, std=1e28))
    assert [finding.path for finding in caught.value.findings] == [f"layers.{n}.mlp.c_fc.weight" for n in (3,)]
