"""The page in a real browser: what a person does with it, narrow and wide, with names that mean no good."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
import torch
from browser import opened, required, sized
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from torch import nn

import initplug
from initplug.auditing.audit import Audit

WIDTHS = (400, 4000)

RECIPE: dict[str, Any] = {
    "name": "page",
    "unmatched": "keep",
    "rules": {
        "weights": {"match": "*.weight", "init": "normal std=0.02"},
        "norm": {"match": "<LayerNorm>.weight", "init": 1},
        "bias": {"match": "*.bias", "init": 0},
        "out": {"match": "out.weight", "init": "orthogonal"},
        "ghost": {"match": "ghost.*", "init": 0},
        "off": None,
    },
}
HOSTILE = [
    "<script>document.title='taken'</script>",
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=alert(1)>",
    "\"double\" 'single'",
    "&amp;&lt;",
    "x" * 500,
    "y" * 10_000,
    "שלום עולם",
    "\u202eright to left",
    "line\nbreak",
    "__proto__",
    "<!--",
    "\u2028",
]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)


class Small(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.h = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(16, 10)


def small(blocks: int = 12) -> Audit:
    model = Small(blocks)
    with pytest.warns(initplug.InitplugWarning, match="ghost"):
        initplug.apply(model, RECIPE, seed=0)
    with torch.no_grad():
        model.get_parameter("h.4.qkv.weight").mul_(2)
    with pytest.warns(initplug.InitplugWarning, match="ghost"):
        return initplug.audit(model, RECIPE, histograms=True)


def hostile() -> Audit:
    model = nn.Module()
    for name in HOSTILE:
        model.register_parameter(name.replace(".", "·"), nn.Parameter(torch.zeros(4, 4)))
        model.add_module(f"{name.replace('.', '·')} module", nn.Linear(2, 2))
    rules = {
        "": {"match": "nothing", "init": 1, "optional": True},
        "none": {"match": "odd", "init": 1, "optional": True},
        "<b>": {"match": "*", "init": "normal"},
        "</script>": {"match": "*.bias", "init": 0},
    }
    return initplug.apply(model, {"name": "<i>hostile</i>", "rules": rules}, seed=0, histograms=True)


def partial() -> Audit:
    """What `only=` leaves of some layers, one of them frozen."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)), nn.Linear(4, 4).requires_grad_(False))
    rules = {"all": {"match": "*", "init": 1, "trainable": True}}
    return initplug.apply(model, {"name": "partial", "rules": rules}, only=["0.weight", "^4"])


def exact() -> Audit:
    """What a seed gave, compared to the bit, and one layer that was left alone."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    rules = {"*.weight": "normal", "*.bias": 0, "last": {"match": "3.*", "init": "keep"}}
    initplug.apply(model, {"name": "exact", "rules": rules}, seed=0)
    return initplug.audit(model, {"name": "exact", "rules": rules}, seed=0, histograms=True)


AUDITS: dict[str, Callable[[], Audit]] = {
    "small": small,
    "exact": exact,
    "hostile": hostile,
    "partial": partial,
    "5000": lambda: small(834),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, audit in AUDITS.items():
        audit().save(folder / f"{name}.html")
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    required()
    with opened(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class Page:
    """A page that is open."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def names(self) -> list[str]:
        """The parameters that are shown, in order."""
        found: list[str] = self.run("return document.querySelector('#rows').lines()")
        return found

    def row(self, name: str) -> WebElement:
        """The row of a parameter, brought to the screen: the others are not there."""
        self.run("document.querySelector('#rows').reveal(arguments[0])", name)
        script = "return [...document.querySelectorAll('#rows tr.row')].find(r => r.row.name === arguments[0])"
        found: WebElement = self.run(script, name)
        return found

    def open(self, name: str) -> WebElement:
        button = self.row(name).find_element(By.CSS_SELECTOR, "button.name")
        self.click(button)
        return self.one("tr.detail")

    def click(self, element: WebElement) -> None:
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def choose(self, filter: str, value: str) -> None:  # noqa: A002  # what the page calls it
        option = f"#filter-{filter} option[value='{value}']"
        self.one(option).click()

    def rule(self, name: str) -> WebElement:
        script = "return [...document.querySelectorAll('.rule')].find(r => r.rule === arguments[0])"
        found: WebElement = self.run(script, name)
        return found

    def errors(self) -> list[Any]:
        return [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]  # type: ignore[no-untyped-call]  # selenium has no types there


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture
def load(chromium: Chrome, pages: Path, width: int) -> Iterator[Callable[[str], Page]]:
    page = Page(chromium)

    def load(name: str, *, folded: bool = False) -> Page:
        sized(chromium, width, 1200)
        chromium.get((pages / f"{name}.html").as_uri())
        until(lambda: bool(page.all("[role=treeitem]")))
        if not folded and page.one("#fold").is_displayed():
            page.one("#fold").click()
        return page

    yield load
    assert page.errors() == []


