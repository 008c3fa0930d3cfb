"""The page of a probe: lines, verdicts and layers, in a browser too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import opened, required, sized
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from signal_nets import plain, recipe
from torch import nn

import initplug
from initplug.studies.probing.comparison import Probe

HOSTILE = "<script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def probe() -> Probe:
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    recipes = {"xavier": recipe("xavier_normal"), HOSTILE: recipe("kaiming_normal nonlinearity=relu")}
    return initplug.probe(plain(nn.ReLU, 30), x, recipes=recipes, seed=3)


def data_of(html: str) -> Any:
    return json.loads(html.partition('id="data">')[2].partition("</script>")[0])


def test_the_page_holds_picture_verdicts_and_layers(probe: Probe, tmp_path: Path) -> None:
    probe.save(tmp_path / "probe.html", command="initplug probe", date="today")
    html = (tmp_path / "probe.html").read_text()
    assert HOSTILE not in html
    assert html.count("<polyline") == 6
    for told in ("seed 3", "inputs 32×64 float32", "today", "the signal dies: variance", "backward from unit normals"):
        assert told in html
    data = data_of(html)
    assert data["kind"] == "probe" and data["names"] == [layer.name for layer in probe.traces[0]]
    verdicts, codes = data["verdict"]
    alarmed = {data["names"][place] for place, code in enumerate(codes) if verdicts[code] == "alarm"}
    assert len(alarmed) == 2  # where the signal and where the gradient is lost
    assert {verdict.layer for verdict in probe.problems()} <= alarmed | {"0"}


def test_a_page_without_a_line_is_one(tmp_path: Path) -> None:
    initplug.probe(nn.Identity(), torch.randn(3, 4, requires_grad=True)).save(tmp_path / "probe.html")
    assert "0 layers" in (tmp_path / "probe.html").read_text()


def test_it_is_a_page_in_a_browser(probe: Probe, tmp_path: Path) -> None:
    required()
    path = tmp_path / "probe.html"
    path.write_text(probe.to_html(), encoding="utf-8")
    with opened(tmp_path / "profile") as driver:
        for width in (400, 1440):
            sized(driver, width, 1000)
            driver.get(path.as_uri())
            assert driver.title != "taken"
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium has no types there
        first = driver.find_elements(By.CSS_SELECTOR, "#rows button.name")[0]
        driver.execute_script("arguments[0].focus()", first)
        driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
        told = driver.find_element(By.CSS_SELECTOR, "tr.detail").text
        assert told.startswith("Name\n1\n") and "between inputs" in told and "of units dead" in told
        assert "Verdict\nok" in told
        assert driver.find_element(By.CSS_SELECTOR, "#against-depth svg").size["width"] > 900
        assert driver.find_element(By.ID, "parameters-title").text.startswith("Layers")
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]  # likewise
