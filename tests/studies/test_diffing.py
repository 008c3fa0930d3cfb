"""What two sides do differently is what their plans say, slot by slot, and nothing else."""

from __future__ import annotations

import csv
import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ROOT, invoke
from torch import nn

import initplug
from initplug.errors import InitplugError, RecipeError
from initplug.studies.diff import compared

RULES = {"<Linear>.weight": "kaiming_normal", "<LayerNorm>.weight": 1, "*.bias": 0}


def net(width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width))


def recipe(**changed: Any) -> dict[str, Any]:
    return {"rules": RULES | changed}


@pytest.mark.parametrize("pair", [("torchvision_resnet", "resnext"), ("resnext", "wrn"), ("wrn", "torchvision_resnet")])
def test_rows_are_those_whose_distributions_differ_in_the_plans(pair: tuple[str, str]) -> None:
    with torch.device("meta"):
        model = runpy.run_path(str(ROOT / "examples/models/resnext.py"))["resnext29"]()
    plans = [initplug.plan(model, side) for side in pair]
    names = [one.name for one, other in zip(*plans, strict=True) if one.distribution != other.distribution]
    found = initplug.diff(model, *pair)
    assert [row.name for row in found] == names != []
    assert (found.a, found.b, found.slots, len(found)) == (*pair, len(plans[0]), len(names))
    for row in found:
        one, other = (plan[row.name] for plan in plans)
        assert row.rules == (one.rule, other.rule)
        assert row.what == "distribution"
        if one.std and other.std:
            assert row.ratio == other.std / one.std
        else:
            assert row.ratio is None
    assert len(initplug.diff(model, pair[0], pair[0])) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("normal std=0.02", "normal std=1/50"),
        ("xavier_uniform", {"fn": "variance_scaling", "mode": "fan_avg", "distribution": "uniform"}),
        ("kaiming_normal", "kaiming_normal fan_in leaky_relu"),
        ("kaiming_uniform a=sqrt(5)", "default"),
        ("normal std=0.02", "normal std=0.0200000001"),
    ],
)
def test_two_ways_to_say_one_distribution_are_no_difference(one: Any, other: Any) -> None:
    found = initplug.diff(net(), recipe(**{"<Linear>.weight": one}), recipe(**{"<Linear>.weight": other}))
    assert [*found] == []
    assert str(found) == "a and b give all 4 slots the same"


@pytest.mark.parametrize(
    ("other", "told", "ratio"),
    [
        ("normal std=0.7072", "normal std=0.7072: 0 ± 0.7072", 0.7072 / math.sqrt(2 / 4)),
        ("uniform -1 1", "uniform -1 1: 0 ± 0.5774", 1 / math.sqrt(3) / math.sqrt(2 / 4)),
        (1, "constant 1", None),
        ("orthogonal", "orthogonal: 0 ± 0.3536", math.sqrt(1 / 8) / math.sqrt(2 / 4)),
        ("keep", "keep", None),
        ("kaiming_normal factor=2", "kaiming_normal …: 0 ± 1.414", 2.0),
    ],
)
def test_a_row_tells_both_sides_and_the_ratio(other: Any, told: str, ratio: float | None) -> None:
    (row,) = initplug.diff(net(), recipe(), recipe(**{"<Linear>.weight": other}))
    assert (row.name, row.shape) == ("0.weight", (8, 4))
    assert row.a == "kaiming_normal: 0 ± 0.7071"
    assert row.b == told
    assert row.ratio == (None if ratio is None else pytest.approx(ratio))


def test_what_both_sides_keep_is_the_same_and_what_one_draws_is_not() -> None:
    left = {"unmatched": "keep", "rules": {"<Linear>.weight": "kaiming_normal"}}
    keeping = {"unmatched": "keep", "rules": {"<Linear>.weight": "kaiming_normal", "<LayerNorm>.weight": "keep"}}
    assert [*initplug.diff(net(), left, keeping)] == []
    rows = initplug.diff(net(), left, recipe())
    assert [(row.name, row.a, row.b) for row in rows] == [
        ("0.bias", "kept (no rule)", "constant 0"),
        ("1.weight", "kept (no rule)", "constant 1"),
        ("1.bias", "kept (no rule)", "constant 0"),
    ]


def test_a_recipe_that_cannot_be_planned_whole_is_compared_as_far_as_it_goes() -> None:
    rows = initplug.diff(net(), recipe(), {"rules": {"<Linear>.weight": "kaiming_normal", "*.bias": "orthogonal"}})
    assert [(row.name, row.b) for row in rows] == [
        ("0.bias", "orthogonal: no distribution"),
        ("1.weight", "kept (no rule)"),
        ("1.bias", "orthogonal: no distribution"),
    ]