@pytest.fixture
def page(load: Callable[[str], Page]) -> Page:
    return load("small")


def test_it_loads_and_sums_up(page: Page) -> None:
    assert page.driver.title == "page · initplug audit"
    assert page.one("h1").text == "page"
    assert page.one("#meta").text.startswith("the model as it stands · torch ")
    assert page.one(".verdict-line").text == "1 parameter of 75 is not what the recipe says"
    facts = {line.split("\n")[1]: line.split("\n")[0] for line in (fact.text for fact in page.all(".facts > *"))}
    assert facts == {
        "parameters": "75",
        "elements": "13.6k",
        "float32": "54.5 kB",
        "of them under a rule": "100 %",
        "ok": "73",
        "differs": "1",
        "untestable": "1",
        "read": "75",
        "unmatched": "1",
        "unused rule": "1",
    }
    assert [line.text for line in page.all(".lists p")] == [
        "Differ: h.4.qkv.weight",
        "Unmatched: scale",
        "Unused: ghost",
    ]
    assert len(page.names()) == 75


def test_without_a_browser_tests_are_skipped_and_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "found", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs Chromium and its driver"):
        required()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs Chromium and its driver"):
        required()


@pytest.mark.parametrize("width", [320, 400, 640, 1000, 1440, 2200, 4000], indirect=True)
def test_it_fits_its_window(page: Page, width: int) -> None:
    page.open("h.4.qkv.weight")
    assert page.run("return document.documentElement.scrollWidth") <= width
    script = """
      const parts = document.querySelectorAll("main > section, figure, tr.detail");
      return [...parts].map(e => e.getBoundingClientRect().right);
    """
    assert max(page.run(script)) <= width


def test_names_and_verdicts_are_whole_where_there_is_room(load: Callable[[str], Page], width: int) -> None:
    page = load("small")
    script = """
      const cells = document.querySelectorAll("#rows .name bdi, #rows .c-verdict, #rows .c-expected, #rows .c-rule");
      return [...cells].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent);
    """
    assert page.run(script) == []
    gaps = """
      const tails = [...document.querySelectorAll("#rows .tail")];
      return tails.map(e => e.getBoundingClientRect().left - e.previousSibling.getBoundingClientRect().right);
    """
    assert max(map(abs, page.run(gaps))) < 0.5


def test_it_asks_nothing_of_the_network(page: Page) -> None:
    entries = page.driver.get_log("performance")  # type: ignore[no-untyped-call]  # selenium has no types there
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "chrome:", "about:"))] == []


def test_search_takes_all_words(page: Page) -> None:
    box = page.one("#search")
    box.send_keys("qkv")
    assert len(page.names()) == 24
    assert page.one("#shown").text == "24 of 75"
    box.send_keys(" BIAS h.3")
    assert page.names() == ["h.3.qkv.bias"]
    box.clear()
    box.send_keys("nowhere")
    assert page.names() == []
    assert page.one("#nothing").is_displayed()
    page.click(page.one("#reset"))
    assert len(page.names()) == 75
    assert box.get_attribute("value") == ""


def test_what_is_exact_is_summed_up_filtered_and_sorted_behind_all_else(load: Callable[[str], Page]) -> None:
    page = load("exact")
    line = "Nothing differs: 6 of 8 parameters are as planned, all of them to the bit, 2 cannot be tested"
    assert page.one(".verdict-line").text == line
    assert page.one(".bar").get_attribute("aria-label") in ("6 exact, 2 untestable", "2 untestable, 6 exact")
    assert page.one(".bar .exact").size["width"] > page.one(".bar .untestable").size["width"] > 0
    fact = next(one for one in page.all(".facts > *") if one.text.endswith("exact"))
    assert fact.text.split("\n") == ["6", "exact"]
    page.click(fact)
    assert page.names() == [f"{place}.{key}" for place in range(3) for key in ("weight", "bias")]
    assert all(mark.text == "exact" for mark in page.all("#rows tr.row:not([hidden]) .mark.exact"))
    page.click(page.one("#reset"))
    if page.one("th.c-verdict button").is_displayed():
        page.click(page.one("th.c-verdict button"))
        assert page.names()[:2] == ["3.weight", "3.bias"]


