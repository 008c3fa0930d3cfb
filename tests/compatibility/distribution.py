"""Wheel and source distribution, built and checked as an index and a user would: `python distribution.py`.

The metadata must render, files must be those that belong there, the wheel must install into a fresh environment beside
plugins of Hydra and pass `pip check`, and so must an editable install.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "distribution"

BESIDE = ("hydra-joblib-launcher", "hydra-colorlog")
"""Plugins that must find initplug's presets beside them."""

PRESETS = len([*(ROOT / "initplug" / "presets" / "init").glob("*.yaml")])

TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def main() -> None:
    """Build, check, install, run; whatever fails ends the script."""
    shutil.rmtree(BUILD, ignore_errors=True)
    tools = _environment("tools")
    _run(tools, "-m", "pip", "install", "--quiet", "build", "twine")
    _run(tools, "-m", "build", "--outdir", str(BUILD / "dist"), str(ROOT))
    built = sorted((BUILD / "dist").iterdir())
    _run(tools, "-m", "twine", "check", "--strict", *map(str, built))
    (wheel,) = (path for path in built if path.suffix == ".whl")
    (source,) = (path for path in built if path.name.endswith(".tar.gz"))
    _check_wheel(zipfile.ZipFile(wheel).namelist(), zipfile.ZipFile(wheel).read)
    with tarfile.open(source) as archive:
        _check_source(archive.getnames())
    for name, install in (("wheel", [str(wheel)]), ("editable", ["--editable", str(ROOT)])):
        python = _environment(name)
        _run(python, "-m", "pip", "install", "--quiet", TORCH, *install, *BESIDE)
        _run(python, "-m", "pip", "check")
        told = subprocess.run([python, "-m", "initplug", "presets"], capture_output=True, text=True, check=True).stdout
        assert told.count("\n  ") == PRESETS, f"{name}: {told.count(chr(10) + '  ')} presets of {PRESETS}"
        _run(python, "-m", "initplug", "plan", "torch.nn:Linear(2, 2)", "torch_default")
        _run(python, "-c", APPLICATION)
        told = subprocess.run(
            [python, "-m", "initplug", "--version"], capture_output=True, text=True, check=True
        ).stdout
        assert told.endswith("native kernel\n"), told
    size = wheel.stat().st_size / 1e6
    print(f"{wheel.name}: {len(zipfile.ZipFile(wheel).namelist())} files, {size:.2f} MB; {source.name}")


SOURCES = [
    f"initplug/kernels/{name}" for name in ("kernel.c", "kernel.h", "qr.c", "qr_steps.h", "build_hook.py", "normal.npy")
]
"""What the native kernel is built of."""

KERNEL = [*SOURCES, "initplug/kernels/kernel.bin", "initplug/kernels/kernel.blake2b"]
"""What a wheel that is built here, where there is a compiler, or ziglang is fetched, has of the native kernel."""

APPLICATION = """
from hydra import compose, initialize
with initialize(version_base=None):
    config = compose(overrides=["+init=resnext", "hydra/launcher=joblib", "hydra/job_logging=colorlog"])
    assert config.init.name == "resnext", config
"""


def _check_wheel(names: list[str], read: object) -> None:
    assert all(name.split("/")[0] in {"initplug", "hydra_plugins"} or ".dist-info/" in name for name in names), names
    assert sum(name.startswith("initplug/presets/init/") for name in names) == PRESETS
    _contains(
        names,
        [
            *KERNEL,
            "initplug/py.typed",
            "initplug/reporting/web/template/page.html",
            "initplug/presets/initplug.schema.json",
        ],
    )
    assert not any("test" in name for name in names if not name.startswith("initplug/testing")), names
    (metadata,) = (name for name in names if name.endswith("METADATA"))
    text = read(metadata).decode()  # type: ignore[operator]  # of a zip file
    assert "](examples/" not in text and "](CHANGELOG" not in text, "links of the README are relative"


def _check_source(names: list[str]) -> None:
    inside = [name.partition("/")[2] for name in names]
    _contains(inside, ["README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "tests/test_application.py"])
    _contains(inside, SOURCES)
    assert not any(name.endswith(("kernel.bin", "kernel.blake2b")) for name in inside), inside


def _contains(names: Iterable[str], wanted: Iterable[str]) -> None:
    missing = {*wanted} - {*names}
    assert not missing, f"it lacks {missing}"


def _environment(name: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", BUILD / name], check=True)
    return BUILD / name / "bin" / "python"


def _run(python: Path, *words: str) -> None:
    subprocess.run([python, *words], check=True, cwd=BUILD)


if __name__ == "__main__":
    main()
