"""The JSON Schema accepts what the validator accepts and refuses what is misspelt."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import initplug
from initplug.language.preset_list import PRESETS, presets
from initplug.language.schema import schema
from initplug.language.yaml import read, written
from initplug.schemes.fans import FanRule
from initplug.schemes.initializers import REGISTRY
from initplug.schemes.registry import Reference, kinds_of, union_parts

VALIDATOR = jsonschema.Draft202012Validator(schema())

GOOD: list[Any] = [
    {"defaults": ["resnext"]},
    *(read((PRESETS / f"{name}.yaml").read_text(), name).data for name in presets()),
    {"rules": {"conv*": "kaiming_normal fan_out", "bn.weight": 1, "*.bias": 0}},
    {"defaults": ["resnext", "_self_"], "rules": {"bias": None}},
    {"rules": {"a": {"match": ["a*", "b*"], "except": "c*", "init": {"fn": "normal", "std": 0.02}, "ndim": ">=2"}}},
    {"rules": {"a": {"match": "a*", "init": 0, "kind": "buffer", "ndim": [2, 4], "optional": True}}},
    {"unmatched": "keep", "unused": "ignore", "frozen": "write", "rules": {"a*": {"init": 0.5}}},
    {"rules": {"a": {"match": "a*", "init": 0, "trainable": "any"}}},
    {"rules": {"a*": {"init": 0, "trainable": True}, "b*": {"init": 0, "trainable": False}}},
    {"rules": {"a": {"match": "a*", "exclude": ["b*", "c"], "init": 0, "expect": {"per": "<B>", "times": 2}}}},
    {"rules": {"a": {"match": "a*", "except": "b*", "exclude": None, "init": 0, "expect": None}}},
    {"rules": {"a*": {"fn": "xavier_uniform", "gain": "relu", "fans": "effective"}, "b*": "prior_bias uniform log"}},
]
GOOD += [
    {"rules": {"a*": {"split": [0, 1, "keep", {"fn": "normal", "std": 2}], "dim": 1}, "b*": "xavier_uniform split=3"}},
    {"rules": {"a*": {"fn": "orthogonal", "batch_dims": 1, "split": 2, "dim": -1, "factor": 0.5}}},
    {
        "rules": {
            "a*": {"split": [0, 1], "sizes": [3, 1]},
            "b*": {"fn": "normal", "split": 3, "sizes": [4, 1, 1], "dim": 1},
        }
    },
    {"rules": {"a*": {"fn": "kaiming_normal", "fans": {"in": 0, "out": [1, -1]}}}},
    {"rules": {"a*": {"fn": "normal", "factor": 0.5}, "b*": {"fn": "normal", "factor": {"count": "<B>", "times": 2}}}},
    {"rules": {"a*": {"fn": "normal", "factor": [2, {"place": "^h.*"}, {"attr": "..width", "power": -1}]}}},
    {"rules": {"a*": "copy source=..q.weight", "b*": {"fn": "copy", "source": "^b"}, "c*": "load path=x key=0"}},
    {"rules": {"a*": {"fn": "load", "path": "x", "prefix": "model."}, "b*": {"fn": "load", "path": "x", "key": None}}},
]
GOOD += [
    {"rules": {"a": {"match": "a*", "init": 0, "except": None, "kind": None, "ndim": None, "optional": None}}},
    {"unmatched": None, "unused": None, "name": None, "rules": {"a*": {"match": None, "init": 0}}},
    {
        "rules": {
            "a*": "1/32",
            "b*": {"fn": "normal", "std": "1/sqrt(768)"},
            "c*": {"fn": "orthogonal", "gain": "sqrt(2)"},
        }
    },
    {"rules": {"a*": {"fn": "normal", "factor": ["1/2", {"count": "b", "times": "sqrt(2)", "power": "-1/2"}]}}},
]
BAD: list[Any] = [
    {"rules": {"a*": {"fn": "normal", "std": "1e-4"}}},
    {"rules": {"a*": {"fn": "normal", "std": "sqrt(sqrt(2))"}}},
    {"rules": {"a*": {"fn": "dirac", "groups": "4/2"}}},
    {"rules": {"a*": {"fn": "copy"}}},
    {"rules": {"a*": {"fn": "copy", "source": "q", "factor": 2}}},
    {"rules": {"a*": {"fn": "load", "key": "x"}}},
    {"rules": {"a*": {"fn": "load", "path": "x", "key": 0}}},
    {"rules": {"a*": {"split": [0]}}},
    {"rules": {"a*": {"split": [0, 1], "mode": "fan_in"}}},
    {"rules": {"a*": {"fn": "normal", "split": 1}}},
    {"rules": {"a*": {"fn": "normal", "split": 2, "sizes": [1, 0]}}},
    {"rules": {"a*": {"split": [0, 1], "sizes": 3}}},
    {"rules": {"a*": {"fn": "normal", "fans": {"in": 0}}}},
    {"rules": {"a*": {"fn": "normal", "fans": {"in": 0, "out": "1"}}}},
    {"rules": {"a*": {"fn": "normal", "fans": {"in": 0, "out": 1, "at": 2}}}},
    {"rules": {"a*": {"fn": "orthogonal", "fans": {"in": 0, "out": 1}}}},
    {"rules": {"a*": {"fn": "normal", "batch_dims": 0}}},
    {"rules": {"a*": {"fn": "normal", "factor": {"count": "a", "place": "b"}}}},
    {"rules": {"a*": {"fn": "normal", "factor": {"cuont": "a"}}}},
    {"rules": {"a*": {"fn": "keep", "factor": 2}}},
    {},
    {"rules": 3},
    {"rulse": {}, "rules": {}},
    {"unmatched": "kep", "rules": {}},
    {"frozen": "kept", "rules": {}},
    {"rules": {"a*": {"init": 0, "trainable": "some"}}},
    {"rules": {"a*": {"init": 0, "trainable": 1}}},
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
    {"rules": {"a": {"match": "a*", "init": 0, "except": "b", "exclude": "c"}}},
    {"rules": {"a": {"match": "a*", "init": 0, "expect": {"per": "b"}}}},
    {"rules": {"a": {"match": "a*", "init": 0, "expect": {"per": "b", "times": -1}}}},
    {"rules": {"a": {"match": "a*", "init": 0, "expect": {"per": "b", "times": 1.5}}}},
    {"rules": {"a": {"match": "a*", "init": 0, "expect": {"per": ["b"], "times": 1}}}},
    {"rules": {"a": {"match": "a*", "init": 0, "expect": 2}}},
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


# What Hydra resolves.


@pytest.mark.parametrize(
    "recipe",
    [
        {"rules": {"a": {"match": "a*", "init": "${init_of_a}"}, "b": {"match": "b", "init": "???"}}},
        {"rules": {"a*": {"fn": "normal", "std": "${model.std}"}, "b*": {"fn": "${fn}", "std": 1}}},
        {"rules": {"a*": "normal std=${model.std}", "b": {"match": "${head}", "init": 0, "optional": "${flag}"}}},
        {
            "unmatched": "${oc.env:UNMATCHED,keep}",
            "rules": {"a*": {"fn": "normal", "factor": {"count": "b", "times": "${n}"}}},
        },
        {"rules": {"a*": {"fn": "kaiming_normal", "mode": "${mode}", "split": "${parts}", "factor": "${depth}"}}},
    ],
    ids=str,
)
def test_interpolations_and_missing_values_are_the_validator_s_alone(recipe: Any) -> None:
    VALIDATOR.validate(recipe)
    with pytest.raises(initplug.RecipeError):
        initplug.load(recipe)


PARTS: list[Any] = [
    {"conv": {"init": {"mode": "fan_in"}}},
    {"conv": {"init": {"fn": "constant"}}},
    {"conv": {"match": "conv.weight"}, "bn": {"optional": True}},
    {"conv": {"init": {"factor": {"times": 3}}}},
    {"short*": {"std": 0.5}},
    {"bn": {"exclude": "fc", "expect": {"times": 3}}},
    {"conv": None, "bn": {"init": 2}, "new": {"match": "x", "init": "zeros"}},
]
BASE = """\
rules:
  conv: {match: conv, init: {fn: kaiming_normal, mode: fan_out, factor: {count: conv, times: 2}}}
  bn: {match: bn, init: 1, except: head, expect: {per: x, times: 1}}
  short*: {fn: normal, std: 1}
