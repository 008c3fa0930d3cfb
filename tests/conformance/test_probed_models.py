"""Models of others can be probed as they are, sound ones raise no alarm, and μP's own package measures the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from libraries import load_example, timm_model, torchvision_model
from torch import Tensor, nn
from torch.nn import functional
from untouched import untouched

import initplug
from initplug.studies.probing.comparison import beside


def gpt2(**settings: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=3, n_embd=64, n_head=4, vocab_size=200, n_positions=64, bos_token_id=0, eos_token_id=0, **settings
    )
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


def tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(200, (4, 32), generator=torch.Generator().manual_seed(0))}


def images(count: int, size: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


class Speech(nn.Module):
    """An LSTM over tokens, which come first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(50, 32), nn.LSTM(32, 64, 2)
        self.head = nn.Linear(64, 50)

    def forward(self, words: Tensor) -> tuple[Tensor, Any]:
        out, state = self.lstm(self.embedding(words))
        return self.head(out), state


class Experts(nn.Module):
    """A router, and experts of which each token goes to two."""

    def __init__(self, width: int = 32, count: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width)) for _ in range(count + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = functional.softmax(self.router(x), -1).topk(2)
        out = torch.zeros_like(x)
        for place, expert in enumerate(list(self.experts)[:-1]):
            taken, slot = (chosen == place).nonzero(as_tuple=True)
            out = out.index_add(0, taken, weights[taken, slot, None] * expert(x[taken]))
        return x + out


MODELS: dict[str, tuple[Callable[[], nn.Module], Any, str, int]] = {
    "resnet50": (lambda: torchvision_model("resnet50"), images(2, 64), "block", 16),
    "vit_tiny": (lambda: timm_model("vit_tiny_patch16_224"), images(2, 224), "block", 12),
    "gpt2": (gpt2, tokens(), "block", 3),
    "gpt2 with a loss": (gpt2, {**tokens(), "labels": tokens()["input_ids"]}, "block", 3),
    "gpt2 in eager attention": (lambda: gpt2(attn_implementation="eager"), tokens(), "block", 3),
    "lstm": (Speech, torch.randint(50, (20, 4)), "layer", 3),
    "experts": (Experts, torch.randn(64, 32), "block", 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_others_are_probed_as_they_are(name: str) -> None:
    build, inputs, unit, stations = MODELS[name]
    torch.manual_seed(0)
    model = build()
    with untouched(model):
        found = initplug.probe(model, inputs)
    trace = found.traces[0]
    assert (trace.unit, len(trace.stations)) == (unit, stations)
    assert not found.problems(), "their authors know what they do"
    assert all(layer.std is not None for layer in trace)
    assert all(layer.gradient is not None for layer in trace if layer.name != "lstm" or layer.gradient)
    assert found.to_text(width=80) and found.to_svg()


def test_a_residual_net_adds_its_branches() -> None:
    found = initplug.probe(torchvision_model("resnet50"), images(2, 64))
    names = [branch.name for branch in found.traces[0].branches]
    assert len(names) == 12 and "layer1.0" not in names, "the first of a stage has another shortcut"
    assert all(0.5 < branch.ratio < 2 for branch in found.traces[0].branches)


def test_attention_that_others_compute_in_two_ways_is_the_same() -> None:
    torch.manual_seed(0)
    fused, eager = gpt2(), gpt2(attn_implementation="eager")
    eager.load_state_dict(fused.state_dict())
    traces = [initplug.probe(model.eval(), tokens()).traces[0] for model in (fused, eager)]
    peaks = [[one.peaks.peak for one in trace.attentions] for trace in traces]
    assert len(peaks[0]) == 3
    assert peaks[0] == pytest.approx(peaks[1], rel=0.02)


def test_tokens_that_no_expert_gets_leave_it_unreached() -> None:
    found = initplug.probe(Experts(), torch.randn(64, 32))
    assert found.traces[0].unreached == ("experts.4",)


def test_gpt2_with_large_weights_is_accused() -> None:
    rules = {"rules": {"<Conv1D|Embedding>.weight": "normal std=0.6", "<LayerNorm>.weight": 1, "*.bias": 0}}
    found = initplug.probe(gpt2(), tokens(), recipes=rules, seed=0)
    assert {"one-hot attention", "first loss"} <= {verdict.kind for verdict in found.problems()}


@pytest.mark.parametrize("recipe", ["wrn", "resnext"])
def test_recipes_that_train_the_deep_plain_net_raise_no_alarm(recipe: str) -> None:
    net = load_example("deep").DeepNet(depth=20, width=16, residual=False, classes=10)
    found = initplug.probe(net, images(8, 32), recipes=[recipe, "torch_default"], seed=0)
    assert not found.problems()
    assert {verdict.kind for verdict in found.judgements["torch_default"] if verdict.alarm} == {
        "signal dies",
        "gradient vanishes",
    }


@pytest.mark.large
def test_recipes_that_blow_a_deep_residual_net_up_are_accused() -> None:
    # As the README's picture of losses has it: these two do not train, and torch's default does.
    net = load_example("deep").DeepNet(depth=56, width=16, residual=True, classes=8)
    found = initplug.probe(net, images(16, 16), recipes=["wrn", "resnext", "torch_default"], seed=0)
    told = {name: {one.kind for one in verdicts if one.alarm} for name, verdicts in found.judgements.items()}
    assert not told.pop("torch_default")
    assert all({"signal explodes", "gradient explodes", "first loss"} <= kinds for kinds in told.values())


class Wide(nn.Module):
    """Layers of a width that varies, in μP as table 3 of the paper has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.hidden, self.fc = nn.Linear(48, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.hidden(self.first(x).relu()).relu())
        return y


def test_coordinates_of_mup_are_those_of_its_own_package() -> None:
    reason = "`make coordinates` installs mup, which asks for pandas"
    pytest.importorskip("pandas", reason=reason)
    coord_check = pytest.importorskip("mup.coord_check", reason=reason)
    widths, x = [64, 256, 1024], torch.randn(256, 48, generator=torch.Generator().manual_seed(0))

    def built(width: int) -> nn.Module:
        model = Wide(width)
        initplug.apply(model, "mup", seed=0)
        return model

    theirs = coord_check._get_coord_data(
        {width: lambda width=width: built(width) for width in widths},
        [(x, torch.zeros(256, dtype=torch.int64))],
        lambda model: torch.optim.SGD(model.parameters(), lr=0.0),
        nsteps=1,
        cuda=False,
        show_progress=False,
        output_fdict={"std": coord_check.FDICT["std"]},
    )
    parts = [(str(width), initplug.probe(Wide(width), x, recipes="mup", seed=0)) for width in widths]
    ours = {one.layer: one for one in beside(parts, "width").growth()}
    for name in ("first", "hidden", "fc"):
        rows = theirs[theirs["module"] == name].sort_values("width")
        assert [*ours[name].stds] == pytest.approx([*rows["std"]], rel=1e-3)
    assert abs(ours["first"].exponent) < 0.05 and abs(ours["hidden"].exponent) < 0.05
    assert ours["fc"].exponent == pytest.approx(-0.5, abs=0.1), "μP's output begins to vanish with width"
