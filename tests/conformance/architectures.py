"""Nets of architectures that no package installs: their modules, names and shapes, small, to be initialised only.

Classes that a preset or a procedure goes by have the names that they have in the source.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from third_party import named
from torch import nn


def of(kind: str, **parts: Any) -> nn.Module:
    """A module of a class of this name, with these modules, parameters and values."""
    module: nn.Module = type(kind, (nn.Module,), {})()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def parameter(*shape: int, value: float = 0.0) -> nn.Parameter:
    """A parameter that its constructor fills with one number."""
    return nn.Parameter(torch.full(shape, value))


# Language models --------------------------------------------------------------------------------------------------


def nanogpt(layers: int = 3, width: int = 32, *, bias: bool = True) -> nn.Module:
    """karpathy/nanoGPT model.py: GPT, whose head is tied to the embedding before anything is initialised."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=bias)

    def block() -> nn.Module:
        attention = of("CausalSelfAttention", c_attn=linear(width, 3 * width), c_proj=linear(width, width))
        mlp = of("MLP", c_fc=linear(width, 4 * width), c_proj=linear(4 * width, width))
        norms = [nn.LayerNorm(width, bias=bias) for _ in range(2)]
        return of("Block", ln_1=norms[0], attn=attention, ln_2=norms[1], mlp=mlp)

    parts = {
        "wte": nn.Embedding(99, width),
        "wpe": nn.Embedding(16, width),
        "h": nn.ModuleList(block() for _ in range(layers)),
        "ln_f": nn.LayerNorm(width, bias=bias),
    }
    head = nn.Linear(width, 99, bias=False)
    parts["wte"].weight = head.weight
    return of("GPT", transformer=nn.ModuleDict(parts), lm_head=head)


def torchtitan_llama(layers: int = 3, width: int = 32) -> nn.Module:
    """pytorch/torchtitan torchtitan/models/llama/model.py: Transformer."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=False)

    def block() -> nn.Module:
        wide = 2 * width
        attention = {
            name: linear(width, width // 2 if name in ("wk", "wv") else width) for name in ("wq", "wk", "wv", "wo")
        }
        feed_forward = {"w1": linear(width, wide), "w2": linear(wide, width), "w3": linear(width, wide)}
        return of(
            "TransformerBlock",
            attention=of("Attention", **attention),
            feed_forward=of("FeedForward", **feed_forward),
            attention_norm=nn.RMSNorm(width),
            ffn_norm=nn.RMSNorm(width),
        )

    return of(
        "Transformer",
        tok_embeddings=nn.Embedding(99, width),
        layers=nn.ModuleDict({str(layer): block() for layer in range(layers)}),
        norm=nn.RMSNorm(width),
        output=linear(width, 99),
    )


def awd_lstm(*, tied: bool = False, dropped: bool = True) -> nn.Module:
    """salesforce/awd-lstm-lm model.py: RNNModel, with the recurrent weights renamed by its WeightDrop."""

    def layer(inputs: int, outputs: int) -> nn.Module:
        lstm = nn.LSTM(inputs, outputs)
        if not dropped:
            return lstm
        weight = lstm._parameters.pop("weight_hh_l0")
        assert weight is not None
        lstm.register_parameter("weight_hh_l0_raw", nn.Parameter(weight.data))
        return of("WeightDrop", module=lstm)

    sizes = [(24, 40), (40, 24)]
    rnns = nn.ModuleList(layer(*size) for size in sizes)
    encoder, decoder = nn.Embedding(99, 24), nn.Linear(24, 99)
    if tied:
        decoder.weight = encoder.weight
    return of("RNNModel", encoder=encoder, rnns=rnns, decoder=decoder)


def torch_encoder(layers: int = 3, width: int = 32) -> nn.Module:
    """An encoder of torch.nn with norms first, between an embedding and a head."""
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, norm_first=True, batch_first=True)
    encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
    return of("Encoder", embedding=nn.Embedding(99, width), encoder=encoder, head=nn.Linear(width, 99))


def recurrent() -> nn.Module:
    """A language model of two layers of LSTMs in both directions."""
    lstm = nn.LSTM(16, 24, num_layers=2, bidirectional=True)
    return of("Recurrent", embedding=nn.Embedding(99, 16), lstm=lstm, head=nn.Linear(48, 99))


# Vision -----------------------------------------------------------------------------------------------------------


def dit(layers: int = 2, width: int = 32) -> nn.Module:
    """facebookresearch/DiT models.py: DiT, of timm's patch embedding, attention and MLP as there."""
    patches, attention, mlp = (
        named(f"timm.models.vision_transformer:{part}") for part in ("PatchEmbed", "Attention", "Mlp")
    )

    def modulation(parts: int) -> nn.Sequential:
        return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))

    def block() -> nn.Module:
        return of(
            "DiTBlock",
            norm1=nn.LayerNorm(width, elementwise_affine=False),
            attn=attention(width, num_heads=4, qkv_bias=True),
            norm2=nn.LayerNorm(width, elementwise_affine=False),
            mlp=mlp(width, 4 * width),
            adaLN_modulation=modulation(6),
        )

    final = of("FinalLayer", linear=nn.Linear(width, 2 * 2 * 8), adaLN_modulation=modulation(2))
    times = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
    return of(
        "DiT",
        x_embedder=patches(16, 2, 4, width, bias=True),
        t_embedder=of("TimestepEmbedder", mlp=times),
        y_embedder=of("LabelEmbedder", embedding_table=nn.Embedding(11, width)),
        pos_embed=nn.Parameter(torch.zeros(1, 64, width), requires_grad=False),
        blocks=nn.ModuleList(block() for _ in range(layers)),
        final_layer=final,
    )


