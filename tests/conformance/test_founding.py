"""The founding recipes against their sources' procedures, and on the DenseNets and Wide ResNets of three libraries.

The procedures are those of procedures.py, written from the cited lines. The Lua programs cannot run here;
their formulas are compared slot by slot.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest
import torch
from libraries import load_example, pytorchcv_model, timm_model, torchvision_model
from procedures import bamos, functional_wrn
from torch import Tensor, nn

import initplug

SEED = 20161105
FILL = 7.0  # no recipe here gives what lies between it and 8, so a slot that nobody wrote cannot pass for equal

densenet_bc: Callable[..., nn.Module] = load_example("densenet").densenet_bc
wrn: Callable[..., nn.Module] = load_example("wrn").wrn
resnext29: Callable[..., nn.Module] = load_example("resnext").resnext29


def erased(model: nn.Module) -> nn.Module:
    for place, parameter in enumerate(model.parameters(), 2):  # each its own, or modules would be copies of each other
        parameter.data.copy_(torch.linspace(FILL, FILL + 1 - 1 / place, parameter.numel()).view_as(parameter))
    return model


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    reference, result = dict(theirs.named_parameters()), dict(ours.named_parameters())
    assert list(reference) == list(result)
    assert [name for name in result if not torch.equal(result[name], reference[name])] == []


# Bits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [40, 100])
def test_densenet_gives_the_sources_bits(depth: int) -> None:
    theirs, ours = erased(densenet_bc(depth)), erased(densenet_bc(depth))
    torch.manual_seed(SEED)
    bamos(theirs)
    state = torch.random.get_rng_state()
    torch.manual_seed(SEED)
    drawn = [name for name, _ in ours.named_parameters() if name != "fc.weight"]
    audit = initplug.apply(ours, "densenet", only=drawn)
    assert_equal(ours, theirs)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [row.name for row in audit if row.status == "kept"] == ["fc.weight"]
    assert bool((ours.get_parameter("fc.weight") >= FILL).all())  # as the source leaves it: as constructed


def test_one_pass_of_densenet_draws_the_same_convolutions_and_then_the_classifier() -> None:
    theirs, ours = erased(densenet_bc(40)), erased(densenet_bc(40))
    torch.manual_seed(SEED)
    bamos(theirs)
    classifier = theirs.get_submodule("fc")
    assert isinstance(classifier, nn.Linear)
    classifier.reset_parameters()
    classifier.bias.data.zero_()
    torch.manual_seed(SEED)
    initplug.apply(ours, "densenet")
    assert_equal(ours, theirs)


@pytest.mark.parametrize(("depth", "width"), [(16, 4), (28, 10)])
def test_wrn_pytorch_gives_the_sources_bits_in_its_order(depth: int, width: int) -> None:
    theirs, ours = erased(wrn(depth, width)), erased(wrn(depth, width))
    torch.manual_seed(SEED)
    order = functional_wrn(theirs)
    state = torch.random.get_rng_state()
    assert sorted(order) == sorted(name for name, _ in ours.named_parameters())
    torch.manual_seed(SEED)
    plan = initplug.plan(ours, "wrn_pytorch")
    for name in order:
        initplug.apply(ours, plan, only=[name], measure=False)
    assert_equal(ours, theirs)
    assert torch.equal(torch.random.get_rng_state(), state)


# Formulas ---------------------------------------------------------------------------------------------------------


class Slot(NamedTuple):
    """What a slot's formula is computed from."""

    module: nn.Module
    leaf: str


Drawn = tuple[str, float, float]
"""Kind, and mean and std, or the bounds of a uniform."""
Formula = Callable[[Slot], Drawn]


def fan_in(module: nn.Module) -> int:
    if isinstance(module, nn.Conv2d):
        return math.prod(module.kernel_size) * module.in_channels // module.groups
    assert isinstance(module, nn.Linear)
    return module.in_features


def fan_out(module: nn.Module) -> int:
    assert isinstance(module, nn.Conv2d)
    return math.prod(module.kernel_size) * module.out_channels


def torchs(slot: Slot) -> Drawn:
    """What torch.nn's own resets give the layers of these models."""
    if isinstance(slot.module, nn.BatchNorm2d):
        return ("normal", 1.0 if slot.leaf == "weight" else 0.0, 0.0)
    bound = 1 / math.sqrt(fan_in(slot.module))
    return ("uniform", -bound, bound)


def he(fan: Callable[[nn.Module], int]) -> Formula:
    return lambda slot: ("normal", 0.0, math.sqrt(2 / fan(slot.module)))


ZERO: Formula = lambda slot: ("normal", 0.0, 0.0)  # noqa: E731  # a formula beside others
ONE: Formula = lambda slot: ("normal", 1.0, 0.0)  # noqa: E731  # likewise
UNIT: Formula = lambda slot: ("uniform", 0.0, 1.0)  # noqa: E731  # likewise

