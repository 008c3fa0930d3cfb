"""A plan goes to other models of the same names and shapes, and to no others."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from nets import quietly
from refusals import apply_error
from torch import nn

import initplug


class Pair(nn.Module):
    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.emb, self.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        if tied:
            self.head.weight = self.emb.weight


RULES = {"rules": {"emb.weight": "normal", "head.weight": 0}}


def test_a_tie_that_the_plan_does_not_know() -> None:
    assert apply_error(Pair(tied=True), initplug.plan(Pair(tied=False), RULES)).splitlines()[1:] == [
        "  emb.weight: it is tied to head.weight, which the plan does not say"
    ]


def test_a_tie_that_the_model_does_not_have() -> None:
    plan = initplug.plan(Pair(tied=True), {"rules": {"*": "normal"}})
    assert apply_error(Pair(tied=False), plan).splitlines()[1:] == ["  head.weight: the plan ties it to another slot"]


def test_a_dtype_that_the_plan_does_not_fit() -> None:
    plan = initplug.plan(nn.Linear(2, 2), {"rules": {"*": 70000}})
    assert apply_error(nn.Linear(2, 2).half(), plan).splitlines()[1] == (
        "  weight: constant 70000: 70000 does not fit float16, which ends at 65504"
    )


def test_a_shorter_dtype_that_it_fits() -> None:
    audit = initplug.apply(nn.Linear(64, 64).bfloat16(), initplug.plan(nn.Linear(64, 64), "torch_default"))
    assert {row.dtype for row in audit} == {"bfloat16"}
    assert audit.problems() == []


def test_padding_rows_are_those_of_the_model() -> None:
    ones = {"rules": {"*": 1}}
    padded, plain = nn.Embedding(4, 3, padding_idx=1), nn.Embedding(4, 3)
    initplug.apply(padded, initplug.plan(plain, ones))
    assert padded.weight.sum(1).tolist() == [3, 0, 3, 3]
    initplug.apply(plain, initplug.plan(padded, ones))
    assert plain.weight.sum(1).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("does", [initplug.apply, initplug.audit])
def test_a_plan_of_more_than_the_model_has_is_warned_of(does: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    rule = {"match": "*", "expect": {"per": "<Sequential>", "times": 4}, "init": "normal std=0.02"}
    plan = initplug.plan(model, {"rules": {"x": rule}})
    initplug.apply(model, plan, seed=0)
    way_out = (
        "If it has changed, plan the model as it is now; of a part of the planned one `prefix=` says which, "
        "and a part that keeps the names of the whole may ignore this."
    )
    del model[1].bias
    for gone in ("1 slot of the plan is not in this model: 1.bias", None):
        if gone is None:
            gone = "2 slots of the plan are not in this model: 1.weight, 1.bias"
            del model[1]
        with pytest.warns(initplug.InitplugWarning) as caught:
            audit = does(model, plan, seed=0)
        assert [str(each.message) for each in caught] == [f"{gone}\n{way_out}"]
        assert caught[0].filename == __file__
        assert len(audit) == len([*model.parameters()])
        initplug.audit(model, audit.plan, seed=0)  # which is of what is there
    part = model[0]
    assert len(does(part, plan, seed=0, prefix="0")) == 2


def test_the_ways_out_of_a_plan_of_more_than_the_model_has() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = initplug.plan(model, {"rules": {"*": 1}})
    del model[1]
    initplug.apply(model, initplug.plan(model, {"rules": {"*": 1}}), seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ slots? of the plan", initplug.InitplugWarning)
        assert len(initplug.apply(model, plan, seed=0)) == 2


def test_a_rank_has_a_stage_of_what_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = initplug.plan(model, {"rules": {"*": 1}})
    del model[1]
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    assert len(initplug.apply(model, plan, seed=0)) == 2


def test_a_stage_takes_the_plan_of_the_whole() -> None:
    whole = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 5))
    plan = initplug.plan(whole, {"rules": {"*": 0, "<Sequential>.-1": 1}})
    stage = nn.Linear(3, 5)
    audit = initplug.apply(stage, plan, prefix="1")
    assert [row.name for row in audit] == ["1.weight", "1.bias"]
    assert stage.weight.eq(1).all()


@pytest.mark.parametrize("padding", [None, 1])
@pytest.mark.parametrize("place", ["emb", "head"])
def test_a_stage_that_knows_a_tied_tensor_by_an_alias_gets_the_values_of_the_whole(
    place: str, padding: int | None
) -> None:
    whole = Pair(tied=True)
    whole.emb.padding_idx = padding
    plan = initplug.plan(whole, {"rules": {"*": "normal"}})
    initplug.apply(whole, plan, seed=3)
    stage = nn.Linear(3, 4, bias=False) if place == "head" else nn.Embedding(4, 3, padding_idx=padding)
    audit = initplug.apply(stage, plan, seed=3, prefix=place)
    assert torch.equal(stage.weight, whole.emb.weight)
    assert audit[f"{place}.weight"].verdict == "ok"


def test_kept_meta_slots_that_are_not_selected_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    audit = initplug.apply(model, {"rules": {"*": 1, "^0": "keep"}}, only="^1")
    assert [row.status for row in audit] == ["kept", "kept", "initialized", "initialized"]
    assert model[0].weight.is_meta


def test_different_tensors_in_one_memory_are_told() -> None:
    model = nn.Module()
    model.p = nn.Parameter(torch.zeros(2))
    model.q = nn.Parameter(model.p.data)
    with pytest.warns(initplug.InitplugWarning, match="p and q are different tensors in the same memory") as caught:
        initplug.apply(model, {"rules": {"*": 1}})
    assert caught[0].filename == __file__


def test_tensors_that_overlap_in_memory_are_told_and_neighbours_are_not() -> None:
    memory = torch.zeros(6, 2)
    model = nn.ParameterDict({"a": nn.Parameter(memory[:2]), "b": nn.Parameter(memory[2:4])})
    initplug.apply(model, {"rules": {"*": 1}})
    model["c"] = nn.Parameter(memory[3:])
    with pytest.warns(initplug.InitplugWarning, match="b and c are different tensors in the same memory"):
        initplug.apply(model, {"rules": {"*": 1}})


def test_interleaved_columns_of_one_memory_are_no_overlap() -> None:
    memory = torch.zeros(3, 4)
    model = nn.ParameterDict({"a": nn.Parameter(memory[:, :2]), "b": nn.Parameter(memory[:, 2:])})
    initplug.apply(model, {"rules": {"^a": 1, "^b": 2}})
    assert memory.tolist() == [[1, 1, 2, 2]] * 3


def test_a_lazy_tensor_is_left_to_its_first_batch() -> None:
    model = quietly(lambda: nn.LazyLinear(3))
    rules = {"w": {"match": "*.weight", "ndim": 2, "init": "xavier_uniform"}, "*.bias": 0}
    with pytest.warns(initplug.InitplugWarning, match="2 of 2 slots wait"):
        plan = initplug.plan(model, {"rules": rules})
    assert [(row.rule, row.reason) for row in plan] == [("w", "lazy"), ("*.bias", "lazy")]
    with pytest.raises(initplug.ApplyError, match="2 of 2 slots cannot be written"):
        initplug.apply(model, plan)


def test_references_count_from_the_whole_model() -> None:
    recipe = {"rules": {"*.weight": 0, "*.bias": "fan_uniform of=^enc.1.weight"}}
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(16, 3))
    assert initplug.plan(model, recipe, prefix="enc")["enc.0.bias"].high == 0.25
    with pytest.raises(initplug.PlanError, match=r"'\^enc.1.weight' lies outside the part 'dec'"):
        initplug.plan(model, recipe, prefix="dec")


def test_the_fan_of_a_bias_follows_the_layout_of_its_weight() -> None:
    plan = initplug.plan(nn.ConvTranspose2d(8, 16, 3), {"rules": {"*": "fan_uniform effective"}})
    assert plan["bias"].high == plan["weight"].high == pytest.approx(72**-0.5)
