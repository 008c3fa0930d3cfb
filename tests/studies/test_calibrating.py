"""Calibrating draws weights again with factors that bring the outputs of layers to one standard deviation.

The oracle is the procedure of Mishkin and Matas (arXiv:1511.06422, algorithm 1) written as they have it: for each layer
a forward of the whole net, as often as it takes, and the weight divided in place by the standard deviation.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import invoke
from nets import Tied, built_deferred, copied_state, copied_values
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from untouched import untouched

import initplug
from initplug.errors import ApplyError, InitplugWarning, PlanError, RecipeError
from initplug.studies.calibrating.scaling import Goal, Search

ORTHOGONAL: dict[str, Any] = {"rules": {"*.weight": "orthogonal", "*.bias": 0}}
NORMAL: dict[str, Any] = {"rules": {"*.weight": "kaiming_normal", "*.bias": 0}}


def normals(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def net(width: int = 32, act: Callable[[], nn.Module] = nn.ReLU, depth: int = 2) -> nn.Sequential:
    return nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(width, width), act())])


def lsuv(model: nn.Module, inputs: Tensor, tolerance: float, rounds: int = 10) -> dict[str, float]:
    """The procedure of the paper on a model as it stands; the factor of each weight."""
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d
    factors = {}
    for name, part in model.named_modules():
        if not isinstance(part, kinds):
            continue
        heard: list[float] = []
        # At once: what follows may write to the output in place.
        hook = part.register_forward_hook(lambda _, __, output, heard=heard: heard.append(float(output.numpy().std())))
        factors[name + ".weight"] = 1.0
        with torch.no_grad():
            model(inputs)
            for _ in range(rounds):
                if abs(heard[-1] - 1) <= tolerance:
                    break
                part.weight.div_(heard[-1])
                factors[name + ".weight"] /= heard[-1]
                model(inputs)
        hook.remove()
    return factors


def stds(model: nn.Module, *inputs: Any, **keywords: Any) -> dict[str, float]:
    """The standard deviations of the first outputs of modules with a weight, in evaluation mode."""
    found: dict[str, float] = {}

    def heard(name: str, output: Any) -> None:
        output = output["logits"] if isinstance(output, dict) else output
        output = output[0] if isinstance(output, tuple) else output
        found.setdefault(name, float(output.float().std(correction=0)))

    hooks = [
        part.register_forward_hook(lambda _, __, output, name=name: heard(name, output))
        for name, part in model.named_modules()
        if next(part.parameters(recurse=False), None) is not None
    ]
    modes = [(part, part.training) for part in model.modules()]
    with torch.no_grad():
        model.eval()(*inputs, **keywords)
    for part, training in modes:
        part.training = training
    for hook in hooks:
        hook.remove()
    return found


NETS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "thirty tanh": (lambda: net(64, nn.Tanh, 30), normals(32, 64)),
    "thirty relu": (lambda: net(64, nn.ReLU, 30), normals(32, 64)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, groups=4),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2),
            nn.Flatten(),
            nn.Linear(8 * 17 * 17, 10),
        ),
        normals(4, 3, 12, 12),
    ),
    "one and three dimensions": (
        lambda: nn.Sequential(
            *(nn.Conv1d(4, 8, 3), nn.GELU(), nn.ConvTranspose1d(8, 6, 2), nn.Unflatten(2, (1, 1, 9))),
            nn.Conv3d(6, 6, 1),
        ),
        normals(5, 4, 10),
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("init", ["orthogonal", "kaiming_normal"])
def test_factors_are_those_of_the_procedure_in_the_paper(name: str, init: str) -> None:
    build, inputs = NETS[name]
    rules: dict[str, Any] = {"<*Norm*>.weight": {"init": 1, "optional": True}, "*.bias": 0}
    rules = {"rules": {"weights": {"match": "*.weight", "ndim": ">=2", "init": init}, **rules}}
    model, other = build(), build()
    initplug.apply(other, rules, seed=5)
    expected = lsuv(other.eval(), inputs, tolerance=0.001)
    calibration = initplug.calibrate(model, rules, inputs, seed=5, tolerance=0.001)
    factors = {row.name: row.factor for row in calibration if row.outcome != "left"}
    assert factors == pytest.approx(expected, rel=0.01)
    assert not calibration.problems()
    found = stds(model, inputs)
    for row in calibration:
        assert row.std == pytest.approx(found[str(row.module)], rel=1e-4) == pytest.approx(1, abs=0.0011)


# The recipe ---------------------------------------------------------------------------------------------------------


class Parts(nn.Module):
    """Layers of many kinds, behind names, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = parametrizations.weight_norm(nn.Conv1d(4, 16, 3, padding=1))
        self.norm = nn.BatchNorm1d(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.scale = nn.Parameter(torch.ones(16))
        self.places = nn.Parameter(torch.zeros(1, 10, 16))
        self.words = nn.Embedding(7, 16)
        self.unused = nn.Linear(16, 16)
        self.head = nn.Linear(16, 7)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor, *, words: Tensor) -> dict[str, Any]:
        x = self.norm(self.stem(x)).transpose(1, 2) * self.scale + self.places + self.words(words)
        attended, _ = self.attention(x, x, x, need_weights=False)
        return {"steps": 10, "logits": self.head(self.lstm(x + attended)[0])}


