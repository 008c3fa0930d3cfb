from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import quietly
from torch import Tensor, nn

import initplug

WRITE = {"frozen": "write"}  # many of these tensors require no gradient
NORMAL = {**WRITE, "rules": {"*": "normal std=0.5"}}
SEEDS = pytest.mark.parametrize("seed", [None, 3])


def lone(tensor: Tensor, *, requires_grad: bool = True) -> nn.ParameterDict:
    return nn.ParameterDict({"w": nn.Parameter(tensor, requires_grad=requires_grad)})


def draw_by_hand(shape: tuple[int, ...], std: float = 0.5) -> Tensor:
    """What a hand-written draw gives from the seed 0."""
    torch.manual_seed(0)
    return nn.init.normal_(torch.empty(shape), std=std)


# Tensors ----------------------------------------------------------------------------------------------------------


@SEEDS
def test_frozen_tensors_are_written_and_stay_frozen(seed: int | None) -> None:
    model = lone(torch.zeros(4, 4), requires_grad=False)
    row = initplug.apply(model, NORMAL, seed=seed)["w"]
    assert (row.trainable, row.verdict, model["w"].requires_grad) == (False, "ok", False)


@SEEDS
def test_empty_tensors_are_recorded_and_draw_nothing(seed: int | None) -> None:
    model = nn.ParameterDict({"w": nn.Parameter(torch.empty(0, 3)), "v": nn.Parameter(torch.zeros(4))})
    torch.manual_seed(0)
    audit = initplug.apply(model, {**WRITE, "rules": {"*": "normal", "w.**": "xavier_uniform"}}, seed=seed)
    assert (audit["w"].status, audit["w"].verdict, audit["w"].measured_mean) == ("empty", "untestable", None)
    if seed is None:
        assert torch.equal(model["v"], draw_by_hand((4,), 1.0))


@SEEDS
def test_tensors_without_dimensions(seed: int | None) -> None:
    model = lone(torch.tensor(0.0))
    row = initplug.apply(model, NORMAL, seed=seed)["w"]
    assert (row.shape, row.numel, row.verdict) == ((), 1, "ok")
    assert model["w"].item() != 0


def test_a_channels_last_tensor_gets_what_torch_draws_into_it() -> None:
    ours, theirs = (torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last) for _ in range(2))
    torch.manual_seed(0)
    nn.init.normal_(theirs, std=0.5)
    torch.manual_seed(0)
    model = lone(ours)
    initplug.apply(model, NORMAL)
    assert torch.equal(model["w"], theirs) and model["w"].is_contiguous(memory_format=torch.channels_last)


@SEEDS
def test_a_view_is_written_and_its_surroundings_are_not(seed: int | None) -> None:
    memory = torch.full((6, 4), 7.0)
    initplug.apply(lone(memory[2:4, 1:]), NORMAL, seed=seed)
    outside = torch.ones(6, 4, dtype=torch.bool)
    outside[2:4, 1:] = False
    assert bool((memory[outside] == 7).all()) and not bool((memory[2:4, 1:] == 7).any())


@SEEDS
def test_inference_tensors_are_written_where_torch_allows_it(seed: int | None) -> None:
    with torch.inference_mode():
        model = lone(torch.zeros(4), requires_grad=False)
    with pytest.raises(initplug.ApplyError, match="it is an inference tensor"):
        initplug.apply(model, NORMAL, seed=seed)
    assert not model["w"].any()
    with torch.inference_mode():
        assert initplug.apply(model, NORMAL, seed=seed, threads=2)["w"].verdict == "ok"
        initplug.apply(model, {**WRITE, "rules": {"*": 5}}, seed=seed, threads=2)
        assert model["w"].tolist() == [5, 5, 5, 5]


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.zeros(4, 4), 0.1, 0, torch.qint8)


REFUSED: dict[str, tuple[Callable[[], Tensor], str]] = {
    "expanded": (lambda: torch.zeros(1, 4).expand(3, 4), "several elements share one place in memory"),
    "overlapping": (lambda: torch.zeros(6).as_strided((3, 4), (1, 1)), "several elements share one place in memory"),
    "sparse": (lambda: torch.zeros(4, 4).to_sparse(), "its layout is sparse_coo"),
    "quantized": (quantized, "quantized|qint8"),
    "bool": (lambda: torch.zeros(4, dtype=torch.bool), "bool tensors take constants only"),
    "int": (lambda: torch.zeros(4, dtype=torch.int64), "int64 tensors take constants only"),
}


