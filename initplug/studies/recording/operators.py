"""Operators of torch: what they write to, draw and make, by their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves


class Operator(NamedTuple):
    """The properties of an operator that are asked for at every call.

    Args:
        name: without the mark of what works in place.
        written: the places and names of the arguments that it writes to.
        views: whether what it returns are views.
        draws: whether it takes random numbers.
        in_place: whether its first argument is what it writes to.
        makes: whether it makes a tensor of sizes, and of no values of another.
    """

    name: str
    written: tuple[tuple[int, str], ...]
    views: bool
    draws: bool
    in_place: bool
    makes: bool

    def targets(self, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
        """Return what a call writes to."""
        given = (args[place] if place < len(args) else kwargs.get(name) for place, name in self.written)
        return [leaf for one in given for leaf in tree_leaves(one)]


@lru_cache(maxsize=4096)
def operator_of(func: Any) -> Operator:
    """Return the properties of an operator."""
    schema = func._schema
    written = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    views = not written and any(result.alias_info is not None for result in schema.returns)
    name = schema.name.partition("::")[2]
    views = views or name == "set_"  # which has the tensor show other memory
    draws = torch.Tag.nondeterministic_seeded in func.tags
    takes = any("Tensor" in str(argument.type) for argument in schema.arguments)
    shaped = not takes or name.startswith("new_") or name.endswith("_like")
    makes = shaped and any(argument.name == "device" for argument in schema.arguments)
    return Operator(name.rstrip("_"), written, views, draws, name.endswith("_"), makes)
