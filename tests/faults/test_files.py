"""Files that are replaced whole or not at all: kills, full disks, links, names, and what is no file."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import command, invoke
from safetensors.torch import load_file
from torch import nn

import initplug
from initplug.tables.replacement import PREFIX, _prefix, replacing

ROOT = Path(initplug.__file__).parents[1]
RECIPE = {"rules": {"*": 0}}


@pytest.fixture
def audit() -> initplug.Audit:
    return initplug.apply(nn.Linear(2, 2), RECIPE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        "import pathlib\nfrom torch import nn\n\n\ndef net(width=4):\n"
        "    pathlib.Path('built').touch()\n    return nn.Linear(width, width)\n"
    )
    (tmp_path / "zero.yaml").write_text("rules:\n  '*': 0\n")
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    """A program that has printed a line, and waits."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n", process.communicate()
    return process


def ended(process: subprocess.Popen[str], number: signal.Signals | None = None) -> tuple[int, str, str]:
    """Status and output of a program that was sent a signal."""
    if number is not None:
        process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


# Kills ------------------------------------------------------------------------------------------------------

WRITING = """
import time
from initplug.tables.replacement import replacing
with replacing({path!r}) as file:
    file.write_bytes(b"half of it")
    print("writing", flush=True)
    time.sleep(60)
"""

# Weights that are half written when the program stops for as long as one likes.
SAVING = """
import sys, time
import initplug.cli.weights
from initplug.cli.commands import main
windows = initplug.cli.weights._byte_windows
def waiting(tensor):
    yield from windows(tensor)
    print("writing", file=sys.__stdout__, flush=True)
    time.sleep(60)
initplug.cli.weights._byte_windows = waiting
sys.argv[1:] = ["apply", "model.py:net", "zero.yaml", "--out", "w.safetensors"]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_process_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "old.json").write_text("old")
    process = started(WRITING.format(path="old.json"), tmp_path)
    assert len(names(tmp_path)) == 2
    assert ended(process, number) == (-number, "", "")  # as if nobody had listened
    assert names(tmp_path) == {"old.json"}
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line_hears_signals_while_weights_are_written(folder: Path, number: signal.Signals) -> None:
    (folder / "w.safetensors").write_text("old")
    status, stdout, stderr = ended(started(SAVING, folder), number)
    told = (1, "", "Aborted!") if number == signal.SIGINT else (-number, "", "")
    assert (status, stdout, stderr.strip()) == told
    assert names(folder) - {"__pycache__"} == {"model.py", "zero.yaml", "built", "w.safetensors"}
    assert (folder / "w.safetensors").read_text() == "old"


def test_a_handler_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    code = (
        f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{WRITING.format(path='new.json')}"
    )
    process = started(code, tmp_path)
    assert ended(process, signal.SIGTERM) == (7, "", "")
    assert names(tmp_path) == set()


def test_handlers_are_gone_after_the_write(tmp_path: Path) -> None:
    with replacing(tmp_path / "x.json") as file:
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None)
        file.write_text("x")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_sigkill_leaves_the_next_run_removes_and_no_other_does(folder: Path) -> None:
    process = started(SAVING, folder)
    before = names(folder)
    ended(process, signal.SIGKILL)
    left = {name for name in names(folder) if name.startswith(PREFIX)}
    assert len(left) == 1 and names(folder) == before
    initplug.apply(nn.Linear(2, 2), RECIPE).save(folder / "other.json")
    assert left < names(folder)
    assert invoke("apply", "model.py:net", "zero.yaml", "--out", "w.safetensors").exit_code == 0
    assert not left & names(folder)
    assert load_file(folder / "w.safetensors").keys() == {"weight", "bias"}


def test_what_another_run_is_writing_is_not_removed(tmp_path: Path, audit: initplug.Audit) -> None:
    process = started(WRITING.format(path="x.json"), tmp_path)
    (theirs,) = names(tmp_path)
    try:
        audit.save(tmp_path / "x.json")
        assert names(tmp_path) == {"x.json", theirs}
        assert (tmp_path / theirs / "content").read_bytes() == b"half of it"
    finally:
        ended(process, signal.SIGKILL)
    audit.save(tmp_path / "x.json")
    assert names(tmp_path) == {"x.json"}


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "x.json") as file:
            file.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == {"x.json"} and (tmp_path / "x.json").read_text() == "old"


def test_many_at_once_leave_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    texts = [str(number) * 200_000 for number in range(4)]
    target.write_text(texts[0])
    seen: set[str] = set()

    def write(text: str) -> None:
        for _ in range(25):
            with replacing(target) as file:
                file.write_text(text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(target.read_text())
    assert seen <= set(texts)
    assert names(tmp_path) == {"x.json"}


# Disks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--out w.safetensors", "--report r.html", "--report r.json"])
def test_a_full_disk_is_one_line_and_the_old_file_stays(folder: Path, option: str) -> None:
    name = option.split()[1]
    (folder / name).write_text("old")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = command(folder, "apply", "model.py:net(64)", "zero.yaml", *option.split(), before=limited)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"InitplugError: {name}: cannot be written: File too large\n"
    assert names(folder) == {"model.py", "zero.yaml", "built", name}
    assert (folder / name).read_text() == "old"


def test_a_full_standard_output_is_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "initplug", "plan", "model.py:net", "zero.yaml"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "cannot write: No space left on device\n")


def test_the_file_is_on_the_disk_before_it_has_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audit: initplug.Audit
) -> None:
    done: list[str] = []
    flush, replace = os.fsync, Path.replace

    def flushing(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        flush(handle)

    def replaced(self: Path, target: Path) -> Path:
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(Path, "replace", replaced)
    audit.save(tmp_path / "x.json")
    assert done == ["file", "name", "folder"]


MEASURED = """
import resource
from pathlib import Path
import torch
from torch import nn
from initplug.cli.weights import load_weights, save_weights
net = nn.Sequential(*[nn.Conv2d(512, 512, 4, bias=False) for _ in range(4)]).to(memory_format=torch.channels_last)
whole = torch.ones(1 << 24)
for index in range(4):
    net.register_parameter(f"part{index}", nn.Parameter(whole[index << 22 : (index + 1) << 22]))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
