"""Models for the presets of torchvision."""

from __future__ import annotations

from functools import partial

from families import Case, Family
from third_party import built, named, torchvision_convnext, torchvision_swin
from torch import nn

TV = "torchvision.models"


def small(name: str, **settings: object) -> partial[nn.Module]:
    """The constructor of a model of torchvision.models that has ten classes."""
    return partial(lambda: named(f"{TV}:{name}")(num_classes=10, **settings))


def convnext() -> nn.Module:
    return torchvision_convnext()


def efficientnet(*blocks: str) -> nn.Module:
    """Two stages, of MBConv blocks as in v1 or FusedMBConv blocks first as in v2."""
    stages = [named(f"{TV}.efficientnet:{block}Config")(4, 3, 2, 24, 24, 2) for block in blocks]
    model: nn.Module = named(f"{TV}:EfficientNet")(stages, 0.2, num_classes=10)
    return model


def vit(**settings: object) -> partial[nn.Module]:
    """A vision transformer of two layers."""
    return partial(lambda: named(f"{TV}:VisionTransformer")(32, 8, 2, 4, 32, 64, num_classes=10, **settings))


def stem() -> list[object]:
    """A stem of two convolutions and the last, which torchvision adds."""
    convolution = named(f"{TV}.vision_transformer:ConvStemConfig")
    return [convolution(8, 3, 2), convolution(16, 3, 4)]


def maxvit() -> nn.Module:
    """Two stages of two blocks."""
    model: nn.Module = named(f"{TV}:MaxVit")((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.1, num_classes=10)
    return model


FAMILIES: list[Family] = [
    Family(
        "torchvision_resnet",
        neighbour="torchvision_densenet",
        cases=[
            Case("torchvision resnet18", small("resnet18"), "bits"),
            Case("torchvision resnet18, group norm", small("resnet18", norm_layer=partial(nn.GroupNorm, 8)), "bits"),
            Case("torchvision resnet50", small("resnet50"), "bits", large=True),
            Case("torchvision resnext50_32x4d", small("resnext50_32x4d"), "bits"),
            Case("torchvision wide_resnet50_2", small("wide_resnet50_2"), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_resnet_zero",
        neighbour="torchvision_resnet",
        cases=[
            Case("torchvision resnet18, zero_init_residual", small("resnet18", zero_init_residual=True), "bits"),
            Case("torchvision resnet50, zero_init_residual", small("resnet50", zero_init_residual=True), "bits"),
        ],
    ),
    Family(
        "torchvision_densenet",
        neighbour="densenet",
        cases=[
            Case("torchvision DenseNet(8, (2, 2))", built(f"{TV}:DenseNet", 8, (2, 2), 16, num_classes=10), "bits"),
            Case("timm rdnet_tiny", built("timm:create_model", "rdnet_tiny"), "bits", large=True),
            Case("torchvision densenet121", small("densenet121"), "bits", large=True),
            Case("timm densenet121", built("timm:create_model", "densenet121", num_classes=10), "bits", large=True),
            Case("monai DenseNet, 2d", built("monai.networks.nets:DenseNet", 2, 1, 2, block_config=(2, 2)), "bits"),
        ],
    ),
    Family(
        "torchvision_vgg",
        neighbour="torchvision_mnasnet",
        cases=[
            Case("torchvision vgg11", small("vgg11"), "bits", large=True),
            Case("torchvision vgg11_bn", small("vgg11_bn"), "bits"),
            Case("timm vgg11_bn", built("timm:create_model", "vgg11_bn", num_classes=10), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_mobilenet",
        neighbour="torchvision_efficientnet",
        cases=[
            Case("torchvision mobilenet_v2", small("mobilenet_v2"), "bits"),
            Case("torchvision mobilenet_v3_small", small("mobilenet_v3_small"), "bits"),
            Case("torchvision mobilenet_v3_large", small("mobilenet_v3_large"), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_efficientnet",
        neighbour="torchvision_mobilenet",
        cases=[
            Case("torchvision EfficientNet(MBConv ×2)", partial(efficientnet, "MBConv", "MBConv"), "bits"),
            Case(
                "torchvision EfficientNet(FusedMBConv, MBConv)", partial(efficientnet, "FusedMBConv", "MBConv"), "bits"
            ),
            Case("torchvision efficientnet_b0", small("efficientnet_b0"), "bits", large=True),
            Case("torchvision efficientnet_v2_s", small("efficientnet_v2_s"), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_regnet",
        neighbour="torchvision_efficientnet",
        cases=[
            Case("torchvision regnet_x_400mf", small("regnet_x_400mf"), "bits"),
            Case("torchvision regnet_y_400mf", small("regnet_y_400mf"), "bits"),
        ],
    ),
    Family(
        "torchvision_mnasnet",
        neighbour="torchvision_vgg",
        cases=[
            Case("torchvision mnasnet0_5", small("mnasnet0_5"), "bits"),
            Case("torchvision mnasnet1_0", small("mnasnet1_0"), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_squeezenet",
        neighbour="torchvision_vgg",
        cases=[
            Case("torchvision squeezenet1_0", small("squeezenet1_0"), "bits"),
            Case("torchvision squeezenet1_1", small("squeezenet1_1"), "bits"),
        ],
    ),
    Family(
        "torchvision_googlenet",
        neighbour="torchvision_inception",
        cases=[
            Case("torchvision GoogLeNet", small("GoogLeNet", init_weights=True), "bits"),
            Case(
                "torchvision GoogLeNet, no auxiliaries",
                small("GoogLeNet", init_weights=True, aux_logits=False),
                "bits",
                large=True,
            ),
        ],
    ),
    Family(
        "torchvision_inception",
        neighbour="torchvision_googlenet",
        cases=[
            Case("torchvision Inception3", small("Inception3", init_weights=True), "bits", large=True),
            Case(
                "torchvision Inception3, no auxiliaries",
                small("Inception3", init_weights=True, aux_logits=False),
                "bits",
                large=True,
            ),
        ],
    ),
    Family(
        "torchvision_convnext",
        neighbour="torch_default",
        cases=[
            Case("torchvision ConvNeXt(8, 16)", convnext, "bits"),
            Case("torchvision convnext_tiny", small("convnext_tiny"), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_vit",
        neighbour="torch_default",
        cases=[
            Case("torchvision VisionTransformer(32, 8)", vit(), "bits by only"),
            Case("torchvision VisionTransformer, representation", vit(representation_size=24), "bits by only"),
            Case("torchvision VisionTransformer, stem", lambda: vit(conv_stem_configs=stem())(), "bits by only"),
            Case("torchvision vit_b_32", small("vit_b_32"), "bits by only", large=True),
        ],
    ),
    Family(
        "torchvision_swin",
        neighbour="torchvision_vit",
        cases=[
            Case("torchvision SwinTransformer", torchvision_swin(""), "bits by only"),
            Case("torchvision SwinTransformer, v2", torchvision_swin("V2"), "bits"),
            Case("torchvision swin_t", small("swin_t"), "bits by only", large=True),
            Case("torchvision swin_v2_t", small("swin_v2_t"), "bits", large=True),
            Case("torchvision swin3d_t", built(f"{TV}.video:swin3d_t", num_classes=10), "bits by only", large=True),
        ],
    ),
    Family(
        "torchvision_maxvit",
        neighbour="torchvision_swin",
        cases=[
            Case("torchvision MaxVit(64, 16)", maxvit, "bits by only"),
            Case("torchvision maxvit_t", small("maxvit_t", input_size=(224, 224)), "bits by only", large=True),
        ],
    ),
]
