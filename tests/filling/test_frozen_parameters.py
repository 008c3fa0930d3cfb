"""Parameters that require no gradient: who takes them, what is said of them, and what plans make of a change."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations
from untouched import untouched

import initplug
from initplug.errors import InitplugWarning

TABLE = torch.arange(32.0).view(8, 4)


class Net(nn.Module):
    """A frozen table of positions before a trainable layer."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(8, 4, _weight=TABLE.clone(), _freeze=True)
        self.fc = nn.Linear(4, 4)


RULES: dict[str, Any] = {"weights": {"match": "*.weight", "init": "normal std=0.02"}, "*.bias": 0}


def rows_in_short(
    recipe: Any, model: nn.Module | None = None, **options: Any
) -> dict[str, tuple[str, str | None, Any]]:
    """Status, reason and rule of every row, where nothing is warned of."""
    audit = initplug.apply(model or Net(), recipe, **options)
    return {row.name: (row.status, row.reason, row.rule) for row in audit}


def applied_and_told(recipe: Any, model: nn.Module | None = None, **options: Any) -> tuple[initplug.Audit, str]:
    """The audit, and the one warning of it."""
    with pytest.warns(InitplugWarning) as caught:
        audit = initplug.apply(model or Net(), recipe, **options)
    (warning,) = caught
    return audit, str(warning.message)


KEPT, WRITTEN = ("kept", "frozen", None), ("initialized", None, "weights")


# Who takes them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["normal", 0, "default", "sincos", {"fn": "normal", "split": 2}, "keep default"])
def test_rules_that_draw_leave_a_frozen_parameter_alone(init: Any) -> None:
    model = Net()
    audit, warning = applied_and_told(
        {"rules": {**RULES, "table": {"match": "positions", "init": init}}}, model, seed=0
    )
    assert torch.equal(model.positions.weight, TABLE)
    assert (audit["positions.weight"].status, audit["positions.weight"].reason) == ("kept", "frozen")
    assert (audit["positions.weight"].rule, audit["positions.weight"].distribution) == (None, None)
    assert audit.unmatched == audit.unused == ()
    assert "positions.weight  rule 'table'" in warning


@pytest.mark.parametrize(
    ("settings", "rule", "expected"),
    [
        ({"frozen": "write"}, {}, WRITTEN),
        ({"frozen": "write"}, {"trainable": True}, KEPT),
        ({"frozen": "write"}, {"trainable": False}, WRITTEN),
        ({}, {"trainable": "any"}, WRITTEN),
        ({}, {"trainable": False}, WRITTEN),
        ({}, {"trainable": True}, KEPT),
    ],
)
def test_a_rule_and_its_recipe_say_who_takes_them(settings: Any, rule: Any, expected: Any) -> None:
    rules = {"rest": {"match": "*", "init": 1, "trainable": True}, "weights": {**RULES["weights"], **rule}}
    model = Net()
    found = rows_in_short({**settings, "rules": rules}, model)
    assert found["positions.weight"] == expected
    assert torch.equal(model.positions.weight, TABLE) == (expected == KEPT)
    taken = "rest" if rule.get("trainable") is False else "weights"
    assert found["fc.weight"] == ("initialized", None, taken)


def test_a_rule_for_frozen_ones_takes_no_other() -> None:
    with pytest.raises(initplug.PlanError, match=r"2 of 3 parameters match no rule"):
        initplug.plan(Net(), {"rules": {"*": {"init": 0, "trainable": False}}})


def test_copy_load_and_keep_take_them_as_they_say_where_values_come_from(tmp_path: Any) -> None:
    save_file({"positions.weight": torch.ones(8, 4)}, tmp_path / "table.safetensors")
    load = {"fn": "load", "path": str(tmp_path / "table.safetensors")}
    model = Net()
    assert rows_in_short({"rules": {**RULES, "positions": {"match": "positions", "init": load}}}, model)[
        "positions.weight"
    ] == ("initialized", None, "positions")
    assert (model.positions.weight == 1).all()
    kept = rows_in_short({"rules": {**RULES, "positions": {"match": "positions", "init": "keep"}}})
    assert kept["positions.weight"] == ("kept", "keep", "positions")

    pair = nn.ModuleDict({"q": nn.Linear(4, 4), "k": nn.Linear(4, 4).requires_grad_(False)})
    copied = {"*.weight": "normal", "*.bias": 0, "key": {"match": "k", "init": {"fn": "copy", "source": "..q"}}}
    initplug.apply(pair, {"rules": copied}, seed=0)
    assert torch.equal(pair["q"].weight, pair["k"].weight)  # type: ignore[arg-type]  # torch types attributes as modules


def test_what_is_copied_from_a_frozen_parameter_is_what_it_keeps() -> None:
    model = Net()
    model.again = nn.Embedding(8, 4)
    again = {"match": "again", "init": {"fn": "copy", "source": "..positions.weight"}}
    applied_and_told({"rules": {**RULES, "again": again}}, model, seed=0)
    assert torch.equal(model.again.weight, TABLE)


