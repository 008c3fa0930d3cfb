"""A plugin of pytest that says at the end how many inputs of each kind were tried: `pytest -p fuzz_summary`."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print one line, if anything was tried."""
    properties = [pair for report in terminalreporter.getreports("passed") for pair in report.user_properties]
    counts = {name.removeprefix("fuzzed "): count for name, count in properties if name.startswith("fuzzed ")}
    if counts:
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        terminalreporter.write_line(f"fuzzed {sum(counts.values()):,} inputs: {told}")
