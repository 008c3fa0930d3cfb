"""The preset library's proofs as data: for every preset the models that it is compared on.

To add a preset, write its file and append a `Family` to the list of the module of its library, `families_*.py`:

    Family(
        "torchvision_resnet",                       # the preset
        neighbour="torchvision_vgg",                # a preset that the same models must tell apart
        cases=[
            Case("torchvision resnet18", build("torchvision.models:resnet18", num_classes=10), "bits"),
        ],
    )

`build` constructs the model as its own code initialises it. Where no package installs, it constructs a net of that
architecture and runs the cited procedure on it. Nothing else is written by hand: `test_presets.py` records what the
constructor draws and checks coverage, bits, distributions and the neighbour; the mode says how far the bits go:

- `bits`: one pass under the original's generator gives every parameter, but those that the original leaves as
  torch.nn constructs them (`default`), which have their own bits in passes of their own;
- `bits by only`: every parameter has the original's bits, in several passes (`only=`) in the original's order;
- `distribution`: the original draws by other calls; constants and bounds exactly, all else by tests of samples.

Models that take more than a second or two are `large=True` and run under `make conformance` only. After a change,
`make presets-table` writes the table of the guide and `proven_on` of the presets (for some presets only:
`python tests/conformance/presets_table.py NAME…`; rows that are missing are always made).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from checking import Mode
from torch import nn

import initplug


@dataclass(frozen=True)
class Case:
    """A model that a preset is compared on.

    Args:
        model: library and name, as the table of the guide shows them.
        build: constructs the model with the values that its own code gives it.
        mode: how far the preset reproduces the bits.
        large: whether it is left to `make conformance`.
        package: one that the project does not depend on; without it the comparison is left out.
        frozen: `write` where the model's code draws what it then freezes, and the preset keeps that.
    """

    model: str
    build: Callable[[], nn.Module]
    mode: Mode
    large: bool = False
    frozen: Literal["keep", "write"] = "keep"
    package: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether the package of the model is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def recipe(self, preset: str) -> initplug.Recipe:
        """A preset as it is compared on the model."""
        return initplug.load(preset, overrides=[f"frozen={self.frozen}"] if self.frozen != "keep" else [])


@dataclass(frozen=True)
class Family:
    """A preset and the models that it is compared on.

    Args:
        preset: its name.
        neighbour: a preset that at least one parameter of each model must tell apart from it; None where no other
            preset draws what this one draws.
        cases: the models; together they use every rule of the preset.
    """

    preset: str
    neighbour: str | None
    cases: Sequence[Case]


def all_families() -> list[Family]:
    """Every family, library by library."""
    import families_general
    import families_language
    import families_others
    import families_rewritten
    import families_timm
    import families_torchvision
    import families_torchvision_detection
    import families_transformers

    modules = (
        families_general,
        families_torchvision,
        families_torchvision_detection,
        families_timm,
        families_transformers,
        families_others,
        families_language,
        families_rewritten,
    )
    return [family for module in modules for family in module.FAMILIES]
