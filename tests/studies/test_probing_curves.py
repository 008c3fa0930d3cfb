"""Curves that papers drew come out as they drew them; pictures and tables show them."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from signal_nets import Transformer, plain, recipe, residual, rule, small, tokens
from torch import Tensor, nn

import initplug
from initplug import InitplugError
from initplug.studies.probing.comparison import Probe, beside
from initplug.studies.probing.traces import Trace


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(trace: Trace) -> list[float]:
    """The root of the second moment at each station but the head: what the formulas of the papers are about."""
    return [math.hypot(one.layer.std or 0, one.layer.mean or 0) for one in trace.stations[:-1]]


def gradients(trace: Trace) -> list[float]:
    return [one.layer.gradient or 0 for one in trace.stations[:-1]]


def steps(values: list[float]) -> float:
    """The factor from one to the next, in the geometric mean."""
    return float((values[-1] / values[0]) ** (1 / (len(values) - 1)))


# Papers --------------------------------------------------------------------------------------------------------


def test_he_2015_figure_3_xavier_stalls_and_kaiming_holds() -> None:
    net = plain(nn.ReLU, 30, width=256)
    x = torch.randn(32, 256, generator=generator())
    recipes = {"xavier": recipe("xavier_normal"), "kaiming": recipe("kaiming_normal nonlinearity=relu")}
    found = initplug.probe(net, x, recipes=recipes, seed=0)
    xavier, kaiming = found.traces
    # Half of the variance is lost in each rectifier, and half of that of the gradient (equations 10 and 14).
    assert steps(levels(xavier)) == pytest.approx(math.sqrt(0.5), rel=0.04)
    assert steps(levels(kaiming)) == pytest.approx(1, rel=0.04)
    assert steps(gradients(xavier)[::-1]) == pytest.approx(math.sqrt(0.5), rel=0.04)
    assert steps(gradients(kaiming)[::-1]) == pytest.approx(1, rel=0.04)
    assert [verdict.kind for verdict in found.problems()] == ["signal dies", "gradient vanishes"]
    assert not any(verdict.alarm for verdict in found.judgements["kaiming"])


def test_glorot_2010_the_old_standard_shrinks_and_theirs_keeps() -> None:
    # U(±1/√n) has a third of the variance that keeps signals (section 4.2.1); tanh is nearly linear for small ones.
    net = plain(nn.Tanh, 6, width=300)
    x = 0.1 * torch.randn(64, 300, generator=generator())
    recipes = {
        "standard": recipe(f"uniform {-1 / math.sqrt(300)} {1 / math.sqrt(300)}"),
        "theirs": recipe("xavier_uniform"),
    }
    standard, theirs = initplug.probe(net, x, recipes=recipes, seed=0).traces
    assert steps(levels(standard)) == pytest.approx(math.sqrt(1 / 3), rel=0.04)
    assert steps(levels(theirs)) == pytest.approx(1, rel=0.04)
    assert steps(gradients(standard)[::-1]) == pytest.approx(math.sqrt(1 / 3), rel=0.06)
    assert steps(gradients(theirs)[::-1]) == pytest.approx(1, rel=0.04)


@pytest.mark.parametrize("std", [0.8, 1.0, 1.2])
def test_selu_with_lecun_normal_goes_to_mean_0_and_std_1(std: float) -> None:
    # Klambauer et al. 2017, theorem 1: (0, 1) is a fixed point that attracts.
    net = plain(nn.SELU, 16, width=512)
    x = std * torch.randn(64, 512, generator=generator())
    trace = initplug.probe(net, x, recipes=recipe("lecun_normal"), seed=0).traces[0]
    last = trace.stations[-2].layer
    assert last.mean == pytest.approx(0, abs=0.06) and last.std == pytest.approx(1, abs=0.08)
    assert abs((last.std or 0) - 1) < max(abs((trace.layers[1].std or 0) - 1), 0.05)


def test_residual_nets_grow_with_depth_and_are_flat_under_fixup_and_zero_branches() -> None:
    # Zhang et al. 2019: without a norm each block adds the variance of its branch to that of its input.
    depth = 20
    net = residual(depth)
    x = torch.randn(64, 64, generator=generator())
    kaiming = recipe("kaiming_normal nonlinearity=relu")
    fixup = recipe(
        {"fn": "kaiming_normal", "nonlinearity": "relu", "factor": {"count": "<ResidualBlock>", "power": -0.5}},
        last=rule("last.weight", 0),
    )
    scaled = recipe(
        "kaiming_normal nonlinearity=relu",
        last=rule("last.weight", {"fn": "kaiming_normal", "factor": {"count": "<ResidualBlock>", "power": -0.5}}),
    )
    recipes = {
        "kaiming": kaiming,
        "fixup": fixup,
        "zeros": recipe("kaiming_normal", z=rule("last.weight", 0)),
        "scaled": scaled,
    }
    found = initplug.probe(net, x, recipes=recipes, seed=0)
    grown = {trace.name: (trace.stations[-1].layer.std or 0) / (trace.stations[0].layer.std or 1) for trace in found}
    # Var(x + f(x)) = Var x + 2 Var x: the branch has a rectifier between two layers that double.
    assert 3 ** ((depth - 1) / 2) / 6 < grown["kaiming"] < 3 ** ((depth - 1) / 2) * 6
    assert grown["fixup"] == grown["zeros"] == 1
    assert 1 < grown["scaled"] < math.e  # (1 + 2/L)^L is at most e², of the std e
    assert {verdict.kind for verdict in found.problems()} >= {"signal explodes"}
    assert [verdict.kind for verdict in found.judgements["zeros"]] == ["zero branches"]


def test_residual_scaling_keeps_the_stream_of_a_transformer() -> None:
    # Radford et al. 2019, section 2.3: the stream's variance grows with the number of branches, 1/√N takes it back.
    depth = 12
    net = Transformer(depth=depth)
    factor = {"fn": "normal", "std": 0.1, "factor": {"count": "<Block>", "times": 2}}
    recipes = {
        "plain": small(weights=rule("<Linear>.weight", "normal std=0.1")),
        "scaled": small(weights=rule("<Linear>.weight", "normal std=0.1"), ends=rule("(proj|down).weight", factor)),
    }
    plainly, scaled = initplug.probe(net, tokens(generator()), recipes=recipes, seed=0).traces
    ends = [trace.stations[-1].layer.std or 0 for trace in (plainly, scaled)]
    assert ends[0] / ends[1] == pytest.approx(math.sqrt(2 * depth), rel=0.15)


class MuNet(nn.Module):
    """Layers whose width is what is varied; inputs and outputs have sizes of their own."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.hidden = nn.Linear(32, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.hidden(self.first(x).relu()).relu())
        return y


