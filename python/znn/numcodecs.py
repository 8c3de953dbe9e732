"""A numcodecs codec, which numcodecs finds by its entry point: numcodecs.get_codec({"id": "znn"})."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray

import znn

if TYPE_CHECKING:
    from ._buffers import Data


class Znn(Codec):
    """Compress each chunk into a znn frame.

    level, threads, checksum: as for znn.compress. dtype: what the chunks' numbers are, as a name; None takes the
    arrays' own.
    """

    codec_id = "znn"

    def __init__(self, level: int = 3, dtype: str | None = None, threads: int = 1, checksum: bool = True) -> None:
        self.level = level
        self.dtype = dtype
        self.threads = threads
        self.checksum = checksum

    def encode(self, buf: Data) -> bytes:
        """The frame of a buffer or array, as bytes."""
        data = ensure_contiguous_ndarray(buf)
        return znn.compress(data, self.dtype, self.level, self.threads, self.checksum)

    def decode(self, buf: Data, out: Any = None) -> Any:
        """The content of a frame, as bytes, or in out, which it must fit exactly."""
        frame = ensure_contiguous_ndarray(buf)
        if out is None:
            return znn.decompress(frame, threads=self.threads)
        target = ensure_contiguous_ndarray(out)
        if znn.content_size(frame) != target.nbytes:
            raise ValueError(f"the frame holds {znn.content_size(frame)} bytes, out {target.nbytes}")
        znn.decompress(frame, out=target, threads=self.threads)
        return out
