"""What `only=` takes: names, selectors, missing keys of real checkpoints; and how little a table then shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from untouched import untouched

import initplug
from initplug.errors import InitplugWarning

RECIPE: dict[str, Any] = {"rules": {"*.weight": "normal std=0.02", "*.bias": 0}}

NOTHING = "only= holds 1 entry that names and selects nothing"

COMPILED = pytest.param(
    torch.compile,
    id="_orig_mod.",
    marks=pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning"),  # of torch's own import
)


def names_written(audit: Iterable[initplug.Assignment]) -> list[str]:
    return [row.name for row in audit if row.status == "initialized"]  # type: ignore[attr-defined]  # rows of an audit


class TiedAround(nn.Module):
    """An embedding that is also the head, and a layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.new, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.emb.weight


def stack() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))


# Entries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["-1", "0.weight"], ["0.weight", "2.weight", "2.bias"]),
        (("*.bias", "^0"), ["0.weight", "0.bias", "1.bias", "2.bias"]),
        ({"1.bias", "<Linear>.weight"}, ["0.weight", "1.weight", "1.bias", "2.weight"]),
        ({"1.bias": 3}.keys(), ["1.bias"]),
        ({"1.bias": 3, "0.bias": 4}, ["0.bias", "1.bias"]),
        ((name for name in ("1.bias", "1.bias")), ["1.bias"]),
        (np.array(["1.bias", "2.*"]), ["1.bias", "2.weight", "2.bias"]),
        (np.str_("1.bias"), ["1.bias"]),
        ([], []),
        (iter(()), []),
    ],
)
def test_entries_are_names_and_selectors(only: Any, expected: list[str]) -> None:
    assert names_written(initplug.apply(stack(), RECIPE, only=only)) == expected


def test_an_entry_that_is_a_name_is_no_selector() -> None:
    model = nn.Module()
    model.scale = nn.Parameter(torch.ones(3))
    model.inner = nn.ParameterDict({"scale": torch.ones(3)})
    recipe = {"rules": {"*": 2}}
    assert names_written(initplug.apply(model, recipe, only=["scale"])) == ["scale"]
    assert names_written(initplug.apply(model, recipe, only=["**.scale"])) == ["scale", "inner.scale"]
    assert names_written(initplug.apply(model, recipe, only="scale")) == ["scale", "inner.scale"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (
            ["0.wieght", "1.bias", "9", "a..b", 3],
            [
                "only= holds 4 entries that name and select nothing",
                "  a..b: the model has no such tensor, and it is no selector: empty segment between dots",
                "  0.wieght: the model has no such tensor, and it selects nothing (did you mean 0.weight?)",
                "  9: the model has no such tensor, and it selects nothing",
                "  3: it is no text",
            ],
        ),
        (
            ["1.biass"],
            [
                NOTHING,
                "  1.biass: the model has no such tensor, and it selects nothing (did you mean 1.bias?)",
            ],
        ),
        ([b"1.bias"], [NOTHING, "  b'1.bias': it is no text"]),
        (b"1", [NOTHING, "  49: it is no text"]),
    ],
)
def test_what_names_and_selects_nothing_is_refused_all_at_once(only: Any, expected: list[str]) -> None:
    model = stack()
    with untouched(model), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, RECIPE, only=only)
    assert str(caught.value).splitlines() == expected


@pytest.mark.parametrize("method", ["state_dict", "named_parameters", "named_buffers"])
@pytest.mark.parametrize("gives", [RuntimeError("no state"), None, {3: torch.ones(1)}, {"l.bias": 3}])
def test_names_are_known_whatever_a_model_says_of_itself(method: str, gives: Any) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.l = nn.Linear(8, 8)

    def said(*_: Any, **__: Any) -> Any:
        if isinstance(gives, Exception):
            raise gives
        return gives

    model = Odd()
    setattr(model, method, said)
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, RECIPE, seed=0, only=["l.weigth"])
    assert str(caught.value).splitlines() == [
        NOTHING,
        "  l.weigth: the model has no such tensor, and it selects nothing (did you mean l.weight?)",
    ]
    assert names_written(initplug.apply(model, RECIPE, seed=0, only=["l.weight", "*.bias"])) == ["l.weight", "l.bias"]


def test_meta_slots_that_are_not_chosen_stay_there_and_buffers_may_be_named() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    audit = initplug.apply(model, {"rules": {"*": 1}}, only=["1.running_mean", "0.*"], seed=0)
    assert names_written(audit) == ["0.weight", "0.bias"]
    assert {name for name, tensor in model.state_dict().items() if not tensor.is_meta} == {
        "0.weight",
        "0.bias",
        "1.running_mean",
    }


