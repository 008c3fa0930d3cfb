"""Recordings of models of others are whole, and a recipe of one size is right for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checking import differing, samples_of
from coverage_models import SMALL
from libraries import ROOT
from recorded_models import subjects
from recorded_registries import transformers as registered
from recording import recorded
from third_party import named
from torch import nn

import initplug
from initplug.studies.drafting.agreement import agrees
from initplug.studies.recording import meta

Build = Callable[..., nn.Module]


def vit(size: int, layers: int) -> nn.Module:
    model: nn.Module = named("torchvision.models:VisionTransformer")(32, 8, layers, 2, size, 2 * size, num_classes=10)
    return model


def swin(size: int, layers: int) -> nn.Module:
    model: nn.Module = named("torchvision.models:SwinTransformer")(
        [4, 4], size, [layers, layers], [2, 4], [4, 4], num_classes=10
    )
    return model


def resnet(size: int, layers: int) -> nn.Module:
    block = named("torchvision.models.resnet:Bottleneck")
    model: nn.Module = named("torchvision.models:ResNet")(
        block, [layers, 1, 1, 1], width_per_group=size, num_classes=10
    )
    return model


def timm_vit(size: int, layers: int) -> nn.Module:
    model: nn.Module = named("timm.models.vision_transformer:VisionTransformer")(
        img_size=16, patch_size=8, embed_dim=size, depth=layers, num_heads=2, num_classes=10
    )
    return model


def timm_beit(size: int, layers: int) -> nn.Module:
    model: nn.Module = named("timm.models.beit:Beit")(
        img_size=16, patch_size=8, embed_dim=size, depth=layers, num_heads=2, num_classes=10
    )
    return model


def efficientnet(size: int, layers: int) -> nn.Module:
    model: nn.Module = named("timm:create_model")("efficientnet_b0" if size < 96 else "efficientnet_b1", num_classes=10)
    return model


def hugging(kind: str, **sizes: Any) -> nn.Module:
    config = named(f"transformers:{kind}Config")(**sizes)
    model: nn.Module = named(f"transformers:{kind}Model")(config)
    return model


def gpt2(size: int, layers: int) -> nn.Module:
    return hugging("GPT2", n_embd=size, n_layer=layers, n_head=2, vocab_size=50, n_positions=16)


def bert(size: int, layers: int) -> nn.Module:
    return hugging(
        "Bert",
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=3 * size,
        vocab_size=50,
    )


def mamba(size: int, layers: int) -> nn.Module:
    return hugging("Mamba", hidden_size=size, num_hidden_layers=layers, state_size=4, vocab_size=50)


def t5(size: int, layers: int) -> nn.Module:
    return hugging("T5", d_model=size, d_kv=8, d_ff=3 * size, num_layers=layers, num_heads=2, vocab_size=50)


def transformer(size: int, layers: int) -> nn.Module:
    return nn.Transformer(size, 2, layers, layers, 3 * size, batch_first=True)


MODELS: list[Build] = [resnet, vit, swin, timm_vit, timm_beit, efficientnet, gpt2, bert, mamba, t5, transformer]
UNGIVEN = {"mamba": "A_log"}
"""Tables that no initializer gives."""


def problems(recording: initplug.Recording, build: Build) -> list[str]:
    names = [problem.name for problem in recording.problems()]
    return [name for name in names if not name.endswith(UNGIVEN.get(build.__name__, "\0"))]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_a_recipe_of_one_size_is_right_for_another(build: Build) -> None:
    recording = initplug.record(lambda: build(72, 3))
    assert problems(recording, build) == []
    assert len(recording.recipe.rules) <= 10
    model, other = build(96, 5), initplug.record(lambda: build(96, 5), check=False)
    plan = initplug.plan(model, recording.recipe)
    assert {row.name: row.outcome for row in other if not agrees(plan[row.name].distribution, row)} == {}


@pytest.mark.parametrize(
    "build", [resnet, vit, swin, timm_vit, timm_beit, gpt2, bert, t5], ids=lambda build: build.__name__
)
def test_a_recipe_gives_what_constructions_under_other_seeds_draw(build: Build) -> None:
    recipe = initplug.record(lambda: build(72, 3)).recipe
    original = recorded(lambda: build(72, 3), 5)
    plan = initplug.plan(original.model, recipe)
    assert differing(plan, samples_of(lambda: build(72, 3), original, (6, 7))) == {}


@pytest.mark.parametrize("build", [swin, timm_vit, efficientnet, gpt2, mamba, t5], ids=lambda build: build.__name__)
def test_what_is_recorded_without_any_value_is_what_is_recorded(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    real = initplug.record(lambda: build(32, 2), check=False)
    monkeypatch.setattr(meta, "DRAWN", 64)
    monkeypatch.setattr(meta, "FIXED", 64)
    without = initplug.record(lambda: build(32, 2), meta=True, check=False)
    assert without.meta
    assert without.recipe == real.recipe
    assert [row.to_dict() for row in without] == [row.to_dict() for row in real]


def test_a_language_model_of_seventy_billion_elements_is_recorded_on_meta() -> None:
    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "vocab_size": 128256}
    config = named("transformers:LlamaConfig")(num_attention_heads=64, num_key_value_heads=8, **sizes)
    recording = initplug.record(lambda: named("transformers:LlamaForCausalLM")(config), meta=True)
    assert recording.summary == {"parameters": 723, "numel": 70553706496, "given": 723, "rules": 2}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_decay_rates_of_gated_delta_nets_are_logarithms_of_uniform_numbers() -> None:
    def build() -> nn.Module:
        return registered("OlmoHybridModel", SMALL)

    recording = initplug.record(build)
    assert recording.problems() == []
    original = recorded(build, 5)
    rows = [row for row in initplug.plan(original.model, recording.recipe) if row.name.endswith("A_log")]
    assert [str(row.init).split()[0] for row in rows] == ["uniform"]
    assert differing(rows, samples_of(build, original, range(6, 16))) == {}


def table_of_totals() -> dict[str, list[str]]:
    lines = (ROOT / "examples" / "guide" / "recordings.md").read_text().splitlines()
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|"))
    return {row[0]: row[1:] for row in rows if len(row) == 6}


def test_of_more_than_a_thousand_models_nearly_all_are_whole() -> None:
    models, whole, parameters, closed, rules = table_of_totals()["all"]
    assert int(models) > 1000
    assert int(whole) >= 0.95 * int(models)
    assert int(parameters.replace(",", "")) > 100_000
    assert float(closed.removesuffix(" %")) >= 99
    assert float(rules) <= 7


def test_the_table_tells_of_every_library_that_is_recorded() -> None:
    assert {one.library for one in subjects()} <= table_of_totals().keys()  # some are not installed everywhere


@pytest.mark.parametrize("build", [vit, timm_vit, swin, mamba], ids=lambda build: build.__name__)
def test_default_knows_what_no_reset_writes_from_a_recording(build: Build) -> None:
    recording = initplug.record(lambda: build(32, 2), check=False)
    plan = initplug.plan(build(32, 2), "torch_default_strict", recorded=recording)
    told = {row.name: row for row in plan if "as recorded of" in str(row.note)}
    assert told
    assert all(agrees(row.distribution, recording[name]) for name, row in told.items())


def lumina() -> nn.Module:
    sizes = {"sample_size": 16, "hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "num_kv_heads": 2}
    model: nn.Module = named("diffusers:LuminaNextDiT2DModel")(cross_attention_dim=16, multiple_of=8, **sizes)
    return model


def nucleus_experts() -> nn.Module:
    experts = named("diffusers.models.transformers.transformer_nucleusmoe_image:SwiGLUExperts")
    model: nn.Module = experts(hidden_size=300, moe_intermediate_dim=300, num_experts=2)
    return model


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize(
    ("build", "unwritten"), [(lumina, ["pad_token"]), (nucleus_experts, ["gate_up_proj", "down_proj"])]
)
def test_memory_that_a_public_model_never_writes_is_told(build: Build, unwritten: list[str], on: bool) -> None:
    recording = initplug.record(build, meta=on)
    assert recording.meta is on
    assert [problem.name for problem in recording.problems()] == unwritten
    assert {problem.reason for problem in recording.problems()} == {"memory that is never written"}
    assert all(str(problem.place).startswith("diffusers/models/transformers/") for problem in recording.problems())
    assert "never written" in recording.headline()


def test_recording_moves_no_generator() -> None:
    state = torch.get_rng_state()
    initplug.record(lambda: gpt2(16, 1))
    assert torch.equal(torch.get_rng_state(), state)
