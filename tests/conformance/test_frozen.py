"""What constructors freeze: tables, codebooks, backbones. It stays as it is, or the preset says that it draws it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import families_rewritten
import families_torchvision_detection as detection
import families_transformers
import pytest
import torch
from third_party import THIRD_PARTY
from torch import nn

import initplug

pytestmark = pytest.mark.filterwarnings("ignore:.* one value throughout")  # models are erased by one

POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
SIZES = {
    f"{side}_{key}": size
    for side in ("encoder", "decoder")
    for key, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 48))
}
WORDS = {"vocab_size": 64, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def sequences(kind: str, model: str, **settings: Any) -> Callable[[], nn.Module]:
    """A small encoder with its decoder, by transformers."""

    def build() -> nn.Module:
        library = import_module("transformers")
        built: nn.Module = getattr(library, model)(getattr(library, f"{kind}Config")(d_model=32, **SIZES, **settings))
        return built

    return build


class Frozen(NamedTuple):
    """A model of which something is frozen.

    Args:
        build: constructs it.
        preset: that is for it.
        names: of what is frozen.
    """

    build: Callable[[], nn.Module]
    preset: str
    names: Callable[[str], object]


def last_of(families: Any, preset: str) -> Callable[[], nn.Module]:
    """The last model that a preset is compared on."""
    builds: list[Callable[[], nn.Module]]
    (builds,) = ([case.build for case in family.cases] for family in families if family.preset == preset)
    build: Callable[[], nn.Module] = builds[-1]
    return build


KEPT = {
    "Whisper": Frozen(
        sequences("Whisper", "WhisperForConditionalGeneration", num_mel_bins=8, max_source_positions=20, **WORDS),
        "transformers_base",
        POSITIONS[:1].__contains__,
    ),
    "RetinaNet": Frozen(
        detection.on_mobilenet("RetinaNet"), "torchvision_retinanet", re.compile(r"backbone\.body\.[0-8]\.").match
    ),
    "FCOS": Frozen(detection.on_mobilenet("FCOS"), "torchvision_fcos", re.compile(r"backbone\.body\.[0-8]\.").match),
    "VQ-VAE": Frozen(
        THIRD_PARTY["monai-vqvae"].build, "torch_default", re.compile(r"quantizer\..*embedding\.weight").match
    ),
}
DRAWN = {
    "Marian": Frozen(sequences("Marian", "MarianMTModel", **WORDS), "transformers_base", POSITIONS.__contains__),
    "Pegasus": Frozen(
        sequences("Pegasus", "PegasusForConditionalGeneration", **WORDS), "transformers_base", POSITIONS.__contains__
    ),
    "TimeSeriesTransformer": Frozen(
        sequences(
            "TimeSeriesTransformer",
            "TimeSeriesTransformerForPrediction",
            prediction_length=4,
            context_length=8,
            lags_sequence=[1, 2],
        ),
        "transformers_base",
        POSITIONS.__contains__,
    ),
    "DiT": Frozen(last_of(families_rewritten.FAMILIES, "dit"), "dit", re.compile("pos_embed").fullmatch),
    "MAE": Frozen(last_of(families_rewritten.FAMILIES, "mae"), "mae", re.compile("(decoder_)?pos_embed").fullmatch),
    "ViTMAE": Frozen(
        last_of(families_transformers.FAMILIES, "transformers_mae"),
        "transformers_mae",
        re.compile(r"vit\.embeddings\.position_embeddings|decoder\.decoder_pos_embed").fullmatch,
    ),
}


def frozen_of(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def built(kind: str, *, late: bool = False) -> tuple[Frozen, nn.Module, list[str]]:
    """A model with the names of what is frozen in it, which its constructor alone has frozen."""
    known = (KEPT | DRAWN)[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if late:
            with initplug.deferred():
                model = known.build()
        else:
            model = known.build()
    frozen = frozen_of(model)
    assert frozen == [name for name, _ in model.named_parameters() if known.names(name)] != []
    return known, model, frozen


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("kind", KEPT)
def test_what_a_constructor_freezes_stays_to_the_bit(kind: str, seed: int | None) -> None:
    known, model, frozen = built(kind)
    before = {name: model.get_parameter(name).clone() for name in frozen}
    with pytest.warns(initplug.InitplugWarning) as caught:
        audit = initplug.apply(model, known.preset, seed=seed)
    assert [name for name in frozen if not torch.equal(model.get_parameter(name), before[name])] == []
    assert {(audit[name].status, audit[name].reason, audit[name].rule) for name in frozen} == {("kept", "frozen", None)}
    assert {row.status for row in audit if row.name not in frozen} == {"initialized"}
    assert audit.unmatched == audit.unused == ()
    assert audit.problems() == []
    (warning,) = caught
    told = str(warning.message).splitlines()[1:-1]
    assert [line.split()[0] for line in told[:10]] == frozen[:10]
    assert told[10:] == ([f"… and {len(frozen) - 10} more"] if len(frozen) > 10 else [])


def test_that_many_slots_of_a_small_mobilenet_are_frozen() -> None:
    assert [len(built(kind)[2]) for kind in ("RetinaNet", "FCOS")] == [96, 96]


@pytest.mark.parametrize("kind", KEPT)
def test_frozen_write_draws_it(kind: str) -> None:
    known, model, frozen = built(kind)
    audit = initplug.apply(model, initplug.load(known.preset, overrides=["frozen=write"]), seed=0)
    assert {row.status for row in audit} == {"initialized"}
    assert {audit[name].verdict for name in frozen} == {"ok"}
    assert frozen_of(model) == frozen


@pytest.mark.parametrize("kind", KEPT)
def test_without_memory_it_is_planned_and_marked_and_refused_by_name(kind: str) -> None:
    known, model, frozen = built(kind, late=True)
    with pytest.warns(initplug.InitplugWarning, match="On meta they have no values to keep"):
        plan = initplug.plan(model, known.preset)
    assert [row.name for row in plan if row.reason == "frozen"] == frozen
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, known.preset, seed=0)
    refused = [finding.path for finding in caught.value.findings if "it is frozen" in finding.message]
    assert refused == frozen
    assert all(parameter.is_meta for parameter in model.parameters())

    every = model.named_parameters(remove_duplicate=False)
    rest = [name for name, parameter in every if parameter.requires_grad]
    audit = initplug.apply(model, known.preset, seed=0, only=rest)
    assert [row.name for row in audit if row.status == "kept"] == frozen
    assert [name for name, parameter in model.named_parameters() if parameter.is_meta] == frozen


@pytest.mark.parametrize("kind", DRAWN)
def test_presets_whose_source_fills_what_it_freezes_say_so(kind: str) -> None:
    known, model, frozen = built(kind)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 5.0, 6.0)
    audit = initplug.apply(model, known.preset, seed=0)
    assert {row.status for row in audit} == {"initialized"}
    assert frozen_of(model) == frozen
    rules = initplug.load(known.preset).rules
    assert {rules[str(audit[name].rule)].trainable for name in frozen} == {"any"}  # type: ignore[union-attr]  # none is off

    _, late, _ = built(kind, late=True)
    initplug.apply(late, known.preset, seed=0)
    mine, theirs = dict(late.named_parameters()), dict(model.named_parameters())
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []
