"""What of a recipe has no effect in a model: every selector is used, reported or noted; rules get what they expect."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import copied_state
from torch import nn
from torch.nn.utils import parametrizations

import initplug


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.wq, self.wk = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.act = nn.ReLU()
        self.bn = nn.BatchNorm1d(4)


class Net(nn.Module):
    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.emb = nn.Embedding(8, 4)
        self.h = nn.ModuleList(Block() for _ in range(blocks))
        self.fc = nn.Linear(4, 8)


HABITS = [
    ("nn.Linear", "a type stands in angle brackets: <Linear>"),
    ("LayerNorm.weight", "a type stands in angle brackets: <LayerNorm>.weight"),
    ("h[0]", "a child is a step of its own: h.0"),
    ("h[-1].norm", "a child is a step of its own: h.-1.norm"),
    (r"h\.\d+\.w[qk]\.weight", "selectors are globs, not regular expressions: h.[0-9]*.w[qk].weight"),
    (r"h\.[0-9]+\.norm", "selectors are globs, not regular expressions: h.[0-9]*.norm"),
    ("emb,fc", "alternatives stand in parentheses, selectors in a list: (emb|fc)"),
    ("emb.weight, fc.bias", "alternatives stand in parentheses, selectors in a list: [emb.weight, fc.bias]"),
    ("h/0/norm/scale", "names are dotted: h.0.norm.weight"),
    ("fc.kernel", "torch calls it otherwise: fc.weight"),
    ("self.fc", "names begin below the model: fc"),
    ("!*.bias", "what is left out stands under except: *.bias"),
]


@pytest.mark.parametrize(("selector", "hint"), HABITS)
def test_a_selector_of_another_habit_is_answered_where_it_selects_nothing(selector: str, hint: str) -> None:
    model = Net()
    _, lines = planned_and_told(model, {"unmatched": "keep", "rules": {"r": {"match": selector, "init": 0}}})
    assert lines[1] == f"rule 'r' \"{selector}\"; {hint}"
    meant = hint.partition(": ")[2]
    match = meant.strip("[]").split(", ") if meant.startswith("[") else meant
    plan, lines = planned_and_told(model, {"unmatched": "keep", "rules": {"r": {"match": match, "init": 0}}})
    assert lines == []
    assert any(row.rule == "r" for row in plan)


@pytest.mark.parametrize("selector", ["nn.Conv2d", "h[7]", r"blocks\.\d+", "conv1,conv2", "self.conv"])
def test_what_would_select_nothing_either_is_not_offered(selector: str) -> None:
    _, lines = planned_and_told(Net(), {"unmatched": "keep", "rules": {"r": {"match": selector, "init": 0}}})
    assert not any(words in lines[1] for words in ("angle brackets", "globs", "step of its own", "list", "below the"))


def test_a_dead_selector_beside_others_is_answered_too() -> None:
    assert reported({"match": ["fc", "nn.Embedding"]}) == [
        "rule 'r', match \"nn.Embedding\": selects nothing; a type stands in angle brackets: <Embedding>"
    ]


def planned_and_told(model: nn.Module, recipe: Any, **options: Any) -> tuple[initplug.Plan, list[str]]:
    """A plan, and the lines of what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan = initplug.plan(model, recipe, **options)
    return plan, [line.strip() for warning in caught for line in str(warning.message).splitlines()]


def reported(rule: dict[str, Any], model: nn.Module | None = None) -> list[str]:
    """What is said of the selectors of a rule that takes something."""
    _, lines = planned_and_told(model or Net(), {"rules": {"*": "keep", "r": {"init": 0, **rule}}})
    return [line for line in lines if line.startswith("rule 'r'")]


def noted(rule: dict[str, Any], model: nn.Module | None = None) -> list[str]:
    plan, lines = planned_and_told(model or Net(), {"rules": {"*": "keep", "r": {"init": 0, **rule}}})
    assert lines == []
    return [note.message for note in plan.notes if note.rule == "r"]