def mae(width: int = 32, decoder_width: int = 16) -> nn.Module:
    """facebookresearch/mae models_mae.py: MaskedAutoencoderViT, of timm's patch embedding and blocks as there."""
    patches, block = (named(f"timm.models.vision_transformer:{part}") for part in ("PatchEmbed", "Block"))
    return of(
        "MaskedAutoencoderViT",
        patch_embed=patches(32, 8, 3, width),
        cls_token=parameter(1, 1, width),
        pos_embed=nn.Parameter(torch.zeros(1, 17, width), requires_grad=False),
        blocks=nn.ModuleList(block(width, 4, qkv_bias=True) for _ in range(2)),
        norm=nn.LayerNorm(width),
        decoder_embed=nn.Linear(width, decoder_width),
        mask_token=parameter(1, 1, decoder_width),
        decoder_pos_embed=nn.Parameter(torch.zeros(1, 17, decoder_width), requires_grad=False),
        decoder_blocks=nn.ModuleList([block(decoder_width, 4, qkv_bias=True)]),
        decoder_norm=nn.LayerNorm(decoder_width),
        decoder_pred=nn.Linear(decoder_width, 8 * 8 * 3),
    )


def dcgan_generator(*, bias: bool = False) -> nn.Module:
    """pytorch/examples dcgan/main.py: Generator."""
    widths = [20, 32, 16, 8]
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.ConvTranspose2d(inputs, outputs, 4, bias=bias), nn.BatchNorm2d(outputs), nn.ReLU()]
    return of("Generator", main=nn.Sequential(*parts, nn.ConvTranspose2d(8, 3, 4, bias=bias), nn.Tanh()))


def dcgan_discriminator() -> nn.Module:
    """pytorch/examples dcgan/main.py: Discriminator."""
    widths = [8, 16, 32]
    parts: list[nn.Module] = [nn.Conv2d(3, 8, 4, bias=False), nn.LeakyReLU(0.2)]
    for inputs, outputs in pairwise(widths):
        parts += [nn.Conv2d(inputs, outputs, 4, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return of("Discriminator", main=nn.Sequential(*parts, nn.Conv2d(32, 1, 4, bias=False), nn.Sigmoid()))


def guided_diffusion(*, classes: int | None = 10, dims: int = 2, pool: str | None = None) -> nn.Module:
    """openai/guided-diffusion guided_diffusion/unet.py: UNetModel, or EncoderUNetModel where there is a pool."""
    conv = nn.Conv2d if dims == 2 else nn.Conv3d

    def residual(inputs: int, outputs: int) -> nn.Module:
        same = inputs == outputs
        return of(
            "ResBlock",
            in_layers=nn.Sequential(nn.GroupNorm(4, inputs), nn.SiLU(), conv(inputs, outputs, 3)),
            emb_layers=nn.Sequential(nn.SiLU(), nn.Linear(32, 2 * outputs)),
            out_layers=nn.Sequential(nn.GroupNorm(4, outputs), nn.SiLU(), nn.Dropout(), conv(outputs, outputs, 3)),
            skip_connection=nn.Identity() if same else conv(inputs, outputs, 1),
        )

    def attention(width: int) -> nn.Module:
        qkv, out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)
        return of("AttentionBlock", norm=nn.GroupNorm(4, width), qkv=qkv, proj_out=out)

    down = of("Downsample", op=conv(8, 8, 3))
    blocks: list[list[nn.Module]] = [[conv(3, 8, 3)], [residual(8, 8)], [down], [residual(8, 16), attention(16)]]
    parts = {
        "time_embed": nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 32)),
        "input_blocks": nn.ModuleList(nn.Sequential(*block) for block in blocks),
        "middle_block": nn.Sequential(residual(16, 16), attention(16), residual(16, 16)),
    }
    if pool == "attention":
        layers = {"qkv_proj": nn.Conv1d(16, 48, 1), "c_proj": nn.Conv1d(16, 10, 1)}
        table = nn.Parameter(torch.randn(16, 17) / 16**0.5)
        pooled = of("AttentionPool2d", positional_embedding=table, **layers)
        return of("EncoderUNetModel", **parts, out=nn.Sequential(nn.GroupNorm(4, 16), nn.SiLU(), pooled))
    if pool == "adaptive":
        last = [nn.AdaptiveAvgPool2d(1), conv(16, 10, 1), nn.Flatten()]
        return of("EncoderUNetModel", **parts, out=nn.Sequential(nn.GroupNorm(4, 16), nn.SiLU(), *last))
    back = [[residual(32, 16), attention(16), of("Upsample", conv=conv(16, 16, 3))], [residual(24, 8)]]
    labels = {} if classes is None else {"label_emb": nn.Embedding(classes, 32)}
    return of(
        "UNetModel",
        **parts,
        **labels,
        output_blocks=nn.ModuleList(nn.Sequential(*block) for block in back),
        out=nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), conv(8, 6, 3)),
    )


