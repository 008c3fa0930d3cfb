"""Every way out that a message offers is gone: what it says is done, and then the model is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import built_deferred, built_on_meta
from parametrization_parts import Symmetric
from recipes import statuses
from torch import nn
from torch.nn.utils import parametrize

import initplug


class Scaled(nn.Module):
    """Parameters that no reset writes, one that it writes in no readable way, and a layer that has a default."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(1e-5 * torch.ones(4))
        self.table = nn.Parameter(torch.full((3, 4), 0.5))
        self.basis = nn.Parameter(torch.eye(3))
        self.count = nn.Parameter(torch.tensor([3, 4]), requires_grad=False)
        self.still = nn.Parameter(torch.full((2, 2), 0.25), requires_grad=False)
        self.wave = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
        self.fc = nn.Linear(4, 4)

    def reset_parameters(self) -> None:
        nn.init.eye_(self.basis)


HARD = ["gamma", "table", "basis", "count", "still", "wave"]
NAMES = [
    "a*b",
    "a?b",
    "x[0]",
    "]",
    "(a|b)",
    "<a>",
    "^a",
    "-1",
    "a b",
    " a",
    "a ",
    "a: b",
    "a #b",
    "!a",
    "ä",
    "'a'",
    '"a"',
    "a\\b",
    "&a",
]


class Named(nn.Module):
    """Parameters with names that mean something else in selectors or in YAML, and such as those would mean."""

    def __init__(self) -> None:
        super().__init__()
        for name in [*NAMES, "a", "b", "axb", "x0", "aab", "[0]"]:
            self.register_parameter(name, nn.Parameter(torch.zeros(2)))


def recipe(*lines: str, settings: str = "frozen: write") -> initplug.Recipe:
    return initplug.load("\n".join([settings, "rules:", *(f"  {line}" for line in lines), ""]))


def raised_by(build: Callable[[], nn.Module], rules: Any) -> initplug.InitplugError:
    with pytest.raises(initplug.InitplugError) as caught:
        initplug.apply(build(), rules, seed=0)
    return caught.value


def offered(text: str) -> list[str]:
    """The lines of a recipe that a message offers as they stand."""
    return re.findall(r"`([^`]*: [^`]*)`", text)


@pytest.mark.parametrize("building", [built_deferred, built_on_meta])
@pytest.mark.parametrize("trainable", ["frozen: write", "frozen: keep"])
def test_what_has_no_default_on_meta_gets_a_rule_of_its_own(building: Any, trainable: str) -> None:
    def build() -> nn.Module:
        return building(Scaled)  # type: ignore[no-any-return]  # one of the two

    every = 'every: {match: "*", init: default, trainable: any}'
    error = raised_by(build, recipe(every, settings=trainable))
    assert [finding.path for finding in error.findings] == HARD
    assert "keep" not in str(error).replace(trainable, "")
    lines = [offered(finding.message)[0] for finding in error.findings]
    named = [line.replace("own:", f"own{place}:") for place, line in enumerate(lines)]
    model = build()
    audit = initplug.apply(model, recipe(every, *named, settings=trainable), seed=0)
    assert {row.status for row in audit} == {"initialized"}
    rules = [row.rule for row in audit]
    assert len({*rules}) == len(HARD) + 1 and rules.count("every") == 2  # each takes its own parameter alone


def test_what_has_no_default_in_memory_is_kept() -> None:
    every = 'every: {match: "*", init: default, trainable: any}'
    error = raised_by(Scaled, recipe(every))
    assert all(finding.message.endswith("; `keep` leaves it as it is") for finding in error.findings)
    model = Scaled()
    keeps = [f"{name}: {{match: ^{name}, trainable: any, init: keep}}" for name in HARD]
    audit = initplug.apply(model, recipe(every, *keeps), seed=0)
    assert [row.name for row in audit if row.status == "kept"] == HARD
    assert model.table.eq(0.5).all()


def test_names_of_any_kind_are_offered_as_they_have_to_be_written() -> None:
    error = raised_by(lambda: built_deferred(Named), recipe('"*": default'))
    lines = {finding.path: offered(finding.message)[0] for finding in error.findings}
    for name in NAMES:
        plan = initplug.plan(Named(), recipe('"*": zeros', lines[name]))
        taken = [row.name for row in plan if row.rule != "*"]
        assert taken == [name], lines[name]


def test_nothing_to_keep_on_meta_has_a_default_or_gets_a_rule_of_its_own() -> None:
    error = raised_by(lambda: built_deferred(Scaled), recipe('every: {match: "*", init: keep, trainable: any}'))
    lines = []
    for finding in error.findings:
        if finding.path.startswith("fc."):
            assert finding.hint == "`keep default` draws what the resets of construction draw"
            lines.append(f"^{finding.path}: keep default")
        else:
            lines += offered(str(finding.hint))
    named = [line.replace("own:", f"own{place}:") for place, line in enumerate(lines)]
    keep = 'every: {match: "*", init: keep, trainable: any}'
    audit = initplug.apply(built_deferred(Scaled), recipe(keep, *named), seed=0)
    assert {row.status for row in audit} == {"initialized"}


