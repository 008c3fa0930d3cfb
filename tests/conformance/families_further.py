"""Models for the presets of pytorchcv and segmentation-models-pytorch."""

from __future__ import annotations

from families import Case, Family
from third_party import built


def zoo(name: str, *, large: bool = False) -> Case:
    """A model from pytorchcv's registry."""
    return Case(f"pytorchcv {name}", built("pytorchcv.model_provider:get_model", name), "bits", large)


def segmenter(name: str, *, large: bool = False, told: str = "", **settings: object) -> Case:
    """A model of segmentation-models-pytorch on resnet18."""
    build = built(
        f"segmentation_models_pytorch:{name}", encoder_name="resnet18", encoder_weights=None, classes=2, **settings
    )
    return Case(f"smp {name}{told}", build, "bits by only", large)


FAMILIES: list[Family] = [
    Family(
        "pytorchcv",
        neighbour="torchvision_densenet",
        cases=[
            zoo("resnet10"),
            zoo("preresnet20_cifar10"),
            zoo("seresnet20_cifar10"),
            zoo("densenet40_k12_bc_cifar10"),
            zoo("shufflenet_g1_wd4"),
            zoo("mobilenetv3_small_wd2"),
            zoo("resnext14_16x4d", large=True),
            zoo("wrn16_10_cifar10", large=True),
            zoo("efficientnet_b0", large=True),
            zoo("vgg11", large=True),
        ],
    ),
    Family(
        "smp",
        neighbour="torchvision_resnet",
        cases=[
            segmenter("Unet"),
            segmenter("Unet", told=", with a classifier", aux_params={"classes": 3}, large=True),
            segmenter("FPN"),
            segmenter("PSPNet"),
            segmenter("UnetPlusPlus", large=True),
            segmenter("MAnet", large=True),
            segmenter("Linknet", large=True),
            segmenter("PAN", large=True),
            segmenter("UPerNet", large=True),
        ],
    ),
]