@SEEDS
@pytest.mark.filterwarnings("ignore:.*quant.*", "ignore:torch.quantize_per_tensor.*")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_is_refused_by_name_and_nothing_is_written(kind: str, seed: int | None) -> None:
    build, reason = REFUSED[kind]
    model = nn.ParameterDict({"first": nn.Parameter(torch.zeros(3))})
    model.register_parameter("w", nn.Parameter(build(), requires_grad=False))
    generator = torch.get_rng_state()
    with pytest.raises(initplug.InitplugError, match=reason) as caught:
        initplug.apply(model, NORMAL, seed=seed)
    assert [finding.path for finding in caught.value.findings] == ["w"]
    assert not model["first"].any() and torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize(("dtype", "value"), [(torch.bool, 1), (torch.int64, 7), (torch.uint8, 255)])
@SEEDS
def test_integers_take_constants(dtype: torch.dtype, value: int, seed: int | None) -> None:
    model = lone(torch.zeros(4, dtype=dtype), requires_grad=False)
    assert initplug.apply(model, {**WRITE, "rules": {"*": value}}, seed=seed)["w"].verdict == "ok"
    assert bool((model["w"] == value).all())


# Ties ---------------------------------------------------------------------------------------------------------------


@SEEDS
def test_one_tensor_at_many_places_is_one_slot_and_one_draw(seed: int | None) -> None:
    shared, layer = nn.Parameter(torch.zeros(5, 5)), nn.Linear(5, 5)
    model = nn.ModuleDict({
        "list": nn.ParameterList([shared, nn.Parameter(torch.zeros(2)), shared]),
        "layers": nn.ModuleList([layer, layer]),
        "again": layer,
    })  # fmt: skip
    model["again"].register_parameter("tied", shared)
    torch.manual_seed(0)
    audit = initplug.apply(model, NORMAL, seed=seed)
    assert {row.name: row.aliases for row in audit} == {
        "list.0": ("list.2", "layers.0.tied", "layers.1.tied", "again.tied"),
        "list.1": (),
        "layers.0.weight": ("layers.1.weight", "again.weight"),
        "layers.0.bias": ("layers.1.bias", "again.bias"),
    }
    if seed is None:
        assert torch.equal(shared, draw_by_hand((5, 5)))


def test_a_tensor_of_two_owners_is_selected_by_either_type_and_keeps_its_padding_row() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 5, bias=False), "emb": nn.Embedding(5, 3, padding_idx=1)})
    model["head"].register_parameter("weight", model["emb"].get_parameter("weight"))
    for selector in ("<Linear>.weight", "<Embedding>.weight", "^emb", "head.weight"):
        audit = initplug.apply(model, {**WRITE, "rules": {"*": 9, selector: "normal"}}, seed=0)
        assert [(row.name, row.rule, row.aliases) for row in audit] == [("head.weight", selector, ("emb.weight",))]
        weight = model["emb"].get_parameter("weight")
        assert not weight[1].any() and bool(weight[[0, 2, 3, 4]].all())


# Modules with tricks ------------------------------------------------------------------------------------------------


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(3, 4)


