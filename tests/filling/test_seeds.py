from __future__ import annotations

import gc
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import copied_values, quietly
from torch import Tensor, nn

import initplug
from initplug.auditing.moments import Measured
from initplug.filling.streams import fill_box
from initplug.filling.words import key_of
from initplug.regions import Box
from initplug.schemes.distributions import Normal, TruncatedNormal, Uniform

RECIPE = {
    "rules": {
        "*": "normal std=0.02",
        "<Conv2d>.weight": "kaiming_normal fan_out",
        "<Linear>.weight": "xavier_uniform",
        "<Embedding>": "trunc_normal std=0.02",
        "<_BatchNorm>.weight": 1,
        "*.bias": 0,
        "packed.weight": {"fn": "xavier_uniform", "split": 3},
        "rest.gates": {"split": ["normal std=0.5", 1, "uniform -1 1", "keep"]},
        "rest.experts": {"fn": "kaiming_normal", "batch_dims": 1},
    }
}


class Net(nn.Module):
    """A module of every kind of write; parts are registered in the given order."""

    def __init__(self, order: tuple[str, ...] = ("conv", "fc", "emb", "bn", "packed", "rest"), width: int = 8) -> None:
        super().__init__()
        parts: Mapping[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(3, width, 3),
            "fc": lambda: nn.Linear(700, 600),
            "emb": lambda: nn.Embedding(11, 5, padding_idx=2),
            "bn": lambda: nn.BatchNorm2d(width),
            "packed": lambda: nn.Linear(6, 18),
            "rest": Rest,
            "more": lambda: nn.Linear(3, 3),
        }
        for name in order:
            self.add_module(name, parts[name]())


class Rest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.zeros(8, 6))
        self.experts = nn.Parameter(torch.zeros(3, 4, 5))
        self.scalar = nn.Parameter(torch.zeros(()))


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() <= other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    model = Net()
    audit = initplug.apply(model, RECIPE, seed=5)
    assert audit.problems() == [] and audit.seed == 5
    return copied_values(model)


def test_values_are_those_of_the_stream_of_the_name() -> None:
    model = nn.Sequential(nn.Linear(40, 30))
    initplug.apply(model, {"rules": {"*": "normal std=0.02"}}, seed=9)
    expected = np.empty(1200, np.float32)
    fill_box(expected, Normal(0.0, 0.02), key_of(9, "0.weight"), Box.whole((30, 40)))
    assert np.array_equal(copied_values(model)["0.weight"].numpy(), expected.reshape(30, 40))


@settings(max_examples=8, deadline=None)
@given(st.permutations(["conv", "fc", "emb", "bn", "packed", "rest"]), st.sampled_from([1, 2, 7]), st.booleans())
def test_neither_order_nor_neighbours_nor_threads_matter(order: list[str], threads: int, more: bool) -> None:
    model, expected = Net((*order, "more") if more else tuple(order)), Net()
    initplug.apply(model, RECIPE, seed=5, threads=threads)
    initplug.apply(expected, RECIPE, seed=5, threads=1)
    assert same(copied_values(expected), copied_values(model))


def test_the_order_of_rules_that_do_not_meet_does_not_matter() -> None:
    rules = {"a.weight": "normal", "b.weight": "uniform 0 1", "*.bias": 3}
    one, other = (nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(2))
    initplug.apply(one, {"rules": rules}, seed=1)
    initplug.apply(other, {"rules": dict(reversed(rules.items()))}, seed=1)
    assert same(copied_values(one), copied_values(other))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_dtype_is_the_float32_draw_cast_once(dtype: torch.dtype, reference: dict[str, Tensor]) -> None:
    model = Net().to(dtype)
    audit = initplug.apply(model, RECIPE, seed=5)
    assert same(copied_values(model), {name: tensor.to(dtype) for name, tensor in reference.items()})
    assert audit.problems() == []


LAYOUTS: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "contiguous": lambda shape: torch.zeros(shape),
    "channels_last": lambda shape: torch.zeros(shape).contiguous(memory_format=torch.channels_last),
    "transposed": lambda shape: torch.zeros(shape[::-1]).permute(3, 2, 1, 0),
    "every second": lambda shape: torch.zeros((2 * shape[0], *shape[1:]))[::2],
    "a slice": lambda shape: torch.zeros((*shape[:3], shape[3] + 2))[..., 1:-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 4, 3, 2), (300, 64, 3, 4), (2, 3, 300, 300)])
