"""Rules: order, keys, short forms, defaults, overrides (with Hydra as the oracle) and the way back to YAML."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from omegaconf import DictConfig, OmegaConf
from torch import nn

import initplug


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.conv1 = nn.Conv2d(2, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)


NAMES = ["scale", "conv1.weight", "conv1.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"]
Row = tuple[str, str | None, str | None, tuple[str, ...], str | None]


def planned_rows(recipe: Any, model: nn.Module | None = None) -> list[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", initplug.InitplugWarning)
        plan = initplug.plan(model or Net(), recipe)
    return [(a.name, a.rule, a.selector, tuple(a.shadowed), a.init) for a in plan]


def winners(recipe: Any, model: nn.Module | None = None) -> dict[str, str | None]:
    return {name: rule for name, rule, *_ in planned_rows(recipe, model)}


def loose(rules: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"unmatched": "keep", "unused": "ignore", **settings, "rules": rules}


def taken(rule: dict[str, Any], model: nn.Module | None = None) -> set[str]:
    return {name for name, winner in winners(loose({"r": rule}), model).items() if winner == "r"}


def show(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "initplug", "show", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------- order


def test_names_of_the_model_used_here() -> None:
    assert [name for name, _ in Net().named_parameters()] == NAMES


def test_the_last_match_wins_and_names_the_shadowed() -> None:
    plan = initplug.plan(Net(), {"rules": {"all": {"match": "*", "init": 1}, "*.bias": 0, "^fc": "normal std=0.5"}})
    assert {a.name: a.rule for a in plan} == {
        "scale": "all",
        "conv1.weight": "all",
        "conv1.bias": "*.bias",
        "bn.weight": "all",
        "bn.bias": "*.bias",
        "fc.weight": "^fc",
        "fc.bias": "^fc",
    }
    assert list(plan["fc.bias"].shadowed) == ["all", "*.bias"]
    assert list(plan["fc.weight"].shadowed) == ["all"]
    assert list(plan["scale"].shadowed) == []
    assert plan["fc.bias"].std == 0.5


def test_order_is_that_of_the_file_not_of_specificity() -> None:
    specific_first = winners({"rules": {"fc.bias": 1, "*": 0}})
    assert set(specific_first.values()) == {"*"}


def test_a_shadowed_rule_is_never_evaluated() -> None:
    plan = initplug.plan(Net(), {"rules": {"*": "kaiming_normal", "(bias|scale)": 0, "bn.**": 1}})
    assert list(plan["conv1.bias"].shadowed) == ["*"]
    with pytest.raises(initplug.PlanError, match=r"conv1\.bias"):
        initplug.plan(Net(), {"rules": {"(bias|scale)": 0, "bn.**": 1, "*": "kaiming_normal"}} | {"unused": "ignore"})


RULE_POOL: list[Any] = [
    {"match": "*", "init": 0},
    {"match": "*.bias", "init": 1},
    {"match": ["conv1.weight", "fc"], "init": 2},
    {"match": "<_ConvNd|Linear>.weight", "init": 3},
    {"match": "*", "except": "<_BatchNorm>", "init": 4},
    {"match": "bn.**", "init": 5},
    {"match": "^(scale|fc)", "ndim": [0, 1], "init": 6},
    {"match": "**.weight", "ndim": 2, "init": 7},
    {"match": "^-1", "init": 8},
    {"match": "nothing", "init": 9},
    None,
]


@given(
    kept=st.lists(st.sampled_from(RULE_POOL), max_size=6),
    added=st.sampled_from(RULE_POOL),
    place=st.integers(min_value=0, max_value=6),
)
@settings(max_examples=150, deadline=None)
def test_adding_a_rule_never_changes_the_earlier_hits_of_the_others(kept: list[Any], added: Any, place: int) -> None:
    before = {f"r{i}": rule for i, rule in enumerate(kept)}
    items = list(before.items())
    place = min(place, len(items))
    after = dict([*items[:place], ("new", added), *items[place:]])

    def hits(rules: dict[str, Any]) -> dict[str, set[str]]:
        every = planned_rows(loose(rules))
        return {name: {*shadowed, *([] if rule is None else [rule])} for name, rule, _, shadowed, _ in every}

    old, new = hits(before), hits(after)
    assert {name: found - {"new"} for name, found in new.items()} == old
    alone = {name for name, found in hits({"new": added}).items() if found}
    assert {name for name, found in new.items() if "new" in found} == alone
    order = list(after)
    for name, rule, _, shadowed, _ in planned_rows(loose(after)):
        expected = [candidate for candidate in order if candidate in new[name]]
        assert [*shadowed, *([] if rule is None else [rule])] == expected


# -------------------------------------------------------------------------------------------------- keys


def test_except_excludes_a_slot_under_any_alias() -> None:
    model = nn.ModuleDict({"wte": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
    model["head"].weight = model["wte"].weight
    assert taken({"match": "*", "except": "head.weight", "init": 0}, model) == {"head.bias"}
    assert taken({"match": "<Embedding>", "except": "<Linear>", "init": 0}, model) == set()
    assert taken({"match": "head", "except": ["wte", "nowhere"], "init": 0}, model) == {"head.bias"}


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(2, 2)
        self.register_buffer("bias", torch.tril(torch.ones(2, 2)))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def test_buffers_are_taken_only_on_request() -> None:
    plan = initplug.plan(Masked(), {"rules": {"*": 1, "*.bias": 0}})
    assert [(a.name, a.kind) for a in plan] == [("lin.weight", "parameter"), ("lin.bias", "parameter")]
    rules = {"*": 1, "mask": {"match": "*.bias", "kind": "buffer", "init": 0}}
    plan = initplug.plan(Masked(), {"rules": rules})
    assert {(a.name, a.kind, a.rule) for a in plan} == {
        ("lin.weight", "parameter", "*"),
        ("lin.bias", "parameter", "*"),
        ("bias", "buffer", "mask"),
    }
    assert list(plan["bias"].shadowed) == []
    assert list(plan["lin.bias"].shadowed) == []


@pytest.mark.parametrize(
    ("ndim", "expected"),
    [
        (0, {"scale"}),
        (1, {"conv1.bias", "bn.weight", "bn.bias", "fc.bias"}),
        (2, {"fc.weight"}),
        ([2, 4], {"fc.weight", "conv1.weight"}),
        (">=2", {"fc.weight", "conv1.weight"}),
        ([3], set()),
        (5, set()),
    ],
)
def test_ndim(ndim: Any, expected: set[str]) -> None:
    assert taken({"match": "*", "ndim": ndim, "init": 0}) == expected


@pytest.mark.parametrize("ndim", [-1, "two", ">= two", True, 2.5, [], "~2"])
def test_a_bad_ndim_is_a_recipe_error(ndim: Any) -> None:
    with pytest.raises(initplug.RecipeError, match="ndim"):
        initplug.load({"rules": {"r": {"match": "*", "ndim": ndim, "init": 0}}})


GHOST: dict[str, Any] = {"*": 0, "ghost": {"match": "ghost.weight", "init": 0}}


def test_an_unused_rule_warns_by_default() -> None:
    with pytest.warns(initplug.InitplugWarning, match="ghost"):
        plan = initplug.plan(Net(), {"rules": GHOST})
    assert list(plan.unused) == ["ghost"]


def test_unused_error_and_ignore() -> None:
    with pytest.raises(initplug.PlanError, match="ghost") as caught:
        initplug.plan(Net(), {"unused": "error", "rules": GHOST})
    assert list(caught.value.plan.unused) == ["ghost"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert initplug.plan(Net(), {"unused": "ignore", "rules": GHOST})["scale"].rule == "*"


def test_an_optional_rule_is_never_reported() -> None:
    rules = {**GHOST, "ghost": {**GHOST["ghost"], "optional": True}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = initplug.plan(Net(), {"unused": "error", "rules": rules})
    assert list(plan.unused) == []


def test_a_rule_that_is_always_shadowed_is_not_unused() -> None:
    with pytest.raises(initplug.PlanError, match=r"rule 'fc.bias': rule '\*' takes all of it and more") as caught:
        initplug.plan(Net(), {"unused": "error", "rules": {"fc.bias": 1, "*": 0}})
    assert list(caught.value.plan.unused) == []
    assert list(caught.value.plan["fc.bias"].shadowed) == ["fc.bias"]


def test_null_disables_a_rule() -> None:
    assert set(winners({"rules": {"*": 0, "*.bias": None}}).values()) == {"*"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initplug.plan(Net(), {"unused": "error", "rules": {"*": 0, "ghost": None}})


def test_unmatched_parameters_are_an_error_unless_kept() -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(Net(), {"rules": {"*.weight": 1}})
    for name in ("scale", "conv1.bias", "bn.bias", "fc.bias"):
        assert name in str(caught.value)
    plan = initplug.plan(Net(), {"unmatched": "keep", "rules": {"*.weight": 1}})
    assert {a.name for a in plan if a.rule is None} == {"scale", "conv1.bias", "bn.bias", "fc.bias"}


def test_findings_of_different_kinds_are_reported_together() -> None:
    rules = {"conv1.**": "xavier_uniform", "ghost": {"match": "ghost.weight", "init": 0}}
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(Net(), {"unused": "error", "rules": rules})
    text = str(caught.value)
    assert "conv1.bias" in text
    assert "ghost" in text
    assert "fc.weight" in text
    assert caught.value.plan["conv1.weight"].rule == "conv1.**"


# ------------------------------------------------------------------------------------------------- forms


def test_a_short_rule_may_hold_the_keys_of_a_named_one() -> None:
    short = loose({"*.weight": {"init": {"fn": "normal", "std": 0.5}, "except": "bn.*", "ndim": ">=2"}})
    named = loose({"*.weight": {"match": "*.weight", "init": "normal std=0.5", "except": "bn.*", "ndim": ">=2"}})
    assert planned_rows(short) == planned_rows(named)
    assert {name for name, rule in winners(short).items() if rule} == {"conv1.weight", "fc.weight"}


def test_a_mapping_without_rule_keys_is_an_initializer() -> None:
    assert planned_rows(loose({"fc.*": {"fn": "normal", "std": 0.5}})) == planned_rows(
        loose({"fc.*": {"init": "normal std=0.5"}})
    )


@pytest.mark.parametrize(("key", "selector"), [("bn", "bn.**"), ("conv1", "conv1.**"), ("weight", "*.weight")])
def test_a_bare_word_is_no_selector(key: str, selector: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load({"rules": {key: 0}})
    assert selector in str(caught.value)


@pytest.mark.parametrize("key", ["bn.weight", "b*", "b?", "b[n]", "(bn|fc)", "<Linear>", "^bn"])
def test_a_key_with_a_mark_of_a_selector_is_one(key: str) -> None:
    assert winners(loose({key: 0})) != winners(loose({}))


FORMS: list[list[Any]] = [
    ["zeros", {"fn": "zeros"}],
    ["ones", {"fn": "ones"}],
    [0.25, "constant 0.25", "constant value=0.25", {"fn": "constant", "value": 0.25}, "constant 25e-2"],
    [2, 2.0, "constant 2", {"fn": "constant", "value": 2}],
    ["normal", {"fn": "normal"}, "normal std=1", "normal mean=0 std=1"],
    ["normal std=0.02", "normal std=2e-2", {"fn": "normal", "std": 0.02}, {"fn": "normal", "mean": 0, "std": 0.02}],
    ["uniform -0.1 0.1", "uniform low=-0.1 high=0.1", {"fn": "uniform", "low": -0.1, "high": 0.1}],
    ["trunc_normal std=0.02", {"fn": "trunc_normal", "std": 0.02}, "trunc_normal std=0.02 cutoff=2"],
    ["trunc_normal std=0.02 low=-2 high=2", {"fn": "trunc_normal", "std": 0.02, "low": -2, "high": 2}],
    ["xavier_uniform 1.5", "xavier_uniform gain=1.5", {"fn": "xavier_uniform", "gain": 1.5}],
    ["xavier_normal relu", "xavier_normal gain=relu", {"fn": "xavier_normal", "gain": "relu"}],
    ["kaiming_normal", {"fn": "kaiming_normal"}, "kaiming_normal fan_in", "kaiming_normal leaky_relu a=0"],
    ["kaiming_normal fan_out", "kaiming_normal mode=fan_out", {"fn": "kaiming_normal", "mode": "fan_out"}],
    [
        "kaiming_uniform fan_out relu",
        "kaiming_uniform relu fan_out",
        "kaiming_uniform nonlinearity=relu mode=fan_out",
        {"fn": "kaiming_uniform", "mode": "fan_out", "nonlinearity": "relu"},
    ],
    ["kaiming_uniform a=1", {"fn": "kaiming_uniform", "a": 1}, {"fn": "kaiming_uniform", "a": 1.0}],
    ["lecun_normal", {"fn": "lecun_normal"}],
    [
        "variance_scaling fan_avg uniform scale=2",
        "variance_scaling uniform scale=2 mode=fan_avg",
        {"fn": "variance_scaling", "scale": 2, "mode": "fan_avg", "distribution": "uniform"},
    ],
    ["variance_scaling tf_contrib", {"fn": "variance_scaling", "correction": "tf_contrib"}],
    ["xavier_uniform flat", "xavier_uniform fans=flat", {"fn": "xavier_uniform", "fans": "flat"}],
    ["fan_uniform fan_out relu", {"fn": "fan_uniform", "mode": "fan_out", "gain": "relu"}],
    ["prior_bias", "prior_bias 0.01", "prior_bias p=0.01", {"fn": "prior_bias", "p": 0.01, "link": "logit"}],
    ["prior_bias uniform log", {"fn": "prior_bias", "p": "uniform", "link": "log"}],
]


@pytest.mark.parametrize("forms", FORMS, ids=[str(forms[0]) for forms in FORMS])
def test_forms_of_one_initializer_plan_alike(forms: list[Any]) -> None:
    def planned(init: Any) -> Any:
        a = initplug.plan(nn.Conv2d(4, 6, 3), loose({"weight.**": init}))["weight"]
        return a.distribution, a.mean, a.std, a.low, a.high, a.fan_in, a.fan_out

    first = planned(forms[0])
    assert first[1] is not None
    for form in forms[1:]:
        assert planned(form) == first, form


@pytest.mark.parametrize(
    ("init", "hint"),
    [
        ("normal 0.02", "std=0.02"),
        ("normall", "normal"),
        ("kaiming_normal fan_inn", "fan_in"),
        ({"fn": "kaiming_normal", "mode": "fan_inn"}, "fan_in"),
        ({"fn": "normal", "sdt": 1}, "std"),
        ({"std": 1}, "fn"),
        (True, "init"),
        ({"fn": "normal", "std": True}, "std"),
        ({"fn": "normal", "std": "0.02"}, "std"),
        ({"fn": "normal", "std": -1}, "std"),
        ({"fn": "normal", "std": float("nan")}, "std"),
        ({"fn": "constant", "value": float("inf")}, "value"),
        ({"fn": "uniform", "low": 1, "high": 0}, "low"),
        ({"fn": "prior_bias", "p": 1.5}, "init.p"),
        ({"fn": "kaiming_normal", "nonlinearity": "relu", "a": 1}, "leaky_relu"),
        ([0], "init"),
        ("", "init"),
    ],
)
def test_a_bad_initializer_is_a_recipe_error_that_says_what_it_wanted(init: Any, hint: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load({"rules": {"r": {"match": "*", "init": init}}})
    assert hint in str(caught.value)
    assert isinstance(caught.value, initplug.InitplugError)
    assert isinstance(caught.value, ValueError)


LITERAL = """\
rules:
  conv*: kaiming_normal fan_out
  bn.weight: 1
  *.bias: 0
