"""ZnnCompressor and ZnnDecompressor, of the shape of compression.zstd's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core
from ._buffers import as_buffer, check, dtype_code

if TYPE_CHECKING:
    from ._buffers import Data, DType


class ZnnCompressor:
    """Compress data that comes bit by bit.

    level, dtype, threads, checksum: as for znn.compress; with dtype None the bytes are looked into. The frames are the
    same however the data was cut into pieces.
    """

    CONTINUE = 0  # give what is ready
    FLUSH_BLOCK = 1  # give all, at some cost in size
    FLUSH_FRAME = 2  # give all, and end the frame

    def __init__(self, level: int = 3, *, dtype: DType = None, threads: int = 1, checksum: bool = True) -> None:
        check(level, threads)
        self._arguments = (dtype_code(dtype), level, threads, bool(checksum))
        self._size: int | None = None
        self._encoder: _core.Encoder | None = None
        self._last_mode = self.FLUSH_FRAME

    @property
    def last_mode(self) -> int:
        """The mode of the last call; FLUSH_FRAME when the next one begins a frame."""
        return self._last_mode

    def set_pledged_input_size(self, size: int | None) -> None:
        """Say how many bytes the next frame will hold (None: not known), which is then in its header. A frame that
        ends with another number raises ValueError. ValueError too within a frame."""
        if self._last_mode != self.FLUSH_FRAME:
            raise ValueError("the size is to be said before a frame begins")
        if size is not None and size < 0:
            raise ValueError("size is negative")
        self._size = size
        self._encoder = None

    def compress(self, data: Data, mode: int = CONTINUE) -> bytes:
        """Take all of data (any contiguous buffer) and return the bytes that are ready. mode: one of the three."""
        if mode not in (self.CONTINUE, self.FLUSH_BLOCK, self.FLUSH_FRAME):
            raise ValueError("mode is CONTINUE, FLUSH_BLOCK or FLUSH_FRAME")
        if self._encoder is None:
            self._encoder = _core.Encoder(*self._arguments, self._size)
        result = self._encoder.run(as_buffer(data)[0], mode)
        self._last_mode = mode
        if mode == self.FLUSH_FRAME and self._size is not None:
            self.set_pledged_input_size(None)
        return result

    def flush(self, mode: int = FLUSH_FRAME) -> bytes:
        """Return what is left inside. mode: FLUSH_FRAME or FLUSH_BLOCK."""
        if mode not in (self.FLUSH_FRAME, self.FLUSH_BLOCK):
            raise ValueError("mode is FLUSH_FRAME or FLUSH_BLOCK")
        return self.compress(b"", mode)


class ZnnDecompressor:
    """Decompress one frame that comes bit by bit; for the one after it, take a new object.

    threads, checksum: as for znn.decompress.
    """

    def __init__(self, *, threads: int = 1, checksum: bool = True) -> None:
        check(threads=threads)
        self._decoder = _core.Decoder(threads, bool(checksum))
        self._rest: bytes | memoryview = b""
        self._eof = False
        self._needs_input = True
        self._unused_data = b""

    @property
    def eof(self) -> bool:
        """The frame's end was reached, and its checksums were right."""
        return self._eof

    @property
    def needs_input(self) -> bool:
        """decompress has nothing more to give without more data."""
        return self._needs_input

    @property
    def unused_data(self) -> bytes:
        """What came behind the frame's end; b"" before."""
        return self._unused_data

    def decompress(self, data: Data, max_length: int = -1) -> bytes:
        """Take data (any contiguous buffer) and return content, at most max_length bytes of it unless that is
        negative. What that leaves is given by further calls, with b"" until needs_input is true.

        Raises ZnnError for damaged data, EOFError after the frame's end.
        """
        if self._eof:
            raise EOFError("the frame has ended")
        source = as_buffer(data)[0]
        if len(self._rest):
            source = b"".join((self._rest, source)) if len(source) else self._rest
        content, consumed, self._eof = self._decoder.run(source, max_length)
        rest = memoryview(source).cast("B")[consumed:]
        # Only bytes are sure not to change before the next call.
        self._rest = rest if isinstance(rest.obj, bytes) else bytes(rest)
        if self._eof:
            self._unused_data, self._rest = bytes(self._rest), b""
        self._needs_input = not (self._eof or len(self._rest) or len(content) == max_length)
        return content