@pytest.mark.parametrize("init", ["normal std=0.02", "uniform -1 1", "trunc_normal std=0.3"])
def test_layout_does_not_matter(layout: str, shape: tuple[int, ...], init: str) -> None:
    tensors = torch.zeros(shape), LAYOUTS[layout](shape)
    plain, other = (nn.ParameterDict({"w": nn.Parameter(tensor)}) for tensor in tensors)
    strides = other["w"].stride()
    for model in (plain, other):
        initplug.apply(model, {"rules": {"^w": init}}, seed=3)
    assert torch.equal(plain["w"], other["w"]) and other["w"].stride() == strides


def test_another_std_rescales_the_same_draw() -> None:
    models = [nn.Linear(64, 64) for _ in range(2)]
    for model, std in zip(models, (0.5, 2.0), strict=True):
        initplug.apply(model, {"rules": {"*": {"fn": "normal", "std": std}}}, seed=0)
    assert torch.equal(models[0].weight * 4, models[1].weight)


def test_parts_take_the_words_at_their_places_in_the_whole() -> None:
    models = [nn.Linear(10, 12, bias=False) for _ in range(3)]
    recipes: list[Any] = [
        "normal",
        {"split": ["normal", 0, "normal"]},
        {"split": ["normal", "keep"], "dim": 1},
    ]
    for model, init in zip(models, recipes, strict=True):
        nn.init.zeros_(model.weight)
        initplug.apply(model, {"rules": {"*": init}}, seed=0)
    whole, rows, columns = (model.weight for model in models)
    assert torch.equal(rows[:4], whole[:4]) and torch.equal(rows[8:], whole[8:]) and not rows[4:8].any()
    assert torch.equal(columns[:, :5], whole[:, :5]) and not columns[:, 5:].any()


def test_tied_tensors_have_the_stream_of_their_first_name() -> None:
    model = nn.ModuleDict({"emb": nn.Embedding(9, 4), "head": nn.Linear(4, 9, bias=False)})
    model["head"].weight = model["emb"].weight
    alone = nn.ModuleDict({"emb": nn.Embedding(9, 4)})
    for each in (model, alone):
        initplug.apply(each, {"rules": {"*": "normal"}}, seed=2)
    assert torch.equal(model.get_parameter("head.weight"), alone.get_parameter("emb.weight"))


def test_wrappers_and_prefixes_do_not_change_the_stream() -> None:
    plain, wrapped, part = nn.Linear(4, 4), nn.DataParallel(nn.Linear(4, 4)), nn.Linear(4, 4)
    whole = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4)])})
    for model in (plain, wrapped, whole):
        initplug.apply(model, {"rules": {"*": "normal"}}, seed=2)
    initplug.apply(part, {"rules": {"*": "normal"}}, seed=2, prefix="layers.0")
    assert torch.equal(plain.weight, wrapped.get_parameter("module.weight"))
    assert torch.equal(part.weight, whole.get_parameter("layers.0.weight"))
    assert not torch.equal(part.weight, plain.weight)


def test_seeds_and_names_give_other_values() -> None:
    model = nn.ModuleList([nn.Linear(100, 100), nn.Linear(100, 100)])
    initplug.apply(model, {"rules": {"*": "normal"}}, seed=0)
    first = copied_values(model)
    assert abs((first["0.weight"] * first["1.weight"]).mean().item()) < 0.05
    initplug.apply(model, {"rules": {"*": "normal"}}, seed=1)
    assert abs((first["0.weight"] * copied_values(model)["0.weight"]).mean().item()) < 0.05


def test_no_global_generator_is_moved() -> None:
    model = quietly(lambda: nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(4, 6)), Net()))
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    initplug.apply(model, RECIPE, seed=0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state(legacy=False)["state"]["key"])


class Drawing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def right_inverse(self, value: Tensor) -> Tensor:
        first = torch.randn(())
        time.sleep(0.005)
        return value + first + torch.randn(())


