"""Models for the presets of timm."""

from __future__ import annotations

from functools import partial
from typing import Any

from families import Case, Family
from third_party import named
from torch import nn

MODELS = "timm.models"
TINY = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 10}


def timm(name: str, **settings: Any) -> partial[nn.Module]:
    """The constructor of a model from timm's registry that has ten classes."""
    return partial(lambda: named("timm:create_model")(name, num_classes=10, **settings))


def registered(name: str, mode: Any = "bits", *, large: bool = False, **settings: Any) -> Case:
    """A model as timm offers it."""
    told = "".join(f", {key}={value}" for key, value in settings.items())
    return Case(f"timm {name}{told}", timm(name, **settings), mode, large)


def vit(mlp: str = "Mlp", block: str = "Block", **settings: Any) -> partial[nn.Module]:
    """A vision transformer of two layers, with one of timm's MLPs and blocks."""
    home = f"{MODELS}.vision_transformer"
    return partial(
        lambda: named(f"{home}:VisionTransformer")(
            **TINY, mlp_layer=named(f"timm.layers:{mlp}"), block_fn=named(f"{home}:{block}"), **settings
        )
    )


def behind(**settings: Any) -> partial[nn.Module]:
    """The same with norms behind the branches, which begin small."""
    return vit(block="ResPostBlock", init_values=1e-5, **settings)


def hybrid(**settings: Any) -> nn.Module:
    """A vision transformer on one stage of a residual network."""
    backbone = named(f"{MODELS}.resnetv2:ResNetV2")(
        layers=(2,), channels=(128,), stem_chs=32, stem_type="same", preact=False, num_classes=0, global_pool=""
    )
    embed = partial(named("timm.layers:HybridEmbed"), backbone=backbone)
    sizes = {**TINY, "img_size": 32, "patch_size": 1}
    model: nn.Module = named(f"{MODELS}.vision_transformer:VisionTransformer")(**sizes, embed_layer=embed, **settings)
    return model


def deit(**settings: Any) -> partial[nn.Module]:
    """A distilled vision transformer of two layers."""
    return timm("deit_tiny_distilled_patch16_224", img_size=32, depth=2, **settings)


def tiny(path: str, **settings: Any) -> partial[nn.Module]:
    """Another vision transformer of that size."""
    return partial(lambda: named(f"{MODELS}.{path}")(**TINY, **settings))


def relative(block: str) -> partial[nn.Module]:
    """A vision transformer of that size with relative positions."""
    home = f"{MODELS}.vision_transformer_relpos"
    settings = {**TINY, "weight_init": "", "init_values": 1e-5}
    return partial(lambda: named(f"{home}:VisionTransformerRelPos")(**settings, block_fn=named(f"{home}:{block}")))


def swin(path: str = "swin_transformer:SwinTransformer", **settings: Any) -> partial[nn.Module]:
    """Two stages of one block each."""
    sizes = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4)}
    return partial(lambda: named(f"{MODELS}.{path}")(**sizes, num_classes=10, **settings))


def convnext(**settings: Any) -> partial[nn.Module]:
    """Four stages of one block each."""
    sizes = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    return partial(lambda: named(f"{MODELS}.convnext:ConvNeXt")(**sizes, num_classes=10, **settings))


def mixer(block: str, mlp_ratio: Any = (0.5, 4.0), **layers: str) -> partial[nn.Module]:
    """Two blocks of one of the kinds in timm's mlp_mixer."""
    home = f"{MODELS}.mlp_mixer"
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "num_blocks": 2, "num_classes": 10}
    kinds = {"block_layer": block, **layers}
    return partial(
        lambda: named(f"{home}:MlpMixer")(
            **sizes, mlp_ratio=mlp_ratio, **{key: named(f"{home}:{kind}") for key, kind in kinds.items()}
        )
    )


def modes(mode: str) -> list[Case]:
    """The models that take a way of initialisation by `weight_init`."""
    told = f"weight_init={mode}"
    return [
        Case(f"timm VisionTransformer, {told}", vit(weight_init=mode, reg_tokens=2), "distribution"),
        Case(f"timm VisionTransformer, SwiGLU, {told}", vit("SwiGLU", weight_init=mode), "distribution"),
        Case(f"timm VisionTransformer, norms behind, {told}", behind(weight_init=mode), "distribution"),
        Case(f"timm VisionTransformer, hybrid, {told}", partial(hybrid, weight_init=mode), "distribution"),
        Case(f"timm deit_tiny_distilled, {told}", deit(weight_init=mode), "distribution"),
        Case(f"timm SwinTransformer, {told}", swin(weight_init=mode), "distribution"),
        registered("vit_tiny_patch16_224", "distribution", large=True, weight_init=mode),
    ]


