"""The class of the package zipnn, over znn: changing the import is enough.

    from znn.zipnn import ZipNN      # was: from zipnn import ZipNN

It reads what zipnn 0.4 and 0.5 wrote, and writes what zipnn 0.5.4 reads. Unlike the original it never changes the
data it is given, needs torch only for tensors, and reads safetensors files whose metadata do not tell which tensors
are compressed. What it does not support raises ValueError or NotImplementedError, and says what.
"""

from __future__ import annotations

import json
import os
from typing import Any, cast

from . import _core
from ._buffers import as_buffer, is_tensor

__all__ = ["SafeOpen", "ZipNN", "zipnn_hf", "zipnn_safetensors"]

_METHODS = {"AUTO": 0, "HUFFMAN": 1, "ZSTD": 2, "LZ4": 3, "SNAPPY": 4}
_INPUTS = {"byte": 1, "torch": 2, "numpy": 3}
_DTYPES = ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2")
_SPELLED = {"float": "float32", "half": "float16"}
_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f8_e4m3": "float8_e4m3fn", "f8_e5m2": "float8_e5m2"}
_HEADER_SIZE = 32
_LOOK = _HEADER_SIZE + 1 + 9 * 255  # and its shape, of 255 dimensions at most
_VERSION = "0.5.4"  # of the streams that are written
_KEY = "znn_compressed_vectors"


def _name_of(dtype: Any) -> str:
    """A name, numpy's or torch's dtype, as zipnn spells it."""
    if isinstance(dtype, type):
        name = dtype.__name__
    else:
        name = getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")
    name = name.lower()
    return _SPELLED.get(name, name)


def _is_power_of_two(number: Any) -> bool:
    return isinstance(number, int) and number > 0 and number & (number - 1) == 0


