"""Memory for large results, in large pages.

A page is cleared by the system when it is first written to, and with small ones that takes longer than decoding does.
"""

from __future__ import annotations

import ctypes
import mmap

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
