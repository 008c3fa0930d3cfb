"""Initializers: torch.nn.init bit for bit where it has one, scipy and published formulas for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nets import copied_state
from scipy import integrate, special, stats
from torch import nn
from torch_parts import draws_well

import initplug

Fill = Callable[[torch.Tensor], object]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Mixed(nn.Module):
    """Weights of two to five dimensions, some below 16 elements, vectors and a scalar in between."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.small = nn.Linear(3, 4)
        self.conv = nn.Conv2d(4, 6, 3, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 5, 2)
        self.volume = nn.Conv3d(2, 3, 2, bias=False)
        self.signal = nn.Conv1d(3, 7, 5)
        self.wide = nn.Linear(33, 65)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width + 1) for width in (1, 4, 17, 40))
        self.table = nn.Embedding(9, 11)


def torch_records() -> list[tuple[Any, Fill, bool]]:
    """(initializer, the same by torch.nn.init, does it need fans)"""
    init = nn.init
    records: list[tuple[Any, Fill, bool]] = [
        ("zeros", init.zeros_, False),
        ("ones", init.ones_, False),
        (0.37, lambda w: init.constant_(w, 0.37), False),
        ("constant -3", lambda w: init.constant_(w, -3.0), False),
        ("normal", init.normal_, False),
        ("normal std=0.02", lambda w: init.normal_(w, 0.0, 0.02), False),
        ({"fn": "normal", "mean": 1, "std": 0.3}, lambda w: init.normal_(w, 1.0, 0.3), False),
        ("uniform -0.1 0.3", lambda w: init.uniform_(w, -0.1, 0.3), False),
        ("uniform 0 1", lambda w: init.uniform_(w, 0.0, 1.0), False),
        ("trunc_normal", lambda w: init.trunc_normal_(w, 0.0, 1.0, -2.0, 2.0), False),
        ("trunc_normal std=0.5", lambda w: init.trunc_normal_(w, 0.0, 0.5, -1.0, 1.0), False),
        ("trunc_normal std=0.02 low=-2 high=2", lambda w: init.trunc_normal_(w, 0.0, 0.02, -2.0, 2.0), False),
        ("trunc_normal mean=0.5 std=0.25 cutoff=1", lambda w: init.trunc_normal_(w, 0.5, 0.25, 0.25, 0.75), False),
        ("xavier_uniform", init.xavier_uniform_, True),
        ("xavier_normal", init.xavier_normal_, True),
        ("xavier_uniform 0.7", lambda w: init.xavier_uniform_(w, 0.7), True),
        ("xavier_normal gain=1.9", lambda w: init.xavier_normal_(w, 1.9), True),
        ("xavier_uniform relu", lambda w: init.xavier_uniform_(w, init.calculate_gain("relu")), True),
        ("xavier_normal leaky_relu", lambda w: init.xavier_normal_(w, init.calculate_gain("leaky_relu")), True),
        ("xavier_normal tanh", lambda w: init.xavier_normal_(w, init.calculate_gain("tanh")), True),
        ("kaiming_normal", init.kaiming_normal_, True),
        ("kaiming_uniform", init.kaiming_uniform_, True),
    ]
    for mode in ("fan_in", "fan_out"):
        for a in (0.0, 0.2, math.sqrt(5)):
            records.append(
                (
                    {"fn": "kaiming_uniform", "mode": mode, "a": a},
                    lambda w, mode=mode, a=a: init.kaiming_uniform_(w, a, mode),  # type: ignore[misc]
                    True,
                )
            )
            records.append(
                (
                    f"kaiming_normal {mode} a={a!r}",
                    lambda w, mode=mode, a=a: init.kaiming_normal_(w, a, mode),  # type: ignore[misc]
                    True,
                )
            )
        for name in ("relu", "tanh", "sigmoid", "selu", "linear", "leaky_relu"):
            records.append(
                (
                    f"kaiming_normal {mode} {name}",
                    lambda w, mode=mode, name=name: init.kaiming_normal_(w, 0, mode, name),  # type: ignore[misc]
                    True,
                )
            )
            records.append(
                (
                    {"fn": "kaiming_uniform", "mode": mode, "nonlinearity": name},
                    lambda w, mode=mode, name=name: init.kaiming_uniform_(w, 0, mode, name),  # type: ignore[misc]
                    True,
                )
            )
    return records