def test_filters_by_rule_type_status_and_verdict(page: Page) -> None:
    page.choose("verdict", "differs")
    assert page.names() == ["h.4.qkv.weight"]
    page.click(page.one("#reset"))
    page.choose("type", "LayerNorm")
    assert len(page.names()) == 24
    page.choose("rule", "=norm")
    assert page.names() == [f"h.{block}.ln.weight" for block in range(12)]
    assert page.rule("norm").get_attribute("aria-pressed") == "true"
    page.choose("status", "read")
    assert len(page.names()) == 12
    page.choose("verdict", "differs")
    assert page.names() == []


def test_the_unmatched_have_a_filter(page: Page) -> None:
    fact = next(fact for fact in page.all(".facts button") if "unmatched" in fact.text)
    page.click(fact)
    assert page.names() == ["scale"]
    assert page.row("scale").find_element(By.CSS_SELECTOR, ".norule").text == "no rule"


def test_what_only_left_out_is_shown_on_demand(load: Callable[[str], Page]) -> None:
    page = load("partial")
    assert page.names() == ["0.weight"]
    left = page.one("#left")
    assert left.text.startswith("… 9 more kept: 7 not in only, 2 frozen")
    page.click(left.find_element(By.TAG_NAME, "button"))
    assert len(page.names()) == 10
    assert not left.is_displayed()
    assert page.row("4.weight").find_element(By.CSS_SELECTOR, ".c-rule").text == "frozen"
    assert "Reason\nfrozen" in page.open("4.weight").text
    page.click(page.one("#reset"))
    assert page.names() == ["0.weight"]
    page.choose("status", "kept")
    assert len(page.names()) == 9
    page.click(page.one("#reset"))
    page.choose("rule", "frozen")
    assert page.names() == ["4.weight", "4.bias"]


def test_sorting_goes_up_and_down_and_back(page: Page) -> None:
    before = page.names()
    heading = page.one("th.c-name")
    for way, expected in (
        ("ascending", ["h.0.ln.bias", "h.0.ln.weight"]),
        ("descending", ["scale", "head.weight"]),
        ("none", before[:2]),
    ):
        page.click(heading.find_element(By.TAG_NAME, "button"))
        assert heading.get_attribute("aria-sort") == way
        if way == "ascending":
            names = [name for name in page.names() if name.startswith("h.")]
            assert [name.split(".")[1] for name in names[::6]] == [str(block) for block in range(12)]
            assert page.names()[0].startswith("h")
        else:
            assert page.names()[:2] == expected
    assert page.names() == before


def test_sorting_by_a_number_puts_what_has_none_last(page: Page) -> None:
    heading = page.one("th.c-expected button")
    page.click(heading)
    assert page.names()[-1] == "scale"
    assert page.one("th.c-expected").get_attribute("aria-sort") == "ascending"
    assert page.one("th.c-name").get_attribute("aria-sort") == "none"
    page.click(heading)
    assert page.names()[-1] == "scale"
    assert page.names()[0] == "h.0.out.weight"
    page.click(page.one("th.c-verdict button"))
    assert page.names()[0] == "h.4.qkv.weight"


def test_a_parameter_opens(page: Page) -> None:
    detail = page.open("h.4.qkv.weight")
    facts = dict(
        zip(
            [term.text for term in detail.find_elements(By.TAG_NAME, "dt")],
            [fact.text for fact in detail.find_elements(By.TAG_NAME, "dd")],
            strict=True,
        )
    )
    assert facts["Name"] == "h.4.qkv.weight"
    assert facts["Tensor"] == "parameter of Linear, 48×16 = 768, float32"
    assert facts["Fans"] == "in 16, out 48"
    assert facts["Rule"].startswith("weights")
    assert facts["Initializer"] == "normal std=0.02"
    assert facts["Distribution"] == "normal(mean=0, std=0.02)"
    assert facts["Expected"] == "mean 0, std 0.02, unbounded"
    assert facts["Measured"].endswith("768 elements")
    assert facts["Verdict"] == "differs"
    assert detail.find_element(By.CSS_SELECTOR, "svg .bars").get_attribute("d")
    assert detail.find_element(By.CSS_SELECTOR, "svg .curve").get_attribute("d")
    assert "expected 0 ± 0.02" in str(detail.find_element(By.TAG_NAME, "svg").get_attribute("aria-label"))
    button = page.row("h.4.qkv.weight").find_element(By.CSS_SELECTOR, "button.name")
    assert button.get_attribute("aria-expanded") == "true"
    page.click(button)
    assert button.get_attribute("aria-expanded") == "false"
    assert page.all("tr.detail") == []


