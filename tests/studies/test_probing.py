"""One pass measures what layers give and get, and leaves everything as it was."""

from __future__ import annotations

import gc
import random
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from untouched import untouched

import initplug
from initplug import ProbeError


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 8, 3),
            bn=nn.BatchNorm2d(8),
            relu=nn.ReLU(inplace=True),
            drop=nn.Dropout(0.5),
            flat=nn.Flatten(),
            fc=nn.Linear(8 * 36, 5),
        )
    )


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


# What is measured ----------------------------------------------------------------------------------------------


def test_numbers_are_those_of_a_pass_by_hand() -> None:
    model, x = net().eval(), images(16)
    found = initplug.probe(model, x, loss=lambda y: y.square().mean())
    conv = model.conv(x)
    normed = model.bn(conv)
    active = normed.relu()
    logits = model.fc(active.flatten(1))
    by_hand = {"conv": conv, "bn": normed, "relu": active, "fc": logits}
    gradients = torch.autograd.grad(logits.square().mean(), list(by_hand.values()))
    assert [layer.name for layer in found.traces[0]] == [*by_hand]
    for (name, tensor), gradient in zip(by_hand.items(), gradients, strict=True):
        layer = found[name]
        assert layer.shape == tensor.shape
        assert layer.mean == pytest.approx(tensor.mean().item(), abs=1e-6)
        assert layer.std == pytest.approx(tensor.std(correction=0).item(), rel=1e-5)
        assert layer.gradient == pytest.approx(gradient.std(correction=0).item(), rel=1e-4)
        assert layer.zeros == pytest.approx((tensor == 0).double().mean().item())
        between = tensor.var(0, correction=0).mean().sqrt().item()  # of few places, all are looked at
        assert layer.signal == pytest.approx(between, rel=1e-5)
    assert found["bn"].ratio == pytest.approx(normed.std().item() / conv.std().item(), rel=1e-4)
    assert found["fc"].gradient_ratio == pytest.approx(
        gradients[3].std(correction=0).item() / gradients[2].std(correction=0).item(), rel=1e-4
    )


def test_dead_units_are_counted_by_channel() -> None:
    layer: Any = nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        layer.bias[:6] = -100
    found = initplug.probe(nn.Sequential(layer, nn.ReLU()), images())
    assert found["1"].dead == 0.75
    assert found["0"].dead is None


@pytest.mark.parametrize(
    ("function", "flat"),
    [(nn.Tanh(), lambda y: 1 - y**2), (nn.Sigmoid(), lambda y: 4 * y * (1 - y)), (nn.Softsign(), None)],
)
def test_elements_without_slope_are_saturated(function: nn.Module, flat: Callable[[Tensor], Tensor] | None) -> None:
    x = 3 * torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(50, 50)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    model = nn.Sequential(layer, function)
    at = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(at).sum(), at)
    expected = (slope / (slope.max() if flat is not None else 1) < 0.05).double().mean().item()
    assert initplug.probe(model, x)["1"].saturated == pytest.approx(expected, abs=0.01)