def test_threads_that_apply_at_once_move_no_global_generator_and_do_not_disturb_each_other() -> None:
    def built() -> nn.Module:
        linear = nn.Linear(2, 2)
        return nn.utils.parametrize.register_parametrization(linear, "weight", Drawing())

    def applied(model: nn.Module) -> nn.Module:
        initplug.apply(model, {"rules": {"*": "normal"}}, seed=0)
        return model

    alone, models = copied_values(applied(built())), [built() for _ in range(8)]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(applied, models))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(copied_values(model)[name], alone[name]) for model in together for name in alone)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize(
    "around",
    [lambda: torch.autocast("cpu", dtype=torch.bfloat16), lambda: torch.device("meta"), torch.inference_mode],
    ids=["autocast", "meta", "inference"],
)
def test_what_surrounds_the_call_does_not_matter(around: Callable[[], Any], seed: int | None) -> None:
    def applied(surroundings: AbstractContextManager[Any]) -> nn.Module:
        torch.manual_seed(1)
        normed = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
        model = nn.Sequential(normed, nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)), nn.Linear(8, 8))
        with surroundings:
            initplug.apply(model, {"rules": {"*": "normal", "^2.weight": "sparse sparsity=0.5"}}, seed=seed)
        return model

    model = applied(around())
    assert model.get_parameter("2.weight").eq(0).sum() == 32
    expected = applied(nullcontext()).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_computed_tensors_are_the_same_each_time() -> None:
    outputs = []
    for _ in range(2):
        model = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(4, 6)))
        audit = initplug.apply(model, {"rules": {"*": "normal"}}, seed=0)
        outputs.append(model(torch.eye(4)))
    assert torch.equal(outputs[0], outputs[1]) and audit["0.weight"].status == "projected"


WHOLE = {
    "orthogonal": (64, 32),
    "delta_orthogonal": (16, 8, 3, 3),
    "dirac": (8, 8, 3),
    "eye": (6, 6),
    "sparse 0.5": (40, 30),
    "sincos": (10, 8),
    "sincos interleaved": (10, 8),
    "arange start=1 log": (10, 8),
    "bilinear": (8, 4, 4, 4),
}


@pytest.mark.parametrize("init", WHOLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_whole_tensor_schemes_know_the_seed_alone(init: str, dtype: torch.dtype) -> None:
    drawn = []
    for threads in (1, 2):
        model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(WHOLE[init], dtype=dtype))})
        audit = initplug.apply(model, {"rules": {"^w": init}}, seed=4, threads=threads)
        assert audit["w"].verdict == "ok"
        drawn.append(copied_values(model)["w"])
    single = nn.ParameterDict({"w": nn.Parameter(torch.zeros(WHOLE[init]))})
    initplug.apply(single, {"rules": {"^w": init}}, seed=4)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], copied_values(single)["w"].to(dtype))


def test_orthogonal_parts_and_stacks_are_orthogonal_each() -> None:
    model = nn.ParameterDict(
        {"packed": nn.Parameter(torch.zeros(48, 16)), "stack": nn.Parameter(torch.zeros(3, 16, 16))}
    )
    split, stacked = {"fn": "orthogonal", "split": 3}, {"fn": "orthogonal", "batch_dims": 1}
    audit = initplug.apply(model, {"rules": {"^packed": split, "^stack": stacked}}, seed=0)
    assert audit.problems() == []
    parts = [*copied_values(model)["packed"].chunk(3), *copied_values(model)["stack"]]
    for part in parts:
        assert torch.allclose(part @ part.T, torch.eye(16), atol=1e-6)
    assert not any(torch.equal(one, other) for one in parts for other in parts if one is not other)


@pytest.fixture
def directions() -> str:
    @initplug.initializer(kind="whole")
    def directions(shape: tuple[int, ...], draw: Any) -> Any:
        """Rows of length 1."""
        rows = draw.normal("rows")
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    return "directions"


def test_functions_of_others_draw_from_streams_of_their_own(directions: str) -> None:
    models = [nn.Linear(30, 20, bias=False), nn.Linear(30, 20, bias=False), nn.Linear(30, 20, bias=False).bfloat16()]
    for model in models:
        initplug.apply(model, {"rules": {"*": directions}}, seed=6)
    expected = np.empty(600, np.float32)
    fill_box(expected, Normal(0.0, 1.0), key_of(6, "weight", "rows"), Box.whole((20, 30)))
    rows = expected.reshape(20, 30)
    assert np.array_equal(
        copied_values(models[0])["weight"].numpy(), rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    )
    assert torch.equal(models[0].weight, models[1].weight)
    assert torch.equal(models[0].weight.bfloat16(), models[2].weight)
    split = nn.Linear(30, 20, bias=False)
    initplug.apply(split, {"rules": {"*": {"fn": directions, "split": 2}}}, seed=6)
    assert torch.equal(split.weight, models[0].weight)


