"""The matrix over which files are exchanged with zipnn 0.5.4: names, and what they stand for."""

CHUNK = 262144
SIZES = {"0": 0, "1": 1, "3": 3, "64": 64, "4096": 4096, "chunk-1": CHUNK - 1, "chunk": CHUNK, "chunk+1": CHUNK + 1,
         "several": 5 * CHUNK + 12345}
WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4, "float8_e4m3fn": 1, "float8_e5m2": 1}
KINDS = ("byte", "streaming", "torch", "numpy")
NUMPY = ("float16", "float32")

# What zipnn itself cannot write. float32 bytes of a length that is no multiple of 4 corrupt its heap, and mostly end
# the process; streaming writes nothing for nothing, and its reader then raises IndexError.
CANNOT_WRITE = {f"float32-{size}-{kind}" for size in ("1", "3", "chunk-1", "chunk+1", "several")
                for kind in ("byte", "streaming")}
CANNOT_WRITE |= {f"{dtype}-0-streaming" for dtype in WIDTHS}


def cases():
    """(name, dtype, size in bytes, kind) of each."""
    for dtype, width in WIDTHS.items():
        for size_name, size in SIZES.items():
            for kind in KINDS:
                if kind == "numpy" and dtype not in NUMPY:
                    continue
                whole = size if kind in ("byte", "streaming") else size // width * width
                yield f"{dtype}-{size_name}-{kind}", dtype, whole, kind