class ZipNN:
    """Compress and decompress in ZipNN's format. The arguments are those of zipnn.ZipNN 0.5.4.

    method: AUTO, HUFFMAN, ZSTD, LZ4 or SNAPPY; written into the header. As in the original, all give the same bytes.
    input_format: what compress takes, and decompress gives back: "byte", "torch" or "numpy". Streams say it too, and
        decompress goes by them.
    bytearray_dtype: what the numbers in bytes are: bfloat16, float16, float32, float8_e4m3fn or float8_e5m2.
    compression_threshold: a byte group of a chunk that does not shrink below this part is stored.
    delta_compressed_type: 0, or "byte" or "file": delta_second_data is then a buffer of the same size, or a file's
        name, and the difference is compressed.
    compression_chunk, streaming_chunk: bytes, powers of two from 4096 on.
    is_streaming: write a stream for each streaming_chunk; for bytes only.
    threads, is_monotonic, check_th_after_percent, reorder_signbit, zstd_level, lz4_compression_level and the files'
        names are taken and make no difference, as in the original or since one thread serves.
    byte_reorder, lossy_compressed_type: only 0; the original writes streams for others that it cannot read back.
    """

    def __init__(
        self,
        method: str = "AUTO",
        input_format: str = "byte",
        bytearray_dtype: Any = "bfloat16",
        is_monotonic: int = 0,
        threads: int | None = 0,
        compression_threshold: float = 0.95,
        check_th_after_percent: int = 10,
        byte_reorder: int = 0,
        reorder_signbit: int = 0,
        delta_compressed_type: Any = 0,
        lossy_compressed_type: Any = 0,
        lossy_compressed_factor: int = 27,
        compression_chunk: int = 256 * 1024,
        is_streaming: bool = False,
        streaming_chunk: int = 1024 * 1024,
        input_file: str | None = None,
        compressed_file: str | None = None,
        decompressed_file: str | None = None,
        zstd_level: int = 3,
        lz4_compression_level: int = 0,
    ) -> None:
        if str(method).upper() not in _METHODS:
            raise ValueError(f"unknown method {method!r}; there are {', '.join(_METHODS)}")
        if str(input_format).lower() not in _INPUTS:
            raise ValueError(f"input_format {input_format!r} is not supported; there are byte, torch and numpy")
        if not _is_power_of_two(compression_chunk):
            raise ValueError("compression_chunk must be a number that is a power of 2")
        if not _is_power_of_two(streaming_chunk):
            raise ValueError("streaming_chunk must be a number that is a power of 2")
        if delta_compressed_type not in (0, None, "byte", "file"):
            raise ValueError(f"delta_compressed_type is {delta_compressed_type!r}; it can be 0, 'byte' or 'file'")
        if byte_reorder:
            raise ValueError("byte_reorder is not supported: the layout follows from the dtype")
        _refuse_lossy(lossy_compressed_type)
        self.method = _METHODS[str(method).upper()]
        self.input_format = str(input_format).lower()
        if is_streaming and self.input_format != "byte":
            raise ValueError("streaming is for input_format 'byte' only")
        self.bytearray_dtype = bytearray_dtype
        self.is_monotonic = is_monotonic
        self.threads = threads or 1
        self.compression_threshold = compression_threshold
        self.check_th_after_percent = check_th_after_percent
        self.byte_reorder = byte_reorder
        self.reorder_signbit = reorder_signbit
        self.delta_compressed_type = delta_compressed_type or 0
        self.lossy_compressed_type = 0
        self.lossy_compressed_factor = lossy_compressed_factor
        self.compression_chunk = compression_chunk
        self.is_streaming = bool(is_streaming)
        self.streaming_chunk = streaming_chunk
        self.input_file = input_file
        self.compressed_file = compressed_file
        self.decompressed_file = decompressed_file
        self.zstd_level = zstd_level
        self.lz4_compression_level = lz4_compression_level
        self.header_length = _HEADER_SIZE

    # ---- Compressing ----

    def compress(
        self,
        data: Any,
        compress_cpu_gpu: str = "cpu",
        delta_second_data: Any = None,
        lossy_compressed_type: Any = None,
        lossy_compressed_factor: int | None = None,
    ) -> bytearray:
        """Compress data: a buffer, a torch tensor or a numpy array, as input_format says. It is not changed.

        delta_second_data: for a delta, what it is against. compress_cpu_gpu: only "cpu".
        """
        _refuse_gpu(compress_cpu_gpu)
        _refuse_lossy(lossy_compressed_type)
        buffer, dtype, shape = self._input(data)
        base = self._base(delta_second_data)
        if base is not None and memoryview(base).nbytes != memoryview(buffer).nbytes:
            raise ValueError("the delta's second data must have the length of the data")
        return _core.zipnn_compress(
            buffer,
            _core.dtype_from_name(dtype),
            _INPUTS[self.input_format],
            shape,
            self.method,
            self.compression_chunk,
            self.streaming_chunk if self.is_streaming else 0,
            float(self.compression_threshold),
            2 if self.delta_compressed_type == "file" else 1,
            base,
            True,
        )

    def _input(self, data: Any) -> tuple[Any, str, tuple[int, ...]]:
        """(buffer, dtype, shape) of what compress was given."""
        if self.input_format == "byte":
            buffer, dtype, shape = as_buffer(data)[0], self.bytearray_dtype, ()
        elif self.input_format == "torch":
            if not is_tensor(data):
                raise TypeError(f"input_format is 'torch', and the data is {type(data).__name__}")
            buffer, dtype, shape = as_buffer(data.contiguous())[0], data.dtype, tuple(data.shape)
        else:
            if not hasattr(data, "flags"):
                raise TypeError(f"input_format is 'numpy', and the data is {type(data).__name__}")
            if data.dtype.byteorder not in "=|<":
                raise ValueError("big-endian arrays are not supported")
            contiguous = data if data.flags.c_contiguous else data.copy(order="C")
            buffer, dtype, shape = as_buffer(contiguous)[0], data.dtype, tuple(data.shape)
        name = _name_of(dtype)
        known = ("float16", "float32") if self.input_format == "numpy" else _DTYPES
        if name not in known:
            raise ValueError(f"dtype {name} is not supported for input_format {self.input_format!r}; there are "
                             f"{', '.join(known)}")
        return buffer, name, shape

    def _base(self, second: Any) -> Any:
        """The buffer that a delta is against; None if this is for no deltas."""
        if not self.delta_compressed_type:
            if second is not None:
                raise ValueError("ZipNN is not set for deltas, but delta_second_data is given")
            return None
        if second is None:
            raise ValueError("delta_second_data is missing, which a delta needs")
        if self.delta_compressed_type == "byte":
            return as_buffer(second)[0]
        try:
            with open(second, "rb") as file:
                return file.read()
        except OSError as error:
            raise FileNotFoundError(f"the delta's file cannot be read: {error}") from error

    def compress_torch_numpy_byte(
        self, data: Any, lossy_compressed_type: Any = None, lossy_compressed_factor: int | None = None
    ) -> bytearray:
        """compress, without a delta."""
        return self.compress(data, lossy_compressed_type=lossy_compressed_type)

    # ---- Decompressing ----

    def decompress(self, data: Any, decompress_cpu_gpu: str = "cpu", delta_second_data: Any = None) -> Any:
        """What the stream or the streams in data hold: a bytearray, a torch tensor or a numpy array, as they say.

        delta_second_data: for a delta, what it is against.
        """
        _refuse_gpu(decompress_cpu_gpu)
        base = self._base(delta_second_data)
        stream = as_buffer(data)[0]
        delta = _core.zipnn_info(stream)[3]
        if delta and base is None:
            raise ValueError("the data is a delta: set delta_compressed_type, and give delta_second_data")
        if base is not None and not delta:
            raise ValueError("the data is not a delta, and ZipNN is set for one")
        return _restored(stream, base)

    def decompress_bin(self, ba_compress: Any) -> Any:
        """decompress, of no delta."""
        return _restored(as_buffer(ba_compress)[0], None)

    def decompress_read_file(self, data: Any) -> Any:
        """decompress_bin of a file; None for the one named as compressed_file."""
        filename = self.use_var(data, self.compressed_file)
        if filename is None or not os.path.exists(filename):
            raise FileNotFoundError(f"The file at {filename} was not found.")
        with open(filename, "rb") as file:
            return self.decompress_bin(file.read())

    def write_bin(self, ba_decom: Any) -> int:
        """Write to decompressed_file. Returns 0."""
        with open(cast(str, self.decompressed_file), "wb") as file:
            file.write(ba_decom)
        return 0

    # ---- The rest ----

    def use_var(self, data: Any, class_var: Any) -> Any:
        """data, or class_var if it is None."""
        return class_var if data is None else data

    def metadata(self, file: Any, version: bool = False) -> dict[str, Any] | None:
        """The header of a file, by its name, or of a buffer; printed and returned. version: print only that."""
        if isinstance(file, (str, os.PathLike)):
            with open(file, "rb") as opened:
                start = opened.read(_LOOK)
        else:
            start = bytes(memoryview(as_buffer(file)[0])[:_LOOK])
        header = start[:_HEADER_SIZE]
        if header[:2] != b"ZN" or len(header) < _HEADER_SIZE:
            raise ValueError("Header should start with ZN")
        number = ".".join(map(str, header[2:5]))
        if version:
            print(f"ZipNN version: {number}")
            return None
        entries = {
            "zipnn version": number,
            "byte_reorder": header[5],
            "bit_reorder": header[6],
            "method": next((name for name, code in _METHODS.items() if code == header[7]), "UNKNOWN"),
            "input_format": next((name.upper() for name, code in _INPUTS.items() if code == header[8]), "UNKNOWN"),
            "delta_compressed_type": {1: "byte", 2: "file"}.get(header[9], 0),
            "lossy_compressed_type": "NONE",
            "lossy_compressed_factor": header[11],
            "lossy_is_int": header[12],
            "is_streaming": header[13] > 127,
            "compression_chunk": f"{2 ** header[14]} Bytes",
            "dtype": {1: "FLOAT32", 2: "FLOAT32", 4: "FLOAT16", 5: "FLOAT16", 6: "BFLOAT16", 29: "FLOAT8_E4M3FN",
                      30: "FLOAT8_E5M2"}.get(header[15], "NONE"),
            "original_len": f"{int.from_bytes(header[16:24], 'little')} Bytes",
        }
        if header[8] in (_INPUTS["torch"], _INPUTS["numpy"]):
            entries["shape_bytes"], entries["shape_size"] = _shape_of(start[_HEADER_SIZE:])
        print(entries)
        return entries

    def __metadata__(self) -> dict[str, Any]:
        """What this was made with; printed and returned."""
        entries = {
            "ZipNN version": _VERSION,
            "Byte reorder": self.byte_reorder,
            "Bit reorder": self.reorder_signbit,
            "Method": self.method,
            "Input format": _INPUTS[self.input_format],
            "Data type": self.bytearray_dtype,
            "Is monotonic": self.is_monotonic,
            "Threads": self.threads,
            "Compression threshold": self.compression_threshold,
            "Check threshold after percent": self.check_th_after_percent,
            "Delta compressed type": self.delta_compressed_type,
            "Lossy compressed type": self.lossy_compressed_type,
            "Lossy compressed factor": self.lossy_compressed_factor,
            "Compression chunk": self.compression_chunk,
            "Is streaming": self.is_streaming,
            "Streaming chunk": self.streaming_chunk,
            "Input file path": self.input_file,
            "Compressedfile path": self.compressed_file,
            "Decompressed file path": self.decompressed_file,
        }
        print(entries)
        return entries

    def __version__(self) -> None:
        """Print the version of the streams that are written."""
        print(f"ZipNN version: {_VERSION}")

    def compress_delta(self, *arguments: Any) -> None:
        """Not implemented in the original either; delta_compressed_type is what serves."""
        raise NotImplementedError("use delta_compressed_type and compress(..., delta_second_data=...)")

    def _internal(self, *arguments: Any, **named: Any) -> None:
        raise NotImplementedError("a part of zipnn's own machinery, which znn has no use for")

    compress_bin = compress_method = decompress_method = lossy_compress = decompress_lossy = _internal