def test_complex_parts_have_streams_of_their_own() -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(500, 400, dtype=torch.complex64))})
    audit = initplug.apply(model, {"rules": {"^w": "normal std=0.5"}}, seed=0)
    assert audit.problems() == []
    for part, tag in ((model["w"].real, ""), (model["w"].imag, "imag")):
        expected = np.empty(200_000, np.float32)
        fill_box(expected, Normal(0.0, 0.5 / 2**0.5), key_of(0, "w", tag), Box.whole((500, 400)))
        assert np.array_equal(part.detach().numpy(), expected.reshape(500, 400))


COMPLEX = {
    "uniform -1 3": (Uniform(-1.0, 3.0), Uniform(-1.0, 3.0)),
    "trunc_normal std=2 mean=5": (
        TruncatedNormal(5.0, 2**0.5, 5 - 2 * 2**0.5, 5 + 2 * 2**0.5),
        TruncatedNormal(0.0, 2**0.5, -2 * 2**0.5, 2 * 2**0.5),
    ),
}


@pytest.mark.parametrize("init", COMPLEX)
def test_both_parts_of_complex_elements_are_drawn_and_judged(init: str) -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(300, 400, dtype=torch.complex64))})
    recipe = {"rules": {"^w": init}}
    for seed in (None, 0):
        row = initplug.apply(model, recipe, seed=seed)["w"]
        assert row.verdict == "ok", row
        assert row.measured_std == pytest.approx(row.std, rel=0.01)
        assert row.measured_mean == pytest.approx(row.mean, abs=0.02)
        for part, law in zip((model["w"].real, model["w"].imag), COMPLEX[init], strict=True):
            assert part.std().item() == pytest.approx(law.std, rel=0.01)
            assert part.mean().item() == pytest.approx(law.mean, abs=0.02)
            assert law.low <= part.min().item() and part.max().item() <= law.high + 1e-5
    for part, law, tag in zip((model["w"].real, model["w"].imag), COMPLEX[init], ("", "imag"), strict=True):
        expected = np.empty(120_000, np.float32)
        fill_box(expected, law, key_of(0, "w", tag), Box.whole((300, 400)))
        assert np.allclose(part.detach().numpy(), expected.reshape(300, 400), rtol=3e-7)  # 2/√2 or √2
    assert initplug.audit(model, recipe, seed=0)["w"].verdict == "exact"
    with torch.no_grad():
        model["w"].imag.mul_(1.2)
    assert initplug.audit(model, recipe)["w"].verdict == "differs"


def test_complex_layers_have_the_bits_of_their_construction() -> None:
    torch.manual_seed(3)
    expected = nn.Linear(64, 64, dtype=torch.complex64)
    model = nn.Linear(64, 64, dtype=torch.complex64)
    torch.manual_seed(3)
    audit = initplug.apply(model, "torch_default")
    assert torch.equal(model.weight, expected.weight) and torch.equal(model.bias, expected.bias)
    assert not audit.problems()
    assert str(audit["weight"].to_dict()["distribution"]) == "uniform(-0.125, 0.125) in both parts"


def test_a_plan_of_complex_draws_is_for_complex_tensors() -> None:
    plan = initplug.plan(nn.Linear(4, 4, dtype=torch.complex64), {"rules": {"*": "uniform -1 1"}})
    with pytest.raises(initplug.ApplyError):
        initplug.apply(nn.Linear(4, 4), plan)


def test_padding_rows_are_zero(reference: dict[str, Tensor]) -> None:
    assert not reference["emb.weight"][2].any() and reference["emb.weight"].any(1).sum() == 10


def test_what_is_measured_on_the_way_is_what_is_there() -> None:
    model = nn.ModuleList([nn.Linear(900, 700), nn.Linear(900, 700, dtype=torch.bfloat16)])
    recipe = {"rules": {"*.weight": "normal mean=3 std=0.5", "*.bias": "uniform -1 1"}}
    audit = initplug.apply(model, recipe, seed=0, threads=2)
    for row in audit:
        tensor = model.get_parameter(row.name).double()
        expected = tensor.mean().item(), tensor.std(correction=0).item(), tensor.min().item(), tensor.max().item()
        measured = row.measured_mean, row.measured_std, row.measured_min, row.measured_max
        assert measured == pytest.approx(expected, rel=1e-6) and row.measured_count == tensor.numel()
        assert row.verdict == "ok"