RECORDS = torch_records()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("spec", "fill", "needs_fans"), RECORDS, ids=[str(spec) for spec, *_ in RECORDS])
def test_bit_equal_to_torch_nn_init(spec: Any, fill: Fill, needs_fans: bool, dtype: torch.dtype) -> None:
    vector = "uniform -0.5 0.5" if needs_fans else spec
    recipe = {
        "rules": {
            "matrices": {"match": "*", "ndim": ">=2", "init": spec},
            "vectors": {"match": "*", "ndim": [0, 1], "init": vector},
        }
    }
    for build in (Mixed, Stack):
        ours, theirs = build().to(dtype), build().to(dtype)
        torch.manual_seed(11)
        audit = initplug.apply(ours, recipe)
        state = torch.get_rng_state()
        torch.manual_seed(11)
        for parameter in theirs.parameters():
            if needs_fans and parameter.ndim < 2:
                nn.init.uniform_(parameter, -0.5, 0.5)
            else:
                fill(parameter)
        assert torch.equal(torch.get_rng_state(), state)
        for (name, got), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert got.dtype == dtype
            assert torch.equal(got, expected), name
        # Those of half precision pile up at their bounds where torch draws them badly, which an audit sees.
        piled = [name for name, got in ours.named_parameters() if "high=2" in str(spec) and (got.abs() == 2).any()]
        assert [row.name for row in audit.problems()] == ([] if draws_well(dtype) else piled)


def test_different_rules_share_one_generator_in_the_order_of_named_parameters() -> None:
    rules = {"*": "normal std=0.1", "<Linear>.weight": "kaiming_uniform", "up.**": "uniform 0 1", "norm.**": 1}
    ours, theirs = Mixed(), Mixed()
    torch.manual_seed(3)
    initplug.apply(ours, {"rules": rules})
    torch.manual_seed(3)
    for name, parameter in theirs.named_parameters():
        if name.startswith("norm"):
            nn.init.ones_(parameter)
        elif name.startswith("up"):
            nn.init.uniform_(parameter, 0, 1)
        elif name in ("small.weight", "wide.weight"):
            nn.init.kaiming_uniform_(parameter)
        else:
            nn.init.normal_(parameter, 0, 0.1)
    for (name, got), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(got, expected), name


def test_memory_formats_draw_as_torch_draws() -> None:
    ours = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    theirs = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.manual_seed(5)
    initplug.apply(ours, {"rules": {"weight.**": "kaiming_normal", "bias.**": 0}})
    torch.manual_seed(5)
    nn.init.kaiming_normal_(theirs.weight)
    assert torch.equal(ours.weight, theirs.weight)
    assert ours.weight.is_contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------------------- moments, bounds, KS

CUT = 0.87962566103423978
Law = Callable[[float, float], Any]


def normal(std: float, mean: float = 0.0) -> Any:
    return stats.norm(mean, std)


def uniform(low: float, high: float) -> Any:
    return stats.uniform(low, high - low)


def truncated(std: float, low: float, high: float, mean: float = 0.0) -> Any:
    return stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)


def cut_at_two(std: float) -> Any:
    return truncated(std, -2 * std, 2 * std)


def around_zero(bound: float) -> Any:
    return uniform(-bound, bound)


