"""Models picked by family, on which the coverage of the presets is measured: `coverage_table.py`.

The picks are made by rule and not by what a preset reproduces: of torchvision all models but quantized ones and the
larger sizes of one structure; of timm the smallest model of every module; of the others one model of each architecture,
from configurations shrunk to what builds in a moment. None is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from third_party import THIRD_PARTY, built, named
from torch import nn


@dataclass(frozen=True)
class Pick:
    """A model that coverage is measured on.

    Args:
        library: as the table shows it.
        name: of the model, within its library.
        build: constructs the model with the values that its own code gives it.
        options: a preset and overrides of it that the model's own arguments ask for, tried beside all as they are.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    options: tuple[str, ...] = ()

    @property
    def why(self) -> str | None:
        """What of the model no recipe can say, or nobody needs a preset for; None where it is not known."""
        return WHY.get(self.name)


WHY = {
    "convit_tiny": "its positional attention is a pattern of places, which no initializer has",
    "hiera_tiny_224": "its head is drawn and multiplied by 0.001, which the model does not keep; biases are 0.02",
    "sam2_hiera_tiny": "biases of 0.02; one model is no reason for a preset",
    "mobilevit_xxs": "the last norm is 0 in blocks that have a shortcut only, and no selector asks what a module has",
    "test_coatnet": "two schemes by the kind of block: two presets, by parts",
    "RecurrentGemmaForCausalLM": "its recurrences are ln(exp(-½·ln U) - 1), a link that none has",
    "RwkvForCausalLM": "time mixes are powers of i/width whose exponents depend on the layer: `record` is for these",
    "FunnelForMaskedLM": "Glorot's rule halved, and U(0, 0.1) for its attention; one model is no reason for a preset",
    "Gemma3ForConditionalGeneration": "two presets, by parts: transformers_siglip, transformers_gemma",
    "BlipForConditionalGeneration": "its tower has std 1e-10, its texts 0.02: two settings, by parts",
    "SamModel": "its encoder has std 1e-10, its positions are drawn by a scale of the configuration",
    "Mask2FormerForUniversalSegmentation": "offsets of deformable attention are points of a circle, computed",
    "TimesformerForVideoClassification": "tokens and positions of 0.02 beside times of 0; one model only",
    "VitsModel": "nine kinds of layers with rules of their own",
    "EncodecModel": "Xavier's rule for its LSTM alone; one model is no reason for a preset",
    "DimeNet": "Glorot's orthogonal rule (orthogonal, scaled to a variance by what was drawn), computed",
    "CoCa": "a projection is memory that nobody writes",
}
"""Why no preset reproduces a model."""

# torchvision ------------------------------------------------------------------------------------------------------

TV = "torchvision.models"
TORCHVISION = """
alexnet convnext_tiny convnext_small deeplabv3_mobilenet_v3_large deeplabv3_resnet50 deeplabv3_resnet101 densenet121
densenet161 densenet169 densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
efficientnet_v2_s efficientnet_v2_m fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn
fasterrcnn_resnet50_fpn fasterrcnn_resnet50_fpn_v2 fcn_resnet50 fcn_resnet101 fcos_resnet50_fpn googlenet inception_v3
keypointrcnn_resnet50_fpn lraspp_mobilenet_v3_large maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_v2 maxvit_t mc3_18
mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small mvit_v1_b mvit_v2_s
r2plus1d_18 r3d_18 raft_large raft_small regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_y_400mf regnet_y_800mf
regnet_y_1_6gf resnet18 resnet34 resnet50 resnext50_32x4d retinanet_resnet50_fpn retinanet_resnet50_fpn_v2 s3d
shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 ssd300_vgg16
ssdlite320_mobilenet_v3_large swin3d_t swin_t swin_s swin_v2_t swin_v2_s vgg11 vgg11_bn vit_b_32 wide_resnet50_2
""".split()  # noqa: SIM905  # forty lines of quotes less
DETECTION = ("rcnn", "fcos", "retinanet", "ssd", "deeplab", "fcn_", "lraspp")


