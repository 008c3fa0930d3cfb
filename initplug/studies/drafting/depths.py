"""Depths: numbers that go with how many blocks there are, with the place of one, or with an attribute, as factors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initplug.planning.slots import Tree
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant, Normal, Uniform
from initplug.schemes.fans import Fans
from initplug.studies.drafting.agreement import alike
from initplug.studies.drafting.spelling import form_of, is_short
from initplug.studies.recording.rows import Row

TIMES = (1, 2, 3)
"""Numbers of branches that a block has."""


NEAR = 1e-5
"""The relative distance within which a recorded variance is one that a formula gives."""

Reach = Sequence[float] | None
"""The same of every row, where variances were measured; None where they were recorded."""


def depth_factors(tree: Tree, rows: Sequence[Row], wanted: NDArray[np.bool_], reach: Reach = None) -> Iterator[Any]:
    """Yield initializers that others of the model are, over the root of a number of blocks or of a block's place.

    Args:
        tree: the recorded model.
        rows: of its parameters.
        wanted: the rows that nothing else gives.
        reach: of every row how far its variance may be off, as a share of it.
    """
    bases = [
        (drawn, form)
        for drawn in dict.fromkeys(row.distribution for row in rows if row.distribution is not None)
        if not isinstance(drawn, Constant) and (form := form_of(drawn)) is not None and is_short(form, digits=2)
    ]
    repeated = _repeated(tree)
    seen = set()
    for place in np.flatnonzero(wanted).tolist():
        drawn = rows[place].distribution
        if drawn is None or isinstance(drawn, Constant):
            continue
        for base, form in bases:
            near = None if reach is None else reach[place]
            for counted, name, times in _explained(drawn, base, tree, place, repeated, near):
                key = (repr(form), counted, name, times)
                if key not in seen:
                    seen.add(key)
                    factor = {counted: f"<{name}>", **({"times": times} if times != 1 else {})}
                    yield {**(form if isinstance(form, dict) else {"fn": form}), "factor": factor}


def attribute_factors(tree: Tree, rows: Sequence[Row], wanted: NDArray[np.bool_], reach: Reach = None) -> Iterator[Any]:
    """Yield normal and uniform initializers over the root of a whole number that the owner, or a configuration, has.

    Args:
        tree: the recorded model.
        rows: of its parameters.
        wanted: the rows that nothing else gives.
        reach: of every row how far its variance may be off, as a share of it.
    """
    seen = set()
    for place in np.flatnonzero(wanted).tolist():
        near = NEAR if reach is None else reach[place]
        for form, size in _over_roots(rows[place]):
            if size < LEAST or (reach is None and abs(size - round(size)) > NEAR * size):
                continue
            for reference in _numbers(tree, place, size, near):
                if (repr(form), reference) not in seen:
                    seen.add((repr(form), reference))
                    yield {**form, "factor": {"attr": reference}}


LEAST = 4
"""The least size that is looked for: smaller numbers are many things."""


def _over_roots(row: Row) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield initializers, and what the draw is one of them over the root of."""
    match row.distribution:
        case Normal(0.0, std) if std:
            yield {"fn": "normal"}, std**-2
            if len(row.shape) > 1:
                yield {"fn": "variance_scaling", "distribution": "normal"}, std**-2 / Fans(row.shape).fan_in
        case Uniform(low, high) if low == -high and high:
            yield {"fn": "uniform", "low": -1, "high": 1}, high**-2


def _numbers(tree: Tree, place: int, size: float, near: float) -> Iterator[str]:
    """Yield references to whole numbers of a size: of the owner, of the module around it, of the configuration."""
    node = tree.nodes[tree.slots[place].node]
    around = tree.nodes[node.parent].module if node.parent >= 0 else None
    settings = getattr(tree.nodes[0].module, "config", None)
    held = [
        (start, getattr(held, "__dict__", {}))
        for start, held in (("", node.module), ("..", around), ("^config.", settings))
    ]
    for start, values in held:
        for name, value in values.items():
            if start == "^config." and not SIZES.search(name):
                continue
            named = type(value) is int and name.isidentifier() and not name.startswith("_")
            if named and value >= LEAST and abs(value - size) <= near * size:
                yield f"{start}{name}"


SIZES = re.compile(
    r"^(?!.*(image|vocab|patch|seq|length|token|position|_id$)).*(dim|hidden|width|size|embd?|model|kv|inner)"
)
"""Names that a configuration has for widths, beside many other numbers."""


CONTAINERS = frozenset({"ModuleList", "ModuleDict", "Sequential"})
"""Modules that are no blocks, however many there are."""


def deep_scales(tree: Tree, rows: Sequence[Row], wanted: NDArray[np.bool_]) -> Iterator[Any]:
    """Yield normal initializers of a variance of 1 over a fan, over the root of a number of blocks, as CLIP has them.

    Args:
        tree: the recorded model.
        rows: of its parameters.
        wanted: the rows that nothing else gives.
    """
    repeated, seen = _repeated(tree), set()
    for place in np.flatnonzero(wanted).tolist():
        drawn, shape = rows[place].distribution, rows[place].shape
        if not isinstance(drawn, Normal) or drawn.mean or len(shape) < 2:
            continue
        for mode, fan in (("fan_in", Fans(shape).fan_in), ("fan_out", Fans(shape).fan_out)):
            for counted, name, times in _explained(drawn, Normal(0.0, fan**-0.5), tree, place, repeated, None):
                if counted == "count" and name not in CONTAINERS and (mode, name, times) not in seen:
                    seen.add((mode, name, times))
                    form = {"fn": "variance_scaling", "mode": mode, "distribution": "normal"}
                    yield {**form, "factor": {"count": f"<{name}>", "times": times}}


def _repeated(tree: Tree) -> dict[int, tuple[str, int, int]]:
    """Return of nodes whose class occurs more than once the class, how many there are, and the place among them."""
    nodes = defaultdict(list)
    for index, node in enumerate(tree.nodes):
        if index and node.module._modules:
            nodes[node.cls.__name__].append(index)
    return {
        index: (name, len(indices), place)
        for name, indices in nodes.items()
        if len(indices) > 1
        for place, index in enumerate(indices, 1)
    }


def _explained(
    drawn: Drawn, base: Drawn, tree: Tree, place: int, repeated: dict[int, tuple[str, int, int]], near: float | None
) -> Iterator[tuple[str, str, int]]:
    """Yield what counts, of which class, and how many times, if that makes one distribution of another."""
    if type(drawn) is not type(base) or not base.std or not drawn.std:
        return
    ratio = (base.std / drawn.std) ** 2
    if base.std == 1 and abs(ratio - 2) <= 1e-5:  # 1/√2 is that of the parts of complex numbers
        return
    for node in reversed([*tree.ancestors(tree.slots[place].node)]):  # blocks hold what is in them as often
        if node not in repeated:
            continue
        name, count, at = repeated[node]
        for times in TIMES:
            for counted, number in (("count", count), ("place", at)):
                close = abs(ratio - times * number) <= (NEAR if near is None else near) * ratio
                if close and (near is not None or alike(base.times(1.0, (times * number) ** 0.5), drawn)):
                    yield counted, name, times
