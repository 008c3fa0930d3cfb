"""The suite under other versions: of torch, of Python, and under every declared minimum at once.

    python tests/compatibility/versions.py torch [VERSION…]     the suite on each torch, without conformance and browser
    python tests/compatibility/versions.py python [VERSION…]    the half that needs no torch, on each Python
    python tests/compatibility/versions.py floors               the suite with the lowest versions of pyproject.toml

Each run has a virtual environment of its own below build/, which is removed when it is done. A Python that is not on
the machine is named and left out. What was found is written to the table of examples/guide/compatibility.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "compatibility"
GUIDE = ROOT / "examples" / "guide" / "compatibility.md"

TORCHES = {"2.4.1": "3.11", "2.6.0": "3.12", "2.9.1": "3.10", "2.13.0": "3.11", "2.14.1": "3.13", "2.15.0": "3.11"}
"""Versions of torch that are tried, each under one of the Pythons."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
FLOOR_PYTHON = "3.10"

WITHOUT = ("conformance", "peers", "reporting/test_browser.py", "benchmarks", "compatibility", "fuzz")
"""Tests that say nothing of a version: models of others, a browser, timings, this, and fuzzers, which take long."""

NO_TORCH = (
    *("tests/language/test_messages.py", "tests/language/test_numbers.py", "tests/language/test_schema.py"),
    *("tests/hydra_apps/test_completion.py", "tests/hydra_apps/test_search_path.py", "tests/test_columns.py"),
    *("initplug/language", "initplug/errors.py", "initplug/values.py", "initplug/columns.py"),
)
"""What is tested without torch: the language, its messages, its schema, Hydra's side."""

MODELS = ("huggingface-hub", "tokenizers", "regex", "requests", "einops")
"""Test requirements of models of others alone, which ask for newer packages than initplug does."""

NO_TORCH_TESTS = ("pytest", "hypothesis", "jsonschema")


def main() -> int:
    """Run what is asked for; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["torch", "python", "floors"])
    parser.add_argument("versions", nargs="*")
    parser.add_argument("--keep", action="store_true", help="leave the environments where they are")
    given = parser.parse_args()
    failed = 0
    if given.what == "python":
        versions = given.versions or PYTHONS
        with ThreadPoolExecutor(2) as pool:  # each is one process
            results = pool.map(lambda one: _on_python(one, given.keep), versions)
            for version, result in zip(versions, results, strict=True):
                failed += _told(f"Python {version}", result)["failed"]
        return int(failed > 0)
    known = _results()
    if given.what == "floors":
        known["floors"] = _told("floors", _on_floors(given.keep))
    else:
        for version in given.versions or TORCHES:
            known[version] = _told(f"torch {version}", _on_torch(version, given.keep))
    _record(known)
    return int(any(result["failed"] for result in known.values()))


# Runs -------------------------------------------------------------------------------------------------------


def _on_torch(version: str, keep: bool) -> dict[str, Any]:
    """Run the suite on a version of torch."""
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    others = [line for line in pinned if not line.startswith(("torch==", "triton=="))]  # each torch asks for its Triton
    python = TORCHES.get(version, "3.11")
    pins = others if python == "3.11" else []  # the pinned versions are those of the Python of development
    return _whole(f"torch-{version}", python, [f"torch=={version}", *pins], keep)


def _on_floors(keep: bool) -> dict[str, Any]:
    """Run the suite on the lowest versions that are declared."""
    lowest = [re.sub(r"^([\w-]+)>=([\w.]+).*", r"\1==\2", requirement) for requirement in _project()["dependencies"]]
    tools = [each for each in _project()["optional-dependencies"]["test"] if not each.startswith(MODELS)]
    return _whole("floors", FLOOR_PYTHON, lowest, keep, tools, ("sharded", "studies"))


def _whole(
    name: str, version: str, pins: Sequence[str], keep: bool, tools: Sequence[str] = (), without: Sequence[str] = ()
) -> dict[str, Any]:
    """Install the project and its tests under pins, and run all that depends on a version.

    Args:
        name: of the run.
        version: of Python.
        pins: constraints for pip.
        keep: whether the environment stays.
        tools: what tests need, instead of the extra `test` and the models of others.
        without: tests that are left out, beside those that are always.
    """
    python = _environment(name, version)
    if python is None:
        return {"Python": version, "missing": True, "passed": 0, "failed": 0}
    try:
        constraints = BUILD / f"{name}.txt"
        constraints.write_text("\n".join(pins) + "\n")
        if tools:
            _install(python, "--constraint", str(constraints), "--editable", str(ROOT), *tools)
        else:
            _install(python, "--constraint", str(constraints), "--editable", f"{ROOT}[test]")
            _install(python, "--no-deps", "--requirement", str(ROOT / "tests" / "conformance" / "requirements.txt"))
        found = _versions(python)
        ignored = [f"--ignore=tests/{each}" for each in (*WITHOUT, *without)]
        return {**found, **_tested(python, name, ["-n", "2", *ignored])}
    finally:
        if not keep:
            shutil.rmtree(python.parents[1])


IN_THE_TREE = Lock()
"""Held while an editable installation writes the kernel to the tree."""


def _on_python(version: str, keep: bool) -> dict[str, Any]:
    """Run the half that needs no torch on a version of Python."""
    python = _environment(f"python-{version}", version)
    if python is None:
        return {"Python": version, "missing": True, "passed": 0, "failed": 0}
    try:
        needed = [each for each in _project()["dependencies"] if not each.startswith("torch")]
        _install(python, *needed, *NO_TORCH_TESTS)
        with IN_THE_TREE:
            _install(python, "--no-deps", "--editable", str(ROOT))
        return {"Python": version, **_tested(python, f"python-{version}", NO_TORCH)}
    finally:
        if not keep:
            shutil.rmtree(python.parents[1])


# Environments -----------------------------------------------------------------------------------------------


def _environment(name: str, version: str) -> Path | None:
    """Make a virtual environment of a version of Python; None where there is none."""
    found = _python(version)
    if found is None:
        return None
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([found, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def _python(version: str) -> str | None:
    """Return the Python of a version: this one, one on the path, or one of pyenv's."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    for candidate in (sys.executable, f"python{version}", *map(str, kept)):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        if done.stdout.strip() == version:
            return candidate
    return None


