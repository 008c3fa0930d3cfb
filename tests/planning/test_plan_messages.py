"""The exact text of what a plan or an apply finds wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import apply_error, plan_error
from torch import nn

import initplug


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attn = nn.Linear(8, 8)


class Odd(nn.Module):
    """Resets that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.zeros(3))
        self.basis = nn.Parameter(torch.zeros(3, 3))

    def reset_parameters(self) -> None:
        nn.init.eye_(self.basis)


def gpt() -> nn.Module:
    model = nn.Module()
    model.add_module("h", nn.ModuleList([Block(), Block()]))
    return model


def test_unmatched_parameters_name_the_closest_rule(tmp_path: Path) -> None:
    path = tmp_path / "gpt2_small.yaml"
    path.write_text('rules:\n  attn: {match: attn.*, init: 0}\n  norms: {match: "h.*.ln_1.*", init: 1}\n')
    assert plan_error(gpt(), path) == (
        f"4 of 12 parameters match no rule of {path}\n"
        "  h.0.ln_2.weight  LayerNorm  (8,)\n"
        "  h.0.ln_2.bias    LayerNorm  (8,)\n"
        "  h.1.ln_2.weight  LayerNorm  (8,)\n"
        "  h.1.ln_2.bias    LayerNorm  (8,)\n"
        f"closest: rule 'norms' \"h.*.ln_1.*\" ({path}:3)\n"
        "Add a rule, or set `unmatched: keep` to leave them as constructed."
    )


def test_at_most_ten_rows_are_shown() -> None:
    model = nn.Sequential(*(nn.LayerNorm(2) for _ in range(8)))
    lines = plan_error(model, {"rules": {"0.*": 0}}).splitlines()
    assert lines[0] == "14 of 16 parameters match no rule of the recipe"
    assert lines[11] == "… and 4 more"


def test_a_rule_of_the_wrong_type_is_near() -> None:
    text = plan_error(nn.Linear(2, 2), {"rules": {"*.bias": 0, "<Linaer>.weight": 1}, "unused": "ignore"})
    assert "closest: rule '<Linaer>.weight'" in text


MISFITS: list[tuple[Callable[[], nn.Module], Any, str]] = [
    (
        lambda: nn.LayerNorm(8),
        "kaiming_normal fan_out",
        "weight (8,): kaiming_normal: there is no fan_out below two dimensions; rule 'w' \"*.weight\"",
    ),
    (
        lambda: nn.Embedding(4, 3),
        "xavier_uniform effective",
        "weight (4, 3): xavier_uniform: an embedding is a look-up table and has no effective fans; rule 'w' \"*.weight\"",
    ),
    (
        lambda: nn.LayerNorm(8),
        "fan_uniform of=wieght",
        "weight (8,): fan_uniform takes the fan of another tensor, and LayerNorm has no 'wieght' (reference 'wieght'; did you mean weight?); "
        "rule 'w' \"*.weight\"",
    ),
    (
        lambda: nn.LayerNorm(8),
        "fan_uniform of=...weight",
        "weight (8,): fan_uniform takes the fan of another tensor, and '...weight' climbs above the model; "
        "rule 'w' \"*.weight\"",
    ),
    (
        lambda: nn.LayerNorm(8),
        "fan_uniform",
        "weight (8,): fan_uniform: there is no fan_in below two dimensions; rule 'w' \"*.weight\"",
    ),
    (
        lambda: nn.PReLU(1),
        "prior_bias uniform",
        "weight (1,): prior_bias does not fit: p=uniform over one class is certainty, whose logit is infinite; "
        "rule 'w' \"*.weight\"",
    ),
]


@pytest.mark.parametrize(("build", "init", "line"), MISFITS, ids=[str(init) for _, init, _ in MISFITS])
def test_what_does_not_fit_is_told_with_slot_shape_and_rule(build: Any, init: Any, line: str) -> None:
    recipe = {"unmatched": "keep", "rules": {"w": {"match": "*.weight", "init": init}}}
    head, row, *rest = plan_error(build(), recipe).splitlines()
    assert head == "1 initializer does not fit"
    assert row == f"  {line}"
    needs_fans = "below two dimensions" in line
    assert rest == (
        ["Restrict the rule with `ndim: '>=2'`, or add a later rule for them, such as `*.bias: 0`."]
        if needs_fans
        else []
    )


