"""Model and recipe -> plan: names and shapes, never a value."""

import initplug.torch_versions  # noqa: F401  # which refuses a torch that is too old, before anything else fails of it
