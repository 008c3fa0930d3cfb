"""The page as a file: what it embeds, what it may do, and what it is written from."""

from __future__ import annotations

import base64
import hashlib
import json
import re
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


def test_the_data_is_what_the_audit_holds() -> None:
    held = audit()
    data, plain = embedded(held.to_html()), held.to_dict()
    for key in ("recipe", "digest", "seed", "versions", "summary", "unmatched", "unused", "notes"):
        assert data[key] == plain[key]
    assert len(data["rows"]) == len(plain["rows"])
    for (name, aliases, mean, std, low, high, count, status, verdict, share, _), row in zip(
        data["rows"], plain["rows"], strict=True
    ):
        common = data["shares"][share]
        assert (name, aliases, status, verdict) == (row["name"], row["aliases"], row["status"], row["verdict"])
        assert count == row["measured_count"]
        assert [mean, std, low, high] == pytest.approx([row[f"measured_{k}"] for k in ("mean", "std", "min", "max")])
        for key in ("rule", "selector", "location", "shadowed", "init", "shape", "fan_in", "fan_out", "mean", "std"):
            assert common[key] == row[key]


def test_what_many_rows_share_stands_there_once() -> None:
    data = embedded(audit().to_html())
    assert (len(data["rows"]), len(data["shares"]), len(data["curves"])) == (21, 3, 2)
    _, ys, atoms = data["curves"][data["shares"][0]["curve"]]
    assert max(ys) == pytest.approx(1 / (0.02 * (2 * torch.pi) ** 0.5))
    assert atoms == []
    assert data["curves"][data["shares"][1]["curve"]] == [[], [], [[0, 1]]]


def test_the_recipe_stands_there_rule_by_rule() -> None:
    data = embedded(audit().to_html())
    assert data["head"] == "name: small\nunmatched: error\nunused: warn\nfrozen: keep\n"
    assert [(rule["name"], rule["disabled"]) for rule in data["rules"]] == [
        ("w", False),
        ("off", True),
        ("*.bias", False),
    ]
    text = (
        data["head"]
        + "rules:\n"
        + "".join(f"  {line}\n" for rule in data["rules"] for line in rule["text"].splitlines())
    )
    assert initplug.load(text) == initplug.load({"name": "small", "rules": RULES})


def test_places_in_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rules:\n  *.weight: 1\n  *.bias: 0\n")
    data = embedded(initplug.apply(nn.Linear(2, 2), path).to_html())
    assert [rule["location"] for rule in data["rules"]] == [f"{path}:2", f"{path}:3"]


def test_histograms_are_there_where_they_were_asked_for() -> None:
    plain, counted = embedded(audit().to_html()), embedded(audit(histograms=True).to_html())
    assert (plain["counted"], counted["counted"]) == (False, True)
    assert {row[-1] for row in plain["rows"]} == {None}
    for row in counted["rows"]:
        if row[0].endswith("bias"):
            assert row[-1] is None
        else:
            low, high, below, above, counts = row[-1]
            assert low < 0 < high
            assert below + above + sum(counts) == row[6]


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
    assert html.count("<b>") == 0
    assert "<title>&lt;/title&gt;&lt;b&gt; · initplug audit</title>" in html
    assert [row[0] for row in embedded(html)["rows"]] == [name for name, _ in model.named_parameters()]


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