def test_progress_counts_every_slot() -> None:
    seen: list[tuple[int, int]] = []
    initplug.apply(Net(), RECIPE, seed=0, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(place + 1, seen[0][1]) for place in range(seen[0][1])]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_says_which_slot_and_what_was_written(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import initplug.filling.seeded as seeded

    def failing(job: Any, *rest: Any) -> Any:
        if job.piece.box.shape == (600, 700):
            raise RuntimeError("no more memory")
        return draw(job, *rest)

    draw = seeded._draw_stretch
    monkeypatch.setattr(seeded, "_draw_stretch", failing)
    with pytest.raises(
        initplug.ApplyError, match=r"writing stopped at fc\.weight: RuntimeError: no more memory"
    ) as caught:
        initplug.apply(Net(), RECIPE, seed=0, threads=threads)
    assert "fc.weight" not in str(caught.value).partition("slots had been written")[2]


def test_a_failure_among_small_tensors_says_which_began(monkeypatch: pytest.MonkeyPatch) -> None:
    import initplug.filling.batches as batches
    import initplug.filling.seeded as seeded

    def failing(lot: batches.Lot, seed: int, measured: Measured) -> None:
        if "rest.scalar" in lot.names:
            raise RuntimeError("no more memory")
        batches.draw_small(lot, seed, measured)

    monkeypatch.setattr(seeded, "draw_small", failing)
    with pytest.raises(initplug.ApplyError, match=r"writing stopped at rest\.scalar: RuntimeError: no more memory"):
        initplug.apply(Net(), RECIPE, seed=0)


def test_batches_of_small_tensors_hold_what_each_would_get_alone() -> None:
    shapes = [(), (1,), (7,), (8,), (9,), (64,), (3, 5), (4096,), (2, 2048), (17, 3, 2)] * 9
    model = nn.ParameterDict({f"w{place}": nn.Parameter(torch.zeros(shape)) for place, shape in enumerate(shapes)})
    audit = initplug.apply(model, {"rules": {"*": "normal mean=2 std=0.5", "w?": "uniform -1 1", "w1?": 3}}, seed=8)
    assert audit.problems() == []
    for name, parameter in model.items():
        init = Uniform(-1.0, 1.0) if len(name) == 2 else Normal(2.0, 0.5)
        expected = np.full(parameter.numel(), 3, np.float32)
        if not name.startswith("w1") or len(name) == 2:
            fill_box(expected, init, key_of(8, name), Box.whole(parameter.shape))
        assert np.array_equal(parameter.detach().numpy().reshape(-1), expected), name
        row, double = audit[name], parameter.detach().double()
        assert row.measured_mean == pytest.approx(double.mean().item(), rel=1e-9)
        assert row.measured_std == pytest.approx(double.std(correction=0).item(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("first", [0.0, -0.0])
def test_a_zero_keeps_its_sign_beside_one_of_the_other(first: float) -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))])
    audit = initplug.apply(model, {"rules": {"^0": first, "^1": -first}}, seed=0)
    for parameter, row, value in zip(model, audit, (first, -first), strict=True):
        assert parameter.signbit().all() == parameter.signbit().any() == (math.copysign(1, value) < 0)
        assert row.measured_mean is not None
        assert math.copysign(1, row.measured_mean) == math.copysign(1, value)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_the_writing(threads: int) -> None:
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(total)
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        initplug.apply(
            nn.ParameterList([torch.zeros(8) for _ in range(100)]),
            {"rules": {"*": "normal"}},
            seed=0,
            threads=threads,
            progress=progress,
        )
    assert seen[0] == 100 and len(seen) < 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_bits_of_the_cpu() -> None:
    here, there = Net(), Net().cuda()
    for model in (here, there):
        initplug.apply(model, RECIPE, seed=0)
    assert same(copied_values(here), copied_values(there.cpu()))


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_of_cycles_is_left_as_it_was(collecting: bool) -> None:
    before, seen = gc.isenabled(), []
    try:
        (gc.enable if collecting else gc.disable)()
        initplug.apply(Net(), RECIPE, seed=0, progress=lambda *_: seen.append(gc.isenabled()))
        assert gc.isenabled() is collecting
        with pytest.raises(initplug.PlanError):
            initplug.apply(Net(), {"rules": {"*.weight": 1}}, seed=0)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert seen and not any(seen)
