from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from parametrization_parts import older
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from untouched import bits, untouched

import initplug

NORMAL: dict[str, Any] = {"rules": {"*": "normal std=0.5", "*.bias": "uniform -0.1 0.1"}}


def pruned(module: nn.Module, mask: Tensor, name: str = "weight") -> nn.Module:
    prune.custom_from_mask(module, name, mask)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return module


def half(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape).remainder(2).float()


def twice_pruned(module: nn.Module) -> nn.Module:
    pruned(module, half(8, 6))
    prune.ln_structured(module, "weight", amount=2, n=2, dim=0)  # type: ignore[no-untyped-call]  # likewise
    return module


class Kind(NamedTuple):
    build: Callable[[], Any]
    stored: Callable[[Tensor], dict[str, Tensor]]
    status: str


def in_norms(dim: int | None) -> Callable[[Tensor], dict[str, Tensor]]:
    def stored(value: Tensor) -> dict[str, Tensor]:
        axes = [axis for axis in range(value.ndim) if axis != dim]
        return {"weight_g": torch.linalg.vector_norm(value, dim=axes, keepdim=True), "weight_v": value}

    return stored


def as_orig(value: Tensor) -> dict[str, Tensor]:
    return {"weight_orig": value}


KINDS: dict[str, Kind] = {
    "weight_norm": Kind(lambda: older(nn.utils.weight_norm, nn.Linear(6, 8)), in_norms(0), "initialized"),
    "weight_norm along 1": Kind(
        lambda: older(nn.utils.weight_norm, nn.ConvTranspose2d(4, 6, 3), dim=1), in_norms(1), "initialized"
    ),
    "weight_norm of a convolution": Kind(
        lambda: older(nn.utils.weight_norm, nn.Conv1d(4, 6, 3, groups=2)), in_norms(0), "initialized"
    ),
    "spectral_norm": Kind(lambda: older(nn.utils.spectral_norm, nn.Linear(6, 8)), as_orig, "projected"),
    "spectral_norm of a convolution": Kind(
        lambda: older(nn.utils.spectral_norm, nn.Conv2d(4, 6, 3)), as_orig, "projected"
    ),
    "spectral_norm along 1": Kind(
        lambda: older(nn.utils.spectral_norm, nn.ConvTranspose2d(4, 6, 3)), as_orig, "projected"
    ),
    "pruned by a half": Kind(lambda: pruned(nn.Linear(6, 8), half(8, 6)), as_orig, "projected"),
    "pruned by nothing": Kind(lambda: pruned(nn.Linear(6, 8), torch.ones(8, 6)), as_orig, "initialized"),
    "pruned of all": Kind(lambda: pruned(nn.Linear(6, 8), torch.zeros(8, 6)), as_orig, "projected"),
    "pruned twice": Kind(lambda: twice_pruned(nn.Linear(6, 8)), as_orig, "projected"),
}


def model_of(kind: str) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 5), KINDS[kind].build(), nn.Linear(2, 7))


def output(module: Any, value: Tensor) -> tuple[Tensor, Tensor]:
    """What a module's forward gives in its present mode, and what it should with a weight."""
    if isinstance(module, nn.Linear):
        x = torch.randn(4, module.in_features)
        return module(x), functional.linear(x, value, module.bias)
    x = torch.randn(2, module.in_channels, *([7] * (value.ndim - 2)))
    if isinstance(module, nn.ConvTranspose2d):
        return module(x), functional.conv_transpose2d(x, value, module.bias)
    convolution: Any = functional.conv1d if value.ndim == 3 else functional.conv2d
    return module(x), convolution(x, value, module.bias, groups=module.groups)


