"""Rules that messages offer as they can be written down."""

from __future__ import annotations

import json
import re

from initplug.language.selectors import selector_of
from initplug.planning.slots import Slot


def own_rule(slot: Slot, init: str | None = None) -> str:
    """Return the line of a recipe that gives a slot an initializer of its own.

    Args:
        slot: that the rule takes alone.
        init: what it gives; unless it is known, a constant, or a normal draw for what has two dimensions or more.
    """
    tensor = slot.tensor
    if init is None:
        init = "normal std=0.02" if tensor.ndim > 1 and tensor.is_floating_point() else "1"
    selector = selector_of(slot.name)
    if not PLAIN_SELECTOR.fullmatch(selector):
        selector = json.dumps(selector, ensure_ascii=False)
    if slot.kind == "parameter" and tensor.requires_grad:
        return f"{selector}: {init}"
    taking = "kind: buffer" if slot.kind == "buffer" else "trainable: any"
    return f"own: {{match: {selector}, {taking}, init: {init}}}"


PLAIN_SELECTOR = re.compile(r"\^[\w.-]+")
"""Selectors that YAML reads as they are, also in flow style."""