def test_names_of_a_part_are_those_of_the_whole_or_its_own() -> None:
    for only in (["stage.0.weight"], ["0.weight"], ["stage.0.*weight"]):
        inner = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
        assert names_written(initplug.apply(inner, RECIPE, prefix="stage", only=only)) == ["stage.0.weight"]


def test_a_part_knows_the_names_that_its_tensors_have_in_the_whole() -> None:
    plan = initplug.plan(TiedAround(), RECIPE)
    for only in ("emb.weight", "head.weight"):
        part = nn.Linear(8, 20, bias=False)
        assert names_written(initplug.apply(part, plan, prefix="head", seed=0, only=[only])) == ["emb.weight"]


# What is judged ---------------------------------------------------------------------------------------------


def test_what_lies_outside_is_not_judged() -> None:
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
    rules = {"head.weight": "normal std=0.01", "head.bias": 0, "body.bias": "xavier_uniform"}
    audit = initplug.apply(model, {"rules": rules}, only=["head.weight", "head.bias"])
    assert audit.summary["status"] == {"kept": 2, "initialized": 2}
    assert {row.reason for row in audit if row.status == "kept"} == {"not in only"}
    assert audit.unmatched == ()

    with untouched(model), pytest.raises(initplug.PlanError) as caught:
        initplug.apply(model, {"rules": rules}, only=["head.weight", "body.**"])
    assert [finding.path for finding in caught.value.findings] == ["body.weight", "body.bias"]


def test_rules_are_unused_on_the_whole_model() -> None:
    rules = {**RECIPE["rules"], "ghost.weight": 1}
    initplug.apply(stack(), {"rules": {"0.**": 1, "1.**": 2}}, only="^0")
    with pytest.warns(InitplugWarning, match="1 rule of the recipe selects nothing"):
        initplug.apply(stack(), {"rules": rules}, only="^0")
    with pytest.raises(initplug.PlanError, match="ghost"):
        initplug.apply(stack(), {"unused": "error", "rules": rules}, only="^0")


# Tied tensors ---------------------------------------------------------------------------------------------------


def test_a_tensor_that_was_loaded_under_another_name_keeps_what_was_loaded() -> None:
    model, loaded = TiedAround(), torch.full((20, 8), 3.0)
    missing = model.load_state_dict({"emb.weight": loaded}, strict=False).missing_keys
    assert missing == ["new.weight", "new.bias", "head.weight"]
    with pytest.warns(InitplugWarning) as caught:
        audit = initplug.apply(model, RECIPE, seed=0, only=missing)
    assert torch.equal(model.emb.weight, loaded)
    assert model.new.weight.std() < 0.1
    row = audit["head.weight"]
    assert (row.name, row.status, row.reason) == ("emb.weight", "kept", "tied to emb.weight, not listed")
    assert [str(each.message).splitlines() for each in caught] == [
        [
            "only= lists 1 tensor in part, which keeps its values",
            "  head.weight is listed, emb.weight is not",
            "To write it, list all of its names, or the selector '^emb.weight'.",
        ]
    ]
    initplug.apply(model, RECIPE, seed=0, only=["^emb.weight"])
    assert not torch.equal(model.emb.weight, loaded)


def test_the_selector_that_is_offered_selects_the_tensor_alone_under_wrappers_and_prefixes() -> None:
    class Weighty(TiedAround):
        def __init__(self) -> None:
            super().__init__()
            self.weight = self.emb.weight

    for model, listed in ((Weighty(), "head.weight"), (nn.DataParallel(Weighty()), "module.head.weight")):
        with pytest.warns(InitplugWarning, match=r"or the selector '\^weight'\.$"):
            initplug.apply(model, RECIPE, only=[listed])
        assert names_written(initplug.apply(model, RECIPE, only=["^weight"])) == ["weight"]
    with pytest.warns(InitplugWarning, match=r"or the selector '\^a\.b\.weight'\.$"):
        initplug.apply(Weighty(), RECIPE, prefix="a.b", only=["head.weight"])
    assert names_written(initplug.apply(Weighty(), RECIPE, prefix="a.b", only=["^a.b.weight"])) == ["a.b.weight"]


