"""Commands and imports where something that initplug needs is missing, too old or broken: a line says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

STAND_INS = {
    "no torch": {"torch.py": "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"},
    "old torch": {"torch/__init__.py": "__version__ = '2.3.1+cu121'\nclass Tensor: ...\n"},
    "broken torch": {"torch.py": "raise OSError('libcudart.so.12: cannot open shared object file')"},
    "no click": {"click.py": "raise ModuleNotFoundError(\"No module named 'click'\", name='click')"},
    "no pydantic": {"pydantic.py": "raise ModuleNotFoundError(\"No module named 'pydantic'\", name='pydantic')"},
}
MODEL = "net.py:net"

TOLD = {
    "no torch": "No module named 'torch': pip install 'torch>=2.4'\n",
    "old torch": "initplug needs torch 2.4 or later, and this is 2.3.1+cu121: pip install 'torch>=2.4'\n",
    "broken torch": (
        "torch cannot be loaded (libcudart.so.12: cannot open shared object file): "
        "pip install --force-reinstall torch\n"
    ),
    "no click": (
        "Error: initplug is not installed whole (No module named 'click'): pip install --force-reinstall initplug\n"
    ),
    "no pydantic": "No module named 'pydantic': pip install --force-reinstall initplug\n",
}

PLANNED = """
import initplug
try:
    initplug.plan
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("case", STAND_INS)
def test_what_is_missing_is_told_in_a_line(case: str, tmp_path: Path) -> None:
    for name, text in STAND_INS[case].items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "net.py").write_text("def net():\n    from torch import nn\n    return nn.Linear(2, 2)\n")
    done = subprocess.run(
        [sys.executable, "-m", "initplug", "plan", MODEL, "torch_default"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", TOLD[case])


def test_a_torch_that_is_too_old_is_refused_in_python_too(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("__version__ = '2.3.1'\n")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import initplug\ntry:\n    initplug.plan\nexcept ImportError as error:\n    print(error)",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "initplug needs torch 2.4 or later, and this is 2.3.1: pip install 'torch>=2.4'\n"