def expected_weight(kind: str, module: Any, drawn: Tensor) -> Tensor:
    if kind.startswith("pruned"):
        drawn = drawn * module.weight_mask
    if kind.startswith("spectral"):
        first = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        matrix = drawn.transpose(0, first).flatten(1)
        drawn = drawn / torch.linalg.matrix_norm(matrix, 2)
    return drawn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_forward_uses_the_new_weight_and_what_is_stored_is_the_draw(kind: str, training: bool, used: bool) -> None:
    model = model_of(kind).train(training)
    module: Any = model[1]
    if used:  # the weight that a forward pass leaves behind hangs on a graph
        output(module, module.weight.detach())
    identities = [(name, id(tensor), tensor.requires_grad) for name, tensor in model.named_parameters()]
    torch.manual_seed(0)
    audit = initplug.apply(model, NORMAL)
    row = audit["1.weight"]

    torch.manual_seed(0)
    drawn = torch.empty(0)
    for name, parameter in model.named_parameters():
        if name == "1.weight_v":
            continue
        shape = row.shape if name in ("1.weight_g", "1.weight_orig") else parameter.shape
        value = torch.empty(shape)
        nn.init.uniform_(value, -0.1, 0.1) if name.endswith("bias") else nn.init.normal_(value, std=0.5)
        if name in ("1.weight_g", "1.weight_orig"):
            drawn = value
        else:
            assert torch.equal(model.get_parameter(name), value), name
    for name, stored in KINDS[kind].stored(drawn).items():
        held = model[1].get_parameter(name)
        assert torch.equal(held, stored) if name != "weight_g" else torch.allclose(held, stored, rtol=1e-6)

    assert (row.module_type, row.status) == (type(module).__name__, KINDS[kind].status)
    assert row.verdict == ("ok" if row.status == "initialized" else "untestable")
    value = expected_weight(kind, module, drawn)
    assert torch.allclose(module.weight, value, rtol=1e-5, atol=1e-5)  # before any forward pass
    assert row.measured_std == pytest.approx(module.weight.std(correction=0).item(), rel=1e-4)
    found, wanted = output(module, value)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert identities == [(name, id(tensor), tensor.requires_grad) for name, tensor in model.named_parameters()]
    assert all(part.training == training for part in model.modules())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("used", [True, False])
