"""Models for the presets of torchtitan and OLMo, whose packages import much that no model needs."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import architectures as nets
import procedures_rewritten as sources
from families import Case, Family
from procedures import after
from torch import nn


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules without any content in the place of those that cannot be found, of these packages only."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Of a module of theirs."""
        known = name.partition(".")[0] in self.packages
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty one, of which every name can be imported."""
        module = ModuleType(spec.name)
        vars(module)["__getattr__"] = lambda _: MagicMock()
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing, since there is nothing in it."""


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let code import what it does not use of packages that are not installed; afterwards they are absent again."""
    absent, known = Absent(packages), set(sys.modules)
    sys.meta_path.append(absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)
        for name, module in list(sys.modules.items()):
            if name not in known and getattr(module.__spec__, "loader", None) is absent:
                del sys.modules[name]


def torchtitan(*, fused: bool = True, tied: bool = False) -> nn.Module:
    """The debug model of torchtitan's registry, or one of three layers of its builder's with grouped queries.

    Its command line's parser, tyro, is not needed. Tied, it is configured as the registry's 1B and 3B are.
    """
    with without("tyro"):
        llama3 = import_module("torchtitan.models.llama3")
    config = llama3.model_registry("debugmodel").model
    if not fused:
        rope = config.layers[0].attention.rope
        config.layers = llama3._build_llama3_layers(
            n_layers=3,
            dim=256,
            n_heads=16,
            n_kv_heads=4,
            hidden_dim=512,
            rope=rope,
            fuse_qkv=False,
            attn_backend="flex",
        )
    if tied:
        embedding = replace(config.tok_embeddings, param_init=llama3._EMBEDDING_SKIP_INIT)
        config = replace(config, enable_weight_tying=True, tok_embeddings=embedding)
    model: nn.Module = config.build()
    init_states: Any = model.init_states
    init_states()
    return model


def olmo(**settings: Any) -> Callable[[], nn.Module]:
    """The constructor of a small OLMo that draws by `mitchell`, as OLMo-7B does; it needs no client of any storage."""

    def build() -> nn.Module:
        with without("boto3", "botocore", "cached_path", "datasets", "google", "importlib_resources"):
            models, configs = import_module("olmo.model"), import_module("olmo.config")
        sizes = {"d_model": 64, "n_heads": 4, "n_layers": 4, "mlp_hidden_size": 192, "max_sequence_length": 32}
        chosen = {"vocab_size": 128, "embedding_size": 128, "init_device": "cpu", "init_fn": "mitchell"}
        model: nn.Module = models.OLMo(configs.ModelConfig(**sizes, **chosen, **settings))
        return model

    return build


OLMO_7B = {
    "weight_tying": False,
    "rope": True,
    "include_bias": False,
    "layer_norm_with_affine": False,
    "attention_layer_norm_with_affine": False,
    "bias_for_layer_norm": False,
    "activation_type": "swiglu",
}
"""What configs/official/OLMo-7B.yaml says of its parts."""

FAMILIES: list[Family] = [
    Family(
        "torchtitan_llama",
        neighbour="transformers_base",
        cases=[
            Case("torchtitan Llama 3, debug model", torchtitan, "distribution", package="torchtitan"),
            Case(
                "torchtitan Llama 3 of 3 layers, wqkv not fused",
                partial(torchtitan, fused=False),
                "bits",
                package="torchtitan",
            ),
            Case(
                "torchtitan Llama 3 of 3 layers, tied",
                partial(torchtitan, fused=False, tied=True),
                "bits by only",
                package="torchtitan",
            ),
            Case(
                "torchtitan Llama of before, 3 layers, rewritten",
                after(nets.torchtitan_llama, sources.torchtitan_llama),
                "bits",
            ),
            Case(
                "torchtitan Llama of before, 6 layers, rewritten",
                after(partial(nets.torchtitan_llama, 6), sources.torchtitan_llama),
                "bits",
            ),
        ],
    ),
    Family(
        "olmo",
        neighbour="prenorm_transformer",
        cases=[
            Case("OLMo as OLMo-7B, 4 layers", olmo(**OLMO_7B), "bits by only", package="olmo"),
            Case("OLMo tied, with biases and positions", olmo(block_group_size=2), "bits by only", package="olmo"),
            Case(
                "OLMo of Llama's blocks",
                olmo(block_type="llama", rope=True, layer_norm_type="rms", attention_layer_norm=True),
                "bits",
                package="olmo",
            ),
        ],
    ),
]
