"""The command line: commands, the models and configs that they name, what they print and save."""

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