def other_records() -> list[tuple[Any, Law]]:
    records: list[tuple[Any, Law]] = [
        ("lecun_normal", lambda i, o: cut_at_two(math.sqrt(1 / i) / CUT)),
        ("lecun_uniform", lambda i, o: around_zero(math.sqrt(3 / i))),
        ("variance_scaling", lambda i, o: cut_at_two(math.sqrt(1 / i) / CUT)),
        ("fan_uniform", lambda i, o: around_zero(1 / math.sqrt(i))),
        ("fan_uniform fan_out", lambda i, o: around_zero(1 / math.sqrt(o))),
        ("fan_uniform gain=0.3", lambda i, o: around_zero(0.3 / math.sqrt(i))),
        ({"fn": "fan_uniform", "gain": "relu", "mode": "fan_out"}, lambda i, o: around_zero(math.sqrt(2 / o))),
        ("trunc_normal std=0.02", lambda i, o: truncated(0.02, -0.04, 0.04)),
        ("trunc_normal std=0.02 cutoff=1", lambda i, o: truncated(0.02, -0.02, 0.02)),
        ("trunc_normal std=0.5 mean=1 cutoff=3", lambda i, o: truncated(0.5, -0.5, 2.5, 1.0)),
        ("trunc_normal std=0.02 low=-0.01 high=0.05", lambda i, o: truncated(0.02, -0.01, 0.05)),
        ("trunc_normal mean=0.1 std=0.2 low=0 high=0.2", lambda i, o: truncated(0.2, 0.0, 0.2, 0.1)),
        ("trunc_normal std=0.02 low=-2 high=2", lambda i, o: normal(0.02)),
        ("xavier_uniform", lambda i, o: around_zero(math.sqrt(6 / (i + o)))),
        ("xavier_normal", lambda i, o: normal(math.sqrt(2 / (i + o)))),
        ("kaiming_normal fan_out relu", lambda i, o: normal(math.sqrt(2 / o))),
        ("kaiming_uniform a=1", lambda i, o: around_zero(math.sqrt(3 / i))),
        ("kaiming_normal gelu", lambda i, o: normal(gain_by_quadrature("gelu") / math.sqrt(i))),
        ("kaiming_uniform silu fan_out", lambda i, o: around_zero(gain_by_quadrature("silu") * math.sqrt(3 / o))),
        ("xavier_normal softplus", lambda i, o: normal(gain_by_quadrature("softplus") * math.sqrt(2 / (i + o)))),
    ]
    fan: dict[str, Callable[[float, float], float]] = {
        "fan_in": lambda i, o: i,
        "fan_out": lambda i, o: o,
        "fan_avg": lambda i, o: (i + o) / 2,
        "fan_geo_avg": lambda i, o: math.sqrt(i * o),
    }
    shapes: dict[tuple[str, str], Callable[[float], Any]] = {
        ("normal", "exact"): lambda variance: normal(math.sqrt(variance)),
        ("uniform", "exact"): lambda variance: around_zero(math.sqrt(3 * variance)),
        ("truncated_normal", "exact"): lambda variance: cut_at_two(math.sqrt(variance) / CUT),
        ("truncated_normal", "tf_contrib"): lambda variance: cut_at_two(math.sqrt(1.3 * variance)),
        ("truncated_normal", "none"): lambda variance: cut_at_two(math.sqrt(variance)),
    }
    for mode, n in fan.items():
        for (distribution, correction), law in shapes.items():
            spec: dict[str, Any] = {"fn": "variance_scaling", "scale": 2, "mode": mode, "distribution": distribution}
            if distribution == "truncated_normal":
                spec["correction"] = correction
            records.append((spec, lambda i, o, n=n, law=law: law(2 / n(i, o))))  # type: ignore[misc]
    return records


def gain_by_quadrature(name: str) -> float:
    def squared(z: float) -> float:
        return float(ACTIVATIONS[name](z)) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    left = integrate.quad(squared, -40, 0, epsabs=1e-13, epsrel=1e-12, limit=400, points=[-3.0])[0]
    right = integrate.quad(squared, 0, 40, epsabs=1e-13, epsrel=1e-12, limit=400, points=[3.0])[0]
    return 1 / math.sqrt(left + right)


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "gelu": lambda z: z * float(special.ndtr(z)),
    "silu": lambda z: z * float(special.expit(z)),
    "mish": lambda z: z * math.tanh(float(np.logaddexp(0, z))),
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "softplus": lambda z: float(np.logaddexp(0, z)),
    "hardswish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
}
OTHERS = other_records()
BIG: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "linear": (lambda: nn.Linear(160, 90, bias=False), 160, 90),
    "conv": (lambda: nn.Conv2d(12, 60, 5, groups=2, bias=False), 6 * 25, 60 * 25),
}


def assert_sampled_from(values: np.ndarray[Any, Any], law: Any) -> None:
    n = values.size
    mean, variance, _, excess = (float(moment) for moment in law.stats("mvsk"))
    std = math.sqrt(variance)
    low, high = law.support()
    assert values.min() >= low - 1e-6 * std
    assert values.max() <= high + 1e-6 * std
    assert abs(values.mean() - mean) < 6 * std / math.sqrt(n)
    assert abs(values.std() - std) < 6 * std * math.sqrt((excess + 2) / (4 * n))
    assert stats.kstest(values, law.cdf).pvalue > 1e-5


