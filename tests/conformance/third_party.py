"""Models of seven libraries, small enough to be built, filled and run in a moment: code that we did not write."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import libraries  # noqa: F401  # it makes them importable
import torch
from torch import Tensor, nn

Run = Callable[[nn.Module], Any]


@dataclass(frozen=True)
class ThirdParty:
    """A model and an input for it.

    Args:
        name: of the model, within its library.
        build: constructs the model, with the values that the library gives it.
        run: calls the model on an example.
        plain: whether torch.nn alone drew those values, nothing being written again by the library.
    """

    name: str
    build: Callable[[], nn.Module]
    run: Run
    plain: bool = False


def named(path: str) -> Any:
    """`module:attribute`, imported when it is first asked for: the seven libraries take seconds to load."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def built(path: str, *args: Any, **settings: Any) -> Callable[[], nn.Module]:
    """The constructor of the model that a class or function makes of these arguments."""
    return lambda: named(path)(*args, **settings)


def hugging_face(kind: str, **settings: Any) -> Callable[[], nn.Module]:
    """The constructor of a transformers model with a configuration of its own."""

    def build() -> nn.Module:
        model = named(f"transformers:{kind}")
        built: nn.Module = model(model.config_class(**settings))
        return built

    return build


def noise(*shape: int) -> Run:
    """A call with one batch of normal noise."""
    return lambda model: model(torch.randn(shape))


def images(side: int, channels: int = 3) -> Run:
    """A call with two square images."""
    return noise(2, channels, side, side)


def tokens(vocabulary: int = 99) -> Tensor:
    """Two sequences of six tokens, none of which is a padding token."""
    return torch.arange(3, 15).reshape(2, 6) % vocabulary


def read(*names: str) -> Run:
    """A call with the same tokens under each of these names."""
    return lambda model: model(**dict.fromkeys(names, tokens()))


def detect(model: nn.Module) -> Any:
    """The losses of a detector, which need none of torchvision's compiled operators."""
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([1])}
    return model.train()([torch.rand(3, 64, 64)], [target])


WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
LANGUAGE = {**WIDTH, "vocab_size": 99, "max_position_embeddings": 64}
GROUPED = {**LANGUAGE, "num_key_value_heads": 2}
PATCHES = {**WIDTH, "image_size": 16, "patch_size": 8}
TRANSLATION = {
    "vocab_size": 99,
    "d_model": 32,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

TRANSFORMERS = [
    ThirdParty("bert", hugging_face("BertForMaskedLM", **LANGUAGE), read("input_ids")),
    ThirdParty("roberta", hugging_face("RobertaModel", **LANGUAGE), read("input_ids")),
    ThirdParty(
        "distilbert",
        hugging_face("DistilBertForMaskedLM", vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
        read("input_ids"),
    ),
    ThirdParty("albert", hugging_face("AlbertModel", embedding_size=16, **LANGUAGE), read("input_ids")),
    ThirdParty(
        "deberta_v2",
        hugging_face("DebertaV2Model", relative_attention=True, pos_att_type="c2p|p2c", **LANGUAGE),
        read("input_ids"),
    ),
    ThirdParty(
        "gpt2",
        hugging_face("GPT2LMHeadModel", vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64, **ENDS),
        read("input_ids"),
    ),
    ThirdParty("gpt_neox", hugging_face("GPTNeoXForCausalLM", **LANGUAGE), read("input_ids")),
    ThirdParty(
        "opt",
        hugging_face(
            "OPTForCausalLM",
            **{key: value for key, value in LANGUAGE.items() if key != "intermediate_size"},
            ffn_dim=64,
            word_embed_proj_dim=16,
        ),
        read("input_ids"),
    ),
    ThirdParty("llama", hugging_face("LlamaForCausalLM", **GROUPED), read("input_ids")),
    ThirdParty(
        "mistral_tied", hugging_face("MistralForCausalLM", tie_word_embeddings=True, **GROUPED), read("input_ids")
    ),
    ThirdParty("mixtral", hugging_face("MixtralForCausalLM", num_local_experts=4, **GROUPED), read("input_ids")),
    ThirdParty("gemma2", hugging_face("Gemma2ForCausalLM", head_dim=8, pad_token_id=0, **GROUPED), read("input_ids")),
    ThirdParty(
        "t5",
        hugging_face(
            "T5ForConditionalGeneration", vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
        ),
        read("input_ids", "decoder_input_ids"),
    ),
    ThirdParty(
        "bart", hugging_face("BartForConditionalGeneration", **TRANSLATION), read("input_ids", "decoder_input_ids")
    ),
    ThirdParty(
        "whisper",
        hugging_face(
            "WhisperForConditionalGeneration",
            **TRANSLATION,
            **ENDS,
            num_mel_bins=8,
            max_source_positions=20,
            max_target_positions=20,
            decoder_start_token_id=1,
        ),
        lambda model: model(input_features=torch.randn(2, 8, 40), decoder_input_ids=tokens()),
    ),
    ThirdParty(
        "mamba",
        hugging_face("MambaForCausalLM", vocab_size=99, hidden_size=32, num_hidden_layers=2, state_size=4),
        read("input_ids"),
    ),
    ThirdParty(
        "clip",
        hugging_face(
            "CLIPModel",
            text_config={**LANGUAGE, **ENDS, "projection_dim": 16},
            vision_config={**PATCHES, "projection_dim": 16},
            projection_dim=16,
        ),
        lambda model: model(input_ids=tokens(), pixel_values=torch.randn(2, 3, 16, 16)),
    ),
    ThirdParty("vit", hugging_face("ViTForImageClassification", **PATCHES), images(16)),
    ThirdParty(
        "beit",
        hugging_face("BeitModel", **PATCHES, use_relative_position_bias=True, layer_scale_init_value=0.1),
        images(16),
    ),
    ThirdParty(
        "swin",
        hugging_face(
            "SwinModel", image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
        ),
        images(32),
    ),
    ThirdParty(
        "convnext",
        hugging_face("ConvNextForImageClassification", hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]),
        images(64),
    ),
    ThirdParty(
        "segformer",
        hugging_face(
            "SegformerForSemanticSegmentation",
            hidden_sizes=[8, 16, 16, 32],
            depths=[1, 1, 1, 1],
            decoder_hidden_size=16,
            num_attention_heads=[1, 1, 2, 2],
        ),
        images(64),
    ),
]


def torchvision_swin(version: str) -> Callable[[], nn.Module]:
    """The constructor of a Swin transformer, by the blocks of version 1 or 2."""
    home = "torchvision.models.swin_transformer"
    return lambda: named(f"{home}:SwinTransformer")(
        [2, 2],
        16,
        [1, 1],
        [2, 4],
        [4, 4],
        num_classes=10,
        block=named(f"{home}:SwinTransformerBlock{version}"),
        downsample_layer=named(f"{home}:PatchMerging{version}"),
    )


def torchvision_convnext() -> nn.Module:
    """Two stages of one block."""
    stage = named("torchvision.models.convnext:CNBlockConfig")
    model: nn.Module = named("torchvision.models:ConvNeXt")([stage(8, 16, 1), stage(16, None, 1)], num_classes=10)
    return model


TV = "torchvision.models"
UNTRAINED = {"weights": None, "weights_backbone": None, "num_classes": 5}
TORCHVISION = [
    ThirdParty("resnet18", built(f"{TV}:resnet18", num_classes=10), images(32)),
    ThirdParty("densenet", built(f"{TV}:DenseNet", 8, (2, 2), 16, num_classes=10), images(32)),
    ThirdParty("vgg11_bn", built(f"{TV}:vgg11_bn", num_classes=10), images(32)),
    ThirdParty("alexnet", built(f"{TV}:alexnet", num_classes=10), images(64), plain=True),
    ThirdParty("squeezenet1_1", built(f"{TV}:squeezenet1_1", num_classes=10), images(64)),
    ThirdParty("shufflenet_v2_x0_5", built(f"{TV}:shufflenet_v2_x0_5", num_classes=10), images(32), plain=True),
    ThirdParty("mobilenet_v3_small", built(f"{TV}:mobilenet_v3_small", num_classes=10), images(32)),
    ThirdParty("mnasnet0_5", built(f"{TV}:mnasnet0_5", num_classes=10), images(32)),
    ThirdParty("efficientnet_b0", built(f"{TV}:efficientnet_b0", num_classes=10), images(32)),
    ThirdParty("regnet_y_400mf", built(f"{TV}:regnet_y_400mf", num_classes=10), images(32)),
    ThirdParty("googlenet", built(f"{TV}:GoogLeNet", num_classes=10, init_weights=True), images(64)),
    ThirdParty("inception_v3", built(f"{TV}:Inception3", num_classes=10, init_weights=True), images(96)),
    ThirdParty("vit", built(f"{TV}:VisionTransformer", 32, 8, 2, 4, 32, 64, num_classes=10), images(32)),
    ThirdParty("swin", torchvision_swin(""), images(32)),
    ThirdParty("swin_v2", torchvision_swin("V2"), images(32)),
    ThirdParty("convnext", torchvision_convnext, images(32)),
    ThirdParty(
        "retinanet_resnet50_fpn",
        built(f"{TV}.detection:retinanet_resnet50_fpn", **UNTRAINED, min_size=64, max_size=64),
        detect,
    ),
    ThirdParty(
        "lraspp_mobilenet_v3_large", built(f"{TV}.segmentation:lraspp_mobilenet_v3_large", **UNTRAINED), images(64)
    ),
    ThirdParty(
        "raft_small",
        built(f"{TV}.optical_flow:raft_small"),
        lambda model: model(*torch.randn(2, 1, 3, 128, 128), num_flow_updates=1),
    ),
]


def timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    """The constructor of a model from timm's registry."""
    return built("timm:create_model", name, num_classes=10, **settings)


TIMM = [
    ThirdParty("resnet10t", timm("resnet10t"), images(32)),
    ThirdParty(
        "vit_tiny",
        timm("vit_tiny_patch16_224", img_size=32, embed_dim=32, depth=2, num_heads=4),
        images(32),
    ),
    ThirdParty("deit_tiny_distilled", timm("deit_tiny_distilled_patch16_224", img_size=32, depth=2), images(32)),
    ThirdParty("beit_base", timm("beit_base_patch16_224", img_size=32, embed_dim=32, depth=2, num_heads=4), images(32)),
    ThirdParty(
        "swin_tiny",
        timm("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 4)),
        images(32),
    ),
    ThirdParty("convnextv2_atto", timm("convnextv2_atto"), images(32)),
    ThirdParty(
        "mixer",
        built("timm.models.mlp_mixer:MlpMixer", img_size=32, patch_size=8, embed_dim=32, num_blocks=2, num_classes=10),
        images(32),
    ),
    ThirdParty("efficientnet_lite0", timm("efficientnet_lite0"), images(32)),
    ThirdParty("nf_regnet_b0", timm("nf_regnet_b0"), images(64)),
    ThirdParty("regnetx_002", timm("regnetx_002"), images(32)),
    ThirdParty("ghostnet_050", timm("ghostnet_050"), images(32), plain=True),
    ThirdParty("dpn48b", timm("dpn48b"), images(32), plain=True),
    ThirdParty("botnet26t", timm("botnet26t_256", img_size=64), images(64)),
    ThirdParty("coat_lite_tiny", timm("coat_lite_tiny", img_size=64), images(64)),
    ThirdParty("xcit_nano", timm("xcit_nano_12_p16_224", img_size=32), images(32)),
]


def pytorchcv(name: str) -> Callable[[], nn.Module]:
    """The constructor of a model from pytorchcv's registry."""
    return built("pytorchcv.model_provider:get_model", name)


PYTORCHCV = [
    ThirdParty("seresnet20_cifar10", pytorchcv("seresnet20_cifar10"), images(32)),
    ThirdParty("densenet40_k12_cifar10", pytorchcv("densenet40_k12_cifar10"), images(32)),
    ThirdParty("diaresnet20_cifar10", pytorchcv("diaresnet20_cifar10"), images(32)),
    ThirdParty("shakeshakeresnet20_2x16d_cifar10", pytorchcv("shakeshakeresnet20_2x16d_cifar10"), images(32)),
    ThirdParty("menet108_8x1_g3", pytorchcv("menet108_8x1_g3"), images(224)),
    ThirdParty("shufflenetv2_wd2", pytorchcv("shufflenetv2_wd2"), images(224)),
]

BLOCKS = {"block_out_channels": (8, 16), "norm_num_groups": 4}
CODED = {
    **BLOCKS,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
CONDITIONED = {
    **BLOCKS,
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
}
DIFFUSERS = [
    ThirdParty(
        "unet2d",
        built(
            "diffusers:UNet2DModel",
            **BLOCKS,
            sample_size=16,
            layers_per_block=1,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        lambda model: model(torch.randn(2, 3, 16, 16), 1).sample,
        plain=True,
    ),
    ThirdParty(
        "unet2d_condition",
        built("diffusers:UNet2DConditionModel", **CONDITIONED, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
        lambda model: model(torch.randn(2, 4, 16, 16), 1, torch.randn(2, 5, 16)).sample,
        plain=True,
    ),
    ThirdParty(
        "controlnet",
        built("diffusers:ControlNetModel", **CONDITIONED, conditioning_embedding_out_channels=(8, 16)),
        lambda model: (
            model(torch.randn(2, 4, 16, 16), 1, torch.randn(2, 5, 16), torch.randn(2, 3, 32, 32)).mid_block_res_sample
        ),
    ),
    ThirdParty(
        "autoencoder_kl",
        built("diffusers:AutoencoderKL", **CODED),
        lambda model: model(torch.randn(2, 3, 16, 16)).sample,
        plain=True,
    ),
    ThirdParty(
        "vq",
        built("diffusers:VQModel", **CODED, num_vq_embeddings=16),
        lambda model: model(torch.randn(2, 3, 16, 16)).sample,
    ),
    ThirdParty(
        "dit",
        built(
            "diffusers:DiTTransformer2DModel",
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=10,
            norm_num_groups=4,
        ),
        lambda model: (
            model(torch.randn(2, 4, 8, 8), timestep=torch.tensor([1, 2]), class_labels=torch.tensor([1, 2])).sample
        ),
        plain=True,
    ),
    ThirdParty(
        "sd3",
        built(
            "diffusers:SD3Transformer2DModel",
            sample_size=8,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=64,
        ),
        lambda model: (
            model(torch.randn(2, 4, 8, 8), torch.randn(2, 5, 32), torch.randn(2, 64), torch.tensor([1, 2])).sample
        ),
        plain=True,
    ),
]

NETS = "monai.networks.nets"
MONAI = [
    ThirdParty("unet", built(f"{NETS}:UNet", 2, 1, 2, (4, 8, 16), (2, 2), num_res_units=1), images(16, 1), plain=True),
    ThirdParty(
        "segresnet",
        built(f"{NETS}:SegResNet", 2, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)),
        images(16, 1),
        plain=True,
    ),
    ThirdParty("unetr", built(f"{NETS}:UNETR", 1, 2, (32, 32), 8, 32, 64, 4, spatial_dims=2), images(32, 1)),
    ThirdParty(
        "swin_unetr",
        built(f"{NETS}:SwinUNETR", 1, 2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), spatial_dims=2),
        images(64, 1),
    ),
    ThirdParty(
        "dynunet", built(f"{NETS}:DynUNet", 2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16]), images(16, 1)
    ),
    ThirdParty(
        "attention_unet", built(f"{NETS}:AttentionUnet", 2, 1, 2, (4, 8, 16), (2, 2)), images(16, 1), plain=True
    ),
    ThirdParty("vnet", built(f"{NETS}:VNet", 2, 1, 2), images(32, 1), plain=True),
    ThirdParty("basic_unet", built(f"{NETS}:BasicUNet", 2, 1, 2, (4, 4, 8, 8, 16, 4)), images(32, 1), plain=True),
    ThirdParty(
        "vqvae",
        built(
            f"{NETS}:VQVAE",
            2,
            1,
            1,
            (4, 8),
            4,
            1,
            num_embeddings=16,
            embedding_dim=4,
            downsample_parameters=((2, 4, 1, 1),) * 2,
            upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        ),
        images(16, 1),
        plain=True,
    ),
    ThirdParty(
        "resnet3d",
        built(
            f"{NETS}:ResNet", "basic", [1, 1, 1, 1], [4, 8, 8, 16], spatial_dims=3, n_input_channels=1, num_classes=2
        ),
        noise(2, 1, 16, 16, 16),
    ),
]

SEGMENTATION = [
    ThirdParty(
        name, built(f"segmentation_models_pytorch:{name}", "resnet18", encoder_weights=None, classes=2), images(128)
    )
    for name in ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "Linknet", "MAnet")
]

LIBRARIES = {
    "transformers": TRANSFORMERS,
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "pytorchcv": PYTORCHCV,
    "diffusers": DIFFUSERS,
    "monai": MONAI,
    "smp": SEGMENTATION,
}
THIRD_PARTY = {f"{library}-{case.name}": case for library, cases in LIBRARIES.items() for case in cases}

SLOW = {
    *(f"torchvision-{name}" for name in ("vgg11_bn", "alexnet", "googlenet", "inception_v3", "retinanet_resnet50_fpn")),
    *(f"torchvision-{name}" for name in ("regnet_y_400mf", "lraspp_mobilenet_v3_large", "efficientnet_b0")),
    *(f"timm-{name}" for name in ("nf_regnet_b0", "dpn48b", "coat_lite_tiny", "xcit_nano", "botnet26t")),
    *(f"smp-{name}" for name in ("UnetPlusPlus", "MAnet")),
}
"""Left to `make conformance`: each takes a second or more, and shows what a smaller one of its library shows too."""