"""


@pytest.mark.parametrize("rules", PARTS, ids=str)
def test_what_is_merged_with_others_may_say_a_part(rules: Any, tmp_path: Path) -> None:
    base = BASE
    if rules.get("conv") == {"init": {"fn": "constant"}}:  # of an initializer whose value stands in the other file
        base = base.replace(
            "{fn: kaiming_normal, mode: fan_out, factor: {count: conv, times: 2}}", "{fn: zeros, value: 1}"
        )
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "top.yaml").write_text(written({"defaults": ["base"], "rules": rules}))
    initplug.load(tmp_path / "top.yaml")
    VALIDATOR.validate({"defaults": ["base"], "rules": rules})


@pytest.mark.parametrize(
    "rules",
    [
        {"conv": {"init": {"moed": "fan_in"}}},
        {"conv": {"init": {"mode": "fan_inn"}}},
        {"conv": {"init": {"fn": "constnt"}}},
        {"conv": {"math": "conv.weight"}},
        {"conv": {"init": {"factor": {"tims": 3}}}},
        {"conv": [0]},
    ],
    ids=str,
)
def test_a_part_is_no_licence_to_misspell(rules: Any) -> None:
    assert not VALIDATOR.is_valid({"defaults": ["resnext"], "rules": rules})


# Generated recipes.


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that an argument of this annotation may take."""
    strategies: list[st.SearchStrategy[Any]] = []
    for part in union_parts(annotation):
        if part is Reference:
            strategies.append(st.sampled_from(["weight", "..q.weight", "^shared.weight"]))
        elif get_origin(part) is Literal:
            strategies.append(st.sampled_from(get_args(part)))
        elif part is str:
            strategies.append(st.sampled_from(["some text", "x"]))
        elif int in kinds_of(part) and float not in kinds_of(part):
            strategies.append(st.integers(1, 4))
        else:
            strategies.append(st.sampled_from([0.25, 0.5, 1, 1e-3]))
    return st.one_of(strategies)


