"""Reading a reset touches nothing, and says what it cannot read."""

from __future__ import annotations

import copy
import math
import random
import statistics
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import initplug
from initplug.planning.resets import Outcome, replayed
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sparse import Sparse

Reset = Callable[[Any], object]


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)
        self.w = nn.Parameter(torch.full((8, 8), 7.0))
        self.note = nn.Parameter(torch.full((8,), 7.0))


def module_with(reset: Reset) -> nn.Module:
    module: nn.Module = type("M", (Base,), {"reset_parameters": lambda self: reset(self)})()
    return module


def outcome_of_reset(reset: Reset, name: str = "lin.weight") -> Outcome | None:
    module = module_with(reset)
    before = copy.deepcopy(module.state_dict())
    state = torch.get_rng_state()
    result = replayed(module, {}).get(name)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    return result


READ: list[tuple[Reset, Outcome | None]] = [
    (lambda m: nn.init.normal_(m.lin.weight, 1.0, 2.0), Normal(1.0, 2.0)),
    (lambda m: nn.init.uniform_(m.lin.weight, b=3.0), Uniform(0.0, 3.0)),
    (lambda m: nn.init.trunc_normal_(m.lin.weight, std=0.02), TruncatedNormal(0.0, 0.02, -2.0, 2.0)),
    (lambda m: nn.init.xavier_uniform_(m.lin.weight), Uniform(-((6 / 16) ** 0.5), (6 / 16) ** 0.5)),
    (lambda m: m.lin.weight.data.normal_(0, 0.5), Normal(0.0, 0.5)),
    (lambda m: m.lin.weight.view(-1).fill_(2), Constant(2)),
    (lambda m: (nn.init.normal_(m.lin.weight), m.lin.weight.data.mul_(0.5)), Normal(0.0, 0.5)),
    (lambda m: (nn.init.normal_(m.lin.weight), nn.init.zeros_(m.lin.weight)), Constant(0.0)),
    (
        lambda m: m.apply(lambda part: nn.init.ones_(part.weight) if isinstance(part, nn.Linear) else None),
        Constant(1.0),
    ),
    (lambda m: nn.init.orthogonal_(m.lin.weight, 2.0), Orthogonal(2.0, 8, 8)),
    (lambda m: nn.init.sparse_(m.lin.weight, 0.1), Sparse(0.01, 0.1, 8)),
    (lambda m: nn.init.normal_(m.w), None),
    (lambda m: (nn.init.normal_(m.lin.weight), m.lin.weight.data.add_(1)), Normal(1.0, 1.0)),
    (lambda m: (nn.init.uniform_(m.lin.weight), m.lin.weight.data.add_(-0.5)), Uniform(-0.5, 0.5)),
    (lambda m: (nn.init.ones_(m.lin.weight), m.lin.weight.data.add_(0.5)), Constant(1.5)),
]


def by_erfinv(tensor: torch.Tensor, mean: float, std: float, low: float, high: float) -> None:
    """Truncated normals as torch drew them before 2.13, and timm does."""
    begin, end = (statistics.NormalDist().cdf((bound - mean) / std) for bound in (low, high))
    tensor.uniform_(2 * begin - 1, 2 * end - 1)
    tensor.erfinv_()
    tensor.mul_(std * math.sqrt(2.0))
    tensor.add_(mean)
    tensor.clamp_(min=low, max=high)


@pytest.mark.parametrize(("mean", "std", "low", "high"), [(0, 0.02, -2, 2), (0, 0.5, -1, 1), (0.3, 1, -1, 0.5)])
def test_truncated_normals_by_erfinv_are_read(mean: float, std: float, low: float, high: float) -> None:
    found = outcome_of_reset(lambda m: by_erfinv(m.lin.weight.data, mean, std, low, high))
    assert isinstance(found, TruncatedNormal)
    assert (found.low, found.high) == (low, high)
    assert (found.loc, found.scale) == pytest.approx((mean, std), rel=1e-12)


@pytest.mark.parametrize(("reset", "expected"), READ)
def test_fills_are_read(reset: Reset, expected: Outcome | None) -> None:
    found = outcome_of_reset(reset)
    if isinstance(expected, Uniform):
        assert isinstance(found, Uniform)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    else:
        assert found == expected


