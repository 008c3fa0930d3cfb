"""The presets as a list: by family, each with its one line. Only the heads of their files are read."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

PRESETS = Path(__file__).parent.parent / "presets" / "init"

HEAD = ("#", "name:", "about:", "family:", " ")
"""The beginnings of lines of a preset's head; the first other line ends it."""


def presets() -> list[str]:
    """Return the names of the recipes that ship with initplug."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def listed() -> str:
    """Return every preset below the heading of its family.

    Example:
        >>> [line for line in listed().splitlines() if "torch_default" in line]
        ['  torch_default  what torch.nn itself draws, layer by layer']
    """
    families: dict[str, dict[str, str]] = {}
    for name in presets():
        head = head_of(name)
        families.setdefault(heading(head.get("family")), {})[name] = one_line(head.get("about"))
    lines: list[str] = []
    for family, about in sorted(families.items()):
        width = max(map(len, about))
        lines.append(family)
        lines += [f"  {name:{width}}  {text}".rstrip() for name, text in about.items()]
    return "\n".join(lines)


def head_of(preset: str) -> dict[str, Any]:
    """Return what a preset says of itself before its sources: its name, what it is about, its family.

    Example:
        >>> head_of("wrn")["family"]
        'convolutional networks, with batch norm and one linear classifier'
    """
    with (PRESETS / f"{preset}.yaml").open(encoding="utf-8") as stream:
        text = "".join(takewhile(lambda line: line.startswith(HEAD), stream))
    # The C reader where it was built: 85 heads are read in a hundredth of a second.
    head: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe
    return head


def heading(family: str | list[str] | None) -> str:
    """Return the kind of architecture: what `family` says before its first comma.

    Example:
        >>> heading("convolutional networks, with batch norm")
        'convolutional networks'
    """
    return one_line(family).partition(",")[0] or "others"


def one_line(texts: str | list[str] | None) -> str:
    """Return a text, or several, as one line.

    Example:
        >>> one_line(["VGG as in the paper", "with batch norm"])
        'VGG as in the paper; with batch norm'
    """
    return " ".join((texts if isinstance(texts, str) else "; ".join(texts or ())).split())