PARTS = {
    "rules": {
        "*": "normal std=0.2",
        "stem.weight": {
            "match": "stem.weight",
            "init": {"fn": "orthogonal", "factor": {"count": "<Parts>", "times": 4}},
        },
        "norm.weight": 1,
        "*.bias": 0,
        "bn": {"match": "norm.*", "init": 0, "kind": "buffer"},
    }
}
PARTS_INPUTS = {"x": normals(3, 4, 10), "words": torch.arange(30).reshape(3, 10) % 7}


def same_bits(model: nn.Module, other: nn.Module) -> None:
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("tolerance", [0.05, 1e-6])
def test_the_recipe_gives_the_same_bits_also_through_a_file(tolerance: float, tmp_path: Path) -> None:
    model, other, deferred = Parts(), Parts(), built_deferred(Parts)
    calibration = initplug.calibrate(model, PARTS, PARTS_INPUTS, seed=3, tolerance=tolerance)
    assert not calibration.problems()
    calibration.save(tmp_path / "mine.yaml")
    read = initplug.load(tmp_path / "mine.yaml")
    assert read.plain()["rules"] == calibration.recipe.plain()["rules"]
    initplug.apply(other, read, seed=3)
    initplug.apply(deferred, calibration.recipe, seed=3)
    same_bits(model, other)
    same_bits(model, deferred)
    assert {row.verdict for row in initplug.audit(other, read, seed=3)} == {"exact"}


def test_every_weight_is_scaled_or_left_with_a_reason() -> None:
    model = Parts()
    calibration = initplug.calibrate(model, PARTS, PARTS_INPUTS, seed=3)
    assert [row.name for row in calibration if row.outcome == "scaled"] == [
        "stem.weight",
        "attention.out_proj.weight",
        "words.weight",
    ]
    assert {row.name: row.reason for row in calibration.left()} == {
        "unused.weight": "the forward does not call its module",
        "places": "no output of Parts is linear in it",
        "attention.in_proj_weight": "no output of MultiheadAttention is linear in it",
        "lstm.weight_ih_l0": "no output of LSTM is linear in it",
        "lstm.weight_hh_l0": "no output of LSTM is linear in it",
    }
    found = stds(model, **PARTS_INPUTS)
    tied = calibration["head.weight"]
    assert (tied.name, tied.aliases, tied.module) == ("words.weight", ("head.weight",), "head")
    for name in ("stem", "attention", "head"):
        assert found[name] == pytest.approx(1, abs=0.05)
    rules = calibration.recipe.plain()["rules"]
    assert rules["stem.weight"]["init"]["factor"] == [
        {"count": "<Parts>", "times": 4},
        calibration["stem.weight"].factor,
    ]
    assert [*rules][len(PARTS["rules"]) :] == ["^attention.out_proj.weight", "^words.weight"]