# Selectors without effect.


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({"match": ["fc.weight", "fc.bais"]}, ['match "fc.bais": selects nothing; closest: fc.bias']),
        ({"match": ["fc.weight", "<Linaer>.bias"]}, ['match "<Linaer>.bias": selects nothing; closest: <Linear>']),
        ({"match": ["fc.weight", "wq.wieght"]}, ['match "wq.wieght": selects nothing; closest: h.1.wq.weight']),
        ({"match": ["fc.weight", "zzz"]}, ['match "zzz": selects nothing']),
        ({"match": ["^fc.weight", "^wq.weight"]}, ['match "^wq.weight": selects nothing; closest: h.1.wq.weight']),
        ({"match": ["fc.weight", "h.-3"]}, ['match "h.-3": selects nothing']),
        (
            {"match": ["fc.weight", "act"]},
            ['match "act": selects only modules that hold nothing to be initialised'],
        ),
        ({"match": ["fc.weight", "wk.bias"]}, ['match "wk.bias": selects only what is None in this model']),
        (
            {"match": ["fc.weight", "running_mean"]},
            ['match "running_mean": selects only buffers, and the rule takes parameters'],
        ),
        (
            {"match": ["running_mean", "fc.weight"], "kind": "buffer"},
            ['match "fc.weight": selects only parameters, and the rule takes buffers'],
        ),
        (
            {"match": ["fc.weight", "*.bias"], "ndim": ">=2"},
            ["match \"*.bias\": selects only tensors of 1 dimension, and the rule's ndim is '>=2'"],
        ),
        (
            {"match": ["fc.weight", "bn"], "ndim": [2, 4]},
            ['match "bn": selects only tensors of 1 dimension, and the rule\'s ndim is [2, 4]'],
        ),
        ({"match": "fc", "except": "fc.wieght"}, ['except "fc.wieght": takes nothing away; closest: fc.weight']),
        (
            {"match": "fc", "except": ["fc.bias", "wq.bias"]},
            ['except "wq.bias": takes nothing away: `match` selects nothing of what it selects'],
        ),
        (
            {"match": "bn", "except": ["bn.bias", "running_var"]},
            ['except "running_var": takes nothing away: it selects only buffers, and the rule takes parameters'],
        ),
        (
            {"match": "bn.**", "except": ["running_var", "bn.weight"], "kind": "buffer"},
            ['except "bn.weight": takes nothing away: it selects only parameters, and the rule takes buffers'],
        ),
        (
            {"match": "h.**", "except": "act"},
            ['except "act": takes nothing away: it selects only modules that hold nothing to be initialised'],
        ),
        ({"match": "fc", "exclude": ["fc.bias", "zzz"]}, ['exclude "zzz": takes nothing away']),
    ],
    ids=str,
)
def test_each_selector_without_effect_is_reported_with_what_it_does(rule: dict[str, Any], lines: list[str]) -> None:
    assert reported(rule) == [f"rule 'r', {line}" for line in lines]


@pytest.mark.parametrize(
    "rule",
    [
        {"match": ["fc.weight", "*.weight"]},
        {"match": ["^h.*.wq", "h.-1.wk", "fc.(weight|bias)"]},
        {"match": "*", "except": ["fc.*", "h.-1", "<LayerNorm>"]},
        {"match": "*", "except": "running_mean", "kind": "buffer"},
        {"match": ["zzz", "fc"], "optional": True, "except": "yyy"},
    ],
    ids=str,
)
def test_what_has_an_effect_or_is_optional_is_not_reported(rule: dict[str, Any]) -> None:
    assert reported(rule) == []