UNREAD: list[tuple[Reset, str]] = [
    (lambda m: nn.init.eye_(m.lin.weight), "eye has no closed form"),
    (lambda m: m.lin.weight.data.copy_(torch.ones(8, 8)), "copy_ has no closed form"),
    (lambda m: (nn.init.normal_(m.lin.weight), m.lin.weight.data.pow_(2)), "pow_ has no closed form"),
    (lambda m: m.lin.weight.data.erfinv_(), "erfinv_ changes what no call has filled"),
    (
        lambda m: (nn.init.normal_(m.lin.weight), m.lin.weight.data.clamp_(-1, 1)),
        "clamp_ cannot be read (what it clamps reaches beyond its bounds)",
    ),
    (
        lambda m: (nn.init.normal_(m.lin.weight), m.lin.weight.data.erfinv_()),
        "erfinv_ cannot be read (what it maps is no uniform draw in [-1, 1])",
    ),
    (
        lambda m: (nn.init.orthogonal_(m.lin.weight), m.lin.weight.data.add_(1)),
        "add_ cannot be read (what it adds to has no closed form for that)",
    ),
    (lambda m: (nn.init.normal_(m.lin.weight), torch.mul(m.lin.weight, 2, out=m.lin.weight)), "mul has no closed form"),
    (lambda m: torch._foreach_zero_([m.lin.weight.data]), "_foreach_zero_ has no closed form"),
    (lambda m: m.lin.weight.data.mul_(2), "mul_ changes what no call has filled"),
    (lambda m: m.lin.weight[0].zero_(), "zero_ writes a part of it"),
    (lambda m: setattr(m.lin.weight, "data", torch.zeros(8, 8)), "M.reset_parameters replaces the tensor"),
    (lambda m: setattr(m, "lin", nn.Linear(8, 8)), "M.reset_parameters replaces the tensor"),
    (
        lambda m: m.nothing,
        "M.reset_parameters cannot be replayed (AttributeError: 'M' object has no attribute 'nothing')",
    ),
    (
        lambda m: m.lin.weight.data.copy_(torch.randn(8, 8, device="cpu")),
        "M.reset_parameters cannot be replayed (OutsideError: it draws random numbers of its own)",
    ),
]


@pytest.mark.parametrize(("reset", "reason"), UNREAD, ids=[reason[:30] for _, reason in UNREAD])
def test_what_cannot_be_read_is_named(reset: Reset, reason: str) -> None:
    assert outcome_of_reset(reset) == reason


class Parent(nn.Module):
    def __init__(self, reset: Reset) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 7.0))
        self.child = module_with(reset)
        self.child.above = weakref.ref(self)  # type: ignore[assignment]  # a plain attribute
        self.child.kept = [self]  # type: ignore[assignment]  # likewise


@pytest.mark.parametrize(
    "reset",
    [
        lambda m: m.above().scale.data.zero_(),
        lambda m: nn.init.ones_(m.above().scale),
        lambda m: m.kept[0].scale.data.zero_(),
        lambda m: setattr(m.above().scale, "data", torch.zeros(3)),
        lambda m: torch._foreach_zero_([m.above().scale.data]),
    ],
)
def test_a_reset_that_reaches_outside_is_stopped_before_it_writes(reset: Reset) -> None:
    parent = Parent(reset)
    outcomes = replayed(parent.child, {})
    assert torch.equal(parent.scale, torch.full((3,), 7.0))
    assert "outside the module" in str(outcomes["w"])


class OneOrTwo(nn.Module):
    def __init__(self, tie: bool) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(8, 8))
        self.b = self.a if tie else nn.Parameter(torch.empty(8, 8))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.a)
        nn.init.uniform_(self.b, -5, 5)


class Flagged(nn.Module):
    def __init__(self, trainable: bool, scale: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, 3), requires_grad=trainable)
        self.w.scale = scale  # type: ignore[attr-defined]  # what is tested

    def reset_parameters(self) -> None:
        factor = vars(self.w)["scale"] * (2.0 if self.training else 1.0)
        nn.init.normal_(self.w, std=factor * (1 if self.w.requires_grad else 10))


def test_what_a_reset_depends_on_is_told_apart() -> None:
    known: dict[Any, Any] = {}
    assert replayed(OneOrTwo(True), known)["a"] == Uniform(-5.0, 5.0)
    assert replayed(OneOrTwo(False), known)["a"] == Normal(0.0, 1.0)
    assert replayed(Flagged(True, 1.0), known)["w"] == Normal(0.0, 2.0)
    assert replayed(Flagged(False, 1.0), known)["w"] == Normal(0.0, 20.0)
    assert replayed(Flagged(True, 3.0), known)["w"] == Normal(0.0, 6.0)
    assert replayed(Flagged(True, 3.0).eval(), known)["w"] == Normal(0.0, 3.0)


def test_a_module_that_refers_to_itself_is_read() -> None:
    lin, parent = nn.Linear(4, 4), nn.Module()
    lin.owner = [parent]  # type: ignore[assignment]  # a plain attribute
    parent.lin = lin
    assert replayed(lin, {})["bias"] == Uniform(-0.5, 0.5)


def test_a_plain_tensor_attribute_is_not_copied() -> None:
    lin = nn.Linear(4, 4)
    lin.table = [torch.zeros(10)]  # type: ignore[assignment]  # a plain attribute
    assert replayed(lin, {})["bias"] == Uniform(-0.5, 0.5)
    assert lin.table[0].device.type == "cpu"  # type: ignore[index]  # likewise


def test_no_other_generator_is_moved_by_torch_layers() -> None:
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # the tuple form
    replayed(nn.Transformer(8, 2, 1, 1, 16, batch_first=True), {})
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[index]  # likewise


