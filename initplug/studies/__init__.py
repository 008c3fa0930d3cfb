"""Studies of a model before anything is written to it."""