def torchvision(name: str) -> nn.Module:
    """A model of torchvision's registry, without weights of its backbone."""
    settings: dict[str, Any] = {"weights": None}
    if any(part in name for part in DETECTION):
        settings["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        settings["init_weights"] = True
    model: nn.Module = named(f"{TV}:get_model")(name, **settings)
    return model


# timm: of each module the model with the fewest parameters ---------------------------------------------------------

TIMM = """
beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 test_convnext
cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny deepseek_vit_412m
deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
test_efficientnet efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny
hrnet_w18_small iformer_t inception_next_atto ens_adv_inception_resnet_v2 adv_inception_v3 inception_v4 lcnetv2_small
levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 gmlp_ti16_224 mobilenetv3_small_050
mobilenetv5_base mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge jx_nest_tiny nextvit_small
test_nfnet pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1
res2next50 resnest14d test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1
skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window16_256 swinv2_cr_tiny_224
tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny test_vit vit_tiny_r_s16_p8_224
test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw legacy_xception
xception41p xcit_nano_12_p8_224
""".split()  # noqa: SIM905  # likewise
FEWER = {"deepseek_vit_412m": 2, "gemma4_vit_167m": 2, "qwen3_vit_88m": 2, "samvit_base_patch16_224": 2}


def timm(name: str) -> nn.Module:
    """A model of timm's registry; those of more than 85 million parameters with two blocks."""
    settings = {"depth": FEWER[name]} if name in FEWER else {}
    model: nn.Module = named("timm:create_model")(name, **settings)
    return model


TIMM_OPTIONS = {
    "starnet_s050": ("timm_convnext", "rules.bias.match='<Linear>.bias'"),
    "tresnet_m": ("timm_regnet", "rules.bias=null"),
    "visformer_tiny": ("timm_pvt", "rules.conv.init.fans=torch"),
}
"""What the code of a model does otherwise than the preset of its family."""

# transformers ------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 64, "d_model": 64, "n_embd": 64, "dim": 64, "embedding_size": 32,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "d_ff": 96, "hidden_dim": 96,
    "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "ffn_dim": 96, "image_size": 32, "patch_size": 8, "head_dim": 16,
    "max_position_embeddings": 64, "n_positions": 64, "num_experts": 4, "num_local_experts": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""What a configuration gets of these, where it has them."""

STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
PLAIN = {"intermediate_size": 96, "num_attention_heads": 4}
PARTS = {"text_config": {**SMALL}, "vision_config": {**SMALL}}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    # encoders of text
    "BertForMaskedLM": {},
    "RobertaForMaskedLM": {},
    "DistilBertForMaskedLM": {},
    "AlbertForMaskedLM": {},
    "ElectraForPreTraining": {},
    "DebertaV2ForMaskedLM": {},
    "ModernBertForMaskedLM": {},
    "XLNetLMHeadModel": {"d_inner": 96, "d_head": 16},
    "FunnelForMaskedLM": {"block_sizes": [1, 1], "d_head": 16, "d_inner": 96, "num_decoder_layers": 1},
    "MPNetForMaskedLM": {},
    "RoFormerForMaskedLM": {},
    "BigBirdForMaskedLM": {},
    "ReformerModelWithLMHead": {
        "attention_head_size": 16,
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [32, 32],
        "feed_forward_size": 96,
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "hash_seed": 0,
    },
    "PerceiverForMaskedLM": {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 2},
    "LongformerForMaskedLM": {"attention_window": 8},
    # decoders
    "GPT2LMHeadModel": {},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], 1]]},
    "GPTNeoXForCausalLM": {},
    "GPTJForCausalLM": {"rotary_dim": 8},
    "OPTForCausalLM": {"word_embed_proj_dim": 64},
    "BloomForCausalLM": {},
    "FalconForCausalLM": {},
    "LlamaForCausalLM": {},
    "Qwen3ForCausalLM": {},
    "MixtralForCausalLM": {},
    "GemmaForCausalLM": {},
    "Gemma3ForConditionalGeneration": {
        "text_config": {**SMALL},
        "vision_config": {**PLAIN, "hidden_size": 64, "num_hidden_layers": 2},
        "mm_tokens_per_image": 4,
    },
    "Phi3ForCausalLM": {},
    "Olmo2ForCausalLM": {},
    "DeepseekV3ForCausalLM": {
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
    "GptOssForCausalLM": {},
    "RecurrentGemmaForCausalLM": {"num_hidden_layers": 3, "lru_width": 64},
    "MambaForCausalLM": {"state_size": 4, "time_step_rank": 8},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 2},
    "RwkvForCausalLM": {"attention_hidden_size": 64},
    "FalconH1ForCausalLM": {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1},
    "CTRLLMHeadModel": {"dff": 96},
    "ImageGPTForCausalImageModeling": {},
    "XLMWithLMHeadModel": {"emb_dim": 64},
    "DecisionTransformerModel": {"state_dim": 8, "act_dim": 3, "hidden_size": 64},
    "TimeSeriesTransformerForPrediction": {"prediction_length": 4, "context_length": 8, "d_model": 32},
    "PatchTSTForPrediction": {"context_length": 32},
    # encoders and decoders
    "ProphetNetForConditionalGeneration": {
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4,
    },
    "LEDForConditionalGeneration": {"attention_window": 8},
    "SwitchTransformersForConditionalGeneration": {
        "d_kv": 16,
        "num_decoder_layers": 2,
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
    },
    "T5ForConditionalGeneration": {"d_kv": 16},
    "BartForConditionalGeneration": {},
    "MarianMTModel": {"decoder_start_token_id": 0},
    "PegasusForConditionalGeneration": {},
    "WhisperForConditionalGeneration": {
        "num_mel_bins": 8,
        "max_source_positions": 20,
        "max_target_positions": 20,
        "decoder_start_token_id": 1,
    },
    # images
    "ViTForImageClassification": {},
    "DeiTForImageClassification": {},
    "BeitForImageClassification": {},
    "SwinForImageClassification": {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 4],
        "window_size": 4,
        "patch_size": 2,
    },
    "ConvNextForImageClassification": {**STAGES},
    "ResNetForImageClassification": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
    "SegformerForSemanticSegmentation": {**STAGES, "decoder_hidden_size": 16, "num_attention_heads": [1, 1, 2, 2]},
    "Dinov2ForImageClassification": {},
    "ViTMAEForPreTraining": {
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 64,
    },
    "MobileViTForImageClassification": {
        "hidden_sizes": [32, 48, 64],
        "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64],
        "patch_size": 2,
    },
    "PoolFormerForImageClassification": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
    "PvtForImageClassification": {
        "hidden_sizes": [16, 32, 48, 64],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 3, 4],
    },
    "LevitForImageClassification": {
        "hidden_sizes": [32, 48, 64],
        "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
        "image_size": 64,
        "patch_size": 16,
    },
    "FocalNetForImageClassification": {
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [16, 32, 64, 128],
        "patch_size": 4,
    },
    "EfficientNetForImageClassification": {"hidden_dim": 1280},
    "BitForImageClassification": {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8},
    "DetrForObjectDetection": {
        "use_pretrained_backbone": False,
        "backbone": None,
        "use_timm_backbone": False,
        "num_labels": 5,
    },
    "YolosForObjectDetection": {"image_size": [32, 32], "num_detection_tokens": 4},
    "DPTForDepthEstimation": {
        "backbone_out_indices": [0, 1, 1, 1],
        "neck_hidden_sizes": [16, 16, 32, 32],
        "fusion_hidden_size": 16,
    },
    "SamModel": {
        "vision_config": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "mlp_dim": 64,
            "output_channels": 16,
            "image_size": 32,
            "patch_size": 8,
            "global_attn_indexes": [1],
            "window_size": 2,
        },
        "prompt_encoder_config": {"hidden_size": 16, "image_size": 32, "patch_size": 8},
        "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    },
    "Mask2FormerForUniversalSegmentation": {
        "hidden_dim": 32,
        "encoder_feedforward_dim": 32,
        "dim_feedforward": 64,
        "num_queries": 5,
        "feature_size": 32,
        "mask_feature_size": 32,
    },
    "VideoMAEForVideoClassification": {"tubelet_size": 2, "num_frames": 4},
    "TimesformerForVideoClassification": {"num_frames": 4},
    # images and texts
    "ViltForMaskedLM": {},
    "FlavaModel": {
        "image_config": {**SMALL},
        "text_config": {**SMALL},
        "multimodal_config": {**SMALL},
        "projection_dim": 64,
    },
    "LlavaForConditionalGeneration": {
        "text_config": {**SMALL, "model_type": "llama"},
        "vision_config": {**SMALL, "model_type": "clip_vision_model"},
    },
    "OwlViTModel": {**PARTS, "projection_dim": 16},
    "CLIPModel": {**PARTS, "projection_dim": 16},
    "SiglipModel": {**PARTS},
    "BlipForConditionalGeneration": {**PARTS, "projection_dim": 16},
    # sounds
    "Wav2Vec2ForCTC": {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "Wav2Vec2ForPreTraining": {
        "conv_dim": [32] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "codevector_dim": 32,
        "proj_codevector_dim": 32,
    },
    "HubertForCTC": {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "WavLMForCTC": {
        "conv_bias": True,
        "conv_dim": [32] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
    "SpeechT5ForSpeechToText": {
        "conv_dim": [32] * 7,
        "hidden_size": 64,
        "positional_dropout": 0.1,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
    "VitsModel": {"hidden_size": 32, "flow_size": 32, "spectrogram_bins": 9, "upsample_initial_channel": 32},
    "ASTForAudioClassification": {"patch_size": 16},
    "EncodecModel": {"hidden_size": 32, "num_filters": 8, "codebook_dim": 32, "codebook_size": 16},
}
"""Settings beyond `SMALL`."""


def transformers(name: str) -> nn.Module:
    """A model with a small configuration."""
    kind = named(f"transformers:{name}")
    defaults = kind.config_class().to_dict()
    given = TRANSFORMERS[name]
    settings = {key: value for key, value in SMALL.items() if key in defaults or key in kind.config_class.attribute_map}
    settings = {**settings, **given}
    for alias, key in kind.config_class.attribute_map.items():
        if alias in settings and key in settings:
            settings.pop(alias)
    model: nn.Module = kind(kind.config_class(**settings))
    return model


TRANSFORMERS_OPTIONS = {
    "MobileViTForImageClassification": ("transformers_base", "rules.batch_norm.init={fn: normal, std: 0.02}"),
    "EfficientNetForImageClassification": ("transformers_base", "rules.batch_norm.init={fn: normal, std: 0.02}"),
    "HubertForCTC": ("transformers_wav2vec2", "rules.conv_bias.init=0", "rules.projection=null"),
    "XLMWithLMHeadModel": ("transformers_base", "rules.embedding.init.std=0.022097086912079608"),
}
"""What a model's configuration asks for."""

# others ------------------------------------------------------------------------------------------------------------


def of_tests(library: str, *names: str) -> Iterator[Pick]:
    """Models that other tests build, too."""
    for name in names:
        yield Pick(library, name, THIRD_PARTY[f"{library}-{name}"].build)


DIFFUSERS = "diffusers"
FLUX = {
    "patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip
PIXART = {
    "sample_size": 8, "num_layers": 1, "patch_size": 2, "attention_head_dim": 8, "num_attention_heads": 3,
    "caption_channels": 32, "in_channels": 4, "cross_attention_dim": 24, "out_channels": 8, "norm_num_groups": 4,
}  # fmt: skip

NETS = "monai.networks.nets"
GNN = "torch_geometric.nn"
VIT = "vit_pytorch"
SIZES = {"image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 96}
X = "x_transformers"
SMP = "segmentation_models_pytorch"


def pna() -> nn.Module:
    """A net of principal neighbourhood aggregation."""
    degrees = torch.tensor([1, 2, 3, 2])
    return named(f"{GNN}:PNA")(16, 32, 2, 4, aggregators=["mean", "max"], scalers=["identity"], deg=degrees)  # type: ignore[no-any-return]  # of a package without types


def attention(kind: str, **settings: Any) -> nn.Module:
    """A transformer of x-transformers on tokens."""
    layers = named(f"{X}:{kind}")(dim=64, depth=2, heads=4, **settings)
    model: nn.Module = named(f"{X}:TransformerWrapper")(num_tokens=101, max_seq_len=64, attn_layers=layers)
    return model


def x_vit() -> nn.Module:
    """A vision transformer of x-transformers."""
    layers = named(f"{X}:Encoder")(dim=64, depth=2, heads=4)
    model: nn.Module = named(f"{X}:ViTransformerWrapper")(
        image_size=32, patch_size=8, num_classes=10, attn_layers=layers
    )
    return model


def open_clip(**vision: Any) -> nn.Module:
    """A CLIP of open_clip."""
    text = {"context_length": 16, "vocab_size": 101, "width": 64, "heads": 4, "layers": 2}
    cfg = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16, **vision}
    model: nn.Module = named("open_clip.model:CLIP")(embed_dim=32, vision_cfg=cfg, text_cfg=text)
    return model


def coca() -> nn.Module:
    """A CoCa of open_clip."""
    text = {"context_length": 16, "vocab_size": 101, "width": 64, "heads": 4, "layers": 2}
    cfg = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16, "attentional_pool": True}
    decoder = {"context_length": 16, "vocab_size": 101, "width": 64, "heads": 4, "layers": 2}
    model: nn.Module = named("open_clip.coca_model:CoCa")(
        embed_dim=64, multimodal_cfg=decoder, text_cfg=text, vision_cfg=cfg
    )
    return model


def smp(name: str, **settings: Any) -> Pick:
    """A decoder on its default encoder, ResNet-34, or another."""
    encoder = settings.pop("encoder", "resnet18")
    told = "" if encoder == "resnet18" else f" on {encoder}"
    return Pick("smp", name + told, built(f"{SMP}:{name}", encoder, encoder_weights=None, classes=2, **settings))


OTHERS: list[Pick] = [
    *of_tests("diffusers", "unet2d", "unet2d_condition", "controlnet", "autoencoder_kl", "vq", "dit", "sd3"),
    Pick("diffusers", "flux", built(f"{DIFFUSERS}:FluxTransformer2DModel", **FLUX)),
    Pick("diffusers", "pixart", built(f"{DIFFUSERS}:PixArtTransformer2DModel", **PIXART)),
    *of_tests("monai", "unet", "segresnet", "unetr", "swin_unetr", "dynunet", "attention_unet", "vnet", "basic_unet"),
    *of_tests("monai", "vqvae", "resnet3d"),
    Pick("monai", "densenet", built(f"{NETS}:DenseNet", 3, 1, 2, 8, 4, (2, 2))),
    Pick("torch_geometric", "GCN", built(f"{GNN}:GCN", 16, 32, 2, 4)),
    Pick("torch_geometric", "GraphSAGE", built(f"{GNN}:GraphSAGE", 16, 32, 2, 4)),
    Pick("torch_geometric", "GAT", built(f"{GNN}:GAT", 16, 32, 2, 4)),
    Pick("torch_geometric", "GIN", built(f"{GNN}:GIN", 16, 32, 2, 4, norm="batch_norm")),
    Pick("torch_geometric", "EdgeCNN", built(f"{GNN}:EdgeCNN", 16, 32, 2, 4)),
    Pick("torch_geometric", "PNA", pna),
    Pick("torch_geometric", "SchNet", built(f"{GNN}:SchNet", 32, 32, 2, 10)),
    Pick("torch_geometric", "DimeNet", built(f"{GNN}:DimeNetPlusPlus", 32, 1, 2, 16, 8, 32, 3, 4)),
    Pick("torch_geometric", "GPSConv", built(f"{GNN}:GPSConv", 32, None, heads=4)),
    Pick("vit-pytorch", "ViT", built(f"{VIT}:ViT", **SIZES)),
    Pick("vit-pytorch", "SimpleViT", built(f"{VIT}.simple_vit:SimpleViT", **SIZES)),
    Pick("vit-pytorch", "DistillableViT", built(f"{VIT}.distill:DistillableViT", **SIZES)),
    Pick("vit-pytorch", "DeepViT", built(f"{VIT}.deepvit:DeepViT", **SIZES)),
    Pick("vit-pytorch", "CaiT", built(f"{VIT}.cait:CaiT", **SIZES, cls_depth=1)),
    Pick("vit-pytorch", "T2TViT", built(
        f"{VIT}.t2t:T2TViT", image_size=32, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=96,
    )),
    Pick("vit-pytorch", "CCT", built(f"{VIT}.cct:CCT", img_size=32, embedding_dim=64, num_layers=2, num_classes=10)),
    Pick("vit-pytorch", "CrossViT", built(
        f"{VIT}.cross_vit:CrossViT", image_size=64, num_classes=10, sm_dim=32, lg_dim=64, sm_patch_size=16,
        lg_patch_size=32, sm_enc_depth=1, lg_enc_depth=1, depth=1,
    )),
    Pick("vit-pytorch", "PiT", built(
        f"{VIT}.pit:PiT", image_size=64, patch_size=16, num_classes=10, dim=32, depth=(1, 1), heads=4, mlp_dim=64,
    )),
    Pick("vit-pytorch", "LeViT", built(
        f"{VIT}.levit:LeViT", image_size=64, num_classes=10, dim=(32, 48, 64), depth=1, heads=(2, 3, 4), mlp_mult=2,
    )),
    Pick("vit-pytorch", "CvT", built(
        f"{VIT}.cvt:CvT", num_classes=10, s1_emb_dim=16, s1_heads=1, s2_emb_dim=32, s2_heads=2, s2_depth=1,
        s3_emb_dim=48, s3_heads=2, s3_depth=1,
    )),
    *(smp(name) for name in ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "PSPNet")),
    smp("Unet", encoder="efficientnet-b0"),
    smp("Unet", encoder="mobilenet_v2"),
    Pick("x-transformers", "Decoder", partial(attention, "Decoder")),
    Pick("x-transformers", "Encoder", partial(attention, "Encoder")),
    Pick("x-transformers", "Decoder, rotary", partial(attention, "Decoder", rotary_pos_emb=True)),
    Pick("x-transformers", "Decoder, GLU, RMSNorm", partial(attention, "Decoder", ff_glu=True, use_rmsnorm=True)),
    Pick("x-transformers", "Decoder, zero", partial(attention, "Decoder", zero_init_branch_output=True),
         ("x_transformers", "rules.branch.init=0")),
    Pick("x-transformers", "XTransformer", built(
        f"{X}:XTransformer", dim=64, enc_num_tokens=101, enc_depth=1, enc_heads=4, enc_max_seq_len=32,
        dec_num_tokens=101, dec_depth=1, dec_heads=4, dec_max_seq_len=32,
    )),
    Pick("x-transformers", "ViTransformerWrapper", x_vit),
    Pick("open_clip", "CLIP, ViT", open_clip),
    Pick("open_clip", "CLIP, ResNet", partial(open_clip, layers=[1, 1, 1, 1], width=16)),
    Pick("open_clip", "CoCa", coca),
]  # fmt: skip

PICKS: list[Pick] = [
    *(Pick("torchvision", name, partial(torchvision, name)) for name in TORCHVISION),
    *(Pick("timm", name, partial(timm, name), TIMM_OPTIONS.get(name, ())) for name in TIMM),
    *(
        Pick("transformers", name, partial(transformers, name), TRANSFORMERS_OPTIONS.get(name, ()))
        for name in TRANSFORMERS
    ),
    *OTHERS,
]
