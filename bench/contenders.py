"""What is measured: znn and its peers, behind one small interface.

A contender is given `src`, a buffer of `copies` copies of one file, and works on
every copy by itself, so that a peer that finds repetitions does not find these.
compress() and decompress() are what the clock sees; before_compress() is not.
"""

import ctypes
import importlib.metadata
import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

ITEM_SIZES = {"bf16": 2, "f16": 2, "f32": 4, "f8_e4m3": 1}


def address(array):
    return ctypes.c_void_p(array.ctypes.data)


class Contender:
    one_copy = False                  # True: cannot work on several
    new_packed = new_restored = True  # whether its results are new objects, to be told from its working memory

    def __init__(self, item, threads):
        """item: "path", "dtype" and "znn_dtype" of the input."""
        self.item = item
        self.threads = threads

    def load(self, src, size):
        """src: uint8 array, a whole number of copies of `size` bytes; never written to."""
        self.src, self.size = src, size
        self.pieces = [src[i:i + size] for i in range(0, src.size, size)]
        self.packed = [None] * len(self.pieces)
        self.restored = [None] * len(self.pieces)

    def before_compress(self):
        pass

    def compress(self):
        for i, piece in enumerate(self.pieces):
            self.packed[i] = self.pack(piece)

    def decompress(self):
        for i, packed in enumerate(self.packed):
            self.restored[i] = self.unpack(packed, self.pieces[i].size)

    def packed_size(self):
        """Of all copies together, in bytes."""
        return sum(len(packed) for packed in self.packed)

    def results(self):
        """What decompress() made: buffers that are src when laid one after the other."""
        return self.restored

    def close(self):
        pass


class Shared(Contender):
    """A contender with no threads of its own: each copy is cut in two halves, for one thread
    and for two alike, and the threads take turns at the halves. All of these release the GIL."""

    def load(self, src, size):
        super().load(src, size)
        half = size // 2
        self.pieces = [part for piece in self.pieces for part in (piece[:half], piece[half:])]
        self.packed = [None] * len(self.pieces)
        self.restored = [None] * len(self.pieces)
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def each(self, work):
        def share(first):
            for i in range(first, len(self.pieces), self.threads):
                work(first, i)
        if self.pool:
            list(self.pool.map(share, range(self.threads)))
        else:
            share(0)

    def compress(self):
        def work(thread, i):
            self.packed[i] = self.pack(self.pieces[i], thread)
        self.each(work)

    def decompress(self):
        def work(thread, i):
            self.restored[i] = self.unpack(self.packed[i], self.pieces[i].size, thread)
        self.each(work)

    def close(self):
        if self.pool:
            self.pool.shutdown()


class Memcpy(Shared):
    new_packed = new_restored = False
    version = "the C library's"

    def load(self, src, size):
        super().load(src, size)
        self.out = np.ones(src.size, np.uint8)
        ends = np.cumsum([piece.size for piece in self.pieces])
        self.restored = [self.out[end - piece.size:end] for end, piece in zip(ends, self.pieces)]
        self.function = ctypes.CDLL(None).memcpy
        self.function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        self.function.restype = ctypes.c_void_p

    def compress(self):
        pass

    def decompress(self):
        self.each(lambda thread, i: self.function(address(self.restored[i]), address(self.pieces[i]),
                                                  self.pieces[i].size))

    def packed_size(self):
        return self.src.size


class ZnnOptions(ctypes.Structure):
    """The begin of znn_options of include/znn.h, and room for the rest; znn_options_init fills it in."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("dtype", ctypes.c_int), ("level", ctypes.c_int),
                ("threads", ctypes.c_int), ("rest", ctypes.c_uint64 * 64)]


class Library:
    """libznn.so, by the functions that the bench calls."""

    def __init__(self, path):
        self.lib = lib = ctypes.CDLL(str(path))
        size, pointer = ctypes.c_uint64, ctypes.c_void_p
        call = [pointer, size, ctypes.POINTER(size), pointer, size, ctypes.POINTER(ZnnOptions)]
        lib.znn_options_init.argtypes, lib.znn_options_init.restype = [ctypes.POINTER(ZnnOptions)], None
        lib.znn_compress_bound.argtypes, lib.znn_compress_bound.restype = [size], size
        lib.znn_compress.argtypes = lib.znn_decompress.argtypes = call
        lib.znn_dtype_from_name.argtypes = [ctypes.c_char_p]
        lib.znn_status_message.restype = lib.znn_version.restype = lib.znn_isa.restype = ctypes.c_char_p

    def isa(self):
        return self.lib.znn_isa().decode()

    def version(self):
        return self.lib.znn_version().decode()

    def options(self, dtype, level, threads):
        options = ZnnOptions()
        self.lib.znn_options_init(ctypes.byref(options))
        defaults = (options.dtype, options.level, options.threads)
        if options.struct_size > ctypes.sizeof(ZnnOptions) or defaults != (0, 3, 1):
            raise RuntimeError("znn_options of this library is not the one that bench/contenders.py describes")
        options.dtype = 0 if dtype == "auto" else self.lib.znn_dtype_from_name(dtype.encode())
        options.level, options.threads = level, threads
        return options

    def run(self, function, dst, src, options):
        """znn_compress or znn_decompress from array to array; the result's size."""
        size = ctypes.c_uint64()
        status = function(dst.ctypes.data, dst.size, ctypes.byref(size), src.ctypes.data, src.size,
                          ctypes.byref(options))
        if status:
            raise RuntimeError(self.lib.znn_status_message(status).decode())
        return size.value


