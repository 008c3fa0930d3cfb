"""Tensors whose elements nothing writes or reads are told of by plan, apply and audit alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import quietly
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import initplug
from initplug.torch_versions import dtype_named


class Refusing(Tensor):
    """A tensor with which no operation works."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]  # torch's is disabled
        raise TypeError(f"no {func}")


class Mute(Tensor):
    """A tensor whose operations raise before torch sees them."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("copy_", "_foreach_copy_", "_foreach_zero_", "detach"):
            raise LookupError(f"no {func}")
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]  # torch's


class Counting(Tensor):
    """A tensor that sees every operation, and does what torch does."""

    seen = 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Counting.seen += 1
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]  # torch's


def masked() -> Tensor:
    from torch.masked import masked_tensor

    return masked_tensor(torch.ones(4, 4), torch.ones(4, 4, dtype=torch.bool), requires_grad=True)


def nested(layout: torch.layout) -> Tensor:
    return torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=layout)


def made_of_two() -> Tensor:
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(torch.zeros(4, 4), torch.zeros(4, 4))  # type: ignore[no-untyped-call]  # torch leaves it untyped


NESTED = "it is nested: its parts have sizes of their own"
OPAQUE: dict[str, tuple[Callable[[], Tensor], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "its layout is sparse_coo"),
    "sparse rows": (lambda: torch.eye(3).to_sparse_csr(), "its layout is sparse_csr"),
    "mkldnn": (lambda: torch.eye(3).to_mkldnn(), "its layout is mkldnn"),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8), "it is quantized"),
    "nested": (lambda: nested(torch.strided), NESTED),
    "ragged": (lambda: nested(torch.jagged), NESTED),
    "made of others": (made_of_two, "it is a TwoTensor, which is made of other tensors"),
}
OWN: dict[str, tuple[Callable[[], Tensor], str]] = {
    "masked": (masked, "it is a MaskedTensor, whose operations are its own"),
    "refusing": (
        lambda: torch.Tensor._make_subclass(Refusing, torch.zeros(4)),
        "it is a Refusing, whose operations are its own",
    ),
    "mute": (lambda: torch.zeros(4).as_subclass(Mute), "it is a Mute, whose operations are its own"),
}
CONSTANT: dict[str, Any] = {"frozen": "write", "rules": {"*": 1}}


def between(tensor: Tensor) -> nn.Module:
    """A tensor between two plain ones."""
    model = nn.Module()
    model.register_parameter("before", nn.Parameter(torch.zeros(3)))
    model._parameters["w"] = tensor  # type: ignore[assignment]  # some cannot be made parameters of
    model.register_parameter("after", nn.Parameter(torch.zeros(5)))
    return model


@pytest.mark.parametrize("kind", [*OPAQUE, *OWN])
def test_what_nothing_writes_is_refused_by_name_before_the_first_write(kind: str) -> None:
    build, reason = {**OPAQUE, **OWN}[kind]
    model = between(quietly(build))
    for seed in (None, 0):
        with pytest.raises(initplug.ApplyError) as caught:
            initplug.apply(model, CONSTANT, seed=seed)
        assert str(caught.value) == f"1 of {len([*model._parameters])} slots cannot be written\n  w: {reason}"
    assert not model.get_parameter("before").any()


@pytest.mark.parametrize("kind", [*OPAQUE, *OWN])
@pytest.mark.parametrize("seed", [None, 0])
def test_what_nothing_reads_is_a_problem_of_an_audit(kind: str, seed: int | None) -> None:
    build, reason = {**OPAQUE, **OWN}[kind]
    audit = initplug.audit(between(quietly(build)), CONSTANT, seed=seed)
    row = audit["w"]
    assert (row.verdict, row.reason, row.measured_count) == ("untestable", reason, None)
    assert row.problem == f"{reason}; it can neither be written nor read"
    assert [problem.name for problem in audit.problems()] == ["before", "w", "after"]
    assert audit.to_json() and audit.to_csv() and audit.to_markdown() and audit.to_html() and str(audit)
    assert "w" in {problem.name for problem in audit.reduced().problems()}


@pytest.mark.parametrize("kind", OPAQUE)
def test_a_plan_warns_of_what_nothing_writes(kind: str) -> None:
    build, reason = OPAQUE[kind]
    model = between(quietly(build))
    with pytest.warns(initplug.InitplugWarning) as said:
        plan = initplug.plan(model, CONSTANT)
    (warning,) = said
    assert str(warning.message) == f"1 of {len(plan)} slots can neither be written nor read\n  w: {reason}"
    assert plan.to_json() and str(plan)
    initplug.plan(model, {"frozen": "write", "rules": {"*": 1, "^w": "keep"}})  # is silent


@pytest.mark.parametrize("kind", [*OPAQUE, *OWN])
def test_what_is_kept_is_no_problem(kind: str) -> None:
    model = between(quietly({**OPAQUE, **OWN}[kind][0]))
    recipe = {"frozen": "write", "rules": {"*": 1, "^w": "keep"}}
    initplug.apply(model, recipe, seed=0)
    for seed in (None, 0):
        audit = initplug.audit(model, recipe, seed=seed)
        assert audit.problems() == []
        assert audit["w"].verdict == "untestable"


@pytest.mark.parametrize("kind", [kind for kind in (*OPAQUE, *OWN) if kind not in ("quantized", "nested", "ragged")])
def test_what_nothing_reads_cannot_be_copied(kind: str) -> None:
    build, reason = {**OPAQUE, **OWN}[kind]
    model = between(quietly(build))
    model.register_parameter("copied", nn.Parameter(torch.zeros(model._parameters["w"].shape)))  # type: ignore[union-attr]  # it is there
    copied = {"match": "copied", "init": {"fn": "copy", "source": "w"}}
    recipe = {"frozen": "write", "rules": {"*": 1, "^w": "keep", "copied": copied}}
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, recipe)
    assert str(caught.value).splitlines()[1] == f"  copied: its source w cannot be read: {reason}"
    assert not model.get_parameter("before").any()
    assert initplug.audit(model, recipe)["copied"].verdict == "untestable"


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_has_no_sizes_and_no_fans(layout: torch.layout) -> None:
    model = between(quietly(lambda: nested(layout)))
    with pytest.raises(initplug.PlanError, match=r"w \(\): kaiming_normal: there is no fan_in below two dimensions"):
        initplug.plan(model, {"frozen": "write", "rules": {"*": 0, "^w": "kaiming_normal"}})


def test_operations_that_do_what_torch_does_are_no_obstacle() -> None:
    model = between(torch.zeros(40, 50).as_subclass(Counting))
    recipe = {"frozen": "write", "rules": {"*": "normal"}}
    assert {row.verdict for row in initplug.apply(model, recipe, seed=0)} == {"ok"}
    assert {row.verdict for row in initplug.audit(model, recipe, seed=0)} == {"exact"}


@pytest.mark.parametrize("seed", [None, 0])
def test_an_audit_says_that_what_pretends_has_no_values(seed: int | None) -> None:
    with FakeTensorMode():
        model = nn.Linear(3, 3)
    initplug.plan(model, CONSTANT)  # is silent: it stands for one that has values
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.audit(model, CONSTANT, seed=seed)
    said = "it is a FakeTensor and holds no values"
    assert str(caught.value) == f"2 of 2 slots hold no values\n  weight: {said}\n  bias: {said}"


@pytest.mark.skipif(dtype_named("float4_e2m1fn_x2") is None, reason="this torch has no such dtype")
def test_numbers_that_are_packed_are_a_line_of_a_plan() -> None:
    packed = torch.zeros(4, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    model = nn.ParameterDict({"w": nn.Parameter(packed, requires_grad=False)})
    for act in (initplug.plan, initplug.apply, initplug.audit):
        with pytest.raises(initplug.PlanError) as caught:
            act(model, {"frozen": "write", "rules": {"*": 0}})
        line = "  w (4, 4): constant: float4_e2m1fn_x2 tensors cannot be filled; rule '*'"
        assert str(caught.value) == f"1 initializer does not fit\n{line}"
