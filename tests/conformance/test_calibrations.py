"""Calibration of the models of libraries, and beside LSUV-pytorch, the code of the paper's author.

LSUV-pytorch is one file and no package: with `git clone https://github.com/ducha-aiki/LSUV-pytorch` and its folder on
PYTHONPATH the last test runs. It passes the first layer over, adds to biases what brings the mean to 0, and on a CPU
measures an output after operations in place that follow: there it is compared without biases and with none in place.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from libraries import declare_torchvision_operators
from torch import Tensor, nn

import initplug

declare_torchvision_operators()

Case = tuple[Callable[[], nn.Module], Any, Callable[[], Any], int]


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def torchvision(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        models: Any = pytest.importorskip("torchvision.models")
        model: nn.Module = getattr(models, name)(**arguments)
        return model

    return build


def vit_tiny() -> nn.Module:
    model: nn.Module = pytest.importorskip("timm").create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)
    return model


def gpt2() -> nn.Module:
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"n_layer": 3, "n_embd": 64, "n_head": 4, "vocab_size": 500, "n_positions": 32}
    model: nn.Module = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    return model


def words() -> dict[str, Tensor]:
    return {"input_ids": torch.arange(128).reshape(4, 32) * 7 % 500}


def vgg11_features() -> nn.Module:
    model: Any = torchvision("vgg11")()
    features: nn.Module = model.features
    return features


NORMAL = {"rules": {"*.weight": "kaiming_normal", "*.bias": "normal std=0.1"}}
CASES: dict[str, Case] = {
    "resnet18": (torchvision("resnet18"), "torchvision_resnet", lambda: images(4, 64), 21),
    "vgg11": (vgg11_features, NORMAL, lambda: images(4, 32), 8),
    "vit_tiny": (vit_tiny, "timm_vit", lambda: images(2, 64), 50),
    "gpt2": (gpt2, "transformers_gpt2", words, 13),
}


def first_outputs(model: nn.Module, inputs: Any) -> dict[str, float]:
    """The standard deviations of the first outputs of all modules, in evaluation mode."""
    found: dict[str, float] = {}

    def heard(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            found.setdefault(name, float(output.std(correction=0)))

    for name, part in model.named_modules():
        part.register_forward_hook(lambda _, __, output, name=name: heard(name, output))
    with torch.no_grad():
        model.eval()(**inputs) if isinstance(inputs, dict) else model.eval()(inputs)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_layers_of_libraries_have_outputs_of_one_deviation(name: str) -> None:
    build, recipe, give, layers = CASES[name]
    model, inputs = build(), give()
    calibration = initplug.calibrate(model, recipe, inputs, seed=0)
    heard = [row for row in calibration if row.outcome != "left"]
    assert len(heard) == layers and not calibration.problems()
    other = build()
    initplug.apply(other, initplug.load(calibration.recipe.to_yaml()), seed=0)
    mine, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert all(torch.equal(mine[each], theirs[each]) for each in mine)
    found = first_outputs(other, inputs)
    for row in heard:
        assert found[str(row.module)] == pytest.approx(1, abs=0.0501), row


def test_the_tied_head_of_gpt2_is_scaled_once_and_nothing_else_is_left() -> None:
    calibration = initplug.calibrate(gpt2(), "transformers_gpt2", words(), seed=0)
    tied = calibration["lm_head.weight"]
    assert (tied.name, tied.module, tied.outcome) == ("transformer.wte.weight", "lm_head", "scaled")
    assert [row.name for row in calibration.left()] == ["transformer.wpe.weight"]


@pytest.mark.parametrize("name", ["alexnet", "densenet121", "resnet18"])
def test_factors_are_those_of_the_code_of_the_papers_author(name: str) -> None:
    lsuv: Any = pytest.importorskip("LSUV", reason="LSUV-pytorch is one file, to be had from GitHub alone")
    model = torchvision(name)()
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.register_parameter("bias", None)
        elif hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010  # which no module declares
    weights = {"match": "*.weight", "ndim": ">=2", "init": "kaiming_normal"}
    optional = {"<*Norm*>.weight": {"init": 1, "optional": True}, "*.bias": {"init": 0, "optional": True}}
    recipe = {"rules": {"weights": weights, **optional}}
    initplug.apply(model, recipe, seed=0)
    theirs, before = copy.deepcopy(model), copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lsuv.LSUVinit(theirs, images(4, 64), std_tol=0.001, do_orthonorm=False, verbose=False)
    first = next(name for name, parameter in model.named_parameters() if parameter.ndim > 1)
    calibration = initplug.calibrate(model, recipe, images(4, 64), seed=0, tolerance=0.001, skip=f"^{first}")
    compared = [row for row in calibration if row.outcome != "left"]
    assert len(compared) > 6
    for row in compared:
        ratio = theirs.get_parameter(row.name).detach() / before.get_parameter(row.name).detach()
        assert row.factor == pytest.approx(float(ratio.nanmedian()), rel=0.01), row
