from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import quietly
from recipes import statuses
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations
from untouched import bits, untouched

import initplug

WRITE = {"frozen": "write"}  # most of these tensors require no gradient, since many cannot
NORMAL: dict[str, Any] = {**WRITE, "rules": {"*": "normal std=0.5"}}


def between(tensor: Tensor, *, requires_grad: bool = False) -> nn.Module:
    """A tensor between two plain ones."""
    model = nn.Module()
    model.register_parameter("before", nn.Parameter(torch.ones(3)))
    model.register_parameter("w", nn.Parameter(tensor, requires_grad=requires_grad))
    model.register_parameter("after", nn.Parameter(torch.ones(17)))
    return model


@pytest.mark.parametrize("size", [4, 100, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_can_be_resized_after_it_was_written_and_read(size: int, dtype: torch.dtype) -> None:
    """FSDP does so: it frees what it has gathered."""
    recipe = {"rules": {"*": "normal", "0.*": "orthogonal", "3.weight": "kaiming_normal", "*.bias": 0}}
    model = nn.Sequential(*(nn.Linear(size, size, dtype=dtype) for _ in range(4)))
    initplug.apply(model, recipe, seed=0, histograms=True)
    assert {row.verdict for row in initplug.audit(model, recipe, seed=0)} == {"exact"}
    initplug.audit(model, recipe, histograms=True)
    assert all(parameter.untyped_storage().resizable() for parameter in model.parameters())


def by_hand(model: nn.Module, init: Callable[[Tensor], Any]) -> None:
    for parameter in model.parameters():
        init(parameter)


MEMORY: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: torch.zeros(4, 6),
    "transposed": lambda: torch.zeros(6, 4).T,
    "channels_last": lambda: torch.zeros(3, 4, 5, 6).contiguous(memory_format=torch.channels_last),
    "channels_last_3d": lambda: torch.zeros(2, 3, 4, 2, 2).contiguous(memory_format=torch.channels_last_3d),
    "every other": lambda: torch.zeros(40)[::2],
    "a column": lambda: torch.zeros(20, 3)[:, 1],
    "a block": lambda: torch.zeros(8, 9)[2:6, 3:7],
    "one of broadcast size": lambda: torch.zeros(1).expand(1),
    "a diagonal": lambda: torch.zeros(7, 7).diagonal(),
    "small": lambda: torch.zeros(5),
    "0-d": lambda: torch.tensor(0.0),
    "float64": lambda: torch.zeros(5, 5, dtype=torch.float64),
    "bfloat16": lambda: torch.zeros(5, 5, dtype=torch.bfloat16),
    "float16": lambda: torch.zeros(5, 5, dtype=torch.float16),
    "complex64": lambda: torch.zeros(5, 5, dtype=torch.complex64),
    "conjugated": lambda: torch.zeros(5, 5, dtype=torch.complex64).conj(),
    "negated": lambda: torch.zeros(5, 5, dtype=torch.complex64).conj().imag,
    "offset": lambda: torch.zeros(100)[37:61].view(4, 6),
}


@pytest.mark.parametrize("memory", [*MEMORY, "one conjugated", "one negated"])
def test_bits_under_a_seed_are_those_of_a_tensor_in_order(memory: str) -> None:
    single = torch.zeros(1, dtype=torch.complex64).conj()
    tensor = {"one conjugated": single, "one negated": single.imag}.get(memory)
    tensor = MEMORY[memory]() if tensor is None else tensor
    plain = torch.zeros(tensor.shape, dtype=tensor.dtype)
    recipe = {"rules": {"*": "normal std=0.5 mean=0.25"}}
    models = [between(one, requires_grad=True) for one in (tensor, plain)]
    audits = [initplug.apply(model, recipe, seed=5) for model in models]
    assert bits(models[0].get_parameter("w")) == bits(models[1].get_parameter("w"))
    assert audits[0]["w"].measured_mean == pytest.approx(audits[1]["w"].measured_mean, abs=1e-6)
    assert not audits[0].problems()


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("trainable", [True, False])
def test_bits_are_those_of_torch_on_that_very_tensor(memory: str, trainable: bool) -> None:
    ours, theirs = (between(MEMORY[memory](), requires_grad=trainable) for _ in range(2))
    held = ours.get_parameter("w")
    before = (id(held), held.data_ptr(), held.stride(), held.requires_grad)
    torch.manual_seed(0)
    audit = initplug.apply(ours, NORMAL)
    torch.manual_seed(0)
    by_hand(theirs, lambda parameter: nn.init.normal_(parameter, std=0.5))
    assert [bits(tensor) for tensor in ours.parameters()] == [bits(tensor) for tensor in theirs.parameters()]
    held = ours.get_parameter("w")
    assert (id(held), held.data_ptr(), held.stride(), held.requires_grad) == before
    assert (audit["w"].status, audit["w"].verdict, audit["w"].trainable) == ("initialized", "ok", trainable)


@pytest.mark.parametrize("memory", ["every other", "a column", "a block", "a diagonal", "offset", "transposed"])
@pytest.mark.parametrize("init", ["normal", 3, "uniform 1 2", "trunc_normal std=1"])
def test_memory_around_a_view_stays(memory: str, init: Any) -> None:
    tensor = MEMORY[memory]()
    base = tensor._base
    assert base is not None
    base.fill_(math.pi)
    inside = torch.zeros(base.shape, dtype=torch.bool)
    inside.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
    initplug.apply(between(tensor), {**WRITE, "rules": {"*": init}})
    assert bool((base[~inside] == math.pi).all()) and not bool((base[inside] == math.pi).any())


@pytest.mark.parametrize("init", ["orthogonal", "eye", "xavier_normal", "sparse 0.5", "kaiming_uniform relu"])
def test_structures_in_transposed_memory_are_those_of_torch(init: str) -> None:
    ours, theirs = (nn.ParameterDict({"w": nn.Parameter(torch.zeros(6, 4).T)}) for _ in range(2))
    functions: dict[str, Callable[[Tensor], Any]] = {
        "orthogonal": nn.init.orthogonal_,
        "eye": nn.init.eye_,
        "xavier_normal": nn.init.xavier_normal_,
        "sparse 0.5": lambda tensor: nn.init.sparse_(tensor, 0.5),
        "kaiming_uniform relu": lambda tensor: nn.init.kaiming_uniform_(tensor, nonlinearity="relu"),
    }
    torch.manual_seed(0)
    initplug.apply(ours, {**WRITE, "rules": {"*": init}})
    torch.manual_seed(0)
    functions[init](theirs["w"])
    assert torch.equal(ours["w"], theirs["w"]) and ours["w"].stride() == (1, 4)


# What cannot be written -------------------------------------------------------------------------------------------


def float8() -> Tensor:
    return torch.zeros(4).to(torch.float8_e4m3fn)


def quantized() -> Any:
    return quietly(lambda: torch.quantize_per_tensor(torch.zeros(4, 4), 0.1, 0, torch.qint8))


def compressed() -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse .* tensor support is in beta", category=UserWarning)
        return torch.eye(4).to_sparse_csr()


REFUSED: dict[str, tuple[Callable[[], Tensor], Any]] = {
    "expanded rows": (lambda: torch.zeros(1, 4).expand(3, 4), 1),
    "expanded columns": (lambda: torch.zeros(3, 1).expand(3, 4), "normal"),
    "expanded from nothing": (lambda: torch.zeros(()).expand(5), 0),
    "windows": (lambda: torch.zeros(9).unfold(0, 3, 1), "normal"),
    "sparse": (lambda: torch.eye(4).to_sparse(), 1),
    "sparse rows": (compressed, "normal"),
    "mkldnn": (lambda: torch.zeros(4, 4).to_mkldnn(), "normal"),
    "quantized": (quantized, 1),
    "int": (lambda: torch.zeros(4, dtype=torch.int32), "normal"),
    "bool": (lambda: torch.zeros(4, dtype=torch.bool), "uniform 0 1"),
    "int of a half": (lambda: torch.zeros(4, dtype=torch.int64), 0.5),
    "bool of two": (lambda: torch.zeros(4, dtype=torch.bool), 2),
    "byte of minus one": (lambda: torch.zeros(4, dtype=torch.uint8), -1),
    "half of too much": (lambda: torch.zeros(4, dtype=torch.float16), 1e5),
    "float8": (float8, "normal"),
    "complex log-uniform": (lambda: torch.zeros(4, dtype=torch.complex64), "log_uniform 0.1 1"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # a prototype, says torch
@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_buffer_that_has_no_sizes_is_left_alone(layout: torch.layout, reused: bool) -> None:
    model = nn.BatchNorm1d(3)
    ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
    model.register_buffer("ragged", ragged)
    recipe: Any = {**WRITE, "rules": {"*": 0.5, "mean": {"match": "running_mean", "kind": "buffer", "init": 2}}}
    audit = initplug.apply(model, initplug.plan(model, recipe) if reused else recipe, seed=0)
    assert [row.name for row in audit] == ["weight", "bias", "running_mean"]
    assert audit.problems() == [] and model.ragged is ragged


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # likewise
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_parameter_that_has_no_sizes_is_refused_and_can_be_kept(layout: torch.layout) -> None:
    ragged = nn.Parameter(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout))
    model = nn.ParameterDict({"ragged": ragged, "plain": torch.ones(3)})
    with pytest.raises(initplug.ApplyError, match=r"ragged: it is (nested|a NestedTensor)"):
        initplug.apply(model, {"rules": {"*": 0.5}})
    assert model["plain"].tolist() == [1, 1, 1]
    audit = initplug.apply(model, {"rules": {"*": 0.5, "^ragged": "keep"}})
    assert statuses(audit) == {"ragged": "kept", "plain": "initialized"}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_name_the_slot_and_change_nothing(kind: str) -> None:
    build, init = REFUSED[kind]
    model = between(build())
    with untouched(model), pytest.raises(initplug.InitplugError, match=r"\bw\b") as caught:
        initplug.apply(model, {**WRITE, "rules": {"*": "normal", "^w": init}})
    assert [finding.path for finding in caught.value.findings] == ["w"]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_can_be_kept(kind: str) -> None:
    model = between(REFUSED[kind][0]())
    before = bits(model.get_parameter("w").float()) if kind == "float8" else bits(model.get_parameter("w"))
    for recipe, only in (({"*": "normal", "^w": "keep"}, None), ({"*": "normal", "^w": 1}, ["before", "after"])):
        audit = initplug.apply(model, {**WRITE, "rules": recipe}, only=only)
        assert [row.status for row in audit] == ["initialized", "kept", "initialized"]
        assert str(audit) and audit.to_json()
    held = model.get_parameter("w")
    assert (bits(held.float()) if kind == "float8" else bits(held)) == before


def test_all_refusals_come_together() -> None:
    model = nn.ModuleDict({kind.replace(" ", "_"): between(build()) for kind, (build, _) in REFUSED.items()})
    chosen = ["expanded_rows", "windows", "sparse", "sparse_rows", "mkldnn", "quantized"]
    for kind in set(model) - set(chosen):
        del model[kind]
    with untouched(model), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {**WRITE, "rules": {"*": 1}})
    assert [finding.path for finding in caught.value.findings] == [f"{kind}.w" for kind in model]
    assert set(model) == set(chosen)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int16, torch.int64, torch.uint8])