@pytest.mark.parametrize("layer", BIG.values(), ids=BIG.keys())
@pytest.mark.parametrize(("spec", "law"), OTHERS, ids=[str(spec) for spec, _ in OTHERS])
def test_moments_bounds_and_shape(spec: Any, law: Law, layer: tuple[Callable[[], nn.Module], float, float]) -> None:
    build, fan_in, fan_out = layer
    module: Any = build()
    expected = law(fan_in, fan_out)
    torch.manual_seed(17)
    audit = initplug.apply(module, {"rules": {"*": spec}})
    planned: Any = initplug.plan(module, {"rules": {"*": spec}})["weight"]
    assert planned.mean == pytest.approx(expected.mean(), rel=1e-7, abs=1e-12)
    assert planned.std == pytest.approx(expected.std(), rel=1e-7)
    low, high = expected.support()
    if math.isfinite(low):
        assert planned.low == pytest.approx(low, rel=1e-12)
        assert planned.high == pytest.approx(high, rel=1e-12)
    values = module.weight.detach().double().numpy().ravel()
    assert_sampled_from(values, expected)
    (row,) = audit.to_dict()["rows"]
    assert (row["status"], row["verdict"]) == ("initialized", "ok")
    assert row["measured_mean"] == pytest.approx(values.mean(), rel=1e-4, abs=1e-7)
    assert row["measured_std"] == pytest.approx(values.std(), rel=1e-5)
    assert row["measured_min"] == pytest.approx(values.min(), rel=1e-6)
    assert row["measured_max"] == pytest.approx(values.max(), rel=1e-6)
    assert row["measured_count"] == values.size


def test_the_statistical_check_can_fail() -> None:
    values = np.random.default_rng(0).normal(0, 1, 10_000)
    assert_sampled_from(values, normal(1.0))
    for wrong in (normal(1.1), normal(1.0, 0.1), cut_at_two(1 / CUT), around_zero(math.sqrt(3))):
        with pytest.raises(AssertionError):
            assert_sampled_from(values, wrong)


@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [
        (0.0, 1.0, 5.0, 8.0),
        (0.0, 1.0, -9.0, -4.0),
        (1.0, 0.1, 1.5, 30.0),
        (0.0, 0.02, -2.0, 2.0),
        (0.0, 1.0, -1e-3, 1e-3),
        (3.0, 2.0, -100.0, 3.5),
        (0.0, 1.0, 0.0, 1e6),
    ],
)
def test_truncated_moments_far_from_the_middle(mean: float, std: float, low: float, high: float) -> None:
    recipe = {"rules": {"*": {"fn": "trunc_normal", "mean": mean, "std": std, "low": low, "high": high}}}
    planned: Any = initplug.plan(nn.Linear(2, 2, bias=False), recipe)["weight"]

    def density(z: float) -> float:
        return math.exp(-(z * z - floor) / 2)

    a, b = (low - mean) / std, (high - mean) / std
    a, b = max(a, -40.0), min(b, 40.0)
    floor = 0.0 if a <= 0 <= b else min(a * a, b * b)
    points = [max(a, -5.0), 0.0, min(b, 5.0)] if a <= 0 <= b else None

    def moment(k: int) -> float:
        return float(
            integrate.quad(lambda z: z**k * density(z), a, b, epsabs=0, epsrel=1e-11, limit=500, points=points)[0]
        )

    mass = moment(0)
    first = 0.0 if a == -b else moment(1) / mass
    spread = math.sqrt(
        integrate.quad(lambda z: (z - first) ** 2 * density(z), a, b, epsabs=0, epsrel=1e-11, limit=500, points=points)[
            0
        ]
        / mass
    )
    assert planned.mean == pytest.approx(mean + std * first, rel=1e-8, abs=1e-10 * std)
    assert planned.std == pytest.approx(std * spread, rel=1e-6)
    assert (planned.low, planned.high) == (low, high)


@pytest.mark.parametrize(("low", "high"), [(6.5, 9.0), (-30.0, -6.01)])
def test_a_truncation_interval_in_the_far_tail_is_refused(low: float, high: float) -> None:
    with pytest.raises(initplug.InitplugError):
        initplug.plan(nn.Linear(2, 2), {"rules": {"*": {"fn": "trunc_normal", "low": low, "high": high}}})
    initplug.plan(nn.Linear(2, 2), {"rules": {"*": {"fn": "trunc_normal", "low": -1e9, "high": 1e9}}})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("prior_bias", math.log(0.01 / 0.99)),
        ("prior_bias", -4.59511985013459),
        ("prior_bias 0.2", math.log(0.25)),
        ("prior_bias p=0.5", 0.0),
        ("prior_bias 0.2 log", math.log(0.2)),
        ("prior_bias uniform", math.log((1 / 30) / (29 / 30))),
        ("prior_bias uniform log", -math.log(30)),
        ({"fn": "prior_bias", "p": "uniform", "link": "logit"}, -math.log(29)),
    ],
)
def test_prior_bias(spec: Any, expected: float) -> None:
    model = nn.Linear(4, 30)
    recipe = {"rules": {"*.weight": 0, "*.bias": spec}}
    planned: Any = initplug.plan(model, recipe)["bias"]
    assert planned.mean == pytest.approx(expected, rel=1e-14, abs=1e-15)
    assert planned.std == 0
    initplug.apply(model, recipe)
    assert torch.equal(model.bias, torch.full((30,), planned.mean))


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(7, 5)
        self.inner = nn.ModuleDict({"q": nn.Linear(9, 4), "k": nn.Linear(16, 4)})


