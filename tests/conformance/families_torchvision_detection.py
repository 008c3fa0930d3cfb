"""Models for the presets of torchvision that detect, segment and look at videos."""

from __future__ import annotations

from functools import partial
from typing import Any

from families import Case, Family
from third_party import built, named
from torch import nn

TV = "torchvision.models"
DETECTION = f"{TV}.detection"
UNTRAINED = {"weights": None, "weights_backbone": None}
FEATURES = 32  # of the box head's hidden layers, which have 1024 elsewhere


def pyramid(**settings: Any) -> nn.Module:
    """A feature pyramid on resnet18 with batch norms."""
    build = named(f"{DETECTION}.backbone_utils:resnet_fpn_backbone")
    model: nn.Module = build(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, **settings
    )
    return model


def mobile_pyramid() -> nn.Module:
    """A feature pyramid on mobilenet_v3_small, whose squeeze-and-excitation has biases."""
    build = named(f"{DETECTION}.backbone_utils:mobilenet_backbone")
    model: nn.Module = build("mobilenet_v3_small", fpn=True, weights=None, norm_layer=nn.BatchNorm2d)
    return model


def one_stage(kind: str, *, mobile: bool = False) -> nn.Module:
    """RetinaNet or FCOS on resnet18 or mobilenet_v3_small."""
    levels = named("torchvision.ops.feature_pyramid_network:LastLevelP6P7")(256, 256)
    backbone = mobile_pyramid() if mobile else pyramid(returned_layers=[2, 3, 4], extra_blocks=levels)
    model: nn.Module = named(f"{DETECTION}:{kind}")(backbone, num_classes=5)
    return model


def on_mobilenet(kind: str) -> partial[nn.Module]:
    """The constructor of one of them on mobilenet_v3_small."""
    return partial(one_stage, kind, mobile=True)


def two_stage(kind: str) -> nn.Module:
    """Faster, Mask or Keypoint R-CNN on resnet18."""
    home = f"{DETECTION}.faster_rcnn"
    box: dict[str, Any] = {
        "box_head": named(f"{home}:TwoMLPHead")(256 * 7**2, FEATURES),
        "box_predictor": named(f"{home}:FastRCNNPredictor")(FEATURES, 5),
    }
    further: dict[str, Any] = {
        "FasterRCNN": {},
        "MaskRCNN": {"mask_predictor": named(f"{DETECTION}.mask_rcnn:MaskRCNNPredictor")(256, 16, 5)},
        "KeypointRCNN": {"num_keypoints": 3},
    }[kind]
    model: nn.Module = named(f"{DETECTION}:{kind}")(pyramid(), **box, **further)
    return model


def fcn() -> nn.Module:
    """A fully convolutional head on resnet18."""
    body = named(f"{TV}:resnet18")()
    home = f"{TV}.segmentation.fcn"
    backbone = named(f"{TV}._utils:IntermediateLayerGetter")(body, {"layer4": "out"})
    model: nn.Module = named(f"{home}:FCN")(backbone, named(f"{home}:FCNHead")(512, 5))
    return model


def ssd() -> nn.Module:
    """SSD for images of 300 pixels and five classes."""
    model: nn.Module = named(f"{DETECTION}:ssd300_vgg16")(**UNTRAINED, num_classes=5)
    return model