peaks = [peak()]
for step in (save_weights, load_weights):
    step(net, Path("w.safetensors"))
    peaks.append(peak())
print(*peaks)
"""


def test_weights_are_written_and_read_without_a_second_copy_in_memory(tmp_path: Path) -> None:
    """Of 128 MB, half are not contiguous and half are parts of one storage: whole copies of either take 64 MB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    before, *after = map(float, done.stdout.split())
    assert max(after) < before + 48
    assert (tmp_path / "w.safetensors").stat().st_size > 1 << 27


# Permissions, names, links ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(folder: Path, mask: int, mode: int) -> None:
    (folder / "w.safetensors").touch(mode=0o640)
    before = os.umask(mask)
    try:
        done = invoke("apply", "model.py:net", "zero.yaml", "--out", "w.safetensors", "--report", "r.json")
    finally:
        os.umask(before)
    assert done.exit_code == 0
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("w.safetensors", "r.json")] == [mode, mode]


@pytest.mark.parametrize("suffix", [".json", ".html", ".csv", ".md"])
def test_a_name_may_be_as_long_as_the_system_has_it(tmp_path: Path, audit: initplug.Audit, suffix: str) -> None:
    longest = tmp_path / ("é" * ((255 - len(suffix)) // 2) + "x" * ((255 - len(suffix)) % 2) + suffix)
    assert len(os.fsencode(longest.name)) == 255
    audit.save(longest)
    assert names(tmp_path) == {longest.name}
    with pytest.raises(initplug.InitplugError, match="cannot be written: File name too long"):
        audit.save(longest.with_name(f"x{longest.name}"))


def test_weights_under_the_longest_name(folder: Path) -> None:
    longest = "x" * (255 - len(".safetensors")) + ".safetensors"
    assert invoke("apply", "model.py:net", "zero.yaml", "--out", longest).exit_code == 0
    assert load_file(folder / longest).keys() == {"weight", "bias"}


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path, audit: initplug.Audit) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("old")
    (tmp_path / "second").symlink_to("real/file")
    (tmp_path / "first.json").symlink_to(tmp_path / "second")
    audit.save(tmp_path / "first.json")
    assert (tmp_path / "first.json").is_symlink() and (tmp_path / "second").is_symlink()
    assert json.loads((tmp_path / "real" / "file").read_text())["schema"] == 1
    assert names(tmp_path / "real") == {"file"}


def test_a_link_to_no_file_yet_makes_one(tmp_path: Path, audit: initplug.Audit) -> None:
    (tmp_path / "x.json").symlink_to("later")
    audit.save(tmp_path / "x.json")
    assert (tmp_path / "x.json").is_symlink() and (tmp_path / "later").is_file()


def test_the_weights_of_a_link(folder: Path) -> None:
    (folder / "store").mkdir()
    (folder / "w.safetensors").symlink_to("store/blob")
    assert invoke("apply", "model.py:net", "zero.yaml", "--out", "w.safetensors").exit_code == 0
    assert (folder / "w.safetensors").is_symlink()
    assert load_file(folder / "store" / "blob").keys() == {"weight", "bias"}


@pytest.fixture
def odd(folder: Path) -> Iterator[Path]:
    """A folder with everything that is no regular file."""
    os.mkfifo(folder / "fifo.json")
    (folder / "dir.json").mkdir()
    (folder / "device.json").symlink_to("/dev/null")
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "nowhere.json").symlink_to("no/such/file")
    (folder / "dir_behind.json").symlink_to("dir.json")
    (folder / "file").touch()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.json")
        yield folder


