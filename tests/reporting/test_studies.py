"""Pages of recordings and diffs, and what notebooks, spreadsheets and pandas get of studies and plans."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas  # type: ignore[import-untyped]  # it has no types of its own
import pytest
import torch
from browser import opened, required, sized
from click.testing import CliRunner
from selenium.webdriver.common.by import By
from torch import nn

import initplug
from initplug.cli.commands import commands
from initplug.studies.diff import Diff
from initplug.studies.recording.recording import Recording

HOSTILE = ("</script><b>", "<!--", "\u202eback", "x" * 3000, "שלום")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(8), nn.Linear(8, 16)
        nn.init.normal_(self.up.weight, std=0.02)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.odd = nn.Parameter(torch.randn(4, 4) * torch.randn(4, 4))


class Hostile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name in HOSTILE:
            self.register_parameter(name, nn.Parameter(torch.randn(4, 4)))


OURS: dict[str, Any] = {
    "name": "ours",
    "unmatched": "keep",
    "rules": {
        "*.bias": 0,
        "norms": {"match": "norm.weight", "init": 1},
        "up": {"match": "up.weight", "init": "normal std=0.04"},
    },
}


@pytest.fixture(scope="module")
def recording() -> Recording:
    return initplug.record(Net)


@pytest.fixture(scope="module")
def difference(recording: Recording) -> Diff:
    return initplug.diff(Net(), recording, initplug.load(OURS))


def line_of(text: str) -> int:
    """The line of this file that holds a text."""
    return next(place for place, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def data_of(html: str) -> Any:
    return json.loads(html.partition('id="data">')[2].partition("</script>")[0])


def texts(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.split("<main>")[0].split("<body")[1])).split())


def test_the_page_of_a_recording_tells_lines_and_problems(recording: Recording) -> None:
    html = recording.to_html()
    told = texts(html)
    assert "what the code of Net initialises Net initplug" in told
    given = len(recording.rows) - 1
    assert f"give {given} of {given + 1} parameters what the code does" in told
    assert f"odd : computed: mul (of two draws) (tests/reporting/test_studies.py:{line_of('self.odd = ')})" in told
    data = data_of(html)
    assert data["names"] == [row.name for row in recording]
    assert {*data["verdict"][0]} == {"ok", "differs"}


def test_the_recipe_drafted_stands_there_with_hits(recording: Recording) -> None:
    listing = recording.to_html().split('id="rules">')[1].split("</section>")[0]
    hits = [int(hit) for hit in re.findall(r'class="hits">(\d+)', listing)]
    assert hits == [list(recording.takers.values()).count(rule) for rule in recording.recipe.rules]
    assert sum(hits) == len(recording.rows)
    assert "# 4 parameters; tests/reporting/test_studies.py:" in listing


def test_the_page_of_a_diff_has_both_sides(difference: Diff) -> None:
    html = difference.to_html()
    told = texts(html)
    assert "recorded and ours" in told
    assert "– → up : 4 slots, std ×2" in told
    data = data_of(html)
    assert (data["a"], data["b"]) == ("recorded", "ours")
    assert data["names"] == sorted(data["names"], key=[row.name for row in difference].index) or len(
        data["names"]
    ) == len(difference)
    assert len(data["curves"]) >= 1


def test_a_diff_of_equals_is_a_page(recording: Recording) -> None:
    same = initplug.diff(None, recording, recording)
    assert "a and b give all 17 slots the same" in texts(same.to_html())
    assert data_of(same.to_html())["names"] == []
    assert same._repr_html_().endswith("<p>a and b give all 17 slots the same</p>")


def test_both_are_pages_in_a_browser(recording: Recording, difference: Diff, tmp_path: Path) -> None:
    required()
    hostile = initplug.record(Hostile)
    pages: dict[str, Any] = {
        "recording": recording,
        "diff": difference,
        "same": initplug.diff(None, recording, recording),
        "hostile": hostile,
        "plan": initplug.plan(Net(), OURS),
        "hostile_diff": initplug.diff(Hostile(), hostile, {"rules": {"*": 0}}),
    }
    with opened(tmp_path / "profile") as driver:
        for width in (400, 1440):
            sized(driver, width, 1000)
            for name, report in pages.items():
                (tmp_path / f"{name}.html").write_text(report.to_html(), encoding="utf-8")
                driver.get((tmp_path / f"{name}.html").as_uri())
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
                for row in driver.find_elements(By.CSS_SELECTOR, "#rows button.name")[:2]:
                    driver.execute_script("arguments[0].click()", row)
                assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium has no types there
        driver.get((tmp_path / "diff.html").as_uri())
        driver.execute_script("document.querySelector('#rows').reveal('blocks.0-3.up.weight')")
        row = next(one for one in driver.find_elements(By.CSS_SELECTOR, "tr.row") if "up.weight" in one.text)
        assert row.find_element(By.CSS_SELECTOR, ".c-ratio").text == "×2"
        assert len(row.find_elements(By.CSS_SELECTOR, ".c-drawn path")) == 2
        row.find_element(By.CSS_SELECTOR, "button.name").click()
        driver.execute_script("document.querySelector('#rows').reveal('blocks.2.up.weight')")
        driver.execute_script("document.activeElement.click()")
        detail = driver.find_element(By.CSS_SELECTOR, "tr.detail").text
        assert "×2" in detail and "rule up" in detail and "normal std=0.04" in detail
        driver.get((tmp_path / "recording.html").as_uri())
        driver.execute_script("document.querySelector('#rows').reveal('odd'); document.activeElement.click()")
        detail = driver.find_element(By.CSS_SELECTOR, "tr.detail").text
        assert f"test_studies.py:{line_of('self.odd = ')}" in detail
        assert "computed: mul (of two draws)" in detail


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert attrs == []


def test_notebooks_get_small_tables_without_scripts() -> None:
    model, recipe = Hostile(), {"name": "</script>", "about": "<b>\u202e", "rules": {"*": "normal"}}
    recording = initplug.record(Hostile)
    shown: list[Any] = [
        initplug.load(recipe),
        initplug.plan(model, recipe),
        initplug.apply(model, recipe, seed=0),
        initplug.suggest(model),
        recording,
        initplug.diff(model, recording, recipe),
    ]
    for one in shown:
        html = one._repr_html_()
        reader = Reader()
        reader.feed(html)
        assert reader.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "pre"}
        assert "\u202e" not in html
    folded = initplug.plan(nn.Sequential(*(nn.Linear(4, 4) for _ in range(500))), {"rules": {"*": 0}})
    assert folded._repr_html_().count("<tr>") == 3


def test_a_recipe_prints_as_its_text() -> None:
    recipe = initplug.load("resnext")
    assert f"{recipe}\n" == recipe.to_yaml()
    assert initplug.load(str(recipe)) == recipe


@pytest.mark.parametrize("suffix", ["html", "json", "csv", "md"])
def test_all_are_saved_by_their_suffix(recording: Recording, difference: Diff, tmp_path: Path, suffix: str) -> None:
    plan = initplug.plan(Net(), OURS)
    kind = {"md": "markdown"}.get(suffix, suffix)
    saved: dict[str, Any] = {"recording": recording, "diff": difference, "plan": plan}
    for name, one in saved.items():
        path = tmp_path / f"{name}.{suffix}"
        one.save(path)
        assert path.read_bytes().decode() == getattr(one, f"to_{kind}")()
    if suffix == "csv":
        rows = [*csv.DictReader(io.StringIO(recording.to_csv()))]
        assert [row["name"] for row in rows] == [row.name for row in recording]
        assert rows[-1 if rows[-1]["name"] == "odd" else 0]["holds"] == "computed: mul (of two draws)"


def test_what_is_said_on_pages_alone_is_refused_elsewhere(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(initplug.InitplugError) as caught:
        recording.save(tmp_path / "one.json", date="today")
    assert str(caught.value) == f"{tmp_path / 'one.json'}: date: for pages alone, which end in .html"
    recording.save(tmp_path / "one.html", date="today")
    assert "· today" in (tmp_path / "one.html").read_text()


def test_the_markdown_of_a_diff_has_both_sides(difference: Diff) -> None:
    head, _, *lines = difference.to_markdown().splitlines()
    assert head.startswith("| name | shape | what | a | b | ratio | rule_a | rule_b |")
    assert len(lines) == len(difference)
    up = next(line for line in lines if "blocks.0.up.weight" in line)
    assert "`normal std=0.04: 0 ± 0.04`" in up and "| 2 |" in up


def test_frames_have_a_row_for_each(recording: Recording, difference: Diff) -> None:
    for one in (initplug.plan(Net(), OURS), initplug.apply(Net(), OURS, seed=0), recording, difference):
        frame = one.to_frame()
        assert isinstance(frame, pandas.DataFrame)
        assert [*frame["name"]] == [row.name for row in one]


def test_frames_without_pandas_are_refused_by_name(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    expected = r"a frame is made by pandas, which is not here .*: pip install pandas"
    for one in (initplug.plan(Net(), OURS), initplug.apply(Net(), OURS, seed=0), recording):
        with pytest.raises(initplug.InitplugError, match=expected):
            one.to_frame()


MODEL = (
    "import torch\nfrom torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))\n"
)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    (folder / "model.py").write_text(MODEL)
    (folder / "ours.yaml").write_text("rules:\n  '*.weight': normal std=0.5\n  '*.bias': 0\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["initplug", *words])
    return CliRunner().invoke(commands, [*words])


def test_the_command_line_writes_pages_of_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(tmp_path, monkeypatch, "record", "model.py:build", "--report", "net.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "net.html").read_text()
    assert "<code>initplug record model.py:build --report net.html</code>" in page
    assert re.search(r"· 20\d\d-\d\d-\d\d \d\d:\d\d UTC", texts(page))
    done = run(tmp_path, monkeypatch, "diff", "model.py:build", "recorded", "ours.yaml", "--real", "--report", "d.html")
    assert done.exit_code == 0, done.output
    assert "3 of 4 slots differ between recorded and ours.yaml" in texts((tmp_path / "d.html").read_text())


def test_the_command_line_prints_a_diff_as_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("diff", "model.py:build", "ours.yaml", "torch_default")
    done = run(tmp_path, monkeypatch, *words, "--markdown")
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
    assert done.stdout == initplug.diff(model, "ours.yaml", "torch_default").to_markdown()
    both = run(tmp_path, monkeypatch, *words, "--markdown", "--json")
    assert both.exit_code == 2
    assert "--json and --markdown are two forms of one output" in both.output


@pytest.mark.parametrize("words", [("record", "model.py:build"), ("diff", "model.py:build", "ours.yaml", "wrn")])
def test_a_report_that_cannot_be_written_is_refused_first(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(tmp_path, monkeypatch, *words, "--report", "net.pdf")
    assert done.exit_code == 1
    assert "net.pdf: unknown suffix '.pdf'" in done.output