class Functional(nn.Module):
    """A net that calls functions instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(functional.relu(self.first(x)).tanh())
        return y


def test_functions_have_rows_in_the_module_that_calls_them() -> None:
    model = Functional()
    found = initplug.probe(model, torch.randn(10, 6))
    assert [(layer.name, layer.kind) for layer in found.traces[0]] == [
        ("first", "Linear"),
        ("model:relu", "relu"),
        ("model:tanh", "tanh"),
        ("last", "Linear"),
    ]
    assert all(layer.gradient for layer in found.traces[0])


def test_a_module_that_is_used_again_has_a_row_for_each_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act = nn.Linear(6, 6), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(40):
                x = self.act(self.layer(x))
            return x

    found = initplug.probe(Shared(), torch.randn(10, 6))
    names = [layer.name for layer in found.traces[0]]
    assert names[:4] == ["layer", "act", "layer#2", "act#2"]
    assert names[64:] == ["model"]
    assert "layer (40)" in found.traces[0].remarks[0]
    assert all(layer.gradient is not None for layer in found.traces[0])


def test_what_hands_on_its_input_has_no_row() -> None:
    model = nn.Sequential(nn.Identity(), nn.Linear(6, 6), nn.Dropout(0.5), nn.Unflatten(1, (2, 3)), nn.Flatten()).eval()
    assert [layer.name for layer in initplug.probe(model, torch.randn(4, 6)).traces[0]] == ["1"]


@dataclass
class Output:
    logits: Tensor
    hidden: list[Tensor]


@pytest.mark.parametrize(
    ("wrap", "start"),
    [
        (lambda y: y, "unit normals"),
        (lambda y: (y, y.detach()), "unit normals at 0"),
        (lambda y: {"logits": y, "other": y * 2}, "unit normals at logits"),
        (lambda y: Output(y, [y]), "unit normals at logits"),
        (lambda y: {"loss": y.mean(), "logits": y}, "the model's own loss"),
        (lambda y: {"a": [y], "b": (y, 3)}, "unit normals at a.0, b.0"),
    ],
)
def test_models_may_return_anything_that_holds_tensors(wrap: Callable[[Tensor], Any], start: str) -> None:
    class Wrapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            return wrap(self.fc(x))

    found = initplug.probe(Wrapping(), torch.randn(3, 4))
    assert found.traces[0].start == start
    assert found["fc"].gradient is not None


def test_inputs_are_given_by_name_by_place_or_alone() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
            y: Tensor = self.fc(x) * scale
            return y

    x = torch.randn(3, 4)
    for inputs in (x, (x,), {"x": x}, {"x": x, "scale": 2.0}):
        found = initplug.probe(Two(), inputs)
        assert found["fc"].shape == (3, 4)
    assert found.inputs == "x=3×4 float32, scale=2.0"


def test_the_backward_pass_starts_from_the_same_unit_normals_each_time() -> None:
    model, x = nn.Linear(30, 40), torch.randn(50, 30)
    one, other = (initplug.probe(model, x) for _ in range(2))
    assert one.to_json() == other.to_json()
    assert one["model"].gradient == pytest.approx(1, abs=0.05)


def test_dropout_drops_the_same_each_time() -> None:
    model = net().train()
    torch.manual_seed(3)
    one = initplug.probe(model, images())
    torch.manual_seed(4)
    assert initplug.probe(model, images()).to_json() == one.to_json()


def test_modes_are_kept_and_used() -> None:
    model = net()
    assert "drop" in {layer.name for layer in initplug.probe(model.train(), images()).traces[0]}
    assert "drop" not in {layer.name for layer in initplug.probe(model.eval(), images()).traces[0]}


def test_modules_that_are_never_reached_are_listed() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
            self.by_hand, self.idle = nn.Linear(4, 4), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(self.used(x), self.by_hand.weight)

    found = initplug.probe(Partly(), torch.randn(3, 4))
    assert found.traces[0].unreached == ("unused",)
    assert "1 module was never reached: unused" in str(found)


class Deep(nn.Module):
    """Blocks behind checkpoints, or not."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 8)) for _ in range(3)
        )
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Any:
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_change_no_number(reentrant: bool) -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain = initplug.probe(Deep(None), x)
    model = Deep(reentrant)
    with untouched(model):
        found = initplug.probe(model, x)
    assert x.grad is None or not reentrant
    rows = [layer.to_dict() for layer in plain.traces[0]]
    for expected, layer in zip(rows, found.traces[0], strict=True):
        assert layer.name == expected["name"] and layer.std == expected["std"]
        assert layer.gradient == pytest.approx(expected["gradient"], rel=1e-6), layer.name


