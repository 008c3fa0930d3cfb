"""Checkpoints that lack something: what real models load is not drawn again, tied embeddings included."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

import initplug

SIZES = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
TIED = {
    "gpt2": ("transformer.wte.weight", "lm_head.weight"),
    "bert": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
}

COMPILED = pytest.param(
    torch.compile,
    id="_orig_mod.",
    marks=pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning"),  # of torch's own import
)


def built(kind: str) -> Any:
    models = import_module("transformers")
    if kind == "gpt2":
        return models.GPT2LMHeadModel(models.GPT2Config(n_embd=32, n_layer=2, n_head=4, **SIZES))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return models.BertForMaskedLM(models.BertConfig(vocab_size=64, **sizes))


@pytest.mark.parametrize("wrap", [None, pytest.param(nn.DataParallel, id="module."), COMPILED])
@pytest.mark.parametrize("kind", TIED)
def test_a_checkpoint_without_the_alias_of_an_embedding_is_not_drawn_over(kind: str, wrap: Any) -> None:
    source, model = built(kind), built(kind)
    if wrap is not None:
        source, model = wrap(source), wrap(model)
    first, second = TIED[kind]
    checkpoint = {
        key: torch.full_like(value, 3.0) for key, value in source.state_dict().items() if key.find(second) < 0
    }
    gone = [key for key in checkpoint if key.endswith((".1.attn.c_attn.weight", ".1.output.dense.bias"))]
    assert gone
    for key in gone:
        del checkpoint[key]
    found = model.load_state_dict({**checkpoint, "extra.head.weight": torch.zeros(1)}, strict=False)
    missing = list(found.missing_keys)
    assert any(key.endswith(second) for key in missing)
    assert found.unexpected_keys == ["extra.head.weight"]

    preset = {"gpt2": "transformers_gpt2", "bert": "transformers_base"}[kind]
    with pytest.warns(initplug.InitplugWarning, match=f"{second} is listed, {first} is not"):
        audit = initplug.apply(model, preset, seed=0, only=missing)
    drawn = {row.name for row in audit if row.status == "initialized"}
    assert all(any(key.endswith(name) for key in gone) for name in drawn) and len(drawn) == len(gone)
    named = dict(model.named_parameters(remove_duplicate=False))
    assert {key for key, value in named.items() if not (value == 3).all()} == {*gone}
    assert audit[second].reason == f"tied to {first}, not listed"

    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, preset, seed=0, only=found.unexpected_keys)
    assert [finding.path for finding in caught.value.findings] == ["extra.head.weight"]


@pytest.mark.parametrize("kind", TIED)
def test_an_embedding_that_the_checkpoint_lacks_under_every_name_is_drawn(kind: str) -> None:
    model = built(kind)
    checkpoint = {key: value for key, value in built(kind).state_dict().items() if not key.endswith(TIED[kind])}
    missing = model.load_state_dict(checkpoint, strict=False).missing_keys
    assert {*TIED[kind]} <= {*missing}
    audit = initplug.apply(model, {"gpt2": "transformers_gpt2", "bert": "transformers_base"}[kind], only=missing)
    assert [row.name for row in audit if row.status == "initialized"] == [TIED[kind][0]]
