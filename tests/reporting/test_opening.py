"""The first screen of a page: which model, which recipe, when, how many problems, and its two pictures."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.auditing.audit import Audit
from initplug.reporting.pictures import Picture, of_modules
from initplug.tables.totals import MOST_POINTS, by_depth, by_module

SVG = "{http://www.w3.org/2000/svg}"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.h = nn.ModuleList(nn.Linear(2**place, 8) for place in range(6))
        self.head = nn.Linear(8, 10)


RECIPE: dict[str, Any] = {
    "name": "opening",
    "about": "for the first screen",
    "source": ["one", "two"],
    "rules": {"*": 1, "*.weight": "kaiming_normal", "late": {"match": "h.5.bias", "init": 0}},
}


def audit() -> Audit:
    return initplug.apply(Net(), RECIPE, seed=0)


def opening(html: str) -> str:
    return html.split("<main>")[0].split("<body")[1]


def texts(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", html))


def test_it_says_which_model_and_recipe_and_how_large_it_is() -> None:
    told = " ".join(texts(opening(audit().to_html())).split())
    numel = 3 + sum(2**place * 8 + 8 for place in range(6)) + 90
    size = 3 * 8 + (numel - 3) * 4
    assert "initialization audit of Net opening seed 0 · torch" in told
    assert f"15 parameters {numel} elements {size / 1000:.3g} kB" in told
    assert f"float32 {(numel - 3) * 4 / 1000:.3g} kB, float64 24 bytes" in told
    assert "Nothing differs: 15 of 15 parameters are as planned" in told


def test_the_same_facts_are_data() -> None:
    held = audit()
    data = held.to_dict()
    model = Net()
    assert data["model"] == "Net"
    assert data["summary"]["bytes"] == sum(one.numel() * one.element_size() for one in model.parameters())
    assert data["summary"]["dtypes"]["float64"] == {"slots": 1, "numel": 3, "bytes": 24}
    assert data["summary"]["problems"] == 0
    assert data["summary"]["rules"] == {"*": 7, "*.weight": 7, "late": 1}
    assert sum(part["numel"] for part in data["modules"]) == data["summary"]["numel"]
    assert held.plan.to_dict()["model"] == "Net"


def test_problems_are_counted_and_told_first() -> None:
    model = Net()
    initplug.apply(model, RECIPE, seed=0)
    with torch.no_grad():
        model.head.weight.mul_(3)
        model.scale.mul_(3)
    held = initplug.audit(model, RECIPE)
    assert held.to_dict()["summary"]["problems"] == 2
    told = " ".join(texts(opening(held.to_html())).split())
    assert "2 parameters of 15 are not what the recipe says" in told
    assert "Differ: scale , head.weight" in told


def test_a_command_and_a_date_stand_there_only_where_they_are_given() -> None:
    held = audit()
    assert held.to_html() == held.to_html() == audit().to_html()
    html = held.to_html(title="mine <b>", command="initplug apply '<x>' y", date="2026-11-30 00:00 UTC")
    told = texts(opening(html))
    assert "mine <b>" in told
    assert "initplug apply '<x>' y" in told
    assert "· 2026-11-30 00:00 UTC" in told
    assert "<title>mine &lt;b&gt; · initplug audit</title>" in html


def test_the_metadata_of_a_recipe_is_folded_away() -> None:
    html = audit().to_html()
    (folded,) = re.findall(r"<details>(.*?)</details>", html, re.DOTALL)
    assert "<summary>about, source</summary>" in folded
    assert "for the first screen" in folded
    assert html.count("for the first screen") == 1


def test_without_scripts_the_table_is_there() -> None:
    (static,) = re.findall(r"<noscript>(.*?)</noscript>", audit().to_html(), re.DOTALL)
    assert "<td>h.0-4.bias</td><td>8</td><td>*</td><td>constant 1</td>" in static
    assert "can neither search nor sort" in static


def test_of_many_lines_some_are_there_without_scripts() -> None:
    model = nn.ModuleDict({f"{'x' * place}": nn.Linear(1, 1) for place in range(1, 151)})
    html = initplug.apply(model, {"rules": {"*": 0}}).to_html()
    assert "… and 100 more lines" in html


def test_a_report_of_no_parameters_is_a_page() -> None:
    with pytest.warns(initplug.InitplugWarning, match="no parameters"):
        held = initplug.apply(nn.Identity(), {"rules": {}})
    told = texts(opening(held.to_html()))
    assert "Nothing differs: 0 of 0 parameters are as planned" in told


def svg(html: str, picture: str) -> list[ET.Element]:
    figure = html.split(f'id="{picture}"')[1].split("</figure>")[0]
    return [
        ET.fromstring(one.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
        for one in re.findall(r"<svg .*?</svg>", figure, re.DOTALL)
    ]


def test_bars_are_as_long_as_modules_are_large() -> None:
    held = audit()
    bars = svg(held.to_html(), "of-modules")
    parts = held.to_dict()["modules"]
    assert [part["name"] for part in parts] == ["the model", "h.0-5", "head"]
    most = max(part["numel"] for part in parts)
    for bar, part in zip(bars, parts, strict=True):
        rect, title = bar.find(f"{SVG}rect"), bar.find(f"{SVG}title")
        assert rect is not None and title is not None
        assert float(rect.attrib["width"]) == pytest.approx(100 * part["numel"] / most, rel=0.01)
        assert str(title.text).startswith(part["name"])
        assert bar.attrib["role"] == "img"


def test_points_fall_as_deviations_do() -> None:
    (plot,) = svg(audit().to_html(), "of-depth")
    assert plot.attrib["aria-labelledby"] == "depth-title depth-desc"
    description = plot.find(f"{SVG}desc")
    assert description is not None and "Linear.weight" in str(description.text)
    (group,) = plot.findall(f"{SVG}g")
    paths = {path.attrib["class"]: path.attrib["d"] for path in group.iter(f"{SVG}path")}
    points = {kind: re.findall(r"M([\d.]+) ([\d.]+)", path) for kind, path in paths.items()}
    assert len(points["expected"]) == len(points["measured"]) == 7
    falls = [float(y) for _, y in points["expected"]][:6]
    # Each layer has twice the inputs of the one before: on a scale of powers the steps are equal.
    steps = [after - before for before, after in pairwise(falls)]
    assert steps == pytest.approx([steps[0]] * 5, abs=0.15)
    assert steps[0] > 0


def test_modules_that_are_told_apart_are_the_whole() -> None:
    names = [f"body.{block}.{part}.weight" for block in range(30) for part in ("a", "b")]
    rows = [{"name": name, "numel": 7} for name in [*names, "tail.weight", "own"]]
    found = by_module(rows)
    assert [part["name"] for part in found] == ["body.0-29.a", "body.0-29.b", "tail", "the model"]
    assert [part["numel"] for part in found] == [210, 210, 7, 7]


def test_of_many_points_the_lowest_and_highest_are_kept() -> None:
    stds = [1 + math.sin(place) / 2 for place in range(5000)]
    stds[2500] = 77.0
    rows = [{"name": f"{place}.w", "module_type": "Linear", "std": std} for place, std in enumerate(stds)]
    (kind,) = by_depth(rows)
    assert len(kind["places"]) <= MOST_POINTS
    assert kind["places"] == sorted(kind["places"])
    assert max(kind["expected"]) == 77.0
    assert min(kind["expected"]) == min(stds)


def test_further_pictures_stand_beside_those_of_the_page() -> None:
    picture = Picture("mine", "a & b", "<svg role='img'><title>t</title></svg>", {"points": [1, 2]})
    html = audit().to_html(pictures=[picture])
    assert '<figure class="picture" id="mine"><h2>a &amp; b</h2><svg' in html
    assert '"mine":{"points":[1,2]}' in html


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["body.0-11.up", "body.0-11.down"], ["up", "down"]),
        (["body.0-11.up", "body.0-11.down", "the model"], ["up", "down", "the model"]),
        (["body.0-11.up", "body.head", "<b>"], ["body.0-11.up", "body.head", "<b>"]),
        (["body.norm"], ["body.norm"]),
    ],
)
def test_what_all_modules_are_below_is_told_once(names: list[str], shown: list[str]) -> None:
    picture = of_modules([{"name": name, "slots": 1, "numel": 1} for name in names])
    labels = re.findall(r'<span class="name">(.*?)</span>', picture.html)
    assert [unescape(re.sub("<[^>]*>", "", label)) for label in labels] == shown