def test_a_histogram_has_the_shape_of_its_values(page: Page) -> None:
    page.open("h.4.qkv.weight")
    script = """
      const box = document.querySelector("figure .bars").getBBox();
      const curve = document.querySelector("figure .curve").getBBox();
      return [box.width, curve.width, box.height, curve.height];
    """
    bars, curve, tall, high = page.run(script)
    assert bars > 1.3 * curve  # twice as wide as planned
    assert tall < 0.8 * high


def test_a_click_on_a_rule_shows_its_parameters_and_the_reverse(page: Page) -> None:
    assert page.rule("out").find_element(By.CSS_SELECTOR, ".hits").text == "12"
    assert page.rule("weights").find_element(By.CSS_SELECTOR, ".hits").text == "13 · 24 shadowed"
    assert page.rule("ghost").find_element(By.CSS_SELECTOR, ".hits").text == "0"
    assert page.rule("off").find_element(By.CSS_SELECTOR, ".hits").text == "off"
    page.click(page.rule("out"))
    assert page.names() == [f"h.{block}.out.weight" for block in range(12)]
    page.click(page.rule("out"))
    assert len(page.names()) == 75
    detail = page.open("h.0.out.weight")
    assert "wins" in str(page.rule("out").get_attribute("class"))
    assert "shadowed" in str(page.rule("weights").get_attribute("class"))
    shadowed = [button for button in detail.find_elements(By.CSS_SELECTOR, "dd button") if button.text == "weights"]
    page.click(shadowed[0])
    assert page.driver.switch_to.active_element == page.rule("weights")
    page.click(
        next(b for b in detail.find_elements(By.CSS_SELECTOR, "dd button") if b.text.startswith("Parameters of"))
    )
    assert len(page.names()) == 12


def active(page: Page) -> str | None:
    return page.driver.switch_to.active_element.get_attribute("textContent")


def test_a_problem_leads_to_its_row(page: Page) -> None:
    page.one("#search").send_keys("head")
    page.click(page.one(".lists button"))
    assert page.one("tr.detail code").text == "h.4.qkv.weight"
    facts = page.one("tr.detail dl").text.splitlines()
    assert re.match(r"std \S+, not \S+ to \S+", facts[facts.index("Problem") + 1])
    assert active(page) == "h.4.qkv.weight"
    assert len(page.names()) == 75


def item(page: Page, path: str | None) -> WebElement:
    script = "return [...document.querySelectorAll('[role=treeitem]')].find(i => i.path === arguments[0])"
    found: WebElement = page.run(script, path)
    return found


def test_the_tree_has_totals_and_narrows_the_table(page: Page) -> None:
    root = item(page, None)
    assert root.find_element(By.CSS_SELECTOR, ".total").text == "1 ✕ 75 · 13.6k"
    blocks = item(page, "h.")
    assert blocks.get_attribute("aria-label") == "h: 72 parameters, 13,440 elements, 1 differ"
    assert blocks.get_attribute("aria-expanded") == "false"
    page.click(blocks.find_element(By.CSS_SELECTOR, ".twist"))
    assert blocks.get_attribute("aria-expanded") == "true"
    assert len(page.names()) == 75
    page.click(item(page, "h.4.").find_element(By.CSS_SELECTOR, ".name"))
    assert len(page.names()) == 6
    assert item(page, "h.4.").get_attribute("aria-selected") == "true"
    assert page.one("#within code").text == "h.4"
    page.click(page.one("#within button"))
    assert len(page.names()) == 75


def test_the_tree_goes_by_keys(page: Page) -> None:
    page.run("arguments[0].focus()", item(page, None))

    def press(*keys: str) -> str:
        for key in keys:
            page.driver.switch_to.active_element.send_keys(key)
        found: str = page.run("return document.activeElement.path")
        return found

    assert press(Keys.ARROW_DOWN) == "h."
    assert press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT) == "h.0."
    assert press(Keys.ARROW_DOWN, Keys.ENTER) == "h.1."
    assert len(page.names()) == 6
    assert press(Keys.ARROW_LEFT) == "h.1."  # it closes what it had opened
    assert press(Keys.ARROW_LEFT) == "h."
    assert press(Keys.ARROW_LEFT, Keys.END) == "head."
    assert press(Keys.ARROW_UP, Keys.HOME) is None
    assert len(page.all("[role=treeitem][tabindex='0']")) == 1