def test_what_is_not_drawn_is_left_with_its_reason() -> None:
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)], nn.LayerNorm((4, 8)))
    model[0].weight.requires_grad_(False)
    rules = {
        "*.bias": 0,
        "3.weight": "orthogonal",
        "0.weight": "orthogonal",
        "1.weight": "keep",
        "2.weight": "copy source=^3.weight",
        "4.weight": 0,
        "6.weight": 1,
    }
    with pytest.warns(InitplugWarning) as told:
        calibration = initplug.calibrate(model, {"unmatched": "keep", "rules": rules}, normals(4, 8), seed=0, skip="3")
    heads = [str(one.message).splitlines()[0] for one in told]
    assert heads == [
        "rules of the recipe leave 1 frozen parameter alone (requires_grad=False)",
        "no weight was scaled",
    ]
    assert [(row.name, row.reason) for row in calibration] == [
        ("0.weight", "it is frozen"),
        ("1.weight", "rule '1.weight' is keep"),
        ("2.weight", "rule '2.weight' is copy"),
        ("3.weight", "it is to be skipped"),
        ("4.weight", "rule '4.weight' makes it 0"),
        ("5.weight", "no rule takes it"),
        ("6.weight", "it is a norm's"),
        ("6.bias", "rule '*.bias' makes it 0"),
    ]


def test_a_rule_of_one_weight_takes_the_factor_itself() -> None:
    model = net()
    rules = {"rules": {"*.bias": 0, "2.weight": "orthogonal factor=0.5", "0.weight": "xavier_normal"}}
    first = initplug.calibrate(model, rules, normals(16, 32), seed=0, tolerance=1e-4)
    assert [*first.recipe.rules] == [*rules["rules"]]
    factor = first["2.weight"].factor
    assert first.recipe.plain()["rules"]["2.weight"]["init"] == {"fn": "orthogonal", "factor": 0.5 * factor}
    again = initplug.calibrate(net(), first.recipe, normals(16, 32), seed=0, tolerance=1e-4)
    assert [(row.outcome, row.factor, row.rounds) for row in again] == [("fits", 1, 0)] * 2
    assert again.recipe == first.recipe and again.passes == 1
    other = initplug.calibrate(net(), first.recipe, normals(16, 32), seed=0, target=2.0)
    assert [*other.recipe.rules] == [*rules["rules"]]
    assert other.recipe.plain()["rules"]["2.weight"]["init"]["factor"] == 0.5 * factor * other["2.weight"].factor


def test_relative_paths_of_loaded_weights_stay_what_they_mean(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.eye(32)}, tmp_path / "some.pt")
    (tmp_path / "mine.yaml").write_text("rules: {'*.bias': 0, 2.weight: orthogonal, 0.weight: load path=some.pt}")
    calibration = initplug.calibrate(net(), tmp_path / "mine.yaml", normals(4, 32), seed=0)
    assert calibration["0.weight"].reason == "rule '0.weight' is load"
    initplug.apply(net(), initplug.load(calibration.recipe.to_yaml()), seed=0)


def test_a_recipe_that_no_file_may_hold_is_told() -> None:
    calibration = initplug.calibrate(net(8), NORMAL, normals(4, 8), seed=0)
    init = {"fn": "normal", "std": 0.02, "factor": 1.25}
    many = initplug.Recipe.model_validate({"rules": {f"^layers.{place}.weight": init for place in range(2500)}})
    with pytest.raises(
        initplug.InitplugError, match=r"^the recipe has 2500 rules, more than a file may hold .*: apply"
    ):
        replace(calibration, recipe=many).save("never.yaml")


# Hard layers --------------------------------------------------------------------------------------------------------


def test_a_bias_has_its_share_of_the_variance() -> None:
    rules = {"rules": {"*.weight": "orthogonal", "0.bias": "normal std=0.95", "2.bias": 0}}
    model = net(256)
    calibration = initplug.calibrate(model, rules, normals(64, 256), seed=0, tolerance=1e-3)
    assert stds(model, normals(64, 256))["0"] == pytest.approx(1, abs=0.0011)
    assert calibration["0.weight"].rounds <= 4
    share = 1 - float(model.get_parameter("0.bias").detach().var())
    assert model.get_parameter("0.weight").detach().std() == pytest.approx(math.sqrt(share) / 16, rel=0.05)


