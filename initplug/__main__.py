"""The command `initplug`, also as `python -m initplug`."""

from __future__ import annotations

import sys

REINSTALL = "pip install --force-reinstall initplug"


def main() -> None:
    """Run the command line; what is not installed is told in a line."""
    try:
        from initplug.cli.commands import main as run
    except ImportError as error:
        sys.exit(f"Error: initplug is not installed whole ({error}): {REINSTALL}")
    run()


if __name__ == "__main__":
    main()