def test_several_tensors_that_are_listed_in_part() -> None:
    model = nn.ModuleDict({"one": TiedAround(), "two": TiedAround()})
    with pytest.warns(InitplugWarning) as caught:
        initplug.apply(model, RECIPE, only=["two.emb.weight", "one.head.weight"])
    assert [str(each.message).splitlines() for each in caught] == [
        [
            "only= lists 2 tensors in part, which keep their values",
            "  one.head.weight is listed, one.emb.weight is not",
            "  two.emb.weight is listed, two.head.weight is not",
            "To write them, list all of their names, or selectors such as '^one.emb.weight'.",
        ]
    ]


@pytest.mark.parametrize("wrap", [pytest.param(nn.DataParallel, id="module."), COMPILED])
def test_names_under_wrappers_are_those_of_the_same_places(wrap: Any) -> None:
    model, loaded = wrap(TiedAround()), torch.full((20, 8), 3.0)
    start = next(iter(model.state_dict())).partition("emb")[0]
    missing = model.load_state_dict({f"{start}head.weight": loaded}, strict=False).missing_keys
    assert f"{start}emb.weight" in missing
    with pytest.warns(InitplugWarning, match=f"{start}emb.weight is listed, head.weight is not"):
        audit = initplug.apply(model, RECIPE, only=missing)
    assert names_written(audit) == ["new.weight", "new.bias"]
    assert audit["emb.weight"].reason == "tied to head.weight, not listed"
    every = [*missing, "head.weight"]  # one as torch calls it, the other by its canonical name
    assert names_written(initplug.apply(model, RECIPE, only=every)) == ["emb.weight", "new.weight", "new.bias"]


def test_a_parametrized_tensor_is_taken_where_all_that_it_is_computed_from_is_missing() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    scale, direction = (f"0.parametrizations.weight.original{index}" for index in (0, 1))
    assert names_written(initplug.apply(model, RECIPE, only=[scale, direction])) == ["0.weight"]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("norm", "stored"),
    [
        (parametrizations.weight_norm, ["0.parametrizations.weight.original0", "0.parametrizations.weight.original1"]),
        (nn.utils.weight_norm, ["0.weight_g", "0.weight_v"]),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_part_of_a_parametrized_tensor_leads_to_its_public_name(norm: Any, stored: list[str], place: int) -> None:
    model = nn.Sequential(norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    listed, other = stored[place], stored[1 - place]
    with untouched(model), pytest.warns(InitplugWarning) as caught:
        audit = initplug.apply(model, RECIPE, seed=0, only=[listed])
    assert audit["0.weight"].reason == f"also stored as {other}, not listed"
    assert [str(each.message).splitlines() for each in caught] == [
        [
            "only= lists 1 tensor in part, which keeps its values",
            f"  {listed} is listed, {other} is not: 0.weight is stored as 2 tensors",
            "To write it, list all of its names, or the selector '^0.weight'.",
        ]
    ]
    for way_out in (stored, ["^0.weight"], ["0.weight"]):
        assert names_written(initplug.apply(model, RECIPE, seed=0, only=way_out)) == ["0.weight"]
    for entry in (f"**.{listed}", f"{listed[:-1]}*"):
        with pytest.raises(initplug.ApplyError, match=r"selects nothing \(did you mean 0\.weight\?\)$"):
            initplug.apply(model, RECIPE, seed=0, only=[entry])


def test_nobody_is_warned_of_a_tied_tensor_that_would_be_kept_all_the_same() -> None:
    model = TiedAround()
    rules = {**RECIPE["rules"], "kept": {"match": "emb", "init": "keep"}}
    audit = initplug.apply(model, {"rules": rules}, only=["head.weight", "new.bias"])
    assert names_written(audit) == ["new.bias"]


# Nothing to write -------------------------------------------------------------------------------------------------


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("does", [initplug.apply, initplug.audit])
@pytest.mark.parametrize(
    ("unmatched", "only", "message"),
    [
        ("error", ["1.running_mean"], "1.running_mean; rules take buffers with `kind: buffer`"),
        (
            "error",
            ["1.num_batches_tracked", "1.running_var"],
            "1.num_batches_tracked, 1.running_var; rules take buffers with `kind: buffer`",
        ),
        ("keep", "*.bias", "0.bias, 1.bias"),
        ("keep", ["0.bias", "1.running_mean"], "1.running_mean, 0.bias; rules take buffers with `kind: buffer`"),
    ],
)
def test_a_choice_of_which_no_rule_takes_anything_is_warned_of(
    does: Any, unmatched: str, only: Any, message: str
) -> None:
    model = normed()
    recipe = {"unmatched": unmatched, "rules": {"*.weight": 1} | ({"*.bias": 0} if unmatched == "error" else {})}
    with untouched(model), pytest.warns(InitplugWarning) as caught:
        does(model, recipe, seed=0, only=only)
    assert [str(each.message) for each in caught] == [f"only= chooses nothing that a rule takes: {message}"]


def test_buffers_that_no_rule_takes_are_welcome_beside_what_one_does() -> None:
    model = normed()
    missing = ["1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert names_written(initplug.apply(model, RECIPE, only=missing)) == ["1.weight", "1.bias"]
    kept = {"rules": {"*.weight": "keep", "*.bias": 0}}
    assert names_written(initplug.apply(model, kept, only=["1.weight", "1.running_mean"])) == []
    model.get_submodule("1").requires_grad_(False)
    with pytest.warns(InitplugWarning, match="frozen") as caught:
        initplug.apply(model, RECIPE, only=["1.weight"])
    assert len(caught) == 1


def test_the_vectors_of_a_norm_are_nothing_to_choose_on_meta_either() -> None:
    with torch.device("meta"):
        model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)))
    with pytest.warns(InitplugWarning, match=r"nothing that a rule takes: 0\.parametrizations\.weight\.0\._u;"):
        initplug.apply(model, RECIPE, seed=0, only=["0.parametrizations.weight.0._u"])