def test_a_part_that_has_nothing_to_keep_can_be_drawn() -> None:
    error = raised_by(lambda: built_deferred(lambda: nn.Linear(4, 4)), {"rules": {"*": {"split": ["keep", 0]}}})
    assert {finding.hint for finding in error.findings} == {"`keep default` draws what the resets of construction draw"}
    audit = initplug.apply(
        built_deferred(lambda: nn.Linear(4, 4)), {"rules": {"*": {"split": ["keep default", 0]}}}, seed=0
    )
    assert audit.problems() == []


def test_a_default_that_is_drawn_as_a_whole_is_not_offered_to_a_part() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(4, 4))

        def reset_parameters(self) -> None:
            nn.init.orthogonal_(self.w)

    (finding,) = raised_by(lambda: built_deferred(Whole), {"rules": {"*": {"split": ["keep", 0]}}}).findings
    (line,) = offered(str(finding.hint))
    assert initplug.apply(built_deferred(Whole), recipe('"*": {split: [keep, 0]}', line), seed=0).problems() == []
    (finding,) = raised_by(lambda: built_deferred(Whole), {"rules": {"*": "keep"}}).findings
    assert finding.hint == "`keep default` draws what the resets of construction draw"


@pytest.mark.parametrize("building", [built_deferred, built_on_meta])
def test_what_no_rule_takes_on_meta_gets_a_rule_of_its_own(building: Any) -> None:
    settings = "unmatched: keep"
    error = raised_by(lambda: building(lambda: nn.Linear(4, 4)), recipe("'*.bias': 0", settings=settings))
    (line,) = offered(str(error.findings[0].hint))
    audit = initplug.apply(building(lambda: nn.Linear(4, 4)), recipe("'*.bias': 0", line, settings=settings), seed=0)
    assert {row.status for row in audit} == {"initialized"}


def test_what_no_rule_takes_in_memory_is_kept_as_the_message_says() -> None:
    error = raised_by(lambda: nn.Linear(4, 4), recipe("'*.bias': 0"))
    assert offered(str(error)) == ["unmatched: keep"]
    audit = initplug.apply(nn.Linear(4, 4), recipe("'*.bias': 0", settings="unmatched: keep"))
    assert statuses(audit) == {"weight": "kept", "bias": "initialized"}


def test_what_is_frozen_on_meta_gets_values_in_both_ways() -> None:
    def build() -> Any:
        return built_deferred(lambda: nn.ParameterDict({"a": nn.Parameter(torch.zeros(2), False), "b": torch.zeros(2)}))

    error = raised_by(build, {"rules": {"*": "ones"}})
    (finding,) = error.findings
    assert finding.hint == "`frozen: write`, or a rule with `trainable: any`, gives it values"
    for rules in (recipe('"*": ones'), recipe('"*": ones', "a: {match: ^a, init: 0, trainable: any}", settings="")):
        assert {row.status for row in initplug.apply(build(), rules)} == {"initialized"}


def test_what_cannot_be_assigned_is_kept_in_memory() -> None:
    def build() -> nn.Module:
        return parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric())

    assert "so that nothing can be assigned; `keep` it" in str(raised_by(build, {"rules": {"*": "normal"}}))
    late_error = str(raised_by(lambda: built_deferred(build), {"rules": {"*": "normal"}}))
    assert "so that nothing can be assigned; build the model with memory and `keep` it" in late_error
    audit = initplug.apply(build(), {"rules": {"*": "normal", "^weight": "keep"}}, seed=0)
    assert statuses(audit) == {"bias": "initialized", "weight": "kept"}


class Masked(nn.Module):
    """A buffer that is lost under `torch.device("meta")`, and one that is made from a parameter."""

    def __init__(self, from_weight: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("mask", self.fc.weight.detach() > 0 if from_weight else torch.ones(4, 4).tril())


def test_buffers_that_nothing_restores_come_back_in_all_three_ways() -> None:
    rules = {"rules": {"*": "normal"}}
    wanted = "build it on a device, or under `initplug.deferred()` if it was not, or add a rule with `kind: buffer`"
    (finding,) = raised_by(lambda: built_on_meta(lambda: Masked(False)), rules).findings
    assert (finding.path, finding.hint) == ("mask", wanted)
    (finding,) = raised_by(lambda: built_deferred(lambda: Masked(True)), rules).findings
    assert (finding.path, finding.hint) == ("mask", wanted)
    buffer = {"match": "mask", "kind": "buffer", "init": 1}
    for model, more in (
        (Masked(False), {}),
        (built_deferred(lambda: Masked(False)), {}),
        (built_deferred(lambda: Masked(True)), {"own": buffer}),
    ):
        audit = initplug.apply(model, {"rules": {"*": "normal", **more}}, seed=0)
        assert {row.status for row in audit} == {"initialized"} and not model.get_buffer("mask").is_meta