class Standardized(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize(
    ("first", "bias", "reason"),
    [
        (Standardized, "normal std=0.1", "its output hardly follows the scale of its weight"),
        (nn.Linear, "normal std=3", r"what its weight does not multiply has std 3\.\d+ already"),
        (nn.Linear, "normal std=1.2", r"what its weight does not multiply has std 1\.\d+ already"),
    ],
)
def test_a_layer_that_cannot_fit_is_left_as_it_was(first: type[nn.Linear], bias: str, reason: str) -> None:
    rules = {"rules": {"*.weight": "orthogonal", "0.bias": bias, "1.bias": 0}}
    model, other = nn.Sequential(first(64, 64), nn.Linear(64, 64)), nn.Sequential(first(64, 64), nn.Linear(64, 64))
    calibration = initplug.calibrate(model, rules, normals(64, 64), seed=0)
    initplug.apply(other, rules, seed=0)
    (left,) = calibration.left()
    assert (left.name, left.factor) == ("0.weight", 1)
    assert left.std == pytest.approx(left.before)
    assert left.reason is not None and re.fullmatch(reason, left.reason)
    assert torch.equal(model.get_parameter("0.weight"), other.get_parameter("0.weight"))
    assert stds(model, normals(64, 64))["1"] == pytest.approx(1, abs=0.05)


def test_outputs_that_are_constant_or_hold_no_floats_are_left() -> None:
    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).argmax(-1)

    class Writing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counting, self.one, self.last = Counting(8, 8), nn.Linear(8, 1), nn.Linear(1, 8)
            self.writing = Writing(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            given = self.last(self.one(x)) + self.counting(x)[:, None]
            return torch.as_tensor(self.writing(given))

    calibration = initplug.calibrate(Net(), NORMAL, normals(1, 8), seed=0)
    assert {row.name: row.reason for row in calibration} == {
        "one.weight": "its output is constant",
        "last.weight": None,
        "writing.weight": "its forward writes to its input",
        "counting.weight": "its output holds no floats",
    }
    with pytest.warns(InitplugWarning, match=r"no weight was scaled\n  weight \(Linear\): its output is constant"):
        initplug.calibrate(nn.Linear(8, 1), {"rules": {"*.weight": "normal", "*.bias": 0}}, normals(1, 8), seed=0)


def test_too_few_rounds_are_a_problem_that_is_told() -> None:
    rules = {"rules": {"*.weight": "orthogonal", "*.bias": "normal std=0.9"}}
    with pytest.warns(
        InitplugWarning, match="2 layers have no output of std 1 ± 0.0001\n  0.weight.*not within reach after 1 round\n"
    ):
        calibration = initplug.calibrate(net(), rules, normals(16, 32), seed=0, rounds=1, tolerance=1e-4)
    assert [row.outcome for row in calibration.problems()] == ["off", "off"]
    model = net()
    before = copied_values(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InitplugWarning):
            initplug.calibrate(model, rules, normals(16, 32), seed=0, rounds=1, tolerance=1e-4)
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())
    for row in calibration:
        assert row.rounds == 1 and row.reason == "not within reach after 1 round"
        assert row.std is not None and row.before is not None and abs(row.std - 1) < abs(row.before - 1)


def test_the_first_of_several_calls_counts() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = torch.tanh(3 * self.inner(x))
            return torch.as_tensor(self.head(x))

    model = Again()
    calibration = initplug.calibrate(model, NORMAL, 3 * normals(16, 32), seed=0, tolerance=0.01)
    assert [(row.name, row.calls) for row in calibration] == [("inner.weight", 3), ("head.weight", 1)]
    assert stds(model, 3 * normals(16, 32)) == pytest.approx({"inner": 1, "head": 1}, abs=0.011)
    assert "called 3 times, the first counts" in calibration.to_text(width=160)


def test_the_order_is_that_of_the_forward() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.last(torch.relu(self.first(x))))

    model = Backwards()
    calibration = initplug.calibrate(model, NORMAL, 7 * normals(16, 32), seed=0, tolerance=1e-3)
    assert [row.name for row in calibration] == ["first.weight", "last.weight"]
    assert stds(model, 7 * normals(16, 32)) == pytest.approx({"first": 1, "last": 1}, abs=0.0011)


