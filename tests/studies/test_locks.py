"""A lock holds distributions and ties: what changes them fails with the row and the line, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import command, invoke
from torch import nn

import initplug
from initplug.errors import InitplugError
from initplug.studies.lock import beside_lock, hold_to_lock, save_lock
from initplug.testing import assert_initialization


class Net(nn.Module):
    """Convolution, norm, embedding and a head that may be tied to it."""

    def __init__(self, std: float = 0.02, tied: bool = True, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, dtype=dtype)
        self.norm = nn.LayerNorm(8, dtype=dtype)
        self.table = nn.Embedding(10, 8, dtype=dtype)
        self.head = nn.Linear(8, 10, bias=False, dtype=dtype)
        nn.init.normal_(self.table.weight, 0, std)
        nn.init.normal_(self.head.weight, 0, 0.02)
        if tied:
            self.head.weight = self.table.weight


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "init.lock.json"
    save_lock(initplug.record(Net), path)
    return path


SAME: list[Callable[[], nn.Module]] = [
    Net,
    lambda: Net(std=1 / 50),
    lambda: Net(dtype=torch.bfloat16),
    lambda: Net().requires_grad_(False),
]


@pytest.mark.parametrize("build", SAME)
def test_what_initialises_alike_passes(build: Callable[[], nn.Module], lock: Path) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert_initialization(build, lock)
    assert torch.equal(torch.get_rng_state(), state)
    assert [*hold_to_lock(build, lock)] == []


def test_what_differs_is_told_with_both_sides_and_the_line(lock: Path) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_initialization(lambda: Net(std=0.03), lock)
    told = str(failed.value)
    line = next(
        number for number, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "table.weight, 0" in text
    )
    row = next(text for text in told.splitlines() if text.startswith(" table.weight"))
    assert "normal(mean=0, std=0.02)" in row
    assert "normal(mean=0, std=0.03)" in row
    assert "×1.5" in row
    assert f"test_locks.py:{line}" in row
    assert told.endswith(f"1 of 5 slots differs between {lock} and recorded")


def test_ties_are_held(lock: Path) -> None:
    rows = {row.name: row for row in hold_to_lock(lambda: Net(tied=False), lock)}
    assert rows["table.weight"].what == "ties"
    assert rows["table.weight"].b == "not tied"
    assert rows["head.weight"].what == "only in b"


def test_a_lock_holds_no_path_of_this_machine_that_counts(lock: Path) -> None:
    held = json.loads(lock.read_text())
    for row in held["rows"]:
        row["location"] = "/elsewhere/net.py:7"
    held["made_by"] = {"initplug": "9.9", "torch": "9.9"}
    lock.write_text(json.dumps(held))
    assert_initialization(Net, lock)


def test_what_is_no_lock_or_builds_nothing_is_refused(lock: Path, tmp_path: Path) -> None:
    with pytest.raises(InitplugError, match=r"give its constructor, such as lambda: Net\(…\)"):
        assert_initialization(Net(), lock)
    with pytest.raises(InitplugError, match="cannot be read: No such file"):
        assert_initialization(Net, tmp_path / "nothing.json")
    lock.write_text('{"schema": 1}')
    with pytest.raises(InitplugError, match="it has no rows with a name and a rule"):
        assert_initialization(Net, lock)
    with pytest.raises(InitplugError, match=r"\.json"):
        save_lock(initplug.record(Net), tmp_path / "init.lock")


def test_recordings_are_sides_of_a_diff(lock: Path) -> None:
    recording = initplug.record(lambda: Net(tied=False))
    rules = {"*": "default", "(table|head).weight": "trunc_normal std=0.02 low=-2 high=2"}  # cut where nothing is
    assert [*initplug.diff(Net(tied=False), recording, {"rules": rules})] == []
    rules["(table|head).weight"] = "trunc_normal std=0.02"
    rows = initplug.diff(Net(tied=False), recording, {"rules": rules})
    assert [(row.name, row.what) for row in rows] == [("table.weight", "distribution"), ("head.weight", "distribution")]
    assert (rows.a, rows.b) == ("recorded", "b")
    assert [*beside_lock(lock, initplug.record(Net))] == []


def test_copies_are_told_apart_from_independent_draws() -> None:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    found = {row.name: row for row in initplug.diff(build(), initplug.record(build), "torch_default")}
    assert found["layers.1.linear1.weight"].a.startswith("copy(layers.0.linear1.weight)")
    assert "layers.0.linear1.weight" not in found


def test_commands_write_a_lock_and_hold_the_code_to_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n"
        "def build():\n    layer = nn.Linear(4, 3)\n    nn.init.zeros_(layer.bias)\n    return layer\n"
    )
    assert command(tmp_path, "record", "net.py:build", "--lock", "init.lock.json").returncode == 0
    held = command(tmp_path, "diff", "net.py:build", "--lock", "init.lock.json", "--exit-code")
    assert (held.returncode, held.stdout) == (0, "init.lock.json and recorded give all 2 slots the same\n")
    source = (tmp_path / "net.py").read_text()
    (tmp_path / "net.py").write_text(source.replace("zeros_", "ones_"))
    broken = command(tmp_path, "diff", "net.py:build", "--lock", "init.lock.json", "--exit-code")
    assert broken.returncode == 1
    assert "constant(0)" in broken.stdout
    assert "constant(1)" in broken.stdout
    assert "net.py:5" in broken.stdout
    beside = command(tmp_path, "diff", "net.py:build", "--lock", "init.lock.json", "torch_default")
    assert "1 of 2 slots differs between init.lock.json and torch_default" in beside.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resnext"], "two recipes are compared, or with --lock one recipe or none"),
        (["a", "b", "--lock", "init.lock.json"], "two recipes are compared, or with --lock one recipe or none"),
        (["--lock", "nothing.json"], "nothing.json: cannot be read: No such file or directory"),
    ],
)
def test_sides_that_are_too_few_or_too_many(words: list[str], told: str) -> None:
    result = invoke("diff", "torch.nn:Linear(2, 2)", *words)
    assert result.exit_code in (1, 2)
    assert told in result.output
