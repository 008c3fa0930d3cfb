"""Apply and audit: nothing is written on failure, everything is accounted for on success."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import every_tensor
from torch import nn

import initplug


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.bn: Any = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        self.head = nn.Linear(3, 3, bias=False)


NAMES = ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias", "head.weight"]
GOOD: dict[str, Any] = {"rules": {"*": "normal std=0.5", "bn.weight": 1, "*.bias": 0}}


def image(model: nn.Module) -> dict[str, bytes]:
    """Every tensor's bytes, NaN and negative zero included."""
    return {
        name: bytes(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        if value.numel() and value.ndim
        else repr(value).encode()
        for name, value in every_tensor(model).items()
    }


def changed(before: dict[str, bytes], model: nn.Module) -> set[str]:
    after = image(model)
    assert after.keys() == before.keys()
    return {name for name in before if before[name] != after[name]}


def rows_by_name(audit: Any) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in audit.to_dict()["rows"]}


def equal(model: nn.Module, other: nn.Module) -> bool:
    return image(model) == image(other)


# --------------------------------------------------------------------- nothing is written on failure


class Counted(Net):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.arange(6), requires_grad=False)


def plan_of_another_model() -> Any:
    other = Net()
    other.fc = nn.Linear(4, 5)
    return initplug.plan(other, GOOD)


def plan_of_a_model_with_other_names() -> Any:
    return initplug.plan(nn.Sequential(Net()), GOOD)


