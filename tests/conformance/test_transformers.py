"""Factors, references and computed weights on transformers' own models, whose `_init_weights` is the oracle.

GPT-2: models/gpt2/modeling_gpt2.py:431-448. T5: models/t5/modeling_t5.py:563-616. Every model is constructed by its
library and measured as it is; the formulas are written here from the configuration.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import initplug

transformers: Any = pytest.importorskip("transformers")


def gpt2(layers: int) -> nn.Module:
    config = transformers.GPT2Config(n_layer=layers, n_embd=64, n_head=4, vocab_size=200, n_positions=32)
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


GPT2: dict[str, Any] = {
    "rules": {
        "<Conv1D|Embedding>.weight": "normal std=0.02",
        "<LayerNorm>.weight": 1,
        "*.bias": 0,
        "residual": {
            "match": "<GPT2Attention|GPT2MLP>.c_proj.weight",
            "init": {"fn": "normal", "std": 0.02, "factor": {"count": "<GPT2Block>", "times": 2}},
        },
    }
}


@pytest.mark.parametrize("layers", [1, 3, 8])
def test_gpt2_is_as_planned(layers: int) -> None:
    torch.manual_seed(0)
    model = gpt2(layers)
    audit = initplug.audit(model, GPT2)
    assert audit.problems() == [] and audit.summary["verdict"] == {"ok": len(audit)}
    for row in audit:
        if "c_proj.weight" in row.name:
            assert row.std == pytest.approx(0.02 / math.sqrt(2 * layers), rel=1e-12)
    assert audit["transformer.wte.weight"].aliases == ("lm_head.weight",)


def test_gpt2_without_its_factor_is_told_apart() -> None:
    torch.manual_seed(0)
    flat = {"rules": {**GPT2["rules"], "residual": None}}
    problems = [row.name for row in initplug.audit(gpt2(4), flat).problems()]
    assert problems == [f"transformer.h.{block}.{part}.c_proj.weight" for block in range(4) for part in ("attn", "mlp")]


T5: dict[str, Any] = {
    "rules": {
        "<T5LayerNorm>.weight": 1,
        "<T5DenseActDense>.wi.weight": "variance_scaling normal",
        "<T5DenseGatedActDense>.wi_?.weight": "variance_scaling normal",
        "<T5Dense*>.wo.weight": "variance_scaling normal",
        "<T5Attention>.(k|v|o).weight": "variance_scaling normal",
        "q": {
            "match": "<T5Attention>.q.weight",
            "init": {
                "fn": "variance_scaling",
                "distribution": "normal",
                "factor": {"attr": "..key_value_proj_dim"},
            },
        },
        "bias": {
            "match": "relative_attention_bias.weight",
            "init": {"fn": "normal", "factor": {"attr": "..d_model"}},
        },
        "^(shared|lm_head).weight": "normal std=1",
    },
    "unused": "ignore",
}


@pytest.mark.parametrize("gated", [False, True])
def test_t5_is_as_planned(gated: bool) -> None:
    torch.manual_seed(0)
    config = transformers.T5Config(
        d_model=48, d_kv=24, d_ff=96, num_heads=3, num_layers=2, vocab_size=150,
        feed_forward_proj="gated-gelu" if gated else "relu", tie_word_embeddings=not gated,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    audit = initplug.audit(model, T5)
    assert audit.problems() == [] and audit.summary["verdict"] == {"ok": len(audit)}
    formulas = {
        "SelfAttention.q.weight": (48 * 24) ** -0.5,
        "SelfAttention.k.weight": 48**-0.5,
        "SelfAttention.o.weight": (3 * 24) ** -0.5,
        "relative_attention_bias.weight": 48**-0.5,
        "wo.weight": 96**-0.5,
        "wi_0.weight" if gated else "wi.weight": 48**-0.5,
    }
    for end, std in formulas.items():
        rows = [row for row in audit if row.name.endswith(end)]
        assert rows and all(row.std == pytest.approx(std, rel=1e-12) for row in rows), end


def test_t5_with_the_head_size_forgotten_is_told_apart() -> None:
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=48, d_kv=24, d_ff=96, num_heads=3, num_layers=1, vocab_size=150)
    )
    plain = {
        **T5,
        "rules": {**T5["rules"], "q": {"match": "<T5Attention>.q.weight", "init": "variance_scaling normal"}},
    }
    problems = {row.name for row in initplug.audit(model, plain).problems()}
    assert problems == {name for name, _ in model.named_parameters() if name.endswith("Attention.q.weight")}


@pytest.mark.parametrize("seed", [None, 0])
def test_the_weight_norm_of_wav2vec2_is_written_and_used(seed: int | None) -> None:
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, conv_dim=[16, 16],
        conv_kernel=[5, 3], conv_stride=[3, 2], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = transformers.Wav2Vec2Model(config)
    positions = {"match": "pos_conv_embed.conv.weight", "init": "normal std=0.3"}
    recipe = {"rules": {"*": "normal std=0.02", "<*Norm*>.weight": 1, "*.bias": 0, "positions": positions}}
    torch.manual_seed(0)
    audit = initplug.apply(model, recipe, seed=seed)
    row = audit["encoder.pos_conv_embed.conv.weight"]
    assert (row.module_type, row.shape, row.status, row.verdict) == ("Conv1d", (32, 16, 8), "initialized", "ok")
    assert audit.problems() == [] and {each.status for each in audit} == {"initialized"}
    convolution = model.encoder.pos_conv_embed.conv
    impulse = torch.zeros(1, 32, 9)
    impulse[0, 0, 4] = 1
    with torch.no_grad():
        answer = convolution(impulse) - convolution(torch.zeros(1, 32, 9))
        assert torch.isfinite(model(torch.randn(1, 400)).last_hidden_state).all()
    assert answer[0, :16].std().item() == pytest.approx(0.3, rel=0.3)
