"""Nets that have one fault, and the same nets without it, by the verdict that tells of the fault."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

import initplug

WIDTH = 64


class Case(NamedTuple):
    """A net and its inputs, with the recipe of a fault and one that has none."""

    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Tensor]
    faulty: Mapping[str, object]
    sound: Mapping[str, object]


def plain(activation: Callable[[], nn.Module], depth: int, width: int = WIDTH, classes: int = 10) -> nn.Module:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, classes))


class ResidualBlock(nn.Module):
    """Two layers and a shortcut, without a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.last(functional.relu(self.first(x)))
        return x + added


def residual(depth: int) -> nn.Module:
    return nn.Sequential(*(ResidualBlock(WIDTH) for _ in range(depth)), nn.Linear(WIDTH, 10))


class Block(nn.Module):
    """A pre-norm block of a Transformer whose attention is written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        added: Tensor = self.down(functional.gelu(self.up(self.norm2(x))))
        return x + added


class Transformer(nn.Module):
    """A small pre-norm language model."""

    def __init__(self, depth: int = 6, width: int = WIDTH, vocabulary: int = 100) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def vectors(generator: torch.Generator) -> Tensor:
    return torch.randn(32, WIDTH, generator=generator)


def tokens(generator: torch.Generator) -> Tensor:
    return torch.randint(100, (4, 32), generator=generator)


def recipe(weights: object, **rules: object) -> dict[str, object]:
    head = {"match": "^-1.weight", "init": "normal std=0.01", "optional": True}
    found = {"weights": {"match": "*.weight", "init": weights}, "bias": {"match": "*.bias", "init": 0}}
    return {"rules": {**found, "head": head, **rules}}


SMALL = {
    "weights": {"match": "<Linear>.weight", "init": "normal std=0.02"},
    "embedding": {"match": "embedding.weight", "init": "normal std=0.02"},
    "norms": {"match": "<LayerNorm>.weight", "init": 1},
    "bias": {"match": "*.bias", "init": 0},
}


def small(**rules: object) -> dict[str, object]:
    return {"rules": {**SMALL, **rules}}


def rule(match: str, init: object) -> dict[str, object]:
    return {"match": match, "init": init}


CASES: Mapping[str, Case] = {
    "signal dies": Case(
        lambda: plain(nn.ReLU, 30), vectors, recipe("xavier_normal"), recipe("kaiming_normal nonlinearity=relu")
    ),
    "gradient vanishes": Case(
        lambda: plain(nn.Tanh, 24), vectors, recipe("uniform -0.125 0.125"), recipe("xavier_normal gain=tanh")
    ),
    "signal explodes": Case(
        lambda: residual(16), vectors, recipe("kaiming_normal"), recipe("kaiming_normal", last=rule("last.weight", 0))
    ),
    "gradient explodes": Case(
        lambda: plain(nn.ReLU, 24),
        vectors,
        recipe(f"normal std={2 * math.sqrt(2 / WIDTH)}"),
        recipe("kaiming_normal nonlinearity=relu"),
    ),
    "dead units": Case(
        lambda: plain(nn.ReLU, 4),
        vectors,
        recipe("kaiming_normal nonlinearity=relu", shifted=rule("^4.bias", -4)),
        recipe("kaiming_normal nonlinearity=relu"),
    ),
    "saturated units": Case(
        lambda: plain(nn.Tanh, 4), vectors, recipe("normal std=1"), recipe("xavier_normal gain=tanh")
    ),
    "drowned stream": Case(
        Transformer,
        tokens,
        small(weights=rule("<Linear>.weight", "kaiming_normal"), head=rule("^head.weight", 0)),
        small(),
    ),
    "one-hot attention": Case(Transformer, tokens, small(qkv=rule("qkv.weight", "normal std=0.5")), small()),
    "first loss": Case(
        lambda: plain(nn.ReLU, 3),
        vectors,
        recipe("kaiming_normal nonlinearity=relu", head=rule("^-1.weight", "normal std=1")),
        recipe("kaiming_normal nonlinearity=relu", head=rule("^-1.weight", "lecun_normal")),
    ),
}
"""By the kind of the verdict; more kinds may be told of a faulty net, none of a sound one."""


def alarms(kind: str, seed: int) -> tuple[set[str], set[str]]:
    """Return the kinds of the alarms on the net that has a fault, and on that which has not."""
    case = CASES[kind]
    inputs = case.inputs(torch.Generator().manual_seed(seed))
    found = initplug.probe(case.build(), inputs, recipes={"faulty": case.faulty, "sound": case.sound}, seed=seed)
    faulty, sound = ({verdict.kind for verdict in found.judgements[name] if verdict.alarm} for name in found.judgements)
    return {*faulty}, {*sound}
