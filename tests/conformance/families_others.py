"""Models for the presets of pytorchcv, segmentation-models-pytorch and MONAI."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from checking import Mode
from coverage_models import FLUX, PIXART, SIZES, open_clip, x_vit
from coverage_models import attention as x_transformer
from families import Case, Family
from third_party import THIRD_PARTY, built, named
from torch import nn

SMP = "segmentation_models_pytorch"
NETS = "monai.networks.nets"


def pytorchcv(name: str, *, large: bool = False) -> Case:
    """A model of pytorchcv's registry."""
    return Case(f"pytorchcv {name}", built("pytorchcv.model_provider:get_model", name), "bits", large=large)


def smp(name: str, *, large: bool = False) -> Case:
    """A decoder on resnet18."""
    return Case(f"smp {name} on resnet18", THIRD_PARTY[f"smp-{name}"].build, "bits by only", large=large)


def vit_pytorch(name: str, path: str, **settings: Any) -> Case:
    """A model of vit-pytorch."""
    mode: Mode = "bits by only" if name in ("DeepViT", "CaiT", "CCT") else "bits"
    return Case(f"vit-pytorch {name}", built(path, **settings), mode, package="vit_pytorch")


def of_x(name: str, build: Callable[[], nn.Module]) -> Case:
    """A model of x-transformers."""
    return Case(f"x-transformers {name}", build, "bits", package="x_transformers")


def peft(*further: str) -> Callable[[], nn.Module]:
    """The constructor of a small Llama with adapters, of which these are taken: the rest is frozen and left alone."""

    def build() -> nn.Module:
        config = named("peft:LoraConfig")(r=8, target_modules=["q_proj", "v_proj", *further])
        model = named("peft:get_peft_model")(THIRD_PARTY["transformers-llama"].build(), config)
        layers = [part for part in model.modules() if isinstance(part, named("peft.tuners.lora:LoraLayer"))]
        names = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")
        return nn.ModuleList(nn.ModuleDict({name: getattr(layer, name) for name in names}) for layer in layers)

    return build


FAMILIES: list[Family] = [
    Family(
        "pytorchcv",
        neighbour="torchvision_resnet",
        cases=[
            pytorchcv("resnet20_cifar10"),
            pytorchcv("seresnet20_cifar10"),
            pytorchcv("densenet40_k12_cifar10"),
            pytorchcv("shufflenetv2_wd2"),
            pytorchcv("menet108_8x1_g3"),
            pytorchcv("mobilenetv2_w1", large=True),
            pytorchcv("vgg11", large=True),
        ],
    ),
    Family(
        "smp",
        neighbour="torchvision_resnet",
        cases=[
            Case(
                "smp Unet with a classification head on resnet18",
                built(f"{SMP}:Unet", "resnet18", encoder_weights=None, classes=2, aux_params={"classes": 3}),
                "bits by only",
            ),
            Case(
                "smp Segformer on resnet18",
                built(f"{SMP}:Segformer", "resnet18", encoder_weights=None, classes=2),
                "bits by only",
            ),
            smp("FPN"),
            smp("UnetPlusPlus", large=True),
            smp("Linknet", large=True),
            smp("MAnet", large=True),
        ],
    ),
    Family(
        "monai",
        neighbour="timm_transformer",
        cases=[
            Case("monai unetr", THIRD_PARTY["monai-unetr"].build, "distribution"),
            Case("monai swin_unetr", THIRD_PARTY["monai-swin_unetr"].build, "distribution"),
        ],
    ),
    Family(
        "diffusers",
        neighbour="torchvision_mobilenet",
        cases=[
            Case("diffusers controlnet", THIRD_PARTY["diffusers-controlnet"].build, "bits"),
            Case("diffusers vq", THIRD_PARTY["diffusers-vq"].build, "bits"),
            Case("diffusers pixart", built("diffusers:PixArtTransformer2DModel", **PIXART), "distribution"),
            Case("diffusers sd3", THIRD_PARTY["diffusers-sd3"].build, "bits"),
            Case("diffusers flux", built("diffusers:FluxTransformer2DModel", **FLUX), "bits"),
        ],
    ),
    Family(
        "monai_dynunet",
        neighbour="pytorchcv",
        cases=[
            Case("monai DynUNet, 2-d", THIRD_PARTY["monai-dynunet"].build, "bits"),
            Case(
                "monai DynUNet, 3-d, residual, deep supervision",
                built(
                    f"{NETS}:DynUNet",
                    3,
                    1,
                    2,
                    [3, 3, 3],
                    [1, 2, 2],
                    [2, 2],
                    filters=[4, 8, 16],
                    res_block=True,
                    deep_supervision=True,
                    deep_supr_num=1,
                    trans_bias=True,
                ),
                "bits",
            ),
        ],
    ),
    Family(
        "vit_pytorch",
        neighbour="timm_transformer",
        cases=[
            vit_pytorch("ViT", "vit_pytorch:ViT", **SIZES),
            vit_pytorch("DeepViT", "vit_pytorch.deepvit:DeepViT", **SIZES),
            vit_pytorch("CaiT", "vit_pytorch.cait:CaiT", **SIZES, cls_depth=1),
            vit_pytorch(
                "LeViT",
                "vit_pytorch.levit:LeViT",
                image_size=64,
                num_classes=10,
                dim=(32, 48, 64),
                depth=1,
                heads=(2, 3, 4),
                mlp_mult=2,
            ),
            vit_pytorch(
                "CvT",
                "vit_pytorch.cvt:CvT",
                num_classes=10,
                s1_emb_dim=16,
                s1_heads=1,
                s2_emb_dim=32,
                s2_heads=2,
                s2_depth=1,
                s3_emb_dim=48,
                s3_heads=2,
                s3_depth=1,
            ),
            vit_pytorch(
                "CCT",
                "vit_pytorch.cct:CCT",
                img_size=32,
                embedding_dim=64,
                num_layers=2,
                num_classes=10,
                positional_embedding="learnable",
            ),
        ],
    ),
    Family(
        "x_transformers",
        neighbour="transformers_base",
        cases=[
            of_x("Decoder", partial(x_transformer, "Decoder")),
            of_x("Decoder, GLU, RMSNorm", partial(x_transformer, "Decoder", ff_glu=True, use_rmsnorm=True)),
            of_x("ViTransformerWrapper", x_vit),
        ],
    ),
    Family(
        "open_clip",
        neighbour="torch_default_strict",
        cases=[
            Case("open_clip CLIP, ViT", open_clip, "bits by only", package="open_clip"),
            Case(
                "open_clip CLIP, ViT pooled by attention",
                partial(open_clip, attentional_pool=True),
                "bits by only",
                package="open_clip",
            ),
            Case(
                "open_clip CLIP, ResNet",
                partial(open_clip, layers=[1, 1, 1, 1], width=16),
                "distribution",
                package="open_clip",
            ),
        ],
    ),
    Family(
        "lora",
        neighbour=None,
        cases=[
            Case("peft LoRA on Llama", peft(), "bits by only", package="peft"),
            Case("peft LoRA on Llama and its embedding", peft("embed_tokens"), "bits by only", package="peft"),
        ],
    ),
]
