"""Trees of modules deeper than Python's calls go: planned, written and audited, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import initplug

DEPTH = 5000


def deep(depth: int, inner: nn.Module) -> nn.Module:
    for index in range(depth):
        inner = nn.Sequential(inner) if index % 2 else nn.Sequential(nn.ReLU(), inner)
    return inner


class Resetting(nn.Module):
    """A module whose reset concerns one tensor beside a deep tree."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.below, self.scale = deep(depth, nn.Linear(2, 2)), nn.Parameter(torch.zeros(3))

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.scale)


def test_a_deep_tree_is_planned_written_and_audited() -> None:
    model = deep(DEPTH, nn.Linear(2, 2))
    plan = initplug.plan(model, "torch_default")
    assert [name.count(".") for name in plan.names] == [DEPTH, DEPTH]
    audit = initplug.apply(model, plan, seed=0)
    assert audit.problems() == []
    assert initplug.audit(model, "torch_default").problems() == []
    assert "elements" in str(audit)
    assert audit.to_html().startswith("<!doctype html>")


def test_a_deep_model_on_meta_gets_its_memory() -> None:
    model = deep(DEPTH, nn.Linear(2, 2, device="meta"))
    assert initplug.apply(model, "torch_default", seed=0).problems() == []


SELECTORS = {
    "a thousand segments": ".".join(["*"] * 1000) + ".weight",
    "a thousand any": ".".join(["**"] * 1000) + ".weight",
    "names at any depth": ".".join(["**", "0"] * 600) + ".**.weight",
    "from the end": "-1." * 1000 + "weight",
}


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_a_long_selector_matches_in_a_deep_tree(selector: str) -> None:
    plan = initplug.plan(deep(DEPTH, nn.Linear(2, 2)), {"rules": {"a": {"match": selector, "init": 0}, "*.bias": 0}})
    assert plan.summary["rules"] == {"a": 1, "*.bias": 1}


REFUSED: dict[str, Callable[[], object]] = {
    "unmatched": lambda: initplug.plan(deep(DEPTH, nn.Linear(2, 2)), {"unused": "ignore", "rules": {"a.b": 0}}),
    "misfit": lambda: initplug.plan(deep(DEPTH, nn.Linear(2, 2)), {"rules": {"**": "kaiming_normal"}}),
    "only": lambda: initplug.apply(deep(DEPTH, nn.Linear(2, 2)), "torch_default", only=["nowhere"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_in_a_deep_tree_is_refused_in_a_bounded_message(case: str) -> None:
    with pytest.raises((initplug.PlanError, initplug.ApplyError)) as error:
        REFUSED[case]()
    assert len(str(error.value)) < 40_000


def test_a_reset_above_a_deep_tree_is_replayed() -> None:
    plan = initplug.plan(Resetting(DEPTH), "torch_default")
    assert len(plan) and {row.reason for row in plan} == {None}


def test_a_module_inside_itself_is_visited_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.add_module("again", model)
    assert initplug.plan(model, "torch_default").names == ["0.weight", "0.bias"]