@pytest.mark.parametrize(
    ("rule", "notes"),
    [
        (
            {"match": ["*.weight", "fc.weight"]},
            ['match "fc.weight" selects nothing that the selectors before it do not'],
        ),
        ({"match": ["fc", "fc"]}, ['match "fc" selects nothing that the selectors before it do not']),
        ({"match": ["fc.weight", "*.weight"]}, []),
        (
            {"match": "*", "except": ["bn.*", "bn.weight"]},
            ['except "bn.weight" takes away nothing that the selectors before it do not'],
        ),
        ({"match": ["fc", "bn.bias"], "except": "bn"}, ['match "bn.bias" selects only what `except` takes away']),
        ({"match": ["fc", "bn.bias"], "exclude": "bn"}, ['match "bn.bias" selects only what `exclude` takes away']),
        (
            {"match": "fc", "exclude": ["bias", "fc.bias"]},
            ['exclude "fc.bias" takes away nothing that the selectors before it do not'],
        ),
        (
            {"match": "h.**", "ndim": 2, "except": ["wq.weight", "norm.*"]},
            ['except "norm.*" takes nothing away that the rule\'s ndim does not leave out'],
        ),
        (
            {"match": ["(wq|wkk).weight", "<Linear|Conv2d|LayerNorm>.bias"]},
            [
                "match \"(wq|wkk).weight\" has alternatives that no name of the model is: 'wkk'",
                "match \"<Linear|Conv2d|LayerNorm>.bias\" has alternatives that no class of the model is: 'Conv2d'",
            ],
        ),
        (
            {"match": "(w*|fc|q[a-c]*).(weight|bias)"},
            ["match \"(w*|fc|q[a-c]*).(weight|bias)\" has alternatives that no name of the model is: 'q[a-c]*'"],
        ),
        ({"match": ["(wq|wkk).weight", "zzz"], "optional": True}, []),
    ],
    ids=str,
)
def test_what_does_no_harm_is_noted(rule: dict[str, Any], notes: list[str]) -> None:
    assert noted(rule) == notes


def test_alternatives_are_told_three_at_a_time() -> None:
    assert noted({"match": "(fc|a|b|c|d|e).weight"}) == [
        "match \"(fc|a|b|c|d|e).weight\" has alternatives that no name of the model is: 'a', 'b', 'c', … and 2 more"
    ]


def test_a_tied_tensor_is_selected_by_any_of_its_names() -> None:
    model = Net()
    model.fc.weight = model.emb.weight
    assert reported({"match": ["emb.weight", "fc.weight"]}, model) == []
    assert reported({"match": "emb", "except": "^fc"}, model) == [
        "rule 'r' \"emb\": selects only what `except` takes away"
    ]
    assert noted({"match": ["emb.weight", "fc.weight"]}, model) == [
        'match "fc.weight" selects nothing that the selectors before it do not'
    ]


def test_a_parametrized_tensor_has_its_public_name() -> None:
    model = Net()
    parametrizations.weight_norm(model.fc)
    assert reported({"match": ["fc.weight", "fc.bias"]}, model) == []
    (line,) = reported({"match": ["fc.bias", "original0"]}, model)
    assert line.startswith("rule 'r', match \"original0\": selects nothing")


def test_frozen_parameters_are_selected_all_the_same() -> None:
    model = Net()
    model.fc.weight.requires_grad_(False)
    _, lines = planned_and_told(model, {"rules": {"*": "keep", "r": {"match": ["fc.weight", "fc.bias"], "init": 0}}})
    assert not any("effect" in line or "nothing" in line for line in lines)
    _, lines = planned_and_told(model, {"rules": {"*": "keep", "r": {"match": "fc", "except": "fc.weight", "init": 0}}})
    assert lines == []
    _, lines = planned_and_told(
        Net(), {"rules": {"*": "keep", "r": {"match": "fc.bias", "trainable": False, "init": 0}}}
    )
    assert lines[1] == (
        "rule 'r' \"fc.bias\": selects only parameters that require a gradient, and the rule takes frozen ones"
    )


