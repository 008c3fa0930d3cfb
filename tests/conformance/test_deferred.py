"""Models that we did not write, built under `deferred()`: filled, they are what they are when built in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import initplug

RECIPE: dict[str, Any] = {
    "unused": "ignore",
    "rules": {"*": "normal std=0.2", "<*Norm*>.weight": 1, "*.bias": 0.01},
}
SIZES = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}


def llama() -> nn.Module:
    models = import_module("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model: nn.Module = models.LlamaForCausalLM(models.LlamaConfig(num_key_value_heads=2, **sizes, **SIZES))
    return model


def gpt2() -> nn.Module:
    models = import_module("transformers")
    model: nn.Module = models.GPT2LMHeadModel(models.GPT2Config(n_embd=32, n_layer=2, n_head=4, **SIZES))
    return model


def bert() -> nn.Module:
    models = import_module("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model: nn.Module = models.BertModel(models.BertConfig(vocab_size=64, **sizes))
    return model


def resnet18() -> nn.Module:
    model: nn.Module = import_module("torchvision.models").resnet18(num_classes=10)
    return model


def regnet() -> nn.Module:
    """Its constructor reads numbers from tensors, which it cannot where these are on meta."""
    model: nn.Module = import_module("torchvision.models").regnet_y_400mf(num_classes=10)
    return model


TOKENS = torch.arange(12)[None]
IMAGE = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "llama": (llama, TOKENS),
    "gpt2": (gpt2, TOKENS),
    "bert": (bert, TOKENS),
    "resnet18": (resnet18, IMAGE),
    "regnet": (regnet, IMAGE),
}


def named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers at every place, those included that a checkpoint leaves out."""
    parameters: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    return parameters | dict(model.named_buffers(remove_duplicate=False))


def output(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found = model.eval()(x)
    first: Tensor = found if isinstance(found, Tensor) else found[0]
    return first


@pytest.mark.parametrize("name", MODELS)
def test_what_is_built_without_memory_and_filled_is_what_is_built_with_it(name: str) -> None:
    build, x = MODELS[name]
    eager = build()
    with initplug.deferred():
        late = build()
    assert all(parameter.is_meta for parameter in late.parameters())
    assert not any(buffer.is_meta for buffer in late.buffers())
    assert initplug.plan(late, RECIPE).buffers == ()
    for model in (eager, late):
        torch.manual_seed(11)
        initplug.apply(model, RECIPE)
    mine, theirs = named(late), named(eager)
    assert mine.keys() == theirs.keys()
    assert [key for key in theirs if not torch.equal(mine[key], theirs[key])] == []
    ids = {key: id(tensor) for key, tensor in theirs.items()}
    ties = {(a, b) for a in ids for b in ids if ids[a] == ids[b]}
    assert ties == {(a, b) for a in mine for b in mine if mine[a] is mine[b]}
    assert torch.equal(output(late, x), output(eager, x))


def test_a_language_model_stays_tied_to_its_embedding() -> None:
    with initplug.deferred():
        late: Any = gpt2()
    plan = initplug.plan(late, RECIPE)
    assert plan["lm_head.weight"].name == "transformer.wte.weight"
    initplug.apply(late, plan)
    assert late.lm_head.weight is late.transformer.wte.weight


LOST = {"llama": "model.rotary_emb.inv_freq", "bert": "embeddings.position_ids"}


@pytest.mark.parametrize("name", LOST)
def test_tables_that_meta_lost_are_refused_by_name(name: str) -> None:
    with torch.device("meta"):
        late = MODELS[name][0]()
    assert (LOST[name], "none") in initplug.plan(late, RECIPE).buffers
    with pytest.raises(initplug.ApplyError, match=rf"\n  {LOST[name]}: .*under `initplug.deferred\(\)`"):
        initplug.apply(late, RECIPE)
    assert all(tensor.is_meta for tensor in named(late).values())


def test_statistics_that_meta_lost_are_restored() -> None:
    with torch.device("meta"):
        late = resnet18()
    assert {buffer.restore for buffer in initplug.plan(late, RECIPE).buffers} == {"module type"}
    torch.manual_seed(11)
    initplug.apply(late, RECIPE)
    eager = resnet18()
    torch.manual_seed(11)
    initplug.apply(eager, RECIPE)
    assert [key for key, tensor in named(eager).items() if not torch.equal(named(late)[key], tensor)] == []
    assert torch.equal(output(late, IMAGE), output(eager, IMAGE))


def test_seventy_billion_parameters_are_planned_in_megabytes() -> None:
    models = import_module("transformers")
    config = models.LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    tracemalloc.start()
    try:
        with initplug.deferred():
            late = models.LlamaForCausalLM(config)
        plan = initplug.plan(late, RECIPE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert plan.summary["numel"] == 70_553_706_496
    assert plan.buffers == ()
    assert peak < 16 * 2**20
