"""Files replaced as a whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from types import FrameType

from initplug.errors import InitplugError, visible

if sys.platform != "win32":
    import fcntl

PREFIX = ".initplug-"
"""The prefix of every folder in which a file is written before it takes the place of another."""

KINDS = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def check_destination(path: str | PathLike[str]) -> Path:
    """Return the file that a path stands for, links followed, if it can be replaced as far as can be told beforehand.

    Raises:
        InitplugError: it is no regular file, or its folder is none that can be written to.
    """
    given = Path(path)
    try:
        mode = _mode_of(given)
        target = Path(os.path.realpath(given))  # a link stays, what it names is replaced
        if mode is None:
            folder = target.parent if given.is_symlink() else given.parent
            if not target.parent.is_dir():
                raise _unwritable(given, f"there is no folder {visible(str(folder))}")
        elif stat.S_ISDIR(mode):
            raise _unwritable(given, os.strerror(errno.EISDIR))
        elif not stat.S_ISREG(mode):
            kind = next(kind for is_kind, kind in KINDS if is_kind(mode))
            raise _unwritable(given, f"it is {kind} and no regular file")
        elif not target.exists():
            raise _unwritable(given, "it is a file that has no name any more")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise _unwritable(given, os.strerror(_refusal(target.parent)))
    except OSError as error:
        raise _unwritable(given, error.strerror or str(error)) from None
    except ValueError as error:
        if isinstance(error, InitplugError):
            raise
        raise _unwritable(given, str(error)) from None  # a name with a NUL, or with half a character
    return target


def _mode_of(path: Path) -> int | None:
    """Return what sort of file a path leads to; None where there is none yet."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _refusal(folder: Path) -> int:
    read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
    return errno.EROFS if read_only else errno.EACCES


def _unwritable(path: Path, reason: str) -> InitplugError:
    return InitplugError(f"{visible(str(path))}: cannot be written: {reason}")


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; once that is done, the file takes the place of what `path` stands for.

    It is flushed to the disk first and gets the permissions of any new file. After an error the old file is as it was
    and nothing is left beside it, after SIGTERM and Ctrl-C, too. SIGKILL leaves one folder, `.initplug-…`, which the
    next that replaces the same file removes.

    Raises:
        InitplugError: it cannot be written.
    """
    target = check_destination(path)
    try:
        _remove_leftovers(target)
        with _folder_beside(target) as folder:
            content = folder / "content"
            permissions = _permissions(content)
            yield content
            if stat.S_IMODE(content.stat().st_mode) != permissions:
                content.chmod(permissions)
            _flush(content)
            content.replace(target)
        with suppress(PermissionError):  # a folder may be writable and yet not readable
            _flush(target.parent)
    except OSError as error:
        raise _unwritable(Path(path), error.strerror or str(error)) from None


def _prefix(target: Path) -> str:
    """Return how the names begin of what is written for one file: short, however long the file's own name is."""
    return f"{PREFIX}{hashlib.blake2b(os.fsencode(target.name), digest_size=6).hexdigest()}-"


def _permissions(path: Path) -> int:
    """Return the permissions that a new file gets here, from the umask and from what the folder says."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        path.unlink()


def _flush(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk; return once they are there."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that have nothing to flush
            raise
    finally:
        os.close(handle)


# The folder beside the target. A lock on it says that who writes there is alive; the system drops it with the process.


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Give a new folder beside a file, which nothing but SIGKILL leaves behind."""
    folder = target.parent / f"{_prefix(target)}{secrets.token_hex(8)}"
    lock = None
    with _removed_when_terminated(folder):
        try:
            lock = _locked(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """Make a folder and lock it, once more where one that removes leftovers came between."""
    while True:
        folder.mkdir(mode=0o700)
        if sys.platform == "win32":
            return None
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # file systems without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists():
                return handle
            os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Remove what processes that were killed left of the same file; those that live hold locks."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # a folder that is not readable, or a leftover of somebody else
        for folder in list(target.parent.glob(f"{_prefix(target)}*")):
            with suppress(OSError):
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(handle)


@contextmanager
def _removed_when_terminated(folder: Path) -> Iterator[None]:
    """Remove a folder before a signal that would end the process at once ends it."""
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:  # a fork has the same handlers
            shutil.rmtree(folder, ignore_errors=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
