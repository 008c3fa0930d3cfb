"""Memory that is free for a model to be built in."""

from __future__ import annotations

import math
from pathlib import Path

LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files that say how many bytes a container may take, and how many it has: of both versions of control groups."""


def available_memory() -> float:
    """Return the bytes that may be taken: of the machine and of the container; infinite where nobody tells."""
    found = [_number(limit) - _number(taken, 0.0) for limit, taken in LIMITS]
    lines = _text("/proc/meminfo").splitlines()
    found += [1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return max(0.0, min(found))


def _number(path: str, otherwise: float = math.inf) -> float:
    text = _text(path).strip()
    return float(text) if text.isdigit() else otherwise


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # other systems
        return ""
