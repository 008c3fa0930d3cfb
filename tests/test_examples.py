"""Every example runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LAST_LINES = {
    "fsdp2.py": "loss before the first step: 4.6",
    "custom_initializer.py": "waves: measured std 0.014, untestable",
    "plain_use.py": "classifier.weight: expected std 0.0442, measured 0.0",
}
APPLICATION = {"train.py", "compare.py", "tasks.py"}  # test_application.py runs them


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == LAST_LINES.keys() | APPLICATION


# Its `fully_shard` cannot run forward on a CPU before.
NEW = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch trains with fully_shard on CPUs since 2.7")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEW) if "fsdp" in name else name for name in sorted(LAST_LINES)]
)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    launcher = TORCHRUN if name == "fsdp2.py" else ["-W", "error"]
    command = [sys.executable, *launcher, str(EXAMPLES / name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # torchrun warns where it has to decide
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    if name == "fsdp2.py" and not hasattr(torch.distributed.fsdp, "fully_shard"):  # since 2.6
        assert "cannot import name 'fully_shard'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(LAST_LINES[name])