def test_half_precision_is_measured_in_double() -> None:
    model, x = net().eval(), images(16)
    exact = initplug.probe(model, x)
    rounded = initplug.probe(model.bfloat16(), x.bfloat16())
    for one, other in zip(exact.traces[0], rounded.traces[0], strict=True):
        assert other.std == pytest.approx(one.std, rel=0.03)
        assert other.gradient == pytest.approx(one.gradient, rel=0.05)


def test_complex_layers_are_measured_in_both_parts() -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 5, dtype=torch.complex64))
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(torch.fft.rfft(x) @ self.weight)
            back: Tensor = torch.fft.irfft(y)
            return back

    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    layer = initplug.probe(Waves(), x)["model"]
    assert layer.std and layer.gradient
    found = initplug.probe(nn.Sequential(Waves(), Waves()), x, loss=lambda y: y.square().mean())
    assert [layer.name for layer in found.traces[0]] == ["0", "1"]


def test_autocast_is_that_of_the_caller() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    with torch.autocast("cpu", torch.bfloat16):
        found = initplug.probe(model, torch.randn(16, 6), loss=lambda y: y.float().mean())
    assert found["0"].gradient is not None


def test_a_compiled_model_is_run_as_it_was_written() -> None:
    model = net().eval()
    plain = initplug.probe(model, images())
    compiled: Any = torch.compile(model, backend="eager")
    found = initplug.probe(compiled, images())
    assert [layer.to_dict() for layer in found.traces[0]] == [layer.to_dict() for layer in plain.traces[0]]
    assert found.traces[0].remarks == ("the model is compiled: it was run as it was before that",)


def test_parts_that_are_compiled_are_run_as_they_were_written() -> None:
    parts = [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)]
    plain, compiled = nn.Sequential(*parts), nn.Sequential(*parts)
    x = torch.randn(9, 4)
    rows = [layer.to_dict() for layer in initplug.probe(plain, x).traces[0]]
    compiled[1] = torch.compile(parts[1], backend="eager")  # type: ignore[assignment]  # which gives a module
    assert [layer.to_dict() for layer in initplug.probe(compiled, x).traces[0]] == rows
    parts[1].compile(backend="eager")
    assert [layer.to_dict() for layer in initplug.probe(plain, x).traces[0]] == rows


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_whatever_the_caller_forbids(outer: Any) -> None:
    model = net()
    with outer():
        found = initplug.probe(model, images())
    assert found["conv"].gradient


def test_frozen_layers_at_the_beginning_get_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    found = initplug.probe(model, torch.randn(9, 4))
    assert [layer.gradient is None for layer in found.traces[0]] == [True, True, False]
    assert not any(parameter.requires_grad for parameter in model[0].parameters())


# What is left as it was ----------------------------------------------------------------------------------------


class Restless(nn.Module):
    """A module that changes whatever it can while it runs."""

    count: Tensor
    swapped: Tensor
    fc: Any

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.table = nn.Linear(6, 6), nn.Embedding(5, 6, max_norm=0.1)
        self.register_buffer("count", torch.zeros(3))
        self.register_buffer("swapped", torch.zeros(3))
        self.plain, self.cache = torch.ones(2), {"last": torch.ones(2)}
        self.seen: list[Tensor] = []
        self.own = torch.Generator()
        self.broken = False

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.count.data.mul_(2)
        self.swapped = self.swapped + 1
        self.plain.add_(1)
        self.seen.append(x)
        self.cache["last"].add_(1)
        self.cache["new"] = x
        self.added = x
        self.eval()
        self.fc.extra = nn.Linear(2, 2)
        with torch.no_grad():
            self.fc.weight.clamp_(-0.01, 0.01)
        self.fc.bias.data.zero_()
        torch.rand(1, generator=self.own)
        np.random.rand()
        random.random()
        y: Tensor = self.fc(x) + self.table(torch.tensor([1])) + torch.rand(6)
        if self.broken:
            raise RuntimeError("on purpose")
        return y


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_of_a_model_is_changed(broken: bool) -> None:
    model: Any = nn.Sequential(nn.Linear(6, 6), Restless(), nn.BatchNorm1d(6))
    model[1].broken = broken
    heard: list[Tensor] = []
    model[0].register_forward_hook(lambda module, args, output: heard.append(output))
    model[0].weight.grad = torch.full((6, 6), 7.0)
    x = torch.randn(8, 6)
    states = model[1].own.get_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]  # NumPy's
    deep = {name: value.clone() for name, value in model.state_dict().items()}
    version = x._version
    with untouched(model):
        if broken:
            with pytest.raises(ProbeError, match=r"forward of 1 \(Restless\) raised RuntimeError: on purpose"):
                initplug.probe(model, x)
        else:
            initplug.probe(model, x)
    assert all(torch.equal(value, deep[name]) for name, value in model.state_dict().items())
    assert model[1].seen == [] and [*model[1].cache] == ["last"]
    assert model[1].cache["last"].eq(1).all() and model[1].plain.eq(1).all()
    assert torch.equal(model[1].own.get_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1]) and random.getstate() == states[2]  # type: ignore[index]
    assert model[0].weight.grad.eq(7).all() and model[0].bias.grad is None
    assert x._version == version and not x.requires_grad and x.grad is None
    assert len(heard) == 1 and not heard[0]._backward_hooks


