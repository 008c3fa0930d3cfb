"""Models for the presets of timm."""

from __future__ import annotations

from families import Family

FAMILIES: list[Family] = []