def test_a_tied_weight_is_scaled_once_where_it_multiplies() -> None:
    tied = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
    tied[2].weight = tied[0].weight
    (row,) = initplug.calibrate(tied, ORTHOGONAL, 3 * normals(8, 16), seed=0)
    assert (row.name, row.module, row.calls, row.rounds) == ("0.weight", "0", 2, 1)

    shared = nn.Linear(16, 16)
    (row,) = initplug.calibrate(nn.Sequential(shared, nn.Tanh(), shared), ORTHOGONAL, 3 * normals(8, 16), seed=0)
    assert (row.name, row.module, row.calls, row.rounds) == ("0.weight", "0", 2, 1)

    class Language(Tied):
        def forward(self, words: Tensor) -> Tensor:
            embedded: Tensor = self.emb(words)
            return torch.as_tensor(self.head(embedded * 4))

    model, rules = Language(50, 16), {"rules": {"*.weight": "normal std=0.02"}}
    calibration = initplug.calibrate(model, rules, torch.arange(50)[None], seed=0, tolerance=0.01)
    assert [(row.name, row.module, row.reason) for row in calibration] == [
        ("emb.weight", "head", None),
        ("other.weight", None, "a lookup has the std of its weight"),
    ]
    assert calibration.passes > 2
    assert stds(model, torch.arange(50)[None])["head"] == pytest.approx(1, abs=0.0101)


def test_copies_follow_what_they_copy() -> None:
    rules = {
        "rules": {"*.bias": 0, "0.weight": "orthogonal", "1.weight": "copy source=^0.weight", "2.weight": "orthogonal"}
    }
    model = nn.Sequential(*[nn.Linear(32, 32) for _ in range(3)])
    calibration = initplug.calibrate(model, rules, 9 * normals(16, 32), seed=0, tolerance=1e-3)
    assert torch.equal(model.get_parameter("0.weight"), model.get_parameter("1.weight"))
    assert stds(model, 9 * normals(16, 32))["2"] == pytest.approx(1, abs=0.0011)
    assert calibration["2.weight"].outcome == "scaled"