FORMULAS: dict[str, dict[tuple[type[nn.Module], str], Formula]] = {
    "densenet": {
        (nn.Conv2d, "weight"): he(fan_out),
        (nn.BatchNorm2d, "weight"): ONE,
        (nn.BatchNorm2d, "bias"): ZERO,
        (nn.Linear, "bias"): ZERO,
    },
    "wrn": {(nn.Conv2d, "weight"): he(fan_in), (nn.Conv2d, "bias"): ZERO, (nn.Linear, "bias"): ZERO},
    "wrn_pytorch": {
        (nn.Conv2d, "weight"): he(fan_in),
        (nn.Linear, "weight"): he(fan_in),
        (nn.BatchNorm2d, "weight"): UNIT,
        (nn.Conv2d, "bias"): ZERO,
        (nn.BatchNorm2d, "bias"): ZERO,
        (nn.Linear, "bias"): ZERO,
    },
}
FORMULAS["resnext_lua"] = {**FORMULAS["densenet"], (nn.Conv2d, "bias"): ZERO}
FORMULAS["wrn_lua"] = {**FORMULAS["wrn"], (nn.BatchNorm2d, "weight"): UNIT}
"""By preset what the source says of layers and leaves; what it does not name is torch's."""


def slots_of(model: nn.Module) -> Iterator[tuple[str, Slot]]:
    for path, module in model.named_modules():
        for leaf, _ in module.named_parameters(recurse=False):
            yield f"{path}.{leaf}" if path else leaf, Slot(module, leaf)


def expected(preset: str, model: nn.Module) -> Mapping[str, Drawn]:
    table = FORMULAS[preset]
    return {name: table.get((type(slot.module), slot.leaf), torchs)(slot) for name, slot in slots_of(model)}


def planned(assignment: initplug.Assignment) -> Drawn:
    found = assignment.distribution
    if isinstance(found, initplug.Uniform):
        return ("uniform", found.low, found.high)
    assert isinstance(found, initplug.Constant | initplug.Normal)
    return ("normal", found.mean, found.std)


DENSENETS = [
    (lambda name: densenet_bc(40), "ours", 32),
    (torchvision_model, "densenet121", 64),
    (timm_model, "densenet121", 64),
    (pytorchcv_model, "densenet40_k12_bc_cifar10", 32),
]
WRNS = [
    (lambda name: wrn(16, 4), "ours", 32),
    (torchvision_model, "wide_resnet50_2", 64),
    (timm_model, "wide_resnet50_2", 64),
    (pytorchcv_model, "wrn16_10_cifar10", 32),
]
RESNEXTS = [
    (lambda name: resnext29(cardinality=2, base_width=4), "ours", 32),
    (torchvision_model, "resnext50_32x4d", 64),
    (pytorchcv_model, "resnext29_32x4d_cifar10", 32),
]
FAMILIES = {
    "densenet": DENSENETS,
    "resnext_lua": [*RESNEXTS, *DENSENETS],
    "wrn": WRNS,
    "wrn_lua": WRNS,
    "wrn_pytorch": WRNS,
}
CASES = [(preset, *model) for preset, models in FAMILIES.items() for model in models]


@pytest.mark.parametrize(
    ("preset", "constructor", "name", "side"),
    CASES,
    ids=[f"{preset}-{getattr(make, '__name__', '')[:5]}-{name}" for preset, make, name, _ in CASES],
)
def test_every_slot_follows_the_sources_formula(
    preset: str, constructor: Callable[[str], nn.Module], name: str, side: int
) -> None:
    model = erased(constructor(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unused rule would warn
        plan = initplug.plan(model, preset)
    formulas = expected(preset, model)
    assert [assignment.name for assignment in plan] == list(formulas)
    for assignment in plan:
        kind, *numbers = planned(assignment)
        assert kind == formulas[assignment.name][0], assignment.name
        assert numbers == pytest.approx(formulas[assignment.name][1:], rel=1e-12, abs=0), assignment.name

    torch.manual_seed(SEED)
    audit = initplug.apply(model, plan)
    assert {row.status for row in audit} == {"initialized"} and {row.verdict for row in audit} == {"ok"}
    with torch.no_grad():
        logits: Tensor = model.train()(torch.randn(2, 3, side, side))
    assert bool(torch.isfinite(logits).all())


# Negative controls ------------------------------------------------------------------------------------------------

NEIGHBOURS = [
    ("densenet", "wrn", lambda: densenet_bc(40), "conv"),
    ("densenet", "resnext", lambda: densenet_bc(40), "fc.weight"),
    ("wrn", "wrn_lua", lambda: wrn(16, 4), "bn"),
    ("wrn_lua", "wrn_pytorch", lambda: wrn(16, 4), "fc.weight"),
    ("wrn_pytorch", "wrn", lambda: wrn(16, 4), "bn"),
    ("wrn", "torch_default", lambda: wrn(16, 4), "conv"),
]


@pytest.mark.parametrize(("preset", "neighbour", "build", "telling"), NEIGHBOURS)
def test_the_neighbouring_preset_is_told_apart(
    preset: str, neighbour: str, build: Callable[[], nn.Module], telling: str
) -> None:
    model = build()
    torch.manual_seed(SEED)
    initplug.apply(model, neighbour)
    assert initplug.audit(model, neighbour).problems() == []
    names = [row.name for row in initplug.audit(model, preset).problems()]
    assert names
    assert any(telling in name for name in names)


def test_torchvisions_densenet_is_fan_in_where_the_source_is_fan_out() -> None:
    model = torchvision_model("densenet121")
    problems = {row.name for row in initplug.audit(model, "densenet").problems()}
    convolutions = {name: slot.module for name, slot in slots_of(model) if isinstance(slot.module, nn.Conv2d)}
    assert problems == {name for name, module in convolutions.items() if fan_in(module) != fan_out(module)}