def test_defaults_that_cannot_be_told_say_why() -> None:
    assert plan_error(Odd(), {"rules": {"*": "default"}}).splitlines() == [
        "2 initializers do not fit",
        "  noise (3,): default: no reset of Odd or of a module around it writes it; `keep` leaves it as it is; rule '*'",
        "  basis (3, 3): default: eye has no closed form; `keep` leaves it as it is; rule '*'",
    ]


def test_defaults_that_cannot_be_told_on_meta_offer_rules_of_their_own() -> None:
    assert plan_error(Odd().to("meta"), {"rules": {"*": "default"}}).splitlines() == [
        "2 initializers do not fit",
        "  noise (3,): default: no reset of Odd or of a module around it writes it; give it a later rule of its own, such "
        "as `^noise: 1`; rule '*'",
        "  basis (3, 3): default: eye has no closed form; give it a later rule of its own, such as "
        "`^basis: normal std=0.02`; rule '*'",
    ]


def test_unmatched_parameters_on_meta_cannot_be_kept() -> None:
    assert plan_error(nn.LayerNorm(2, device="meta"), {"rules": {"*.bias": 0}}).splitlines()[-1] == (
        "Add a rule, or, for a model that is not on meta, set `unmatched: keep` to leave them as constructed."
    )


def test_unused_rules_name_what_is_near() -> None:
    recipe = {"unmatched": "keep", "unused": "error", "rules": {"atn.weight": 0, "<Conv2d>": 0}}
    assert plan_error(gpt(), recipe).splitlines() == [
        "2 rules of the recipe select nothing",
        "  rule 'atn.weight'; closest: h.1.attn.weight",
        "  rule '<Conv2d>'",
        "Mend the selector, remove the rule, or mark it `optional: true`.",
    ]


def test_an_unused_rule_warns_unless_told_otherwise() -> None:
    recipe = {"rules": {"*": 0, "fc.weight": 1}}
    with pytest.warns(initplug.InitplugWarning, match=r"1 rule of the recipe selects nothing\n  rule 'fc.weight'"):
        initplug.plan(nn.LayerNorm(2), recipe)


def test_selectors_without_effect_are_told_by_rule_and_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "unused: error\nrules:\n  '*': keep\n  attn: {match: [attn.weight, attn.bais], except: h.2.*, init: 0}\n"
        "  norms: {match: [<LayerNorm>.weight, <Linear>.bias], ndim: 2, init: 1}\n"
    )
    assert plan_error(gpt(), path).splitlines() == [
        f"1 rule of {path} selects nothing",
        f"  rule 'norms' \"<LayerNorm>.weight\" ({path}:5:19): selects only tensors of 1 dimension, and the rule's ndim "
        "is 2",
        f"  rule 'norms' \"<Linear>.bias\" ({path}:5:39): selects only tensors of 1 dimension, and the rule's ndim is 2",
        "Mend the selector, remove the rule, or mark it `optional: true`.",
        f"2 selectors of {path} have no effect",
        f"  rule 'attn', match \"attn.bais\" ({path}:4:31): selects nothing; closest: h.1.attn.bias",
        f"  rule 'attn', except \"h.2.*\" ({path}:4:51): takes nothing away",
        "Mend or remove them, or mark the rule `optional: true`.",
    ]


def test_a_rule_that_wins_nothing_is_told_where_to_go(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("unused: error\nrules:\n  scores: {match: attn.weight, init: 0}\n  '*.weight': 1\n  '*.bias': 0\n")
    assert plan_error(gpt(), path) == (
        f"1 rule of {path} wins nothing: the last rule that matches wins\n"
        f"  rule 'scores' \"attn.weight\" ({path}:3): rule '*.weight' ({path}:4) takes all of it and more; put it after "
        "'*.weight'\n"
        "Write general rules first; `optional: true` in a rule says that it may win nothing."
    )


def test_what_is_not_as_expected_is_told_by_module(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rules:\n  '*':\n    match: '*'\n    expect: {per: h.*, times: 5}\n    init: 0\n")
    assert plan_error(gpt(), path) == (
        f"rule '*' ({path}:2) expects 5 slots below each module of \"h.*\", and selects another number below 2 of 2 "
        "modules\n"
        "  h.0  Block  6, expected 5\n"
        "  h.1  Block  6, expected 5\n"
        "Mend `match` of the rule, or set its `expect` to null."
    )


def test_places_need_the_whole_model() -> None:
    recipe = {"rules": {"last": {"match": "h.-1", "init": 0}}}
    assert plan_error(gpt(), recipe, prefix="transformer") == (
        "rule 'last' counts in the model (h.-1), which takes the whole of it; "
        "plan the whole (meta) model and apply that Plan to the part"
    )


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "0"])
def test_a_seed_that_is_none(seed: Any) -> None:
    assert apply_error(nn.LayerNorm(2), "torch_default", seed=seed) == (
        f"seed={seed!r}: a seed is a whole number from 0 to 2^64 - 1, or None for torch's generator"
    )