@pytest.mark.parametrize(
    ("extra", "fan"),
    [
        ({}, 16),
        ({"of": "weight"}, 16),
        ({"mode": "fan_out"}, 4),
        ({"of": "..q.weight"}, 9),
        ({"of": "^stem.weight"}, 7),
        ({"of": "^stem.weight", "mode": "fan_out", "gain": 1}, 5),
    ],
)
def test_fan_uniform_of_another_tensor(extra: dict[str, Any], fan: int) -> None:
    rules = {"*": 0, "inner.k.bias": {"fn": "fan_uniform", **extra}}
    planned: Any = initplug.plan(Attended(), {"rules": rules})["inner.k.bias"]
    assert planned.high == pytest.approx(1 / math.sqrt(fan), rel=1e-14)
    assert planned.low == -planned.high


@pytest.mark.parametrize("of", ["^nowhere.weight", "..v.weight", "bias", "....weight", "_private", "^stem.__class__"])
def test_fan_uniform_of_something_without_fans_is_a_plan_error(of: str) -> None:
    rules = {"*": 0, "inner.k.bias": {"fn": "fan_uniform", "of": of}}
    with pytest.raises(initplug.InitplugError, match=r"inner\.k\.bias|init\.of"):
        initplug.plan(Attended(), {"rules": rules})


# ------------------------------------------------------------------------------------------------- fans


