"""Random streams, version 1, as numbers and memory: what computes them on each kind of device."""
