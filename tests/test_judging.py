"""Judgements cry wolf as rarely as is said, and see what they are there to see; each says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import numpy_sample
from torch import Tensor
from torch_parts import draws_well

from initplug.auditing import verdicts as judging
from initplug.auditing.moments import Measured, Moments, measure
from initplug.auditing.verdicts import Verdict, judged_together, judgement
from initplug.columns import coded
from initplug.filling.torch_draws import draw_from_generator
from initplug.schemes.compositions import Batched, Drawn, Keep, Planned
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.structures.orthogonal import Orthogonal

STD = 0.02
CUT = 2 * STD
NORMAL, UNIFORM = Normal(0.0, STD), Uniform(-STD * math.sqrt(3), STD * math.sqrt(3))
TRUNCATED = TruncatedNormal(0.0, STD, -CUT, CUT)
SKEWED = TruncatedNormal(0.0, 1.0, 1.0, 3.0)
SQUARE = Orthogonal(1.0, 8, 8)
DRAWN: list[Drawn] = [NORMAL, UNIFORM, TRUNCATED, Normal(1.0, 0.1), Uniform(0.0, 1.0), SKEWED]


def sample(distribution: Drawn, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype if draws_well(dtype) else torch.float32)
    torch.manual_seed(seed)
    draw_from_generator(distribution, tensor)
    return tensor.to(dtype)


def problem(distribution: Drawn, tensor: Tensor) -> str | None:
    return judgement(distribution, measure(tensor), tensor.dtype).problem


# False alarms: the stated rate is 1e-7 for a tensor, which no simulation can see. So what is simulated is the same
# judgement at a level that can be seen, and the stated level on enough tensors to rule out 1 in 10,000.


@pytest.fixture
def three_sigmas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(judging, "SIGMAS_OF_ONE", 3.0)
    judging._limits.cache_clear()
    yield
    judging._limits.cache_clear()


SIMULATED = 4000


@pytest.mark.parametrize("numel", [30, 300, 3000])
@pytest.mark.parametrize("distribution", DRAWN, ids=str)
@pytest.mark.usefixtures("three_sigmas")
def test_alarms_are_as_rare_as_their_level_says(distribution: Drawn, numel: int) -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for row in numpy_rows(distribution, SIMULATED, numel, generator):
        alarms += judgement(distribution, measure(row), torch.float64).verdict != "ok"
    # Two moments on two sides, extremes on two sides of two, and both together, each at the tail of 3 sigmas: at most
    # 9 of 0.135 %.
    level = 9 * math.erfc(3 / math.sqrt(2)) / 2
    most = SIMULATED * level + 4 * math.sqrt(SIMULATED * level)
    assert 0 < alarms < most


def numpy_rows(distribution: Drawn, count: int, numel: int, generator: np.random.Generator) -> Iterator[Tensor]:
    for _ in range(count):
        yield torch.from_numpy(numpy_sample(distribution, (numel,), generator))


def test_no_alarm_in_thirty_thousand_tensors() -> None:
    # With none in n the rate is below 3/n with 95 % confidence.
    generator = np.random.default_rng(1)
    for distribution in DRAWN:
        for numel in (2, 10, 100, 400):
            for row in numpy_rows(distribution, 1250, numel, generator):
                assert problem(distribution, row.float()) is None, (distribution, numel)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("distribution", DRAWN, ids=str)
def test_no_alarm_in_large_tensors_of_any_dtype(distribution: Drawn, dtype: torch.dtype) -> None:
    for numel in (1000, 100_000, 3_000_000):
        assert problem(distribution, sample(distribution, numel, dtype=dtype)) is None


# Power.

SPOILT: dict[str, tuple[Drawn, Callable[[], Tensor], str]] = {
    "std 20 % too large": (NORMAL, lambda: sample(Normal(0.0, 1.2 * STD), 1000), "std 0.02"),
    "std 20 % too small": (NORMAL, lambda: sample(Normal(0.0, 0.8 * STD), 1000), "std 0.01"),
    "uniform 20 % too wide": (UNIFORM, lambda: sample(UNIFORM, 1000) * 1.2, "std 0.02"),
    "mean shifted": (NORMAL, lambda: sample(Normal(0.3 * STD, STD), 1000), "mean 0.00"),
    "not truncated": (TRUNCATED, lambda: sample(NORMAL, 1000), "std 0.0"),
    "not truncated, equal std": (
        TRUNCATED,
        lambda: sample(Normal(0.0, TRUNCATED.std), 1000),
        "smallest element -0.0",
    ),
    "truncated": (NORMAL, lambda: sample(TRUNCATED, 1000), "smallest element -0.0"),
    "truncated, equal std": (
        Normal(0.0, TRUNCATED.std),
        lambda: sample(TRUNCATED, 4000),
        "smallest element -0.0",
    ),
    "uniform for normal": (NORMAL, lambda: sample(UNIFORM, 1000), "smallest element -0.0"),
    "normal for uniform": (UNIFORM, lambda: sample(NORMAL, 1000), "smallest element -0.0"),
    "an outlier": (NORMAL, lambda: replaced(sample(NORMAL, 1_000_000), 1.0), "largest element 1, not 0.0"),
    "NaN": (NORMAL, lambda: replaced(sample(NORMAL, 1000), math.nan), "NaN or infinite elements"),
    "infinity": (NORMAL, lambda: replaced(sample(NORMAL, 1000), -math.inf), "NaN or infinite elements"),
    "not drawn": (NORMAL, lambda: torch.zeros(1000), "every element is 0"),
    "another constant": (Constant(1.0), lambda: torch.zeros(1000), "every element is 0, not 1"),
    "one other element": (
        Constant(1.0),
        lambda: replaced(torch.ones(1000), 0.5),
        "elements are 0.5 to 1, not 1 throughout",
    ),
    "NaN for a constant": (Constant(1.0), lambda: replaced(torch.ones(1000), math.nan), "NaN or infinite elements"),
}


def replaced(tensor: Tensor, value: float) -> Tensor:
    tensor[7] = value
    return tensor


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_not_as_planned_is_seen_and_said(name: str) -> None:
    distribution, make, words = SPOILT[name]
    tensor = make()
    assert judgement(distribution, measure(tensor), tensor.dtype).verdict == "differs"
    assert words in str(problem(distribution, tensor))


@pytest.mark.parametrize(("factor", "numel"), [(1.2, 700), (0.8, 700), (1.05, 10_000), (0.95, 10_000)])
def test_a_wrong_std_is_nearly_always_seen(factor: float, numel: int) -> None:
    seen = sum(problem(NORMAL, sample(Normal(0.0, factor * STD), numel, seed=seed)) is not None for seed in range(100))
    assert seen >= 75


def test_a_reason_gives_what_was_measured_and_what_was_expected() -> None:
    tensor = sample(Normal(0.0, 2 * STD), 10_000)
    text = str(problem(NORMAL, tensor))
    std, low, high = text.split("; ")[0].removeprefix("std ").replace(", not ", " to ").split(" to ")
    assert float(std) == pytest.approx(tensor.double().std(correction=0).item(), rel=1e-4)
    assert (float(low), float(high)) == pytest.approx((STD * (1 - 6 / 141), STD * (1 + 6 / 141)), rel=2e-3)


# Extremes: the limits are those of the order statistics of samples, by an oracle of another kind.


@pytest.mark.parametrize("distribution", DRAWN, ids=str)
@pytest.mark.usefixtures("three_sigmas")
def test_limits_of_extremes_are_quantiles_of_samples_extremes(distribution: Drawn) -> None:
    generator = np.random.default_rng(2)
    numel = 50
    found = torch.stack(list(numpy_rows(distribution, 20_000, numel, generator)))
    limits = judging._limits(distribution, numel, torch.float64)
    tail = math.erfc(3 / math.sqrt(2)) / 2
    error = 4 * math.sqrt(tail / 20_000)
    for share in ((found.min(1).values > limits.ends.min_high), (found.max(1).values < limits.ends.max_low)):
        assert share.double().mean().item() == pytest.approx(tail, abs=error)
    both = (found.min(1).values > limits.ends.inner_low) & (found.max(1).values < limits.ends.inner_high)
    assert both.double().mean().item() == pytest.approx(tail, abs=error)
    if isinstance(distribution, Normal):
        for share in ((found.min(1).values < limits.ends.min_low), (found.max(1).values > limits.ends.max_high)):
            assert share.double().mean().item() == pytest.approx(tail, abs=error)


# Many at once.


ALIKE = [*DRAWN, Constant(0.5), Orthogonal(1.0, 8, 8), Batched(Orthogonal(1.0, 8, 8), 1), Keep(), None]


@pytest.mark.parametrize("distribution", ALIKE, ids=str)
@settings(max_examples=75)
@given(data=st.data())
def test_many_tensors_at_once_are_judged_as_each_alone(distribution: Planned | None, data: st.DataObject) -> None:
    mean, std = (getattr(distribution, name, 1.0) for name in ("mean", "std"))
    near = [mean + std * sigmas for sigmas in (-30, -6, -3, -1, 0, 1, 3, 6, 30)]
    numbers = st.one_of(st.sampled_from([*near, 0.5, math.nan, math.inf, -math.inf]), st.floats(mean - std, mean + std))
    spreads = st.one_of(st.sampled_from([0.0, std, math.nan, math.inf]), st.floats(0.5 * std, 2 * std))
    moments = st.builds(Moments, st.sampled_from([1, 2, 64]), numbers, spreads, numbers, numbers)
    asked = st.tuples(st.just(distribution) | st.sampled_from(ALIKE), st.sampled_from([torch.float32, torch.bfloat16]))
    every = data.draw(st.lists(st.tuples(asked, moments), min_size=1))
    measured = Measured.none(len(every))
    for row, (_, one) in enumerate(every):
        measured[row] = one
    alone = [judgement(asked[0], one, asked[1]).verdict for asked, one in every]
    together: list[Verdict] = ["untestable"] * len(every)
    for verdict, rows, apart in judged_together(coded([asked for asked, _ in every]), measured):
        assert {*apart.tolist()} <= {*rows.tolist()}
        for row in rows.tolist():
            together[row] = "differs" if row in apart else verdict
    assert together == alone


def test_a_table_of_moments_gives_back_what_it_was_given() -> None:
    measured = Measured.none(4)
    measured[1] = Moments(3, 0.5, 0.25, 0.0, 1.0)
    other = Measured.none(2)
    other[0], other[1] = Moments(7, 1.0, 0.0, 1.0, 1.0), None
    measured.put([3, 0], other)
    assert [*measured] == [None, Moments(3, 0.5, 0.25, 0.0, 1.0), None, Moments(7, 1.0, 0.0, 1.0, 1.0)]
    assert measured.rows.tolist() == [1, 3]
    assert [*measured[1:3]] == [measured[1], None]
    assert type(measured[3].numel if measured[3] else 0) is int
    measured[1] = None
    assert measured.rows.tolist() == [3]