def test_parts_of_a_weight_and_residual_ends() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(x + self.down(torch.relu(self.up(x))))

    rules = {"rules": {"*.bias": 0, "*.weight": {"split": ["orthogonal", "normal std=0.1"]}}}
    model, other = nn.Sequential(Block(), Block()), nn.Sequential(Block(), Block())
    calibration = initplug.calibrate(model, rules, normals(16, 32), seed=0, skip=["down"])
    initplug.apply(other, rules, seed=0)
    assert [row.name for row in calibration.left()] == ["0.down.weight", "1.down.weight"]
    mine, plain = dict(model.named_parameters()), dict(other.named_parameters())
    assert torch.equal(mine["1.down.weight"], plain["1.down.weight"])
    factor = calibration["1.up.weight"].factor
    assert torch.allclose(mine["1.up.weight"], plain["1.up.weight"] * factor, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_and_targets(dtype: torch.dtype) -> None:
    model, other = net(64).to(dtype), net(64).to(dtype)
    calibration = initplug.calibrate(model, ORTHOGONAL, normals(32, 64).to(dtype), seed=0, target=0.3, tolerance=0.01)
    initplug.apply(other, calibration.recipe, seed=0)
    same_bits(model, other)
    assert stds(model, normals(32, 64).to(dtype)) == pytest.approx({"0": 0.3, "2": 0.3}, rel=0.011)


def test_autocast_does_not_keep_the_weight_of_before() -> None:
    model = net(64)
    with torch.autocast("cpu", torch.bfloat16):
        calibration = initplug.calibrate(model, ORTHOGONAL, 5 * normals(32, 64), seed=0)
        assert stds(model, 5 * normals(32, 64)) == pytest.approx({"0": 1, "2": 1}, abs=0.05)
    assert [row.outcome for row in calibration] == ["scaled", "scaled"]


def test_wrappers_and_fused_kernels_do_not_hide_layers() -> None:
    inputs = normals(2, 5, 16)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    rules = {"rules": {"*": "normal std=0.1", "<*Norm*>.weight": 1, "*.bias": 0}}
    names = [row.name for row in initplug.calibrate(layer, rules, inputs, seed=0) if row.outcome == "scaled"]
    assert names == ["self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    for wrapped in (torch.compile(net(16), backend="eager"), nn.DataParallel(net(16))):
        assert [row.name for row in initplug.calibrate(wrapped, NORMAL, 3 * inputs, seed=0)] == ["0.weight", "2.weight"]  # type: ignore[arg-type]  # what torch.compile gives is a module


# What is left as it was ---------------------------------------------------------------------------------------------


class Busy(nn.Module):
    """A forward that changes whatever it can."""

    counted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.register_buffer("counted", torch.zeros(2))
        self.plain, self.steps, self.seen = torch.zeros(3), 0, [1]

    def forward(self, x: Tensor) -> Tensor:
        self.counted += 1
        self.plain += torch.randn(3)
        self.steps += 1
        self.seen.append(self.steps)
        self.cache = torch.rand(2) + random.random() + np.random.random()  # the global generator
        return nn.functional.dropout(self.last(self.norm(self.first(x))), 0.0)


def numpy_state() -> bytes:
    state: Any = np.random.get_state()
    return bytes(state[1].tobytes())


def test_all_but_parameters_is_as_before() -> None:
    model = Busy()
    model.norm.eval()
    model.last.weight.requires_grad_(True).grad = torch.ones(8, 8)
    model(normals(4, 8)).sum().backward()
    gradients = {name: (one.grad, one.grad.clone()) for name, one in model.named_parameters() if one.grad is not None}
    held, modes = copied_state(model), [part.training for part in model.modules()]
    plain, seen = model.plain.clone(), [*model.seen]
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), random.getstate(), numpy_state()
    rules = {
        "rules": {"*.weight": {"match": "*.weight", "ndim": 2, "init": "orthogonal"}, "norm.weight": 1, "*.bias": 0}
    }
    calibration = initplug.calibrate(model, rules, 3 * normals(4, 8), seed=0)
    assert calibration.summary["scaled"]
    assert torch.equal(states[0], torch.get_rng_state())
    assert (random.getstate(), numpy_state()) == states[1:]
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(model.counted, held["counted"]) and torch.equal(model.plain, plain)
    assert (model.steps, model.seen) == (1, seen) and torch.equal(model.norm.running_mean, held["norm.running_mean"])  # type: ignore[arg-type]  # it has one
    for name, (gradient, values) in gradients.items():
        assert model.get_parameter(name).grad is gradient and torch.equal(gradient, values)
    assert "forward" not in vars(model.first) and all(one.requires_grad for one in model.parameters())


class Failing(nn.Module):
    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error, self.first, self.last = error, nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.first(x)
            if self.error is not None:
                raise self.error
            return torch.as_tensor(self.last(torch.log(x)))
        except ApplyError:  # of others, as a model may do
            return x


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (
            RuntimeError("no such thing"),
            ApplyError,
            r"the forward raised RuntimeError: no such thing \(.*:\d+",
        ),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (
            None,
            ApplyError,
            r"last \(Linear\): 32 of the 32 elements of its output are NaN or infinite, as some of its input\n"
            "Everything is as it was",
        ),
    ],
)
@pytest.mark.parametrize("on_meta", [False, True])
def test_a_failure_leaves_everything_as_it_was(
    error: BaseException | None, raised: type[BaseException], said: str, on_meta: bool
) -> None:
    model = built_deferred(lambda: Failing(error)) if on_meta else Failing(error)
    before = {name: (one, None if on_meta else one.detach().clone()) for name, one in model.named_parameters()}
    with pytest.raises(raised, match=said):
        initplug.calibrate(model, NORMAL, 3 * normals(4, 8), seed=0)
    assert "forward" not in vars(model.first) and model.training
    for name, one in model.named_parameters():
        tensor, values = before[name]
        assert one is tensor
        assert one.is_meta if values is None else torch.equal(one, values)