MUP = recipe("kaiming_normal nonlinearity=relu", head=rule("last.weight", "normal std=0.5"))
SOUND = recipe("kaiming_normal nonlinearity=relu", head=rule("last.weight", "lecun_normal"))


def swept(rules: Any, widths: list[int]) -> Probe:
    x = torch.randn(512, 32, generator=generator())
    parts = [(str(width), initplug.probe(MuNet(width), x, recipes={"r": rules}, seed=0)) for width in widths]
    return beside(parts, "width")


def drawn(width: int, x: Tensor) -> list[Trace]:
    return [initplug.probe(MuNet(width), x, recipes=SOUND, seed=seed).traces[0] for seed in range(8)]


@pytest.mark.parametrize("widths", [[64, 128, 256, 512]])
def test_widths_keep_their_scale_within_a_tenth(widths: list[int]) -> None:
    # Yang & Hu 2021: coordinates of hidden layers are Θ(1) whatever the width. Averaged over some draws, since one of
    # 64 units alone scatters by more than a tenth.
    x = torch.randn(256, 32, generator=generator())
    stds = {
        width: [
            np.mean(
                [(initplug.probe(MuNet(width), x, recipes=SOUND, seed=seed)[name].std or 0) ** 2 for seed in range(8)]
            )
            for name in ("first", "hidden")
        ]
        for width in widths
    }
    for place in range(2):
        column = [math.sqrt(stds[width][place]) for width in widths]
        assert max(column) / min(column) < 1.1