def _shape_of(packed: bytes) -> tuple[tuple[int, ...], int]:
    """The shape that follows a header, and how many bytes it takes."""
    shape, at = [], 1
    for _ in range(packed[0] if packed else 0):
        end = at + 1 + (packed[at] if at < len(packed) else 0)
        if end > len(packed):
            raise ValueError("the header's shape is cut off")
        shape.append(int.from_bytes(packed[at + 1 : end], "little"))
        at = end
    return tuple(shape), at


def _refuse_gpu(device: str) -> None:
    if device != "cpu":
        raise ValueError(f"{device!r} is not supported; the work is done on the CPU")


def _refuse_lossy(kind: Any) -> None:
    if kind not in (0, None, "none", "NONE"):
        raise ValueError("lossy compression is not supported (zipnn 0.5.4 takes the argument, and ignores it)")


def _restored(stream: Any, base: Any) -> Any:
    """The stream's content, as what it was given as."""
    kind, dtype, shape, *_ = _core.zipnn_info(stream)
    content = _core.zipnn_decompress(stream, base, True)
    if kind == _INPUTS["torch"]:
        import torch

        real = getattr(torch, _NAMES[dtype])
        return torch.frombuffer(content, dtype=real).reshape(shape) if content else torch.empty(shape, dtype=real)
    if kind == _INPUTS["numpy"]:
        import numpy

        if dtype not in ("f16", "f32"):
            raise ValueError(f"numpy has no {_NAMES[dtype]}")
        return numpy.frombuffer(content, dtype=_NAMES[dtype]).reshape(shape)
    return content


