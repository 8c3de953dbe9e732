"""safetensors.torch's functions, for plain and compressed files. Written files are compressed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._open import load as _load
from ._open import load_file as _load_file
from ._save import overlapping
from ._save import save as _save
from ._save import save_file as _save_file

if TYPE_CHECKING:
    from collections.abc import Collection

    import torch

    from .._buffers import Data

__all__ = ["load", "load_file", "load_model", "save", "save_file", "save_model"]


def save(
    tensors: dict[str, Any], metadata: dict[str, str] | None = None, *, level: int = 3, threads: int = 1
) -> bytes:
    """A compressed .safetensors file of torch tensors, as bytes; see znn.safetensors.save."""
    return _save(tensors, metadata, level=level, threads=threads, framework="pt")


def save_file(
    tensors: dict[str, Any],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    level: int = 3,
    threads: int = 1,
) -> None:
    """A compressed .safetensors file of torch tensors; see znn.safetensors.save_file."""
    _save_file(tensors, filename, metadata, level=level, threads=threads, framework="pt")


def load_file(
    filename: str | os.PathLike[str], device: Any = "cpu", *, backend: str = "mmap", threads: int = 1
) -> dict[str, torch.Tensor]:
    """Every tensor of a plain or compressed file by its name, as torch tensors; see safe_open."""
    return _load_file(filename, device, backend=backend, framework="pt", threads=threads)


def load(data: Data) -> dict[str, torch.Tensor]:
    """Every tensor of a plain or compressed file's bytes by its name, as torch tensors."""
    return _load(data, framework="pt")


def _duplicates(tensors: dict[str, Any], preferred: Collection[str] = ()) -> dict[str, str]:
    """{name: the name under which its memory is kept} of tensors that share memory with a whole one."""
    kept_as = {}
    for group in overlapping(tensors):
        whole = [name for name in group if tensors[name].nbytes == tensors[name].untyped_storage().nbytes()]
        if not whole:
            raise RuntimeError(f"{', '.join(map(repr, group))} share memory that none of them has whole; .clone() them")
        kept = min(whole, key=lambda name: (name not in preferred, name))
        kept_as.update({name: kept for name in group if name != kept})
    return kept_as


def save_model(
    model: Any,
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    force_contiguous: bool = True,
    *,
    level: int = 3,
    threads: int = 1,
) -> None:
    """A compressed .safetensors file of a torch.nn.Module's state, whose tensors may share memory: each is written
    once, and the metadata say under which name.

    force_contiguous: write a copy of what is not contiguous. The rest is as for save_file."""
    tensors = model.state_dict()
    duplicates = _duplicates(tensors)
    for name in duplicates:
        del tensors[name]
    if force_contiguous:
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if duplicates:
        metadata = duplicates | (metadata or {})
    save_file(tensors, filename, metadata, level=level, threads=threads)


def load_model(
    model: Any,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Any = "cpu",
    *,
    backend: str = "mmap",
    threads: int = 1,
) -> tuple[list[str], list[str]]:
    """Load a file that save_model wrote, or safetensors' own, into a torch.nn.Module.

    Returns the names (missing, unexpected): of the model that the file has not, of the file that the model has not.
    strict: raise RuntimeError if there are any. The rest is as for load_file."""
    tensors = load_file(filename, device, backend=backend, threads=threads)
    duplicates = _duplicates(model.state_dict(), tensors)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if duplicates.get(name) not in tensors]
    unexpected = [name for name in unexpected if name not in duplicates]
    if strict and (missing or unexpected):
        what = f"missing {missing}, unexpected {unexpected}"
        raise RuntimeError(f"{filename} does not fit {type(model).__name__}: {what}")
    return missing, unexpected
