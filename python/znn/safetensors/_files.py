"""Whole files: compress_file and decompress_file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from typing import IO

from .. import _core
from .._buffers import check
from .._temporary import temporary_file
from ._errors import naming


@contextlib.contextmanager
def replacing(filename: str | os.PathLike[str], like: str | os.PathLike[str] | None = None) -> Iterator[IO[bytes]]:
    """A new file beside `filename`, which takes that name when the block ends well and vanishes when it does not.

    like: a file whose permissions it gets; None for those of any new file.
    """
    filename = os.fspath(filename)
    with temporary_file(filename) as (fd, temporary):
        with open(fd, "wb", buffering=0, closefd=False) as file:
            yield file
        if like is not None:
            mode = os.stat(like).st_mode & 0o777
        else:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        os.fchmod(fd, mode)
        if os.path.lexists(filename):  # what is replaced must not be lost before its successor is on the disk
            os.fsync(fd)
        os.replace(temporary, filename)


def is_compressed(filename: str | os.PathLike[str]) -> bool:
    """True for a .safetensors file that znn compressed, False for a plain one. SafetensorError for anything else."""
    with open(filename, "rb") as file, naming(filename):
        return _core.Safetensors(file.fileno(), 3, 1, True).is_compressed()


def compress_file(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    level: int = 3,
    threads: int = 1,
    checksum: bool = True,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write the compressed form of a plain .safetensors file.

    source, destination: paths; they may be the same. The destination appears at once and whole, with the source's
        permissions, replacing what had its name; after an error or a kill it is as it was.
    level, threads, checksum: as for znn.compress.
    progress: called with the bytes of tensors dealt with so far, now and then; what it raises stops the work.

    Returns the size of the destination in bytes. Raises SafetensorError if the source is no safetensors file, or is
    compressed already; OSError. Memory is bounded whatever the sizes.
    """
    check(level, threads)
    return _transform("compress", source, destination, level, threads, checksum, progress)


def decompress_file(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write the plain .safetensors file that compress_file was given, byte for byte.

    The arguments and errors are compress_file's; SafetensorError also if the source is not compressed or is damaged,
    with the tensor's name.
    """
    check(threads=threads)
    return _transform("decompress", source, destination, 3, threads, True, progress)


def _check_room(core: _core.Safetensors, destination: str | os.PathLike[str]) -> None:
    """A small file may hold terabytes: those that the disk does not are not begun."""
    tensors = core.tensors()
    size = sum(tensor[3] for tensor in tensors)
    free = shutil.disk_usage(os.path.dirname(os.fspath(destination)) or ".").free
    if size > free:
        for index in range(len(tensors)):
            core.check(index)  # if the frames do not hold what the header claims, the file is damaged
        reason = f"its content is {size} bytes, more than the {free} that are free there"
        raise OSError(errno.ENOSPC, reason, os.fspath(destination))


def _transform(
    what: str,
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    level: int,
    threads: int,
    checksum: bool,
    progress: Callable[[int], object] | None,
) -> int:
    with open(source, "rb") as file, naming(source):
        core = _core.Safetensors(file.fileno(), level, threads, bool(checksum))
        if what == "decompress":
            _check_room(core, destination)
        with replacing(destination, like=source) as result:
            written: int = getattr(core, what)(result.fileno(), progress)
            return written
