"""An audit beside an older one: what counts as a change, and how it is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.auditing.compare import changes, comparison, load_report

RECIPE: dict[str, Any] = {"rules": {"w": {"match": "*.weight", "init": "normal std=0.02"}, "*.bias": 0}}


def model() -> nn.Module:
    return nn.ModuleDict({"h": nn.ModuleList(nn.Linear(64, 64) for _ in range(12)), "head": nn.Linear(64, 8)})


def compared(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return comparison(changes(old, new), "old.json").splitlines()


def test_weights_that_were_written_are_what_they_were_when_read() -> None:
    net = model()
    for seed in (None, 0):
        written = initplug.apply(net, RECIPE, seed=seed).to_dict()
        read = initplug.audit(net, RECIPE).to_dict()
        assert changes(json.loads(json.dumps(written)), read) == []
        assert (
            changes(json.loads(json.dumps(read)), initplug.audit(net, RECIPE, seed=0).to_dict()) == [] or seed is None
        )
    assert compared(written, read) == ["every row is what it was in old.json"]


def test_changed_rows_are_told_by_rule_and_alike_ones_together() -> None:
    net = model()
    old = initplug.apply(net, RECIPE, seed=0).to_dict()
    rules = {**RECIPE["rules"], "*.bias": 1, "late": {"match": "^head.weight", "init": "normal std=0.5"}}
    new = initplug.apply(net, {"rules": rules}, seed=0).to_dict()
    assert compared(old, new) == [
        "14 rows are not what they were in old.json",
        "rule *.bias: 13",
        "  h.0-11.bias  init: constant 0 → constant 1; values: 0 → 1",
        "  head.bias    init: constant 0 → constant 1; values: 0 → 1",
        "rule late: 1",
        "  head.weight  rule: w → late; init: normal std=0.02 → normal std=0.5; "
        "values: 0.0015 ± 0.02026 → 0.037 ± 0.5064",
    ]
    assert len(comparison(changes(old, new), "old.json", every=True).splitlines()) == 1 + 2 + 14


def test_other_values_of_blocks_are_told_as_one_sample() -> None:
    net = model()
    old = initplug.apply(net, RECIPE, seed=0).to_dict()
    new = initplug.apply(net, RECIPE, seed=1).to_dict()
    lines = compared(old, new)
    assert [line.split()[0] for line in lines] == ["13", "rule", "h.0-11.weight", "head.weight"]
    row = initplug.apply(net, RECIPE, seed=0)["h.0.weight"]
    assert row.std is not None
    found = re.fullmatch(r"  h.0-11.weight  values: \S+ ± (\S+) → \S+ ± (\S+)", lines[2])
    assert found is not None
    assert [float(text) for text in found.groups()] == pytest.approx([row.std] * 2, rel=0.02)


def test_one_changed_value_is_seen() -> None:
    net = model()
    old = initplug.apply(net, RECIPE, seed=0).to_dict()
    with torch.no_grad():
        net.get_parameter("h.3.weight")[0, 0] = 0.0700001
    new = initplug.audit(net, RECIPE).to_dict()
    assert compared(old, new)[:2] == ["1 row is not what it was in old.json", "rule w: 1"]
    assert [change.name for change in changes(old, new)] == ["h.3.weight"]


def test_rows_come_and_go() -> None:
    net = model()
    old = initplug.apply(net, RECIPE, seed=0).to_dict()
    del net.head
    net.tail = nn.Linear(2, 2)
    new = initplug.apply(net, RECIPE, seed=0).to_dict()
    assert compared(old, new) == [
        "4 rows are not what they were in old.json",
        "rule w: 2",
        "  tail.weight  new",
        "  head.weight  gone",
        "rule *.bias: 2",
        "  tail.bias  new",
        "  head.bias  gone",
    ]


def test_a_plan_can_be_compared_too() -> None:
    plan = initplug.plan(model(), RECIPE).to_dict()
    assert changes(plan, initplug.apply(model(), RECIPE).to_dict()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no audit saved as .json: Expecting value"),
        (b"\x80\x81", "is no audit saved as .json: 'utf-8' codec"),
        (b"[]", "it has no rows with a name and a rule"),
        (b'{"rows": [3]}', "it has no rows with a name and a rule"),
        (b'{"rows": [{"name": "a"}]}', "it has no rows with a name and a rule"),
        (b'{"rows": [{"name": "a", "rule": null, "measured_mean": "x"}]}', "it has no rows with a name and a rule"),
        (b'{"schema": 2, "rows": []}', "its schema is 2, and this version reads schema 1"),
        (b'{"rows": []}', "its schema is –"),
        (b"[" * 100_000, "is no audit saved as .json"),
    ],
)
def test_what_is_no_audit_is_told_in_a_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(content)
    with pytest.raises(initplug.InitplugError) as caught:
        load_report(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(initplug.InitplugError, match=r"cannot be read: Is a directory"):
        load_report(tmp_path)
