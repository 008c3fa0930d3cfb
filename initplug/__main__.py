"""`python -m initplug`."""

from initplug.cli import main

if __name__ == "__main__":
    main()