def test_rules_that_select_nothing_tell_each_of_their_selectors() -> None:
    rules: dict[str, Any] = {
        "*": "keep",
        "a": {"match": ["fc.wieght", "act"], "except": "zzz", "init": 0},
        "b": {"match": "fc", "except": ["fc.*", "yyy"], "init": 0},
        "off": None,
    }
    plan, lines = planned_and_told(Net(), {"rules": rules})
    assert plan.unused == ("a", "b")
    assert lines == [
        "2 rules of the recipe select nothing",
        "rule 'a' \"fc.wieght\"; closest: fc.weight",
        "rule 'a' \"act\": selects only modules that hold nothing to be initialised",
        "rule 'b' \"fc\": selects only what `except` takes away",
        "Mend the selector, remove the rule, or mark it `optional: true`.",
        "1 selector of the recipe has no effect",
        "rule 'b', except \"yyy\": takes nothing away",
        "Mend or remove it, or mark the rule `optional: true`.",
    ]


def test_unused_says_what_selectors_without_effect_are() -> None:
    rules = {"*": "keep", "r": {"match": ["fc.weight", "fc.bais"], "except": "zzz", "init": 0}}
    with pytest.raises(initplug.PlanError, match="2 selectors of the recipe have no effect") as caught:
        initplug.plan(Net(), {"unused": "error", "rules": rules})
    assert [(found.path, found.message, found.hint) for found in caught.value.findings] == [
        ("rules.r.match[1]", "selects nothing", "closest: fc.bias"),
        ("rules.r.except", "takes nothing away", None),
    ]
    plan, lines = planned_and_told(Net(), {"unused": "ignore", "rules": rules})
    assert lines == [] and plan.notes == () and plan.unused == ()


def test_a_part_of_a_model_need_not_use_all_that_is_said_of_the_whole() -> None:
    rules = {"head": {"match": "^fc.weight", "init": 0}, "*": {"match": ["*", "^fc.bias"], "except": "^emb", "init": 0}}
    plan, lines = planned_and_told(Net().h, {"unused": "error", "rules": rules}, prefix="h")
    assert lines == [] and plan.notes == ()


def test_what_is_reported_is_what_selects_nothing_by_itself() -> None:
    """Random rules, beside what each of their selectors takes as the only one of a rule."""
    texts = ["fc", "fc.weight", "*.bias", "zzz", "act", "running_*", "h.-1", "h.-5", "<Linear>", "<Conv2d>.bias"]
    texts += ["(wq|wv).weight", "^h.0", "^wq", "bn", "h.*.bn.bias", "<_BatchNorm|Conv1d>", "emb.weight", "**"]
    model = Net()

    def taken(selector: str) -> set[str]:
        recipe = {"unmatched": "keep", "unused": "ignore", "rules": {"r": {"match": selector, "init": 0}}}
        return {row.name for row in initplug.plan(model, recipe) if row.rule}

    alone = {text: taken(text) for text in texts}
    draw = random.Random(0)
    for _ in range(300):
        match, left_out = draw.sample(texts, draw.randint(1, 4)), draw.sample(texts, draw.randint(0, 3))
        rule: dict[str, Any] = {"match": match, "init": 0, **({"except": left_out} if left_out else {})}
        plan, lines = planned_and_told(model, {"rules": {"*": "keep", "r": rule}})
        selected = set().union(*(alone[text] for text in match))
        rest = selected.difference(*(alone[text] for text in left_out))
        dead = [f'match "{text}"' for text in match if not alone[text]]
        dead += [f'except "{text}"' for text in left_out if not alone[text] & selected]
        assert plan.unused == (() if rest else ("r",))
        if rest:
            assert [line.split(": ")[0] for line in lines if line.startswith("rule 'r', ")] == [
                f"rule 'r', {text}" for text in dead
            ]
            assert [note.message.split(" ")[0] for note in plan.notes if note.reported] == [
                text.split(" ")[0] for text in dead
            ]


# Rules that win nothing.


def covered(rules: dict[str, Any], model: nn.Module | None = None) -> list[str]:
    _, lines = planned_and_told(model or Net(), {"rules": rules})
    return [line for line in lines if "put it after" in line]


