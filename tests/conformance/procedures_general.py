"""What the presets that name no codebase say, as loops over the parameters of any model."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn import init

RESIDUAL = {
    "torch.nn": ("self_attn.out_proj", "linear2"),
    "GPT-2": ("c_proj",),
    "Llama": ("o_proj", "down_proj", "wo", "w2"),
    "timm": ("attn.proj", "mlp.fc2"),
    "torchvision": ("self_attention.out_proj", "mlp.3"),
}
"""How the layers that write to the residual stream are called."""


def flow(layer: Any) -> tuple[int, int]:
    """How many numbers a number that a layer gives is computed of, and how many are computed of one that it takes."""
    taps = math.prod(getattr(layer, "kernel_size", ()))
    groups = getattr(layer, "groups", 1)
    inputs = getattr(layer, "in_channels", None) or layer.in_features
    outputs = getattr(layer, "out_channels", None) or layer.out_features
    return taps * inputs // groups, taps * outputs // groups


def zero_biases_and_whole_norms(model: nn.Module) -> None:
    """Every vector is 0, but those that a norm multiplies by are 1."""
    for module in model.modules():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.ndim == 1:
                init.constant_(tensor, float("Norm" in type(module).__name__ and name == "weight"))


def relu_cnn(model: nn.Module) -> None:
    """He et al. 2015, arXiv:1502.01852, equation 14 for convolutions and equation 10 for linear layers."""
    zero_biases_and_whole_norms(model)
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            init.normal_(module.weight, std=math.sqrt(2) / math.sqrt(flow(module)[1]))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=math.sqrt(2) / math.sqrt(flow(module)[0]))


def selu(model: nn.Module) -> None:
    """Klambauer et al. 2017, arXiv:1706.02515, section 3: zero mean, variance 1/n."""
    zero_biases_and_whole_norms(model)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            init.normal_(module.weight, std=1 / math.sqrt(flow(module)[0]))


def prenorm_transformer(blocks: int) -> Any:
    """Radford et al. 2019, section 2.3: N(0, 0.02²), and what writes to the residual stream smaller by √(2·blocks)."""

    def procedure(model: nn.Module) -> None:
        zero_biases_and_whole_norms(model)
        for name, tensor in model.named_parameters():
            written = name.removesuffix(".weight").endswith(tuple(chain(*RESIDUAL.values())))
            if tensor.ndim > 1:
                init.normal_(tensor, std=0.02 / math.sqrt(2 * blocks) if written else 0.02)

    return procedure


def lstm(model: nn.Module) -> None:
    """Gate by gate: Glorot and Bengio 2010, Saxe et al. 2014 for states, Jozefowicz et al. 2015 for biases."""
    for module in model.modules():
        if not isinstance(module, nn.LSTM | nn.LSTMCell):
            continue
        for name, tensor in module.named_parameters():
            if name.startswith("weight_hr"):
                init.xavier_uniform_(tensor)
            elif name.startswith("weight"):
                draw = init.xavier_uniform_ if name.startswith("weight_ih") else init.orthogonal_
                tensor.copy_(torch.cat([draw(torch.empty_like(gate)) for gate in tensor.chunk(4)]))
            else:
                forget = float(name.startswith("bias_ih"))
                tensor.copy_(torch.tensor([0.0, forget, 0.0, 0.0]).repeat_interleave(len(tensor) // 4))


def siren(model: nn.Module) -> None:
    """Sitzmann et al. 2020, arXiv:2006.09661, section 3.2 and its supplement, with frequencies of 30."""
    for number, module in enumerate(layer for layer in model.modules() if isinstance(layer, nn.Linear)):
        bound = 1 / module.in_features if number == 0 else math.sqrt(6 / module.in_features) / 30
        init.uniform_(module.weight, -bound, bound)


def mup(*outputs: str) -> Any:
    """Yang et al. 2022, arXiv:2203.03466, table 3: variances 1/n, those of the output 1/n²; embeddings of 1."""

    def procedure(model: nn.Module) -> None:
        zero_biases_and_whole_norms(model)
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                init.normal_(module.weight)
            elif isinstance(module, nn.MultiheadAttention):
                init.normal_(module.in_proj_weight, std=1 / math.sqrt(module.embed_dim))
            elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                inputs = flow(module)[0]
                init.normal_(module.weight, std=1 / inputs if name in outputs else 1 / math.sqrt(inputs))

    return procedure


def cleanrl(model: nn.Module) -> None:
    """vwxyzjn/cleanrl cleanrl/ppo.py:97-119, ppo_continuous_action.py:107-131, ppo_atari_lstm.py:115-137.

    There `layer_init` wraps each layer where it is constructed: orthogonal with gain √2 unless told otherwise, the
    actor's last layer with 0.01, the critic's with 1; recurrent weights with gain 1, biases 0.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM):
            for key, tensor in module.named_parameters():
                if "bias" in key:
                    init.constant_(tensor, 0)
                elif "weight" in key:
                    init.orthogonal_(tensor, 1.0)
        if isinstance(module, nn.Linear | nn.Conv2d):
            gains = {"actor": 0.01, "actor.4": 0.01, "actor_mean.4": 0.01, "critic": 1.0, "critic.4": 1.0}
            init.orthogonal_(module.weight, gains.get(name, math.sqrt(2)))
            assert module.bias is not None
            init.constant_(module.bias, 0.0)


def small_init(layers: int, width: int) -> Any:
    """EleutherAI/gpt-neox megatron/model/init_functions.py:139-168, `wang_init` for what writes to the stream."""
    outputs = ("c_proj", "o_proj", "down_proj", "attention.dense", "dense_4h_to_h")

    def procedure(model: nn.Module) -> None:
        zero_biases_and_whole_norms(model)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                std = 2 / layers / math.sqrt(width) if name.endswith(outputs) else math.sqrt(2 / (5 * width))
                init.normal_(module.weight, mean=0.0, std=std)

    return procedure
