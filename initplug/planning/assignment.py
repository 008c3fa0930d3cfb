"""The rows of a plan: for each slot an `Assignment`, which holds the `Share` that slots like it have, too."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, NamedTuple, TypeVar

from initplug.planning.slots import SlotKind
from initplug.schemes.compositions import Batched, Planned, Single, closed_form, peak_of, text
from initplug.schemes.structures.base import Structured
from initplug.tables.text import spread

T = TypeVar("T")

UNMATCHED, FROZEN = "no rule", "frozen"
"""The reasons of slots that no rule takes."""

ADAPTER = "adapter"
"""The reason of slots of low-rank adapters, which no rule takes that does not name them."""

LAZY = "lazy"
"""The reason of slots that wait for a first batch to learn their shape."""


class Share(NamedTuple):
    """The properties that slots which are alike share: everything but their names.

    Args:
        kind: parameter or buffer.
        module_type: class of the owner.
        shape: sizes, in elements.
        dtype: such as `float32`.
        numel: number of elements.
        trainable: whether it requires a gradient.
        rule: name of the winning rule; None where no rule matches.
        selector: the selector of the rule that matched.
        location: file and line of the rule.
        shadowed: rules that match too and come before.
        init: the initializer as one line.
        distribution: what the initializer comes down to; None where nothing is to be drawn.
        fan_in: under the rule's fan rule; None below two dimensions.
        fan_out: likewise.
        reason: why nothing is to be written, such as `no rule`, `frozen` or `keep`; None where something is.
        note: what is good to know of how its values come about.
        padding_row: of an embedding, which gets zeros.
        lazy: whether it waits for a first batch to learn its shape.
        passed: the rule that would draw it, were it not frozen.
    """

    kind: SlotKind
    module_type: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    trainable: bool
    rule: str | None
    selector: str | None
    location: str | None
    shadowed: tuple[str, ...]
    init: str | None
    distribution: Planned | None
    fan_in: int | None
    fan_out: int | None
    reason: str | None = None
    note: str | None = None
    padding_row: int | None = None
    lazy: bool = False
    passed: str | None = None

    @property
    def mean(self) -> float | None:
        """Expected mean of the elements."""
        drawn = closed_form(self.distribution)
        return None if drawn is None else drawn.mean

    @property
    def std(self) -> float | None:
        """Expected standard deviation of the elements."""
        drawn = closed_form(self.distribution)
        return None if drawn is None else drawn.std

    @property
    def low(self) -> float | None:
        """Lower bound of the elements; None where there is none."""
        return self._bound("low")

    @property
    def high(self) -> float | None:
        """Upper bound of the elements; None where there is none."""
        return self._bound("high")

    @property
    def peak(self) -> int | None:
        """Bytes that drawing it whole from a seed holds at the peak; None where it is drawn in chunks of a few MB."""
        return peak_of(self.distribution, self.shape)

    @property
    def judgeable(self) -> bool:
        """Return whether the moments of all elements say whether they are what was planned."""
        known = isinstance(self.distribution, Single | Batched)
        return known and (self.padding_row is None or not isinstance(self.distribution, Structured))

    def _bound(self, side: str) -> float | None:
        drawn = closed_form(self.distribution)
        bound = None if drawn is None else getattr(drawn, side)
        return None if bound is None or math.isinf(bound) else bound


class Shared(Generic[T]):
    """A property of an assignment that is its share's."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, row: Assignment | None, owner: type) -> T:
        found: Any = self if row is None else getattr(row.share, self.name)
        return found  # type: ignore[no-any-return]  # of the class itself, which nobody asks for


@dataclass(frozen=True, slots=True, repr=False)
class Assignment:
    """One slot of a plan: who it is, which rule it gets, and what that comes down to.

    What its share says of it can be asked of itself: `assignment.rule`, `assignment.std`.

    Args:
        name: canonical name.
        aliases: further names of the same tensor.
        share: the properties that it has in common with slots like it.
    """

    name: str
    aliases: tuple[str, ...]
    share: Share

    kind = Shared[SlotKind]()
    module_type = Shared[str]()
    shape = Shared[tuple[int, ...]]()
    dtype = Shared[str]()
    numel = Shared[int]()
    trainable = Shared[bool]()
    rule = Shared["str | None"]()
    selector = Shared["str | None"]()
    location = Shared["str | None"]()
    shadowed = Shared[tuple[str, ...]]()
    init = Shared["str | None"]()
    distribution = Shared["Planned | None"]()
    fan_in = Shared["int | None"]()
    fan_out = Shared["int | None"]()
    reason = Shared["str | None"]()
    note = Shared["str | None"]()
    mean = Shared["float | None"]()
    std = Shared["float | None"]()
    low = Shared["float | None"]()
    high = Shared["float | None"]()
    peak = Shared["int | None"]()

    def __repr__(self) -> str:
        told = ", ".join(f"{key}={value!r}" for key, value in self._told().items())
        return f"{type(self).__name__}({told})"

    def _told(self) -> dict[str, Any]:
        """Return what the row says by itself, by the names of its properties."""
        told: dict[str, Any] = {}
        for field in fields(self):
            if field.name == "share":
                told.update((key, getattr(self.share, key)) for key in SHARED)
            else:
                told[field.name] = getattr(self, field.name)
        return told

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data; missing numbers are None."""
        row = {**self._told(), **{key: getattr(self.share, key) for key in DERIVED}}
        row["distribution"] = text(self.distribution)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}


SHARED = tuple(field for field in Share._fields if field not in ("padding_row", "lazy", "passed"))
"""The fields of a share that a row tells."""

DERIVED = ("mean", "std", "low", "high", "peak")
AGREED = (*(key for key in SHARED if key not in ("selector", "location")), "mean", "std")
ROW_KEYS = ("name", "aliases", *SHARED, *DERIVED)


def agreed(row: Mapping[str, Any]) -> Hashable:
    """Return what rows of repeated blocks have in common where one line stands for all of them."""
    return tuple(tuple(row[key]) if isinstance(row[key], list) else row[key] for key in AGREED)


def table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as tables show it: with mean and standard deviation as one text, and a mark of what is frozen."""
    left = row["reason"] if row["rule"] is None and row["reason"] in (FROZEN, ADAPTER) else row["init"]
    return {**row, "init": left, "expected": spread(row["mean"], row["std"])}