def test_a_specific_rule_before_a_general_one_is_told_where_to_go() -> None:
    rules: dict[str, Any] = {"head": {"match": "fc.weight", "init": 1}, "norms": {"match": "norm", "init": 1}, "*": 0}
    assert covered(rules) == [
        "rule 'head' \"fc.weight\": rule '*' takes all of it and more; put it after '*'",
        "rule 'norms' \"norm\": rule '*' takes all of it and more; put it after '*'",
    ]
    with pytest.raises(initplug.PlanError, match="2 rules of the recipe win nothing") as caught:
        initplug.plan(Net(), {"unused": "error", "rules": rules})
    assert str(caught.value.findings[0]) == "head: wins nothing: rule '*' takes all that it selects (put it after '*')"
    assert covered({"*": 0, **rules} | {"*": 0}) == []  # the order that is meant


@pytest.mark.parametrize(
    "rules",
    [
        {"*": 0, "w": {"match": "*.weight", "init": 1}, "b": {"match": "*.bias", "init": 1}},  # narrower ones
        {"*": 0, "all": {"match": "**", "init": 1}},  # the same
        {"fc": {"match": "fc", "init": 1}, "*.weight": 0, "*.bias": 0},  # several
        {"fc": {"match": "fc.weight", "init": 1, "optional": True}, "*": 0},
        {"fc": {"match": "fc", "init": 1}, "*": {"match": "*", "except": "fc.bias", "init": 0}},  # it wins a slot
        {"none": None, "*": 0},
    ],
    ids=str,
)
def test_a_rule_that_others_cover_in_any_other_way_is_only_noted(rules: dict[str, Any]) -> None:
    first = next(iter(rules))
    wins = any(row.rule == first for row in planned_and_told(Net(), {"rules": rules})[0])
    plan, lines = planned_and_told(Net(), {"unmatched": "keep", "rules": rules})
    assert lines == []
    assert [note.rule for note in plan.notes] == ([] if wins or rules[first] is None else [first])


def test_a_rule_that_wins_nothing_is_in_the_data() -> None:
    plan, _ = planned_and_told(Net(), {"rules": {"fc": {"match": "fc.weight", "init": 1}, "*": 0}})
    assert [(note.rule, note.message, note.reported) for note in plan.notes] == [
        ("fc", "wins nothing, since '*' takes all that it selects", True)
    ]
    assert plan.headline().endswith("1 rule that wins nothing")
    assert "note:" not in plan.to_text()  # the warning tells


