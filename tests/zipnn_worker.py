"""What tests ask of zipnn 0.5.4, in its own venv and process. By hand: see test_zipnn.py."""

import contextlib
import hashlib
import inspect
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
import zipnn
from safetensors.torch import save_file
from zipnn.util_safetensors import METADATA_KEY, build_compressed_tensor_info

from zipnn_cases import CANNOT_WRITE, cases


def numbers(dtype, size, seed=1):
    """`size` bytes of normal numbers."""
    values = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.05, size + 4).astype("<f4"))
    return values.to(getattr(torch, dtype)).view(torch.uint8).numpy().tobytes()[:size]


def compress(content, dtype, kind, **options):
    """The stream; zipnn changes what it is given, so it is given a copy."""
    copy = bytearray(content)
    if kind in ("byte", "streaming"):
        judge = zipnn.ZipNN(bytearray_dtype=dtype, is_streaming=kind == "streaming", threads=1, **options)
        return bytes(judge.compress(copy))
    judge = zipnn.ZipNN(input_format=kind, threads=1, **options)
    if kind == "numpy":
        return bytes(judge.compress(np.frombuffer(copy, dtype=dtype)))
    tensor = torch.frombuffer(copy, dtype=getattr(torch, dtype)) if copy else torch.empty(0, dtype=getattr(torch, dtype))
    return bytes(judge.compress(tensor))


def write_matrix(folder):
    for name, dtype, size, kind in cases():
        content = numbers(dtype, size)
        (folder / f"{name}.raw").write_bytes(content)
        if name not in CANNOT_WRITE:
            (folder / f"{name}.znn").write_bytes(compress(content, dtype, kind))


def write_others(folder):
    """Methods that keep whole frames, deltas, other chunks."""
    content = numbers("bfloat16", 700_001)
    base = bytearray(content)
    for i in range(0, len(base), 997):
        base[i] ^= 3
    (folder / "content").write_bytes(content)
    (folder / "base").write_bytes(base)
    for method in ("zstd", "lz4"):
        for streaming in (False, True):
            kind = "streaming" if streaming else "byte"
            stream = compress(content, "bfloat16", kind, method=method, byte_reorder=9)
            (folder / f"{method}-{kind}.znn").write_bytes(stream)
    for kind in ("byte", "streaming"):
        for delta, second in (("byte", bytes(base)), ("file", str(folder / "base"))):
            judge = zipnn.ZipNN(is_streaming=kind == "streaming", threads=1, delta_compressed_type=delta)
            stream = judge.compress(bytearray(content), delta_second_data=second)
            (folder / f"delta-{delta}-{kind}.znn").write_bytes(stream)
    for chunk in (4096, 1 << 20):
        stream = compress(content, "bfloat16", "byte", compression_chunk=chunk)
        (folder / f"chunk-{chunk}.znn").write_bytes(stream)
    stream = compress(content, "bfloat16", "streaming", streaming_chunk=65536)
    (folder / "streaming-65536.znn").write_bytes(stream)


def write_safetensors(folder):
    """As zipnn's script does it: with metadata, and without, where it forgets what it compressed."""
    tensors = {}
    for i, dtype in enumerate(("bfloat16", "float16", "float32")):
        content = bytearray(numbers(dtype, 30_000, seed=i))
        tensors[f"layer.{i}.{dtype}"] = torch.frombuffer(content, dtype=getattr(torch, dtype)).reshape(3, -1)
    tensors["ids"] = torch.arange(1000)
    tensors["scalar"] = torch.tensor(1.5)
    tensors["bytes"] = torch.arange(256).to(torch.uint8)
    for name, metadata in (("with", {"format": "pt"}), ("without", None)):
        save_file(tensors, folder / f"{name}.safetensors", metadata)
        stored, infos = {}, {}
        for key, tensor in tensors.items():
            stored[key] = tensor
            if not tensor.is_floating_point():
                continue
            stream = zipnn.ZipNN(input_format="torch", method="HUFFMAN", threads=1).compress(tensor.clone())
            if len(stream) < tensor.nbytes:
                stored[key] = torch.frombuffer(bytearray(stream), dtype=torch.uint8)
                infos[key] = build_compressed_tensor_info(tensor)
        if metadata:
            metadata = {**metadata, METADATA_KEY: json.dumps(infos)}
        save_file(stored, folder / f"{name}.znn.safetensors", metadata)


def read(folder):
    """The digests of what zipnn makes of each *.znn: {name: sha256}."""
    digests = {}
    for path in sorted(folder.glob("*.znn")):
        result = zipnn.ZipNN(threads=1).decompress(path.read_bytes())
        if isinstance(result, torch.Tensor):
            result = result.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        elif isinstance(result, np.ndarray):
            result = result.tobytes()
        digests[path.stem] = hashlib.sha256(result).hexdigest()
    (folder / "digests.json").write_text(json.dumps(digests))


def print_class(_):
    """{method: [(parameter, default)]} of zipnn's class, as JSON."""
    print(json.dumps({
        name: [[p.name, None if p.default is inspect.Parameter.empty else p.default]
               for p in list(inspect.signature(method).parameters.values())[1:]]
        for name, method in inspect.getmembers(zipnn.ZipNN, inspect.isfunction)
        if name in ("__init__", "__metadata__", "__version__") or not name.startswith("_")
    }))


def print_descriptions(folder):
    """{name: what zipnn says of its header} of each *.znn, as JSON."""
    with contextlib.redirect_stdout(io.StringIO()):
        entries = {path.stem: zipnn.ZipNN().metadata(path.read_bytes()) for path in sorted(folder.glob("*.znn"))}
    print(json.dumps(entries))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    {"matrix": write_matrix, "others": write_others, "safetensors": write_safetensors, "read": read,
     "class": print_class, "describe": print_descriptions}[what](where)
