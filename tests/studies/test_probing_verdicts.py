"""Each verdict tells of the fault that it is about, on nets that have it, and not on the same nets without it."""

from __future__ import annotations

import math

import pytest
import torch
from signal_nets import CASES, Transformer, alarms, plain, recipe, rule, small, tokens, vectors
from torch import Tensor, nn
from torch.nn import functional

import initplug
from initplug.studies.probing.verdicts import LOST, Verdict


@pytest.mark.parametrize("kind", CASES)
def test_a_fault_is_told_and_a_sound_net_is_not_accused(kind: str) -> None:
    # Fifty other seeds: `make verdicts`.
    faulty, sound = alarms(kind, seed=1000)
    assert kind in faulty
    assert not sound


def only(kind: str, verdicts: tuple[Verdict, ...]) -> Verdict:
    (found,) = (verdict for verdict in verdicts if verdict.kind == kind)
    return found


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_signal_dies_in_the_layer_that_is_named() -> None:
    net = plain(nn.ReLU, 40, width=256)
    x = torch.randn(64, 256, generator=generator())
    found = initplug.probe(net, x, recipes={"xavier": recipe("xavier_normal")}, seed=0)
    verdict = only("signal dies", found.verdicts)
    levels = [found[str(2 * place + 1)].signal or 0.0 for place in range(40)]
    gone = next(place for place, level in enumerate(levels) if level < LOST * levels[0])
    assert verdict.layer == str(2 * gone)  # the layer whose rectified output it is
    assert f"below a ten-thousandth after {gone} layers ({2 * gone})" in verdict.message
    assert 12 <= gone <= 26, "a half each layer in variance alone would take 26"
    assert verdict.hint == "kaiming_normal nonlinearity=relu keeps it, biases 0"


def test_a_variance_that_halves_is_said_to() -> None:
    # In a linear net with half the variance of orthogonal weights nothing else than the half can happen.
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(40)), nn.Linear(64, 2))
    halving = {"rules": {"*.weight": {"fn": "orthogonal", "gain": math.sqrt(0.5)}, "*.bias": 0}}
    found = initplug.probe(net, vectors(generator()), recipes=halving, seed=0)
    told = only("signal dies", found.verdicts).message
    assert told.startswith("the signal dies: variance halves each layer, below a ten-thousandth after 27 layers (27);")
    assert "gradients vanish towards the input: their variance halves each layer" in str(found)


def test_what_biases_leave_is_no_signal() -> None:
    net = plain(nn.ReLU, 20)
    found = initplug.probe(net, vectors(generator()), recipes="torch_default", seed=0)
    told = only("signal dies", found.verdicts).message
    assert told.startswith("differences between inputs die:") and "is the same for all inputs" in told


@pytest.mark.parametrize(
    ("activation", "hint"),
    [
        (nn.Tanh, "xavier_normal gain=tanh"),
        (nn.SELU, "lecun_normal"),
        (nn.GELU, "xavier_normal gain=gelu"),
        (nn.Identity, "lecun_normal"),
    ],
)
def test_the_way_out_is_one_for_the_nonlinearity(activation: type[nn.Module], hint: str) -> None:
    net = plain(activation, 20)
    weak = recipe("normal std=0.02")
    found = initplug.probe(net, vectors(generator()), recipes={"weak": weak, "mended": recipe(hint)}, seed=0)
    verdict = only("signal dies", found.judgements["weak"])
    assert verdict.hint is not None and verdict.hint.startswith(hint)
    assert not [one for one in found.judgements["mended"] if one.alarm], "the way out leads out"


def test_numbers_of_verdicts_are_those_of_the_layers() -> None:
    found = initplug.probe(
        CASES["dead units"].build(), vectors(generator()), recipes=dict(CASES["dead units"].faulty), seed=0
    )
    verdict = only("dead units", found.verdicts)
    assert verdict.layer == "5" and verdict.value == found["5"].dead
    assert verdict.message.startswith(f"{verdict.value:.0%} of the units of 5 are dead")


def test_the_branch_that_drowns_the_stream_is_named() -> None:
    case = CASES["drowned stream"]
    found = initplug.probe(case.build(), tokens(generator()), recipes=dict(case.faulty), seed=0)
    verdict = only("drowned stream", found.verdicts)
    assert verdict.layer == "blocks.0" and verdict.value > 20
    assert "factor: {count: <Block>, times: 2}" in str(verdict)