class Znn(Contender):
    new_packed = new_restored = False

    def __init__(self, item, threads, library, level):
        super().__init__(item, threads)
        self.library = Library(library)
        self.options = self.library.options(item["znn_dtype"], level, threads)
        self.version = self.library.version()
        self.isa = self.library.isa()

    def load(self, src, size):
        super().load(src, size)
        self.bound = self.library.lib.znn_compress_bound(size)
        self.room = np.ones(self.bound * len(self.pieces), np.uint8)
        self.out = np.ones(src.size, np.uint8)
        self.restored = [self.out[i:i + size] for i in range(0, src.size, size)]

    def compress(self):
        """Each copy's frame after the one before, as a caller would lay them."""
        begin = 0
        for i, piece in enumerate(self.pieces):
            room = self.room[begin:]
            size = self.library.run(self.library.lib.znn_compress, room, piece, self.options)
            self.packed[i] = room[:size]
            begin += size

    def decompress(self):
        for packed, out in zip(self.packed, self.restored):
            self.library.run(self.library.lib.znn_decompress, out, packed, self.options)


class ZipNN(Contender):
    """Changes its input in place: it is given a copy, made outside the timed part."""
    DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f8_e4m3": "float8_e4m3fn"}

    def __init__(self, item, threads):
        super().__init__(item, threads)
        import zipnn
        self.coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=self.DTYPES[item["dtype"]], threads=threads)
        self.version = importlib.metadata.version("zipnn")

    def load(self, src, size):
        super().load(src, size)
        self.inputs = [bytearray(size) for _ in self.pieces]

    def before_compress(self):
        for copy, piece in zip(self.inputs, self.pieces):
            copy[:] = memoryview(piece)

    def compress(self):
        for i, copy in enumerate(self.inputs):
            self.packed[i] = self.coder.compress(copy)

    def unpack(self, packed, size):
        return self.coder.decompress(packed)


class Zstd(Shared):
    def __init__(self, item, threads, level):
        super().__init__(item, threads)
        import zstandard
        self.coders = [zstandard.ZstdCompressor(level=level) for _ in range(threads)]
        self.decoders = [zstandard.ZstdDecompressor() for _ in range(threads)]
        version = ".".join(map(str, zstandard.ZSTD_VERSION))
        self.version = f"{version} (zstandard {zstandard.__version__})"

    def pack(self, piece, thread):
        return self.coders[thread].compress(piece)

    def unpack(self, packed, size, thread):
        return self.decoders[thread].decompress(packed)


class Lz4(Shared):
    def __init__(self, item, threads):
        super().__init__(item, threads)
        import lz4.block
        self.module = lz4.block
        self.version = f"{lz4.library_version_string()} (lz4 {lz4.__version__})"

    def pack(self, piece, thread):
        return self.module.compress(piece, store_size=False)

    def unpack(self, packed, size, thread):
        return self.module.decompress(packed, uncompressed_size=size)


class Snappy(Shared):
    def __init__(self, item, threads):
        super().__init__(item, threads)
        import snappy
        self.module = snappy
        self.version = "python-snappy %s, cramjam %s" % tuple(
            importlib.metadata.version(name) for name in ("python-snappy", "cramjam"))

    def pack(self, piece, thread):
        return self.module.compress(piece)

    def unpack(self, packed, size, thread):
        return self.module.decompress(packed)