"""


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3)
        self.bn = nn.BatchNorm2d(4)


def test_the_literal_file_with_its_unquoted_star(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(LITERAL)
    quoted = LITERAL.replace("*.bias", '"*.bias"')
    mapping = {"rules": {"conv*": "kaiming_normal fan_out", "bn.weight": 1, "*.bias": 0}}
    for source in (LITERAL, str(path), path, quoted, mapping, yaml.safe_load(quoted)):
        plan = initplug.plan(Plain(), source)
        assert {a.name: a.rule for a in plan} == {
            "conv1.weight": "conv*",
            "conv1.bias": "*.bias",
            "bn.weight": "bn.weight",
            "bn.bias": "*.bias",
        }
        assert plan["conv1.weight"].std == pytest.approx((2 / (4 * 9)) ** 0.5, rel=1e-12)
    assert str(initplug.plan(Plain(), path)["conv1.bias"].location).endswith("plain.yaml:4")


def test_a_recipe_is_loaded_from_everything_that_holds_one(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(BASE)
    expected = planned_rows(path)
    loaded = initplug.load(path)
    assert isinstance(loaded, initplug.Recipe)
    config = OmegaConf.create(yaml.safe_load(BASE))
    for source in (BASE, str(path), yaml.safe_load(BASE), config, loaded, initplug.load(loaded)):
        assert planned_rows(source) == expected


# ----------------------------------------------------------------------------------------------- defaults

BASE = """\
name: base
unmatched: keep
unused: ignore
rules:
  conv: {match: <_ConvNd>.weight, init: {fn: kaiming_normal, mode: fan_out}}
  bn: {match: <_BatchNorm>.weight, init: 1}
  bias: {match: "*.bias", init: 0}
  fc: {match: ["fc.weight", "fc.bias"], init: normal std=0.5}
