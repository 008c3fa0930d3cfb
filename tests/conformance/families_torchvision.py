"""Models for the presets of torchvision."""

from __future__ import annotations

from families import Case, Family
from third_party import built

TV = "torchvision.models"

FAMILIES: list[Family] = [
    Family(
        "torchvision_resnet",
        neighbour="torchvision_densenet",
        cases=[
            Case("torchvision resnet18", built(f"{TV}:resnet18", num_classes=10), "bits"),
            Case("torchvision resnet50", built(f"{TV}:resnet50", num_classes=10), "bits", large=True),
        ],
    ),
]