def test_an_earlier_rule_that_takes_them_wins_over_a_later_one_that_leaves_them() -> None:
    rules = {"table": {"match": "positions", "init": "sincos", "trainable": "any"}, **RULES}
    audit, warning = applied_and_told({"rules": rules})
    assert (audit["positions.weight"].rule, audit["positions.weight"].status) == ("table", "initialized")
    assert "positions.weight  rule 'weights'" in warning
    rows_in_short({"rules": {**RULES, "table": rules["table"]}})  # in this order there is nothing to say


def test_a_parametrized_tensor_is_frozen_if_all_that_it_is_computed_from_is() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    first: Any = model[0].parametrizations
    first.weight.original0.requires_grad_(False)
    assert rows_in_short({"rules": RULES}, model)["0.weight"] == WRITTEN
    first.weight.original1.requires_grad_(False)
    before = model[0].weight.clone()  # type: ignore[operator]  # torch types attributes as tensors or modules
    audit, _ = applied_and_told({"rules": RULES}, model)
    assert (audit["0.weight"].status, audit["0.weight"].reason) == ("kept", "frozen")
    assert torch.equal(model[0].weight, before)  # type: ignore[arg-type]  # likewise


def test_a_tied_parameter_is_frozen_once() -> None:
    model = nn.ModuleDict({"a": nn.Embedding(8, 4), "b": nn.Linear(4, 8, bias=False), "c": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    model["a"].requires_grad_(False)
    audit, warning = applied_and_told({"rules": RULES}, model)
    assert (audit["b.weight"].name, audit["b.weight"].reason) == ("a.weight", "frozen")
    assert warning.count("rule 'weights'") == 1


def test_buffers_are_no_frozen_parameters() -> None:
    rules = {"*": 1, "stats": {"match": "running_*", "kind": "buffer", "init": 0}}
    assert rows_in_short({"rules": rules}, nn.BatchNorm1d(3))["running_var"] == ("initialized", None, "stats")


def test_the_base_of_an_adapted_model_is_left_alone() -> None:
    """As PEFT wraps a layer: the base is frozen, two small matrices beside it are trained."""

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Linear(8, 8).requires_grad_(False)
            self.lora_A = nn.ModuleDict({"default": nn.Linear(8, 2, bias=False)})
            self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 8, bias=False)})

    model = nn.Sequential(Adapted(), Adapted())
    base = {name: value.clone() for name, value in model.named_parameters() if "base_layer" in name}
    audit, _ = applied_and_told({"defaults": ["transformers_base", "lora"], "unused": "ignore"}, model, seed=0)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in base.items())
    assert {row.name for row in audit if row.status == "kept"} == {*base}
    assert {row.status for row in audit if "lora" in row.name} == {"initialized"}


def test_what_else_is_drawn_under_a_seed_does_not_depend_on_what_is_frozen() -> None:
    frozen, free = Net(), Net()
    free.positions.requires_grad_(True)
    applied_and_told({"rules": RULES}, frozen, seed=3)
    initplug.apply(free, {"rules": RULES}, seed=3)
    assert torch.equal(frozen.fc.weight, free.fc.weight)
    written = Net()
    initplug.apply(written, {"frozen": "write", "rules": RULES}, seed=3)
    assert torch.equal(written.positions.weight, free.positions.weight)


# What is said -------------------------------------------------------------------------------------------------


def test_one_warning_names_ten_of_them_and_counts_the_rest() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False).requires_grad_(False) for _ in range(12)), nn.Linear(2, 2))
    _, warning = applied_and_told({"name": "mine", "rules": RULES}, model)
    assert warning.splitlines() == [
        "rules of mine leave 12 frozen parameters alone (requires_grad=False)",
        *(f"  {index}.weight  rule 'weights'" for index in range(10)),
        "… and 2 more",
        "To draw them, set `frozen: write`, or `trainable: any` in a rule. "
        "`trainable: true` in a rule says so, without this warning.",
    ]


def test_plan_apply_and_audit_say_it_once_each() -> None:
    model = Net()
    for call in (initplug.plan, initplug.apply, initplug.audit):
        with pytest.warns(InitplugWarning, match="leave 1 frozen parameter alone") as caught:
            call(model, {"rules": RULES})
        assert len(caught) == 1
    with pytest.warns(InitplugWarning):
        plan = initplug.plan(model, {"rules": RULES})
    applied_and_told(plan, model)


def test_rules_that_match_nothing_else_are_in_use() -> None:
    rules = {
        **RULES,
        "table": {"match": "positions", "init": 0},
        "told": {"match": "posi*", "init": 0, "trainable": True},
    }
    audit, warning = applied_and_told({"unused": "error", "rules": rules})
    assert audit.unused == ()
    assert "rule 'table'" in warning


