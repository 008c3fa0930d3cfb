"""Procedures of cited sources as loops, for the models that have none of their own or another one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

Procedure = Callable[[nn.Module], object]


def after(build: Callable[[], nn.Module], procedure: Procedure) -> Callable[[], nn.Module]:
    """The constructor of a model on which a procedure runs afterwards."""

    def built() -> nn.Module:
        model = build()
        with torch.no_grad():
            procedure(model)
        return model

    return built


def prlz77(model: nn.Module) -> None:
    """prlz77/ResNeXt.pytorch models/model.py:97-106."""
    nn.init.kaiming_normal_(model.get_parameter("classifier.weight"))
    for key, tensor in model.state_dict().items():
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "weight" and "conv" in key:
            nn.init.kaiming_normal_(tensor, mode="fan_out")
        if leaf == "weight" and "bn" in key:
            tensor.fill_(1)
        if leaf == "bias":
            tensor.fill_(0)


def bamos(model: nn.Module) -> None:
    """bamos/densenet.pytorch densenet.py:89-97."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            n = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            module.weight.data.normal_(0, math.sqrt(2.0 / n))
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1)
            module.bias.data.zero_()
        elif isinstance(module, nn.Linear):
            module.bias.data.zero_()


def resnext_lua(model: nn.Module) -> None:
    """facebookresearch/ResNeXt models/resnext.lua:206-232, with the classifier's weight as torch7 draws it."""
    bamos(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.zero_()


def msr(model: nn.Module) -> None:
    """szagoruyko/wide-residual-networks models/utils.lua:3-15,24-31; torch.nn's own batch norms stay."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            n = module.kernel_size[0] * module.kernel_size[1] * module.in_channels // module.groups
            module.weight.data.normal_(0, math.sqrt(2.0 / n))
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.data.zero_()


def msr_and_torch7_norms(model: nn.Module) -> None:
    """The same, and batch norms as torch/nn BatchNormalization.lua:65-74 resets them."""
    msr(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_()
            module.bias.data.zero_()


def functional_wrn(model: nn.Module) -> list[str]:
    """szagoruyko/wide-residual-networks pytorch/utils.py:17-29 in the order of pytorch/resnet.py:11-31.

    Returns:
        The parameters' names in that order.
    """
    named = dict(model.named_parameters())
    order: list[str] = []

    def conv(name: str) -> None:
        if f"{name}.weight" in named:
            order.append(f"{name}.weight")
            named[f"{name}.weight"].data.copy_(nn.init.kaiming_normal_(torch.empty(named[f"{name}.weight"].shape)))

    def norm(name: str) -> None:
        order.extend((f"{name}.weight", f"{name}.bias"))
        named[f"{name}.weight"].data.copy_(torch.rand(named[f"{name}.weight"].shape))
        named[f"{name}.bias"].data.zero_()

    conv("conv0")
    for group in range(3):
        for block in model.get_submodule(f"group{group}")._modules:
            place = f"group{group}.{block}"
            conv(f"{place}.conv0")
            conv(f"{place}.conv1")
            norm(f"{place}.bn0")
            norm(f"{place}.bn1")
            conv(f"{place}.convdim")
    norm("bn")
    conv("fc")  # the same call on a matrix
    order.append("fc.bias")
    named["fc.bias"].data.zero_()
    return order


def xternalz(model: nn.Module) -> None:
    """xternalz/WideResNet-pytorch wideresnet.py:67-74."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1)
            module.bias.data.zero_()
        elif isinstance(module, nn.Linear):
            module.bias.data.zero_()


def meliketoy(model: nn.Module) -> None:
    """meliketoy/wide-resnet.pytorch networks/wide_resnet.py:13-20, as main.py:137 applies it."""

    def conv_init(module: nn.Module) -> None:
        name = type(module).__name__
        if name.find("Conv") != -1:
            nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))  # type: ignore[arg-type]  # a convolution's
            if module.bias is not None:
                nn.init.constant_(module.bias, 0)  # type: ignore[arg-type]  # likewise
        elif name.find("BatchNorm") != -1:
            nn.init.constant_(module.weight, 1)  # type: ignore[arg-type]  # likewise
            nn.init.constant_(module.bias, 0)  # type: ignore[arg-type]  # likewise

    model.apply(conv_init)
