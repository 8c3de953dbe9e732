"""Memory for large results, in large pages; and files as memory.

A page is cleared by the system when it is first written to, and with small ones that takes longer than decoding does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time

_PAGE = 2 << 20  # of the large pages of x86-64, and of most others
LARGE = _PAGE  # bytes; below this, ordinary memory will do


def large(size: int) -> tuple[mmap.mmap, int] | None:
    """(memory, offset): `size` bytes, LARGE or more, from that offset on, which a large page begins at. They are freed
    with the last reference to the memory. None where the system has no such pages."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return None
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    memory = mmap.mmap(-1, size + 2 * _PAGE, flags=flags)
    offset = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _PAGE
    whole = (size + _PAGE - 1) // _PAGE * _PAGE
    # The end of the last page is lost, where that is little.
    end = whole if whole - size <= size // 16 else size // _PAGE * _PAGE
    try:
        memory.madvise(advice, offset, end)
    except OSError:  # a hint
        pass
    return memory, offset


_TRIED = 1 << 20  # bytes
_POPULATE_READ = 22  # Linux's number; 5.14 and up


def is_cached(fd: int, *offsets: int) -> bool:
    """Whether these bytes of a file can be had without the disk; False if the system does not tell."""
    try:
        return all(os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) for offset in offsets)
    except (AttributeError, OSError):
        return False


def mapped_if_quicker(fd: int) -> mmap.mmap | None:
    """A map of a file, if that is quicker than reading it.

    It saves a copy, and costs an entry for each page that the system's cache holds the file in. Those are large or
    small, by the file system and by what brought them there; so a part of the file is tried both ways.
    """
    size = os.fstat(fd).st_size
    begin = size // 2 // _TRIED * _TRIED
    if size < 16 * _TRIED or not is_cached(fd, begin, begin + _TRIED - 1):
        return None
    memory = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    buffer = bytearray(_TRIED)
    try:
        times = [time.perf_counter()]
        os.preadv(fd, [buffer], begin)
        times.append(time.perf_counter())
        memory.madvise(_POPULATE_READ, begin, _TRIED)
        times.append(time.perf_counter())
        memory.madvise(mmap.MADV_DONTNEED, begin, _TRIED)
        times.append(time.perf_counter())
    except (AttributeError, OSError, ValueError):
        memory.close()
        return None
    if times[3] - times[1] > (times[1] - times[0]) * 2 / 3:  # a gain in doubt is none
        memory.close()
        return None
    return memory