def test_what_grows_with_width_is_told_with_its_power() -> None:
    found = swept(MUP, [32, 128, 512])
    growth = {one.layer: one.exponent for one in found.growth()}
    assert growth["last"] == pytest.approx(0.5, abs=0.1)
    assert abs(growth["hidden"]) < 0.1
    assert re.search(r"r: 1 of 5 layers change with width: std goes with width\^0\.\d+ in last", str(found))
    assert "whatever width is" in str(swept(SOUND, [32, 128, 512]))


# Pictures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> Probe:
    net = plain(nn.ReLU, 30)
    x = torch.randn(32, 64, generator=generator())
    recipes = {"xavier": recipe("xavier_normal"), "kaiming & more <b>": recipe("kaiming_normal nonlinearity=relu")}
    return initplug.probe(net, x, recipes=recipes, seed=0)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_text_fits_the_terminal(found: Probe, width: int) -> None:
    lines = found.to_text(width=width).splitlines()
    assert max(map(len, lines)) <= width
    bars = next(line for line in lines if line.startswith(" xavier"))
    assert bars.count("█") and bars.index("█") < bars.index("▁"), "from left to right it dies"


def test_every_line_is_drawn_on_one_scale(found: Probe) -> None:
    lines = found.to_text(width=160).splitlines()
    kaiming = next(line for line in lines if line.startswith(" kaiming"))
    assert set(re.findall("[▁▂▃▄▅▆▇█]", kaiming)) <= {"▇", "█"}


def test_the_svg_holds_a_line_for_each_recipe_at_its_values(found: Probe) -> None:
    text = found.to_svg()
    root = ElementTree.fromstring(text)
    space = {"s": "http://www.w3.org/2000/svg"}
    lines = root.findall(".//s:polyline", space)
    assert [line.find("s:title", space).text for line in lines] == ["xavier", "kaiming & more <b>"] * 3  # type: ignore[union-attr]
    solid = lines[2]
    points = [tuple(map(float, point.split(","))) for point in solid.attrib["points"].split()]
    assert len(points) == 31
    heights = np.array([y for _, y in points])
    values = np.log10([station.layer.std for station in found.traces[0].stations])  # type: ignore[arg-type]
    slope, offset = np.polyfit(values, heights, 1)
    assert slope < 0 and np.allclose(heights, slope * values + offset, atol=0.2), "a scale of logarithms"
    assert "signal dies" in root.find("s:desc", space).text  # type: ignore[operator, union-attr]


def test_files_hold_what_was_found(found: Probe, tmp_path: Path) -> None:
    for suffix in (".json", ".csv", ".md", ".svg", ".png"):
        found.save(tmp_path / f"probe{suffix}")
    data = json.loads((tmp_path / "probe.json").read_text())
    assert data["schema"] == 1 and [trace["name"] for trace in data["traces"]] == ["xavier", "kaiming & more <b>"]
    assert data["traces"][0]["layers"][0]["std"] == found["0"].std
    assert data["traces"][0]["verdicts"][0]["kind"] == "signal dies"
    table = (tmp_path / "probe.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * 61 and table[0].startswith("trace,name,kind,")
    assert (tmp_path / "probe.md").read_text().startswith("- xavier: ")
    assert (tmp_path / "probe.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InitplugError, match="unknown suffix"):
        found.save(tmp_path / "probe.gif")


def test_a_png_without_matplotlib_says_what_to_install(
    found: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InitplugError, match=r"pip install matplotlib, or save \.svg"):
        found.save(tmp_path / "probe.png")
    assert not (tmp_path / "probe.png").exists()


def test_many_layers_are_shown_by_those_that_tell_most() -> None:
    found = initplug.probe(plain(nn.ReLU, 60), torch.randn(32, 64, generator=generator()))
    assert re.search("5[0-9] layers more: --all, or every=True", found.to_text(width=120))
    assert "layers more" not in found.to_text(width=120, every=True)
    assert "Linear" not in found.to_text(width=80) and "Linear" in found.to_text(width=120)