def test_where_nothing_is_left_to_write_it_is_an_error_that_offers_to_write() -> None:
    model = Net().requires_grad_(False)
    with untouched(model), pytest.raises(initplug.PlanError) as caught:
        initplug.apply(model, {"name": "mine", "rules": RULES})
    assert str(caught.value).splitlines() == [
        "rules of mine leave 3 frozen parameters alone (requires_grad=False), and nothing else is there to write",
        "  positions.weight  rule 'weights'",
        "  fc.weight         rule 'weights'",
        "  fc.bias           rule '*.bias'",
        "To draw them, set `frozen: write`, or `trainable: any` in a rule.",
    ]
    assert [finding.path for finding in caught.value.findings] == ["positions.weight", "fc.weight", "fc.bias"]
    assert [row.reason for row in caught.value.plan] == ["frozen"] * 3
    initplug.apply(model, {"frozen": "write", "rules": RULES})
    assert (model.fc.bias == 0).all()


def test_what_keeps_values_that_are_there_is_something_to_write_where_there_are_none() -> None:
    recipe = {"rules": {"<Linear>": "keep default", "<Embedding>": "normal"}}
    audit, warning = applied_and_told({"name": "mine", **recipe})
    assert {row.status for row in audit} == {"kept"}
    assert "positions.weight" in warning


def test_a_frozen_stage_of_a_model_is_only_warned_of() -> None:
    audit, _ = applied_and_told({"rules": RULES}, nn.Linear(2, 2).requires_grad_(False), prefix="stage")
    assert {row.status for row in audit} == {"kept"}


def test_tables_mark_them() -> None:
    audit, _ = applied_and_told({"rules": RULES})
    for text in (audit.to_text(width=200), audit.plan.to_text(width=200)):
        (line,) = [line for line in text.splitlines() if "positions.weight" in line]
        assert "frozen" in line
    assert "1 frozen" in audit.headline()
    assert "kept, frozen" in audit.to_text(width=80)
    assert "<td>frozen</td>" in audit._repr_html_()


# On meta ------------------------------------------------------------------------------------------------------


def test_on_meta_it_is_planned_with_a_warning_and_refused_by_name() -> None:
    with initplug.deferred():
        model = Net()
    with pytest.warns(
        InitplugWarning, match=r"On meta they have no values to keep: `apply` refuses what has none by then"
    ):
        assert initplug.plan(model, {"rules": RULES})["positions.weight"].reason == "frozen"
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {"rules": RULES}, seed=0)
    assert str(caught.value).splitlines() == [
        "1 of 3 slots cannot be written",
        "  positions.weight: it is frozen, and there is nothing to keep: it is on meta (`frozen: write`, or a rule "
        "with `trainable: any`, gives it values)",
    ]
    audit = initplug.apply(model, {"rules": RULES}, seed=0, only="fc")
    assert (audit["positions.weight"].status, audit["positions.weight"].reason) == ("kept", "not in only")
    assert model.positions.weight.is_meta and not model.fc.weight.is_meta


# Plans made before ------------------------------------------------------------------------------------------------


def test_what_is_frozen_after_it_was_planned_is_kept_and_said() -> None:
    plan = initplug.plan(Net().requires_grad_(True), {"rules": RULES})
    model = Net()
    audit, warning = applied_and_told(plan, model)
    assert torch.equal(model.positions.weight, TABLE)
    row = audit["positions.weight"]
    assert (row.status, row.reason, row.rule, row.distribution) == ("kept", "frozen", None, None)
    assert "positions.weight  rule 'weights'" in warning
    written = initplug.plan(Net().requires_grad_(True), {"frozen": "write", "rules": RULES})
    assert rows_in_short(written, model)["positions.weight"] == WRITTEN


def test_what_was_frozen_when_it_was_planned_and_is_not_any_more_is_refused() -> None:
    with pytest.warns(InitplugWarning):
        plan = initplug.plan(Net(), {"rules": RULES})
    model = Net().requires_grad_(True)
    with untouched(model), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, plan)
    assert str(caught.value) == (
        "the plan is of another model\n"
        "  positions.weight: it was frozen when it was planned, and is not any more (plan the model as it is now)"
    )
    assert rows_in_short(plan, model, only="fc")["fc.weight"] == WRITTEN


@pytest.mark.parametrize(
    ("rule", "frozen_then", "reason"),
    [
        (
            {"match": "positions", "init": 1, "trainable": False},
            True,
            "it is not frozen any more, and rule 'table' is for what is: plan the model as it is now",
        ),
        (
            {"match": "positions", "init": 1, "trainable": False},
            False,
            "it is frozen now, and rule 'table' may take it: plan the model as it is now",
        ),
    ],
)
def test_plans_that_another_rule_would_change_are_refused(rule: Any, frozen_then: bool, reason: str) -> None:
    then, now = Net(), Net()
    (now if frozen_then else then).requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InitplugWarning)  # the rule for frozen ones has none to take
        plan = initplug.plan(then, {"rules": {**RULES, "table": rule}})
    with untouched(now), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(now, plan)
    assert str(caught.value).splitlines()[1:] == [f"  positions.weight: {reason}"]


def test_a_shadowed_rule_that_would_take_what_is_frozen_now_is_no_guess() -> None:
    rules = {"table": {"match": "positions", "init": "sincos", "trainable": "any", "optional": True}, **RULES}
    plan = initplug.plan(Net().requires_grad_(True), {"rules": rules})
    with pytest.raises(initplug.ApplyError, match="it is frozen now, and rule 'table' may take it"):
        initplug.apply(Net(), plan)
