"""The cost of `default` grows with the model, whatever has a reset of its own above whatever else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.planning.resets import replayed
from initplug.studies.suggest import suggest

ran: Counter[str] = Counter()
"""How often the resets of modules on meta ran: constructors call them on real ones."""


class Layer(nn.Linear):
    def reset_parameters(self) -> None:
        ran["layer"] += self.weight.is_meta
        super().reset_parameters()


class Stack(nn.Module):
    """A reset above layers of as many sizes, so that none is like another."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(size, 2) for size in range(1, count + 1))
        self.act = nn.functional.relu

    def reset_parameters(self) -> None:
        ran["stack"] += 1
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]  # a module to the stubs


class Level(nn.Module):
    """A scale and the level below it; its reset calls that one's, or leaves it alone."""

    def __init__(self, below: int, calling: bool) -> None:
        super().__init__()
        self.scale, self.calling = nn.Parameter(torch.zeros(3)), calling
        self.inner: Level | None = Level(below - 1, calling) if below > 1 else None

    def reset_parameters(self) -> None:
        ran["level"] += 1
        nn.init.normal_(self.scale)
        if self.calling and self.inner is not None:
            self.inner.reset_parameters()


@pytest.fixture(autouse=True)
def counted() -> None:
    ran.clear()


@pytest.mark.parametrize("count", [3, 30])
def test_a_reset_above_many_layers_is_replayed_once(count: int) -> None:
    model = Stack(count)
    initplug.plan(model, "torch_default")
    assert ran == {"stack": 1, "layer": count}


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("calling", [True, False])
def test_a_reset_at_each_of_many_levels_runs_once_for_each(count: int, calling: bool) -> None:
    model = Level(count, calling)
    initplug.plan(model, "torch_default")
    assert ran == {"level": count}


def test_all_presets_share_what_resets_draw() -> None:
    model = nn.Sequential(Stack(5), Level(5, False))
    fits = suggest(model)
    assert len(fits) > 50
    assert ran == {"stack": 1, "layer": 5, "level": 5}


def test_layers_that_are_alike_are_replayed_once() -> None:
    initplug.plan(nn.Sequential(*(Layer(3, 3) for _ in range(20))), "torch_default")
    assert ran == {"layer": 1}


def test_what_an_outer_reset_leaves_is_asked_of_inner_ones_and_what_it_writes_is_not() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.layer = Level(2, True), nn.Linear(2, 2)

        def reset_parameters(self) -> None:
            nn.init.constant_(self.layer.weight, 3)

    plan = initplug.plan(Outer(), "torch_default")
    assert plan["layer.weight"].distribution == initplug.Constant(3)
    assert isinstance(plan["layer.bias"].distribution, initplug.Uniform)
    assert plan["inner.inner.scale"].distribution == initplug.Normal(0, 1)


def test_a_deep_tree_is_read_without_going_down_it_call_by_call() -> None:
    deep: nn.Module = Layer(2, 2)
    for _ in range(200):
        deep = nn.Sequential(deep)

    class Above(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = deep

        def reset_parameters(self) -> None:
            for part in self.modules():
                if isinstance(part, nn.Linear):
                    nn.init.ones_(part.weight)

    outcomes = replayed(Above(), {})
    assert [*outcomes.values()] == [initplug.Constant(1)]


def test_a_class_that_says_how_it_is_copied_is_copied_so() -> None:
    class Own(nn.Linear):
        def __deepcopy__(self, memo: Any) -> nn.Linear:
            ran["own copy"] += 1
            copied = Own(self.in_features, self.out_features, device="meta")
            memo[id(self)] = copied
            return copied

    class Above(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = Own(3, 3)
            self.kept = [self.own]  # a plain attribute

        def reset_parameters(self) -> None:
            assert self.kept[0] is self.own
            nn.init.ones_(self.own.weight)

    assert replayed(Above(), {}) == {"own.weight": initplug.Constant(1)}
    assert ran["own copy"] == 1


def seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


@pytest.mark.parametrize("build", [Stack, lambda count: Level(count, True)], ids=["wide", "deep"])
def test_four_times_the_tree_takes_about_four_times_as_long(build: Callable[[int], nn.Module]) -> None:
    initplug.plan(build(2), "torch_default")
    small, large = build(30), build(120)
    once = min(seconds(lambda: initplug.plan(small, "torch_default")) for _ in range(3))
    assert min(seconds(lambda: initplug.plan(large, "torch_default")) for _ in range(3)) < 10 * once