@pytest.mark.parametrize("threads", [0, -2, 1.5, True])
def test_a_number_of_threads_that_is_none(threads: Any) -> None:
    assert apply_error(nn.LayerNorm(2), "torch_default", seed=0, threads=threads) == (
        f"threads={threads!r}: a number of threads is a whole number of at least 1"
    )


def test_nothing_to_keep_on_meta() -> None:
    assert apply_error(nn.LayerNorm(2, device="meta"), {"rules": {"*": "keep"}}) == (
        "2 of 2 slots cannot be written\n"
        "  weight: `keep` has nothing to keep: it is on meta (`keep default` draws what the resets of construction draw)\n"
        "  bias: `keep` has nothing to keep: it is on meta (`keep default` draws what the resets of construction draw)"
    )
    assert apply_error(nn.LayerNorm(2, device="meta"), {"unmatched": "keep", "rules": {"*.bias": 0}}) == (
        "1 of 2 slots cannot be written\n"
        "  weight: no rule takes it, and there is nothing to keep: it is on meta (give it a later rule of its own, such as "
        "`^weight: 1`)"
    )
    assert apply_error(Odd().to("meta"), {"rules": {"*": "keep"}}) == (
        "2 of 2 slots cannot be written\n"
        "  noise: `keep` has nothing to keep: it is on meta (give it a later rule of its own, such as `^noise: 1`)\n"
        "  basis: `keep` has nothing to keep: it is on meta (give it a later rule of its own, such as "
        "`^basis: normal std=0.02`)"
    )


def test_what_a_constructor_has_set_and_default_overwrites() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    for name, value in (("0.weight", 0), ("1.weight", 1e-5), ("2.bias", 0.1)):
        nn.init.constant_(model.get_parameter(name), value)
    with pytest.warns(initplug.InitplugWarning) as caught:
        initplug.apply(model, "torch_default", only=["0.weight"])
    assert str(caught[0].message) == (
        "1 tensor holds one value throughout, which no reset leaves there: `default` overwrites what has set it\n"
        "  0.weight (4, 4): 0, and `default` is uniform(-0.5, 0.5)\n"
        "Where that is not meant, give it a later rule of its own, such as `^0.weight: 0`, or keep it with "
        "`^0.weight: keep`."
    )
    with pytest.warns(initplug.InitplugWarning) as caught:
        initplug.apply(model, "torch_default")
    assert str(caught[0].message) == (
        "2 tensors hold one value throughout, which no reset leaves there: `default` overwrites what has set it\n"
        "  1.weight (4,): 1e-05, and `default` is constant(1)\n"
        "  2.bias (4,): 0.1, and `default` is uniform(-0.5, 0.5)\n"
        "Where that is not meant, give it a later rule of its own, such as `^1.weight: 1e-05`, or keep it with "
        "`^1.weight: keep`."
    )
    many = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(12))
    for layer in many:
        nn.init.zeros_(layer.get_parameter("weight"))
    with pytest.warns(initplug.InitplugWarning) as caught:
        initplug.apply(many, "torch_default")
    assert str(caught[0].message).splitlines()[0].startswith("12 tensors hold")
    assert [line.split()[0] for line in str(caught[0].message).splitlines()[1:-1]] == [
        *(f"{place}.weight" for place in range(10)),
        "…",
    ]


def test_a_buffer_on_meta_that_nothing_restores() -> None:
    model = nn.Linear(2, 2, device="meta")
    model.register_buffer("mask", torch.ones(2, device="meta"))
    assert apply_error(model, "torch_default") == (
        "1 tensor cannot be written\n"
        "  mask: it is a buffer on meta, and nothing restores it (build it on a device, or under "
        "`initplug.deferred()` if it was not, or add a rule with `kind: buffer`)"
    )