def test_planning_and_auditing_leave_everything(kind: str, used: bool) -> None:
    model = model_of(kind)
    module: Any = model[1]
    if used:
        output(module, module.weight.detach())
    before = bits(module.weight)
    with untouched(model):
        rows = {row.name: row.shape for row in initplug.plan(model, NORMAL)}
        initplug.plan(model, "torch_default")
        audit = initplug.audit(model, NORMAL)
        initplug.audit(model, "torch_default")
    assert bits(module.weight) == before
    assert set(rows) == {f"{place}.{key}" for place in range(3) for key in ("weight", "bias")}
    assert audit["1.weight"].status == "read"
    if used or not kind.startswith("spectral"):  # torch leaves the raw weight in place until a first forward pass
        assert audit["1.weight"].measured_std == pytest.approx(module.weight.std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_still_trains_and_sheds_its_hook(kind: str) -> None:
    model = model_of(kind)
    initplug.apply(model, NORMAL)
    module: Any = model[1]
    found, _ = output(module, module.weight.detach())
    found.sum().backward()  # type: ignore[no-untyped-call]  # likewise
    if kind != "pruned of all":
        assert all(bool(module.get_parameter(name).grad.any()) for name in KINDS[kind].stored(torch.ones(2, 2)))
    module.eval()
    value = module.weight.detach().clone()
    if kind.startswith("pruned"):
        prune.remove(module, "weight")  # type: ignore[no-untyped-call]  # torch leaves it untyped
    else:
        shed = nn.utils.remove_weight_norm if kind.startswith("weight") else nn.utils.remove_spectral_norm
        older(shed, module)
    assert torch.allclose(module.weight, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["pruned by a half", "pruned twice"])
def test_a_value_that_a_mask_does_not_change_is_no_projection(kind: str) -> None:
    model = model_of(kind)
    row = initplug.apply(model, {"rules": {"*": 0}})["1.weight"]
    assert (row.status, row.verdict, row.measured_max) == ("initialized", "ok", 0)
    row = initplug.apply(model, {"rules": {"*": 3}})["1.weight"]
    assert (row.status, row.verdict, row.measured_min, row.measured_max) == ("projected", "untestable", 0, 3)
    weight: Any = model[1].weight
    assert weight.mean().item() == pytest.approx(row.measured_mean)


@pytest.mark.parametrize("kind", ["weight_norm", "weight_norm of a convolution", "pruned by nothing"])
def test_a_kept_part_reads_as_before(kind: str) -> None:
    model = model_of(kind)
    module: Any = model[1]
    output(module, module.weight.detach())
    before = module.weight.detach().clone().chunk(2)
    row = initplug.apply(model, {"rules": {"*": 0, "^1.weight": {"split": ["keep", 2]}}})["1.weight"]
    kept, new = module.weight.detach().chunk(2)
    assert torch.allclose(kept, before[0], rtol=1e-5, atol=1e-6) and torch.allclose(new, torch.tensor(2.0))
    assert (row.status, row.verdict) == ("initialized", "ok")


def test_weight_and_bias_can_both_be_pruned() -> None:
    layer: Any = pruned(pruned(nn.Linear(6, 8), half(8, 6)), half(8), "bias")
    audit = initplug.apply(layer, {"rules": {"*.weight": 2, "*.bias": 3}})
    assert {row.name: (row.rule, row.status) for row in audit} == {
        "weight": ("*.weight", "projected"),
        "bias": ("*.bias", "projected"),
    }
    x = torch.randn(5, 6)
    assert torch.allclose(layer(x), functional.linear(x, 2 * half(8, 6), 3 * half(8)), atol=1e-5)


def test_a_recurrent_layer_reads_what_was_written() -> None:
    torch.manual_seed(0)
    ours: Any = older(nn.utils.weight_norm, nn.LSTM(3, 4), "weight_hh_l0")
    assert {row.name for row in initplug.plan(ours, {"rules": {"*": 0}})} == {
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
    }  # fmt: skip
    audit = initplug.apply(ours, {"rules": {"*": "normal std=0.5"}})
    assert {(row.status, row.verdict) for row in audit} == {("initialized", "ok")}
    plain = nn.LSTM(3, 4)
    with torch.no_grad():
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            plain.get_parameter(name).copy_(ours.get_parameter(name))
        plain.get_parameter("weight_hh_l0").copy_(ours.weight_hh_l0_v)
    x = torch.randn(5, 2, 3)
    assert torch.allclose(ours(x)[0], plain(x)[0], atol=1e-5)


def test_two_older_hooks_of_one_module_and_their_ties() -> None:
    first: Any = older(nn.utils.weight_norm, older(nn.utils.weight_norm, nn.LSTM(3, 4), "weight_hh_l0"), "weight_ih_l0")
    assert [row.name for row in initplug.plan(first, {"rules": {"*": 1}}) if "weight" in row.name] == [
        "weight_hh_l0",
        "weight_ih_l0",
    ]
    table = nn.Embedding(8, 6)
    head: Any = pruned(nn.Linear(6, 8, bias=False), torch.ones(8, 6))
    head.weight_orig = table.weight
    model = nn.ModuleDict({"table": table, "head": head})
    torch.manual_seed(0)
    audit = initplug.apply(model, {"rules": {"*": "normal"}})
    torch.manual_seed(0)
    drawn = nn.init.normal_(torch.empty(8, 6))
    assert [(row.name, row.aliases, row.status) for row in audit] == [("table.weight", ("head.weight",), "initialized")]
    x = torch.randn(2, 6)
    assert torch.equal(table.weight, drawn) and torch.allclose(head(x), functional.linear(x, drawn), atol=1e-6)


@pytest.mark.parametrize("how", ["spectral_norm", "prune"])
def test_every_owner_of_a_shared_tensor_uses_it(how: str) -> None:
    torch.manual_seed(0)
    layers: Any = [nn.Linear(8, 12, bias=False) for _ in range(2)]
    layers[1].weight = layers[0].weight
    for layer in layers:
        older(nn.utils.spectral_norm, layer) if how == "spectral_norm" else pruned(layer, torch.ones(12, 8))
    model = nn.ModuleList(layers).eval()
    torch.manual_seed(0)
    (row,) = initplug.apply(model, {"rules": {"*": "normal std=5"}})
    torch.manual_seed(0)
    value = nn.init.normal_(torch.empty(12, 8), std=5)
    if how == "spectral_norm":
        value /= torch.linalg.matrix_norm(value, 2)
    assert row.aliases == ("1.weight",)
    for layer in layers:
        assert torch.allclose(layer(torch.eye(8)).T, value, atol=1e-5)


def test_only_takes_public_and_stored_names() -> None:
    for kind, names in {
        "weight_norm": [["1.weight"], ["1.weight_g", "1.weight_v"]],
        "spectral_norm": [["1.weight"], ["1.weight_orig"]],
        "pruned twice": [["1.weight"], ["1.weight_orig"]],
    }.items():
        for only in names:
            audit = initplug.apply(model_of(kind), NORMAL, only=only)
            assert [row.name for row in audit if row.status != "kept"] == ["1.weight"]


def test_what_only_ends_like_a_stored_name_is_itself() -> None:
    model = nn.ParameterDict(
        {"weight_g": torch.zeros(2, 1), "weight_v": torch.zeros(2, 3), "bias_orig": torch.zeros(2)}
    )
    assert {row.name for row in initplug.plan(model, {"rules": {"*": 0}})} == {"weight_g", "weight_v", "bias_orig"}
