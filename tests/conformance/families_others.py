"""Models for the presets of pytorchcv, segmentation-models-pytorch and MONAI."""

from __future__ import annotations

from families import Case, Family
from third_party import THIRD_PARTY, built

SMP = "segmentation_models_pytorch"
NETS = "monai.networks.nets"


def pytorchcv(name: str, *, large: bool = False) -> Case:
    """A model of pytorchcv's registry."""
    return Case(f"pytorchcv {name}", built("pytorchcv.model_provider:get_model", name), "bits", large=large)


def smp(name: str, *, large: bool = False) -> Case:
    """A decoder on resnet18."""
    return Case(f"smp {name} on resnet18", THIRD_PARTY[f"smp-{name}"].build, "bits by only", large=large)


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
]
