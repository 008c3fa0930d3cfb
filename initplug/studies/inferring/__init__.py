"""Inferences: how probable initializers are of values."""
