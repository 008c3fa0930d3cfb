"""Several processes on this machine initialise one model together.

`scenes.py` holds what they do, `replica_scenes.py` the same of replicas, `exact_scenes.py` how it is audited under
a seed, `calibration_scenes.py` what calibrated recipes give, `disagreements.py` what happens where they do not do the
same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch_parts import VERSION

HERE = Path(__file__).parent
PLAYED = {2: 50, 3: 12, 4: 27, 8: 5}
"""How many scenes there are for each size, so that none is lost unnoticed."""


@pytest.mark.parametrize("size", sorted(PLAYED))
def test_every_scene_of_a_world_ends_well_on_every_rank(size: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, str(HERE / "world.py"), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    ranks = json.loads(done.stdout.splitlines()[-1])
    assert len(ranks) == size
    failed = {
        (scene, rank): outcome
        for rank, outcomes in ranks.items()
        for scene, outcome in outcomes.items()
        if not isinstance(outcome, (float, dict))
    }
    assert not failed, "\n".join(f"{scene}, {rank}:\n{outcome}" for (scene, rank), outcome in failed.items())
    lacking = {
        outcome["lacks"] for outcomes in ranks.values() for outcome in outcomes.values() if isinstance(outcome, dict)
    }
    assert not lacking or VERSION < (2, 13)
    assert {len(outcomes) for outcomes in ranks.values()} == {PLAYED[size]}