def test_whole_numbers_take_constants(dtype: torch.dtype) -> None:
    model = between(torch.zeros(2, 3, dtype=dtype))
    model.register_buffer("b", torch.zeros((), dtype=dtype))
    rules = {"*": "normal", "^w": 1, "b": {"match": "b", "kind": "buffer", "init": 1}}
    audit = initplug.apply(model, {**WRITE, "rules": rules})
    assert {row.verdict for row in audit} == {"ok"}
    assert model.get_parameter("w").tolist() == [[1, 1, 1]] * 2 and model.get_buffer("b").item() == 1


def test_inference_tensors_are_written_inside_only() -> None:
    with torch.inference_mode():
        model = between(torch.zeros(4))
        model.register_buffer("b", torch.zeros(3))
    rules = {"*": "normal", "b": {"match": "b", "kind": "buffer", "init": 2}}
    with untouched(model), pytest.raises(initplug.ApplyError, match="inference") as caught:
        initplug.apply(model, {**WRITE, "rules": rules})
    assert {finding.path for finding in caught.value.findings} >= {"w", "b"}
    with torch.inference_mode():
        torch.manual_seed(0)
        audit = initplug.apply(model, {**WRITE, "rules": rules})
        torch.manual_seed(0)
        for name in ("before", "w", "after"):
            assert torch.equal(model.get_parameter(name), nn.init.normal_(torch.empty_like(model.get_parameter(name))))
    assert {(row.status, row.verdict) for row in audit} == {("initialized", "ok")}


