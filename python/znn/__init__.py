"""Lossless compression for the numbers of neural networks.

    frame = znn.compress(array)             # bytes, numpy, torch; never changed
    data = znn.decompress(frame)            # the same bytes
    znn.decompress(frame, out=other_array)  # into memory that is there
    with znn.open("weights.znn") as file:   # as gzip.open
        file.read()

znn.safetensors reads and writes compressed .safetensors files, znn.zipnn stands in for the package zipnn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from . import _core
from ._buffers import as_buffer, as_writable, check, dtype_code
from ._core import ZnnError
from ._files import ZnnFile, open
from ._streams import ZnnCompressor, ZnnDecompressor

if TYPE_CHECKING:
    from ._buffers import Data, DType

__version__ = _core.version
__all__ = [
    "ZnnCompressor",
    "ZnnDecompressor",
    "ZnnError",
    "ZnnFile",
    "__version__",
    "compress",
    "content_size",
    "decompress",
    "is_frame",
    "open",
]


_ZIPNN_CHUNK = 256 * 1024


def compress(
    data: Data, dtype: DType = None, level: int = 3, threads: int = 1, checksum: bool = True, format: str = "znn"
) -> bytes:
    """Compress a buffer into one znn frame.

    data: bytes, or any contiguous buffer, numpy array, torch CPU tensor or other array with __dlpack__, of any shape.
        It is read in place and never changed; read-only memory will do.
    dtype: what its numbers are: a name ("bf16", "float32", "F8_E4M3"), a numpy or a torch dtype. None takes an array's
        own dtype, and looks into the bytes of anything else.
    level: 1 (fastest) to 9 (smallest).
    threads: 1 to 256, or 0 for one a core. The frame's bytes do not depend on it.
    checksum: write checksums, by which damage is found.
    format: "znn", or "zipnn" for a stream that the package zipnn 0.5 reads as bytes; that has one level, no checksum,
        and is written by one thread. znn.zipnn.ZipNN has its other options.

    Returns the frame as bytes. Raises ValueError for arguments out of range or memory that is not contiguous, TypeError
    for what is no buffer, MemoryError. Other Python threads run meanwhile.
    """
    check(level, threads)
    buffer, inferred = as_buffer(data)
    code = inferred if dtype is None else dtype_code(dtype)
    if format == "zipnn":
        return _core.zipnn_compress(buffer, code, 1, (), 0, _ZIPNN_CHUNK, 0, 0.95, 1, None, False)
    if format != "znn":
        raise ValueError(f"unknown format {format!r}; there are znn and zipnn")
    return _core.compress(buffer, code, level, threads, bool(checksum))


@overload
def decompress(data: Data, out: None = None, threads: int = 1, checksum: bool = True) -> bytes: ...
@overload
def decompress(data: Data, out: Data, threads: int = 1, checksum: bool = True) -> int: ...
def decompress(data: Data, out: Data | None = None, threads: int = 1, checksum: bool = True) -> bytes | int:
    """Decompress the frames in a buffer.

    data: one znn frame or several, one after another; any contiguous buffer. ZipNN's streams are taken too.
    out: writable memory (bytearray, numpy array, torch CPU tensor, mmap ...) of at least content_size(data) bytes, of
        any dtype. What is beyond the content stays as it was. After an error its contents are unspecified.
    threads: 1 to 256, or 0 for one a core.
    checksum: verify the checksums, if the frames have any.

    Returns the content as bytes or, with out, the number of bytes written to it. Raises ZnnError if the data is no
    frame, is damaged or cut, or does not fit into out; MemoryError (a small frame can say that it holds terabytes:
    see content_size).
    """
    check(threads=threads)
    buffer, _ = as_buffer(data)
    if _core.zipnn_is(buffer):
        if out is None:
            return _core.zipnn_decompress(buffer, None, False)
        return _core.zipnn_decompress_into(buffer, as_writable(out))
    if out is None:
        return _core.decompress(buffer, threads, bool(checksum))
    return _core.decompress_into(buffer, as_writable(out), threads, bool(checksum))


def content_size(data: Data) -> int:
    """Bytes that the frames in a buffer decompress to, found without decompressing. Raises ZnnError as decompress."""
    buffer = as_buffer(data)[0]
    return _core.zipnn_content_size(buffer) if _core.zipnn_is(buffer) else _core.content_size(buffer)


def is_frame(data: Data) -> bool:
    """True if the first bytes of a buffer are those of a znn frame."""
    return _core.is_frame(as_buffer(data)[0])
