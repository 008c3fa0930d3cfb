"""What values alone are told to come from is what drew them, or a guess that says so, or nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import invoke
from nets import Tied, holding
from safetensors.torch import save_model
from samples import normals, numpy_sample
from scipy import special, stats
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch_parts import Shard, distribute_tensor
from untouched import untouched

import initplug
from initplug.errors import InitplugError
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.log_uniform import LogUniform
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.studies.drafting.agreement import agrees, alike
from initplug.studies.inferring.inference import HIGH, LOW
from initplug.studies.inferring.plausibility import kolmogorov, log_likelihood, p_value
from initplug.studies.inferring.samples import sample_of
from initplug.studies.inferring.weighing import evidence_against


class Block(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.normal_(self.down.weight, std=0.02 / math.sqrt(2 * depth))
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)


class Net(nn.Module):
    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4, bias=False)
        self.mix = nn.Conv2d(width, 2 * width, 3, bias=False)
        for conv in (self.stem, self.mix):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        self.place = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 36, width), std=0.02))
        self.blocks = nn.ModuleList(Block(width, depth) for _ in range(depth))
        self.proj = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(self.proj.weight)
        self.head = nn.Linear(width, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.as_tensor(self.mix(self.stem(x)))
        x = x.flatten(2).transpose(1, 2)[..., : self.place.shape[2]] + self.place
        for block in self.blocks:
            assert isinstance(block, Block)
            x = x + block.down(block.up(block.norm(x)).relu())
        found: Tensor = self.head(self.proj(x).mean(1))
        return found


def built(**sizes: int) -> Net:
    torch.manual_seed(1)
    return Net(**sizes)


@lru_cache(maxsize=1)
def inference() -> initplug.Inference:
    return initplug.infer(built())


MEANT = {
    "stem.weight": "kaiming_normal fan_out",
    "mix.weight": "kaiming_normal fan_out",
    "blocks.0.up.weight": "normal std=0.02",
    "blocks.1.down.weight": "normal std=0.02 factor=(2·count <Block>)^-0.5",
    "blocks.2.down.bias": "constant 0",
    "blocks.0.norm.weight": "default",
    "proj.weight": "orthogonal",
    "head.weight": "default",
    "head.bias": "default",
    "place": "normal std=0.02",
}
"""What the code of `Net` does, in the words of recipes; a normal draw that is cut at ±2 with std 0.02 is not cut."""


def test_formulas_are_those_of_the_code() -> None:
    assert {name: inference()[name].formula for name in MEANT} == MEANT
    assert [row.name for row in inference() if row.confidence < 0.8] == []
    assert inference().step_0 > HIGH


def test_a_recipe_of_one_size_is_right_for_another() -> None:
    other = initplug.record(lambda: built(width=96, depth=5), check=False)
    plan = initplug.plan(built(width=96, depth=5), inference().recipe)
    assert {row.name for row in other if not agrees(plan[row.name].distribution, row)} == set()


def test_the_recipe_draws_what_is_told_of_every_row() -> None:
    plan = initplug.plan(built(), inference().recipe)
    for row in inference():
        planned, told = plan[row.name].distribution, row.distribution
        assert told is not None
        assert isinstance(planned, type(told))
        assert alike(planned, told)
        assert row.rule == plan[row.name].rule
    assert (inference().problems(), len(inference().recipe.rules)) == ([], 7)
    assert "# 3 parameters; confidence 0.97" in inference().yaml


def test_looking_changes_nothing() -> None:
    model, state = built(), torch.get_rng_state()
    with untouched(model):
        initplug.infer(model)
    assert torch.equal(torch.get_rng_state(), state)


# What numbers cannot tell apart -----------------------------------------------------------------------------------


def test_formulas_that_agree_on_every_layer_are_all_told() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(64, 64, 3, bias=False) for _ in range(3)))
    for parameter in model.parameters():
        nn.init.kaiming_normal_(parameter)
    for row in initplug.infer(model):
        others = {one.init: one.chance for one in row.alternatives}
        told = {row.formula, *others}
        assert told >= {"kaiming_normal", "kaiming_normal fan_out", "xavier_normal sqrt(2)"}
        assert row.confidence < HIGH  # one of three that say the same of every parameter
        assert 0.9 < row.confidence + sum(others.values()) <= 1


def test_siblings_of_another_shape_tell_which_it_is() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 3, bias=False), nn.Conv2d(64, 96, 3, bias=False))
    for parameter in model.parameters():
        nn.init.kaiming_normal_(parameter, mode="fan_out")
    both = initplug.infer(model)
    assert [row.formula for row in both] == ["kaiming_normal fan_out"] * 2
    assert both["0.weight"].confidence > initplug.infer(model[0])["weight"].confidence


@pytest.mark.parametrize(("numel", "most"), [(1, 0.06), (4, 0.25), (16, 0.5), (64, 0.8)])
def test_few_elements_give_little_confidence(numel: int, most: float) -> None:
    row = initplug.infer(holding(w=normals(numel, std=0.02)))["w"]
    assert row.confidence <= most
    assert row.numel / (row.numel + 16) >= row.confidence
    if numel == 4:
        assert len(row.alternatives) > 3


@pytest.mark.parametrize("value", [0.0, 1.0, 0.02, 1e-6, -4.59511985013459])
def test_a_number_is_known_if_a_person_would_write_it(value: float) -> None:
    row = initplug.infer(holding(w=torch.full((8,), value)))["w"]
    assert isinstance(row.distribution, Constant)
    assert row.distribution.value == pytest.approx(value, rel=1e-7)
    assert (row.confidence >= HIGH) == (value > -1)


# Trained models ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def trained() -> nn.Module:
    model = built(width=32, depth=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 3, 32, 32, generator=generator), torch.randint(100, (8,), generator=generator)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    return model


def test_trained_weights_look_like_nothing_that_is_known() -> None:
    found = initplug.infer(trained())
    assert found.step_0 < 0.05
    assert "it looks trained" in found.headline()
    assert [row.name for row in found if row.confidence >= 0.1] == []
    assert {row.formula for row in found} == {None}
    assert len(found.problems()) == len(found)
    assert {rule.init.text for rule in found.recipe.rules.values() if rule is not None} == {"keep"}
    assert found.told()[0].startswith("the chance that this model is at step 0 is ")


def test_what_is_nearest_stays_among_the_alternatives() -> None:
    row = initplug.infer(trained())["stem.weight"]
    assert row.reason is not None
    assert row.reason.startswith("like nothing that is known: ")
    assert all(one.chance < 0.05 for one in row.alternatives)


# Single tensors ---------------------------------------------------------------------------------------------------


def uniform(*shape: int, low: float = -1, high: float = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator).mul(high - low).add(low).to(dtype)


def orthogonal(*shape: int, gain: float = 1.0) -> Tensor:
    return nn.init.orthogonal_(torch.empty(shape), gain, generator=torch.Generator().manual_seed(0))


def at_step_0(tensor: Tensor) -> initplug.Inference:
    """What is inferred of a tensor beside a model at step 0."""
    torch.manual_seed(1)
    rest = nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.Embedding(64, 32), nn.Conv2d(16, 32, 3))
    return initplug.infer(nn.ModuleDict({"rest": rest, "one": holding(w=tensor)}))


KNOWN: dict[str, tuple[Callable[[], Tensor], str]] = {
    "normal of bfloat16": (lambda: normals(256, 128, std=0.02, dtype=torch.bfloat16), "normal std=0.02"),
    "normal of float16": (lambda: normals(256, 128, std=0.02, dtype=torch.float16), "normal std=0.02"),
    "bfloat16 in float32": (lambda: normals(256, 128, std=0.02, dtype=torch.bfloat16).float(), "normal std=0.02"),
    "uniform of bfloat16": (lambda: uniform(256, 128, low=-0.1, high=0.1, dtype=torch.bfloat16), "uniform -0.1 0.1"),
    "between 0 and 1": (lambda: uniform(64, 64, low=0), "uniform 0 1"),
    "around 1": (lambda: 1 + normals(1024, std=0.02), "normal mean=1 std=0.02"),
    "complex": (lambda: torch.complex(normals(64, 64), normals(64, 64, seed=1)) / math.sqrt(200), "normal std=0.1"),
    "orthogonal": (lambda: orthogonal(16, 64, gain=math.sqrt(2)), "orthogonal sqrt(2)"),
    "orthogonal gates": (
        lambda: torch.cat([orthogonal(16, 16)] * 4),
        "split [orthogonal, orthogonal, orthogonal, orthogonal]",
    ),
    "sparse": (lambda: nn.init.sparse_(torch.empty(100, 50), 0.1), "sparse 0.1"),
    "identity": (lambda: torch.eye(7), "eye"),
    "a table": (lambda: torch.arange(1, 17).float().log().expand(8, 16).clone(), "arange start=1 log"),
    "time steps": (lambda: torch.exp(uniform(512, low=math.log(0.001), high=math.log(0.1))), "log_uniform 0.001 0.1"),
    "zero complex": (lambda: torch.zeros(8, dtype=torch.complex64), "constant 0"),
    "zero whole numbers": (lambda: torch.zeros(8, dtype=torch.int64), "constant 0"),
    "two parts": (
        lambda: torch.cat([normals(128, 32, std=0.02), normals(128, 32, std=1e-6, seed=1)]),
        "split [normal std=0.02, normal std=1e-06]",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_tensors_are_told_by_their_formula(name: str) -> None:
    make, formula = KNOWN[name]
    torch.manual_seed(0)
    row = at_step_0(make())["one.w"]
    assert row.formula == formula
    assert row.confidence > 0.85


UNKNOWN: dict[str, tuple[Callable[[], Tensor], str]] = {
    "NaN": (lambda: torch.tensor([1.0, math.nan]), "NaN or infinite elements"),
    "infinite": (lambda: torch.tensor([1.0, -math.inf]), "NaN or infinite elements"),
    "whole numbers": (lambda: torch.arange(-8, 8, dtype=torch.int8), "its elements are whole numbers (int8)"),
    "quantized": (lambda: (normals(64, 64) * 8).round() / 400, "its elements take few values, as quantized ones do"),
    "repeated": (lambda: normals(32, 64).repeat(4, 1), "its rows are 4 equal blocks of 32"),
    "in order": (lambda: torch.linspace(0, 1, 50), "its elements rise from first to last"),
    "of two laws": (lambda: torch.cat([normals(5000), normals(100, std=30)]), "under what fits best"),
    "Laplace": (lambda: torch.from_numpy(np.random.default_rng(0).laplace(size=9000)), "under what fits best"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_no_initializer_gives_is_kept_and_told(name: str) -> None:
    make, reason = UNKNOWN[name]
    found = at_step_0(make())
    row = found["one.w"]
    assert (row.formula, row.distribution, row.confidence) == (None, None, 0.0)
    assert row.reason is not None
    assert reason in row.reason
    assert [problem.name for problem in found.problems()] == ["one.w"]
    rule = found.recipe.rules[str(row.rule)]
    assert rule is not None
    assert rule.init.text == "keep"


def test_a_deviation_that_no_formula_gives_is_told_as_a_number() -> None:
    row = at_step_0(normals(300, 200, std=0.0312345))["one.w"]
    assert isinstance(row.distribution, Normal)
    assert row.distribution.std == pytest.approx(0.0312345, rel=0.01)
    assert row.confidence < HIGH or row.formula is None


def test_an_empty_tensor_has_nothing_to_tell() -> None:
    row = at_step_0(torch.empty(0, 4))["one.w"]
    assert (row.distribution, row.confidence, row.reason) == (None, 1.0, "as given")


def test_padding_rows_are_passed_over() -> None:
    torch.manual_seed(0)
    row = initplug.infer(nn.Embedding(400, 32, padding_idx=3))["weight"]
    assert (row.formula, row.distribution) == ("default", Normal(0.0, 1.0))


# Models -----------------------------------------------------------------------------------------------------------


def test_copies_are_told_and_copied() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"one": nn.Linear(40, 30), "two": nn.Linear(40, 30)})
    model["two"].load_state_dict(model["one"].state_dict())
    found = initplug.infer(model)
    assert [row.twin for row in found] == [None, None, "one.weight", "one.bias"]
    plan = initplug.plan(model, found.recipe)
    assert plan["two.weight"].init == "copy source=^one"


def test_tied_and_frozen_parameters_are_rows_like_others() -> None:
    torch.manual_seed(0)
    model = Tied(200, 40)
    model.other.weight.requires_grad_(False)
    found = initplug.infer(model)
    assert [row.name for row in found] == ["emb.weight", "other.weight"]
    assert found["head.weight"] is found["emb.weight"]
    assert [row.formula for row in found] == ["default"] * 2
    assert initplug.plan(model, found.recipe)["other.weight"].distribution == Normal(0.0, 1.0)


def test_parametrized_tensors_are_told_by_what_they_compute() -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 48))
    assert initplug.infer(layer)["weight"].formula == "default"


@pytest.mark.parametrize(
    ("build", "name", "reason"),
    [
        (lambda: nn.LazyLinear(3), "weight", "it waits for a first batch to learn its shape"),
        (lambda: nn.Sequential(nn.Linear(2, 2, device="meta")), "0.bias", "it is on meta, where there are no values"),
    ],
)
def test_a_model_without_values_is_refused_by_name(build: Callable[[], nn.Module], name: str, reason: str) -> None:
    with pytest.raises(InitplugError, match=re.escape(f"\n  {name}: {reason}")) as caught:
        initplug.infer(build())
    assert str(caught.value).startswith("2 parameters have no values that can be looked at here\n")


@pytest.mark.filterwarnings("ignore:DTensor random operators may not")  # torch 2.4, of any CPU mesh
@pytest.mark.usefixtures("world_of_one")
def test_a_sharded_model_is_refused_by_name() -> None:
    shards = distribute_tensor(torch.zeros(4, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
    with pytest.raises(InitplugError, match="w: it is sharded, and this rank holds a part: save the model"):
        initplug.infer(holding(w=shards))


# Data -------------------------------------------------------------------------------------------------------------


def test_an_inference_is_a_side_of_a_diff() -> None:
    model = built()
    assert len(initplug.diff(model, inference(), initplug.record(built, check=False))) == 0
    other = inference().recipe.to_yaml().replace("std: 0.02", "std: 0.03")
    found = initplug.diff(model, inference(), other)
    assert found.a == "inferred"
    assert {row.name for row in found} == {
        "place",
        *(f"blocks.{block}.{layer}.weight" for block in range(3) for layer in ("up", "down")),
    }
    assert [round(row.ratio or 0, 6) for row in found] == [1.5] * 7
    assert len(initplug.diff(None, inference(), inference())) == 0


def test_what_few_elements_allow_is_no_difference() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    few = initplug.infer(model)
    assert len(initplug.diff(model, few, {"rules": {"*": "uniform -1 1"}})) == 0
    assert len(initplug.diff(model, few, {"rules": {"*": "uniform -0.01 0.01"}})) == 2


def test_data_tell_confidences_and_alternatives(tmp_path: Path) -> None:
    data = json.loads(inference().to_json())
    assert set(data) >= {"schema", "model", "rows", "recipe", "nearest", "problems", "summary", "step_0"}
    row = next(row for row in data["rows"] if row["name"] == "head.bias")
    assert (row["init"], row["rule"]) == ("default", inference()["head.bias"].rule)
    assert 0 <= row["confidence"] <= 1
    assert all(set(one) == {"init", "distribution", "chance"} for one in row["alternatives"])
    path = tmp_path / "inferred.json"
    path.write_text(inference().to_json())
    assert len(initplug.diff(built(), path, inference().recipe)) == 0


def test_the_command_reads_weights_and_tells_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from test_inferring import Net\n")
    model = f"{tmp_path}/net.py:Net"
    save_model(built(), str(tmp_path / "net.safetensors"))
    result = invoke("infer", model, "--weights", str(tmp_path / "net.safetensors"), status=0)
    assert result.stdout == inference().yaml
    assert inference().headline() in result.stderr
    torch.save(built().state_dict(), tmp_path / "net.pt")
    shown = invoke("infer", model, "--weights", str(tmp_path / "net.pt"), "--table", "--wide", status=0)
    assert re.search(r"mix\.weight +128×64×3×3 +normal\(.*\) +kaiming_normal fan_out +0\.9", shown.stdout)
    missing = invoke("infer", model, "--weights", str(tmp_path / "no.pt"), status=2)
    assert missing.stderr == f"{tmp_path / 'no.pt'}: there is no such file\n"


def test_the_command_ends_in_1_for_trained_weights(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from test_inferring import Net\n")
    torch.save(trained().state_dict(), tmp_path / "net.pt")
    model = f"{tmp_path}/net.py:Net(width=32, depth=2)"
    result = invoke("infer", model, "--weights", str(tmp_path / "net.pt"), "--json", status=1)
    assert json.loads(result.stdout)["step_0"] < 0.05
    assert "it looks trained" in result.stderr


# Numbers ----------------------------------------------------------------------------------------------------------

LAWS: list[tuple[Any, Any]] = [
    (Normal(0.5, 2.0), stats.norm(0.5, 2.0)),
    (Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    (TruncatedNormal(0.0, 0.02, -0.04, 0.04), stats.truncnorm(-2, 2, 0, 0.02)),
    (TruncatedNormal(0.0, 0.02, -2.0, 2.0), stats.truncnorm(-100, 100, 0, 0.02)),
    (LogUniform(0.001, 0.1), stats.loguniform(0.001, 0.1)),
]


@pytest.mark.parametrize(("drawn", "law"), LAWS, ids=lambda one: getattr(one, "text", ""))
def test_likelihoods_are_those_of_scipy(drawn: Any, law: Any) -> None:
    values = law.rvs(500, random_state=0)
    mine = log_likelihood(drawn, sample_of(torch.from_numpy(values)))
    assert mine == pytest.approx(law.logpdf(values).sum(), rel=1e-9)


def test_the_likelihood_of_a_link_is_the_slope_of_the_density() -> None:
    drawn = LogUniform(0.001, 0.1, "inverse_softplus")
    x = stats.loguniform(0.001, 0.1).rvs(200, random_state=0)
    values = np.log(np.expm1(x))
    slopes = np.log(-np.expm1(-x))  # of x over ln(eˣ - 1)
    expected = (stats.loguniform(0.001, 0.1).logpdf(x) + slopes).sum()
    assert log_likelihood(drawn, sample_of(torch.from_numpy(values))) == pytest.approx(expected, rel=1e-9)


def test_the_limit_of_kolmogorov_is_that_of_scipy() -> None:
    for x in (0.3, 0.5, 0.8, 1.0, 1.36, 2.0, 3.0):
        assert kolmogorov(x) == pytest.approx(special.kolmogorov(x), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("numel", [4, 60, 1000])
@pytest.mark.parametrize("drawn", [Normal(0.0, 0.02), Uniform(-0.3, 0.3), TruncatedNormal(0.0, 0.02, -0.04, 0.04)])
def test_p_values_are_small_as_rarely_as_they_say(drawn: Any, numel: int) -> None:
    generator = np.random.default_rng(numel)
    samples = (torch.from_numpy(numpy_sample(drawn, (numel,), generator)).float() for _ in range(100))
    found = np.array([p_value(drawn, sample_of(values)) for values in samples])
    # Of 100 a share of 5 % is 5 on average, more than 18 in one of a million runs.
    assert (found < 0.05).sum() <= stats.binom(100, 0.05).ppf(1 - 1e-6)
    assert found.min() > 1e-7


@pytest.mark.parametrize(
    "other", [Normal(0.0, 0.021), Uniform(-0.0346, 0.0346), TruncatedNormal(0.0, 0.02273, -0.04546, 0.04546)]
)
def test_p_values_are_small_of_other_laws(other: Any) -> None:
    values = torch.from_numpy(numpy_sample(other, (8000,), np.random.default_rng(0)))
    assert p_value(Normal(0.0, 0.02), sample_of(values)) < 1e-6


def test_evidence_against_all_that_is_known_is_1_on_average() -> None:
    shares = [evidence_against(p) for p in (np.arange(10_000) + 0.5) / 10_000]
    assert np.mean(shares) == pytest.approx(1, abs=0.01)


def test_rows_below_the_middle_are_guesses() -> None:
    torch.manual_seed(0)
    found = initplug.infer(nn.Linear(4, 3))
    assert found.summary["guesses"] == sum(row.confidence < LOW for row in found) == 2
    assert any("are guesses" in line for line in found.told())


def test_an_orthogonal_matrix_is_one_by_its_vectors() -> None:
    row = at_step_0(orthogonal(64, 32))["one.w"]
    assert row.distribution == Orthogonal(1.0, 64, 32)
    noisy = orthogonal(64, 32) + normals(64, 32, std=1e-2, seed=1)
    assert not isinstance(at_step_0(noisy)["one.w"].distribution, Orthogonal)


# Forms -----------------------------------------------------------------------------------------------------------


def test_every_form_tells_how_sure_it_is_and_by_which_formula() -> None:
    found = inference()
    frame = found.to_frame()
    assert [*frame["confidence"]] == [int(row.confidence * 100) / 100 for row in found]
    assert [*frame["init"].map(lambda text: text or None)] == [row.formula for row in found]
    assert [*frame["rule"]] == [row.rule for row in found]
    assert found.to_csv().splitlines()[0].split(",")[:10][-3:] == ["init", "confidence", "fit"]
    assert found.to_markdown().startswith("| name | shape | holds | init | confidence |")
    assert "confidence" in found._repr_html_()
    opening = re.sub("<[^>]*>", "", found.to_html().split("</style>")[1].split("<script")[0])
    assert "what the values of Net look like" in opening
    assert found.headline() in opening
    assert "what the code" not in opening and "written" not in opening.lower()
