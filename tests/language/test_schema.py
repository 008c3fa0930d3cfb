"""The JSON Schema accepts what the validator accepts and refuses what is misspelt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

import initplug
from initplug.language.loading import PRESETS, presets
from initplug.language.reading import read
from initplug.language.schema import schema

VALIDATOR = jsonschema.Draft202012Validator(schema())

GOOD: list[Any] = [
    {"defaults": ["resnext"]},
    *(read((PRESETS / f"{name}.yaml").read_text(), name).data for name in presets()),
    {"rules": {"conv*": "kaiming_normal fan_out", "bn.weight": 1, "*.bias": 0}},
    {"defaults": ["resnext", "_self_"], "rules": {"bias": None}},
    {"rules": {"a": {"match": ["a*", "b*"], "except": "c*", "init": {"fn": "normal", "std": 0.02}, "ndim": ">=2"}}},
    {"rules": {"a": {"match": "a*", "init": 0, "kind": "buffer", "ndim": [2, 4], "optional": True}}},
    {"unmatched": "keep", "unused": "ignore", "rules": {"a*": {"init": 0.5}}},
    {"rules": {"a*": {"fn": "xavier_uniform", "gain": "relu", "fans": "effective"}, "b*": "prior_bias uniform log"}},
]
GOOD += [
    {"rules": {"a*": {"split": [0, 1, "keep", {"fn": "normal", "std": 2}], "dim": 1}, "b*": "xavier_uniform split=3"}},
    {"rules": {"a*": {"fn": "orthogonal", "batch_dims": 1, "split": 2, "dim": -1, "factor": 0.5}}},
    {"rules": {"a*": {"fn": "normal", "factor": 0.5}, "b*": {"fn": "normal", "factor": {"count": "<B>", "times": 2}}}},
    {"rules": {"a*": {"fn": "normal", "factor": [2, {"place": "^h.*"}, {"attr": "..width", "power": -1}]}}},
    {"rules": {"a*": "copy source=..q.weight", "b*": {"fn": "copy", "source": "^b"}, "c*": "load path=x key=0"}},
    {"rules": {"a*": {"fn": "load", "path": "x", "prefix": "model."}, "b*": {"fn": "load", "path": "x", "key": None}}},
]
BAD: list[Any] = [
    {"rules": {"a*": {"fn": "copy"}}},
    {"rules": {"a*": {"fn": "copy", "source": "q", "factor": 2}}},
    {"rules": {"a*": {"fn": "load", "key": "x"}}},
    {"rules": {"a*": {"fn": "load", "path": "x", "key": 0}}},
    {"rules": {"a*": {"split": [0]}}},
    {"rules": {"a*": {"split": [0, 1], "mode": "fan_in"}}},
    {"rules": {"a*": {"fn": "normal", "split": 1}}},
    {"rules": {"a*": {"fn": "normal", "batch_dims": 0}}},
    {"rules": {"a*": {"fn": "normal", "factor": {"count": "a", "place": "b"}}}},
    {"rules": {"a*": {"fn": "normal", "factor": {"cuont": "a"}}}},
    {"rules": {"a*": {"fn": "keep", "factor": 2}}},
    {},
    {"rules": 3},
    {"rulse": {}, "rules": {}},
    {"unmatched": "kep", "rules": {}},
    {"rules": {"a*": "kaimng_normal"}},
    {"rules": {"a*": {"fn": "kaiming_normal", "mode": "fan_inn"}}},
    {"rules": {"a*": {"fn": "normal", "men": 0}}},
    {"rules": {"a*": {"fn": "normal", "std": -1}}},
    {"rules": {"a*": {"fn": "constant"}}},
    {"rules": {"a*": True}},
    {"rules": {"a": {"match": "a*", "init": 0, "knd": "buffer"}}},
    {"rules": {"a": {"match": 3, "init": 0}}},
    {"rules": {"a": {"match": [], "init": 0}}},
    {"rules": {"a": {"match": "a*", "init": 0, "optional": 1}}},
]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("recipe", GOOD, ids=str)
def test_what_the_validator_accepts_the_schema_accepts(recipe: Any) -> None:
    initplug.load(recipe)
    VALIDATOR.validate(recipe)


@pytest.mark.parametrize("recipe", BAD, ids=str)
def test_what_is_misspelt_both_refuse(recipe: Any) -> None:
    with pytest.raises(initplug.RecipeError):
        initplug.load(recipe)
    assert not VALIDATOR.is_valid(recipe)


def test_presets_stand_where_the_package_says() -> None:
    assert Path(initplug.__file__).parent in PRESETS.parents
