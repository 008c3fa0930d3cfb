"""The page as a file: what it embeds, what it may do, and what it is written from."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import string
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import initplug
from initplug.auditing.audit import Audit

RULES = {"w": {"match": "*.weight", "init": "normal std=0.02"}, "off": None, "*.bias": 0}


def audit(**options: Any) -> Audit:
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(10)), nn.Embedding(5, 4))
    return initplug.apply(model, {"name": "small", "rules": RULES}, seed=3, **options)


def embedded(html: str) -> Any:
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert len(found) == 1
    assert "<" not in found[0]
    return json.loads(found[0])


def told(column: Any, place: int) -> Any:
    """The value of a row in a column of distinct values and the places of each row's own."""
    values, codes = column
    return values[place if codes is None else codes if isinstance(codes, int) else codes[place]]


def counts(packed: list[Any]) -> tuple[Any, ...]:
    """The ends of a histogram, what lies outside, how many there are in all, and the numbers of its bins."""
    low, high, below, above, total, letters = packed
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    pairs = zip(letters[::2], letters[1::2], strict=True)
    return low, high, below, above, total, [digits.index(one) * 64 + digits.index(other) for one, other in pairs]


def test_the_data_is_what_the_audit_holds() -> None:
    held = audit()
    data, plain = embedded(held.to_html()), held.to_dict()
    assert data["names"] == [row["name"] for row in plain["rows"]]
    assert data["pictures"] == {"of-modules": plain["modules"], "of-depth": plain["depths"]}
    for place, row in enumerate(plain["rows"]):
        assert data["aliases"].get(str(place), []) == row["aliases"]
        for key in ("status", "verdict", "reason", "problem"):
            assert told(data[key], place) == row[key]
        for key in ("mean", "std", "min", "max"):
            assert data[f"measured_{key}"][place] == pytest.approx(row[f"measured_{key}"], rel=1e-5)
        assert data["measured_count"][place] == row["measured_count"]
        share = data["share"][place]
        for key in ("rule", "selector", "location", "shadowed", "init", "shape", "fan_in", "fan_out"):
            assert told(data["shares"][key], share) == row[key]
        assert told(data["shares"]["std"], share) == pytest.approx(row["std"], rel=1e-5)


def test_what_many_rows_share_stands_there_once() -> None:
    data = embedded(audit().to_html())
    assert (len(data["names"]), max(data["share"]) + 1, len(data["curves"])) == (21, 3, 2)
    (xs, ys, atoms), constant = data["curves"]
    assert max(ys) == pytest.approx(1 / (2 * torch.pi) ** 0.5, abs=1e-4)  # in units of the deviation
    assert min(xs) == -max(xs)
    assert atoms == []
    assert constant == [[], [], [[0, 1]]]


def test_densities_of_one_form_are_one_curve() -> None:
    model = nn.Sequential(*(nn.Linear(size, size) for size in range(2, 40)))
    rules = {
        "*.weight": "kaiming_normal",
        "*.bias": "uniform -0.5 0.5",
        "last": {"match": "37.*", "init": "uniform 0 7"},
    }
    data = embedded(initplug.apply(model, {"rules": rules}, seed=0).to_html())
    assert len(data["curves"]) == 2


def test_repeated_blocks_are_found_as_in_the_terminal() -> None:
    held = audit(histograms=True)
    data = embedded(held.to_html())
    assert data["blocks"]["name"] == ["0-9.weight", "0-9.bias"]
    assert data["blocks"]["rows"] == [[0, 2, 10], [1, 2, 10]]
    weights = torch.cat([torch.tensor(row.measured_mean).view(1) for row in held if row.name.endswith("weight")][:10])
    assert data["blocks"]["measured_mean"][0] == pytest.approx(float(weights.mean()), rel=1e-5)
    assert data["blocks"]["measured_count"] == [2560, 160]


def test_histograms_of_many_rows_are_put_together() -> None:
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(40)))
    held = initplug.apply(model, {"rules": {"*.weight": "normal std=0.02", "*.bias": 0}}, seed=3, histograms=True)
    low, high, below, above, total, bins = counts(embedded(held.to_html())["blocks"]["histograms"]["0"])
    assert total == 40 * 256
    assert below + above == sum(one.below + one.above for one in held.histograms.values())
    values = torch.cat([layer.weight.detach().flatten() for layer in model if isinstance(layer, nn.Linear)])
    expected = torch.histc(values, bins=len(bins), min=low, max=high)
    shares = torch.tensor(bins) / sum(bins)
    assert torch.allclose(shares, expected / expected.sum(), atol=0.004)  # spread over bins that lie a little elsewhere


