"""What cannot be probed is refused before or where it happens, by name, with what had been measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from untouched import untouched

import initplug
from initplug import InitplugError, ProbeError


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def refused(model: Any, inputs: Any, **keywords: Any) -> str:
    with untouched(model), pytest.raises(InitplugError) as caught:
        initplug.probe(model, inputs, **keywords)
    return str(caught.value)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.fc(input_ids)
        return y


class Lenient(Named):
    def forward(self, input_ids: Tensor, **others: Any) -> Tensor:  # type: ignore[override]  # that is what is tested
        y: Tensor = self.fc(input_ids)
        return y


def test_misspelt_keyword_inputs_are_answered_with_the_nearest() -> None:
    x = torch.randn(2, 4)
    assert refused(Named(), {"inputs_ids": x}) == "forward of Named takes no 'inputs_ids' (did you mean input_ids?)"
    assert refused(Named(), {"zzz": x}) == "forward of Named takes no 'zzz' (it takes input_ids, mask)"
    assert refused(Lenient(), {"inputs_ids": x}) == "forward of Lenient names no 'inputs_ids' (did you mean input_ids?)"
    assert refused(Named(), (x, x, x)) == "forward of Named takes 2 inputs, not 3"


def test_inputs_of_the_wrong_shape_are_told_with_the_layer() -> None:
    said = refused(net(), torch.randn(2, 5)).splitlines()
    assert said[0].startswith("forward of 0 (Linear) raised RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert said[1:] == [
        "  inputs: 2×5 float32",
        "  no layer was measured before: see that inputs have the shape, dtype and device that it takes",
    ]


def test_what_had_been_measured_is_told_and_given() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(7, 2)))
    with pytest.raises(ProbeError) as caught:
        initplug.probe(model, torch.randn(9, 4))
    assert "forward of 2.0 (Linear) raised" in str(caught.value)
    assert "2 layers were measured before; the last is 1 (ReLU), 9×8, std 0." in str(caught.value)
    assert [layer.name for layer in caught.value.trace] == ["0", "1"]
    assert caught.value.findings[0].path == "2.0"


def test_an_error_that_the_model_catches_is_none() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong, self.right = nn.Linear(7, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            try:
                y: Tensor = self.wrong(x)
            except RuntimeError:
                y = self.right(x)
            return y

    assert [layer.name for layer in initplug.probe(Careful(), torch.randn(2, 4)).traces[0]] == ["right"]


def test_inputs_that_are_not_finite_are_refused() -> None:
    x = torch.randn(2, 4)
    x[1, 2] = torch.nan
    assert refused(net(), x) == "input 1 holds NaN itself: nothing can be said of the layers"
    assert refused(Named(), {"input_ids": x / 0}).startswith("input_ids holds ")
    assert refused(net(), x.to("meta")) == "input 1 is on meta and has no values"
    assert refused(net(), x.numpy()) == "input 1 is a NumPy array: torch.from_numpy makes a tensor of it"


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda y: y, r"loss returned (2, 2) of float32, not a scalar: take its mean"),
        (lambda y: 3.0, "loss returned a float, not a scalar tensor"),
        (lambda y: y.sum().detach(), "loss gave a number that no gradient leads back from"),
        (lambda y: y.argmax(), "loss returned () of int64, not a scalar"),
        (5, "loss is a function of what the model gives, not a int"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused(loss: Any, said: str) -> None:
    assert said in refused(net(), torch.randn(2, 4), loss=loss)


def test_a_loss_that_raises_is_told_as_such() -> None:
    assert refused(net(), torch.randn(2, 4), loss=lambda y: y.nothing).startswith("loss raised AttributeError")


def test_a_model_without_a_gradient_is_refused() -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(x)
            return y

    class Counting(Silent):
        def forward(self, x: Tensor) -> Any:
            return {"count": 3}

    x = torch.randn(2, 4)
    assert "nothing that forward gave needs a gradient: all parameters" in refused(Silent(), x)
    assert "nothing that forward gave needs a gradient" in refused(net().requires_grad_(False), x)
    assert refused(Counting(), x).startswith("forward gave no floating-point tensor but a dict")


def test_a_backward_that_raises_is_told_as_such() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise RuntimeError("on purpose")

    class Model(Named):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # likewise
            y: Tensor = Broken.apply(self.fc(x))  # type: ignore[no-untyped-call]  # likewise
            return y

    assert "the backward pass raised RuntimeError: on purpose" in refused(Model(), torch.randn(2, 4))


def test_tensors_without_values_are_refused_by_name() -> None:
    assert "it is lazy: run one batch first" in refused(nn.Sequential(nn.LazyLinear(3)), torch.randn(2, 4))
    with torch.device("meta"):
        model = net()
    said = refused(model, torch.randn(2, 4))
    assert said.startswith("4 of 4 tensors hold no whole values\n  0.weight: it is on meta and has no values: apply")
    with pytest.raises(initplug.PlanError, match=r"a model is a torch\.nn\.Module, not a int"):
        initplug.probe(3, torch.randn(2, 4))  # type: ignore[arg-type]


def test_sharded_tensors_are_refused_by_name(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_module

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = distribute_module(net(), init_device_mesh("cpu", (1,)))
        with pytest.raises(ProbeError) as caught:
            initplug.probe(model, torch.randn(2, 4))
    finally:
        distributed.destroy_process_group()
    assert "0.weight: it is sharded (DTensor): probe the model before it is cut, on one device" in str(caught.value)


def test_seeds_and_recipes_go_together() -> None:
    x = torch.randn(2, 4)
    assert refused(net(), x, recipes=["keep"]).startswith("recipes= needs seed=")
    assert refused(net(), x, seed=3).startswith("seed= is that of recipes=")
    assert refused(net(), x, recipes=[], seed=3) == "recipes= names none"
    assert "did you mean keep?" in refused(net(), x, recipes=["kepe"], seed=3)


def test_a_recipe_that_does_not_fit_is_told_with_its_name() -> None:
    with pytest.raises(initplug.PlanError, match="match no rule"):
        initplug.probe(net(), torch.randn(2, 4), recipes={"a": {"rules": {"*.bias": 0}}}, seed=0)


def test_a_model_that_cannot_be_copied_is_told() -> None:
    model = net()
    vars(model)["handle"] = (one for one in "ab")
    said = refused(model, torch.randn(2, 4), recipes=["keep"], seed=0)
    assert said.startswith("Sequential cannot be copied (TypeError: cannot pickle 'generator' object")
    assert "probe without recipes=" in said


def test_hooks_on_gradients_are_not_run_by_reentrant_checkpoints() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checked(Named):
        def forward(self, x: Tensor) -> Any:  # type: ignore[override]  # likewise
            return checkpoint(self.fc, x, use_reentrant=True)

    model, x = Checked(), torch.randn(2, 4, requires_grad=True)
    weight: Any = model.fc.weight
    weight.register_post_accumulate_grad_hook(lambda parameter: parameter.data.zero_())
    assert "1 parameters have hooks that run once their gradient is there" in refused(model, x)


def test_no_trace_or_layer_of_that_name() -> None:
    found = initplug.probe(net(), torch.randn(9, 4), recipes=["keep"], seed=0)
    with pytest.raises(KeyError, match=r"no layer '0.wieght'"):
        found["0.wieght"]
    with pytest.raises(KeyError, match=r"did you mean keep\?"):
        found.trace("keeps")
