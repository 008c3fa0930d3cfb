"""Hooks of the site: links that leave the guide go to the repository, and one that leads nowhere is a warning.

Pages are written to be read in the repository, too. `mkdocs build --strict` ends in an error where there is a warning.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GUIDE = "examples/guide"
REPOSITORY = "https://github.com/initplug/initplug"
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)(#[^)\s]*)?(?=\))")
TITLE = re.compile(r"^(```\w+) title=\S+$", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks.site_links")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page as the site shows it."""

    def outside(found: re.Match[str]) -> str:
        path, anchor = posixpath.normpath(f"{GUIDE}/{found[1]}"), found[2] or ""
        file = ROOT / path
        if not file.exists():
            log.warning("%s links to %s, which is not there", page.file.src_path, path)
        elif anchor and anchor[1:] not in anchors(file.read_text()):
            log.warning("%s links to %s%s, and there is no such heading", page.file.src_path, path, anchor)
        return f"{REPOSITORY}/{'tree' if file.is_dir() else 'blob'}/main/{path}{anchor}"

    # The name of a block's file stands before it in words: a page of the package index shows no titles.
    return TITLE.sub(r"\1", LINK.sub(outside, markdown))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a text."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
