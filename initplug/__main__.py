"""The command `initplug`, also as `python -m initplug`."""

from __future__ import annotations

from initplug.cli import main

if __name__ == "__main__":
    main()