"""


def write_recipes(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def composed(folder: Path, name: str, overrides: list[str] | None = None) -> DictConfig:
    with initialize_config_dir(str(folder), version_base=None):
        return compose(name, overrides=overrides or [])


DEFAULTS: dict[str, dict[str, str]] = {
    "self last: own values win": {
        "top": "defaults: [base, _self_]\nrules:\n  conv: {init: {mode: fan_in}}\n  bias: {init: 3}\n",
        "base": BASE,
    },
    "self first: the preset's values win": {
        "top": "defaults: [_self_, base]\nrules:\n  bias: {init: 3}\n  mine: {match: 'fc.*', init: 1}\n",
        "base": BASE,
    },
    "new rules go last": {
        "top": "defaults: [base, _self_]\nrules:\n  mine: {match: 'fc.*', init: 1}\n",
        "base": BASE,
    },
    "null keeps its place": {
        "top": "defaults: [base, _self_]\nrules:\n  fc: null\n  bias: null\n",
        "base": BASE,
    },
    "a disabled rule comes back in its place": {
        "top": "defaults: [middle, _self_]\nrules:\n  conv: {match: '*', init: 7}\n",
        "middle": "defaults: [base, _self_]\nrules:\n  conv: null\n",
        "base": BASE,
    },
    "nested": {
        "top": "defaults: [middle, _self_]\nrules:\n  bias: {init: 5}\n",
        "middle": "defaults: [base, _self_]\nrules:\n  bias: {init: 4}\n  bn: {match: 'bn.*', init: 4}\n",
        "base": BASE,
    },
    "two siblings, the later wins": {
        "top": "defaults: [base, other, _self_]\nunused: ignore\n",
        "other": "rules:\n  bias: {init: 9}\n  late: {match: bn.bias, init: 9}\n",
        "base": BASE,
    },
    "a sibling after self": {
        "top": "defaults: [base, _self_, other]\nrules:\n  bias: {init: 8}\n",
        "other": "rules:\n  bias: {init: 9}\n  late: {match: bn.bias, init: 9}\n",
        "base": BASE,
    },
    "a list is replaced whole": {
        "top": "defaults: [base, _self_]\nrules:\n  fc: {match: [fc.weight]}\n",
        "base": BASE,
    },
    "a scalar replaces a mapping": {
        "top": "defaults: [base, _self_]\nrules:\n  conv: {init: zeros}\n",
        "base": BASE,
    },
}


@pytest.mark.parametrize("files", DEFAULTS.values(), ids=DEFAULTS.keys())
def test_defaults_compose_as_hydra_composes_them(tmp_path: Path, files: dict[str, str]) -> None:
    path = write_recipes(tmp_path, **files)
    assert planned_rows(path) == planned_rows(composed(tmp_path, "top"))


def test_defaults_by_hand(tmp_path: Path) -> None:
    path = write_recipes(tmp_path, **DEFAULTS["self last: own values win"])
    plan = initplug.plan(Net(), path)
    assert plan["conv1.weight"].std == pytest.approx((2 / 18) ** 0.5, rel=1e-12)
    assert plan["conv1.bias"].mean == 3
    path = write_recipes(tmp_path, **DEFAULTS["self first: the preset's values win"])
    plan = initplug.plan(Net(), path)
    assert plan["conv1.bias"].mean == 0
    assert plan["fc.weight"].rule == "fc"
    assert set(plan["fc.bias"].shadowed) == {"mine", "bias"}
    path = write_recipes(tmp_path, **DEFAULTS["a disabled rule comes back in its place"])
    plan = initplug.plan(Net(), path)
    assert plan["scale"].mean == 7
    assert plan["conv1.bias"].rule == "bias"


def test_defaults_take_a_preset(tmp_path: Path) -> None:
    path = write_recipes(tmp_path, top="defaults: [torch_default, _self_]\nunused: ignore\nrules:\n  fc.bias: 3\n")
    plan = initplug.plan(nn.ModuleDict({"fc": nn.Linear(2, 3)}), path)
    assert plan["fc.bias"].mean == 3
    assert plan["fc.weight"].high == pytest.approx(0.5**0.5)


EXCLUDING = "rules:\n  w: {match: ['*.weight', scale], %s: fc.*, init: 0}\n"


@pytest.mark.parametrize("key", ["except", "exclude"])
def test_exclude_is_another_name_of_except(key: str) -> None:
    recipe = initplug.load(EXCLUDING % key)
    assert recipe == initplug.load(EXCLUDING % "except") and recipe.digest == initplug.load(EXCLUDING % "except").digest
    assert recipe.plain()["rules"]["w"] == {"match": ["*.weight", "scale"], "except": "fc.*", "init": 0}
    assert "except: fc.*" in recipe.to_yaml() and "exclude" not in recipe.to_yaml()


@pytest.mark.parametrize(("below", "above"), [("except", "exclude"), ("exclude", "except"), ("exclude", "exclude")])
def test_of_except_and_exclude_the_later_layer_s_counts(tmp_path: Path, below: str, above: str) -> None:
    top = f"defaults: [base, _self_]\nrules:\n  w: {{{above}: scale}}\n"
    path = write_recipes(tmp_path, top=top, base=EXCLUDING % below)
    recipes = [initplug.load(path), initplug.load(EXCLUDING % below, [f"++rules.w.{above}=scale"])]
    recipes.append(initplug.load(EXCLUDING % below, ["++rules.w={" + above + ": scale}"]))
    for recipe in recipes:
        rule = recipe.rules["w"]
        assert rule is not None and rule.except_ == ("scale",)
    undone = write_recipes(tmp_path, top=f"defaults: [base, _self_]\nrules:\n  w: {{{above}: bn.*}}\n", base=top, x="")
    (tmp_path / "base.yaml").write_text(top.replace("base", "first"))
    (tmp_path / "first.yaml").write_text(EXCLUDING % below)
    rule = initplug.load(undone).rules["w"]
    assert rule is not None and rule.except_ == ("bn.*",)


def test_an_exclude_that_is_null_is_none(tmp_path: Path) -> None:
    path = write_recipes(
        tmp_path, top="defaults: [base, _self_]\nrules:\n  w: {exclude: null}\n", base=EXCLUDING % "except"
    )
    rule = initplug.load(path).rules["w"]
    assert rule is not None and rule.except_ == ("fc.*",)


def test_both_in_one_layer_are_an_error_whatever_lies_above(tmp_path: Path) -> None:
    both = "rules:\n  w: {match: '*', except: a, exclude: b, init: 0}\n"
    path = write_recipes(tmp_path, top="defaults: [base, _self_]\nrules:\n  w: {except: c}\n", base=both)
    with pytest.raises(initplug.RecipeError, match=r"base.yaml:2:30: rules.w.exclude: except and exclude are two"):
        initplug.load(path)
    with pytest.raises(initplug.RecipeError, match="two names of one key"):
        initplug.load({"rules": {"w": {"match": "*", "except": "a", "exclude": "b", "init": 0}}})


def test_a_rule_reads_back_with_its_expectation() -> None:
    recipe = initplug.load("rules:\n  '*.weight': {init: 0, expect: {per: <Block>, times: 2}}\n")
    assert initplug.load(recipe.to_yaml()) == recipe
    assert recipe.digest != initplug.load("rules:\n  '*.weight': {init: 0}\n").digest


def test_defaults_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = write_recipes(tmp_path, top="defaults: [base, _self_]\n", base=BASE)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert planned_rows(path) == planned_rows(BASE)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"top": "defaults: [top, _self_]\nrules: {'*': 0}\n"}, ["top"]),
        (
            {
                "top": "defaults: [first, _self_]\n",
                "first": "defaults: [second, _self_]\n",
                "second": "defaults: [first, _self_]\n",
            },
            ["first", "second"],
        ),
        ({"top": "defaults: [missing, _self_]\nrules: {'*': 0}\n"}, ["missing"]),
        ({"top": "defaults: [{optimizer: adam}, _self_]\nrules: {'*': 0}\n"}, ["Hydra"]),
        ({"top": "defaults: [{override /init: base}]\nrules: {'*': 0}\n"}, ["Hydra"]),
        ({"top": "defaults: [base@rules, _self_]\nrules: {'*': 0}\n", "base": BASE}, ["Hydra"]),
        ({"top": "defaults: [{optional init: base}, _self_]\nrules: {'*': 0}\n", "base": BASE}, ["Hydra"]),
        ({"top": "defaults: 3\nrules: {'*': 0}\n"}, ["defaults"]),
        ({"top": "defaults: [base, _self_, _self_]\nrules: {'*': 0}\n", "base": BASE}, ["_self_"]),
    ],
)
def test_bad_defaults_are_recipe_errors(tmp_path: Path, files: dict[str, str], words: list[str]) -> None:
    path = write_recipes(tmp_path, **files)
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(path)
    for word in words:
        assert word in str(caught.value)


def test_a_key_left_over_from_a_merge_is_named(tmp_path: Path) -> None:
    path = write_recipes(
        tmp_path, top="defaults: [base, _self_]\nrules:\n  conv: {init: {fn: constant, value: 1}}\n", base=BASE
    )
    with pytest.raises(initplug.RecipeError, match=r"mode.*kaiming_normal|kaiming_normal.*mode"):
        initplug.load(path)


# ---------------------------------------------------------------------------------------------- overrides

OVERRIDES: list[list[str]] = [
    ["rules.conv.init.mode=fan_in"],
    ["rules.bias.init=0.5"],
    ["rules.bias.init=1e-3"],
    ["rules.conv.init=zeros"],
    ["rules.conv.init='normal std=0.25'"],
    ["+rules.x={match: 'fc.*', init: zeros}"],
    ['+rules.x={match: "*", except: ["bn.*", "scale"], init: {fn: normal, std: 0.1}}'],
    ["~rules.bias"],
    ["rules.bias=null"],
    ["rules.fc=null", "rules.bias.init=2"],
    ["~rules.fc", "+rules.fc={match: 'bn.*', init: 4}"],
    ["rules.fc.match=[bn.weight,scale]"],
    ["rules.fc.match='bn.*'"],
    ["+rules.fc.ndim=1"],
    ["++rules.conv.init.nonlinearity=relu", "++rules.conv.init.mode=fan_in"],
    ["+rules.fc.except='*.bias'"],
    ["+rules.bn.trainable=any", "+rules.bias.trainable=false"],
    ["name=other", "unmatched=keep"],
]


@pytest.mark.parametrize("overrides", OVERRIDES, ids=[" ".join(one) for one in OVERRIDES])
def test_overrides_act_as_hydra_applies_them(tmp_path: Path, overrides: list[str]) -> None:
    path = write_recipes(tmp_path, recipe=BASE)
    expected = planned_rows(composed(tmp_path, "recipe", overrides))
    assert planned_rows(initplug.load(path, overrides=overrides)) == expected
    assert planned_rows(initplug.load(BASE, overrides=overrides)) == expected
    assert expected != planned_rows(path) or overrides == ["name=other", "unmatched=keep"]


def test_overrides_come_after_defaults(tmp_path: Path) -> None:
    path = write_recipes(tmp_path, top="defaults: [base, _self_]\nrules:\n  bias: {init: 3}\n", base=BASE)
    overrides = ["rules.bias.init=6", "rules.conv.init.mode=fan_in"]
    recipe = initplug.load(path, overrides=overrides)
    assert planned_rows(recipe) == planned_rows(composed(tmp_path, "top", overrides))
    assert initplug.plan(Net(), recipe)["conv1.bias"].mean == 6


def test_overrides_by_hand() -> None:
    assert initplug.plan(Net(), initplug.load(BASE, overrides=["rules.conv.init.mode=fan_in"]))[
        "conv1.weight"
    ].std == pytest.approx((2 / 18) ** 0.5, rel=1e-12)
    assert winners(initplug.load(BASE, overrides=["+rules.x={match: 'fc.*', init: zeros}"]))["fc.weight"] == "x"
    assert winners(initplug.load(BASE, overrides=["~rules.bias"]))["conv1.bias"] is None
    assert winners(initplug.load(BASE, overrides=["rules.bias=null"]))["conv1.bias"] is None


def test_settings_may_be_overridden_where_the_file_leaves_them_out() -> None:
    text = "rules:\n  fc.weight: 0\n  ghost.weight: 0\n"
    recipe = initplug.load(text, overrides=["unmatched=keep", "unused=ignore", "frozen=write"])
    assert recipe.frozen == "write"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert initplug.plan(Net(), recipe)["scale"].rule is None


def test_a_preset_takes_overrides() -> None:
    plan = initplug.plan(
        nn.Sequential(nn.Conv2d(2, 4, 3, bias=False)),
        initplug.load("resnext", overrides=["rules.conv.init.mode=fan_in", "unused=ignore"]),
    )
    assert plan["0.weight"].std == pytest.approx((2 / 18) ** 0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("rules.conv.init.mode=fan_in,fan_out", "rules.conv.init.mode"),
        ("rules.conv.init.mode=choice(fan_in,fan_out)", "rules.conv.init.mode"),
        ("rules.nothing.init=0", "nothing"),
        ("~rules.nothing", "nothing"),
        ("rules.conv.init.mode=${name}", "$"),
        ("rules.fc.init.std=1", "rules.fc.init"),
        ("+rules.fc.init.std=1", "rules.fc.init"),
        ("rules@x=1", "@"),
        ("rules.bias.init", "rules.bias.init"),
        ("nonsense=1", "nonsense"),
        ("", "override"),
        ("rules.*.init=0", "rules.*.init"),
        ("rules.bias.init=[", "rules.bias.init"),
    ],
)
def test_an_override_that_cannot_be_applied_is_located(override: str, word: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(BASE, overrides=[override])
    assert word in str(caught.value)
    assert "override" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("rules.conv=zeros", "rules.conv.init=zeros"),
        ("rules.conv.init.mode=fan_inn", "did you mean fan_in?"),
        ("++rules.conv.init={fn: constant, value: 1}", "mode"),
        ("unused=sometimes", "unused"),
        ("+rules.bias.except=3", "rules.bias.except"),
        ("+rule={}", "rule"),
        ("rules.bias=???", "rules.bias"),
    ],
)
def test_an_override_that_spoils_the_recipe_is_a_recipe_error(override: str, word: str) -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load(BASE, overrides=[override])
    assert word in str(caught.value)


# --------------------------------------------------------------------------------------- there and back

INITS: list[Any] = [
    0,
    1,
    -0.5,
    1e-06,
    3e22,
    "zeros",
    "normal std=0.02",
    "uniform -0.1 0.1",
    {"fn": "normal", "std": 1e-05},
    {"fn": "trunc_normal", "std": 0.02, "low": -2, "high": 2},
    {"fn": "prior_bias", "p": "uniform", "link": "log"},
    "default",
    "keep",
    "copy source=..fc.weight",
    {"fn": "load", "path": "with spaces.safetensors", "key": "0"},
]
MATCHES: list[Any] = [
    "*",
    "*.bias",
    "<_ConvNd|Linear>.weight",
    ["fc", "^conv1.*"],
    "bn.-1",
    "*conv*.[!b]*",
    "(fc|bn).**",
]
LONG_RULES = st.fixed_dictionaries(
    {"match": st.sampled_from(MATCHES), "init": st.sampled_from(INITS)},
    optional={
        "except": st.sampled_from(MATCHES),
        "ndim": st.sampled_from([0, 1, [1, 4], ">=2"]),
        "optional": st.booleans(),
        "kind": st.sampled_from(["parameter", "buffer"]),
    },
)
RULES = st.one_of(
    st.dictionaries(
        st.sampled_from(["a", "conv", "bias", "x1", "on", "no", "null", "7", "~", "true"]),
        st.one_of(LONG_RULES, st.none()),
        max_size=4,
    ),
    st.dictionaries(
        st.sampled_from(["*.bias", "<Linear>", "^fc", "conv*", "bn.weight", "[a-z]*", "?.x", "(a|b)"]),
        st.sampled_from(INITS),
        max_size=4,
    ),
)
TEXTS = st.text(alphabet="abXY 0:#-'\"\n*&!%@{}[],é…", max_size=40).map(lambda text: f"about {text}")


def plan_or_findings(recipe: Any, model: nn.Module) -> tuple[list[Row], int]:
    """The plan, or as much of it as there is, and the number of findings."""
    try:
        return planned_rows(recipe, model), 0
    except initplug.PlanError as error:
        return [(a.name, a.rule, a.selector, tuple(a.shadowed), a.init) for a in error.plan], len(error.findings)


@given(rules=RULES, about=TEXTS, seed=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_mapping_to_yaml_to_recipe_is_the_identity(rules: dict[str, Any], about: str, seed: random.Random) -> None:
    recipe = loose(json.loads(json.dumps(rules)), about=about, name="x", source=[about, "arXiv:1611.05431"])
    text = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=seed.choice([True, False, None])) + "\n"
    model = nn.Sequential(Net(), Masked())
    assert plan_or_findings(text, model) == plan_or_findings(recipe, model)


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029", "\ufeff", "a\x85b", "\u2028 ", "\n\x85", "\x85\n"])
def test_characters_that_readers_take_for_line_breaks_survive_as_texts_and_keys(sign: str) -> None:
    recipe = initplug.load(
        {"name": sign, "about": [f"x {sign} y"], "rules": {f"x{sign}y*": 0, sign: {"match": "*", "init": 1}}}
    )
    text = recipe.to_yaml()
    assert initplug.load(text) == recipe
    told = yaml.safe_load(text)
    assert (told["name"], told["about"], [*told["rules"]]) == (sign, [f"x {sign} y"], [f"x{sign}y*", sign])


NASTY = """\
name: "on"
about: "1e-3"
source: ["010", "12:30", "null", "~", "*x", "&x", "!x", "a: b", "# x", "'", '"', "- x", "yes", "", " pad ", "é",
  "a\\nb", "0x1F", "1_000", ".5", "?", "{x}", "[x]", "%x", "@x", "`x`", "true", "=", "<<", "a #b", "x:", "---"]
