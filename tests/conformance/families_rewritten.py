"""Models for presets of code that no package installs: the cited procedures as loops, on nets like theirs."""

from __future__ import annotations

from families import Family

FAMILIES: list[Family] = []