def test_a_layer_that_makes_nan_is_named_itself() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    rules = {"rules": {"*.weight": "orthogonal", "0.bias": 0, "1.bias": 3e38}}
    model[1].register_forward_pre_hook(lambda _, args: (args[0] * 1e38,))
    with pytest.raises(ApplyError, match=r"^1 \(Linear\): \d+ of the 512 elements of its output are NaN or infinite\n"):
        initplug.calibrate(model, rules, 3e4 * normals(64, 8), seed=0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": None}, "seed=None: a weight that is drawn again must be the same draw, so calibrating takes a seed"),
        ({"seed": -1}, "seed=-1: a seed is a whole number from 0 to 2^64 - 1"),
        ({"method": "lsuvv"}, "method='lsuvv' is none: did you mean lsuv?"),
        ({"method": 3}, "method=3 is none: lsuv"),
        ({"target": 0}, "target=0: the standard deviation of outputs is a positive number"),
        ({"target": math.nan}, "target=nan: the standard deviation"),
        ({"tolerance": 1.0}, "tolerance=1.0: it is relative to the target, a number between 0 and 1"),
        ({"tolerance": True}, "tolerance=true: it is relative"),
        ({"rounds": 0}, "rounds=0: a weight is drawn again a whole number of times, at least once"),
        ({"threads": 0}, "threads=0: a number of threads"),
        ({"skip": "2.wieght"}, "skip='2.wieght' selects nothing (did you mean 2.weight?)"),
        ({"skip": ["2", 3]}, "skip= holds selectors, not 3"),
        ({"skip": "2.(a"}, "skip='2.(a': bad selector: "),
        ({"inputs": {"imput": normals(4, 8)}}, "forward of Sequential takes no 'imput' (did you mean input?)"),
        ({"inputs": (normals(4, 8), 3)}, "forward of Sequential takes 1 input, not 2"),
        ({"inputs": torch.full((4, 8), math.nan)}, "input 1 holds NaN itself"),
        ({"inputs": {3: normals(4, 8)}}, "inputs: a mapping holds keyword arguments, and 3 is no name"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(changed: dict[str, Any], said: str) -> None:
    model = net(8)
    given = {"inputs": normals(4, 8), "seed": 0, **changed}
    with untouched(model), pytest.raises(initplug.InitplugError) as caught:
        initplug.calibrate(model, NORMAL, **given)
    assert str(caught.value).startswith(said)


def test_recipes_and_models_are_checked_before_anything_is_written() -> None:
    model = net(8)
    with untouched(model), pytest.raises(RecipeError, match="unknown initializer"):
        initplug.calibrate(model, {"rules": {"*": "orthogonl"}}, normals(4, 8), seed=0)
    with untouched(model), pytest.raises(PlanError, match=r"2 of 4 parameters match no rule"):
        initplug.calibrate(model, {"rules": {"*.weight": "orthogonal"}}, normals(4, 8), seed=0)
    with pytest.raises(PlanError, match=r"a model is a torch\.nn\.Module, not a int"):
        initplug.calibrate(3, NORMAL, normals(4, 8), seed=0)  # type: ignore[arg-type]  # what is tested
    lazy = nn.Sequential(nn.LazyLinear(8))
    with pytest.raises(ApplyError, match=r"2 of 2 tensors are lazy\n  0\.weight: it waits .*\n.*\nRun the model on"):
        initplug.calibrate(lazy, NORMAL, normals(4, 8), seed=0)


def test_warnings_are_told_once_and_as_errors_change_nothing() -> None:
    rules = {"rules": {**ORTHOGONAL["rules"], "absent": {"match": "<Conv2d>.weight", "init": 0}}}
    model = net(8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        initplug.calibrate(model, rules, normals(4, 8), seed=0)
    assert len(caught) == 1 and "absent" in str(caught[0].message) and caught[0].filename == __file__
    before = copied_values(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InitplugWarning):
            initplug.calibrate(model, rules, normals(4, 8), seed=1)
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())


# The search ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [0.05, 1e-3, 1e-9])
@pytest.mark.parametrize(("weight", "bias"), [(0.25, 0.0), (3.0, 0.5), (40.0, 0.9), (1e12, 0.0)])
def test_the_search_ends_at_the_factor_that_solves_the_variance(weight: float, bias: float, tolerance: float) -> None:
    search = Search(Goal(tolerance=tolerance))

    def heard() -> float:
        return math.sqrt(weight * search.factor**2 + bias**2)

    while (factor := search.following(heard())) is not None:
        search.factor = factor
    assert search.goal.reached(heard()) and search.reason is None
    exact = math.sqrt((1 - bias**2) / weight)
    share = max(1 - bias**2, 0.1)
    assert search.factor == pytest.approx(exact, rel=2 * tolerance / share) or weight == 3.0
    assert search.rounds <= 6


# Tables, files, commands --------------------------------------------------------------------------------------------


def test_calibrations_as_tables_and_data(tmp_path: Path) -> None:
    calibration = initplug.calibrate(net(16, depth=3), NORMAL, normals(8, 16), seed=0, skip="4")
    told = calibration.to_text(width=120)
    assert "4.weight  Linear  *.weight  –" in told and told.endswith("1 weight left")
    assert repr(calibration) == f"<Calibration {calibration.headline()}>"
    assert calibration.told() == ["4.weight (Linear): it is to be skipped"]
    for suffix in (".json", ".csv", ".md"):
        calibration.save(tmp_path / f"rows{suffix}")
    data = json.loads((tmp_path / "rows.json").read_text())
    assert data["rows"] == [row.to_dict() for row in calibration] and data["seed"] == 0
    assert data["recipe"] == calibration.recipe.plain()
    assert data["summary"] == {"scaled": 2, "fits": 0, "off": 0, "left": 1, "rounds": 2, "passes": 2}
    rows = [*csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text()))]
    assert [row["factor"] for row in rows] == [str(row.factor) for row in calibration]
    assert (tmp_path / "rows.md").read_text().count("\n") == 5
    with pytest.raises(KeyError, match=r"has no weight '0.wieght' \(did you mean 0.weight\?\)"):
        calibration["0.wieght"]
    assert calibration.yaml.startswith(
        "# Sequential: 2 of 2 layers have outputs of std 1 ± 0.05; 2 scaled in 2 rounds;"
    )


MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.words, self.head = nn.Embedding(9, width), nn.Linear(width, 9)

    def forward(self, ids, scale=None):
        return self.head(self.words(ids) * (1 if scale is None else scale))

def batch(rows=4):
    print("made")
    return {"ids": torch.arange(rows)[None]}
"""


def test_the_command_writes_a_recipe_that_gives_the_same_weights(tmp_path: Path) -> None:
    file = tmp_path / "calibrated_nets.py"
    file.write_text(MODULE)
    words = [f"{file}:Net", "torch_default", "--seed", "3"]
    ids = ["--input", "ids=2x7:int64<9", "--input", "scale=1x1"]
    done = invoke("calibrate", *words, *ids, "--out", f"{tmp_path}/mine.yaml", "--json", status=0)
    rows = json.loads(done.stdout)["rows"]
    assert [(row["name"], row["outcome"]) for row in rows] == [("head.weight", "scaled"), ("words.weight", "left")]
    read = initplug.load(tmp_path / "mine.yaml")
    assert read.rules["^head.weight"].init.factors[0].number == rows[0]["factor"]  # type: ignore[union-attr]  # a rule
    done = invoke("calibrate", *words, "--input", f"{file}:batch(rows=9)", "--skip", "head", "--strict", status=1)
    assert "it is to be skipped" in done.stdout and "made" not in done.stdout
    assert "warning: no weight was scaled" in done.stderr and "1 warning with --strict" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--input", "4x8", "--seed", "0"], 0, "Linear: 1 of 1 layers have outputs of std 1 ± 0.05"),
        (["--seed", "0"], 2, "Missing option '--input'"),
        (["--input", "4x8"], 2, "Missing option '--seed'"),
        (["--input", "4x8", "--seed", "-1"], 2, "--seed is a whole number from 0 to 2^64 - 1"),
        (["--input", "4*8", "--seed", "0"], 2, "input '4*8': expected one of 8x3x32x32"),
        (["--input", "torch:no_such", "--seed", "0"], 2, "input 'torch:no_such': torch has no 'no_such'"),
        (["--input", "math:sqrt(-1)", "--seed", "0"], 1, "input 'math:sqrt(-1)' raised ValueError"),
        (["--input", "4x7", "--seed", "0"], 1, "ApplyError: the forward raised RuntimeError: mat1 and mat2"),
        (["--input", "4x8", "--seed", "0", "--out", "mine.txt"], 1, "mine.txt"),
        (["--input", "4x8", "--seed", "0", "bias=3"], 1, "bias"),
        (["--input", "4x8", "--seed", "0", "--rounds", "1", "--tolerance", "1e-6"], 1, "1 of 1 weights have no factor"),
    ],
)
def test_the_command_ends_in_a_line(words: list[str], status: int, said: str) -> None:
    assert said in invoke("calibrate", "torch.nn:Linear(8, 8)", "torch_default", *words, status=status).output