class Conv1D(nn.Module):
    """The layout of transformers' Conv1D: weight is (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(7, 5),
    "conv2d": lambda: nn.Conv2d(8, 16, 3),
    "grouped": lambda: nn.Conv2d(8, 16, (3, 5), groups=4),
    "depthwise": lambda: nn.Conv1d(8, 8, 3, groups=8),
    "transposed": lambda: nn.ConvTranspose2d(8, 16, 3),
    "grouped transposed": lambda: nn.ConvTranspose2d(8, 16, 3, groups=4),
    "Conv1D": lambda: Conv1D(5, 7),
}
FANS: list[tuple[str, str, tuple[int, int]]] = [
    ("linear", "torch", (7, 5)),
    ("linear", "effective", (7, 5)),
    ("linear", "flat", (7, 5)),
    ("conv2d", "torch", (72, 144)),
    ("conv2d", "effective", (72, 144)),
    ("conv2d", "flat", (72, 16)),
    ("grouped", "torch", (2 * 15, 16 * 15)),
    ("grouped", "effective", (2 * 15, 16 * 15 // 4)),
    ("grouped", "flat", (2 * 15, 16)),
    ("depthwise", "torch", (3, 24)),
    ("depthwise", "effective", (3, 3)),
    ("depthwise", "flat", (3, 8)),
    ("transposed", "torch", (144, 72)),
    ("transposed", "effective", (72, 144)),
    ("transposed", "flat", (144, 8)),
    ("grouped transposed", "torch", (4 * 9, 8 * 9)),
    ("grouped transposed", "effective", (8 // 4 * 9, 4 * 9)),
    ("grouped transposed", "flat", (36, 8)),
    ("Conv1D", "torch", (5, 7)),
    ("Conv1D", "effective", (7, 5)),
    ("Conv1D", "flat", (5, 7)),
]


@pytest.mark.parametrize(("layer", "rule", "expected"), FANS, ids=[f"{layer} {rule}" for layer, rule, _ in FANS])
def test_fans(layer: str, rule: str, expected: tuple[int, int]) -> None:
    for mode, fan in zip(("fan_in", "fan_out"), expected, strict=True):
        rules = {"*": 0, "*.weight": {"fn": "kaiming_normal", "nonlinearity": "linear", "mode": mode, "fans": rule}}
        planned: Any = initplug.plan(nn.Sequential(LAYERS[layer]()), {"rules": rules})["0.weight"]
        assert (planned.fan_in, planned.fan_out) == expected
        assert planned.std == pytest.approx(1 / math.sqrt(fan), rel=1e-14)


@pytest.mark.parametrize("layer", LAYERS)
def test_torch_fans_are_those_of_torch(layer: str) -> None:
    module = LAYERS[layer]()
    planned: Any = initplug.plan(module, {"rules": {"*": 0, "*.weight": "xavier_uniform"}})["weight"]
    expected = nn.init._calculate_fan_in_and_fan_out(module.weight)  # type: ignore[arg-type]
    assert (planned.fan_in, planned.fan_out) == expected


@pytest.mark.parametrize("build", [lambda: nn.Embedding(10, 4), lambda: nn.EmbeddingBag(10, 4)])
def test_embeddings_have_no_effective_fans(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(initplug.PlanError, match=r"0\.weight"):
        initplug.plan(nn.Sequential(build()), {"rules": {"*": "xavier_uniform effective"}})
    planned: Any = initplug.plan(nn.Sequential(build()), {"rules": {"*": "xavier_uniform"}})["0.weight"]
    assert (planned.fan_in, planned.fan_out) == (4, 10)


@pytest.mark.parametrize(
    "spec",
    [
        "xavier_uniform",
        "xavier_normal",
        "kaiming_uniform",
        "kaiming_normal",
        "lecun_normal",
        "lecun_uniform",
        "variance_scaling",
        "kaiming_normal flat",
        "kaiming_normal effective",
    ],
)
def test_fans_below_two_dimensions_are_a_plan_error(spec: str) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(nn.Sequential(nn.Linear(3, 4)), {"rules": {"first": {"match": "*", "init": spec}}})
    text = str(caught.value)
    assert "0.bias" in text
    assert "(4,)" in text
    assert "first" in text
    assert "0.weight" not in text


CONVOLUTIONS = [f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)]


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "sigmoid", "selu", "linear", *CONVOLUTIONS])
def test_gains_of_torch(name: Any) -> None:
    weight = nn.Linear(9, 9, bias=False)
    planned: Any = initplug.plan(weight, {"rules": {"*": f"xavier_normal {name}"}})["weight"]
    assert planned.std * 3 == pytest.approx(nn.init.calculate_gain(name), rel=1e-14)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gains_by_quadrature(name: str) -> None:
    weight = nn.Linear(9, 9, bias=False)
    for spec in (f"xavier_normal {name}", f"kaiming_normal {name}", f"xavier_normal gain={name}"):
        planned: Any = initplug.plan(weight, {"rules": {"*": spec}})["weight"]
        assert planned.std * 3 == pytest.approx(gain_by_quadrature(name), abs=1e-6)
    planned = initplug.plan(weight, {"rules": {"*": f"fan_uniform {name}"}})["weight"]
    assert planned.high * 3 == pytest.approx(gain_by_quadrature(name), abs=1e-6)


def test_the_quadrature_reproduces_relu() -> None:
    ACTIVATIONS["relu"] = lambda z: max(z, 0.0)
    try:
        assert gain_by_quadrature("relu") == pytest.approx(math.sqrt(2), rel=1e-10)
    finally:
        del ACTIVATIONS["relu"]


# ---------------------------------------------------------------------------------------------- default

LEAVES: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(30, 20),
    "Linear without bias": lambda: nn.Linear(30, 20, bias=False),
    "Bilinear": lambda: nn.Bilinear(5, 6, 7),
    "Conv1d": lambda: nn.Conv1d(6, 8, 3, groups=2),
    "Conv2d": lambda: nn.Conv2d(6, 8, 3),
    "Conv3d": lambda: nn.Conv3d(4, 6, 2),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(6, 8, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(6, 8, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(3, 4, 2),
    "Embedding": lambda: nn.Embedding(20, 10),
    "Embedding with padding": lambda: nn.Embedding(20, 10, padding_idx=3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(20, 10, padding_idx=0),
    "LSTM": lambda: nn.LSTM(5, 8, num_layers=2, bidirectional=True),
    "LSTM with projection": lambda: nn.LSTM(5, 8, proj_size=3),
    "GRU": lambda: nn.GRU(5, 8, bidirectional=True),
    "RNN": lambda: nn.RNN(5, 8, nonlinearity="relu"),
    "LSTMCell": lambda: nn.LSTMCell(5, 8),
    "GRUCell": lambda: nn.GRUCell(5, 8),
    "RNNCell": lambda: nn.RNNCell(5, 8),
    "BatchNorm1d": lambda: nn.BatchNorm1d(5),
    "BatchNorm2d": lambda: nn.BatchNorm2d(5),
    "BatchNorm3d": lambda: nn.BatchNorm3d(5),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(5),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(5, affine=True),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "LayerNorm": lambda: nn.LayerNorm((3, 4)),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "PReLU": lambda: nn.PReLU(3, init=0.1),
}
TREES: dict[str, Callable[[], nn.Module]] = {
    "MultiheadAttention": lambda: nn.MultiheadAttention(12, 3),
    "MultiheadAttention kdim vdim": lambda: nn.MultiheadAttention(12, 3, kdim=5, vdim=7),
    "MultiheadAttention bias_kv": lambda: nn.MultiheadAttention(12, 3, add_bias_kv=True),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(12, 3, 20),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(12, 3, 20),
    "Transformer": lambda: nn.Transformer(12, 2, 1, 1, 20, batch_first=True),
    "AdaptiveLogSoftmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 40, [10, 20], head_bias=True),
    "Sequential": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Conv2d(4, 4, 3))),
}
DEFAULT: dict[str, Any] = {"rules": {"*": "default"}}


def constructed(build: Callable[[], nn.Module], times: int) -> dict[str, np.ndarray[Any, Any]]:
    torch.manual_seed(23)
    drawn: dict[str, list[np.ndarray[Any, Any]]] = {}
    for _ in range(times):
        module = build()
        for name, parameter in module.named_parameters():
            values = parameter.detach().double().numpy()
            padding = getattr(module, "padding_idx", None)
            kept = values if padding is None else np.delete(values, padding, axis=0)
            drawn.setdefault(name, []).append(kept.ravel())
    return {name: np.concatenate(pieces) for name, pieces in drawn.items()}


@pytest.mark.parametrize("kind", [*LEAVES, *TREES])
def test_default_is_what_construction_draws(kind: str) -> None:
    build = {**LEAVES, **TREES}[kind]
    samples = constructed(build, 120)
    plan: list[Any] = list(initplug.plan(build(), DEFAULT))
    assert [a.name for a in plan] == list(samples)
    for a in plan:
        sample = samples[a.name]
        if np.ptp(sample) == 0:
            assert a.std == 0, a.name
            assert a.mean == pytest.approx(sample[0], rel=1e-6), a.name
            assert (a.low, a.high) in [(None, None), (a.mean, a.mean)], a.name
            continue
        assert a.std is not None and a.std > 0, a.name
        assert abs(sample.mean() - a.mean) < 6 * a.std / math.sqrt(sample.size), a.name
        assert abs(sample.std() - a.std) < 6 * a.std / math.sqrt(2 * sample.size), a.name
        bounded = abs(sample).max() < 1.8 * sample.std()
        if bounded:
            assert -a.low == a.high == pytest.approx(a.std * math.sqrt(3), rel=1e-6), a.name
            assert 0.98 * a.high < abs(sample).max() <= a.high * (1 + 1e-6), a.name
        else:
            assert not (a.high is not None and math.isfinite(a.high)), a.name
        law = around_zero(a.high) if bounded else normal(a.std)
        assert stats.kstest(sample, law.cdf).pvalue > 1e-5, a.name


@pytest.mark.parametrize("kind", LEAVES)
def test_default_replays_a_leaf_bit_for_bit(kind: str) -> None:
    torch.manual_seed(29)
    expected = LEAVES[kind]()
    torch.manual_seed(31)
    module = LEAVES[kind]()
    torch.manual_seed(29)
    initplug.apply(module, DEFAULT)
    for (name, got), wanted in zip(module.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(got, wanted), name


def test_default_replays_a_tree_of_leaves_bit_for_bit() -> None:
    def build() -> nn.Module:
        return nn.Sequential(*[LEAVES[kind]() for kind in ("Linear", "Conv2d", "BatchNorm2d", "Embedding", "GRU")])

    torch.manual_seed(37)
    expected = build()
    module = build()
    torch.manual_seed(37)
    initplug.apply(module, DEFAULT)
    for (name, got), wanted in zip(module.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(got, wanted), name


def test_planning_default_draws_nothing_and_changes_nothing() -> None:
    model = nn.Transformer(12, 2, 1, 1, 20, batch_first=True)
    before = copied_state(model)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    initplug.plan(model, DEFAULT)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class OwnReset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.gate = nn.Parameter(torch.empty(6))
        self.table = nn.Parameter(torch.empty(4, 6))
        self.shift = nn.Parameter(torch.empty(6))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.table, std=0.5, a=-1.0, b=1.0)
        nn.init.constant_(self.gate, 3.0)
        with torch.no_grad():
            self.shift.uniform_(-0.25, 0.75)
        nn.init.normal_(self.inner.weight, 1.0, 0.25)


def test_default_follows_a_modules_own_reset_over_its_childs() -> None:
    plan = initplug.plan(nn.Sequential(OwnReset()), DEFAULT)
    assert (plan["0.gate"].mean, plan["0.gate"].std) == (3.0, 0.0)
    assert (plan["0.shift"].low, plan["0.shift"].high) == (-0.25, 0.75)
    assert (plan["0.inner.weight"].mean, plan["0.inner.weight"].std) == (1.0, 0.25)
    assert plan["0.inner.bias"].high == pytest.approx(1 / math.sqrt(6), rel=1e-12)
    assert plan["0.table"].std == pytest.approx(cut_at_two(0.5).std(), rel=1e-9)


class Parent(nn.Module):
    """Its reset writes over what the child's own reset draws."""

    def __init__(self, write: Fill) -> None:
        super().__init__()
        self.write = write
        self.lin = nn.Linear(6, 6)

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.write(self.lin.weight)


