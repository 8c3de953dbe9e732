"""safetensors.numpy's functions, for plain and compressed files. Written files are compressed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._open import load as _load
from ._open import load_file as _load_file
from ._save import save as _save
from ._save import save_file as _save_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._buffers import Data

__all__ = ["load", "load_file", "save", "save_file"]


def save(
    tensor_dict: dict[str, Any], metadata: dict[str, str] | None = None, *, level: int = 3, threads: int = 1
) -> bytes:
    """A compressed .safetensors file of numpy arrays, as bytes; see znn.safetensors.save."""
    return _save(tensor_dict, metadata, level=level, threads=threads, framework="np")


def save_file(
    tensor_dict: dict[str, Any],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    level: int = 3,
    threads: int = 1,
) -> None:
    """A compressed .safetensors file of numpy arrays; see znn.safetensors.save_file."""
    _save_file(tensor_dict, filename, metadata, level=level, threads=threads, framework="np")


def load_file(filename: str | os.PathLike[str], *, backend: str = "mmap", threads: int = 1) -> dict[str, NDArray[Any]]:
    """Every tensor of a plain or compressed file by its name, as numpy arrays; see safe_open."""
    return _load_file(filename, "cpu", backend=backend, framework="np", threads=threads)


def load(data: Data) -> dict[str, NDArray[Any]]:
    """Every tensor of a plain or compressed file's bytes by its name, as numpy arrays."""
    return _load(data, framework="np")
