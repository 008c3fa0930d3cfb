"""Models that others wrote are known for what they are. How long it takes is in tests/benchmarks/suggesting.py."""

from __future__ import annotations

import pytest
import torch
from third_party import named
from torch import nn

from initplug import deferred
from initplug.language.preset_list import presets
from initplug.studies.suggest import suggest

TV = "torchvision.models"


def built(path: str, *arguments: object, **settings: object) -> nn.Module:
    """What a constructor gives, without memory."""
    constructor = named(path)
    with deferred():
        model: nn.Module = constructor(*arguments, **settings)
    return model


def configured(kind: str, **settings: object) -> nn.Module:
    """A model of transformers with a configuration of its own."""
    return built(f"transformers:{kind}", named(f"transformers:{kind}").config_class(**settings))


FIRST = {
    "resnet50": "torchvision_resnet",
    "resnext50_32x4d": "torchvision_resnet",
    "densenet121": "torchvision_densenet",
    "vgg11_bn": "torchvision_vgg",
    "mobilenet_v2": "torchvision_mobilenet",
    "mobilenet_v3_small": "torchvision_mobilenet",
    "efficientnet_b0": "torchvision_efficientnet",
    "regnet_y_400mf": "torchvision_regnet",
    "mnasnet1_0": "torchvision_mnasnet",
    "squeezenet1_0": "torchvision_squeezenet",
    "convnext_tiny": "torchvision_convnext",
    "vit_b_16": "torchvision_vit",
    "swin_t": "torchvision_swin",
    "maxvit_t": "torchvision_maxvit",
    "video.r3d_18": "torchvision_video_resnet",
}


OFTEN = {"resnet50", "mobilenet_v3_small", "vit_b_16", "video.r3d_18"}
"""Compared by every run; the others are left to `make conformance`."""


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.large] * (name not in OFTEN)) for name in FIRST]
)
def test_a_model_of_torchvision_is_known_by_the_file_that_its_class_is_defined_in(model: str) -> None:
    module, _, name = f"{TV}.{model}".rpartition(".")
    fits = suggest(built(f"{module}:{name}"))
    assert fits[0].preset == FIRST[model]
    assert fits[0].complete and not fits[0].unused
    assert fits[0].evidence[0].startswith(f"source {TV}.")
    assert fits.known >= 1


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        pytest.param("segmentation:deeplabv3_resnet50", "torchvision_segmentation", marks=pytest.mark.large),
        pytest.param("detection:retinanet_resnet50_fpn", "torchvision_retinanet", marks=pytest.mark.large),
        pytest.param("detection:fcos_resnet50_fpn", "torchvision_fcos", marks=pytest.mark.large),
        ("detection:fasterrcnn_resnet50_fpn", "torchvision_rcnn"),
    ],
)
def test_heads_tell_more_than_the_backbone_that_they_share(model: str, preset: str) -> None:
    fits = suggest(built(f"{TV}.{model}", weights_backbone=None))
    assert fits[0].preset == preset
    assert [fit.preset for fit in fits].index("torchvision_resnet") < 6


class Wrapped(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(1000, 3)


def test_a_model_of_ones_own_is_known_by_what_most_of_it_is() -> None:
    fits = suggest(Wrapped(built(f"{TV}:resnet18")))
    assert fits[0].preset == "torchvision_resnet"
    assert fits[0].evidence[0].endswith("of the elements")
    assert fits.known


NAMES = [
    ("GPT2LMHeadModel", "transformers_gpt2", {"n_layer": 2}),
    ("T5ForConditionalGeneration", "transformers_t5", {"num_layers": 2}),
    ("ViTModel", "transformers_vit", {"num_hidden_layers": 2}),
]


@pytest.mark.parametrize(("kind", "preset", "settings"), NAMES)
def test_a_model_of_transformers_is_known_or_said_to_be_unknown(
    kind: str, preset: str, settings: dict[str, int]
) -> None:
    fits = suggest(configured(kind, **settings))
    if preset in presets():
        assert fits[0].preset == preset
    else:
        assert fits.known == 0 or fits[0].preset.startswith("transformers")
        assert fits.known or fits.conclusion.startswith("no preset")


def drawn(path: str, *arguments: object, **settings: object) -> nn.Module:
    """What a constructor gives, with the values that it draws."""
    torch.manual_seed(0)
    model: nn.Module = named(path)(*arguments, **settings)
    return model


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        (f"{TV}:resnet18", "torchvision_resnet"),
        (f"{TV}:densenet121", "torchvision_densenet"),
        (f"{TV}:mobilenet_v2", "torchvision_mobilenet"),
        (f"{TV}:efficientnet_b0", "torchvision_efficientnet"),
        (f"{TV}:regnet_y_400mf", "torchvision_regnet"),
        (f"{TV}:mnasnet1_0", "torchvision_mnasnet"),
        (f"{TV}:squeezenet1_0", "torchvision_squeezenet"),
        (f"{TV}:shufflenet_v2_x0_5", "torch_default"),
        ("timm.models:resnet18", "timm_resnet"),
        ("timm.models:vit_tiny_patch16_224", "timm_vit"),
        ("timm.models:convnext_atto", "timm_convnext"),
        ("timm.models:regnetx_002", "timm_regnet"),
        ("timm.models:resmlp_12_224", "timm_mixer"),
        ("timm.models:poolformer_s12", "timm_metaformer"),
    ],
)
def test_the_values_of_a_model_say_which_preset_it_was_drawn_by(model: str, preset: str) -> None:
    fits = suggest(drawn(model))
    assert fits[0].preset == preset
    assert fits.valued and fits[0].unlike == () and fits[0].alike == fits[0].of_slots
    assert fits.conclusion.startswith(f"{preset} fits {fits.model} best")
    assert f"; all {fits[0].of_slots} parameters look so" in fits.conclusion


TRANSFORMERS = [
    ("GPT2LMHeadModel", "transformers_gpt2", {"n_layer": 4}),
    ("T5ForConditionalGeneration", "transformers_t5", {"num_layers": 2}),
    ("ViTModel", "transformers_vit", {"num_hidden_layers": 2}),
    ("BertModel", "transformers_base", {"num_hidden_layers": 2}),
]


@pytest.mark.parametrize(("kind", "preset", "settings"), TRANSFORMERS)
def test_the_values_of_a_model_of_transformers_say_it_too(kind: str, preset: str, settings: dict[str, int]) -> None:
    constructor = named(f"transformers:{kind}")
    fits = suggest(drawn(f"transformers:{kind}", constructor.config_class(**settings)))
    assert fits[0].preset == preset
    assert fits[0].unlike == () and fits[0].complete


def test_what_a_nearest_preset_does_not_draw_is_named() -> None:
    constructor = named("transformers:WhisperModel")
    model = drawn("transformers:WhisperModel", constructor.config_class(encoder_layers=2, decoder_layers=2))
    fits = suggest(model)
    base = next(fit for fit in fits if fit.preset == "transformers_base")
    assert base.unlike == ("encoder.embed_positions.weight",)
    if fits[0].unlike:
        assert fits.conclusion.endswith(" look so; encoder.embed_positions.weight does not")
    else:
        assert fits.conclusion.endswith(" parameters look so")
    assert "every parameter has a rule" not in fits.conclusion
