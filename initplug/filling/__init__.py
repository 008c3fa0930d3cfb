"""Plan -> values: the only place that writes to a model."""