def test_the_recipe_stands_there_rule_by_rule() -> None:
    html = audit().to_html()
    assert embedded(html)["rules"] == ["w", "off", "*.bias"]
    listing = html.split('id="rules">')[1].split("</section>")[0]
    text = "\n".join(unescape(part) for part in re.findall(r"<(?:pre|code)>(.*?)</(?:pre|code)>", listing, re.DOTALL))
    assert initplug.load(f"{text}\n") == initplug.load({"name": "small", "rules": RULES})
    assert re.findall(r'class="hits">(.*?)</span>', listing) == ["11", "off", "10"]


def test_places_in_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rules:\n  *.weight: 1\n  *.bias: 0\n")
    html = initplug.apply(nn.Linear(2, 2), path).to_html()
    assert [unescape(title) for title in re.findall(r' title="([^"]*:\d)"', html)] == [f"{path}:2", f"{path}:3"]


def test_histograms_are_there_where_they_were_asked_for() -> None:
    plain, counted = embedded(audit().to_html()), embedded(audit(histograms=True).to_html())
    assert (plain["counted"], counted["counted"]) == (False, True)
    assert plain["histograms"] == {}
    drawn = [counted["names"][int(place)] for place in counted["histograms"]]
    assert drawn == [name for name in counted["names"] if name.endswith("weight")]
    for place, packed in counted["histograms"].items():
        low, high, below, above, total, bins = counts(packed)
        assert low < 0 < high
        assert below + above + sum(bins) == total == counted["measured_count"][int(place)]


def test_only_its_own_script_may_run() -> None:
    html = audit().to_html()
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(policy) == len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[0]
    assert policy[0].startswith("default-src 'none'")
    outside = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert re.findall(r"https?://[^\"' ]*", outside) == ["http://www.w3.org/2000/svg"]


def test_no_name_is_markup() -> None:
    model = nn.Module()
    for name in ("</script><b>", "<!--<script>", "{{data}}", "{{script}}", "\ud800", "\u2028"):
        model.register_parameter(name, nn.Parameter(torch.zeros(2)))
    html = initplug.apply(model, {"name": "</title><b>", "rules": {"*": 0}}).to_html()
    assert html.count("</script>") == 2
    assert html.count("<b>") == 1 + 5  # the model's class, and the numbers of the summary
    assert "<title>&lt;/title&gt;&lt;b&gt; · initplug audit</title>" in html
    assert embedded(html)["names"] == [name for name, _ in model.named_parameters()]


def test_it_is_saved_by_its_suffix(tmp_path: Path) -> None:
    held = audit(histograms=True)
    held.save(tmp_path / "audit.html")
    assert (tmp_path / "audit.html").read_text(encoding="utf-8") == held.to_html()
    model = nn.ParameterDict({"\ud800": torch.zeros(2)})
    odd = initplug.apply(model, {"rules": {"*": 0}})
    for suffix in ("html", "json", "csv", "md"):
        odd.save(tmp_path / f"odd.{suffix}")
    assert json.loads((tmp_path / "odd.json").read_text(encoding="utf-8"))["rows"][0]["name"] == "\ud800"


@pytest.mark.filterwarnings("ignore:the Identity has no parameters")
@pytest.mark.parametrize("suffix", ["html", "json", "csv", "md"])
def test_there_is_no_report_of_an_empty_model(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"audit.{suffix}"
    path.write_text("yesterday's")
    with pytest.raises(initplug.InitplugError) as caught:
        initplug.apply(nn.Identity(), {"rules": {}}).save(path)
    assert str(caught.value) == f"{path}: nothing to report: the model has no parameters; the file is left as it is"
    assert path.read_text() == "yesterday's"


def test_an_unknown_suffix_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(initplug.InitplugError) as caught:
        audit().save(tmp_path / "audit.htm")
    assert str(caught.value) == f"{tmp_path / 'audit.htm'}: unknown suffix '.htm' (did you mean .html?)"
    with pytest.raises(initplug.InitplugError) as caught:
        audit().save(tmp_path / "no" / "audit.html")
    assert str(caught.value).endswith(f"cannot be written: there is no folder {tmp_path / 'no'}")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_a_table_of_blocks() -> None:
    html = audit()._repr_html_()
    assert html.count("<tr>") == 1 + 3
    assert "<td>0-9.weight</td>" in html
    assert "21 initialized, 21 ok" in html
    assert "<script" not in html
