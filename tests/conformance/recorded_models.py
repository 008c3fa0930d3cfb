"""The models that are recorded: those that presets are compared on, those of their coverage, and more by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from coverage_models import PICKS, timm, torchvision
from families import all_families
from recorded_registries import PAIRS, more
from torch import nn

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Subject:
    """A model that is recorded.

    Args:
        library: as the table shows it.
        name: of the model, within its library.
        build: constructs it with the values that its own code gives it.
        larger: the same of another width and depth; None where there is none.
    """

    library: str
    name: str
    build: Build
    larger: Build | None = None

    @property
    def label(self) -> str:
        """Library and name."""
        return f"{self.library} {self.name}"


REWRITTEN = "procedures of papers, rewritten"


def conformance() -> list[Subject]:
    """The models that presets are compared on, each once."""
    found: dict[str, Subject] = {}
    for family in all_families():
        for case in family.cases:
            if case.is_here and not case.large:
                library, _, name = case.model.partition(" ")
                if case.model.endswith("rewritten"):
                    library, name = REWRITTEN, case.model
                found.setdefault(case.model, Subject(library, name, case.build))
    return [*found.values()]


def coverage() -> list[Subject]:
    """The models that the coverage of presets is measured on."""
    builds = {"torchvision": torchvision, "timm": timm}
    larger = {
        (library, small): partial(builds[library], large)
        for library, pairs in PAIRS.items()
        for small, _, large in (pair.partition(":") for pair in pairs)
    }
    return [Subject(pick.library, pick.name, pick.build, larger.get((pick.library, pick.name))) for pick in PICKS]


@lru_cache(maxsize=1)
def subjects() -> tuple[Subject, ...]:
    """All of them, each name once."""
    found: dict[str, Subject] = {}
    for one in (*conformance(), *coverage(), *(Subject(*each) for each in more())):
        known = found.get(one.label, one)
        found[one.label] = replace(known, larger=known.larger or one.larger)
    return tuple(found.values())
