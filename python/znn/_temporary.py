"""Temporary files and folders beside what they will become, of which a killed run's are removed by the next.

The command does the same (cli/output.c), under the same names: whoever works on a temporary file holds its lock until
it has its name or is gone, and one that nobody holds was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_ATTEMPTS = 100
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def _derived(folder: str, name: str, suffix: str) -> str:
    """What the temporary thing for a name is called: FNV-1a of it."""
    value = 0xCBF29CE484222325
    for byte in os.fsencode(name):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return os.path.join(folder, f".znn-{value:016x}{suffix}")


def _is_still(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how)
    except OSError:  # somebody has it, or the file system knows no locks
        return False
    return True


def _remove_leftover(path: str, kind: int, flags: int) -> bool:
    """False if something is at the path that is not ours, or that somebody works on."""
    try:
        fd = os.open(path, flags | _FLAGS)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
            return False
        if not _lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        if _is_still(path, fd):
            shutil.rmtree(path) if kind == stat.S_IFDIR else os.unlink(path)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _make_file(path: str) -> tuple[int, str]:
    """A new file, locked; under a random name where the derived one is taken."""
    for _ in range(_ATTEMPTS):
        if not _remove_leftover(path, stat.S_IFREG, os.O_RDWR):
            break
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        except FileExistsError:
            continue
        # Another run may take it for a leftover until it is locked.
        if not _lock(fd, fcntl.LOCK_EX) or _is_still(path, fd):
            return fd, path
        os.close(fd)
    return tempfile.mkstemp(prefix=".znn-", suffix=".tmp", dir=os.path.dirname(path))


@contextlib.contextmanager
def temporary_file(filename: str) -> Iterator[tuple[int, str]]:
    """(descriptor, path) of a new file beside `filename`. The block gives it that name; an error removes it."""
    folder, name = os.path.split(filename)
    fd, path = _make_file(_derived(folder or ".", name, ".tmp"))
    try:
        yield fd, path
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, removed when the block ends."""
    path = _derived(str(target.parent), target.name, ".work")
    fd = -1
    for _ in range(_ATTEMPTS):
        if not _remove_leftover(path, stat.S_IFDIR, os.O_RDONLY):
            break
        try:
            os.mkdir(path, 0o700)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        except (FileExistsError, FileNotFoundError):
            continue
        if not _lock(fd, fcntl.LOCK_EX) or _is_still(path, fd):
            break
        os.close(fd)
        fd = -1
    if fd < 0:
        path = tempfile.mkdtemp(dir=target.parent, prefix=".znn-")
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if fd >= 0:
            os.close(fd)