def upsampling(*, norm: bool = True) -> nn.Module:
    """Grouped, depthwise and transposed convolutions, in one and two dimensions."""
    parts: list[nn.Module] = [nn.Conv2d(4, 16, 3), nn.Conv2d(16, 32, 3, groups=4), nn.Conv2d(32, 32, 3, groups=32)]
    parts += [nn.BatchNorm2d(32), nn.GroupNorm(4, 32)] if norm else []
    parts += [nn.ConvTranspose2d(32, 16, 4), nn.ConvTranspose2d(16, 24, 2, groups=2), nn.Conv1d(24, 12, 3)]
    return nn.Sequential(*parts)


def sines(width: int = 48) -> nn.Module:
    """Sitzmann et al.'s network: layers that own a linear one, and a linear one at the end."""
    layers = [of("SineLayer", linear=nn.Linear(inputs, width)) for inputs in (2, width, width)]
    return of("Siren", net=nn.Sequential(*layers, nn.Linear(width, 3)))


def fixup(kind: str, layers: tuple[int, ...] = (2, 2)) -> nn.Module:
    """hongyi-zhang/Fixup: FixupResNet of FixupBasicBlock or FixupBottleneck, as in its ImageNet file."""

    def conv(inputs: int, outputs: int, side: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, side, bias=False)

    def block(inputs: int, width: int) -> nn.Module:
        basic = kind == "FixupBasicBlock"
        sides = [3, 3] if basic else [1, 3, 1]
        outputs = width if basic else 4 * width
        widths = [inputs, *[width] * (len(sides) - 1), outputs]
        parts: dict[str, Any] = {}
        for at, side in enumerate(sides, start=1):
            parts[f"bias{at}a"] = parameter(1)
            parts[f"conv{at}"] = conv(widths[at - 1], widths[at], side)
            if at == len(sides):
                parts["scale"] = parameter(1, value=1.0)
            parts[f"bias{at}b"] = parameter(1)
        parts["downsample"] = conv(inputs, outputs, 1) if inputs != outputs else None
        return of(kind, **parts)

    groups, inputs = {}, 8
    for at, count in enumerate(layers, start=1):
        blocks = []
        for _ in range(count):
            blocks.append(block(inputs, 8 * at))
            inputs = 8 * at * (1 if kind == "FixupBasicBlock" else 4)
        groups[f"layer{at}"] = nn.Sequential(*blocks)
    stem, bias1, bias2 = conv(3, 8, 3), parameter(1), parameter(1)
    return of("FixupResNet", conv1=stem, bias1=bias1, **groups, bias2=bias2, fc=nn.Linear(inputs, 10))


# Detectors --------------------------------------------------------------------------------------------------------


class Conv2d(nn.Conv2d):
    """detectron2 layers/wrappers.py: a convolution that owns the norm after it."""

    def __init__(
        self, inputs: int, outputs: int, side: int, *, norm: nn.Module | None = None, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, side, bias=bias)
        self.norm = norm


def detectron2_backbone(norm: Callable[[int], nn.Module], *, top_block: bool) -> nn.Module:
    """detectron2 modeling/backbone: FPN over a ResNet of one bottleneck per stage."""

    def conv(inputs: int, outputs: int, side: int) -> nn.Module:
        return Conv2d(inputs, outputs, side, norm=norm(outputs), bias=False)

    def stage(inputs: int, width: int) -> nn.Sequential:
        parts = {"shortcut": conv(inputs, 4 * width, 1), "conv1": conv(inputs, width, 1)}
        return nn.Sequential(
            of("BottleneckBlock", **parts, conv2=conv(width, width, 3), conv3=conv(width, 4 * width, 1))
        )

    stem = of("BasicStem", conv1=conv(3, 8, 7))
    resnet = of("ResNet", stem=stem, res2=stage(8, 8), res3=stage(32, 16))
    p6p7 = {"top_block": of("LastLevelP6P7", p6=nn.Conv2d(64, 16, 3), p7=nn.Conv2d(16, 16, 3))} if top_block else {}
    laterals = {"fpn_lateral2": Conv2d(32, 16, 1), "fpn_output2": Conv2d(16, 16, 3)}
    laterals |= {"fpn_lateral3": Conv2d(64, 16, 1), "fpn_output3": Conv2d(16, 16, 3)}
    return of("FPN", **laterals, **p6p7, bottom_up=resnet)


