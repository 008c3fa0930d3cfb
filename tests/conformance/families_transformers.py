"""Models for the presets of transformers."""

from __future__ import annotations

from families import Family

FAMILIES: list[Family] = []