def test_a_selector_of_buffers_that_no_rule_takes_says_so_and_its_way_out_works() -> None:
    model, rules = normed(), {**RECIPE["rules"], "means": {"match": "*.running_mean", "kind": "buffer", "init": 3}}
    why = "selects only buffers that no rule takes (rules take buffers with `kind: buffer`)"
    for only, expected in (
        ("1.running_mean", f"only='1.running_mean' {why}"),
        (
            ["**.running_*", "0.bias"],
            f"{NOTHING}\n  **.running_*: the model has no such tensor, and it {why}",
        ),
    ):
        with untouched(model), pytest.raises(initplug.ApplyError) as caught:
            initplug.apply(model, RECIPE, seed=0, only=only)
        assert str(caught.value) == expected
    for chosen in ("1.running_mean", ["**.running_*"], ["1.running_mean"]):
        assert names_written(initplug.apply(model, {"rules": rules}, seed=0, only=chosen)) == ["1.running_mean"]


def test_an_audit_warns_of_what_is_listed_in_part() -> None:
    model = TiedAround()
    initplug.apply(model, RECIPE, seed=0)
    with pytest.warns(InitplugWarning) as caught:
        initplug.audit(model, RECIPE, seed=0, only=["emb.weight"])
    assert [str(each.message).splitlines() for each in caught] == [
        [
            "only= lists 1 tensor in part, which is not judged",
            "  emb.weight is listed, head.weight is not",
            "To judge it, list all of its names, or the selector '^emb.weight'.",
        ]
    ]
    assert initplug.audit(model, RECIPE, seed=0, only=["^emb.weight"])["emb.weight"].verdict == "exact"


# Tables -----------------------------------------------------------------------------------------------------------


def partial() -> initplug.Audit:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)), nn.Embedding(3, 4).requires_grad_(False))
    recipe = {"name": "mine", "rules": {"w": {"match": "*.weight", "init": 1, "trainable": True}, "*.bias": 0}}
    return initplug.apply(model, recipe, only=["^0", "5.weight"])


LEFT = "… 9 more kept: 8 not in only, 1 frozen"


def test_a_table_shows_what_was_written_and_one_line_for_the_rest() -> None:
    audit = partial()
    for text in (str(audit), audit.to_text(width=60), audit.to_markdown(every=False), audit._repr_html_()):
        assert LEFT in text
        assert "0.weight" in text and "3.weight" not in text and "5.weight" not in text
    lines = audit.to_text(width=200).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["0.weight", "0.bias", "…", "mine:"]


def test_every_row_is_shown_where_every_row_is_asked_for() -> None:
    audit = partial()
    for text in (audit.to_text(every=True), audit.to_markdown(), audit.to_json(), audit.to_csv()):
        assert LEFT not in text
        assert all(f"{index}.weight" in text for index in range(6))


def test_the_page_holds_every_row_and_the_line() -> None:
    html = partial().to_html()
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    assert (data["left"], len(data["names"])) == (LEFT, 11)


def test_an_audit_without_only_hides_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Embedding(3, 4).requires_grad_(False))
    recipe = {"rules": {"*": {"init": 1, "trainable": True}}}
    assert "1.weight" in str(initplug.apply(model, recipe))
    assert "more kept" not in str(initplug.apply(model, recipe))
    assert "more kept" not in str(initplug.apply(model, recipe, only="*"))