def test_no_activation_is_kept() -> None:
    model, outputs = net(), list[weakref.ref[Tensor]]()
    for module in model:
        module.register_forward_hook(lambda module, args, output: outputs.append(weakref.ref(output)))
    found = initplug.probe(model, images())
    gc.collect()
    assert len(outputs) == 6 and not any(output() is not None for output in outputs)
    assert len(found.traces[0]) == 5


def test_weights_that_a_forward_changes_unseen_are_told() -> None:
    class Sly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                alias = self.weight.detach()
                alias.add_(1)
            return x * self.weight

    with pytest.raises(initplug.InitplugError, match="forward wrote 1 parameters in place, and they could not be put"):
        initplug.probe(Sly(), torch.randn(2, 3))


# Recipes -------------------------------------------------------------------------------------------------------


def test_recipes_are_applied_to_copies() -> None:
    model, x = net(), images()
    recipes = ["torch_default", {"name": "mine", "rules": {"*": "normal std=0.1"}}]
    with untouched(model):
        found = initplug.probe(model, x, recipes=recipes, seed=5)
    assert [trace.name for trace in found] == ["torch_default", "mine"]
    initplug.apply(model, recipes[1], seed=5)
    alone = initplug.probe(model, x)
    assert [layer.to_dict() for layer in found.trace("mine")] == [layer.to_dict() for layer in alone.traces[0]]


def test_recipes_give_values_to_a_model_on_meta() -> None:
    with initplug.deferred():
        model = net()
    found = initplug.probe(model, images(), recipes="torch_default_strict", seed=0)
    assert found["fc"].std and model.fc.weight.is_meta


def test_one_copy_lives_at_a_time() -> None:
    class Counted(nn.Linear):
        alive: ClassVar[weakref.WeakSet[nn.Module]] = weakref.WeakSet()
        most = 0

        def forward(self, x: Tensor) -> Tensor:
            gc.collect()
            Counted.alive.add(self)
            Counted.most = max(Counted.most, len(Counted.alive))
            return super().forward(x)

    initplug.probe(Counted(4, 4), torch.randn(3, 4), recipes=["torch_default"] * 3, seed=0)
    assert Counted.most == 1


def test_names_of_recipes_are_told_apart() -> None:
    rules = {"rules": {"*": "normal"}}
    found = initplug.probe(nn.Linear(2, 2), torch.randn(9, 2), recipes=["keep", "keep", rules], seed=0)
    assert [trace.name for trace in found] == ["keep", "keep (2)", "recipe 3"]
    named = initplug.probe(nn.Linear(2, 2), torch.randn(9, 2), recipes={"a": rules, "b": rules}, seed=0)
    assert [trace.name for trace in named] == ["a", "b"]