def test_the_table_goes_by_keys(page: Page) -> None:
    first = page.one("#rows button.name")
    assert len(page.all("#rows button.name[tabindex='0']")) == 1
    page.run("arguments[0].focus()", first)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert active(page) == page.names()[2]
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.one("tr.detail code").text == page.names()[2]
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.all("tr.detail") == []
    page.driver.switch_to.active_element.send_keys(Keys.END)
    assert active(page) == page.names()[-1]
    assert len(page.all("#rows button.name[tabindex='0']")) == 1


def test_roles_survive_the_layout(page: Page) -> None:
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})
    roles = [node["role"]["value"] for node in tree["nodes"] if not node["ignored"]]
    assert roles.count("table") == 1
    assert roles.count("row") >= 6  # those on the screen
    assert page.one("table").get_attribute("aria-rowcount") == "76"
    assert roles.count("columnheader") >= 6
    assert "tree" in roles and "treeitem" in roles
    assert {"banner", "main"} <= set(roles)
    unnamed = [
        node
        for node in tree["nodes"]
        if not node["ignored"]
        and node["role"]["value"] in ("button", "combobox", "searchbox", "treeitem", "image")
        and not node.get("name", {}).get("value")
    ]
    assert unnamed == []


def until(true: Callable[[], bool]) -> None:
    """Wait for what the browser tells its pages at the next frame."""
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_colours_follow_the_system_and_the_button(page: Page) -> None:
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(ground)
    sized(page.driver, 1200, 900, "dark")
    until(lambda: page.run(ground) != light)
    assert page.one("#theme").text == "Light"
    page.one("#theme").click()
    assert page.run(ground) == light
    page.driver.refresh()
    assert page.run(ground) == light
    page.run("localStorage.clear()")


CONTRAST = """
  const light = (color) => {
    const parts = color.match(/[\\d.]+/g).map(v => v / 255);
    const [r, g, b] = parts.map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!color.endsWith(", 0)")) return color;
    }
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!text || !e.offsetParent) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 20)} ${ratio}`);
  }
  return found;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(page: Page, theme: Any) -> None:
    sized(page.driver, 1440, 1200, theme)
    until(lambda: page.run("return document.documentElement.dataset.theme") == theme)
    page.open("h.0.out.weight")
    assert page.run(CONTRAST) == []


def test_it_prints_everything_in_light_colours(page: Page) -> None:
    page.open("h.0.out.weight")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert len(page.all("#rows tr.row")) == 75
    assert page.run("return [...document.querySelectorAll('#rows .c-drawn')].filter(c => !c.firstChild).length") == 1
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert page.run("return getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.one(".tools").is_displayed()
    assert page.run("return getComputedStyle(document.querySelector('.listing')).maxHeight") == "none"
    pdf = page.driver.print_page()
    assert len(pdf) > 10_000


def test_hostile_names_are_text(load: Callable[[str], Page]) -> None:
    page = load("hostile")
    assert page.driver.title == "<i>hostile</i> · initplug audit"
    assert page.one("h1").text == "<i>hostile</i>"
    assert page.run("return document.querySelectorAll('#rows script, #rows img, #tree img, h1 i').length") == 0
    names = [name.replace(".", "·") for name in HOSTILE]
    assert [name for name in page.names() if not name.endswith(("weight", "bias"))] == names
    shown = {
        "\u202eright to left": "\\u202eright to left",
        "line\nbreak": "line\\nbreak",
        "\u2028": "\\u2028",
    }
    for name in names:
        cell = page.row(name).find_element(By.CSS_SELECTOR, "button.name")
        assert cell.get_attribute("textContent") == shown.get(name, name)
        detail = page.open(name)
        assert detail.find_element(By.TAG_NAME, "code").get_attribute("textContent") == shown.get(name, name)
        page.click(cell)
    assert page.rule("</script>").find_element(By.TAG_NAME, "code").text.split("\n")[0].strip() == "</script>:"
    for rule in ("", "none"):
        page.click(page.rule(rule))
        assert page.names() == []
        page.click(page.rule(rule))
    page.click(page.rule("<b>"))
    assert len(page.names()) == 2 * len(HOSTILE)
    page.one("#search").send_keys("<img")
    assert len(page.names()) == 2
    assert page.driver.title == "<i>hostile</i> · initplug audit"


def test_hostile_names_break_no_layout(load: Callable[[str], Page], width: int) -> None:
    page = load("hostile")
    page.open("x" * 500)
    assert page.run("return document.documentElement.scrollWidth") <= width
    script = "return [...document.querySelectorAll('#rows tr.row')].map(r => r.getBoundingClientRect().height)"
    assert max(page.run(script)) < 120


def test_rows_beyond_the_screen_are_not_there(load: Callable[[str], Page]) -> None:
    page = load("5000")
    assert len(page.names()) == 1 + 834 * 6 + 2
    for place in (0.0, 0.5, 1.0):
        to = "const box = arguments[0].getBoundingClientRect(); scrollBy(0, box.top + arguments[1] * box.height - 500)"
        page.run(to, page.one("#rows"), place)
        until(lambda: bool(page.run(ON_SCREEN)))
        assert page.run("return document.querySelectorAll('*').length") < 4000
    assert page.run(ON_SCREEN)[-1] == "head.bias"
    page.row("h.500.out.weight")
    assert "h.500.out.weight" in page.run(ON_SCREEN)
    page.one("#search").send_keys("h.777.out")
    assert sorted(page.names()) == ["h.777.out.bias", "h.777.out.weight"]


ON_SCREEN = """
  const seen = (box) => box.bottom > 0 && box.top < innerHeight;
  const rows = [...document.querySelectorAll("#rows tr.row")].filter(row => seen(row.getBoundingClientRect()));
  return rows.map(row => row.row.name);
