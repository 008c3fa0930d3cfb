from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from parametrization_parts import Doubled
from torch import Tensor, nn
from torch.nn.utils import parametrize
from untouched import places, untouched

import initplug

# Of torch's own compiler, and of scripting, which is tried here because users have such modules.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

NORMAL: dict[str, Any] = {"rules": {"*": "normal std=0.5"}}


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 4)
        self.own = nn.Parameter(torch.zeros(3))
        self.register_buffer("table", torch.zeros(2))


class Forwarding(Base):
    """Reads from its child what it does not have itself."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["lin"], name)


class Refusing(Base):
    """Raises in its own words for whatever it does not have."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "built" in self.__dict__:  # torch itself asks while it registers
                raise KeyError(f"nothing called {name}") from None
            raise

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["built"] = True


class Making(Base):
    """Hands out fresh tensors, also for the names of what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["built"] = True

    def __getattribute__(self, name: str) -> Any:
        held = super().__getattribute__
        return torch.full((3,), 9.0) if name in ("own", "table") and "built" in held("__dict__") else held(name)


class Dropping(Base):
    """Loses what is assigned once it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["built"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if "built" not in self.__dict__:
            super().__setattr__(name, value)


class Cloning(Base):
    """Stores copies of what is assigned."""

    def __setattr__(self, name: str, value: Any) -> None:
        copied = nn.Parameter(value.detach().clone()) if isinstance(value, nn.Parameter) else value
        super().__setattr__(name, copied)


class Shadowing(Base):
    """Properties and class attributes in front of what it holds."""

    lin = None  # type: ignore[assignment]  # in front of the module

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self._modules["lin"] = nn.Linear(5, 4)
        self._parameters["own"] = nn.Parameter(torch.zeros(3))
        self._buffers["table"] = torch.zeros(2)

    @property
    def own(self) -> Tensor:  # type: ignore[override]  # in front of the parameter
        raise RuntimeError("hands off")


class Lying(Base):
    """Answers every question about its tensors and modules with nothing."""

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[Any]:
        return iter(())

    def parameters(self, *_: Any, **__: Any) -> Iterator[Any]:
        return iter(())

    def named_buffers(self, *_: Any, **__: Any) -> Iterator[Any]:
        return iter(())

    def named_modules(self, *_: Any, **__: Any) -> Iterator[Any]:
        return iter(())

    def children(self) -> Iterator[Any]:
        return iter(())

    def state_dict(self, *_: Any, **__: Any) -> Any:
        return {}

    def apply(self, fn: Callable[[nn.Module], None]) -> Any:
        raise RuntimeError("no apply")

    def train(self, mode: bool = True) -> Any:
        raise RuntimeError("no modes")


class Strange(Base):
    """No truth, no length, equal to everything, unprintable."""

    def __bool__(self) -> bool:
        raise TypeError("neither true nor false")

    def __len__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("not one after the other")

    def __repr__(self) -> str:
        raise RuntimeError("unprintable")

    def __dir__(self) -> Any:
        raise RuntimeError("unlistable")


class Uncopied(Base):
    """Cannot be copied."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("one of a kind")


class Hooked(Base):
    """Hands out a state dict of copies under other names, and calls hooks that nobody should call."""

    def __init__(self) -> None:
        super().__init__()
        # Public since 2.5.
        hook = getattr(self, "register_state_dict_post_hook", self._register_state_dict_hook)
        hook(self._renamed)
        self.register_forward_pre_hook(lambda *_: pytest.fail("forward pre-hook"))
        self.register_forward_hook(lambda *_: pytest.fail("forward hook"))
        self.register_full_backward_hook(lambda *_: pytest.fail("backward hook"))

    @staticmethod
    def _renamed(module: nn.Module, state: Any, prefix: str, metadata: Any) -> None:
        for name in [name for name in state if name.startswith(prefix)]:
            state[f"{name}_renamed"] = state.pop(name).clone()


TRICKS = [Forwarding, Refusing, Making, Dropping, Cloning, Shadowing, Lying, Strange, Uncopied, Hooked]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
@pytest.mark.parametrize("nested", [False, True])
def test_values_arrive_in_the_tensors_that_torch_runs_with(trick: type[Base], nested: bool) -> None:
    model: nn.Module = trick()
    inside, model = model, (nn.ModuleDict({"first": nn.Linear(2, 2), "trick": model}) if nested else model)
    rules = {
        "*": "normal std=0.5",
        "<Linear>.bias": "fan_uniform of=weight",
        "tables": {"match": "table", "kind": "buffer", "init": 0.75},
    }
    with untouched(model):
        plan = initplug.plan(model, {"rules": rules})
    start = "trick." if nested else ""
    names = [f"{start}own", f"{start}lin.weight", f"{start}lin.bias", f"{start}table"]
    assert [row.name for row in plan] == (["first.weight", "first.bias", *names] if nested else names)
    kept = [(name, id(tensor)) for name, tensor in places(model)]
    torch.manual_seed(0)
    audit = initplug.apply(model, plan)
    torch.manual_seed(0)
    if nested:
        nn.init.normal_(torch.empty(2, 2))
        nn.init.uniform_(torch.empty(2))
    own, weight = nn.init.normal_(torch.empty(3), std=0.5), nn.init.normal_(torch.empty(4, 5), std=0.5)
    assert torch.equal(inside._parameters["own"], own)  # type: ignore[arg-type]  # it is there
    linear: Any = inside._modules["lin"]
    assert torch.equal(linear.weight, weight) and bool(linear.bias.any())
    assert inside._buffers["table"].tolist() == [0.75] * 2  # type: ignore[union-attr]  # likewise
    assert audit.problems() == [] and {row.status for row in audit} == {"initialized"}
    assert [(name, id(tensor)) for name, tensor in places(model)] == kept
    with untouched(model):
        assert {row.verdict for row in initplug.audit(model, plan)} == {"ok"}


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_default_reads_the_resets_below_tricks(trick: type[Base]) -> None:
    model = trick()
    with untouched(model):
        plan = initplug.plan(model, {"rules": {"*": "keep", "<Linear>": "default"}})
    assert plan["lin.weight"].high == pytest.approx(5**-0.5)


@pytest.mark.parametrize("trick", [Dropping, Cloning])
def test_a_setter_is_reached_past_an_owner_that_interferes(trick: type[Base]) -> None:
    class Square(trick):  # type: ignore[misc, valid-type]  # either of them
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self._parameters["weight"] = nn.Parameter(torch.ones(4, 4))

    model = Square()
    parametrize.register_parametrization(model, "weight", Doubled())
    model.__dict__["built"] = True
    torch.manual_seed(0)
    audit = initplug.apply(model, NORMAL)
    torch.manual_seed(0)
    assert (audit["weight"].status, audit["weight"].verdict) == ("initialized", "ok")
    assert torch.equal(model.weight, nn.init.normal_(torch.empty(4, 4), std=0.5))


@pytest.mark.parametrize("trick", [Dropping, Cloning])
def test_an_owner_that_does_not_take_new_memory_is_told(trick: type[Base]) -> None:
    inner = trick()
    del inner._buffers["table"]
    model = nn.ModuleDict({"trick": inner.to("meta")})
    with pytest.raises(initplug.ApplyError, match=r"trick\.own[\s\S]*(no longer holds|meta)"):
        initplug.apply(model, NORMAL)


class Swapping(nn.Module):
    """Replaces a tensor while others are written."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)


@pytest.mark.parametrize("how", ["another tensor", "no tensor"])
def test_a_tensor_that_its_owner_no_longer_holds_is_told(how: str) -> None:
    model = Swapping()

    def swap(done: int, total: int) -> None:
        if done == 1 and how == "another tensor":
            model.second.weight = nn.Parameter(torch.zeros(3, 3))
        elif done == 1:
            model.second.register_parameter("weight", None)

    with pytest.raises(initplug.ApplyError, match=r"second\.weight[\s\S]*no longer holds") as caught:
        initplug.apply(model, {"rules": {"*": 2}}, progress=swap)
    assert "first.weight" in str(caught.value)
    assert bool((model.first.weight == 2).all())


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_references_and_counts_pass_by_and_lead_through_tricks(trick: type[Base]) -> None:
    model = nn.ModuleDict({"trick": trick(), "other": nn.Linear(9, 9)})
    rules = {
        "*": 0,
        "other.bias": "fan_uniform of=..trick.lin.weight",
        "trick.lin.bias": "fan_uniform of=^other.weight",
        "other.weight": {"fn": "normal", "factor": {"count": f"<{trick.__name__}>", "times": 4}},
    }
    with untouched(model):
        plan = initplug.plan(model, {"rules": rules})
    assert plan["other.bias"].high == pytest.approx(5**-0.5)
    assert plan["trick.lin.bias"].high == pytest.approx(1 / 3)
    assert plan["other.weight"].std == pytest.approx(0.5)


# Trees --------------------------------------------------------------------------------------------------------------


def test_a_module_inside_itself_and_below_its_child() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    model.add_module("self", model)
    model[0].add_module("up", model)
    audit = initplug.apply(model, NORMAL)
    assert [row.name for row in audit] == ["0.weight", "0.bias"] and audit.problems() == []


def test_nothing_registered_is_invented() -> None:
    model: Any = nn.Module()
    model.register_parameter("none", None)
    model.register_buffer("nothing", None)
    model.add_module("nobody", None)
    model.loose = torch.zeros(3)
    model.hidden = [nn.Linear(2, 2)]
    model.register_parameter("w", nn.Parameter(torch.zeros(2)))
    audit = initplug.apply(
        model, {"rules": {"*": 1, "b": {"match": "**", "kind": "buffer", "init": 2, "optional": True}}}
    )
    assert [row.name for row in audit] == ["w"] and model.loose.tolist() == [0, 0, 0]


def test_a_very_deep_tree() -> None:
    inner: nn.Module = nn.Linear(2, 2)
    for _ in range(150):
        inner = nn.Sequential(inner)
    audit = initplug.apply(inner, {"rules": {"*": 0, "<Sequential>.**.weight": 3}})
    assert [row.measured_mean for row in audit] == [3, 0]


def test_functional_calls_and_replaced_tensors() -> None:
    model = nn.Linear(3, 3)
    replaced = {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}
    seen: list[str] = []

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = model

        def forward(self) -> Tensor:
            audit = initplug.apply(self.lin, {"frozen": "write", "rules": {"*": 4}})
            seen.extend(row.status for row in audit)
            return self.lin.weight.detach().clone()

    with untouched(model):
        given = torch.func.functional_call(Inside(), {f"lin.{name}": value for name, value in replaced.items()}, ())
    assert given.tolist() == [[4.0] * 3] * 3 and seen == ["initialized"] * 2
    assert all(bool((value == 4).all()) for value in replaced.values())


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("nested", [False, True])
def test_scripted_modules_are_refused_in_one_line(how: str, nested: bool) -> None:
    plain = nn.Sequential(nn.Linear(3, 3))
    made: Any = torch.jit.script(plain) if how == "script" else torch.jit.trace(plain, torch.zeros(1, 3))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    model = nn.ModuleDict({"first": nn.Linear(2, 2), "made": made}) if nested else made
    before = [parameter.detach().clone() for parameter in model.parameters()]
    state = torch.get_rng_state()
    with pytest.raises(initplug.InitplugError, match=r"[Ss]cript") as caught:
        initplug.apply(model, {"rules": {"*": "normal"}})
    assert "\n" not in str(caught.value)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_compiling_in_place_changes_nothing() -> None:
    ours, theirs = Base(), Base()
    ours.compile()
    ours.lin.compile()
    for model in (ours, theirs):
        torch.manual_seed(0)
        assert [row.name for row in initplug.apply(model, NORMAL)] == ["own", "lin.weight", "lin.bias"]
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


# Ties ---------------------------------------------------------------------------------------------------------------


def test_ties_through_every_kind_of_container_draw_once() -> None:
    shared = nn.Parameter(torch.zeros(6, 6))
    layers = nn.ModuleList([nn.Linear(6, 6, bias=False) for _ in range(3)])
    for layer in layers[:2]:
        layer.weight = shared
    model = nn.ModuleDict({
        "list": nn.ParameterList([nn.Parameter(torch.zeros(2)), shared]),
        "dict": nn.ParameterDict({"a": shared, "in": nn.ParameterDict({"b": shared})}),
        "layers": layers,
        "again": nn.Sequential(OrderedDict(x=layers[2], y=layers[0])),
        "table": nn.Embedding(6, 6, padding_idx=-1),
    })  # fmt: skip
    model["table"].weight = shared
    aliases = ("dict.a", "dict.in.b", "layers.0.weight", "layers.1.weight", "again.y.weight", "table.weight")
    torch.manual_seed(0)
    audit = initplug.apply(model, NORMAL)
    torch.manual_seed(0)
    drawn = [nn.init.normal_(torch.empty(shape), std=0.5) for shape in ((2,), (6, 6), (6, 6))]
    drawn[1][-1] = 0
    assert [(row.name, row.aliases) for row in audit] == [
        ("list.0", ()), ("list.1", aliases), ("layers.2.weight", ("again.x.weight",)),
    ]  # fmt: skip
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), drawn, strict=True))
    for name in ("list.1", *aliases):
        audit = initplug.apply(model, NORMAL, only=[f"**.{name}"])
        assert [row.name for row in audit if row.status != "kept"] == ["list.1"]
        assert audit[name].aliases == aliases
    for selector in (
        "<ParameterList>.1",
        "dict.a",
        "in.b",
        "<Linear>.weight",
        "<Embedding>.weight",
        "y.weight",
        "^table",
    ):
        assert initplug.plan(model, {"rules": {"*": 0, selector: 1}})["list.1"].rule == selector
    row = initplug.plan(model, {"rules": {"*": 0, "one": {"match": "<Linear>", "init": 1, "except": "<Embedding>"}}})
    assert (row["list.1"].rule, row["layers.2.weight"].rule) == ("*", "one")
