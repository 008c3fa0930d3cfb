"""The presets as a list: by family, each with its one line. Only the heads of their files are read."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from initplug.errors import InitplugError
from initplug.language.faults import shown

PRESETS = Path(__file__).parent.parent / "presets" / "init"

HEAD = ("#", "name:", "about:", "family:", " ")
"""The beginnings of lines of a preset's head; the first other line ends it."""


def presets() -> list[str]:
    """Return the names of the recipes that ship with initplug."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_names(pattern: str | None = None, family: str | None = None) -> list[str]:
    """Return the names of the recipes that ship with initplug, or of those that are asked for.

    Args:
        pattern: a glob over names, such as `timm_*`; a word without `*`, `?` and `[` is any part of a name.
        family: any part of what a preset says of its family, in any case.

    Raises:
        InitplugError: one of them is no text.

    Example:
        >>> preset_names("*retinanet", family="detectors")
        ['detectron2_retinanet', 'torchvision_retinanet']
        >>> preset_names("gpt2")
        ['transformers_gpt2']
    """
    for name, value in (("pattern", pattern), ("family", family)):
        if value is not None and not isinstance(value, str):
            raise InitplugError(f"{name}={shown(value)}: it is a text")
    found = presets()
    if pattern is not None:
        glob = pattern if re.search(r"[*?[]", pattern) else f"*{pattern}*"
        found = [name for name in found if fnmatchcase(name, glob)]
    if family is not None:
        word = family.lower()
        found = [name for name in found if word in one_line(head_of(name).get("family")).lower()]
    return found


def listed(names: Iterable[str], width: int) -> str:
    """Return presets below the headings of their families, in lines of at most so many characters.

    Example:
        >>> print(listed(["torch_default"], 48))
        any model
          torch_default  what torch.nn itself draws,
                         layer by layer
    """
    families: dict[str, dict[str, str]] = {}
    for name in names:
        head = head_of(name)
        families.setdefault(heading(head.get("family")), {})[name] = one_line(head.get("about"))
    lines: list[str] = []
    for family, about in sorted(families.items()):
        column = 4 + max(map(len, about))
        lines.append(family)
        for name, text in about.items():
            first, *further = textwrap.wrap(text, max(width - column, 24), break_on_hyphens=False) or [""]
            lines.append(f"  {name:{column - 4}}  {first}".rstrip())
            lines += [" " * column + line for line in further]
    return "\n".join(lines)


def described(names: Iterable[str]) -> list[dict[str, str]]:
    """Return presets as plain data: name, family, about.

    Example:
        >>> described(["keep"])[0].keys()
        dict_keys(['name', 'family', 'about'])
    """
    heads = ((name, head_of(name)) for name in names)
    return [
        {"name": name, "family": one_line(head.get("family")), "about": one_line(head.get("about"))}
        for name, head in heads
    ]


def presets_for(word: str) -> list[str]:
    """Return the presets whose name, line, family or models hold a word, those first that are called by it.

    Example:
        >>> presets_for("BERT")[0], presets_for("resnet")[0], presets_for("zzz")
        ('transformers_modernbert', 'timm_resnet', [])
    """
    words = dict.fromkeys((word.lower(), word.lower().rstrip("0123456789")))
    found = {name: min((rank for each in words for rank in _ranks(each, name)), default=None) for name in presets()}
    return sorted((name for name, rank in found.items() if rank is not None), key=lambda name: (found[name], name))


def _ranks(word: str, preset: str) -> Iterator[int]:
    """Yield where a preset holds a word: as a part of its name, inside one, in its line or family, in its models."""
    if word and word in preset.split("_"):
        yield 0
    if len(word) < 3:
        return
    if word in preset:
        yield 1
    text = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8")
    head = head_of(preset)
    if _holds(f"{one_line(head.get('about'))} {one_line(head.get('family'))}", word):
        yield 2
    if _holds(text.partition("\nproven_on:")[2].partition("\nunmatched:")[0], word):
        yield 3


def _holds(text: str, word: str) -> bool:
    """Return whether a text has a word, or, of four letters and more, one that holds it."""
    parts = re.findall(r"[a-z0-9]+", text.lower())
    return word in parts or (len(word) > 3 and any(word in part for part in parts))


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
