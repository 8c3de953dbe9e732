"""Whole files: compress_file and decompress_file."""

import contextlib
import os
import tempfile

from .. import _core
from .._buffers import check
from ._errors import naming


@contextlib.contextmanager
def replacing(filename, like=None):
    """A new file beside `filename`, which takes that name when the block ends well and vanishes when it does not.

    like: a file whose permissions it gets; None for those of any new file.
    """
    filename = os.fspath(filename)
    fd, temporary = tempfile.mkstemp(prefix=".znn-", suffix=".tmp", dir=os.path.dirname(filename) or ".")
    try:
        with open(fd, "wb", buffering=0) as file:
            yield file
            if like is not None:
                mode = os.stat(like).st_mode & 0o777
            else:
                mask = os.umask(0)
                os.umask(mask)
                mode = 0o666 & ~mask
            os.fchmod(file.fileno(), mode)
            if os.path.lexists(filename):  # what is replaced must not be lost before its successor is on the disk
                os.fsync(file.fileno())
        os.replace(temporary, filename)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def is_compressed(filename):
    """True for a .safetensors file that znn compressed, False for a plain one. SafetensorError for anything else."""
    with open(filename, "rb") as file, naming(filename):
        return _core.Safetensors(file.fileno(), 3, 1, True).is_compressed()


def compress_file(source, destination, *, level=3, threads=1, checksum=True, progress=None):
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


def decompress_file(source, destination, *, threads=1, progress=None):
    """Write the plain .safetensors file that compress_file was given, byte for byte.

    The arguments and errors are compress_file's; SafetensorError also if the source is not compressed or is damaged,
    with the tensor's name.
    """
    check(threads=threads)
    return _transform("decompress", source, destination, 3, threads, True, progress)


def _transform(what, source, destination, level, threads, checksum, progress):
    with open(source, "rb") as file, naming(source):
        core = _core.Safetensors(file.fileno(), level, threads, bool(checksum))
        with replacing(destination, like=source) as result:
            return getattr(core, what)(result.fileno(), progress)
