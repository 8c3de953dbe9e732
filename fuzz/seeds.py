"""Inputs to begin a campaign with: small files of every kind, made by the command.

    python3 fuzz/seeds.py build/znn FOLDER

makes FOLDER/TARGET/* for the targets of this folder.
"""

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

DTYPES = {"bf16": 2, "f16": 2, "f32": 4, "f64": 8, "f8_e4m3": 1, "f8_e5m2": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1}


CONTEXT_ELEMENTS = 17000


def weights(dtype, count, rng):
    """About normal numbers, as bytes of a dtype."""
    out = bytearray()
    for _ in range(count):
        value = rng.gauss(0, 0.05)
        if dtype == "f64":
            out += struct.pack("<d", value)
        elif dtype == "f32":
            out += struct.pack("<f", value)
        elif dtype == "bf16":
            out += struct.pack("<f", value)[2:]
        elif dtype == "f16":
            out += struct.pack("<e", value)
        elif dtype == "f8_e5m2":
            out += struct.pack("<e", value)[1:]
        elif dtype == "f8_e4m3":
            out += struct.pack("<H", struct.unpack("<H", struct.pack("<e", value * 16))[0] >> 7 & 0xff)[:1]
        else:
            out += int(value * 400).to_bytes(DTYPES[dtype], "little", signed=dtype != "u8") if dtype != "u8" else bytes(
                [int(abs(value) * 400)])
    return bytes(out)


def safetensors(tensors, metadata=None):
    """tensors: (name, dtype, bytes); all of one dimension."""
    sizes = {"F32": 4, "BF16": 2, "F16": 2, "U8": 1, "I64": 8}
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, dtype, content in tensors:
        header[name] = {"dtype": dtype, "shape": [len(content) // sizes[dtype]],
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def main():
    znn, folder = sys.argv[1], Path(sys.argv[2])
    rng = random.Random(1)

    def put(target, name, content):
        (folder / target).mkdir(parents=True, exist_ok=True)
        (folder / target / name).write_bytes(content)

    def run(*arguments, content):
        return subprocess.run([znn, "-c", *arguments], input=content, check=True, capture_output=True).stdout

    for index, dtype in enumerate(DTYPES):
        content = weights(dtype, 700 // DTYPES[dtype], rng)
        for level in (1, 3, 9):
            frame = run(f"-{level}", "--dtype", dtype, content=content)
            put("decompress", f"{dtype}-{level}", bytes([1, 2, 3, 4]) + frame)
            put("command", f"{dtype}-{level}", bytes([2, 0, 25, 1]) + frame)
            put("describe", f"{dtype}-{level}", b"\xff" + frame)
            put("roundtrip", f"{dtype}-{level}", bytes([7 + index % 10, level - 1 | 64, 0, 1, 200 + index, 1]) + content)
        put("plan", dtype, bytes([129, index, 1, 0]) + content)
        put("zipnn_roundtrip", dtype, bytes([13 + index % 4, 128, 8, 1]) + content)
        zipnn = run("--format", "zipnn", "--dtype", dtype if dtype in ("bf16", "f16", "f32") else "bf16",
                    content=content * 3)
        put("zipnn", dtype, zipnn)
        put("command", f"zipnn-{dtype}", bytes([2, 0, 25, 1]) + zipnn)
    # The context coder works on many elements: of one bit beside few exponents, so that their frame is small, and for
    # round trips the input over and over, with noise.
    for dtype, shift in {"bf16": 7, "f16": 10}.items():
        width = DTYPES[dtype]
        some = b"".join(((rng.randrange(2) << 8 * width - 1) | (17 - min(3, int(rng.expovariate(2)))) << shift).to_bytes(
            width, "little") for _ in range(CONTEXT_ELEMENTS))
        frame = run("-9", "--dtype", dtype, content=some)
        assert frame[52] == 2, "not by the context coder"
        put("decompress", f"always-context-{dtype}", bytes([1, 2, 3, 4]) + frame)
    for number, dtype in {13: "f16", 14: "bf16", 15: "f32"}.items():
        put("roundtrip", f"always-context-{dtype}",
            bytes([number, 8 | 64, 0, 1, 128 + DTYPES[dtype] // 2, 1]) + weights(dtype, 1100, rng))
    for name, content in {"zeros": bytes(3000), "text": b"some words of text, " * 20, "noise": rng.randbytes(600),
                          "empty": b""}.items():
        put("decompress", name, bytes(4) + run(content=content))
        put("roundtrip", name, bytes([0, 2, 0, 0, 0, 0]) + content)
        put("plan", name, bytes([1, 0, 0, 0]) + content)
    put("decompress", "two-frames", bytes(4) + run(content=b"a" * 99) + run(content=b"b" * 200))
    put("decompress", "no-checksums", bytes(4) + run("--no-check", content=weights("bf16", 300, rng)))
    plain = safetensors([("a.weight", "BF16", weights("bf16", 300, rng)), ("b", "F32", weights("f32", 100, rng)),
                         ("c", "U8", b"")], {"format": "pt"})
    length = struct.unpack_from("<Q", plain)[0]
    put("header", "three", plain[8:8 + length])
    put("header", "none", b"{}")
    put("safetensors", "plain", b"\x00" + plain)
    work = folder / "model.safetensors"
    work.write_bytes(plain)
    subprocess.run([znn, "-fq", "--safetensors", work], check=True)
    compressed = folder / "model.znn.safetensors"
    put("safetensors", "compressed", b"\x00" + compressed.read_bytes())
    put("command", "safetensors", bytes([3, 0, 17, 26, 3]) + compressed.read_bytes())
    work.unlink()
    compressed.unlink()
    for i in range(6):
        put("safetensors", f"made-{i}", bytes([1 + i * 16, i + 1, 1]) + rng.randbytes(24) + weights("bf16", 60, rng))
    for i, line in enumerate(["-d -f x.znn", "--dtype=bf16 -9T2 -o out x", "-lvr --json folder -- -x",
                              "--format zipnn --threads=0 -c -", "-dkT 2 --base b x", "--memory=64M -d x"]):
        put("options", f"line-{i}", "\0".join(line.split()).encode())
    for i in range(12):
        put("command", f"plain-{i}", bytes([3, rng.randrange(40), rng.randrange(40), 24, i % 4]) + plain)


main()
