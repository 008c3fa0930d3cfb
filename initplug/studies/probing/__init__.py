"""Signals and gradients on their way through a model: measured in one pass, told in words, drawn as curves."""
