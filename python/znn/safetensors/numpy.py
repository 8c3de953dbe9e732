"""safetensors.numpy's functions, for plain and compressed files. Written files are compressed."""

from ._open import load as _load
from ._open import load_file as _load_file
from ._save import save, save_file

__all__ = ["load", "load_file", "save", "save_file"]


def load_file(filename, *, backend="mmap", threads=1):
    """Every tensor of a plain or compressed file by its name, as numpy arrays; see safe_open."""
    return _load_file(filename, "cpu", backend=backend, framework="np", threads=threads)


def load(data):
    """Every tensor of a plain or compressed file's bytes by its name, as numpy arrays."""
    return _load(data, framework="np")