unmatched: keep
unused: ignore
frozen: write
rules:
  "conv*": kaiming_normal fan_out
  *.bias: 0
  "off": null
  "7": {match: [fc.weight, "-1"], except: "*.bias", init: {fn: normal, std: 1e-6}, trainable: any, ndim: ">=2",
    optional: true}
  mask: {match: ["^1", "<Linear|Conv2d>.weight"], kind: buffer, init: -0.5}
"""


def test_what_show_prints_is_the_recipe(tmp_path: Path) -> None:
    source = tmp_path / "nasty.yaml"
    source.write_text(NASTY)
    text = show(source)
    back = tmp_path / "back.yaml"
    back.write_text(text)
    assert show(back) == text
    model = nn.Sequential(Net(), Masked())
    assert planned_rows(back, model) == planned_rows(source, model)
    original = yaml.safe_load(source.read_text().replace("  *.bias", '  "*.bias"').replace("1e-6", "1.0e-6"))
    printed = yaml.safe_load(text)
    for key in ("name", "about", "source", "unmatched", "unused", "frozen"):
        assert printed[key] == original[key]
    assert [key for key in printed["rules"] if key != "off"] == [key for key in original["rules"] if key != "off"]
    assert OmegaConf.create(text).rules["conv*"] is not None


def test_show_composes_defaults_and_overrides(tmp_path: Path) -> None:
    path = write_recipes(tmp_path, **DEFAULTS["nested"])
    overrides = ["rules.conv.init.mode=fan_in", "~rules.fc", "+rules.x={match: 'fc.*', init: zeros}"]
    text = show(path, *overrides)
    config = composed(tmp_path, "top", overrides)
    assert "defaults" not in yaml.safe_load(text)
    assert list(yaml.safe_load(text)["rules"]) == list(config.rules)
    assert planned_rows(text) == planned_rows(config)