def test_a_rule_of_another_layer_is_only_noted(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rules:\n  head: {match: fc.weight, init: 1}\n")
    (tmp_path / "top.yaml").write_text("defaults: [base, _self_]\nrules:\n  '*': 0\n")
    plan, lines = planned_and_told(Net(), tmp_path / "top.yaml")
    assert lines == []
    assert [str(note) for note in plan.notes] == [
        f"rule 'head' ({tmp_path / 'base.yaml'}:2): wins nothing, since '*' takes all that it selects"
    ]
    recipe = initplug.load("rules:\n  head: {match: fc.weight, init: 1}\n", ["+rules.all={match: '*', init: 0}"])
    assert planned_and_told(Net(), recipe)[1] == []
    both = ["+rules.head={match: fc.weight, init: 1}", "+rules.all={match: '*', init: 0}"]
    assert planned_and_told(Net(), initplug.load("rules:\n  '*.bias': 0\n", both))[1][1].startswith(
        "rule 'head' \"fc.weight\" (over"
    )


# Presets.


def test_selectors_of_presets_are_noted_and_never_warned_of(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [timm_vit, _self_]\nrules:\n  rest: {init: keep}\n")
    for source in ("timm_vit", tmp_path / "mine.yaml", initplug.load(initplug.load("timm_vit").plain())):
        recipe = initplug.load(source, ["unmatched=keep"])
        plan, lines = planned_and_told(nn.TransformerEncoderLayer(4, 2, 8), recipe)
        assert [line for line in lines if "effect" in line or "put it after" in line] == []
        assert plan.notes and all(note.shipped and not note.reported for note in plan.notes)
        assert "of presets without effect" in plan.headline() or "of a preset without effect" in plan.headline()
        assert "note:" not in plan.to_text()


def test_what_a_user_says_over_a_preset_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "defaults: [torch_default, _self_]\nrules:\n  rest: {except: fc.wieght}\n  w: {match: [fc, fcc], init: 0}\n"
    )
    name = next(iter(initplug.load("torch_default").rules))
    path.write_text(path.read_text().replace("rest", name))
    _, lines = planned_and_told(Net(), path)
    assert lines == [
        f"2 selectors of {path} have no effect",
        f"rule '{name}', except \"fc.wieght\" ({path}:3:{len(name) + 14}): takes nothing away; closest: fc.weight",
        f"rule 'w', match \"fcc\" ({path}:4:19): selects nothing; closest: fc",
        "Mend or remove them, or mark the rule `optional: true`.",
    ]
    assert "rules.w.match=[fc,fe]" in planned_and_told(Net(), initplug.load(path, ["rules.w.match=[fc,fe]"]))[1][2]


# Places.


def test_each_selector_has_its_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "rules:\n  '*': keep\n  r:\n    match:\n      - fc.weight\n      - 'fc.bais'\n"
        "    exclude: fc.wieght\n    init: 0\n  fd.wight: 0\n"
    )
    for recipe in (path, initplug.load(initplug.load(path), ["unmatched=keep"])):
        _, lines = planned_and_told(Net(), recipe)
        assert lines[1] == f"rule 'fd.wight' ({path}:9:3); closest: fc.weight"
        assert lines[4] == f"rule 'r', match \"fc.bais\" ({path}:6:10): selects nothing; closest: fc.bias"
        assert lines[5] == f"rule 'r', exclude \"fc.wieght\" ({path}:7:14): takes nothing away; closest: fc.weight"
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(Net(), initplug.load(path, ["unused=error"]))
    places = [(found.path, found.line, found.column) for found in caught.value.findings]
    assert places == [("fd.wight", 9, 3), ("rules.r.match[1]", 6, 10), ("rules.r.exclude", 7, 14)]


# What is noted, where it shows.


def test_notes_show_below_the_table_and_in_the_data() -> None:
    rules = {"*": 0, "r": {"match": ["fc", "fc.bias"], "init": 0}}
    plan, _ = planned_and_told(Net(), {"name": "mine", "rules": rules})
    note = "rule 'r': match \"fc.bias\" selects nothing that the selectors before it do not"
    assert plan.to_text().splitlines()[-1] == f"note: {note}"
    assert plan.headline().endswith("elements; 1 note")
    data = json.loads(plan.to_json())
    assert data["schema"] == 1 and data["unused"] == []
    assert data["notes"] == [{"rule": "r", "message": note[10:], "location": None, "shipped": False, "reported": False}]
    audit = initplug.apply(Net(), {"name": "mine", "rules": rules})
    assert audit.to_dict()["notes"] == data["notes"]


def test_the_digest_does_not_depend_on_where_a_recipe_stands(tmp_path: Path) -> None:
    recipe = initplug.load("resnext")
    (tmp_path / "copy.yaml").write_text(recipe.to_yaml())
    assert initplug.load(tmp_path / "copy.yaml").digest == recipe.digest == initplug.load(recipe.plain()).digest


# What rules expect.


def unmet(rule: dict[str, Any], per: str, times: int, model: nn.Module | None = None, **more: Any) -> list[str]:
    rules = {"*": "keep", "r": {"init": 0, **rule, "expect": {"per": per, "times": times}}, **more}
    try:
        initplug.plan(model or Net(), {"unused": "ignore", "rules": rules})
    except initplug.PlanError as error:
        return str(error).splitlines()
    return []