def test_attention_is_judged_whoever_computes_it() -> None:
    class Eager(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            scores = self.q(x) @ self.k(x).transpose(-1, -2) / 8
            mixed: Tensor = functional.softmax(scores, -1) @ self.v(x)
            return mixed

    class Fused(Eager):
        def forward(self, x: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))

    x = torch.randn(2, 16, 64, generator=generator())
    rules = {"rules": {"*.weight": "normal std=0.5", "*.bias": 0}}
    one, other = (initplug.probe(model, x, recipes=rules, seed=0) for model in (Eager(), Fused()))
    peaks = [found.traces[0].attentions[0].peaks for found in (one, other)]
    assert peaks[0].peak == pytest.approx(peaks[1].peak, rel=1e-3)
    model = Eager()
    initplug.apply(model, rules, seed=0)
    with torch.no_grad():
        weights = functional.softmax(model.q(x) @ model.k(x).transpose(-1, -2) / 8, -1)
    assert peaks[0].peak == pytest.approx(weights.amax(-1).mean().item(), rel=1e-4)
    assert only("one-hot attention", one.verdicts).layer == "model"


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_of_torch_itself_is_judged(need_weights: bool) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(64, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(16, 16).triu(1).bool()
            out: Tensor = self.attn(x, x, x, need_weights=need_weights, attn_mask=mask)[0]
            return out

    model, x = Own(), torch.randn(2, 16, 64, generator=generator())
    rules = {"rules": {"*weight": "normal std=0.5", "*bias": 0}}
    found = initplug.probe(model, x, recipes=rules, seed=0)
    assert only("one-hot attention", found.verdicts).layer == "attn"


def test_sound_recipes_get_notes_and_no_alarm() -> None:
    zeros = small(proj=rule("proj.weight", 0), down=rule("down.weight", 0), qkv=rule("qkv.weight", 0))
    found = initplug.probe(Transformer(), tokens(generator()), recipes=zeros, seed=0)
    assert not found.problems()
    assert {verdict.kind for verdict in found.verdicts} == {"zero branches", "uniform attention"}
    assert "12 of 12 residual branches begin as zero, blocks.0 the first" in str(found)
    head = small(head=rule("^head.weight", 0))
    silent = initplug.probe(Transformer(), tokens(generator()), recipes=head, seed=0)
    assert not silent.problems()
    assert only("zero output", silent.verdicts).layer == "head"


def test_the_first_loss_is_the_cross_entropy_of_random_targets() -> None:
    net = nn.Linear(64, 10)
    x = vectors(generator())
    found = initplug.probe(net, x, recipes={"rules": {"*.weight": "normal std=0.6", "*.bias": 0}}, seed=0)
    initplug.apply(net, {"rules": {"*.weight": "normal std=0.6", "*.bias": 0}}, seed=0)
    every = torch.arange(10).repeat_interleave(len(x))
    expected = functional.cross_entropy(net(x).repeat(10, 1), every).item()
    verdict = only("first loss", found.verdicts)
    assert verdict.value == pytest.approx(expected, rel=1e-5)
    assert "far above ln(10) = 2.3" in verdict.message


def test_the_first_layer_that_is_not_finite_is_named() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sqrt()

    net = nn.Sequential(nn.Linear(4, 4), Root(), nn.Linear(4, 4))
    found = initplug.probe(net, torch.randn(8, 4, generator=generator()))
    verdict = only("not finite", found.verdicts)
    assert verdict.layer == "1"
    assert verdict.message == "NaN or infinity first appears in 1 (Root); after 0 was finite"
    assert "null" in found.to_json() and "NaN" not in found.to_json().replace("NaN or", "")


def test_a_gradient_that_is_not_finite_is_told_where_it_begins() -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 0).square().sum(1).sqrt()

    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Norm())
    verdict = only("not finite", initplug.probe(net, torch.randn(8, 4), loss=lambda y: y.sum()).verdicts)
    assert verdict.layer == "1" and "from 1 (Linear) on towards the input" in verdict.message


def test_one_number_is_no_zero() -> None:
    found = initplug.probe(nn.Linear(4, 1), torch.randn(1, 4))
    assert not found.verdicts
    assert found.headline() == "Linear, as it stands: 1 layer, inputs 1×4 float32; no alarms"