READABLE: dict[str, tuple[Fill, Any]] = {
    "normal_": (lambda w: nn.init.normal_(w, std=0.3), normal(0.3)),
    "normal_ by keyword": (lambda w: nn.init.normal_(tensor=w, mean=1.0, std=0.3), normal(0.3, 1.0)),
    "a method": (lambda w: w.normal_(1.0, 0.5), normal(0.5, 1.0)),
    "a method on data": (lambda w: w.data.uniform_(-1, 3), uniform(-1, 3)),
    "xavier_uniform_": (lambda w: nn.init.xavier_uniform_(w, gain=2.0), around_zero(2 * math.sqrt(6 / 12))),
    "kaiming_normal_": (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), normal(math.sqrt(2 / 6))),
    "trunc_normal_": (lambda w: nn.init.trunc_normal_(w, std=0.5, a=-0.5, b=1.0), truncated(0.5, -0.5, 1.0)),
    "trunc_normal_ of transformers": (lambda w: nn.init.trunc_normal_(w, mean=0.0, std=0.02), normal(0.02)),
    "trunc_normal_ by keyword": (lambda w: nn.init.trunc_normal_(tensor=w), truncated(1, -2, 2)),
    "orthogonal_": (lambda w: nn.init.orthogonal_(w, 2.0), normal(2 / math.sqrt(6))),
    "sparse_": (lambda w: nn.init.sparse_(w, 0.5), normal(0.01 * math.sqrt(0.5))),
}
UNREADABLE: dict[str, Fill] = {
    "eye_": nn.init.eye_,
    "a new storage": lambda w: setattr(w, "data", torch.zeros(6, 6)),
    "arithmetic": lambda w: w.clamp_(-0.1, 0.1),
    "a copy": lambda w: w.copy_(torch.randn(6, 6)),
    "a part": lambda w: w[:3].fill_(1.0),
    "a row": lambda w: w[0].zero_(),
    "foreach": lambda w: torch._foreach_zero_([w]),
    "out": lambda w: torch.normal(0.0, 1.0, (6, 6), out=w),
}