@pytest.mark.parametrize("kind", [nn.LazyBatchNorm2d, nn.LazyLinear])
def test_a_reset_above_what_waits_for_its_shape_is_told_not_to_be_read(kind: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.late = kind() if kind is nn.LazyBatchNorm2d else kind(3)

        def reset_parameters(self) -> None:
            nn.init.zeros_(self.conv.weight)

    with pytest.raises(initplug.PlanError, match=r"conv\.weight .*default: its Net cannot be copied"):
        initplug.plan(Net(), {"rules": {"*": "default"}})


@pytest.mark.parametrize(("build", "order"), [(nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d)])
def test_the_order_in_memory_changes_nothing(build: Any, order: torch.memory_format) -> None:
    plain, turned = build(6, 6, 3), build(6, 6, 3).to(memory_format=order)
    assert not turned.weight.is_contiguous()
    assert replayed(turned, {}) == replayed(plain, {})
    audit = initplug.apply(turned, "torch_default", seed=0)
    initplug.apply(plain, "torch_default", seed=0)
    assert audit.problems() == []
    assert torch.equal(turned.weight, plain.weight)
    assert turned.weight.is_contiguous(memory_format=order)


# What `default otherwise=keep` leaves as constructed.


class Mixed(nn.Module):
    """A layer, a raw parameter as Mamba has them, and a reset that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)
        self.a_log = nn.Parameter(torch.arange(1.0, 9.0).log())
        self.inner = module_with(lambda m: m.w.data.copy_(torch.rand(8, 8).cumsum(0)))


def test_torch_default_keeps_what_no_reset_tells_and_says_why_once() -> None:
    model = Mixed()
    before = copy.deepcopy(model.state_dict())
    with pytest.warns(initplug.InitplugWarning) as told:
        audit = initplug.apply(model, "torch_default", seed=0)
    (warning,) = [str(each.message) for each in told]
    kept = {row.name: row.note for row in audit if row.status == "kept"}
    assert kept.keys() >= {"a_log", "inner.w"}
    for name, note in kept.items():
        assert note is not None
        assert f"  {name} {tuple(before[name].shape)}: {note.removeprefix('`default` keeps it: ')}" in warning
        assert torch.equal(model.state_dict()[name], before[name])
        assert (audit[name].verdict, audit[name].reason) == ("untestable", "keep")
    assert warning.splitlines()[0] == f"`default` leaves {len(kept)} tensors of torch_default.yaml as constructed"
    assert warning.splitlines()[-1] == (
        "Where that is not meant, give them later rules of their own, such as `^a_log: 1`; "
        "`keep` in a rule says that it is meant."
    )
    assert {row.status for row in audit if row.name not in kept} == {"initialized"}
    assert not audit.problems()
    with pytest.warns(initplug.InitplugWarning):
        assert initplug.audit(model, "torch_default", seed=0)["lin.weight"].verdict == "exact"


def test_what_only_leaves_out_is_not_told() -> None:
    initplug.apply(Mixed(), "torch_default", only=["lin.weight"])


def test_a_rule_with_keep_says_that_it_is_meant() -> None:
    model = Mixed()
    rules = {"kept": {"match": ["^a_log", "^inner.**"], "init": "keep"}}
    initplug.apply(model, {"defaults": ["torch_default"], "rules": rules})


def test_torch_default_strict_refuses_what_torch_default_keeps() -> None:
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(Mixed(), "torch_default_strict")
    with pytest.warns(initplug.InitplugWarning):
        kept = [row.name for row in initplug.plan(Mixed(), "torch_default") if row.reason == "keep"]
    assert [finding.path for finding in caught.value.findings] == kept


def test_what_is_on_meta_cannot_be_kept() -> None:
    with torch.device("meta"):
        model = Mixed()
    with pytest.warns(initplug.InitplugWarning):
        plan = initplug.plan(model, "torch_default")
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, "torch_default")
    refused = [finding.path for finding in caught.value.findings]
    assert refused == [row.name for row in plan if row.reason == "keep"]
    reason = "no reset of Mixed or of a module around it writes it"
    assert (
        f"  a_log: `default` leaves it unwritten, and it is on meta: {reason} (give it a later rule of its own"
        in str(caught.value)
    )


def test_parts_of_a_split_are_kept_too() -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.arange(12.0).view(6, 2))})
    recipe = {"rules": {"*": {"split": ["default otherwise=keep", 1], "sizes": [2, 1]}}}
    with pytest.warns(initplug.InitplugWarning, match="`default` leaves 1 tensor of the recipe as constructed"):
        initplug.apply(model, recipe)
    assert model["w"][:, 0].tolist() == [0.0, 2.0, 4.0, 6.0, 1.0, 1.0]


def test_the_preset_keep_changes_nothing() -> None:
    model = Mixed()
    before = copy.deepcopy(model.state_dict())
    audit = initplug.apply(model, "keep", seed=0)
    assert {row.status for row in audit} == {"kept"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    with pytest.raises(initplug.ApplyError, match="2 of 2 slots cannot be written"):
        initplug.apply(empty, "keep")
