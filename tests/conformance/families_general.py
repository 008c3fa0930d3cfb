"""Models for presets that name no codebase, for those of plain torch.nn and for the founding ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from architectures import agent, atari_agent, nanogpt, recurrent, s4d, sines, torch_encoder, upsampling
from families import Case, Family
from libraries import load_example
from procedures import (
    after,
    bamos,
    functional_wrn,
    meliketoy,
    msr,
    msr_and_torch7_norms,
    prlz77,
    resnext_lua,
    xternalz,
)
from procedures_general import cleanrl, lstm, mup, prenorm_transformer, relu_cnn, selu, siren, small_init
from third_party import THIRD_PARTY, built, named
from torch import nn

TV = "torchvision.models"

densenet40 = partial(load_example("densenet").densenet_bc, 40)
densenet100 = partial(load_example("densenet").densenet_bc, 100)
resnext29 = partial(load_example("resnext").resnext29, cardinality=2, base_width=4)
resnext29_large = load_example("resnext").resnext29
wrn16 = partial(load_example("wrn").wrn, 16, 4)
wrn28 = partial(load_example("wrn").wrn, 28, 10)
small_densenet = built(f"{TV}:DenseNet", 8, (2, 2), 16, num_classes=10)
resnext50 = built(f"{TV}:resnext50_32x4d", num_classes=10)
wide_resnet50 = built(f"{TV}:wide_resnet50_2", num_classes=10)

resnet18 = built(f"{TV}:resnet18", num_classes=10)
timm_vit = THIRD_PARTY["timm-vit_tiny"].build
torchvision_vit = THIRD_PARTY["torchvision-vit"].build
gpt2 = THIRD_PARTY["transformers-gpt2"].build
llama = THIRD_PARTY["transformers-llama"].build
gpt_neox = THIRD_PARTY["transformers-gpt_neox"].build


def linears(inputs: int = 24) -> nn.Module:
    """Linear layers only."""
    return nn.Sequential(nn.Linear(inputs, 48), nn.Linear(48, 32), nn.Linear(32, 10))


def biased() -> nn.Module:
    """Convolutions with biases, which the founding codebases drop: the presets say what they would be."""
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32, 10))


def stable_baselines(policy: str) -> Callable[[], nn.Module]:
    """The constructor of a policy of Stable-Baselines3, for continuous actions or for images."""

    def build() -> nn.Module:
        import numpy as np

        spaces = import_module("gymnasium.spaces")
        images = "Cnn" in policy
        seen = spaces.Box(0, 255, (4, 84, 84), np.uint8) if images else spaces.Box(-1, 1, (6,), np.float32)
        actions = spaces.Discrete(5) if images else spaces.Box(-1, 1, (3,), np.float32)
        model: nn.Module = named(f"stable_baselines3.common.policies:{policy}")(seen, actions, lambda _: 3e-4)
        return model

    return build


def equivariant() -> nn.Module:
    """A linear layer, a tensor product and a net of scalars of e3nn."""
    linear = named("e3nn.o3:Linear")("8x0e + 4x1o", "8x0e + 4x1o", biases=True)
    product = named("e3nn.o3:FullyConnectedTensorProduct")("8x0e + 4x1o", "1x0e + 1x1o", "8x0e + 4x1o")
    scalars = named("e3nn.nn:FullyConnectedNet")([8, 16, 4], torch.relu)
    return nn.ModuleDict({"linear": linear, "product": product, "scalars": scalars, "head": nn.Linear(8, 2)})


def of_others(library: str, name: str) -> Case:
    """A model that its library leaves as torch.nn constructs it."""
    return Case(f"{library} {name}", THIRD_PARTY[f"{library}-{name}"].build, "bits")


FAMILIES: list[Family] = [
    Family(
        "torch_default",
        neighbour="torchvision_resnet",
        cases=[
            of_others("torchvision", "shufflenet_v2_x0_5"),
            Case("torchvision alexnet", built(f"{TV}:alexnet", num_classes=10), "bits", large=True),
            of_others("timm", "ghostnet_050"),
            of_others("diffusers", "unet2d"),
            of_others("diffusers", "dit"),
            of_others("monai", "unet"),
            of_others("monai", "basic_unet"),
        ],
    ),
    Family("torch_default_strict", neighbour="torchvision_resnet", cases=[of_others("monai", "unet")]),
    Family(
        "resnext",
        neighbour="resnext_lua",
        cases=[
            Case("prlz77 ResNeXt-29 2×4d, rewritten", after(resnext29, prlz77), "bits by only"),
            Case("prlz77 ResNeXt-29 8×64d, rewritten", after(resnext29_large, prlz77), "bits by only", large=True),
        ],
    ),
    Family(
        "resnext_lua",
        neighbour="resnext",
        cases=[
            Case("ResNeXt-29 2×4d, rewritten", after(resnext29, resnext_lua), "bits"),
            Case("torchvision resnext50_32x4d, rewritten", after(resnext50, resnext_lua), "bits", large=True),
            Case("net with biased convolutions, rewritten", after(biased, resnext_lua), "bits"),
        ],
    ),
    Family(
        "densenet",
        neighbour="torchvision_densenet",
        cases=[
            Case("bamos DenseNet-BC-40, rewritten", after(densenet40, bamos), "bits"),
            Case("bamos DenseNet-BC-100, rewritten", after(densenet100, bamos), "bits", large=True),
            Case("torchvision DenseNet(8, (2, 2)), rewritten", after(small_densenet, bamos), "bits"),
            Case("timm ese_vovnet19b_dw", built("timm:create_model", "ese_vovnet19b_dw"), "bits", large=True),
            Case("timm hgnet_tiny", built("timm:create_model", "hgnet_tiny"), "bits", large=True),
            Case("timm hgnetv2_b0", built("timm:create_model", "hgnetv2_b0"), "bits", large=True),
            Case("monai resnet10", built("monai.networks.nets:resnet10", n_input_channels=1), "bits", large=True),
        ],
    ),
    Family(
        "wrn",
        neighbour="wrn_lua",
        cases=[
            Case("WRN-16-4, rewritten", after(wrn16, msr), "bits"),
            Case("net with biased convolutions, rewritten", after(biased, msr), "bits"),
            Case("torchvision wide_resnet50_2, rewritten", after(wide_resnet50, msr), "bits", large=True),
        ],
    ),
    Family(
        "wrn_lua",
        neighbour="wrn_pytorch",
        cases=[
            Case("WRN-16-4, rewritten", after(wrn16, msr_and_torch7_norms), "bits by only"),
            Case("net with biased convolutions, rewritten", after(biased, msr_and_torch7_norms), "bits by only"),
        ],
    ),
    Family(
        "wrn_pytorch",
        neighbour="wrn",
        cases=[
            Case("szagoruyko WRN-16-4, rewritten", after(wrn16, functional_wrn), "bits by only"),
            Case("szagoruyko WRN-28-10, rewritten", after(wrn28, functional_wrn), "bits by only", large=True),
        ],
    ),
    Family(
        "wrn_fan_out",
        neighbour="wrn",
        cases=[
            Case("WRN-16-4, rewritten", after(wrn16, xternalz), "bits"),
            Case("WRN-28-10, rewritten", after(wrn28, xternalz), "bits", large=True),
        ],
    ),
    Family(
        "wrn_meliketoy",
        neighbour="wrn_fan_out",
        cases=[
            Case("WRN-16-4, rewritten", after(wrn16, meliketoy), "bits"),
            Case("net with biased convolutions, rewritten", after(biased, meliketoy), "bits"),
        ],
    ),
    Family(
        "ppo",
        neighbour="relu_cnn",
        cases=[
            Case("CleanRL agent, rewritten", after(agent, cleanrl), "bits"),
            Case(
                "CleanRL agent of continuous actions, rewritten",
                after(partial(agent, continuous=True), cleanrl),
                "bits",
            ),
            Case("CleanRL agent of Atari with an LSTM, rewritten", after(atari_agent, cleanrl), "bits"),
            Case(
                "stable-baselines3 ActorCriticPolicy",
                stable_baselines("ActorCriticPolicy"),
                "bits",
                package="stable_baselines3",
            ),
            Case(
                "stable-baselines3 ActorCriticCnnPolicy",
                stable_baselines("ActorCriticCnnPolicy"),
                "bits",
                package="stable_baselines3",
            ),
        ],
    ),
    Family(
        "relu_cnn",
        neighbour="torchvision_resnet",
        cases=[
            Case("torchvision resnet18, rewritten", after(resnet18, relu_cnn), "bits"),
            Case("torchvision resnext50_32x4d, rewritten", after(resnext50, relu_cnn), "bits", large=True),
            Case("net of grouped and transposed convolutions, rewritten", after(upsampling, relu_cnn), "bits"),
        ],
    ),
    Family(
        "selu",
        neighbour="relu_cnn",
        cases=[
            Case("net of linear layers, rewritten", after(linears, selu), "bits"),
            Case(
                "net of grouped and transposed convolutions, rewritten",
                after(partial(upsampling, norm=False), selu),
                "bits",
            ),
        ],
    ),
    Family(
        "prenorm_transformer",
        neighbour="transformers_base",
        cases=[
            Case("torch.nn encoder of 3 layers, rewritten", after(torch_encoder, prenorm_transformer(3)), "bits"),
            Case("timm vit of 2 layers, rewritten", after(timm_vit, prenorm_transformer(2)), "bits"),
            Case("torchvision vit of 2 layers, rewritten", after(torchvision_vit, prenorm_transformer(2)), "bits"),
            Case("transformers llama, rewritten", after(llama, prenorm_transformer(2)), "bits"),
            Case("transformers gpt2, rewritten", after(gpt2, prenorm_transformer(2)), "bits"),
            Case("nanoGPT of 4 layers, rewritten", after(partial(nanogpt, 4), prenorm_transformer(4)), "bits"),
        ],
    ),
    Family(
        "small_init",
        neighbour="prenorm_transformer",
        cases=[
            Case("transformers llama, rewritten", after(llama, small_init(2, 32)), "bits"),
            Case("transformers gpt_neox, rewritten", after(gpt_neox, small_init(2, 32)), "bits"),
            Case("nanoGPT of 4 layers, rewritten", after(partial(nanogpt, 4), small_init(4, 32)), "bits by only"),
        ],
    ),
    Family("s4d", neighbour="transformers_base", cases=[Case("S4D of two layers, rewritten", s4d, "distribution")]),
    Family(
        "e3nn",
        neighbour="transformers_base",
        cases=[
            Case("e3nn net of a tensor product", equivariant, "bits", package="e3nn"),
        ],
    ),
    Family(
        "lstm",
        neighbour="torch_default",
        cases=[
            Case("language model of two LSTMs, both ways, rewritten", after(recurrent, lstm), "bits"),
            Case("LSTM with a projection, rewritten", after(partial(nn.LSTM, 12, 20, proj_size=8), lstm), "bits"),
            Case("LSTM cell, rewritten", after(partial(nn.LSTMCell, 12, 20), lstm), "bits"),
        ],
    ),
    Family(
        "siren",
        neighbour="torch_default",
        cases=[
            Case("SIREN, its layers in a list, rewritten", after(sines, siren), "bits"),
            Case("SIREN of plain layers, rewritten", after(partial(linears, 2), siren), "bits"),
        ],
    ),
    Family(
        "mup",
        neighbour="prenorm_transformer",
        cases=[
            Case("torch.nn encoder of 3 layers, rewritten", after(torch_encoder, mup("head")), "bits"),
            Case("torchvision resnet18, rewritten", after(resnet18, mup("fc")), "bits"),
            Case("transformers llama, rewritten", after(llama, mup("lm_head")), "bits"),
        ],
    ),
]