def detectron2_retinanet(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """detectron2 modeling/meta_arch/retinanet.py: RetinaNet."""
    subnets = [nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()) for _ in range(2)]
    scores = {"cls_score": nn.Conv2d(16, 9 * 5, 3), "bbox_pred": nn.Conv2d(16, 9 * 4, 3)}
    head = of("RetinaNetHead", cls_subnet=subnets[0], bbox_subnet=subnets[1], **scores)
    return of("RetinaNet", backbone=detectron2_backbone(norm, top_block=True), head=head)


def detectron2_rcnn(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, *, convolutions: bool = False) -> nn.Module:
    """detectron2 modeling/meta_arch/rcnn.py: GeneralizedRCNN with boxes, masks and keypoints."""
    rpn = of(
        "StandardRPNHead",
        conv=Conv2d(16, 16, 3),
        objectness_logits=nn.Conv2d(16, 3, 1),
        anchor_deltas=nn.Conv2d(16, 12, 1),
    )
    boxes = {"conv1": Conv2d(16, 16, 3)} if convolutions else {}
    box_head = of("FastRCNNConvFCHead", **boxes, fc1=nn.Linear(16 * 9, 32), fc2=nn.Linear(32, 32))
    mask_head = of(
        "MaskRCNNConvUpsampleHead",
        mask_fcn1=Conv2d(16, 16, 3),
        mask_fcn2=Conv2d(16, 16, 3),
        deconv=nn.ConvTranspose2d(16, 24, 2),
        predictor=Conv2d(24, 5, 1),
    )
    keypoint_head = of(
        "KRCNNConvDeconvUpsampleHead", conv_fcn1=Conv2d(16, 24, 3), score_lowres=nn.ConvTranspose2d(24, 17, 4)
    )
    heads = of(
        "StandardROIHeads",
        box_head=box_head,
        box_predictor=of("FastRCNNOutputLayers", cls_score=nn.Linear(32, 6), bbox_pred=nn.Linear(32, 20)),
        mask_head=mask_head,
        keypoint_head=keypoint_head,
    )
    backbone = detectron2_backbone(norm, top_block=False)
    return of("GeneralizedRCNN", backbone=backbone, proposal_generator=of("RPN", rpn_head=rpn), roi_heads=heads)


def agent(*, continuous: bool = False) -> nn.Module:
    """CleanRL's agent: an actor and a critic of three layers."""

    def three(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))

    if continuous:
        return of("Agent", critic=three(1), actor_mean=three(3), actor_logstd=parameter(1, 3))
    return of("Agent", critic=three(1), actor=three(4))


def atari_agent() -> nn.Module:
    """CleanRL's agent of images: one network, a recurrent layer and two heads."""
    network = nn.Sequential(
        nn.Conv2d(1, 8, 8, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 4, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 32), nn.ReLU(),
    )  # fmt: skip
    return of("Agent", network=network, lstm=nn.LSTM(32, 16), actor=nn.Linear(16, 4), critic=nn.Linear(16, 1))


def s4d(layers: int = 2, width: int = 32, states: int = 16) -> nn.Module:
    """state-spaces/s4 models/s4/s4d.py:21-47,68-90, with the values that its constructors give."""

    def kernel() -> nn.Module:
        low, high = math.log(0.001), math.log(0.1)
        output = torch.view_as_real(torch.randn(width, states // 2, dtype=torch.cfloat))
        frequencies = math.pi * torch.arange(states // 2).repeat(width, 1)
        return of(
            "S4DKernel",
            log_dt=nn.Parameter(torch.rand(width) * (high - low) + low),
            C=nn.Parameter(output),
            log_A_real=nn.Parameter(torch.log(0.5 * torch.ones(width, states // 2))),
            A_imag=nn.Parameter(frequencies),
        )

    def layer() -> nn.Module:
        mixing = nn.Sequential(nn.Conv1d(width, 2 * width, kernel_size=1), nn.GLU(dim=-2))
        return of("S4D", D=nn.Parameter(torch.randn(width)), kernel=kernel(), output_linear=mixing)

    return nn.Sequential(*(layer() for _ in range(layers)))
