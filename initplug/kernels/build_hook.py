"""Builds the binary of kernel.c and qr.c into a wheel, or beside its source for an editable install.

Hatchling runs it where it builds; `python build_hook.py` builds for this machine, `python build_hook.py wheels` makes a
wheel for every platform, with ziglang as the compiler. Without a compiler the reference does the work.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ImportError:  # nobody builds a wheel here
        BuildHookInterface = object

FLAGS = (
    *("-std=gnu99", "-O3", "-shared", "-fPIC", "-s", "-fvisibility=hidden"),
    *("-ffp-contract=off", "-fno-math-errno"),  # a fused multiply-add has other bits
)

PLATFORM_VARIABLE = "INITPLUG_BUILD_FOR"
"""Of the environment: the platform that a wheel is built for, by its tag; this machine's without it."""


PLATFORMS = {
    "manylinux2014_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux2014_aarch64": "aarch64-linux-gnu.2.17",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}
"""The platforms that wheels are built for: the tag of each, and its name for zig."""

FOLDER = Path(__file__).parent

SOURCES = ("kernel.c", "qr.c")

BINARY, DIGEST = FOLDER / "kernel.bin", FOLDER / "kernel.blake2b"
"""Named so that Python takes the binary for no module."""


def compiler() -> list[str] | None:
    """Return the command of the C compiler that this machine has."""
    wanted = shlex.split(os.environ.get("CC", ""))
    for command in (wanted, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    return zig() if importlib.util.find_spec("ziglang") else None


def zig(target: str = "") -> list[str]:
    """Return the command of ziglang's C compiler."""
    return [sys.executable, "-m", "ziglang", "cc", *(["-target", target] if target else [])]


def build(command: list[str], folder: Path = FOLDER) -> str | None:
    """Compile the sources, write the digest of the binary beside it, and return what went wrong, in a line."""
    made, digest = folder / "kernel.new", folder / DIGEST.name
    try:
        words = [*command, *FLAGS, "-o", str(made), *(str(folder / name) for name in SOURCES)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines()
            return f"{command[0]} failed: {told[0] if told else done.returncode}"
        digest.write_text(hashlib.blake2b(made.read_bytes()).hexdigest() + "\n")
        made.replace(folder / BINARY.name)
    except OSError as error:
        return f"{command[0]} failed: {error}"
    finally:
        for left in (made, folder / "kernel.pdb", folder / "kernel.lib"):
            left.unlink(missing_ok=True)
    return None


def build_or_tell(command: list[str] | None, folder: Path = FOLDER) -> bool:
    """Return whether the binary was built; if not, say so in a line on standard error, and leave none."""
    problem = "there is no C compiler" if command is None else build(command, folder)
    if problem is not None:
        for name in (BINARY.name, DIGEST.name):
            (folder / name).unlink(missing_ok=True)
        print(f"initplug: the native kernel is not built ({problem}); the reference is used, slower", file=sys.stderr)  # noqa: T201  # the line of a build
    return problem is None


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc]  # hatchling ships no types here
    """Builds the binary and names the platform of the wheel that holds it."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what a build takes: a compiler, where there is none."""
        return (
            [] if self.target_name != "wheel" or (compiler() and PLATFORM_VARIABLE not in os.environ) else ["ziglang"]
        )

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's
        """Build the binary before hatchling looks for files."""
        if self.target_name != "wheel":
            return
        tag = os.environ.get(PLATFORM_VARIABLE)
        if tag is None:
            built = build_or_tell(compiler())
            tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        else:
            problem, built = build(zig(PLATFORMS[tag])), True
            if problem is not None:
                raise RuntimeError(f"{tag}: {problem}")
        if built:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"
            build_data["artifacts"] += [f"/initplug/kernels/{path.name}" for path in (BINARY, DIGEST)]


def make_wheels(out: str) -> None:
    """Build a wheel for every platform, and the binary of this machine anew."""
    for tag in PLATFORMS:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--outdir", out],
            env={**os.environ, PLATFORM_VARIABLE: tag},
            check=True,
        )
    build_or_tell(compiler())


if __name__ == "__main__":
    if sys.argv[1:2] == ["wheels"]:
        make_wheels(*sys.argv[2:3])
    else:
        build_or_tell(compiler())