FAILURES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], dict[str, Any], type[Exception], str]] = {
    "unmatched": (Net, lambda: {"rules": {"*.weight": "normal"}}, {}, initplug.PlanError, r"conv\.bias"),
    "unused": (
        Net,
        lambda: {"unused": "error", "rules": {"*": 1, "ghost": {"match": "ghost.weight", "init": 0}}},
        {},
        initplug.PlanError,
        "ghost",
    ),
    "fan of a vector": (Net, lambda: {"rules": {"*": "xavier_uniform"}}, {}, initplug.PlanError, r"conv\.bias"),
    "drawing integers": (
        Counted,
        lambda: {"frozen": "write", "rules": {"*": "normal"}},
        {},
        initplug.PlanError,
        "steps",
    ),
    "effective fans of an embedding": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2)),
        lambda: {"rules": {"*.bias": 1, "*.weight": "kaiming_normal effective"}},
        {},
        initplug.PlanError,
        r"1\.weight",
    ),
    "a bad recipe": (Net, lambda: {"rules": {"*": "normall"}}, {}, initplug.RecipeError, "normall"),
    "a recipe with an unknown key": (Net, lambda: {"rule": {"*": 1}}, {}, initplug.RecipeError, "rule"),
    "a missing recipe": (Net, lambda: "no_such_preset", {}, initplug.RecipeError, "no_such_preset"),
    "bad text": (Net, lambda: "rules: {\n", {}, initplug.RecipeError, r":\d+:\d+: "),
    "a plan for other shapes": (Net, plan_of_another_model, {}, initplug.ApplyError, r"fc\.weight"),
    "a plan for other names": (Net, plan_of_a_model_with_other_names, {}, initplug.ApplyError, r"conv\.weight"),
    "negative seed": (Net, lambda: GOOD, {"seed": -1}, initplug.ApplyError, "seed=-1"),
    "large seed": (Net, lambda: GOOD, {"seed": 2**64}, initplug.ApplyError, r"2\^64 - 1"),
    "progress that cannot be called": (
        Net,
        lambda: GOOD,
        {"seed": 0, "progress": 1},
        initplug.ApplyError,
        "progress=1",
    ),
    "no threads": (Net, lambda: GOOD, {"seed": 0, "threads": 0}, initplug.ApplyError, "threads=0"),
    "unknown name in only": (
        Net,
        lambda: GOOD,
        {"only": ["fc.weight", "fc.wieght"]},
        initplug.InitplugError,
        r"fc\.wieght",
    ),
    "bad selector in only": (Net, lambda: GOOD, {"only": "(fc"}, initplug.InitplugError, r"\(fc"),
    "negative places under a prefix": (
        Net,
        lambda: {"rules": {"*": 1, "^stage.-1": 0}},
        {"prefix": "stage"},
        initplug.PlanError,
        "-1",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_nothing_is_written_after_a_failure(failure: str) -> None:
    build, recipe, options, error, words = FAILURES[failure]
    torch.manual_seed(0)
    model = build()
    recipe_or_plan = recipe()
    before, versions = image(model), {name: value._version for name, value in every_tensor(model).items()}
    state = torch.get_rng_state()
    with pytest.raises(error, match=words):
        initplug.apply(model, recipe_or_plan, **options)
    assert changed(before, model) == set()
    assert {name: value._version for name, value in every_tensor(model).items()} == versions
    assert torch.equal(torch.get_rng_state(), state)


def test_all_findings_come_before_the_first_write_and_together() -> None:
    model = Counted()
    before = image(model)
    recipe = {
        "frozen": "write",
        "unused": "error",
        "rules": {"steps*": "normal", "conv.**": "lecun_normal", "bn.weight": 1, "ghost.x": 0, "fc.*": "normal"},
    }
    with pytest.raises(initplug.PlanError) as caught:
        initplug.apply(model, recipe)
    text = str(caught.value)
    for word in ("steps", "conv.bias", "bn.bias", "head.weight", "ghost.x"):
        assert word in text
    assert len(caught.value.findings) >= 4
    assert caught.value.plan["fc.weight"].rule == "fc.*"
    assert changed(before, model) == set()


class OutOfLuckError(RuntimeError):
    pass


@pytest.mark.parametrize("owner", [torch.Tensor, nn.init], ids=["torch.Tensor.normal_", "torch.nn.init.normal_"])
@pytest.mark.parametrize("nth", [1, 3])
def test_an_error_in_the_middle_says_what_had_been_written(
    monkeypatch: pytest.MonkeyPatch, owner: Any, nth: int
) -> None:
    model = Net()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)
    before = image(model)
    original = owner.normal_
    calls = 0

    def failing(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OutOfLuckError("out of luck")
        return original(tensor, *arguments, **options)

    monkeypatch.setattr(owner, "normal_", failing)
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {"rules": {"*": "normal std=0.5"}})
    monkeypatch.undo()
    assert calls == nth
    assert changed(before, model) == set(NAMES[: nth - 1])
    text = str(caught.value)
    assert "out of luck" in text
    assert NAMES[nth - 1] in text
    for name in NAMES[: nth - 1]:
        assert name in text
    for name in NAMES[nth:]:
        assert name not in text
    assert isinstance(caught.value.__cause__, OutOfLuckError)


# ------------------------------------------------------------------------------------------ success


def by_hand(model: nn.Module, names: list[str] | None = None) -> None:
    for name, parameter in model.named_parameters():
        if names is not None and name not in names:
            continue
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif name == "bn.weight":
            nn.init.ones_(parameter)
        else:
            nn.init.normal_(parameter, 0.0, 0.5)


def test_apply_is_the_loop_one_writes_by_hand() -> None:
    ours, theirs = Net(), Net()
    torch.manual_seed(1)
    audit = initplug.apply(ours, GOOD)
    torch.manual_seed(1)
    by_hand(theirs)
    assert equal(ours, theirs)
    assert list(rows_by_name(audit)) == NAMES
    assert {row["status"] for row in rows_by_name(audit).values()} == {"initialized"}
    assert {row["verdict"] for row in rows_by_name(audit).values()} == {"ok"}
    assert list(audit.problems()) == []