class CopyingStateDict(Inner):
    """Hands out copies under other names."""

    def __init__(self) -> None:
        super().__init__()
        self._register_state_dict_hook(self._copied)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @staticmethod
    def _copied(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> Any:
        return OrderedDict((f"renamed.{name}", tensor.clone()) for name, tensor in state.items())


class Forwarding(Inner):
    """Looks up in its child whatever it does not have."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("lin"), name)


class Raising(Inner):
    """Knows nothing but what it has, and says so in its own words."""

    def __getattr__(self, name: str) -> Any:
        if name in ("lin",):
            return super().__getattr__(name)
        raise RuntimeError(f"there is nothing called {name} here")


class Inventing(Inner):
    """Makes a tensor up for every name."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return torch.full((2,), 3.0)


class Guarded(Inner):
    """Lets nothing be assigned once it is built."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "closed", True)

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get("closed"):
            return
        super().__setattr__(name, value)


class Shadowing(Inner):
    """A property in front of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self._parameters["scale"] = nn.Parameter(torch.zeros(3))

    @property
    def scale(self) -> Tensor:
        return torch.full((3,), 5.0)


class Counting(Inner):
    """Sees its attributes read, and lists no modules by name."""

    def named_parameters(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not today")

    def state_dict(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("nor this")


@SEEDS
@pytest.mark.parametrize("kind", [CopyingStateDict, Forwarding, Raising, Inventing, Guarded, Shadowing, Counting])
def test_values_arrive_whatever_a_module_does_with_its_attributes(kind: type[Inner], seed: int | None) -> None:
    model = kind()
    audit = initplug.apply(model, {**WRITE, "rules": {"*": "normal std=0.5", "*.bias": 2}}, seed=seed)
    assert audit.problems() == [] and {row.status for row in audit} == {"initialized"}
    linear = model._modules["lin"]
    assert isinstance(linear, nn.Linear)
    assert bool((linear.bias == 2).all()) and bool(linear.weight.any())
    if kind is Shadowing:
        held = model._parameters["scale"]
        assert held is not None and bool(held.any()) and not bool((held == 5).any())


@SEEDS
def test_hooks_are_not_called(seed: int | None) -> None:
    model = Inner()
    model.lin.register_forward_pre_hook(lambda *_: pytest.fail("a hook was called"))
    model.lin.register_forward_hook(lambda *_: pytest.fail("a hook was called"))
    model._register_state_dict_hook(lambda *_: pytest.fail("a hook was called"))  # type: ignore[no-untyped-call]  # likewise
    assert initplug.apply(model, NORMAL, seed=seed).problems() == []


# Names --------------------------------------------------------------------------------------------------------------

NAMES = [
    "with space", "ümläut", "名前", "*", "a*b", "?", "[x]", "(a|b)", "<Linear>", "^start", "-1", "0", "a-b", "a:b",
    "a=b",
    'quo"te', "quo'te", "#", "{x}", "${x}", "new\nline", "tab\t", "\\", "/", "@", "!", "&", "%", "~", "weight ", "🙂",
]  # fmt: skip


@SEEDS
def test_every_name_that_torch_takes_is_reachable(seed: int | None) -> None:
    model = nn.Module()
    for name in NAMES:
        model.register_parameter(name, nn.Parameter(torch.zeros(6)))
        model.add_module(f"{name} module", nn.Linear(2, 2))
    audit = initplug.apply(model, {**WRITE, "rules": {"*": "normal", "<Linear>.bias": 1}}, seed=seed)
    names = [name for name, _ in model.named_parameters()]
    assert [row.name for row in audit] == names and audit.problems() == []
    for name in names:
        assert audit[name].rule == ("<Linear>.bias" if name.endswith("bias") else "*")
        again = initplug.apply(model, {**WRITE, "rules": {"*": 5}}, only=[name], seed=seed)
        assert [row.name for row in again if row.status == "initialized"] == [name]
    assert str(audit) and audit.to_json() and audit.to_csv() and audit.to_markdown()


def test_a_name_that_cannot_be_encoded_is_told_under_a_seed() -> None:
    model = lone(torch.zeros(3))
    model.register_parameter("half \ud800", nn.Parameter(torch.zeros(3)))
    with pytest.raises(initplug.ApplyError, match="holds half a character"):
        initplug.apply(model, NORMAL, seed=0)
    assert not model["w"].any()


def test_containers_of_parameters() -> None:
    model = nn.ModuleDict({
        "list": nn.ParameterList([torch.zeros(2), torch.zeros(3)]),
        "dict": nn.ParameterDict({"a": torch.zeros(2), "inner": nn.ParameterDict({"b": torch.zeros(2, 2)})}),
    })  # fmt: skip
    rules = {"<ParameterList>": 1, "dict.a": 2, "inner.b": 3}
    audit = initplug.apply(model, {**WRITE, "rules": rules})
    assert [(row.name, row.measured_mean) for row in audit] == [
        ("list.0", 1), ("list.1", 1), ("dict.a", 2), ("dict.inner.b", 3),
    ]  # fmt: skip


# Lazy modules -------------------------------------------------------------------------------------------------------


@SEEDS
def test_lazy_modules_wait_and_are_written_once_they_know_their_shapes(seed: int | None) -> None:
    model = quietly(lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2)))
    recipe = {"rules": {"*": "normal std=0.5", "buffers": {"match": "running_mean", "kind": "buffer", "init": 0}}}
    with pytest.raises(initplug.ApplyError, match="7 of 7 slots cannot be written"):
        initplug.apply(model, recipe, seed=seed)
    with pytest.warns(initplug.InitplugWarning, match="7 of 7 slots wait"):
        assert initplug.plan(model, recipe)["0.weight"].shape == ()
    model(torch.randn(2, 3, 8, 8))
    after = initplug.apply(model, recipe, seed=seed)
    assert {row.status for row in after} == {"initialized"} and after.problems() == []
