"""Procedures of code that no package installs, as loops on the nets of architectures.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import init


def called(model: nn.Module, *kinds: str) -> Iterator[Any]:
    """The modules whose class has one of these names, in the model's order."""
    return (module for module in model.modules() if type(module).__name__ in kinds)


# Language models --------------------------------------------------------------------------------------------------


def nanogpt(model: nn.Module) -> None:
    """karpathy/nanoGPT model.py:138-145,162-168."""

    def each(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=0.02)

    model.apply(each)
    layers = len(list(called(model, "Block")))
    for name, tensor in model.named_parameters():
        if name.endswith("c_proj.weight"):
            init.normal_(tensor, mean=0.0, std=0.02 / math.sqrt(2 * layers))


def torchtitan_llama(model: Any) -> None:
    """pytorch/torchtitan torchtitan/models/llama/model.py:167-170,255-258,302-305,399-415."""
    init.normal_(model.tok_embeddings.weight)
    for layer, block in enumerate(model.layers.values()):
        std = 0.02 / (2 * (layer + 1)) ** 0.5
        block.attention_norm.reset_parameters()
        block.ffn_norm.reset_parameters()
        for name in ("wq", "wk", "wv"):
            init.trunc_normal_(block.attention.get_submodule(name).weight, mean=0.0, std=0.02)
        init.trunc_normal_(block.attention.wo.weight, mean=0.0, std=std)
        init.trunc_normal_(block.feed_forward.w1.weight, mean=0.0, std=0.02)
        init.trunc_normal_(block.feed_forward.w2.weight, mean=0.0, std=std)
        init.trunc_normal_(block.feed_forward.w3.weight, mean=0.0, std=std)
    model.norm.reset_parameters()
    std = model.output.in_features**-0.5
    init.trunc_normal_(model.output.weight, mean=0.0, std=std, a=-3 * std, b=3 * std)


def awd_lstm(model: Any) -> None:
    """salesforce/awd-lstm-lm model.py:62-66; pytorch/examples word_language_model/model.py:42-46."""
    model.encoder.weight.data.uniform_(-0.1, 0.1)
    model.decoder.bias.data.fill_(0)
    model.decoder.weight.data.uniform_(-0.1, 0.1)


# Vision -----------------------------------------------------------------------------------------------------------