def test_apply_takes_a_plan_and_leaves_gradients_and_identity_alone() -> None:
    ours, theirs = Net(), Net()
    ours.fc.weight.requires_grad_(False)
    identities = {name: (id(value), value.data_ptr()) for name, value in every_tensor(ours).items()}
    plan = initplug.plan(Net().to("meta"), {**GOOD, "frozen": "write"})
    torch.manual_seed(2)
    initplug.apply(ours, plan)
    torch.manual_seed(2)
    by_hand(theirs)
    assert equal(ours, theirs)
    assert {name: (id(value), value.data_ptr()) for name, value in every_tensor(ours).items()} == identities
    assert [name for name, p in ours.named_parameters() if not p.requires_grad] == ["fc.weight"]
    assert all(p.grad is None and p.is_leaf for p in ours.parameters())


def test_planning_reads_no_value_and_moves_no_generator() -> None:
    model = Net()
    before, state = image(model), torch.get_rng_state()
    plan = initplug.plan(model, GOOD)
    assert len(list(plan)) == len(NAMES)
    assert changed(before, model) == set()
    assert torch.equal(torch.get_rng_state(), state)


class TiedOften(nn.Module):
    def __init__(self, padding: int | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(8, 20)
        self.wte = nn.Embedding(20, 8, padding_idx=padding)
        self.head.weight = self.wte.weight
        self.again = self.wte
        self.last = nn.Linear(8, 2)


def test_a_tied_tensor_is_drawn_once() -> None:
    ours, theirs = TiedOften(), TiedOften()
    torch.manual_seed(3)
    audit = initplug.apply(ours, {"rules": {"*": "uniform 0 1"}})
    torch.manual_seed(3)
    for parameter in theirs.parameters():
        nn.init.uniform_(parameter, 0, 1)
    assert equal(ours, theirs)
    assert ours.head.weight is ours.wte.weight is ours.again.weight
    assert list(rows_by_name(audit)) == ["head.weight", "head.bias", "last.weight", "last.bias"]
    (aliased,) = [a for a in initplug.plan(ours, {"rules": {"*": 0}}) if a.aliases]
    assert {aliased.name, *aliased.aliases} == {"head.weight", "wte.weight", "again.weight"}
    assert rows_by_name(audit)["head.weight"]["numel"] == 160
    assert audit.to_dict()["summary"]["numel"] == 160 + 20 + 16 + 2


@pytest.mark.parametrize("selector", ["head.weight", "wte.weight", "<Embedding>.weight", "again.*"])
def test_padding_rows_are_zero_under_any_alias(selector: str) -> None:
    model = TiedOften(padding=5)
    recipe = {"unmatched": "keep", "rules": {selector: "normal std=2"}}
    torch.manual_seed(4)
    audit = initplug.apply(model, recipe)
    torch.manual_seed(4)
    expected = nn.init.normal_(torch.empty(20, 8), 0, 2)
    expected[5] = 0
    assert torch.equal(model.head.weight.detach(), expected)
    assert rows_by_name(audit)["head.weight"]["verdict"] == "ok"


@pytest.mark.parametrize("build", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize(
    "spec", [1, "constant -2.5", "uniform 1 2", "normal mean=3 std=0.1", "default", "lecun_normal"]
)
def test_padding_rows_of_drawn_and_constant_values(build: Any, spec: Any) -> None:
    model = build(6, 4000, padding_idx=2)
    nn.init.constant_(model.weight, 9.0)
    warned = pytest.warns(initplug.InitplugWarning, match="one value throughout")  # a filled tensor is no fresh one
    with warned if spec == "default" else nullcontext():
        audit = initplug.apply(model, {"rules": {"*": spec}})
    assert not model.weight[2].any()
    assert (model.weight[[0, 1, 3, 4, 5]] != 0).all(dim=1).all()
    assert (model.weight != 9).all()
    assert rows_by_name(audit)["weight"]["verdict"] == "ok"


def test_padding_rows_are_left_alone_by_keep() -> None:
    model = nn.Embedding(6, 4, padding_idx=2)
    nn.init.constant_(model.weight, 9.0)
    initplug.apply(model, {"rules": {"*": "keep"}})
    assert (model.weight == 9).all()


class Masked(nn.Module):
    bias: torch.Tensor
    steps: torch.Tensor
    scratch: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(3, 3)
        self.register_buffer("bias", torch.tril(torch.ones(3, 3)))
        self.register_buffer("steps", torch.tensor([4, 5]))
        self.register_buffer("scratch", torch.ones(2), persistent=False)


def test_buffers_are_written_only_on_request() -> None:
    model = Masked()
    before = image(model)
    audit = initplug.apply(model, {"rules": {"*": 2, "*.bias": 0}})
    assert changed(before, model) == {"lin.weight", "lin.bias"}
    assert set(rows_by_name(audit)) == {"lin.weight", "lin.bias"}
    rules = {"*": 2, "mask": {"match": "^bias", "kind": "buffer", "init": 0.5}}
    audit = initplug.apply(model, {"rules": rules})
    assert (model.bias == 0.5).all()
    assert rows_by_name(audit)["bias"]["kind"] == "buffer"
    assert rows_by_name(audit)["bias"]["verdict"] == "ok"
    rules = {"*": 2, "all": {"match": "*", "kind": "buffer", "init": 3}}
    initplug.apply(model, {"rules": rules})
    assert model.steps.tolist() == [3, 3]
    assert model.steps.dtype == torch.int64
    assert model.scratch.tolist() == [3.0, 3.0]


def test_integers_and_bools_take_constants() -> None:
    model: Any = Counted()
    model.register_buffer("flags", torch.zeros(3, dtype=torch.bool))
    rules = {
        "*": "normal",
        "steps*": {"init": 2, "trainable": False},
        "flags": {"match": "flags", "kind": "buffer", "init": 1},
    }
    audit = initplug.apply(model, {"rules": rules})
    assert model.steps.tolist() == [2] * 6
    assert model.flags.tolist() == [True] * 3
    assert {row["verdict"] for row in rows_by_name(audit).values()} == {"ok"}


# ------------------------------------------------------------------------------------------ only, prefix


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("fc", ["fc.weight", "fc.bias"]),
        ("*.weight", ["conv.weight", "bn.weight", "fc.weight", "head.weight"]),
        ("<Linear>.weight", ["fc.weight", "head.weight"]),
        (["head.weight", "conv.weight"], ["conv.weight", "head.weight"]),
        (("fc.bias",), ["fc.bias"]),
        ([], []),
    ],
)
def test_only_writes_those_and_keeps_the_rest(only: Any, expected: list[str]) -> None:
    torch.manual_seed(5)
    ours = Net()
    for parameter in ours.parameters():
        nn.init.constant_(parameter, 7.0)
    theirs = copy.deepcopy(ours)
    before = image(ours)
    torch.manual_seed(6)
    audit = initplug.apply(ours, GOOD, only=only)
    torch.manual_seed(6)
    by_hand(theirs, expected)
    assert equal(ours, theirs)
    assert changed(before, ours) == set(expected)
    status = {name: row["status"] for name, row in rows_by_name(audit).items()}
    assert status == {name: "initialized" if name in expected else "kept" for name in NAMES}


