"""What the package is to those who install it: its ABI, its types, and what it says when something is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

import znn


def test_the_extension_keeps_to_the_stable_abi():
    pytest.importorskip("abi3audit")
    path = Path(znn._core.__file__)
    if ".abi3." not in path.name:
        pytest.skip("a build for one version of Python")
    command = [sys.executable, "-m", "abi3audit", "--strict", "--assume-minimum-abi3", "3.11", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


TYPED = """
import io
from pathlib import Path
from typing_extensions import assert_type
import znn
import znn.autoload
import znn.hub
import znn.safetensors as zs
import znn.safetensors.numpy as zn
from znn.numcodecs import Znn
from znn.safetensors.torch import load_file, save_file
from znn.transformers import compress_model, decompress_model, register, verify_model
from znn.zipnn import ZipNN
import znn.vllm

frame: bytes = znn.compress(memoryview(b"abc"), dtype="bf16", level=3, threads=1)
data: bytes = znn.decompress(frame)
size: int = znn.decompress(frame, out=bytearray(3))
compressor = znn.ZnnCompressor(level=5)
part: bytes = compressor.compress(bytearray(b"x"), compressor.FLUSH_BLOCK) + compressor.flush()
decompressor = znn.ZnnDecompressor()
more: bytes = decompressor.decompress(part, max_length=10)
state: tuple[bool, bool, bytes] = (decompressor.eof, decompressor.needs_input, decompressor.unused_data)
with znn.ZnnFile(Path("x")) as file:
    line: bytes = file.readline()
assert_type(znn.open("x"), znn.ZnnFile)
assert_type(znn.open(Path("x"), "wt", encoding="utf-8"), io.TextIOWrapper)
for mode in Path("x").name.split():
    assert_type(znn.open("x", mode), znn.ZnnFile | io.TextIOWrapper)
with zs.safe_open("x", framework="pt") as tensors:
    names: list[str] = tensors.keys()
    metadata: dict[str, str] | None = tensors.metadata()
    columns = tensors.get_slice("a")[:, 1:2]
written: int = zs.compress_file(Path("a"), "b", threads=0, progress=lambda done: None)
save_file(load_file("x", device="cpu"), "y", {"format": "pt"})
zn.save_file(zn.load_file("x"), Path("y"), level=9)
stream: bytearray = ZipNN(input_format="byte").compress(b"")
chunk: bytes = Znn(level=1, dtype="f32").encode(b"")
compress_model("x", Path("y"), hint=None, cache_dir=Path("z"), advance=lambda done: None)
decompress_model(Path("y"), "z", threads=2)
verify_model("y")
status: int = znn.hub.main(["ls"])
register()
znn.vllm.register()
"""
WRONG = """
import znn, znn.hub, znn.transformers
znn.compress(7)
number: int = znn.decompress(b"")
znn.compress(b"", levl=3)
znn.ZnnDecompressor().decompress("text")
znn.ZnnDecompressor().eof = True
znn.ZnnDecompressor().needs_input = True
znn.ZnnDecompressor().unused_data = b""
znn.ZnnCompressor().last_mode = 0
znn.open("x").write("text")
znn.transformers.compress_model("x", 7)
znn.hub.main("ls", 1)
"""


def test_types_are_those_of_the_documents(tmp_path):
    pytest.importorskip("mypy")

    def check(program):
        (tmp_path / "program.py").write_text(program)
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", tmp_path / "program.py"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    right = check(TYPED)
    assert right.returncode == 0, right.stdout + right.stderr
    lines = {int(line.split(":")[1]) for line in check(WRONG).stdout.splitlines() if ": error:" in line}
    assert lines == set(range(3, len(WRONG.splitlines()) + 1))


def test_all_of_the_package_is_annotated(tmp_path):
    pytest.importorskip("mypy")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path, "--config-file", root / "pyproject.toml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "missing, program",
    [
        ("huggingface_hub", "import znn.hub; sys.exit(znn.hub.main(['ls']))"),
        ("transformers", "import znn.transformers"),
    ],
)
def test_what_is_missing_is_named_with_how_to_get_it(missing, program):
    code = f"""
import importlib.metadata, sys
sys.modules[{missing!r}] = None
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
{program}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "pip install 'znn[hf]'" in done.stderr.splitlines()[-1]