def test_expanded_tensors_are_refused() -> None:
    model = nn.Module()
    model.register_parameter("w", nn.Parameter(torch.zeros(1, 3).expand(4, 3)))
    assert "w: it is expanded: several elements share one place in memory" in apply_error(
        model, {"rules": {"*": "normal"}}
    )


def test_a_plan_of_another_model_is_refused() -> None:
    plan = initplug.plan(nn.Sequential(nn.LayerNorm(2)), "torch_default")
    assert apply_error(nn.Sequential(nn.LayerNorm(3), nn.LayerNorm(2)), plan).splitlines() == [
        "the plan is of another model",
        "  0.weight: its shape is (3,), the plan's (2,)",
        "  0.bias: its shape is (3,), the plan's (2,)",
        "  1.weight: the plan has no such slot (did you mean 0.weight?)",
        "  1.bias: the plan has no such slot (did you mean 0.bias?)",
    ]


def test_an_unfinished_plan_is_refused() -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(nn.LayerNorm(2), {"rules": {"*.bias": 0}})
    assert apply_error(nn.LayerNorm(2), caught.value.plan) == (
        "the plan is unfinished: it was made with 1 findings\n"
        "  weight: (2,) matches no rule (Add a rule, or set `unmatched: keep` to leave them as constructed.)"
    )


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("a..b", "only='a..b': bad selector: empty segment between dots (column 3)"),
        ("wieght", "only='wieght' selects nothing (did you mean weight?)"),
        (3, "only= is a selector or names, not 3"),
        (
            ["weight", "bais"],
            "only= holds 1 entry that names and selects nothing\n"
            "  bais: the model has no such tensor, and it selects nothing (did you mean bias?)",
        ),
    ],
)
def test_only_says_what_it_does_not_find(only: Any, expected: str) -> None:
    assert apply_error(nn.LayerNorm(2), "torch_default", only=only) == expected


def test_a_model_is_a_module() -> None:
    with pytest.raises(initplug.PlanError, match=r"^a model is a torch.nn.Module, not a dict$"):
        initplug.plan({}, "resnext")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("prefix", ["a.", ".a", "a..b"])
def test_a_prefix_is_a_name(prefix: str) -> None:
    with pytest.raises(initplug.PlanError, match="is no dotted name such as 'layers.17'"):
        initplug.plan(nn.LayerNorm(2), "torch_default", prefix=prefix)


def test_an_unknown_slot_has_a_neighbour() -> None:
    plan = initplug.plan(nn.LayerNorm(2), "torch_default")
    with pytest.raises(KeyError, match=r"the plan has no slot 'wight' \(did you mean weight\?\)"):
        plan["wight"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.jsn", r"unknown suffix '\.jsn' \(did you mean \.json\?\)"),
        ("none/a.json", "cannot be written: there is no folder"),
        (".", "unknown suffix"),
    ],
)
def test_reports_that_cannot_be_written_say_why(tmp_path: Path, name: str, reason: str) -> None:
    audit = initplug.apply(nn.LayerNorm(2), "torch_default")
    with pytest.raises(initplug.InitplugError, match=reason):
        audit.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_parameters_is_told() -> None:
    recipe: Any = {"unused": "ignore", "rules": {"*": 0}}
    model = nn.Sequential(nn.ReLU(), nn.Flatten())
    said = "the Sequential has no parameters, so that there is nothing to initialise; is it built later?"
    for act in (initplug.plan, initplug.apply, initplug.audit):
        with pytest.warns(initplug.InitplugWarning) as told:
            assert len(act(model, recipe)) == 0
        assert [str(warning.message) for warning in told] == [said]
    assert len(initplug.plan(model, recipe, prefix="stage")) == 0  # of the whole, a part may well have none


def test_a_name_is_near_by_the_segments_that_a_selector_has() -> None:
    block = nn.ModuleDict({"down": nn.Linear(4, 4)})
    model = nn.ModuleDict({"tokens": nn.Embedding(4, 4), "blocks": nn.ModuleList([block])})
    recipe = {"unused": "error", "rules": {"*": 0, "down.weights": 1}}
    assert "rule 'down.weights'; closest: blocks.0.down.weight" in plan_error(model, recipe)