@pytest.mark.parametrize("case", READABLE)
def test_default_reads_what_a_parent_writes_over_its_child(case: str) -> None:
    write, law = READABLE[case]
    planned: Any = initplug.plan(Parent(write), DEFAULT)["lin.weight"]
    assert planned.mean == pytest.approx(law.mean(), rel=1e-9, abs=1e-12)
    assert planned.std == pytest.approx(law.std(), rel=1e-9)
    model = Parent(write)
    torch.manual_seed(41)
    initplug.apply(model, {"rules": {"*": "default", "*.bias": 0}})
    torch.manual_seed(41)
    expected = torch.empty(6, 6)
    write(expected)
    assert torch.equal(model.lin.weight, expected)


@pytest.mark.parametrize("case", UNREADABLE)
def test_default_never_passes_off_the_childs_draw_for_what_a_parent_writes(case: str) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(Parent(UNREADABLE[case]), DEFAULT)
    assert "lin.weight" in str(caught.value)
    assert "keep" in str(caught.value)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.lin = nn.Linear(2, 2)


class Strange(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4, 4))

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.token.copy_(torch.linalg.qr(torch.randn(4, 4))[0].cumsum(0))


@pytest.mark.parametrize("build", [Bare, Strange])
def test_default_of_what_it_cannot_tell_is_a_plan_error(build: type[nn.Module]) -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(nn.Sequential(build()), DEFAULT)
    assert "0.token" in str(caught.value)
    assert "keep" in str(caught.value)
    assert "lin.weight" not in str(caught.value)
