"""The presets as a list: by family, each with its one line."""

from __future__ import annotations

from initplug.language.loading import load, presets
from initplug.language.recipe import Recipe


def listed() -> str:
    """Every preset below the heading of its family.

    Example:
        >>> [line for line in listed().splitlines() if "torch_default" in line]
        ['  torch_default  what torch.nn itself draws, layer by layer']
    """
    families: dict[str, dict[str, Recipe]] = {}
    for name in presets():
        recipe = load(name)
        families.setdefault(heading(recipe), {})[name] = recipe
    lines: list[str] = []
    for family, recipes in sorted(families.items()):
        width = max(len(name) for name in recipes)
        lines.append(family)
        lines += [f"  {name:{width}}  {one_line(recipe.about)}".rstrip() for name, recipe in recipes.items()]
    return "\n".join(lines)


def heading(recipe: Recipe) -> str:
    """The kind of architecture: what `family` says before its first comma.

    Example:
        >>> heading(load("resnext"))
        'convolutional networks'
    """
    return one_line(recipe.family).partition(",")[0] or "others"


def one_line(texts: str | list[str] | None) -> str:
    """A text, or several, as one line.

    Example:
        >>> one_line(["VGG as in the paper", "with batch norm"])
        'VGG as in the paper; with batch norm'
    """
    return " ".join((texts if isinstance(texts, str) else "; ".join(texts or ())).split())
