"""`default` takes from a recording what no reset writes, says where it is from, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import invoke
from torch import nn

import initplug
from initplug.schemes.compositions import Keep
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.fc = nn.Linear(width, width)
        self.gamma = nn.Parameter(1e-5 * torch.ones(width))
        nn.init.trunc_normal_(self.token, std=0.5, a=-1, b=1)
        nn.init.normal_(self.fc.weight, std=0.3)


class Odd(Net):
    def __init__(self):
        super().__init__()
        self.product = nn.Parameter(torch.randn(3) * torch.rand(3))
        self.again = nn.Parameter(self.places.detach().clone())
        self.frozen = nn.Parameter(torch.rand(3), requires_grad=False)
        self.tied = self.gamma
"""

scope: dict[str, Any] = {"__name__": "net"}
exec(compile(NET, "net.py", "exec"), scope)
Net, Odd = scope["Net"], scope["Odd"]

EXPECTED = {
    "token": (TruncatedNormal(0.0, 0.5, -1.0, 1.0), 13),
    "places": (Normal(0.0, 0.02), 10),
    "gamma": (Constant(pytest.approx(1e-5)), 12),  # type: ignore[arg-type]  # compared with a float
}
"""Of each parameter that no reset writes: the distribution, and the line of `NET` that wrote it."""


def test_what_no_reset_writes_is_as_recorded_and_says_so() -> None:
    plan = initplug.plan(Net(), "torch_default_strict", recorded=initplug.record(Net))
    for name, (distribution, line) in EXPECTED.items():
        assert plan[name].distribution == distribution
        assert str(plan[name].note).split("; ")[0] == f"as recorded of net.py:{line}"
        assert f"as recorded of net.py:{line}" in plan.to_text(width=200)
    rows = {row["name"]: row for row in json.loads(plan.to_json())["rows"]}
    assert rows["places"]["note"] == "as recorded of net.py:10"


def test_what_a_reset_writes_is_what_it_writes() -> None:
    plan = initplug.plan(Net(), "torch_default", recorded=initplug.record(Net))
    weight = plan["fc.weight"].distribution
    assert isinstance(weight, Uniform)
    assert (weight.low, weight.high) == pytest.approx((-(32**-0.5), 32**-0.5))
    assert plan["fc.weight"].note is None
    assert plan["fc.bias"].note is None


@pytest.mark.parametrize("meta", [False, True])
def test_what_is_planned_is_drawn(meta: bool) -> None:
    recording = initplug.record(Net, meta=True)
    if meta:
        with initplug.deferred():
            model = Net()
    else:
        model = Net()
    audit = initplug.apply(model, initplug.plan(model, "torch_default_strict", recorded=recording), seed=3)
    assert audit.problems() == []
    other = Net()
    initplug.apply(
        other, {"unmatched": "keep", "rules": {"places": {"match": "^places", "init": "normal std=0.02"}}}, seed=3
    )
    assert torch.equal(model.places, other.places)
    assert audit["places"].note == "as recorded of net.py:10"


def test_what_a_recording_cannot_tell_is_kept_with_both_reasons() -> None:
    recording = initplug.record(Odd)
    with pytest.warns(initplug.InitplugWarning) as caught:
        plan = initplug.plan(Odd(), "torch_default", recorded=recording)
    unread = "no reset of Odd or of a module around it writes it"
    reasons = {
        "product": f"{unread}, and recorded is: computed: mul (of two draws)",
        "again": f"{unread}, and recorded is: a copy of places",
    }
    for name, reason in reasons.items():
        assert isinstance(plan[name].distribution, Keep)
        assert plan[name].note == f"`default` keeps it: {reason}"
        assert f"  {name} {plan[name].shape}: {reason}" in str(caught[-1].message)
    assert plan["frozen"].reason == "frozen"
    assert plan["tied"].name == "gamma"
    assert isinstance(plan["tied"].distribution, Constant)
    with pytest.raises(initplug.PlanError, match=re.escape("and recorded is: a copy of places; `keep` leaves it")):
        initplug.plan(Odd(), "torch_default_strict", recorded=recording)


def test_a_recording_of_another_width_says_nothing_of_this_one() -> None:
    wide = initplug.record(lambda: Net(64))
    with pytest.warns(initplug.InitplugWarning, match=re.escape("it is of shape (1, 17, 64) in the recording")):
        plan = initplug.plan(Net(), "torch_default", recorded=wide)
    assert isinstance(plan["places"].distribution, Keep)


def test_a_recording_that_knows_no_parameter_is_refused_by_name() -> None:
    recording = initplug.record(lambda: nn.Sequential(nn.Linear(2, 2)))
    expected = r"recorded is of another model: it has no parameter of this one \(0.weight, not weight\)"
    with pytest.raises(initplug.InitplugError, match=expected):
        initplug.plan(nn.Linear(2, 2), "torch_default", recorded=recording)


@pytest.mark.parametrize("given", [3, "recorded", Net])
def test_what_is_no_recording_is_refused(given: object) -> None:
    message = f"recorded takes a Recording, such as initplug.record(build), not a {type(given).__name__}"
    with pytest.raises(initplug.InitplugError, match=re.escape(message)):
        initplug.plan(Net(), "torch_default", recorded=given)


def test_parts_of_a_split_are_asked_for_as_a_whole() -> None:
    recipe = {"rules": {"*": "default", "gamma": {"match": "^gamma", "init": {"split": ["default", 1]}}}}
    plan = initplug.plan(Net(), recipe, recorded=initplug.record(Net))
    assert str(plan["gamma"].note).startswith("as recorded of net.py:12")


def test_commands_record_where_they_are_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"nets_{abs(hash(tmp_path))}.py"
    Path(name).write_text(NET)
    refused = invoke("plan", f"{name}:Net", "torch_default_strict", status=1)
    assert "no reset of Net or of a module around it writes it" in refused.stderr
    told = invoke("plan", f"{name}:Net", "torch_default_strict", "--recorded", status=0).stdout
    assert f": as recorded of {name}:10\n" in told
    for real in ([], ["--real"]):
        plan = invoke("plan", f"{name}:Net", "torch_default_strict", "--recorded", "--json", *real, status=0).stdout
        assert f"as recorded of {name}:10" in plan
    audit = invoke("apply", f"{name}:Net", "torch_default_strict", "--recorded", "--seed", "1", status=0).stdout
    assert audit.splitlines()[-1].endswith("5 initialized, 5 ok")