def test_a_rule_selects_as_many_slots_below_each_module_as_it_expects() -> None:
    assert unmet({"match": "(wq|wk).weight"}, "h.*", 2) == []
    assert unmet({"match": "(wq|wk).*"}, "<Block>", 3) == []
    assert unmet({"match": "(wq|wk).*", "except": "*.bias"}, "<Block>", 2) == []
    assert unmet({"match": "bn"}, "bn", 2) == []
    assert unmet({"match": "bn.**", "kind": "buffer"}, "bn", 3) == []
    assert unmet({"match": "*", "ndim": 2}, "*", 6) != []  # below every module, not below the model alone
    assert unmet({"match": "*", "ndim": 2}, "<Net>", 6) == []
    assert unmet({"match": "fc"}, "h.*", 0) == []
    assert unmet({"match": "wq.weight"}, "h.-1", 1) == []


def test_shadowed_slots_count() -> None:
    assert unmet({"match": "wq"}, "h.*", 2, last={"match": "*.bias", "init": 1}) == []


def test_what_is_not_as_expected_is_told_by_module() -> None:
    model = Net(12)
    del model.h[3].wk
    model.h[5].wv = nn.Linear(4, 4)
    assert unmet({"match": "(wq|wk|wv).weight"}, "h.*", 2, model) == [
        'rule \'r\' "(wq|wk|wv).weight" expects 2 slots below each module of "h.*", and selects another number below '
        "2 of 12 modules",
        "  h.3  Block  1, expected 2",
        "  h.5  Block  3, expected 2",
        MEND,
    ]
    lines = unmet({"match": "wq.weight"}, "<Block>", 2, model)
    assert lines[0].endswith("12 of 12 modules") and len(lines) == 13
    assert lines[-2:] == ["… and 2 more", MEND]
    assert unmet({"match": "fc"}, "<Net>", 1) == [
        'rule \'r\' "fc" expects 1 slot below each module of "<Net>", and selects another number below the module',
        "  the model  Net  2, expected 1",
        MEND,
    ]


MEND = "Mend `match` of the rule, or set its `expect` to null."