SELECTORS = st.sampled_from(["*", "conv*", "<Linear>.weight", "(a|b).bias", "layer1.**.bn[12]", "^fc", "blocks.-1"])
FACTORS = st.one_of(
    st.sampled_from([0.5, 2]),
    st.fixed_dictionaries({"count": SELECTORS}, optional={"times": st.just(2), "power": st.just(-1)}),
    st.fixed_dictionaries({"attr": st.just("..width")}, optional={"times": st.just(0.5)}),
)


@st.composite
def mappings(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(REGISTRY)))
    initializer = REGISTRY[name]
    arguments = {"fn": name}
    for argument, parameter in initializer.parameters.items():
        if parameter.required or draw(st.booleans()):
            arguments[argument] = draw(values_of(parameter.annotation))
    if initializer.modified and draw(st.booleans()):
        further = {"fans": st.sampled_from(get_args(FanRule)), "batch_dims": st.integers(1, 2), "factor": FACTORS}
        further |= {"split": st.integers(2, 4)}
        chosen = draw(st.sampled_from(sorted(further)))
        arguments[chosen] = draw(further[chosen])
    return arguments


@st.composite
def texts(draw: st.DrawFn) -> str:
    arguments = draw(mappings())
    words = [f"{name}={value}" for name, value in arguments.items() if name not in ("fn", "factor")]
    return " ".join([arguments["fn"], *words])


def initializers() -> st.SearchStrategy[Any]:
    one = st.one_of(st.integers(-2, 2), st.sampled_from([0.5, 1e-3]), texts(), mappings())
    parts = st.fixed_dictionaries(
        {"split": st.lists(one, min_size=2, max_size=3)}, optional={"dim": st.integers(-1, 1)}
    )
    return st.one_of(one, parts)


NDIMS = st.one_of(st.integers(0, 4), st.sampled_from([">=2", "< 3", [2, 4], None]))
RULES = st.fixed_dictionaries(
    {"match": st.one_of(SELECTORS, st.lists(SELECTORS, min_size=1, max_size=2)), "init": initializers()},
    optional={
        "except": SELECTORS,
        "expect": st.fixed_dictionaries({"per": st.just("<B>"), "times": st.integers(0, 3)}),
        "kind": st.sampled_from(["parameter", "buffer"]),
        "trainable": st.sampled_from([True, False, "any", None]),
        "ndim": NDIMS,
        "optional": st.booleans(),
    },
)
RECIPES = st.fixed_dictionaries(
    {
        "rules": st.one_of(
            st.dictionaries(st.sampled_from(["conv", "bn", "head"]), st.one_of(RULES, st.none()), min_size=1),
            st.dictionaries(SELECTORS, initializers(), min_size=1),
        )
    },
    optional={
        "unmatched": st.sampled_from(["error", "keep"]),
        "unused": st.sampled_from(["warn", "error", "ignore"]),
        "frozen": st.sampled_from(["keep", "write"]),
        "about": st.one_of(st.none(), st.just("what it is"), st.just(["one", "two"])),
    },
)