class Blosc2(Contender):
    new_restored = False

    def __init__(self, item, threads):
        super().__init__(item, threads)
        import blosc2
        self.module = blosc2
        self.version = f"{blosc2.__version__} (C-Blosc2 {blosc2.blosclib_version.split()[0]})"

    def load(self, src, size):
        super().load(src, size)
        self.out = np.ones(src.size, np.uint8)
        self.restored = [self.out[i:i + size] for i in range(0, src.size, size)]

    def pack(self, piece):
        return self.module.compress2(
            piece, typesize=ITEM_SIZES[self.item["dtype"]], clevel=1, codec=self.module.Codec.ZSTD,
            filters=[self.module.Filter.SHUFFLE], filters_meta=[0], nthreads=self.threads)

    def decompress(self):
        for packed, out in zip(self.packed, self.restored):
            self.module.decompress2(packed, dst=out, nthreads=self.threads)


class Lmz(Contender):
    """Works on files only: these lie in memory, in /dev/shm."""
    one_copy = True
    new_packed = new_restored = False
    SAFETENSORS = {"bf16": "BF16", "f16": "F16", "f32": "F32", "f8_e4m3": "F8_E4M3"}

    def __init__(self, item, threads):
        super().__init__(item, threads)
        import lmz
        self.module = lmz
        kernel = lmz.backends()["kernel"]
        self.version = f"{lmz.__version__} ({kernel})"

    def load(self, src, size):
        super().load(src, size)
        self.folder = tempfile.mkdtemp()  # run.py has it lie in memory
        self.plain, self.archive, self.back = (os.path.join(self.folder, name) for name in ("in", "lmz", "out"))
        # It learns a dtype from a file's header alone, so raw numbers get one.
        header = b""
        if self.item["znn_dtype"] != "auto":
            count = size // ITEM_SIZES[self.item["dtype"]]
            entry = {"dtype": self.SAFETENSORS[self.item["dtype"]], "shape": [count], "data_offsets": [0, size]}
            text = json.dumps({"weights": entry}).encode()
            text += b" " * (-len(text) % 8)
            header = len(text).to_bytes(8, "little") + text
        self.skip = len(header)
        with open(self.plain, "wb") as file:
            file.write(header)
            file.write(src)

    def compress(self):
        self.module.compress(self.plain, self.archive, workers=self.threads)

    def decompress(self):
        self.module.decompress(self.archive, self.back, workers=self.threads, overwrite=True)

    def packed_size(self):
        return os.path.getsize(self.archive)

    def results(self):
        return [np.fromfile(self.back, np.uint8)[self.skip:]]

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Z4ai(Contender):
    DTYPES = {"bf16": "bf16", "f16": "fp16", "f32": "fp32", "f8_e4m3": "fp8_e4m3"}

    def __init__(self, item, threads):
        super().__init__(item, threads)
        import z4ai
        self.module = z4ai
        self.version = z4ai.__version__

    def load(self, src, size):
        super().load(src, size)
        self.pieces = [bytes(piece) for piece in self.pieces]  # it would copy anything else, within the timed part

    def compress(self):
        for i, piece in enumerate(self.pieces):
            self.packed[i] = self.module.compress(piece, dtype=self.DTYPES[self.item["dtype"]], threads=self.threads)

    def decompress(self):
        for i, packed in enumerate(self.packed):
            self.restored[i] = self.module.decompress(packed)


# key: (label, package it comes from, what makes it)
CONTENDERS = {
    "memcpy": ("memcpy", None, lambda item, threads, library: Memcpy(item, threads)),
    "znn-1": ("znn -1", None, lambda item, threads, library: Znn(item, threads, library, 1)),
    "znn": ("znn", None, lambda item, threads, library: Znn(item, threads, library, 3)),
    "znn-9": ("znn -9", None, lambda item, threads, library: Znn(item, threads, library, 9)),
    "zipnn": ("zipnn", "zipnn", lambda item, threads, library: ZipNN(item, threads)),
    # The same, in a process that gives freed memory back to the system, as glibc does by itself.
    "zipnn-new": ("zipnn, new pages", "zipnn", lambda item, threads, library: ZipNN(item, threads)),
    "zstd-1": ("zstd -1", "zstandard", lambda item, threads, library: Zstd(item, threads, 1)),
    "zstd-3": ("zstd -3", "zstandard", lambda item, threads, library: Zstd(item, threads, 3)),
    "lz4": ("lz4", "lz4", lambda item, threads, library: Lz4(item, threads)),
    "snappy": ("snappy", "python-snappy", lambda item, threads, library: Snappy(item, threads)),
    "blosc2": ("blosc2", "blosc2", lambda item, threads, library: Blosc2(item, threads)),
    "lmz": ("lmz", "lmzip", lambda item, threads, library: Lmz(item, threads)),
    "z4ai": ("z4ai", "z4ai", lambda item, threads, library: Z4ai(item, threads)),
}