def mvit(*, relative: bool) -> nn.Module:
    """Two blocks, with positions of their own or relative ones."""
    block = named(f"{TV}.video.mvit:MSBlockConfig")
    blocks = [
        block(1, 16, 16, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        block(2, 16, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
    ]
    build = named(f"{TV}.video.mvit:MViT")
    options = dict.fromkeys(("residual_pool", "residual_with_cls_embed", "proj_after_attn"), False)
    model: nn.Module = build((32, 32), 4, blocks, **options, rel_pos_embed=relative, num_classes=10)
    return model


def detector(name: str) -> Case:
    """A model as torchvision offers it."""
    return Case(f"torchvision {name}", built(f"{DETECTION}:{name}", **UNTRAINED), "bits by only", large=True)


def segmenter(name: str) -> Case:
    """A model as torchvision offers it."""
    return Case(f"torchvision {name}", built(f"{TV}.segmentation:{name}", **UNTRAINED), "bits", large=True)


FAMILIES: list[Family] = [
    Family(
        "torchvision_retinanet",
        neighbour="torchvision_segmentation",
        cases=[
            Case("torchvision RetinaNet on resnet18", partial(one_stage, "RetinaNet"), "bits by only"),
            Case(
                "torchvision RetinaNet on mobilenet_v3_small",
                on_mobilenet("RetinaNet"),
                "bits by only",
                frozen="write",
            ),
            detector("retinanet_resnet50_fpn"),
            detector("retinanet_resnet50_fpn_v2"),
        ],
    ),
    Family(
        "torchvision_fcos",
        neighbour="torchvision_retinanet",
        cases=[
            Case("torchvision FCOS on resnet18", partial(one_stage, "FCOS"), "bits by only"),
            Case(
                "torchvision FCOS on mobilenet_v3_small",
                on_mobilenet("FCOS"),
                "bits by only",
                frozen="write",
            ),
            detector("fcos_resnet50_fpn"),
        ],
    ),
    Family(
        "torchvision_rcnn",
        neighbour="torchvision_retinanet",
        cases=[
            Case("torchvision FasterRCNN on resnet18", partial(two_stage, "FasterRCNN"), "bits by only"),
            Case("torchvision MaskRCNN on resnet18", partial(two_stage, "MaskRCNN"), "bits by only"),
            Case("torchvision KeypointRCNN on resnet18", partial(two_stage, "KeypointRCNN"), "bits by only"),
            detector("fasterrcnn_resnet50_fpn"),
            detector("fasterrcnn_resnet50_fpn_v2"),
            detector("fasterrcnn_mobilenet_v3_large_fpn"),
            detector("maskrcnn_resnet50_fpn"),
            detector("maskrcnn_resnet50_fpn_v2"),
            detector("keypointrcnn_resnet50_fpn"),
        ],
    ),
    Family(
        "torchvision_segmentation",
        neighbour="torch_default",
        cases=[
            Case("torchvision FCN on resnet18", fcn, "bits"),
            segmenter("fcn_resnet50"),
            segmenter("deeplabv3_mobilenet_v3_large"),
            segmenter("lraspp_mobilenet_v3_large"),
        ],
    ),
    Family(
        "torchvision_video_resnet",
        neighbour="torch_default",
        cases=[
            Case("torchvision r3d_18", built(f"{TV}.video:r3d_18", num_classes=10), "bits", large=True),
            Case("torchvision mc3_18", built(f"{TV}.video:mc3_18", num_classes=10), "bits"),
            Case("torchvision r2plus1d_18", built(f"{TV}.video:r2plus1d_18", num_classes=10), "bits", large=True),
        ],
    ),
    Family(
        "torchvision_ssd",
        neighbour="torchvision_vgg",
        cases=[Case("torchvision SSD on vgg16", ssd, "bits by only")],
    ),
    Family(
        "torchvision_ssdlite",
        neighbour="torchvision_mobilenet",
        cases=[
            Case(
                "torchvision ssdlite320_mobilenet_v3_large",
                built(f"{DETECTION}:ssdlite320_mobilenet_v3_large", **UNTRAINED),
                "bits by only",
            )
        ],
    ),
    Family(
        "torchvision_raft",
        neighbour="torchvision_segmentation",
        cases=[
            Case("torchvision raft_small", built(f"{TV}.optical_flow:raft_small"), "bits by only"),
            Case("torchvision raft_large", built(f"{TV}.optical_flow:raft_large"), "bits by only", large=True),
        ],
    ),
    Family(
        "torchvision_mvit",
        neighbour="torchvision_vit",
        cases=[
            Case("torchvision MViT", partial(mvit, relative=False), "bits"),
            Case("torchvision MViT, relative positions", partial(mvit, relative=True), "bits by only"),
            Case("torchvision mvit_v2_s", built(f"{TV}.video:mvit_v2_s", num_classes=10), "bits by only", large=True),
        ],
    ),
]
