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
    """The tensors of a layer, under torchtitan's names."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({name: nn.Linear(16, 16, bias=False) for name in ("wq", "wk", "wv", "wo")})
        self.feed_forward = nn.ModuleDict({name: nn.Linear(16, 16, bias=False) for name in ("w1", "w2", "w3")})
        self.attention_norm, self.ffn_norm = nn.RMSNorm(16), nn.RMSNorm(16)


class Transformer(nn.Module):
    """A model under torchtitan's names."""

    def __init__(self) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(32, 16)
        self.layers = nn.ModuleDict({str(index): Layer() for index in range(3)})
        self.norm, self.output = nn.RMSNorm(16), nn.Linear(16, 32, bias=False)


def test_the_recipe_of_the_guide_gives_the_distributions_of_torchtitan(tmp_path: Path) -> None:
    found = re.search(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None
    with torch.device("meta"):
        plan = initplug.plan(Transformer(), found[1])
    assert not plan.unused
    for layer in range(3):
        for name in ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1"):
            assert plan[f"layers.{layer}.{name}.weight"].std == pytest.approx(0.02)
        for name in ("attention.wo", "feed_forward.w2", "feed_forward.w3"):
            assert plan[f"layers.{layer}.{name}.weight"].std == pytest.approx(0.02 / (2 * (layer + 1)) ** 0.5)
    output = plan["output.weight"]
    assert output.low == pytest.approx(-3 / 4)
    assert output.std == pytest.approx(0.9866 / 4, rel=1e-3)  # cut at three
    assert (plan["tok_embeddings.weight"].std, plan["norm.weight"].mean) == (1, 1)
