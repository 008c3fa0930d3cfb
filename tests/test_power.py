"""What the guide says of the power of audits: its table is drawn anew, row by row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch_parts import draws_well

import initplug
from initplug.auditing.moments import measure
from initplug.auditing.verdicts import judgement
from initplug.schemes.distributions import Normal

GUIDE = (Path(__file__).parents[1] / "examples" / "guide" / "audits.md").read_text()
STD = 0.02
NORMAL = Normal(0.0, STD)
DRAWS = 200
TENSORS = 10
"""Tensors of a rule, where a fault is in all of them."""

Sample = Callable[[np.random.Generator, int], NDArray[np.float64]]


def cut(generator: np.random.Generator, count: int, sigmas: float) -> NDArray[np.float64]:
    tried = generator.normal(size=2 * count)
    return tried[abs(tried) <= sigmas][:count]


FAULTS: dict[str, Sample] = {
    "std 20 % too large": lambda generator, count: 1.2 * generator.normal(size=count),
    "std 20 % too small": lambda generator, count: 0.8 * generator.normal(size=count),
    "std 2 % too large": lambda generator, count: 1.02 * generator.normal(size=count),
    "mean off by 0.1 std": lambda generator, count: 0.1 + generator.normal(size=count),
    "cut at 2 std": lambda generator, count: cut(generator, count, 2.0),
    "cut at 3 std": lambda generator, count: cut(generator, count, 3.0),
    "uniform, of the same std": lambda generator, count: generator.uniform(-math.sqrt(3), math.sqrt(3), count),
}
POOLED = " in all tensors of a rule"


class Row(NamedTuple):
    """A row of the table.

    Args:
        fault: in the guide's words.
        half: elements at which it is seen in half of all cases.
        most: at which in 99 of 100.
    """

    fault: str
    half: int
    most: int


def table() -> list[Row]:
    pattern = r"^\| ([^|]+) \| ([\d,]+)(?: in all)? \| ([\d,]+)(?: in all)? \|"
    found = re.findall(pattern, GUIDE, re.MULTILINE)
    return [Row(fault, *(int(number.replace(",", "")) for number in numbers)) for fault, *numbers in found]


def test_the_table_has_a_row_for_every_fault() -> None:
    pooled = {"std 2 % too large" + POOLED, "mean off by 0.1 std" + POOLED}
    assert {row.fault for row in table()} == FAULTS.keys() | pooled


def seen(values: NDArray[np.float64]) -> bool:
    tensor = torch.from_numpy((STD * values).astype(np.float32))
    return judgement(NORMAL, measure(tensor), torch.float32).verdict == "differs"


class Pool(nn.Module):
    """Tensors of one rule."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        super().__init__()
        for place, part in enumerate(np.array_split(values, TENSORS)):
            self.register_parameter(f"p{place}", nn.Parameter(torch.from_numpy((STD * part).astype(np.float32))))


def seen_in_a_pool(values: NDArray[np.float64]) -> bool:
    audit = initplug.audit(Pool(values), {"rules": {"*": f"normal std={STD}"}})
    return {row.reason for row in audit.problems()} == {"pooled"}


@pytest.mark.parametrize("row", table(), ids=lambda row: row.fault)
def test_a_fault_is_seen_as_often_as_the_table_says(row: Row) -> None:
    generator = np.random.default_rng(0)
    sample = FAULTS[row.fault.removesuffix(POOLED)]
    pooled = row.fault.endswith(POOLED)
    draws = DRAWS // 4 if pooled else DRAWS
    rates = []
    for count in (row.half, row.most):
        found = [(seen_in_a_pool if pooled else seen)(sample(generator, count)) for _ in range(draws)]
        rates.append(sum(found) / draws)
    # Where nothing but the size decides, the step from never to always is steep.
    steep = row.most < 1.1 * row.half
    assert (0.2 if steep else 0.3) <= rates[0] <= (0.8 if steep else 0.7), rates
    assert rates[1] >= 0.96, rates


# What is always seen.


def test_one_element_eight_std_away_is_seen_in_a_million() -> None:
    for count in (2, 1000, 1_000_000):
        values = np.random.default_rng(0).normal(size=count)
        values[0] = 8.0
        assert seen(values)


def net(count: int, dtype: torch.dtype) -> Any:
    model = nn.ParameterList(nn.Parameter(torch.zeros(count, dtype=dtype)) for _ in range(1000))
    initplug.apply(model, {"rules": {"*": "normal std=0.02"}}, seed=0)
    return model


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 10), (torch.bfloat16, 40)])
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.3])
def test_copies_are_seen_from_few_elements_on(dtype: torch.dtype, count: int, factor: float) -> None:
    said = re.search(r"equal, negated or scaled \| from (\d+) elements \(float32\), (\d+) \(bfloat16\)", GUIDE)
    assert said is not None
    assert count == int(said[1 if dtype == torch.float32 else 2])
    model = net(count, dtype)
    with torch.no_grad():
        model[700].copy_(model[30] * factor)
    assert initplug.audit(model, {"rules": {"*": "normal std=0.02"}})["700"].reason == "twin of 30"


def test_order_is_seen_from_few_elements_on() -> None:
    said = re.search(r"\| sorted \| from (\d+) elements", GUIDE)
    assert said is not None
    for count, told in ((int(said[1]), True), (10, False)):
        model = net(count, torch.float32)
        with torch.no_grad():
            model[5].copy_(model[5].sort().values)
        problem = initplug.audit(model, {"rules": {"*": "normal std=0.02"}})["5"].problem
        assert (problem == "its elements rise from first to last") == told


# And nothing where nothing is wrong.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", [None, 3])
def test_no_alarm_in_models_of_many_tensors(dtype: torch.dtype, seed: int | None) -> None:
    inits = {
        "normal": "normal std=0.02",
        "shifted": "normal mean=1 std=0.1",
        "uniform": "uniform -0.1 0.3",
        "cut": "trunc_normal std=0.02",
        "far": {"fn": "trunc_normal", "std": 0.02, "low": -2, "high": 2},
        "skew": {"fn": "trunc_normal", "std": 1, "low": 1, "high": 3},
        "orthogonal": "orthogonal",
        "packed": {"split": 3, "fn": "normal", "std": 0.05},
    }
    shapes = [(3, 2), (6, 5), (12, 12), (30, 40), (96, 33), (300, 200)]
    torch.manual_seed(0)
    model = nn.ParameterDict(
        {
            f"{name}_{'x'.join(map(str, shape))}_{copy}": nn.Parameter(torch.zeros(shape, dtype=dtype))
            for name in inits
            for shape in shapes
            for copy in range(12)
        }
    )
    recipe = {"rules": {name: {"match": f"{name}_*", "init": init} for name, init in inits.items()}}
    problems = initplug.apply(model, recipe, seed=seed).problems()
    assert (problems == []) == (seed is not None or draws_well(dtype))
    assert [row.name for row in initplug.audit(model, recipe).problems()] == [row.name for row in problems]
