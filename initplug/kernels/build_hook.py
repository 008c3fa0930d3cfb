"""Builds the binary of kernel.c into a wheel, or beside its source for an editable install.

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
from typing import TYPE_CHECKING, Any, NamedTuple

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

VARIABLE = "INITPLUG_BUILD_FOR"
"""Of the environment: the platform that a wheel is built for, by its tag; this machine's without it."""


class Platform(NamedTuple):
    """A platform that wheels are built for.

    Args:
        target: as zig names it.
        binary: name of the binary there.
    """

    target: str
    binary: str


PLATFORMS = {
    "manylinux2014_x86_64": Platform("x86_64-linux-gnu.2.17", "kernel.so"),
    "manylinux2014_aarch64": Platform("aarch64-linux-gnu.2.17", "kernel.so"),
    "macosx_11_0_x86_64": Platform("x86_64-macos.11.0", "kernel.dylib"),
    "macosx_11_0_arm64": Platform("aarch64-macos.11.0", "kernel.dylib"),
    "win_amd64": Platform("x86_64-windows-gnu", "kernel.dll"),
}
"""By the tags of their wheels."""

DIGEST = "kernel.blake2b"

HERE = {"win32": "kernel.dll", "darwin": "kernel.dylib"}.get(sys.platform, "kernel.so")


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


def build(command: list[str], binary: Path) -> str | None:
    """Compile kernel.c, write the digest of the binary beside it, and return what went wrong, in a line."""
    source, made = binary.with_name("kernel.c"), binary.with_name(f"{binary.name}.new")
    digest = binary.with_name(DIGEST)
    try:
        done = subprocess.run([*command, *FLAGS, "-o", made, source], capture_output=True, text=True, check=False)
        if done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines()
            return f"{command[0]} failed: {told[0] if told else done.returncode}"
        digest.write_text(hashlib.blake2b(made.read_bytes()).hexdigest() + "\n")
        made.replace(binary)
    except OSError as error:
        return f"{command[0]} failed: {error}"
    finally:
        for left in (made, *binary.parent.glob("*.pdb"), *binary.parent.glob("kernel*.lib")):
            left.unlink(missing_ok=True)
    return None


def build_or_tell(command: list[str] | None, binary: Path) -> bool:
    """Return whether the binary was built; if not, say so in a line on standard error, and leave none."""
    problem = "there is no C compiler" if command is None else build(command, binary)
    if problem is not None:
        binary.unlink(missing_ok=True)
        binary.with_name(DIGEST).unlink(missing_ok=True)
        print(f"initplug: the native kernel is not built ({problem}); the reference is used, slower", file=sys.stderr)  # noqa: T201
    return problem is None


class KernelBuildHook(BuildHookInterface):
    """Builds the binary and names the platform of the wheel that holds it."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what a build takes: a compiler, where there is none."""
        return [] if self.target_name != "wheel" or (compiler() and VARIABLE not in os.environ) else ["ziglang"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's
        """Build the binary before hatchling looks for files."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root) / "initplug" / "kernels"
        tag = os.environ.get(VARIABLE)
        if tag is None:
            built, binary = build_or_tell(compiler(), folder / HERE), HERE
            tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        else:
            target, binary = PLATFORMS[tag]
            problem = build(zig(target), folder / binary)
            if problem is not None:
                raise RuntimeError(f"{tag}: {problem}")
            built = True
        if built:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{tag}"
            build_data["artifacts"] += [f"/initplug/kernels/{name}" for name in (binary, DIGEST)]


def make_wheels(out: str) -> None:
    """Build a wheel for every platform, and the binary of this machine anew."""
    for tag in PLATFORMS:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--outdir", out], env={**os.environ, VARIABLE: tag}, check=True
        )
    for name in {platform.binary for platform in PLATFORMS.values()}:
        Path(__file__).with_name(name).unlink(missing_ok=True)
    build_or_tell(compiler(), Path(__file__).with_name(HERE))


if __name__ == "__main__":
    if sys.argv[1:2] == ["wheels"]:
        make_wheels(*sys.argv[2:3])
    else:
        build_or_tell(compiler(), Path(__file__).with_name(HERE))