# ---- safetensors ----


def _is_stream(tensor: Any) -> bool:
    """Whether a one-dimensional uint8 tensor is a stream of a tensor, all of it."""
    if tensor.ndim != 1 or not str(tensor.dtype).endswith("uint8"):
        return False
    buffer = as_buffer(tensor)[0]
    try:
        return _core.zipnn_is(buffer) and _core.zipnn_info(buffer)[0] == _INPUTS["torch"]
    except _core.ZnnError:
        return False


class SafeOpen:
    """safetensors.safe_open for torch, for files that zipnn's script compressed (NAME.znn.safetensors) and any other.

    get_tensor gives every tensor as it was; what the original refuses to read, files without metadata, too.
    """

    def __init__(self, filename: Any, framework: str = "pt", device: Any = "cpu") -> None:
        import safetensors

        if framework not in ("pt", "torch", "pytorch"):
            raise ValueError(f"framework {framework!r} is not supported; ZipNN's tensors are torch's")
        self._file: Any = safetensors.safe_open(filename, framework, device="cpu")
        self._device = device
        told = (self._file.metadata() or {}).get(_KEY)
        self._told = None if told is None else json.loads(told)

    def get_tensor(self, name: str) -> Any:
        tensor = self._file.get_tensor(name)
        compressed = name in self._told if self._told is not None else _is_stream(tensor)
        if compressed:
            tensor = ZipNN(input_format="torch").decompress(tensor)
        return tensor.to(self._device)

    def get_slice(self, name: str) -> Any:
        """A slice of the whole tensor, which is decompressed for it."""
        return self.get_tensor(name)

    def __enter__(self) -> SafeOpen:
        self._file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> Any:
        return self._file.__exit__(*exception)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def zipnn_safetensors() -> None:
    """Have safetensors.torch read ZipNN's files in this process, as the original's function of this name."""
    import safetensors.torch

    module: Any = safetensors.torch
    module.safe_open = SafeOpen


def zipnn_hf(replace_local_file: bool = False) -> None:
    """The original's plugin for Transformers, in whose place is znn.transformers."""
    raise NotImplementedError(
        "zipnn_hf is not supported: import znn.transformers, after znn.transformers.compress_model or znn --convert"
    )
