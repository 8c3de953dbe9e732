"""safetensors.torch's functions, for plain and compressed files. Written files are compressed."""

from ._open import load as _load
from ._open import load_file as _load_file
from ._save import save, save_file

__all__ = ["load", "load_file", "save", "save_file"]


def load_file(filename, device="cpu", *, backend="mmap", threads=1):
    """Every tensor of a plain or compressed file by its name, as torch tensors; see safe_open."""
    return _load_file(filename, device, backend=backend, framework="pt", threads=threads)


def load(data):
    """Every tensor of a plain or compressed file's bytes by its name, as torch tensors."""
    return _load(data, framework="pt")
