"""The audit that the golden files show, and the texts that they are compared with.

Run it to write them anew.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import initplug
from initplug.auditing.audit import Audit

GOLDEN = Path(__file__).parent / "golden"

RECIPE = """\
name: golden
unmatched: keep
rules:
  weights: {match: "*.weight", init: normal std=0.02}
  norm:    {match: <LayerNorm>.weight, init: 1}
  bias:    {match: "*.bias", init: 0}
  out:     {match: out.weight, init: {fn: normal, std: 0.02, factor: {count: <Block>, times: 2}}}
  experts: {match: experts.*, init: xavier_uniform}
"""


OTHER = {"name": "other", "unmatched": "keep", "rules": {"*.weight": "normal std=0.01", "*.bias": 0, "out.bias": 1}}


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.gates = nn.ParameterDict({"<b>|\u202e": torch.empty(2, 2).uniform_(-1, 1)})


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.experts = nn.ParameterList(nn.Parameter(torch.zeros(32, 64)) for _ in range(4))


class Golden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(50, 32)
        self.scale = nn.Parameter(torch.tensor([1.0, 3.0]))
        self.h = nn.ModuleList(Block() for _ in range(12))
        self.head = nn.Linear(32, 50)
        self.odd = nn.ParameterDict({"line\nbreak|pipe": torch.zeros(2), "\x1b[31mred\u202e": torch.zeros(2)})


def golden() -> Audit:
    """Twelve blocks that agree, but for one weight; a parameter that no rule matches; names that mean no good."""
    model = Golden()
    initplug.apply(model, RECIPE, seed=0)
    with torch.no_grad():
        model.h[4].qkv.weight.mul_(1.5)  # type: ignore[union-attr, operator]  # torch types the items of a list as Module
    return initplug.audit(model, RECIPE)


def texts(audit: Audit) -> dict[str, str]:
    return {
        "audit_80.txt": audit.to_text(width=80),
        "audit_wide.txt": audit.to_text(width=10_000),
        "audit_all_80.txt": audit.to_text(width=80, every=True),
        "plan_80.txt": audit.plan.to_text(width=80),
        "audit.md": audit.to_markdown(),
        "appendix.md": audit.to_markdown(every=False),
        "audit.fragment.html": audit._repr_html_(),
        "plan.fragment.html": audit.plan._repr_html_(),
        "recipe.fragment.html": audit.plan.recipe._repr_html_(),
        "diff.fragment.html": initplug.diff(Golden(), audit, OTHER)._repr_html_(),
        "recording.fragment.html": initplug.record(Plain, check=False)._repr_html_(),
        "diff.md": initplug.diff(Golden(), audit, OTHER).to_markdown(),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, text in texts(golden()).items():
        (GOLDEN / name).write_text(text, encoding="utf-8", newline="")