class Projected(nn.Module):
    """A part of a block that writes to the residual stream by `proj`, as in litgpt/model.py."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.proj = nn.Linear(4, 4)


def litgpt() -> nn.Module:
    """Blocks as in litgpt: `attn.proj` is one of the names of the preset, `mlp.proj` is not."""
    blocks = []
    for _ in range(2):
        block: nn.Module = type("Block", (nn.Module,), {})()
        block.norm, block.attn, block.mlp = nn.LayerNorm(4), Projected(), Projected()
        blocks.append(block)
    return nn.ModuleDict({"h": nn.ModuleList(blocks), "lm_head": nn.Linear(4, 8)})


def test_a_preset_that_scales_one_of_two_projections_is_told() -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(litgpt(), "prenorm_transformer")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("and selects another number below 2 of 2 modules")
    assert lines[1:] == ["  h.0  Block  1, expected 2", "  h.1  Block  1, expected 2", MEND]
    both = ["rules.residual.match=['(attn|mlp).proj.weight']"]
    plan = initplug.plan(litgpt(), initplug.load("prenorm_transformer", both))
    assert plan["h.1.mlp.proj.weight"].std == pytest.approx(0.02 / 2)
    initplug.plan(litgpt(), initplug.load("prenorm_transformer", ["rules.residual.expect=null"]))


@pytest.mark.parametrize(
    "name",
    [
        "nanogpt",
        "prenorm_transformer",
        "transformers_gpt2",
        "transformers_modernbert",
        "timm_beit",
        "timm_vit_fix",
        "torchtitan_llama",
        "olmo",
    ],
)
def test_presets_that_scale_by_depth_expect_what_they_scale(name: str) -> None:
    rules = [rule for rule in initplug.load(name).rules.values() if rule is not None]
    scaled = [rule for rule in rules if any(one.counted in ("count", "place") for one in rule.init.factors)]
    assert scaled
    assert all(rule.expect is not None for rule in scaled)


def test_a_per_that_selects_no_module_is_an_error() -> None:
    assert unmet({"match": "fc"}, "hh.0", 1) == [
        'rule \'r\' "fc" expects 1 slot below each module of "hh.0", which selects no module; closest: h.0'
    ]
    assert unmet({"match": "fc"}, "<Blok>", 1)[0].endswith('of "<Blok>", which selects no module; closest: <Block>')
    assert len(unmet({"match": "fc"}, "*.weight", 1)) == 1  # tensors are no modules
    assert unmet({"match": "zzz", "optional": True}, "<Conv2d>", 1) == []
    assert len(unmet({"match": "zzz", "optional": True}, "<Linear>", 1)) == 7


def test_tied_slots_and_shared_modules_count_once() -> None:
    model = Net()
    model.fc.weight = model.emb.weight
    assert unmet({"match": "emb.weight"}, "<Net>", 1, model) == []
    assert unmet({"match": "emb.weight"}, "(emb|fc)", 1, model) == []  # below both of its places
    shared = Net()
    shared.h[1] = shared.h[0]
    assert unmet({"match": "*.weight"}, "<Block>", 4, shared) == []
    assert unmet({"match": "*.weight"}, "<Block>", 3, shared)[0].endswith("below the module")
    assert unmet({"match": "*.weight"}, "<ModuleList>", 4, shared) == []
    twice = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    twice["b"].weight = twice["a"].weight
    assert unmet({"match": "*.weight"}, "<ModuleDict>", 1, twice) == []


def test_frozen_slots_count_unless_the_rule_says_which_it_takes() -> None:
    model = Net()
    model.h[0].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", initplug.InitplugWarning)
        assert unmet({"match": "wq.weight"}, "h.*", 1, model) == []
        assert unmet({"match": "wq.weight", "trainable": True}, "h.*", 1, model)[1] == "  h.0  Block  0, expected 1"
        assert unmet({"match": "wq.weight", "trainable": "any"}, "h.*", 1, model) == []


def test_expectations_are_those_of_a_count_by_hand() -> None:
    model = Net(3)
    model.h[2].wk = model.h[0].wq  # a module at two places
    model.fc.weight = model.emb.weight
    modules = dict(model.named_modules())
    for pattern, owned in (("*.weight", lambda name: name.endswith("weight")), ("h.**", lambda name: "h." in name)):
        for name, module in modules.items():
            below = {id(p) for key, p in module.named_parameters() if owned(f"{name}.{key}".strip("."))}
            # Under whatever name: a tied tensor is selected by any of its own.
            every = {id(p) for key, p in model.named_parameters(remove_duplicate=False) if owned(key)}
            count = len({id(p) for p in module.parameters()} & every)
            assert below <= every
            per = f"^{name}" if name else "<Net>"
            assert unmet({"match": pattern}, per, count, model) == [], (pattern, name, count)
            assert unmet({"match": pattern}, per, count + 1, model) != []


def test_expectations_are_judged_on_the_whole_model() -> None:
    rules = {"r": {"match": "*", "init": 0, "expect": {"per": "<Net>", "times": 99}}}
    plan, lines = planned_and_told(Net().h[0], {"rules": rules}, prefix="h.0")
    assert lines == []
    assert [str(note) for note in plan.notes] == [
        "rule 'r': what it expects is judged on the whole model, and this is a part of one"
    ]
    with pytest.raises(initplug.PlanError, match="expected 99"):
        initplug.plan(Net(), {"rules": rules})
    with pytest.raises(initplug.PlanError, match="expected 99"):
        initplug.apply(Net(), {"rules": rules}, only="fc.weight")


def test_expectations_hold_on_meta_and_write_nothing() -> None:
    with torch.device("meta"):
        model = Net()
    assert unmet({"match": "wq.weight"}, "h.*", 2, model) != []
    real, rules = Net(), {"*": 0, "r": {"match": "wq.weight", "init": 0, "expect": {"per": "h.*", "times": 2}}}
    before = copied_state(real)
    with pytest.raises(initplug.PlanError, match="expects 2 slots"):
        initplug.apply(real, {"rules": rules})
    assert all(torch.equal(value, before[name]) for name, value in real.state_dict().items())
