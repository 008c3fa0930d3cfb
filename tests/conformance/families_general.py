"""Models for presets that name no codebase, and those of plain torch.nn."""

from __future__ import annotations

from families import Family

FAMILIES: list[Family] = []
