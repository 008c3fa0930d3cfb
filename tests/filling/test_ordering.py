"""Values in order are told where they were to be drawn, and draws are never taken for sorted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import normals
from torch import Tensor, nn

import initplug
from initplug.filling import order as ordering
from initplug.filling.order import order
from initplug.filling.torch_draws import draw_from_generator
from initplug.schemes.compositions import Drawn, Keep, Planned, Stacked
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform

NORMAL = Normal(0.0, 1.0)


SORTED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "all rising": (lambda one: one.flatten().sort().values.view(one.shape), "its elements rise from first to last"),
    "all falling": (
        lambda one: one.flatten().sort(descending=True).values.view(one.shape),
        "its elements fall from first to last",
    ),
    "rows": (lambda one: one.sort(dim=1).values, "the elements of every row rise"),
    "rows falling": (lambda one: one.sort(dim=1, descending=True).values, "the elements of every row fall"),
    "columns": (lambda one: one.sort(dim=0).values, "the elements of every column rise"),
    "columns falling": (lambda one: one.sort(dim=0, descending=True).values, "the elements of every column fall"),
}


@pytest.mark.parametrize("name", SORTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("chunk", [40, 1 << 15])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_order_is_named(
    name: str, dtype: torch.dtype, chunk: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "MEASURED_AT_A_TIME", chunk)
    make, words = SORTED[name]
    tensor = make(normals(64, 48)).to(dtype)
    if layout == "transposed":
        tensor = tensor.t().contiguous().t()
    assert order(tensor, NORMAL) == words
    tensor[60, 40], tensor[3, 2] = tensor[3, 2].clone(), tensor[60, 40].clone()
    assert order(tensor, NORMAL) is None


def test_vectors_and_padding_rows() -> None:
    assert order(normals(64).sort().values, NORMAL) == "its elements rise from first to last"
    table = normals(64, 48).sort(dim=1).values
    table[5] = 0
    assert order(table, NORMAL, padding_row=5) == "the elements of every row rise"
    assert order(normals(64, 48), NORMAL, padding_row=5) is None


PASSED_OVER: dict[str, tuple[Tensor, Planned | None]] = {
    "few elements": (torch.arange(10.0), NORMAL),
    "a constant": (torch.zeros(64, 48), Constant(0.0)),
    "kept": (torch.arange(64.0), Keep()),
    "nothing planned": (torch.arange(64.0), None),
    "rows of two": (torch.tensor([[0.0, 1.0]] * 16), NORMAL),
    "equal elements": (torch.zeros(4096), NORMAL),
    "none": (torch.zeros(0, 48), NORMAL),
    "complex": (torch.complex(torch.arange(64.0), torch.arange(64.0)), NORMAL),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_could_be_chance_or_was_not_to_be_drawn_is_passed_over(name: str) -> None:
    tensor, distribution = PASSED_OVER[name]
    assert order(tensor, distribution) is None


def test_parts_that_are_all_drawn_are_looked_at_as_a_whole() -> None:
    both = Stacked((NORMAL, Uniform(-1.0, 1.0)), 0)
    assert order(normals(64, 48).sort(dim=1).values, both) == "the elements of every row rise"
    assert order(normals(64, 48).sort(dim=1).values, Stacked((NORMAL, Constant(0.0)), 0)) is None


@pytest.mark.parametrize("distribution", [NORMAL, Uniform(-0.1, 0.1), TruncatedNormal(0.0, 0.02, -0.04, 0.04)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_draw_is_in_order(distribution: Drawn, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for shape in [(2,), (3,), (7,), (16,), (64,), (40, 2), (2, 40), (3, 3), (300, 3), (64, 1, 3, 3), (8, 8, 3, 3)]:
        for _ in range(50):
            tensor = torch.empty(shape, dtype=dtype)
            draw_from_generator(distribution, tensor)
            assert order(tensor, distribution) is None, shape


def test_an_audit_tells_of_sorted_tensors_large_and_small() -> None:
    model: Any = nn.ModuleList(
        [nn.Linear(8, 8, bias=False), nn.Linear(200, 200, bias=False), nn.Linear(8, 8, bias=False)]
    )
    recipe = {"rules": {"*": "normal std=0.02"}}
    initplug.apply(model, recipe, seed=0)
    with torch.no_grad():
        for place in (0, 1):
            model[place].weight.copy_(model[place].weight.flatten().sort().values.view_as(model[place].weight))
    assert [(row.name, row.problem) for row in initplug.audit(model, recipe).problems()] == [
        ("0.weight", "its elements rise from first to last"),
        ("1.weight", "its elements rise from first to last"),
    ]