def _install(python: Path, *words: str) -> None:
    """Install packages; what pip says is shown where it fails."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words], check=True)


def _versions(python: Path) -> dict[str, str]:
    """Return what was installed."""
    code = "import json, platform, numpy, pydantic, torch; print(json.dumps({'Python': platform.python_version(), "
    code += "'torch': torch.__version__, 'NumPy': numpy.__version__, 'pydantic': pydantic.VERSION}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _tested(python: Path, name: str, words: Sequence[str]) -> dict[str, Any]:
    """Run pytest and count; what fails is printed."""
    report = BUILD / f"{name}.xml"
    options = ["--quiet", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command: list[str | Path] = [python, "-m", "pytest", *options, *words]
    log = BUILD / f"{name}.log"
    with log.open("w") as stream:
        subprocess.run(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if not report.exists():
        print(log.read_text()[-4000:])
        return {"passed": 0, "failed": 1, "skipped": 0}
    suite = next(ET.parse(report).iter("testsuite")).attrib  # our own file
    total, bad, skipped = int(suite["tests"]), int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    if bad:
        print(*[line for line in log.read_text().splitlines() if line.startswith(("FAILED", "ERROR"))], sep="\n")
    return {"passed": total - bad - skipped, "failed": bad, "skipped": skipped}


def _project() -> dict[str, Any]:
    """Return what pyproject.toml says of the project; this needs Python 3.11."""
    import tomllib

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


# The table --------------------------------------------------------------------------------------------------


def _told(what: str, result: dict[str, Any]) -> dict[str, Any]:
    """Print the outcome of a run."""
    if result.get("missing"):
        print(f"{what}: there is no Python {result['Python']} here", flush=True)
    else:
        print(f"{what}: {', '.join(f'{value} {key}' for key, value in result.items())}", flush=True)
    return result


KEYS = ("Python", "torch", "NumPy", "pydantic", "passed", "failed", "skipped")
"""Columns of the table after the name of the run."""

START, END = "<!-- measured -->\n", "<!-- end -->\n"


def _results() -> dict[str, dict[str, Any]]:
    """Return the rows of the table as they stand, by version."""
    rows = GUIDE.read_text().split(START)[1].split(END)[0].splitlines()[2:]
    found = {}
    for row in rows:
        name, python, torch, numpy, pydantic, passed, failed, skipped = (
            cell.strip() for cell in row.strip("|").split("|")
        )
        found[name] = {
            **{"Python": python, "torch": torch, "NumPy": numpy, "pydantic": pydantic},
            **{"passed": int(passed), "failed": int(failed), "skipped": int(skipped)},
        }
    return found


def _record(results: dict[str, dict[str, Any]]) -> None:
    """Write the table anew."""
    lines = [f"| run | {' | '.join(KEYS)} |", f"|---|{'---|' * len(KEYS)}"]
    order = sorted(results, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])  # floors first
    lines += [f"| {name} | {' | '.join(str(results[name].get(key, '')) for key in KEYS)} |" for name in order]
    before, rest = GUIDE.read_text().split(START)
    GUIDE.write_text(before + START + "\n".join(lines) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    print(f"{platform.platform()}, Python {platform.python_version()}")
    sys.exit(main())
