"""znn.open and ZnnFile, of the shape of gzip's and compression.zstd's."""

from __future__ import annotations

import builtins
import io
import mmap
import os
from typing import IO, TYPE_CHECKING, Any, cast, overload

from . import _core
from ._buffers import as_buffer
from ._streams import ZnnCompressor, ZnnDecompressor

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from typing_extensions import Buffer

    from ._buffers import Data, DType

    Source: TypeAlias = str | bytes | os.PathLike[Any] | IO[bytes]
    BinaryMode: TypeAlias = Literal["r", "rb", "w", "wb", "x", "xb", "a", "ab"]
    TextMode: TypeAlias = Literal["rt", "wt", "xt", "at"]

_BLOCK = 1 << 20  # several chunks, so that few are decoded twice when the file is read here and there


class _Content(io.RawIOBase):
    """The content of the frames in a file object.

    It is decoded as it comes, until somebody seeks: then, where the frames are a file on disk, they are mapped, and any
    part is read without the rest. Elsewhere seeking back begins again.
    """

    def __init__(self, file: IO[bytes], threads: int, checksum: bool) -> None:
        self._file = file
        self._threads = threads
        self._checksum = checksum
        self._begin = file.tell() if file.seekable() else None
        self._reader: _core.Reader | None = None
        self._rewind()

    def _rewind(self) -> None:
        self._decompressor = ZnnDecompressor(threads=self._threads, checksum=self._checksum)
        self._inside = False  # a frame
        self._position = 0
        self._size: int | None = None  # of the content; None before the end was seen

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._begin is not None

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        with memoryview(buffer).cast("B") as view:
            if self._reader is not None and self._size is not None:
                n = max(0, min(len(view), self._size - self._position))
                if n:
                    self._reader.read_into(view[:n], self._position)
            else:
                data = self._read_on(len(view))
                n = len(data)
                view[:n] = data
        self._position += n
        return n

    def _read_on(self, size: int) -> bytes:
        """At most size bytes of the content, b"" at its end."""
        while size:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(_BLOCK)
                if not rest:
                    break
                self._decompressor = ZnnDecompressor(threads=self._threads, checksum=self._checksum)
            elif self._decompressor.needs_input:
                rest = self._file.read(_BLOCK)
                if not rest and not self._inside and self._position == 0:
                    raise EOFError("an empty file is no znn file")
                if not rest:
                    raise EOFError("the compressed file ended before the end of its last frame")
            else:
                rest = b""
            data = self._decompressor.decompress(rest, size)
            self._inside = not self._decompressor.eof
            if data:
                return data
        if size:
            self._size = self._position
        return b""

    def _map(self) -> None:
        try:
            fd = self._file.fileno()
            size = os.fstat(fd).st_size
            if self._begin != 0 or size == 0:
                return
            memory = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        except (AttributeError, OSError, ValueError):  # no file on disk
            return
        self._reader = _core.Reader(memory, self._threads, self._checksum)
        self._size = self._reader.size()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if self._begin is None:
            raise io.UnsupportedOperation("the underlying file cannot seek")
        if whence == io.SEEK_CUR:
            offset += self._position
        if self._reader is None and (whence == io.SEEK_END or offset != self._position):
            self._map()
        if whence == io.SEEK_END:
            while self._size is None:
                self._position += len(self._read_on(_BLOCK))
            offset += self._size
        elif whence not in (io.SEEK_SET, io.SEEK_CUR):
            raise ValueError(f"whence is {whence}; it is SEEK_SET, SEEK_CUR or SEEK_END")
        offset = max(offset, 0)
        if self._reader is not None:
            self._position = offset
            return offset
        if offset < self._position:
            self._file.seek(self._begin)
            self._rewind()
        while self._position < offset and (data := self._read_on(min(_BLOCK, offset - self._position))):
            self._position += len(data)
        return self._position

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        super().close()