FAMILIES: list[Family] = [
    Family(
        "timm_resnet",
        neighbour="timm_resnet_nozero",
        cases=[
            registered("resnet10t"),
            registered("resnet18"),
            registered("resnet26d", large=True),
            registered("resnest14d", large=True),
            registered("ecaresnet26t", large=True),
            registered("seresnet50", large=True),
            registered("resnext50_32x4d", large=True),
            registered("res2net50_14w_8s", large=True),
        ],
    ),
    Family(
        "timm_resnet_nozero",
        neighbour="torchvision_densenet",
        cases=[
            registered("resnet18", zero_init_last=False),
            registered("legacy_seresnet18"),
            registered("skresnet18", large=True),
            registered("hrnet_w18_small", large=True),
            registered("selecsls42", large=True),
            registered("xception", large=True),
            registered("dla34", large=True),
        ],
    ),
    Family(
        "timm_vit",
        neighbour="timm_vit_moco",
        cases=[
            Case("timm VisionTransformer", vit(), "distribution"),
            Case(
                "timm VisionTransformer, registers", vit(reg_tokens=2, init_values=1e-5, qk_norm=True), "distribution"
            ),
            Case("timm VisionTransformer, pooled by attention", vit(global_pool="map"), "distribution"),
            Case("timm VisionTransformer, SwiGLUPacked", vit("SwiGLUPacked"), "distribution"),
            Case("timm VisionTransformer, SwiGLU", vit("SwiGLU"), "distribution"),
            Case("timm VisionTransformer, hybrid", hybrid, "distribution"),
            Case("timm deit_tiny_distilled", deit(), "distribution"),
            Case("timm SwinTransformer", swin(), "distribution"),
            Case("timm VisionTransformerRelPos", relative("RelPosBlock"), "distribution"),
            Case("timm VisionTransformerRelPos, norms behind", relative("ResPostRelPosBlock"), "distribution"),
            registered("vit_tiny_patch16_224", "distribution", large=True),
        ],
    ),
    Family(
        "timm_vit_fix",
        neighbour="timm_vit",
        cases=[
            Case("timm VisionTransformer, fix_init", vit(fix_init=True), "distribution"),
            Case("timm VisionTransformer, SwiGLUPacked, fix_init", vit("SwiGLUPacked", fix_init=True), "distribution"),
            Case("timm VisionTransformer, SwiGLU, fix_init", vit("SwiGLU", fix_init=True), "distribution"),
            Case("timm VisionTransformer, norms behind, fix_init", behind(fix_init=True), "distribution"),
            Case("timm VisionTransformer, hybrid, fix_init", partial(hybrid, fix_init=True), "distribution"),
            Case("timm deit_tiny_distilled, fix_init", deit(fix_init=True), "distribution"),
            registered("vit_tiny_patch16_224", "distribution", large=True, fix_init=True),
        ],
    ),
    Family("timm_vit_jax", neighbour="timm_vit_moco", cases=modes("jax")),
    Family("timm_vit_jax_nlhb", neighbour="timm_vit_jax", cases=modes("jax_nlhb")),
    Family("timm_vit_moco", neighbour="timm_vit_jax", cases=modes("moco")),
    Family(
        "timm_efficientnet",
        neighbour="torchvision_efficientnet",
        cases=[
            registered("efficientnet_lite0"),
            registered("mobilenetv3_small_050"),
            registered("mobilenetv4_conv_small_035"),
            registered("mobilenetv4_hybrid_medium", "bits by only", large=True),
            registered("mobilenetv2_035"),
            registered("mnasnet_small", large=True),
            registered("mixnet_s", large=True),
            registered("rexnetr_100", large=True),
            registered("hardcorenas_a", large=True),
            registered("tf_efficientnet_b0", large=True),
            registered("efficientnetv2_rw_t", large=True),
        ],
    ),
    Family(
        "timm_regnet",
        neighbour="torchvision_regnet",
        cases=[
            registered("regnetx_002"),
            registered("regnety_002"),
            registered("regnetv_040", large=True),
        ],
    ),
    Family(
        "timm_convnext",
        neighbour="torch_default",
        cases=[
            Case("timm ConvNeXt(8, 16, 24, 32)", convnext(), "distribution"),
            Case("timm ConvNeXt(8, 16, 24, 32), v2", convnext(use_grn=True, ls_init_value=None), "distribution"),
            registered("convnext_atto", "distribution", large=True),
            registered("convnextv2_atto", "distribution", large=True),
            registered("inception_next_atto", "distribution", large=True),
            registered("jx_nest_tiny", "distribution", large=True),
            registered("swiftformer_xs", "distribution", large=True),
            registered("focalnet_tiny_srf", "distribution", large=True),
        ],
    ),
    Family(
        "timm_mixer",
        neighbour="timm_vit_moco",
        cases=[
            Case("timm MlpMixer(32)", mixer("MixerBlock"), "distribution"),
            Case(
                "timm MlpMixer(32), ResMLP",
                mixer("ResBlock", 4, norm_layer="Affine"),
                "distribution",
            ),
            Case(
                "timm MlpMixer(32), gMLP",
                mixer("SpatialGatingBlock", 4, mlp_layer="GatedMlp"),
                "distribution",
            ),
            registered("mixer_s32_224", "distribution", large=True),
            registered("gmlp_ti16_224", "distribution", large=True),
            registered("resmlp_12_224", "distribution", large=True),
        ],
    ),
    Family(
        "timm_nfnet",
        neighbour="torch_default",
        cases=[
            registered("nf_regnet_b0"),
            registered("nf_ecaresnet26", large=True),
            registered("nfnet_f0", large=True),
            registered("dm_nfnet_f0", large=True),
        ],
    ),
    Family(
        "timm_resnetv2",
        neighbour="timm_resnet_nozero",
        cases=[
            registered("resnetv2_18"),
            registered("resnetv2_50", large=True),
            registered("resnetv2_50x1_bit", large=True),
        ],
    ),
    Family(
        "timm_byobnet",
        neighbour="timm_resnet_nozero",
        cases=[
            registered("gernet_s"),
            registered("repvgg_a0", "bits by only", large=True),
            registered("eca_resnext26ts", large=True),
            registered("gcresnext26ts", "bits by only", large=True),
            registered("botnet26t_256", "distribution", large=True),
            registered("halonet26t", "distribution", large=True),
            registered("lambda_resnet26t", "distribution", large=True),
        ],
    ),
    Family(
        "timm_cspnet",
        neighbour="timm_byobnet",
        cases=[
            registered("cs3darknet_s"),
            registered("cspresnet50", large=True),
            registered("cspdarknet53", large=True),
        ],
    ),
    Family(
        "timm_beit",
        neighbour="timm_vit",
        cases=[
            Case("timm Beit", tiny("beit:Beit", use_rel_pos_bias=True, init_values=0.1), "distribution"),
            Case("timm Eva", tiny("eva:Eva", num_reg_tokens=2), "distribution"),
            registered("beit_base_patch16_224", "distribution", large=True),
            registered("eva02_tiny_patch14_224", "distribution", large=True),
            registered("vit_pe_core_tiny_patch16_384", "distribution", large=True),
        ],
    ),
    Family(
        "timm_swin_v2",
        neighbour="timm_vit",
        cases=[
            Case("timm SwinTransformerV2", swin("swin_transformer_v2:SwinTransformerV2"), "distribution"),
            registered("swinv2_tiny_window8_256", "distribution", large=True),
        ],
    ),
    Family(
        "timm_transformer",
        neighbour="timm_vit_moco",
        cases=[
            registered("tiny_vit_5m_224", "distribution"),
            registered("cait_xxs24_224", "distribution", large=True),
            registered("coat_lite_tiny", "distribution", large=True),
            registered("crossvit_tiny_240", "distribution", large=True),
            registered("davit_tiny", "distribution", large=True),
            registered("efficientformer_l1", "distribution", large=True),
            registered("tnt_s_legacy_patch16_224", "distribution", large=True),
            registered("volo_d1_224", "distribution", large=True),
            registered("efficientvim_m1", "distribution", large=True),
            registered("efficientvit_m0", "distribution", large=True),
            registered("fastvit_t8", "distribution", large=True),
            registered("qwen3_vit_88m", "distribution", large=True, depth=2),
            registered("repvit_m1", "distribution", large=True),
            registered("shvit_s1", "distribution", large=True),
            registered("xcit_nano_12_p16_224", "distribution", large=True),
        ],
    ),
    Family(
        "timm_pvt",
        neighbour="timm_transformer",
        cases=[
            registered("pvt_v2_b0", "distribution"),
            registered("twins_svt_small", "distribution", large=True),
            registered("vitamin_small_224", "distribution", large=True),
        ],
    ),
    Family(
        "timm_transformer_tf",
        neighbour="timm_transformer",
        cases=[
            registered("edgenext_xx_small", "distribution"),
            registered("mvitv2_tiny", "distribution", large=True),
            registered("gemma4_vit_167m", "distribution", large=True, depth=2),
        ],
    ),
    Family(
        "timm_reset",
        neighbour="timm_transformer",
        cases=[
            registered("pit_ti_224", "distribution"),
            registered("levit_128s", "distribution"),
            registered("samvit_base_patch16_224", "bits", large=True, depth=2),
        ],
    ),
    Family(
        "timm_metaformer",
        neighbour="timm_transformer",
        cases=[
            registered("poolformerv2_s12", "distribution"),
            registered("poolformer_s12", "distribution", large=True),
            registered("caformer_s18", "distribution", large=True),
            registered("mambaout_femto", "distribution", large=True),
        ],
    ),
]