def sines(positions: NDArray[Any], width: int) -> NDArray[Any]:
    """A row of sines and cosines for each position (facebookresearch/mae util/pos_embed.py:49-67)."""
    angles = np.outer(positions, 1 / 10000 ** (np.arange(width // 2) / (width / 2)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def grid_of_sines(table: Tensor, skipped: int) -> None:
    """Columns, then rows of a square grid (facebookresearch/mae util/pos_embed.py:20-46)."""
    width, side = table.shape[-1], math.isqrt(table.shape[1] - skipped)
    rows, columns = (place.ravel() for place in np.mgrid[:side, :side])
    values = np.concatenate([sines(columns, width // 2), sines(rows, width // 2)], axis=1)
    table.data.zero_()
    table.data[0, skipped:] = torch.from_numpy(values).float()


def xavier_and_no_bias(module: nn.Module) -> None:
    """What DiT and MAE apply to every module."""
    if isinstance(module, nn.Linear):
        init.xavier_uniform_(module.weight)
        if module.bias is not None:
            init.constant_(module.bias, 0)


def dit(model: Any) -> None:
    """facebookresearch/DiT models.py:182-216."""
    model.apply(xavier_and_no_bias)
    grid_of_sines(model.pos_embed, 0)
    weight = model.x_embedder.proj.weight.data
    init.xavier_uniform_(weight.view([weight.shape[0], -1]))
    init.constant_(model.x_embedder.proj.bias, 0)
    init.normal_(model.y_embedder.embedding_table.weight, std=0.02)
    init.normal_(model.t_embedder.mlp[0].weight, std=0.02)
    init.normal_(model.t_embedder.mlp[2].weight, std=0.02)
    zeroed = [block.adaLN_modulation[-1] for block in model.blocks]
    for layer in [*zeroed, model.final_layer.adaLN_modulation[-1], model.final_layer.linear]:
        init.constant_(layer.weight, 0)
        init.constant_(layer.bias, 0)


def mae(model: Any) -> None:
    """facebookresearch/mae models_mae.py:65-93."""

    def each(module: nn.Module) -> None:
        xavier_and_no_bias(module)
        if isinstance(module, nn.LayerNorm):
            init.constant_(module.bias, 0)
            init.constant_(module.weight, 1.0)

    grid_of_sines(model.pos_embed, 1)
    grid_of_sines(model.decoder_pos_embed, 1)
    weight = model.patch_embed.proj.weight.data
    init.xavier_uniform_(weight.view([weight.shape[0], -1]))
    init.normal_(model.cls_token, std=0.02)
    init.normal_(model.mask_token, std=0.02)
    model.apply(each)


def dcgan(model: nn.Module) -> None:
    """pytorch/examples dcgan/main.py:117-123."""

    def each(module: Any) -> None:
        if "Conv" in type(module).__name__:
            init.normal_(module.weight, 0.0, 0.02)
        elif "BatchNorm" in type(module).__name__:
            init.normal_(module.weight, 1.0, 0.02)
            init.zeros_(module.bias)

    model.apply(each)


def guided_diffusion(model: Any) -> None:
    """openai/guided-diffusion guided_diffusion/nn.py:68-74, unet.py:210,294,615 and the `out` of EncoderUNetModel."""
    zeroed = [block.out_layers[-1] for block in called(model, "ResBlock")]
    zeroed += [block.proj_out for block in called(model, "AttentionBlock")]
    zeroed += [layer for layer in model.out if isinstance(layer, nn.modules.conv._ConvNd)]
    for layer in zeroed:
        for tensor in layer.parameters():
            tensor.detach().zero_()


def fixup(model: nn.Module) -> None:
    """hongyi-zhang/Fixup cifar/models/fixup_resnet_cifar.py:66-72, imagenet/models/fixup_resnet_imagenet.py:115-129."""
    blocks = len(list(called(model, "FixupBasicBlock", "FixupBottleneck")))

    def draw(weight: Tensor, power: float) -> None:
        std = np.sqrt(2 / (weight.shape[0] * np.prod(weight.shape[2:]))) * blocks**power
        init.normal_(weight, mean=0, std=std)

    for module in called(model, "FixupBasicBlock", "FixupBottleneck", "Linear"):
        match type(module).__name__:
            case "FixupBasicBlock":
                draw(module.conv1.weight, -0.5)
                init.constant_(module.conv2.weight, 0)
            case "FixupBottleneck":
                draw(module.conv1.weight, -0.25)
                draw(module.conv2.weight, -0.25)
                init.constant_(module.conv3.weight, 0)
            case _:
                init.constant_(module.weight, 0)
                init.constant_(module.bias, 0)
                continue
        if module.downsample is not None:
            draw(module.downsample.weight, 0)


# Detectors --------------------------------------------------------------------------------------------------------


def c2_xavier_fill(layer: Any) -> None:
    """fvcore nn/weight_init.py:8-22."""
    init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        init.constant_(layer.bias, 0)


def c2_msra_fill(layer: Any) -> None:
    """fvcore nn/weight_init.py:25-39."""
    init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        init.constant_(layer.bias, 0)


def normal_and_no_bias(layer: Any, std: float) -> None:
    init.normal_(layer.weight, std=std)
    init.constant_(layer.bias, 0)


def detectron2_backbone(model: Any) -> None:
    """detectron2 modeling/backbone/resnet.py: stem, blocks; modeling/backbone/fpn.py:89-90 and LastLevelP6P7."""
    c2_msra_fill(model.bottom_up.stem.conv1)
    for block in called(model, "BottleneckBlock"):
        for layer in (block.conv1, block.conv2, block.conv3, block.shortcut):
            c2_msra_fill(layer)
    for name, layer in model.named_children():
        if name.startswith(("fpn_lateral", "fpn_output")):
            c2_xavier_fill(layer)
    for block in called(model, "LastLevelP6P7"):
        c2_xavier_fill(block.p6)
        c2_xavier_fill(block.p7)


def detectron2_retinanet(model: Any) -> None:
    """detectron2 modeling/meta_arch/retinanet.py:390-398."""
    detectron2_backbone(model.backbone)
    head = model.head
    for part in (head.cls_subnet, head.bbox_subnet, head.cls_score, head.bbox_pred):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d):
                normal_and_no_bias(layer, 0.01)
    init.constant_(head.cls_score.bias, -math.log((1 - 0.01) / 0.01))


def detectron2_rcnn(model: Any) -> None:
    """detectron2 rpn.py:121-124, box_head.py:76-79, fast_rcnn.py:241-244, mask_head.py:264-269, keypoint_head.py."""
    detectron2_backbone(model.backbone)
    for name in ("conv", "objectness_logits", "anchor_deltas"):
        normal_and_no_bias(model.proposal_generator.rpn_head.get_submodule(name), 0.01)
    heads = model.roi_heads
    for layer in heads.box_head.children():
        if isinstance(layer, nn.Conv2d):
            c2_msra_fill(layer)
        else:
            c2_xavier_fill(layer)
    normal_and_no_bias(heads.box_predictor.cls_score, 0.01)
    normal_and_no_bias(heads.box_predictor.bbox_pred, 0.001)
    for layer in (heads.mask_head.mask_fcn1, heads.mask_head.mask_fcn2, heads.mask_head.deconv):
        c2_msra_fill(layer)
    normal_and_no_bias(heads.mask_head.predictor, 0.001)
    for name, tensor in heads.keypoint_head.named_parameters():
        if "bias" in name:
            init.constant_(tensor, 0)
        else:
            init.kaiming_normal_(tensor, mode="fan_out", nonlinearity="relu")
