"""Calibration: layers, their outputs, and the factors that bring them to one deviation."""