def test_two_passes_reproduce_a_source_that_draws_in_another_order() -> None:
    ours, theirs = Net(), Net()
    torch.manual_seed(7)
    initplug.apply(ours, GOOD, only="head")
    initplug.apply(ours, GOOD, only=[name for name in NAMES if name != "head.weight"])
    torch.manual_seed(7)
    by_hand(theirs, ["head.weight"])
    by_hand(theirs, NAMES[:-1])
    assert equal(ours, theirs)


def test_only_takes_the_missing_keys_of_a_checkpoint() -> None:
    torch.manual_seed(8)
    source, model = Net(), Net()
    nn.init.uniform_(source.bn.running_mean, 1, 2)
    nn.init.constant_(model.bn.running_mean, 5.0)
    checkpoint = source.state_dict()
    for name in ("head.weight", "bn.running_mean", "bn.num_batches_tracked", "fc.bias"):
        del checkpoint[name]
    missing = model.load_state_dict(checkpoint, strict=False).missing_keys
    assert set(missing) == {"head.weight", "bn.running_mean", "bn.num_batches_tracked", "fc.bias"}
    with_buffer = {"rules": {**GOOD["rules"], "mean": {"match": "running_mean", "kind": "buffer", "init": 0}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", initplug.InitplugWarning)
        audit = initplug.apply(model, with_buffer, only=missing)
    assert not model.bn.running_mean.any()
    assert not model.fc.bias.any()
    assert torch.equal(model.conv.weight, source.conv.weight)
    assert torch.equal(model.fc.weight, source.fc.weight)
    assert torch.equal(model.bn.running_var, source.bn.running_var)
    assert not torch.equal(model.head.weight, source.head.weight)
    written = {name for name, row in rows_by_name(audit).items() if row["status"] == "initialized"}
    assert written == {"head.weight", "fc.bias", "bn.running_mean"}
    nn.init.constant_(model.bn.running_mean, 5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", initplug.InitplugWarning)
        audit = initplug.apply(model, GOOD, only=missing)
    assert (model.bn.running_mean == 5).all()
    assert {name for name, row in rows_by_name(audit).items() if row["status"] == "initialized"} == {
        "head.weight",
        "fc.bias",
    }


@pytest.mark.parametrize("only", ["again.weight", ["**.again.weight"], ["again.weight", "wte.weight", "head.weight"]])
def test_only_takes_a_tied_tensor_by_any_selector_or_by_all_of_its_names(only: Any) -> None:
    model = TiedOften()
    before = image(model)
    initplug.apply(model, {"rules": {"*": "uniform 0 1"}}, only=only)
    assert changed(before, model) == {"head.weight", "wte.weight", "again.weight"}


def test_prefix_gives_a_stage_the_names_of_the_whole() -> None:
    whole: Any = nn.Sequential(OrderedDict(first=Net(), second=Net()))
    rules = {"*": 1, "^first.fc.weight": 2, "^second.fc.weight": 3, "^fc.weight": 4, "second.**.bias": 5}
    recipe = {"unused": "ignore", "rules": rules}
    plan = initplug.plan(whole.second, recipe, prefix="second")
    assert [a.name for a in plan] == [f"second.{name}" for name in NAMES]
    audit = initplug.apply(whole.second, recipe, prefix="second")
    assert list(rows_by_name(audit)) == [f"second.{name}" for name in NAMES]
    assert (whole.second.fc.weight == 3).all()
    assert (whole.second.fc.bias == 5).all()
    assert (whole.second.conv.weight == 1).all()
    deep = nn.Linear(2, 2)
    initplug.apply(deep, {"unused": "ignore", "rules": {"*": 0, "^a.b.weight": 1}}, prefix="a.b")
    assert (deep.weight == 1).all()
    assert not deep.bias.any()


def test_a_stage_takes_the_plan_of_the_whole_model() -> None:
    whole: Any = nn.Sequential(OrderedDict(first=Net(), second=Net()))
    plan = initplug.plan(whole, {"rules": {"*": 1, "^-1": 2}})
    before = image(whole.first)
    initplug.apply(whole.second, plan, prefix="second")
    assert (whole.second.fc.weight == 2).all()
    assert changed(before, whole.first) == set()
    narrow = Net()
    narrow.fc = nn.Linear(4, 2)
    before = image(narrow)
    with pytest.raises(initplug.ApplyError, match=r"second\.fc\.weight"):
        initplug.apply(narrow, plan, prefix="second")
    assert changed(before, narrow) == set()


def test_only_under_a_prefix_goes_by_the_names_of_the_whole() -> None:
    model = Net()
    before = image(model)
    initplug.apply(model, {"rules": {"*": 3}}, prefix="stage", only=["stage.fc.weight"])
    assert changed(before, model) == {"fc.weight"}


# ------------------------------------------------------------------------------------- statuses, verdicts


def test_keep_is_kept_and_untestable() -> None:
    model = Net()
    before = image(model)
    audit = initplug.apply(model, {"rules": {"*": "keep", "fc.bias": 4}})
    assert changed(before, model) == {"fc.bias"}
    found = {name: (row["status"], row["verdict"]) for name, row in rows_by_name(audit).items()}
    assert found.pop("fc.bias") == ("initialized", "ok")
    assert set(found.values()) == {("kept", "untestable")}


def test_unmatched_keep_is_kept() -> None:
    model = Net()
    before = image(model)
    audit = initplug.apply(model, {"unmatched": "keep", "rules": {"fc.*": 4}})
    assert changed(before, model) == {"fc.weight", "fc.bias"}
    row = rows_by_name(audit)["head.weight"]
    assert (row["rule"], row["status"], row["verdict"]) == (None, "kept", "untestable")
    assert "head.weight" in json.dumps(audit.to_dict()["unmatched"])
    assert "fc.weight" not in json.dumps(audit.to_dict()["unmatched"])


def test_zero_element_tensors_are_recorded_no_ops() -> None:
    model = nn.ModuleDict({"none": nn.Linear(4, 4), "some": nn.Linear(2, 2)})
    model["none"].weight = nn.Parameter(torch.empty(0, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit = initplug.apply(model, {"rules": {"*": "normal", "*.weight": "kaiming_normal fan_out"}})
    assert rows_by_name(audit)["none.weight"]["status"] == "empty"
    assert rows_by_name(audit)["none.weight"]["measured_mean"] is None
    assert rows_by_name(audit)["some.weight"]["status"] == "initialized"


def test_audit_reads_and_writes_nothing() -> None:
    model = Net()
    torch.manual_seed(9)
    initplug.apply(model, GOOD)
    before, state = image(model), torch.get_rng_state()
    audit = initplug.audit(model, GOOD)
    assert changed(before, model) == set()
    assert torch.equal(torch.get_rng_state(), state)
    assert {row["status"] for row in rows_by_name(audit).values()} == {"read"}
    assert {row["verdict"] for row in rows_by_name(audit).values()} == {"ok"}
    assert list(audit.problems()) == []


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        ("normal std=0.5", "normal std=0.7"),
        ("normal std=0.5", "normal std=0.5 mean=0.1"),
        ("uniform -1 1", "uniform -1 0.99"),
        ("uniform -1 1", "normal std=0.9"),
        ("kaiming_normal", "kaiming_normal fan_out"),
        (0, 1e-30),
        (1, 1.0000001),
        ("trunc_normal", "normal"),
        ("normal", "trunc_normal"),
        ("zeros", "normal"),
        ("normal", "zeros"),
        ("default", "xavier_uniform"),
    ],
)
def test_another_recipe_differs(spec: Any, other: Any) -> None:
    model = nn.Linear(200, 300, bias=False)
    torch.manual_seed(10)
    audit = initplug.apply(model, {"rules": {"*": spec}})
    assert rows_by_name(audit)["weight"]["verdict"] == "ok"
    assert rows_by_name(initplug.audit(model, {"rules": {"*": spec}}))["weight"]["verdict"] == "ok"
    audit = initplug.audit(model, {"rules": {"*": other}})
    assert rows_by_name(audit)["weight"]["verdict"] == "differs"
    assert len(list(audit.problems())) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [0.1, 1e-3, -2.302585092994046, 3])
def test_constants_are_judged_after_the_cast(dtype: torch.dtype, value: float) -> None:
    model = nn.Linear(3, 3).to(dtype)
    audit = initplug.apply(model, {"rules": {"*": value}})
    assert torch.equal(model.weight, torch.full((3, 3), value, dtype=dtype))
    assert {row["verdict"] for row in rows_by_name(audit).values()} == {"ok"}


def test_one_changed_element_of_a_constant_differs() -> None:
    model = nn.Linear(100, 100)
    initplug.apply(model, {"rules": {"*": 0}})
    with torch.no_grad():
        model.weight[3, 4] = 1e-30
    found = rows_by_name(initplug.audit(model, {"rules": {"*": 0}}))
    assert (found["weight"]["verdict"], found["bias"]["verdict"]) == ("differs", "ok")


def test_measured_moments_are_those_of_numpy() -> None:
    model = nn.Linear(50, 40).double()
    with torch.no_grad():
        model.weight.normal_(1e6, 1e-3)
    row = rows_by_name(initplug.audit(model, {"rules": {"*": "normal"}}))["weight"]
    values = model.weight.detach().numpy()
    assert row["measured_mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert row["measured_std"] == pytest.approx(values.std(), rel=1e-5)
    assert (row["measured_min"], row["measured_max"]) == (values.min(), values.max())
    assert row["measured_count"] == 2000


def test_without_measuring_there_are_no_numbers() -> None:
    audit = initplug.apply(Net(), GOOD, measure=False)
    row = rows_by_name(audit)["conv.weight"]
    assert row["measured_mean"] is None
    assert (row["status"], row["verdict"]) == ("initialized", "untestable")


# ------------------------------------------------------------------------------------------------ output

PLAN_KEYS = [
    "name",
    "aliases",
    "kind",
    "module_type",
    "shape",
    "dtype",
    "numel",
    "trainable",
    "rule",
    "selector",
    "location",
    "shadowed",
    "init",
    "distribution",
    "fan_in",
    "fan_out",
    "mean",
    "std",
    "low",
    "high",
    "peak",
]
AUDIT_KEYS = ["measured_mean", "measured_std", "measured_min", "measured_max", "measured_count", "status", "verdict"]


def strict(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def broken() -> nn.Module:
    model = Net()
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = math.nan
        model.fc.weight.fill_(math.inf)
        model.fc.bias.copy_(torch.tensor([math.inf, -math.inf, 0.0]))
    model.empty = nn.Parameter(torch.empty(0, 3))
    return model


def test_to_dict_of_an_audit() -> None:
    recipe = {"name": "mine", "unused": "ignore", "rules": {**GOOD["rules"], "ghost.x": 0, "head.weight": "keep"}}
    audit = initplug.apply(Net(), recipe)
    found = audit.to_dict()
    assert found["schema"] == 1
    assert [row["name"] for row in found["rows"]] == NAMES
    for row in found["rows"]:
        assert set(PLAN_KEYS) | set(AUDIT_KEYS) <= set(row)
        assert not any(isinstance(value, dict) for value in row.values())
    assert found["unmatched"] == []
    assert "ghost.x" in json.dumps(found["unused"])
    summary = found["summary"]
    assert summary["slots"] == len(NAMES)
    assert summary["numel"] == sum(p.numel() for p in Net().parameters())
    text = json.dumps(summary)
    assert "initialized" in text
    assert "untestable" in text
    whole = json.dumps(found)
    assert "mine" in whole
    assert initplug.__version__ in whole
    assert torch.__version__.split("+")[0] in whole
    assert found["seed"] is None
    first, second = initplug.apply(Net(), recipe).to_dict(), initplug.apply(Net(), GOOD).to_dict()
    digests = [str(one.get("digest") or one["recipe"]) for one in (found, first, second)]
    assert digests[0] == digests[1] != digests[2]
    assert audit.summary == summary


def test_rows_say_what_the_tensors_are() -> None:
    model = Net()
    model.head.weight.requires_grad_(False)
    found = rows_by_name(initplug.apply(model, {**GOOD, "frozen": "write"}))
    row = found["conv.weight"]
    assert list(row["shape"]) == [4, 2, 3, 3]
    assert row["numel"] == 72
    assert "float32" in row["dtype"]
    assert "Conv2d" in row["module_type"]
    assert row["trainable"] is True
    assert found["head.weight"]["trainable"] is False
    assert (row["rule"], row["selector"], row["shadowed"]) == ("*", "*", [])
    assert found["conv.bias"]["shadowed"] == ["*"]
    assert (row["mean"], row["std"]) == (0.0, 0.5)
    assert row["init"].startswith("normal")
    assert "0.5" in row["init"]


@pytest.mark.parametrize("build", [Net, broken], ids=["fine", "NaN and infinity"])
def test_json_has_no_nan(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    audit = initplug.audit(build(), {"rules": {"*": "normal std=0.5"}})
    text = audit.to_json()
    assert strict(text) == strict(json.dumps(audit.to_dict(), allow_nan=False))
    path = tmp_path / "audit.json"
    audit.save(path)
    assert strict(path.read_text()) == strict(text)
    plan = initplug.plan(build(), {"rules": {"*": "normal std=0.5"}})
    assert strict(plan.to_json()) == strict(json.dumps(plan.to_dict(), allow_nan=False))
    plan.save(tmp_path / "plan.json")
    assert strict((tmp_path / "plan.json").read_text()) == strict(plan.to_json())


def test_nan_and_infinity_differ() -> None:
    found = rows_by_name(initplug.audit(broken(), {"rules": {"*": "normal std=0.5"}}))
    assert found["conv.weight"]["verdict"] == "differs"
    assert found["conv.weight"]["measured_mean"] is None
    assert found["fc.weight"]["verdict"] == "differs"
    assert found["fc.bias"]["verdict"] == "differs"
    found = rows_by_name(initplug.audit(broken(), {"rules": {"*": 0}}))
    assert found["conv.weight"]["verdict"] == "differs"


def test_save_as_csv_and_markdown(tmp_path: Path) -> None:
    rules = {**GOOD["rules"], "pipe": {"match": "(fc|head).weight", "init": "uniform -1 1"}}
    audit = initplug.apply(Net(), {"rules": rules})
    audit.save(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["name"] for line in lines] == NAMES
    assert [line["rule"] for line in lines][-1] == "pipe"
    assert np.array([float(line["measured_mean"]) for line in lines]) == pytest.approx(
        np.array([row["measured_mean"] for row in rows_by_name(audit).values()])
    )
    assert "nan" not in text.lower()
    assert list(csv.DictReader(io.StringIO(audit.to_csv()))) == lines
    audit.save(tmp_path / "a.md")
    markdown = (tmp_path / "a.md").read_text()
    assert markdown.strip() == audit.to_markdown().strip()
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    columns = {line.replace(r"\|", "").count("|") for line in table}
    assert len(columns) == 1
    assert sum(any(f"{name} " in line or f"{name}`" in line for name in NAMES) for line in table) == len(NAMES)


@pytest.mark.parametrize("name", ["audit.xyz", "audit"])
def test_save_refuses_an_unknown_suffix(tmp_path: Path, name: str) -> None:
    audit = initplug.apply(Net(), GOOD)
    with pytest.raises(ValueError, match=r"json"):
        audit.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_plan_and_audit_print_as_tables() -> None:
    plan = initplug.plan(Net(), GOOD)
    audit = initplug.apply(Net(), GOOD)
    for text in (str(plan), str(audit)):
        for name in NAMES:
            assert name in text
    assert "initialized" in str(audit) or "ok" in str(audit)


def test_plan_is_pure_data() -> None:
    model = Net()
    plan = initplug.plan(model, GOOD)
    row = plan.to_dict()["rows"][0]
    assert set(PLAN_KEYS) <= set(row)
    assert strict(plan.to_json())["schema"] == 1
    with pytest.raises(KeyError):
        plan["nowhere.weight"]
    assert [a.name for a in copy.deepcopy(plan)] == NAMES


@pytest.mark.parametrize("size", [3, 100])
def test_a_backward_pass_refuses_values_that_were_written_meanwhile(size: int) -> None:
    layer = nn.Linear(size, size)
    loss = (layer(torch.ones(1, size, requires_grad=True)) ** 2).sum()
    initplug.apply(layer, {"rules": {"*": "normal"}}, seed=0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