ODD = [
    ("fifo", "it is a FIFO and no regular file"),
    ("device", "it is a device and no regular file"),
    ("socket", "it is a socket and no regular file"),
    ("dir", "Is a directory"),
    ("dir_behind", "Is a directory"),
    ("loop", "Too many levels of symbolic links"),
    ("file/x", "Not a directory"),
    ("x" * 255, "File name too long"),
]


@pytest.mark.parametrize(("name", "reason"), ODD)
def test_what_is_no_regular_file_is_refused_before_the_work_begins(odd: Path, name: str, reason: str) -> None:
    message = f"{name}.json: cannot be written: {reason}"
    done = invoke("apply", "model.py:net", "zero.yaml", "--report", f"{name}.json")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"InitplugError: {message}\n")
    assert not (odd / "built").exists()
    audit = initplug.apply(nn.Linear(2, 2), RECIPE)
    for rows in (audit, audit.plan):
        with pytest.raises(initplug.InitplugError) as caught:
            rows.save(f"{name}.json")
        assert str(caught.value) == message


def test_a_link_into_no_folder_names_the_folder(odd: Path) -> None:
    with pytest.raises(initplug.InitplugError) as caught:
        initplug.apply(nn.Linear(2, 2), RECIPE).save("nowhere.json")
    assert str(caught.value) == f"nowhere.json: cannot be written: there is no folder {odd / 'no' / 'such'}"


def test_the_weights_go_to_no_fifo(odd: Path) -> None:
    os.mkfifo(odd / "w.safetensors")
    done = invoke("apply", "model.py:net", "zero.yaml", "--out", "w.safetensors")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "InitplugError: w.safetensors: cannot be written: it is a FIFO and no regular file\n"
    assert not (odd / "built").exists()


@pytest.mark.parametrize("name", ["a\0.json", "a\ud800.json"])
def test_a_name_that_no_file_can_have_is_an_error_of_ours(tmp_path: Path, audit: initplug.Audit, name: str) -> None:
    with pytest.raises(initplug.InitplugError, match="cannot be written: "):
        audit.save(str(tmp_path / name))


def test_a_file_that_has_lost_its_name_is_refused(tmp_path: Path, audit: initplug.Audit) -> None:
    with (tmp_path / "gone").open("w") as file:
        (tmp_path / "gone").unlink()
        (tmp_path / "x.json").symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        with pytest.raises(initplug.InitplugError, match="it is a file that has no name any more"):
            audit.save(tmp_path / "x.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path, audit: initplug.Audit) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(initplug.InitplugError, match="cannot be written: Permission denied"):
            audit.save(tmp_path / "x.json")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work_begins(
    tmp_path: Path, audit: initplug.Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(initplug.InitplugError, match=r"x\.json: cannot be written: Permission denied"):
        audit.save(tmp_path / "x.json")


def test_a_file_system_without_locks_is_written_to_and_nothing_is_removed(
    tmp_path: Path, audit: initplug.Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    theirs = tmp_path / f"{_prefix(tmp_path / 'x.json')}theirs"
    theirs.mkdir()
    audit.save(tmp_path / "x.json")
    assert names(tmp_path) == {"x.json", theirs.name}


def test_weights_and_report_are_two_files(folder: Path) -> None:
    (folder / "r.json").symlink_to("w.safetensors")
    done = invoke("apply", "model.py:net", "zero.yaml", "--out", "w.safetensors", "--report", "r.json")
    assert (done.exit_code, done.stderr) == (1, "w.safetensors and r.json are one file\n")
    assert not (folder / "built").exists() and not (folder / "w.safetensors").exists()


def test_a_model_reads_the_file_that_its_weights_replace(folder: Path) -> None:
    torch.manual_seed(0)
    before = nn.Linear(4, 4)
    from safetensors.torch import save_file

    save_file(before.state_dict(), folder / "w.safetensors")
    (folder / "load.yaml").write_text("rules:\n  '*': load path=w.safetensors\n")
    assert invoke("apply", "model.py:net", "load.yaml", "--out", "w.safetensors").exit_code == 0
    assert all(tensor.equal(before.state_dict()[name]) for name, tensor in load_file(folder / "w.safetensors").items())
