"""Models for presets of code that no package installs: the cited procedures as loops, on nets like theirs."""

from __future__ import annotations

from functools import partial

import architectures as nets
import procedures_rewritten as sources
from checking import Mode
from families import Case, Family
from procedures import Procedure, after
from torch import nn
from torchvision.ops import FrozenBatchNorm2d


def case(model: str, procedure: Procedure, net: partial[nn.Module], mode: Mode) -> Case:
    """A net on which the procedure of its source runs."""
    return Case(f"{model}, rewritten", after(net, procedure), mode)


FAMILIES: list[Family] = [
    Family(
        "nanogpt",
        neighbour="transformers_base",
        cases=[
            case("nanoGPT 3 layers", sources.nanogpt, partial(nets.nanogpt), "bits by only"),
            case("nanoGPT 6 layers, no biases", sources.nanogpt, partial(nets.nanogpt, 6, bias=False), "bits by only"),
        ],
    ),
    Family(
        "detectron2_retinanet",
        neighbour="torchvision_resnet",
        cases=[
            case(
                "detectron2 RetinaNet", sources.detectron2_retinanet, partial(nets.detectron2_retinanet), "bits by only"
            ),
            case(
                "detectron2 RetinaNet, frozen norms",
                sources.detectron2_retinanet,
                partial(nets.detectron2_retinanet, FrozenBatchNorm2d),
                "bits by only",
            ),
        ],
    ),
    Family(
        "detectron2_rcnn",
        neighbour="detectron2_retinanet",
        cases=[
            case(
                "detectron2 Mask R-CNN with keypoints",
                sources.detectron2_rcnn,
                partial(nets.detectron2_rcnn),
                "bits by only",
            ),
            case(
                "detectron2 Mask R-CNN, box convolutions, frozen norms",
                sources.detectron2_rcnn,
                partial(nets.detectron2_rcnn, FrozenBatchNorm2d, convolutions=True),
                "bits by only",
            ),
        ],
    ),
    Family(
        "dit",
        neighbour="mae",
        cases=[
            case("DiT 2 layers", sources.dit, partial(nets.dit), "bits by only"),
            case("DiT 4 layers", sources.dit, partial(nets.dit, 4), "bits by only"),
        ],
    ),
    Family(
        "mae",
        neighbour="dit",
        cases=[case("MAE 32 to 16", sources.mae, partial(nets.mae), "bits by only")],
    ),
    Family(
        "dcgan",
        neighbour="torchvision_maxvit",
        cases=[
            case("DCGAN generator", sources.dcgan, partial(nets.dcgan_generator), "bits"),
            case("DCGAN generator with biases", sources.dcgan, partial(nets.dcgan_generator, bias=True), "bits"),
            case("DCGAN discriminator", sources.dcgan, partial(nets.dcgan_discriminator), "bits"),
        ],
    ),
    Family(
        "guided_diffusion",
        neighbour="torch_default",
        cases=[
            case("guided diffusion", sources.guided_diffusion, partial(nets.guided_diffusion), "bits"),
            case(
                "guided diffusion in three dimensions, no classes",
                sources.guided_diffusion,
                partial(nets.guided_diffusion, classes=None, dims=3),
                "bits",
            ),
            case(
                "guided diffusion's classifier",
                sources.guided_diffusion,
                partial(nets.guided_diffusion, pool="adaptive"),
                "bits",
            ),
            case(
                "guided diffusion's classifier, attention pool",
                sources.guided_diffusion,
                partial(nets.guided_diffusion, pool="attention"),
                "bits",
            ),
        ],
    ),
    Family(
        "awd_lstm",
        neighbour="torch_default",
        cases=[
            case("AWD-LSTM", sources.awd_lstm, partial(nets.awd_lstm), "bits"),
            case("AWD-LSTM, tied", sources.awd_lstm, partial(nets.awd_lstm, tied=True), "bits"),
            case("word language model", sources.awd_lstm, partial(nets.awd_lstm, dropped=False), "bits"),
        ],
    ),
    Family(
        "fixup",
        neighbour="torchvision_resnet",
        cases=[
            case("Fixup of basic blocks", sources.fixup, partial(nets.fixup, "FixupBasicBlock"), "bits"),
            case("Fixup of 9 basic blocks", sources.fixup, partial(nets.fixup, "FixupBasicBlock", (3, 3, 3)), "bits"),
            case("Fixup of bottlenecks", sources.fixup, partial(nets.fixup, "FixupBottleneck"), "bits"),
        ],
    ),
]
