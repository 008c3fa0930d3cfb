"""Model and recipe -> plan: names and shapes, never a value."""
