"""Structures: distributions whose elements belong together, one file each, with the initializer that gives it."""

from initplug.schemes.structures.base import Draw as Draw
