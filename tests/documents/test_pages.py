"""The pages of the guide that need nothing but torch run from top to bottom, and the site has them all."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import reference
import site_links
import yaml
from pages import GUIDE, run_page

import initplug
from initplug.schemes.initializers import REGISTRY

CONFIG = GUIDE.parent / "mkdocs.yml"


@pytest.mark.filterwarnings("ignore:1 rule of recipe.yaml selects nothing")  # which the page is about
@pytest.mark.parametrize("page", ["index", "tutorial", "scale", "messages", "faq", "probe"])
def test_a_page_does_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (GUIDE / f"{page}.md").read_text()
    assert run_page(text, tmp_path, monkeypatch, capsys) == text


def test_generated_pages_are_what_the_code_says() -> None:
    assert reference.stale() == [], "make reference"


def test_the_reference_has_a_number_for_every_initializer_that_draws() -> None:
    text = reference.page()
    for name in REGISTRY.keys() - {*reference.HELD}:
        entry = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert re.search(r"mean \S+, std \S+", entry), name
        assert (reference.PLOTS / f"{name}.svg").is_file()


def pages_of(nav: list[Any]) -> list[str]:
    """The pages of a table of contents, whatever they are called there."""
    found = []
    for entry in nav:
        found += (
            [entry] if isinstance(entry, str) else pages_of([*entry.values()] if isinstance(entry, dict) else entry)
        )
    return found


def test_the_site_has_every_page_of_the_guide_once() -> None:
    # Of the configuration only the contents are read: the rest has tags of the program that builds the site.
    nav = yaml.safe_load(CONFIG.read_text().partition("\nnav:\n")[2])
    assert sorted(pages_of(nav)) == sorted(path.name for path in GUIDE.glob("*.md"))


def test_the_page_of_the_api_has_every_public_name() -> None:
    names = re.findall(r"^::: initplug\.(\S+)$", (GUIDE / "api.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted([*initplug.__all__, "lightning.Initialize", "testing.assert_initialization"])


def test_links_out_of_the_guide_lead_to_the_repository(caplog: pytest.LogCaptureFixture) -> None:
    text = "[a](../../README.md#selectors), [b](../fsdp2.py), [c](language.md)\n\n```yaml title=a.yaml\n"
    page = SimpleNamespace(file=SimpleNamespace(src_path="page.md"))
    shown = site_links.on_page_markdown(text, page)
    blob = f"{site_links.REPOSITORY}/blob/main"
    assert shown == f"[a]({blob}/README.md#selectors), [b]({blob}/examples/fsdp2.py), [c](language.md)\n\n```yaml\n"
    assert not caplog.messages
    site_links.on_page_markdown("[a](../gone.py) [b](../../README.md#nowhere)", page)
    assert caplog.messages == [
        "page.md links to examples/gone.py, which is not there",
        "page.md links to README.md#nowhere, and there is no such heading",
    ]
