"""What compressing a model's weights would save, from samples of its tensors."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import znn

from ._models import opened

PIECE = 256 << 10
PIECES = 48  # of each dtype in a model: 12 MB, which shows the ratio to half a percent


def _pieces(tensors: list[tuple[Path, int, int]], count: int) -> Iterator[tuple[Path, int, int]]:
    """(file, offset, size) of pieces, evenly over the tensors' bytes: [(file, offset, size)]."""
    total = sum(size for _, _, size in tensors)
    if total <= count * PIECE:
        wanted: list[int] | None = None
    else:
        wanted = [total * (2 * i + 1) // (2 * count) for i in range(count)]
    begin = 0
    for file, offset, size in tensors:
        if wanted is None:
            for at in range(0, size, PIECE):
                yield file, offset + at, min(PIECE, size - at)
            continue
        inside = [at - begin for at in wanted if begin <= at < begin + size]
        for at in sorted({min(at // PIECE * PIECE, max(0, size - PIECE) // 8 * 8) for at in inside}):
            yield file, offset + at, min(PIECE, size - at)
        begin += size


def estimate(paths: Iterable[Path], level: int = 3) -> dict[str, tuple[int, int]]:
    """{dtype: (bytes, bytes once compressed)} of weight files, estimated from samples; known where compressed."""
    of: defaultdict[str, list[tuple[Path, int, int]]] = defaultdict(list)
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path in paths:
        for _, dtype, _, size, offset, stored, _ in opened(path).tensors():
            found[dtype][0] += size
            if stored < size:
                found[dtype][1] += stored
            elif size:
                of[dtype].append((path, offset, size))
    for dtype, tensors in of.items():
        before = after = 0
        for path, offset, size in _pieces(tensors, PIECES):
            with open(path, "rb") as file:
                data = os.pread(file.fileno(), size, offset)
            before += len(data)
            after += min(len(data), len(znn.compress(data, dtype=_known(dtype), level=level)))
        plain = sum(size for _, _, size in tensors)
        found[dtype][1] += plain * after // before if before else plain
    return {dtype: (before, after) for dtype, (before, after) in found.items()}


def _known(dtype: str) -> str:
    try:
        znn.compress(b"", dtype=dtype)
    except ValueError:
        return "bytes"
    return dtype