class ZnnFile(io.BufferedIOBase):
    """A file whose content is compressed on the disk: read, or written, as bytes.

    file: a path, or a file object opened in binary mode, which is not closed with this one.
    mode: "r" reads, "w" writes anew, "x" writes a file that must not exist yet, "a" adds a frame at the end; "b" may
        follow.
    level, dtype: as for znn.compress; for writing only. threads, checksum: as there, and as for znn.decompress.

    Several frames one after another are one content. Reading raises ZnnError where the data is damaged, and EOFError
    where it is cut. Objects are not to be shared by threads without a lock.
    """

    FLUSH_BLOCK = ZnnCompressor.FLUSH_BLOCK
    FLUSH_FRAME = ZnnCompressor.FLUSH_FRAME

    def __init__(
        self,
        file: Source,
        mode: str = "r",
        *,
        level: int = 3,
        dtype: DType = None,
        threads: int = 1,
        checksum: bool = True,
    ) -> None:
        self._file: Any = None
        self._owned = False
        self._buffered: Any = None
        self._compressor: Any = None
        self._mode = mode.replace("b", "", 1)
        if self._mode not in ("r", "w", "x", "a"):
            raise ValueError(f"invalid mode {mode!r}")
        if self._mode != "r":
            self._compressor = ZnnCompressor(level, dtype=dtype, threads=threads, checksum=checksum)
            self._position = 0
        if hasattr(file, "read") or hasattr(file, "write"):
            self._file = file
        else:
            self._file = builtins.open(os.fspath(file), self._mode + "b")
            self._owned = True
        if self._mode == "r":
            try:
                self._buffered = io.BufferedReader(_Content(self._file, threads, checksum), _BLOCK)
            except BaseException:
                self.close()
                raise

    # State

    @property
    def closed(self) -> bool:
        """True once it is closed."""
        return self._file is None

    @property
    def mode(self) -> str:
        """ "rb" or "wb"."""
        return "rb" if self._mode == "r" else "wb"

    @property
    def name(self) -> Any:
        """The underlying file's name."""
        self._check_open()
        return self._file.name

    def fileno(self) -> int:
        """The underlying file's descriptor."""
        self._check_open()
        return cast(int, self._file.fileno())

    def readable(self) -> bool:
        self._check_open()
        return self._mode == "r"

    def writable(self) -> bool:
        self._check_open()
        return self._mode != "r"

    def seekable(self) -> bool:
        """Whether seek works: when reading from what can seek."""
        return self.readable() and self._buffered.seekable()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _reading(self) -> io.BufferedReader:
        self._check_open()
        if self._mode != "r":
            raise io.UnsupportedOperation("the file is open for writing")
        reader: io.BufferedReader = self._buffered
        return reader

    def _writing(self) -> ZnnCompressor:
        self._check_open()
        if self._mode == "r":
            raise io.UnsupportedOperation("the file is open for reading")
        compressor: ZnnCompressor = self._compressor
        return compressor

    # Reading

    def peek(self, size: int = -1, /) -> bytes:
        """Some bytes that the next read will give, at least one unless the content has ended."""
        return self._reading().peek(size)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most size bytes, all if it is negative; b"" at the end."""
        return self._reading().read(size)

    def read1(self, size: int = -1, /) -> bytes:
        """At most size bytes, of what is at hand."""
        return self._reading().read1(size)

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a writable buffer as far as the content goes; the number of bytes."""
        return self._reading().readinto(buffer)

    def readinto1(self, buffer: Buffer, /) -> int:
        return self._reading().readinto1(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._reading().readline(size)

    def __next__(self) -> bytes:
        if line := self._reading().readline():
            return line
        raise StopIteration

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte of the content; the new position. Quick in a file on disk, of which only what is read is
        decoded; elsewhere everything before it is decoded."""
        return self._reading().seek(offset, whence)

    def tell(self) -> int:
        """The position in the content, bytes."""
        self._check_open()
        return self._buffered.tell() if self._mode == "r" else self._position

    # Writing

    def write(self, data: Data, /) -> int:
        """Compress any contiguous buffer; its size in bytes."""
        compressor = self._writing()
        buffer = as_buffer(data)[0]
        size = memoryview(buffer).nbytes
        self._file.write(compressor.compress(buffer))
        self._position += size
        return size

    def flush(self, mode: int = FLUSH_BLOCK) -> None:
        """When writing, hand all that was written to the underlying file, at some cost in size; FLUSH_FRAME also ends
        the frame."""
        self._check_open()
        if self._mode == "r":
            return
        if self._compressor.last_mode != mode:
            self._file.write(self._compressor.flush(mode))
        if hasattr(self._file, "flush"):
            self._file.flush()

    def close(self) -> None:
        """End the frame, and close the underlying file if this object opened it. Closing again does nothing."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if self._compressor is not None and (self._position == 0 or self._needs_end()):
                file.write(self._compressor.flush())
            elif self._buffered is not None:
                self._buffered.close()
        finally:
            self._compressor = self._buffered = None
            if self._owned:
                file.close()

    def _needs_end(self) -> bool:
        return cast(bool, self._compressor.last_mode != ZnnCompressor.FLUSH_FRAME)


@overload
def open(
    file: Source,
    mode: BinaryMode = "rb",
    *,
    level: int = 3,
    dtype: DType = None,
    threads: int = 1,
    checksum: bool = True,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
) -> ZnnFile: ...
@overload
def open(
    file: Source,
    mode: TextMode,
    *,
    level: int = 3,
    dtype: DType = None,
    threads: int = 1,
    checksum: bool = True,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> io.TextIOWrapper: ...
@overload
def open(
    file: Source,
    mode: str,
    *,
    level: int = 3,
    dtype: DType = None,
    threads: int = 1,
    checksum: bool = True,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> ZnnFile | io.TextIOWrapper: ...
def open(
    file: Source,
    mode: str = "rb",
    *,
    level: int = 3,
    dtype: DType = None,
    threads: int = 1,
    checksum: bool = True,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> ZnnFile | io.TextIOWrapper:
    """Open a .znn file, in binary or text mode, as gzip.open does a .gz.

    file: a path, or a file object in binary mode.
    mode: "r", "w", "x" or "a", with "b" (the default) or "t".
    level, dtype, threads, checksum: as for ZnnFile, which this returns for binary modes.
    encoding, errors, newline: as for the built-in open; for text only. Returns an io.TextIOWrapper then.
    """
    text = "t" in mode
    if text and "b" in mode:
        raise ValueError(f"invalid mode {mode!r}")
    if not text and not (encoding is None and errors is None and newline is None):
        raise ValueError("encoding, errors and newline are for text modes")
    binary = ZnnFile(file, mode.replace("t", "", 1), level=level, dtype=dtype, threads=threads, checksum=checksum)
    return io.TextIOWrapper(binary, encoding, errors, newline) if text else binary
