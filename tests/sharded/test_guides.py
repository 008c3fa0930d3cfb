"""What README and guide say of sharded models is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import initplug

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "examples" / "guide" / "torchtitan.md").read_text()


def test_the_lines_of_the_readme_are_those_of_the_example() -> None:
    section = (ROOT / "README.md").read_text().split("## At scale", 1)[1].split("\n## ", 1)[0]
    lines = section.split("```py\n", 1)[1].split("```", 1)[0].splitlines()
    example = {line.strip() for line in (ROOT / "examples" / "fsdp2.py").read_text().splitlines()}
    assert len(lines) == 8
    assert {line.strip() for line in lines} - {""} <= example


class Layer(nn.Module):
    """The tensors of a layer, under torchtitan's names: queries, keys and values in one projection or in three."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        super().__init__()
        qkv = nn.ModuleDict({name: nn.Linear(16, 48 if name == "wqkv" else 16, bias=False) for name in inputs})
        self.attention = nn.ModuleDict({"qkv_linear": qkv, "wo": nn.Linear(16, 16, bias=False)})
        self.feed_forward = nn.ModuleDict({name: nn.Linear(16, 16, bias=False) for name in ("w1", "w2", "w3")})
        self.attention_norm, self.ffn_norm = nn.RMSNorm(16), nn.RMSNorm(16)


class Llama3TransformerBlock(Layer):
    """A layer by the name of its class."""


class Llama3Model(nn.Module):
    """A model under torchtitan's names."""

    def __init__(self, inputs: tuple[str, ...], *, tied: bool) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(32, 16)
        self.layers = nn.ModuleDict({str(index): Llama3TransformerBlock(inputs) for index in range(3)})
        self.norm, self.lm_head = nn.RMSNorm(16), nn.Linear(16, 32, bias=False)
        if tied:
            self.tok_embeddings.weight = self.lm_head.weight


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("inputs", [("wqkv",), ("wq", "wk", "wv")])
def test_the_recipe_of_the_guide_gives_the_distributions_of_torchtitan(inputs: tuple[str, ...], tied: bool) -> None:
    found = re.search(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None
    with torch.device("meta"):
        model = Llama3Model(inputs, tied=tied)
    plan = initplug.plan(model, found[1])
    assert not plan.unused
    for layer in range(3):
        for name in (*(f"attention.qkv_linear.{name}" for name in inputs), "feed_forward.w1"):
            assert plan[f"layers.{layer}.{name}.weight"].std == pytest.approx(0.02)
        for name in ("attention.wo", "feed_forward.w2", "feed_forward.w3"):
            assert plan[f"layers.{layer}.{name}.weight"].std == pytest.approx(0.02 / (2 * (layer + 1)) ** 0.5)
    output = plan["lm_head.weight"]
    assert output.low == pytest.approx(-3 / 4)
    assert output.std == pytest.approx(0.9866 / 4, rel=1e-3)  # cut at three
    assert plan["norm.weight"].mean == 1
    assert plan["tok_embeddings.weight"].std == (output.std if tied else 1)
    preset = initplug.plan(model, "torchtitan_llama")
    assert [(row.name, row.distribution) for row in plan] == [(row.name, row.distribution) for row in preset]
