"""What can be learnt of a model before anything is written to it."""
