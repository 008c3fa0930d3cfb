from __future__ import annotations

import csv
import io
import json
import keyword
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from untouched import untouched

import initplug

LEGAL = [
    *keyword.kwlist[:6], "self", "__proto__", "weight", "-1", "0", "007", "1e-3", "null", "true", "~", "---", "=1+1",
    "a b", " lead", "trail ", "\t", "\n", "a\nb", "\r\n", "\x00", "\x1b[31mred", "\u200b", "\u202ertl", "e\u0301", "é",
    "名前", "🙂", "*", "**", "?", "[x]", "[!x]", "[", "]", "(a|b)", "(", ")", "|", "<Linear>", "<", ">", "^",
    "^w", "'", '"', "`", "\\", "{", "}", "${x}", "#", "&amp;", "<script>", "%s", "{0}", ",", ";", ":", "a:b",
    "x" * 2000,
]  # fmt: skip


def reserved(name: str) -> bool:
    return hasattr(nn.Module(), name) or "." in name or not name


def test_every_legal_name_is_a_slot_that_can_be_reached_and_told() -> None:
    model = nn.Module()
    names = [name for name in dict.fromkeys(LEGAL) if not reserved(name)]
    for name in names:
        model.register_parameter(name, nn.Parameter(torch.zeros(2)))
    for name in names:
        model.add_module(f"{name}_", nn.Linear(1, 2))
    raw = [name for name, _ in model.named_parameters()]
    audit = initplug.apply(model, {"rules": {"*": 1, "<Linear>.weight": 2, "<Linear>.bias": 3}})
    assert [row.name for row in audit] == raw and audit.problems() == []
    for name, parameter in model.named_parameters():
        expected = 1 if name in names else 2 if name.endswith(".weight") else 3
        assert audit[name].name == name and bool((parameter == expected).all())
    for name in raw:
        partial = initplug.apply(model, {"rules": {"*": 5}}, only=[name])
        assert [row.name for row in partial if row.status == "initialized"] == [name]
    assert all(bool((parameter == 5).all()) for parameter in model.parameters())
    assert [row["name"] for row in json.loads(audit.to_json())["rows"]] == raw
    told = list(csv.DictReader(io.StringIO(audit.to_csv(), newline="")))
    assert len(told) == len(raw)
    lines = [line for line in audit.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) >= len(raw)


@pytest.mark.parametrize("name", ["*", "[x]", "(a|b)", "<Linear>", "^w", "a b", "-1", "a\nb", "\x1b[31mred"])
def test_refusals_of_odd_names_are_readable(name: str) -> None:
    model = nn.Module()
    model.register_parameter(name, nn.Parameter(torch.zeros(1).expand(4)))
    with untouched(model), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {"rules": {"*": 1}})
    assert [finding.path for finding in caught.value.findings] == [name]
    with pytest.raises(initplug.ApplyError) as missing:
        initplug.apply(model, {"rules": {"*": 1}}, only=[f"{name}x"])
    assert [finding.path for finding in missing.value.findings] == [f"{name}x"]


def test_messages_and_warnings_show_what_names_hold_as_escapes() -> None:
    model = nn.Module()
    model.register_parameter("\x1b[31mred\u202e\ud800", nn.Parameter(torch.zeros(1).expand(4)))
    with pytest.raises(initplug.PlanError) as unmatched:
        initplug.plan(model, {"rules": {"r": {"match": "x", "init": 0, "optional": True}}})
    assert r"  \x1b[31mred\u202e\ud800  Module  (4,)" in str(unmatched.value).splitlines()
    assert [finding.path for finding in unmatched.value.findings] == ["\x1b[31mred\u202e\ud800"]
    with pytest.raises(initplug.ApplyError) as unwritable:
        initplug.apply(model, {"rules": {"*": 1}}, only=["a\nb\x07"])
    assert "\n  " + r"a\nb\x07: " in str(unwritable.value)
    told = "rule 'bell' \"\\x07*\""
    with pytest.warns(initplug.InitplugWarning, match=re.escape(told)):
        initplug.plan(model, {"unmatched": "keep", "rules": {"bell": {"match": "\x07*", "init": 0}}})


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("[*]", "*"),
        ("[[]x[]]", "[x]"),
        ("[(]a[|]b[)]", "(a|b)"),
        ("?Linear?", "<Linear>"),
        ("?w", "^w"),
        ("a b", "a b"),
    ],
)
def test_selectors_reach_odd_names_through_classes_of_characters(selector: str, name: str) -> None:
    model = nn.ParameterDict()
    for other in ("*", "[x]", "(a|b)", "<Linear>", "^w", "a b", "plain", "ab"):
        model.register_parameter(other, nn.Parameter(torch.zeros(2)))
    plan = initplug.plan(model, {"rules": {"*": 0, "one": {"match": selector, "init": 1}}})
    assert [row.name for row in plan if row.rule == "one"] == [name]


def test_parametrized_tensors_of_odd_names() -> None:
    for name in ("名前", "a b", "[x]", "<Linear>", "a\nb"):
        model = nn.Module()
        model.register_parameter(name, nn.Parameter(torch.ones(4, 4)))
        parametrizations.weight_norm(model, name)
        audit = initplug.apply(model, {"rules": {"*": "normal std=0.5"}}, only=[name])
        assert [(row.name, row.status, row.verdict) for row in audit] == [(name, "initialized", "ok")]


@pytest.mark.parametrize("seed", [None, 0])
def test_two_tensors_of_one_name_are_refused(seed: int | None) -> None:
    model = nn.Module()
    model.a = nn.Module()
    model.a.b = nn.Parameter(torch.full((3,), 5.0))
    model._parameters["a.b"] = nn.Parameter(torch.full((3,), 5.0))
    with pytest.raises(initplug.PlanError, match=r"2 tensors are called a\.b, so that no rule"):
        initplug.apply(model, {"rules": {"*": "normal"}}, seed=seed)
    assert all((parameter == 5).all() for parameter in model.parameters())