"""


def test_repeated_blocks_are_one_line_until_opened(load: Callable[..., Page]) -> None:
    page = load("small", folded=True)
    folded = ["scale", "h.0-11.ln.weight", "h.0-11.ln.bias", "h.0-3,5-11.qkv.weight", "h.0-11.qkv.bias"]
    assert page.names()[:5] == folded
    assert page.one("#shown").text == "75 in 10 lines"
    assert page.row("h.0-11.ln.bias").find_element(By.CSS_SELECTOR, ".times").text == "×12"
    assert page.row("h.0-11.ln.bias").find_element(By.CSS_SELECTOR, ".c-verdict").text == "ok"
    page.row("h.0-3,5-11.qkv.weight").find_element(By.CSS_SELECTOR, "button.name").click()
    assert page.names()[3:6] == ["h.0-3,5-11.qkv.weight", "h.0.qkv.weight", "h.1.qkv.weight"]
    assert len(page.names()) == 10 + 11
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert len(page.names()) == 10
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER)
    assert page.one("tr.detail code").text == "h.0.qkv.weight"
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE, Keys.ESCAPE)
    assert len(page.names()) == 10
    assert active(page) == "h.0-3,5-11.qkv.weight"


def test_a_block_of_which_some_fit_says_how_many(load: Callable[..., Page]) -> None:
    page = load("small", folded=True)
    page.one("#search").send_keys("ln.bias 1")
    assert page.names() == ["h.0-11.ln.bias"]
    assert page.row("h.0-11.ln.bias").find_element(By.CSS_SELECTOR, ".times").text == "3 of 12"
    page.one("#search").send_keys("0")
    assert page.names() == ["h.10.ln.bias"]


def test_the_list_as_text_is_for_the_browsers_own_search(load: Callable[..., Page]) -> None:
    page = load("5000", folded=True)
    assert page.run("return find('h.777.out.weight')") is False
    page.one("#as-text").click()
    lines = str(page.one("#text").get_attribute("textContent")).splitlines()
    assert len(lines) == 1 + 834 * 6 + 2
    assert lines[1].split()[:3] == ["h.0.ln.weight", "LayerNorm", "16"]
    assert page.run("return find('h.777.out.weight')") is True


def test_the_key_of_searching_leads_to_the_search(page: Page) -> None:
    page.run("arguments[0].focus()", page.one("#theme"))
    page.driver.switch_to.active_element.send_keys(Keys.CONTROL, "f")
    assert page.driver.switch_to.active_element == page.one("#search")
    assert page.one("#find-hint").text.startswith("Ctrl-F searches all parameters")


def test_printing_has_every_line(load: Callable[..., Page]) -> None:
    page = load("small", folded=True)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert len(page.all("#rows tr.row")) == 10
    page.run("dispatchEvent(new Event('afterprint'))")
    page = load("5000")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert str(page.one("#text").get_attribute("textContent")).splitlines()[-1].startswith("head.bias  ")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert not page.one("#text").is_displayed()