def test_other_shapes_ties_and_slots_that_one_side_lacks() -> None:
    tied = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    tied[1].weight = tied[0].weight
    free = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 5)])
    plain = {"rules": {"<Linear>.weight": "kaiming_normal", "*.bias": 0}}
    rows = initplug.diff(None, initplug.plan(tied, plain), initplug.plan(free, plain))
    assert [(row.name, row.what, row.a, row.b) for row in rows] == [
        ("0.weight", "ties", "0.weight = 1.weight", "not tied"),
        ("1.weight", "only in b", "not there", "kaiming_normal: 0 ± 0.7071"),
        ("2.weight", "only in b", "not there", "kaiming_normal: 0 ± 0.7071"),
        ("2.bias", "only in b", "not there", "constant 0"),
    ]
    (row, *_), (gone, *_) = (
        initplug.diff(None, initplug.plan(net(), recipe()), initplug.plan(net(16), recipe())),
        initplug.diff(None, initplug.plan(free, plain), initplug.plan(tied[:1], plain)),
    )
    assert (row.what, row.a, row.b) == ("shape", "8×4", "16×4")
    assert (gone.name, gone.what, gone.b) == ("1.weight", "only in a", "not there")


def test_a_side_may_be_an_audit_or_what_was_saved(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "audit.json"
    audit = initplug.apply(model, recipe(), seed=0)
    audit.save(path)
    plan = initplug.plan(model, recipe(**{"*.bias": "normal std=0.1"}))
    plan.save(tmp_path / "plan.json")
    for one in (audit, path, str(path)):
        for other in (plan, tmp_path / "plan.json"):
            assert [row.name for row in initplug.diff(None, one, other)] == ["0.bias", "1.bias"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe()))
    assert [*initplug.diff(model, audit, tmp_path / "recipe.json")] == []


def test_sides_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InitplugError, match=r"^a recipe is compared by what it plans for a model: give the model"):
        initplug.diff(None, recipe(), recipe())
    (tmp_path / "other.json").write_text('{"steps": 3}')
    with pytest.raises(InitplugError, match="it has no rows with a name and a rule"):
        initplug.diff(net(), recipe(), tmp_path / "other.json")
    with pytest.raises(RecipeError, match="there is no preset and no file called 'resnex'"):
        initplug.diff(net(), "resnex", recipe())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("normal(mean=0, std=0.02)", "normal(mean=0, std=0.0200001)", False),
        ("normal(mean=0, std=0.02)", "normal(mean=0, std=0.02000001)", True),
        ("uniform(-1e-05, 1e-05)", "uniform(-1e-05, 1e-06)", False),
        ("uniform(-0.1, 0.1)", "normal(-0.1, 0.1)", False),
        ("trunc(low=-inf, high=2)", "trunc(low=-inf, high=2)", True),
        ("trunc(low=-inf, high=2)", "trunc(low=-2, high=2)", False),
        (None, "constant(0)", False),
        (None, None, True),
        (None, "keep", True),
    ],
)
def test_numbers_that_agree_to_six_digits_are_the_same(one: str | None, other: str | None, same: bool) -> None:
    rows = [[{"name": "w", "distribution": text}] for text in (one, other)]
    assert (len(compared("a", "b", *rows)) == 0) is same


RESNEXT = "examples/models/resnext.py:resnext29"


def test_the_command_tells_what_differs_and_ends_in_status_1_where_asked(tmp_path: Path) -> None:
    told = invoke("diff", RESNEXT, "resnext", "wrn", status=0).stdout
    assert told.endswith("32 of 95 slots differ between resnext and wrn\n")
    assert "×2.828" in told
    assert invoke("diff", RESNEXT, "resnext", "wrn", "--exit-code", status=1).stdout == told
    assert invoke("diff", RESNEXT, "resnext", "resnext", "--exit-code", status=0).stdout == (
        "a and b give all 95 slots the same\n"
    )
    path = tmp_path / "differing.csv"
    data = json.loads(invoke("diff", RESNEXT, "resnext", "wrn", "--json", "--report", str(path), status=0).stdout)
    assert len(data["rows"]) == 32
    rows = [*csv.DictReader(path.read_text().splitlines())]
    assert [row["name"] for row in rows] == [row["name"] for row in data["rows"]]
    assert float(rows[0]["ratio"]) == data["rows"][0]["ratio"] == pytest.approx(math.sqrt(64 / 3))
    refused = invoke("diff", RESNEXT, "resnext", "nothing.json", status=1)
    assert "nothing.json: cannot be read: No such file or directory" in refused.output
