"""What a later write overwrites is told of the tensor that lost its values."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import combinations
from typing import Any

import pytest
import torch
from parametrization_parts import Halved
from torch import Tensor, nn
from torch.nn.utils import parametrize

import initplug
import initplug.filling.overlaps as overlaps

RECIPE: dict[str, Any] = {"rules": {"*": "normal std=0.02"}}


def bag(tensors: dict[str, Tensor]) -> nn.Module:
    model = nn.Module()
    for name, tensor in tensors.items():
        model.register_parameter(name, nn.Parameter(tensor))
    return model


def views(size: int, first: slice, second: slice) -> nn.Module:
    """Two tensors in one memory."""
    base = torch.zeros(size)
    return bag({"first": base[first], "second": base[second], "apart": torch.zeros(size)})


@pytest.mark.parametrize("size", [64, 20_000])
@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("second", [slice(None), slice(8, None)], ids=["all", "a part"])
def test_the_earlier_of_two_tensors_in_one_memory_differs(size: int, seed: int | None, second: slice) -> None:
    model = views(size, slice(None), second)
    with pytest.warns(initplug.InitplugWarning, match="first and second are different tensors in the same memory"):
        audit = initplug.apply(model, RECIPE, seed=seed, threads=1)
    (row,) = audit.problems()
    assert (row.name, row.reason) == ("first", "overwritten by second")
    assert row.problem == "second was written into its memory afterwards"
    assert audit["second"].verdict == "ok"
    assert row.measured_std == pytest.approx(model.get_parameter("first").std(correction=0).item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore::initplug.InitplugWarning")
def test_under_a_seed_the_values_tell_who_was_last_whatever_the_threads() -> None:
    for threads in (1, 2, 4):
        model = views(2_000_000, slice(None), slice(None))
        audit = initplug.apply(model, RECIPE, seed=0, threads=threads)
        expected = bag({name: torch.zeros(2_000_000) for name in ("first", "second")})
        initplug.apply(expected, RECIPE, seed=0)
        for name in ("first", "second"):
            lost = not torch.equal(model.get_parameter(name), expected.get_parameter(name))
            assert (audit[name].verdict == "differs") == lost


@pytest.mark.filterwarnings("ignore::initplug.InitplugWarning")
@pytest.mark.parametrize("seed", [None, 0])
def test_one_constant_in_both_is_what_both_were_to_get(seed: int | None) -> None:
    recipe: dict[str, Any] = {
        "rules": {"*": "normal", "first": {"match": "^first", "init": 0}, "second": {"match": "^second", "init": 0}}
    }
    assert initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed).problems() == []
    recipe["rules"]["second"]["init"] = 1
    (row,) = initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed).problems()
    assert (row.name, row.reason) == ("first", "overwritten by second")


@pytest.mark.parametrize("seed", [None, 0])
def test_what_was_to_be_kept_and_is_overwritten_differs(seed: int | None) -> None:
    recipe = {"rules": {"*": "normal", "first": {"match": "^first", "init": "keep"}}}
    (row,) = initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed).problems()
    assert (row.name, row.status, row.reason) == ("first", "kept", "overwritten by second")
    apart = initplug.apply(views(64, slice(None), slice(None)), recipe, seed=seed, only="apart")
    assert apart.problems() == []


def test_what_shares_no_element_is_left_in_peace() -> None:
    base = torch.zeros(64, 64)
    model = bag({"even": base[::2], "odd": base[1::2], "apart": torch.zeros(64)})
    assert initplug.apply(model, RECIPE, seed=0).problems() == []
    halves = bag({"first": base[:32], "second": base[32:], "apart": torch.zeros(64)})
    assert initplug.apply(halves, RECIPE, seed=0).problems() == []


# Strided tensors of one memory, and whether they share elements.
VIEWS: dict[str, tuple[Callable[[], tuple[Tensor, ...]], bool]] = {
    "a part of rows": (lambda: ((base := torch.zeros(40, 100)), base[:, 40:]), True),
    "parts of rows that meet": (lambda: ((base := torch.zeros(40, 100))[:, :60], base[:, 40:]), True),
    "parts of rows side by side": (lambda: ((base := torch.zeros(40, 100))[:, :40], base[:, 40:]), False),
    "every second row and the others": (lambda: ((base := torch.zeros(40, 100))[::2], base[1::2]), False),
    "every second row and every third": (lambda: ((base := torch.zeros(40, 100))[::2], base[1::3]), True),
    "far rows and one of them": (lambda: ((base := torch.zeros(40, 100))[::10], base[20:30]), True),
    "far rows and what lies between": (lambda: ((base := torch.zeros(40, 100))[::10], base[21:30]), False),
    "columns turned": (lambda: ((base := torch.zeros(40, 100))[:, ::2], base.t()[::3]), True),
    "other columns turned": (lambda: ((base := torch.zeros(40, 100))[:, ::2], base.t()[1::2]), False),
    "real and imaginary parts": (lambda: torch.view_as_real(torch.zeros(40, 8, dtype=torch.cfloat)).unbind(-1), False),
    "blocks": (lambda: ((base := torch.zeros(40, 100))[:20, :50], base[20:, 50:]), False),
    "blocks with a corner in common": (lambda: ((base := torch.zeros(40, 100))[:20, :50], base[19:, 49:]), True),
}


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("case", VIEWS)
def test_strided_tensors_overlap_where_they_share_elements_and_only_there(case: str, seed: int | None) -> None:
    build, share = VIEWS[case]
    first, second = build()
    model, recipe = bag({"first": first, "second": second}), {"rules": {"^first": "normal std=0.02", "^second": 0}}
    line = "^first and second are different tensors in the same memory: the last write stays in both$"
    with pytest.warns(initplug.InitplugWarning, match=line) if share else nullcontext():
        audit = initplug.apply(model, recipe, seed=seed)
    assert [(row.name, row.verdict, row.reason) for row in audit] == [
        ("first", "differs", "overwritten by second") if share else ("first", "ok", None),
        ("second", "ok", None),
    ]


def test_of_three_tensors_every_pair_is_looked_at() -> None:
    base = torch.zeros(10_000)
    model = bag({"all": base, "middle": base[1_000:6_000], "end": base[5_000:9_000]})
    line = "^all and middle; all and end; middle and end are different tensors in the same memory: the last write"
    with pytest.warns(initplug.InitplugWarning, match=line):
        audit = initplug.apply(model, RECIPE)
    assert [(row.name, row.reason) for row in audit.problems()] == [
        ("all", "overwritten by end"),
        ("middle", "overwritten by end"),
    ]


def test_thousands_of_columns_of_one_memory_are_looked_at_in_no_time() -> None:
    base = torch.zeros(8, 3_000)
    model = bag({f"column{index}": base[:, index] for index in range(3_000)})
    begin = time.process_time()
    assert initplug.apply(model, RECIPE, seed=0).problems() == []
    assert time.process_time() - begin < 10  # a second as a rule, and a minute for all pairs


def parametrized(weight: Tensor) -> nn.Module:
    """A layer that computes its weight from twice its value, which it stores in given memory."""
    layer = nn.Linear(8, 8, bias=False)
    layer.weight.data = weight
    parametrize.register_parametrization(layer, "weight", Halved())
    return layer


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("seed", [None, 0])
def test_a_parametrized_tensor_stays_in_memory_that_it_shares(seed: int | None, atomic: bool) -> None:
    plain = nn.Linear(8, 8, bias=False)
    model = nn.ModuleDict({"plain": plain, "computed": parametrized(plain.weight.data)})
    stored = model.get_parameter("computed.parametrizations.weight.original")
    plain.weight.data = stored.data
    line = (
        r"^plain\.weight and computed\.weight are different tensors in the same memory: the last write stays in both$"
    )
    with pytest.warns(initplug.InitplugWarning, match=line):
        audit = initplug.apply(model, RECIPE, seed=seed, atomic=atomic)
    assert stored.data_ptr() == plain.weight.data_ptr()
    (row,) = audit.problems()
    assert (row.name, row.reason) == ("plain.weight", "overwritten by computed.weight")
    kept = {"rules": {"*": "keep", "computed.weight": "normal"}}
    (row,) = initplug.apply(model, kept, seed=seed, atomic=atomic).problems()
    assert (row.name, row.status, row.reason) == ("plain.weight", "kept", "overwritten by computed.weight")
    kept = {"rules": {"*": "keep", "plain.weight": "normal"}}
    (row,) = initplug.apply(model, kept, seed=seed, atomic=atomic).problems()
    assert (row.name, row.status, row.reason) == ("computed.weight", "kept", "overwritten by plain.weight")


def test_a_parametrized_tensor_stays_in_memory_that_processes_share() -> None:
    model = parametrized(torch.zeros(8, 8)).share_memory()
    stored = model.get_parameter("parametrizations.weight.original")
    place = stored.data_ptr()
    assert initplug.apply(model, RECIPE, seed=0)["weight"].verdict == "ok"
    assert stored.is_shared()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert stored.data_ptr() == place


def test_a_parametrized_tensor_keeps_its_layout() -> None:
    model = parametrized(torch.zeros(8, 8).t())
    stored = model.get_parameter("parametrizations.weight.original")
    stored.data = stored.data.t().contiguous().t()
    initplug.apply(model, RECIPE, seed=0)
    assert stored.stride() == (1, 8)


def any_view(base: Tensor, choose: random.Random) -> Tensor:
    """A slice of a memory of 3,600 elements, of any shape, steps and order of dimensions."""
    view = base.view(*choose.choice([(40, 90), (3600,), (20, 180), (10, 10, 36)]))
    for dim, size in enumerate(view.shape):
        start = choose.randrange(size)
        parts = [slice(None)] * dim + [slice(start, choose.randrange(start, size) + 1, choose.choice([1, 1, 2, 3, 5]))]
        view = view[tuple(parts)]
    return view.permute(choose.sample(range(view.dim()), view.dim()))


@pytest.mark.parametrize("case", range(20))
def test_what_meets_in_memory_is_what_has_elements_in_common(case: int) -> None:
    choose, base = random.Random(case), torch.arange(3600.0)
    for _ in range(10):
        views = [any_view(base, choose) for _ in range(choose.randint(2, 8))]
        elements = [{*view.reshape(-1).tolist()} for view in views]
        pairs = combinations(range(len(views)), 2)
        expected = {(one, other) for one, other in pairs if elements[one] & elements[other]}
        found = [*overlaps._meeting(views)]
        assert {(min(pair), max(pair)) for pair in found} == expected
        assert len(found) == len(expected)
