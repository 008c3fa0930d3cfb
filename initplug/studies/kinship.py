"""Kinship: how nearly a preset was written for a model, by the files, classes and words that both name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from initplug.language.preset_list import one_line
from initplug.language.recipe import Recipe
from initplug.planning.slots import Tree

CITED = re.compile(r"(?:[\w.-]+/)*[\w-]+\.py|(?:\w+/)+\w+")
LIBRARIES = frozenset({"torch", "torchvision", "timm", "transformers", "diffusers", "detectron2", "torchtitan"})
VARIANTS = frozenset({"default", "base", "lua", "pytorch", "zero"})
"""Words of a preset's name that name no architecture."""


class Kin:
    """The modules that define a model's classes, and the share of its elements below each."""

    def __init__(self, tree: Tree) -> None:
        self.root = _line(tree.nodes[0].cls)
        self.package = tree.nodes[0].cls.__module__.partition(".")[0]
        self.paths: dict[frozenset[type], int] = {}
        above: dict[int, frozenset[type]] = {0: frozenset()}
        for index, node in enumerate(tree.nodes[1:], 1):
            above[index] = above[node.parent] | set(_line(node.cls))
        for slot in tree.slots:
            if slot.kind == "parameter" and not slot.lazy:
                self.paths[above[slot.node]] = self.paths.get(above[slot.node], 0) + slot.tensor.numel()
        self.inner = frozenset().union(*self.paths)
        self.numel = sum(self.paths.values())

    def to(self, name: str, recipe: Recipe) -> tuple[float, tuple[str, ...], int]:
        """Return how nearly a preset was written for the model, 0 to 1; why; how many words of its name deny it."""
        source, text = one_line(recipe.source), f"{one_line(recipe.family)} {one_line(recipe.about)}"
        words = [word for word in name.split("_") if word not in LIBRARIES | VARIANTS]
        cited = {cls for cls in {*self.root, *self.inner} if _cites(source, cls.__module__)}
        called = {cls for cls in {*self.root, *self.inner} if _tells_of(words, text, cls)}
        near, why = 0.0, ""
        for place, cls in enumerate(self.root):
            if cls in cited:
                near, why = 0.7 if place else 0.8, f"{'base' if place else 'source'} {cls.__module__}"
                break
        if not near and self.root and called & {*self.root}:
            near, why = 0.6, f"name {next(cls for cls in self.root if cls in called).__name__}"
        for share, most, among in ((self._share(cited), 0.5, cited), (self._share(called), 0.4, called)):
            if most * share > near:
                first = min(cls.__name__ for cls in among & self.inner)
                near, why = most * share, f"{first} and others, {share:.0%} of the elements"
        library = self.package in LIBRARIES - UNTOLD and (
            name.split("_")[0] == self.package or f"{self.package}/" in source
        )
        both = 0.1 * library + 0.1 * bool(called & {*self.root})
        evidence = (why,) if why else (f"library {self.package}",) if library else ()
        return min(1.0, near + both), evidence, self._strange(name)

    def _share(self, classes: set[type]) -> float:
        """Return the share of the elements that are below modules of these classes."""
        if not classes & self.inner:
            return 0.0
        return sum(numel for path, numel in self.paths.items() if path & classes) / max(self.numel, 1)

    def _strange(self, name: str) -> int:
        """Return how many words of a name the model's classes and their modules do not have."""
        return sum(
            not any(_has(word, f"{cls.__module__}.{cls.__name__}") for cls in self.root) for word in name.split("_")
        )


UNTOLD = frozenset({"torch", "builtins", "typing", "abc"})
"""Packages whose classes are in every model, and tell nothing."""


def _line(cls: type) -> tuple[type, ...]:
    """Return a class and its bases that are not torch's."""
    return tuple(base for base in cls.__mro__ if base.__module__.partition(".")[0] not in UNTOLD)


@lru_cache(maxsize=4096)
def _cited(source: str) -> tuple[str, ...]:
    """Return the modules, or packages, that the files of a source are: `src/pkg/mod.py` is `src.pkg.mod`."""
    return tuple(path.removesuffix(".py").replace("/", ".") for path in CITED.findall(source))


def _cites(source: str, module: str) -> bool:
    """Return whether a module is among a source's files or in its folders; paths may begin above a package or in it."""
    package = module.partition(".")[0]
    if package == module:  # a file of somebody's own, such as model.py
        return False
    for path in _cited(source):
        _, found, after = f".{path}.".partition(f".{package}.")
        if found:
            inside = f"{package}.{after}".rstrip(".")
            # The library as a whole says nothing.
            if module == inside or (after and module.startswith(f"{inside}.")):
                return True
        elif "." in path and f"{package}/" in source and module.endswith(f".{path}"):
            return True
    return False


def _tells_of(words: Sequence[str], text: str, cls: type) -> bool:
    """Return whether a preset is called by a class, or tells of it."""
    told = re.search(rf"\b{re.escape(cls.__name__)}\b", text) is not None and len(cls.__name__) > 3
    return told or any(_has(word, cls.__name__) for word in words)


def _has(word: str, name: str) -> bool:
    """Return whether a word stands in a name; short ones at an end of one of its parts."""
    for part in name.lower().split("."):
        if word in part.split("_") or (len(word) > 3 and word in part) or part.startswith(word) or part.endswith(word):
            return True
    return False