def accepted(recipe: Any) -> bool:
    try:
        initplug.load(recipe)
    except initplug.RecipeError:
        return False
    return True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(RECIPES)
def test_what_the_validator_accepts_of_generated_recipes_the_schema_accepts(recipe: Any) -> None:
    assume(accepted(recipe))  # arguments may contradict each other
    VALIDATOR.validate(recipe)
    VALIDATOR.validate({"defaults": ["resnext"], **recipe})


def mutated(recipe: dict[str, Any], draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The recipe with one thing that no recipe has."""
    changed = copy.deepcopy(recipe)
    name = draw(st.sampled_from(sorted(changed["rules"])))
    rule = changed["rules"][name]
    is_rule = isinstance(rule, dict) and "match" in rule
    kinds = ["unknown setting", "wrong setting", "rules as a list", "boolean initializer", "unknown initializer"]
    if is_rule:
        kinds += ["unknown key", "wrong kind", "number as selector", "no initializer", "text as optional", "trainable"]
    kind = draw(st.sampled_from(kinds))
    holder, key = (rule, "init") if is_rule else (changed["rules"], name)
    if kind == "unknown setting":
        changed["unmached"] = "keep"
    elif kind == "wrong setting":
        changed["unmatched"] = draw(st.sampled_from(["kep", True, 3, ["keep"], {}]))
    elif kind == "rules as a list":
        changed["rules"] = [rule]
    elif kind == "boolean initializer":
        holder[key] = draw(st.booleans())
    elif kind == "unknown initializer":
        unknown = ["kaimng_normal", "normal_", {"fn": "kaimng_normal"}, {"fn": 3}, {"fn": "normal", "stdd": 1}, [0], {}]
        unknown += [{"fn": "normal", "std": "wide"}, {"fn": "uniform"}, {"split": [0]}, {"fn": "normal", "split": 1.5}]
        holder[key] = draw(st.sampled_from(unknown))
    elif kind == "unknown key":
        rule[draw(st.sampled_from(["mach", "_target_", "Init"]))] = "x"
    elif kind == "wrong kind":
        rule["kind"] = draw(st.sampled_from(["bufer", True, 1]))
    elif kind == "trainable":
        rule["trainable"] = draw(st.sampled_from(["true", "some", 1, [True], {}]))
    elif kind == "number as selector":
        rule["match"] = draw(st.sampled_from([3, True, [], [3], {}]))
    elif kind == "no initializer":
        del rule["init"]
    else:
        rule["optional"] = draw(st.sampled_from(["yes", 1, []]))
    return changed


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(RECIPES, st.data())
def test_structural_mutations_are_refused_by_both(recipe: Any, data: st.DataObject) -> None:
    assume(accepted(recipe))
    changed = mutated(recipe, data.draw)
    assert not accepted(changed), changed
    assert not VALIDATOR.is_valid(changed), changed


# Editors.


@pytest.mark.skipif(
    tuple(int(part) for part in pydantic.VERSION.split(".")[:2]) < (2, 10),
    reason="pydantic before 2.10 says the same schema in more words",
)
def test_the_schema_that_editors_find_beside_the_presets_is_that_of_the_code() -> None:
    file = PRESETS.parent / "initplug.schema.json"
    assert json.loads(file.read_text()) == schema(), "initplug schema > initplug/presets/initplug.schema.json"


ROOT = Path(__file__).parents[2]
RECIPE_FILES = sorted([*PRESETS.glob("*.yaml"), *(ROOT / "configs" / "init").glob("*.yaml")])


@pytest.mark.parametrize("file", RECIPE_FILES, ids=lambda file: file.stem)
def test_every_preset_and_config_tells_editors_its_schema(file: Path) -> None:
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", file.read_text().splitlines()[0])
    assert found is not None
    assert (file.parent / found[1]).resolve() == (PRESETS.parent / "initplug.schema.json").resolve()