def test_plain_tensors_are_written_inside_inference_mode_too() -> None:
    model = nn.Sequential(nn.Linear(4, 4), parametrizations.weight_norm(nn.Linear(4, 4)))
    with torch.inference_mode():
        audit = initplug.apply(model, NORMAL)
    assert {row.verdict for row in audit} == {"ok"}
    model(torch.ones(2, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Tagged(nn.Parameter):
    """A parameter that carries what a user hangs on it."""


def test_subclasses_and_what_hangs_on_tensors_stay() -> None:
    model = nn.Module()
    tagged: Any = Tagged(torch.zeros(4, 4))
    tagged.group, tagged.grad = "slow", torch.ones(4, 4)
    calls: list[int] = []
    tagged.register_hook(lambda gradient: calls.append(1))
    model.register_parameter("w", tagged)
    initplug.apply(model, NORMAL)
    assert [id(parameter) for parameter in model.parameters()] == [id(tagged)]
    assert tagged.group == "slow" and tagged.is_leaf and bool(tagged.grad.eq(1).all())
    tagged.sum().backward()
    assert calls == [1]


def test_a_buffer_with_a_history_is_written_in_place() -> None:
    model = nn.BatchNorm1d(4)
    weight = torch.ones(4, requires_grad=True)
    model.running_mean = weight * 2
    initplug.apply(
        model, {**WRITE, "rules": {"*": 1, "mean": {"match": "running_mean", "kind": "buffer", "init": 0.5}}}
    )
    assert model.get_buffer("running_mean").tolist() == [0.5] * 4 and weight.tolist() == [1] * 4


# Surroundings that change what a call of torch does -----------------------------------------------------------------


def test_values_arrive_whatever_surrounds_the_call() -> None:
    def model() -> nn.Module:
        made = nn.Sequential(nn.Linear(20, 20), parametrizations.weight_norm(nn.Linear(20, 20)))
        made.register_buffer("scale", torch.zeros(3))
        return made

    scale = {"match": "scale", "kind": "buffer", "init": 0.75}
    recipe = {**WRITE, "rules": {"*": "normal std=0.5", "0.weight": "kaiming_normal", "scale": scale}}
    torch.manual_seed(0)
    plain = model()
    initplug.apply(plain, recipe)
    surroundings: dict[str, Callable[[], Any]] = {
        "meta device": lambda: torch.device("meta"),
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        "no_grad": torch.no_grad,
        "enable_grad": torch.enable_grad,
    }
    for name, surrounding in surroundings.items():
        torch.manual_seed(0)
        ours = model()
        with surrounding():
            grad = torch.is_grad_enabled()
            audit = initplug.apply(ours, recipe)
            assert torch.is_grad_enabled() == grad
        assert {row.verdict for row in audit} == {"ok"}, name
        for tensor, expected in zip(
            [*ours.parameters(), *ours.buffers()], [*plain.parameters(), *plain.buffers()], strict=True
        ):
            assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(dtype: torch.dtype) -> None:
    ours, theirs = nn.Linear(20, 20), nn.Linear(20, 20)
    old = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        audit = initplug.apply(ours, NORMAL)
        torch.manual_seed(0)
        by_hand(theirs, lambda parameter: nn.init.normal_(parameter, std=0.5))
    finally:
        torch.set_default_dtype(old)
    assert {row.verdict for row in audit} == {"ok"} and {row.dtype for row in audit} == {"float32"}
    assert [bits(tensor) for tensor in ours.parameters()] == [bits(tensor) for tensor in theirs.parameters()]


def test_deterministic_algorithms_are_no_hindrance() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        model = nn.Sequential(nn.Linear(9, 9), parametrizations.orthogonal(nn.Linear(9, 9)))
        audit = initplug.apply(model, NORMAL)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [row.status for row in audit if row.name == "1.weight"] == ["projected"]
    assert audit["0.weight"].verdict == "ok"


def test_tensors_that_only_pretend_to_have_values_are_never_called_initialized() -> None:
    with FakeTensorMode():
        model = nn.Linear(3, 3)
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {**WRITE, "rules": {"*": 1}})
    assert [finding.path for finding in caught.value.findings] == ["weight", "bias"]


# Lazy ---------------------------------------------------------------------------------------------------------------


def lazy(*kinds: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(*(quietly(kind) for kind in kinds))


@pytest.mark.parametrize("init", ["xavier_uniform", "orthogonal", "normal", "default", 0, "kaiming_normal effective"])
def test_lazy_tensors_are_refused_until_they_know_their_shape(init: Any) -> None:
    model: Any = lazy(lambda: nn.LazyLinear(6), lambda: nn.Linear(6, 6), lambda: nn.LazyBatchNorm1d())
    statistics = {"match": "*", "kind": "buffer", "init": 0.5, "except": "num_batches_tracked"}
    rules = {"*": "normal std=0.5", "<LazyLinear>.weight": init, "statistics": statistics}
    before = model[1].weight.clone()
    with pytest.raises(initplug.ApplyError) as refused:
        initplug.apply(model, {"rules": rules})
    assert str(refused.value).splitlines()[:2] == [
        "6 of 8 slots cannot be written",
        "  0.weight: it waits for a first batch to learn its shape (run one batch first, or leave it out with only=)",
    ]
    assert torch.equal(model[1].weight, before)
    torch.manual_seed(0)
    audit = initplug.apply(model, {"rules": rules}, only="^1")
    torch.manual_seed(0)
    expected = nn.init.normal_(torch.empty(6, 6), std=0.5)
    assert torch.equal(model[1].weight, expected)  # what waits draws nothing
    assert statuses(audit) == {
        "0.weight": "lazy", "0.bias": "lazy", "1.weight": "initialized", "1.bias": "initialized",
        "2.weight": "lazy", "2.bias": "lazy", "2.running_mean": "lazy", "2.running_var": "lazy",
    }  # fmt: skip
    assert {row.verdict for row in audit if row.status == "lazy"} == {"untestable"}
    assert all(row.measured_mean is None for row in audit if row.status == "lazy")
    assert {row.reason for row in audit if row.status == "lazy"} == {"not in only"}
    with pytest.warns(initplug.InitplugWarning, match="6 of 8 slots wait for a first batch"):
        found = initplug.audit(model, {"rules": rules})
    assert {(row.status, row.reason) for row in found if row.name[0] in "02"} == {("lazy", "lazy")}
    assert str(audit) and audit.to_json()

    model(torch.randn(8, 4))
    assert type(model[0]) is nn.Linear
    rules = {"*": "normal std=0.5", "<Linear>.weight": init, "statistics": statistics}
    audit = initplug.apply(model, {**WRITE, "rules": rules})
    assert {row.status for row in audit} == {"initialized"} and audit.problems() == []
    assert audit["0.weight"].shape == (6, 4) and model[2].running_mean.tolist() == [0.5] * 6


def test_only_may_not_name_what_is_lazy() -> None:
    model = lazy(lambda: nn.LazyConv2d(4, 3), lambda: nn.Linear(2, 2))
    with pytest.raises(initplug.ApplyError, match=r"1 of 4 slots cannot be written\n  0.weight: it waits"):
        initplug.apply(model, {"rules": {"*": 1}}, only=["0.weight", "1.bias"])


def test_lazy_tensors_that_nothing_is_written_to_are_no_obstacle() -> None:
    model = lazy(lambda: nn.LazyLinear(4), lambda: nn.Linear(4, 4))
    kept = initplug.apply(model, {"rules": {"^0": "keep", "^1": 1}})
    unruled = initplug.apply(model, {"unmatched": "keep", "rules": {"^1": 1}})
    assert [(row.status, row.reason) for row in kept] == [("lazy", "keep")] * 2 + [("initialized", None)] * 2
    assert [(row.status, row.reason) for row in unruled] == [("lazy", "no rule")] * 2 + [("initialized", None)] * 2


def test_a_plan_warns_of_lazy_tensors_by_name() -> None:
    model = lazy(*(lambda: nn.LazyLinear(4) for _ in range(6)))
    with pytest.warns(initplug.InitplugWarning) as said:
        plan = initplug.plan(model, "torch_default")
    assert [str(warning.message) for warning in said] == [
        "12 of 12 slots wait for a first batch to learn their shape, and cannot be written before it: 0.weight, "
        "0.bias, 1.weight, 1.bias, 2.weight, 2.bias, 3.weight, 3.bias, 4.weight, 4.bias, … and 2 more"
    ]
    assert {row.reason for row in plan} == {"lazy"}


def test_a_lazy_parameter_of_a_plain_module() -> None:
    model = nn.Module()
    model.register_parameter("w", nn.UninitializedParameter())  # type: ignore[arg-type]  # torch types it as no parameter
    model.register_buffer("b", nn.UninitializedBuffer())
    rules = {"*": "normal", "b": {"match": "b", "kind": "buffer", "init": 1}}
    with pytest.raises(initplug.ApplyError, match="2 of 2 slots cannot be written"):
        initplug.apply(model, {"rules": rules})
