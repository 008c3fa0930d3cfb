"""Python's values, wherever a user may give one: they become plain, and behave as what they stand for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import MISSING, OmegaConf
from torch import nn

import initplug
from initplug.values import plain


class Mode(str, Enum):
    OUT = "fan_out"


class Gain(Enum):
    RELU = "relu"
    NUMBER = 2


class Groups(IntEnum):
    TWO = 2


class Real(float):
    """A subclass that prints otherwise."""

    def __repr__(self) -> str:
        return "real"


def given(value: Any) -> Any:
    """Return a value that annotations do not foresee."""
    return value


STANDS_FOR: list[tuple[Any, Any]] = [
    (np.int64(3), 3),
    (np.uint8(3), 3),
    (np.float32(0.1), float(np.float32(0.1))),
    (np.float64(0.1), 0.1),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("fan_out"), "fan_out"),
    (np.array(3), 3),
    (np.array(0.5), 0.5),
    (np.array("relu"), "relu"),
    (torch.tensor(3), 3),
    (torch.tensor(0.5), 0.5),
    (torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True), 0.5),
    (torch.tensor(True), True),
    (Mode.OUT, "fan_out"),
    (Gain.RELU, "relu"),
    (Groups.TWO, 2),
    (Real(0.5), 0.5),
]


@pytest.mark.parametrize(("value", "expected"), STANDS_FOR, ids=[repr(value) for value, _ in STANDS_FOR])
def test_a_value_becomes_what_it_stands_for(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [Gain.NUMBER, np.array([1]), torch.tensor([1.0]), torch.empty((), device="meta"), 1j, np.complex64(1), b"x", [1]],
    ids=str,
)
def test_what_stands_for_nothing_plain_stays_and_is_no_recipe(value: Any) -> None:
    assert plain(value) is value
    with pytest.raises(initplug.RecipeError):
        initplug.load({"rules": {"*": {"fn": "normal", "std": value}}})


def test_a_recipe_of_such_values_is_that_of_plain_ones() -> None:
    given = {
        "unmatched": np.str_("keep"),
        "rules": {
            np.str_("a"): {
                "match": np.str_("*.weight"),
                "ndim": np.array(2),
                "optional": np.bool_(True),
                "init": {
                    "fn": np.str_("kaiming_normal"),
                    "mode": Mode.OUT,
                    "nonlinearity": Gain.RELU,
                    "factor": np.float32(0.5),
                    "split": np.int64(2),
                    "dim": torch.tensor(0),
                },
            },
            "b": {"match": ["*.bias"], "init": np.array(0)},
        },
    }
    init = {"fn": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu", "factor": 0.5, "split": 2, "dim": 0}
    expected = {
        "unmatched": "keep",
        "rules": {
            "a": {"match": "*.weight", "ndim": 2, "optional": True, "init": init},
            "b": {"match": "*.bias", "init": 0},
        },
    }
    one, other = initplug.load(given), initplug.load(expected)
    assert (one.digest, one.to_yaml()) == (other.digest, other.to_yaml())
    assert json.dumps(one.plain()) == json.dumps(other.plain())


@pytest.mark.parametrize("suffix", [".html", ".json", ".csv", ".md"])
def test_every_report_of_such_a_recipe_is_written(suffix: str, tmp_path: Path) -> None:
    recipe = {"rules": {"*.weight": {"fn": "normal", "std": np.sqrt(2 / 512)}, "*.bias": np.int64(0)}}
    audit = initplug.apply(nn.Linear(64, 64), recipe, seed=given(np.uint64(2**64 - 1)))
    assert audit.seed == 2**64 - 1
    assert type(audit.seed) is int
    audit.save(tmp_path / f"audit{suffix}")
    assert "np." not in (tmp_path / f"audit{suffix}").read_text()


class Net(nn.Module):
    def __init__(self, width: Any) -> None:
        super().__init__()
        self.width, self.fc = width, nn.Linear(4, 4, bias=False)


@pytest.mark.parametrize("width", [16, np.int64(16), np.float32(16), np.array(16), torch.tensor(16), Real(16)], ids=str)
def test_a_factor_reads_an_attribute_of_any_kind_of_number(width: Any) -> None:
    recipe = {"rules": {"*": {"fn": "normal", "factor": {"attr": "^width"}}}}
    assert initplug.plan(Net(width), recipe)["fc.weight"].std == 0.25


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (10**400, "'^width' is a number beyond 64 bits"),
        ("16", "'^width' is a str, not a number"),
        (torch.empty((), device="meta"), "'^width' is a Tensor, not a number"),
        (True, "'^width' is a bool, not a number"),
    ],
    ids=["large", "text", "meta", "bool"],
)
def test_an_attribute_that_is_no_number_is_told(width: Any, reason: str) -> None:
    recipe = {"rules": {"*": {"fn": "normal", "factor": {"attr": "^width"}}}}
    with pytest.raises(initplug.PlanError) as error:
        initplug.plan(Net(width), recipe)
    assert reason in str(error.value)


def test_settings_of_apply_and_tables_may_be_such_values() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    plan = initplug.plan(model, "torch_default", prefix=np.str_("stage"))
    assert plan.names[0] == "stage.0.weight"
    expected = initplug.apply(model, "torch_default", seed=3, threads=1)["0.weight"].measured_mean
    audit = initplug.apply(
        model, "torch_default", seed=given(np.int64(3)), threads=given(np.int32(1)), only=np.array(["0.weight"])
    )
    assert audit["0.weight"].measured_mean == expected
    assert audit.to_text(width=given(np.int64(80))) == audit.to_text(width=80)


@pytest.mark.parametrize("seed", [-1, 2**64, True, 0.5, "0", np.array([1]), 10**5000], ids=range(7))
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(initplug.ApplyError, match="a seed is a whole number from 0 to 2\\^64 - 1"):
        initplug.apply(nn.Linear(2, 2), "torch_default", seed=seed)


@pytest.mark.parametrize("width", [0.5, -3, "80", 10**5000], ids=range(4))
def test_what_is_no_width_is_refused(width: Any) -> None:
    plan = initplug.plan(nn.Linear(2, 2), "torch_default")
    with pytest.raises(initplug.InitplugError, match="a width is a whole number of at least 1"):
        plan.to_text(width=width)


# Dataclasses and structured configs: fields that are None are not given.


@dataclass
class Rule:
    match: Any = MISSING
    init: Any = 0
    ndim: Any = None
    kind: str | None = None
    optional: bool | None = None


@dataclass
class Config:
    name: str | None = None
    unmatched: str | None = None
    unused: str | None = None
    rules: dict[str, Any] = field(default_factory=lambda: {"a": Rule(match="*"), "off": None})


@pytest.mark.parametrize("source", [Config(), OmegaConf.structured(Config), OmegaConf.structured(Config())], ids=type)
def test_fields_that_are_none_are_not_given(source: Any) -> None:
    recipe = initplug.load(source)
    assert recipe == initplug.load({"rules": {"a": {"match": "*", "init": 0}, "off": None}})
    assert initplug.plan(nn.Linear(2, 2), recipe)["weight"].rule == "a"


def test_a_field_that_is_missing_is_told_as_such() -> None:
    with pytest.raises(initplug.RecipeError, match=r"rules\.a\.match"):
        initplug.load(OmegaConf.structured(Config(rules={"a": Rule()})))
    with pytest.raises(initplug.RecipeError, match="still missing"):
        initplug.load(Config(rules={"a": Rule()}))


def test_a_rule_that_is_named_by_its_selector_may_have_an_empty_match() -> None:
    recipe = initplug.load({"rules": {"*.bias": {"match": None, "except": None, "init": 0}}})
    assert recipe == initplug.load({"rules": {"*.bias": 0}})


def test_null_is_no_initializer_and_no_set_of_rules() -> None:
    with pytest.raises(initplug.RecipeError, match="null is no initializer"):
        initplug.load({"rules": {"a": {"match": "*", "init": None}}})
    with pytest.raises(initplug.RecipeError, match="expected a mapping of rules, got null"):
        initplug.load({"rules": None})
