"""Writing tensors: save and save_file."""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any, cast

from .. import _core
from .._buffers import as_buffer, check, is_tensor
from ._dtypes import ORDER
from ._errors import SafetensorError, naming
from ._files import replacing
from ._frameworks import code_of


def _refuse_shared(tensors: dict[str, Any]) -> None:
    """Raise RuntimeError if torch tensors overlap in memory: each would be written on its own."""
    spans: dict[tuple[str, int], list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if tensor.device.type == "meta" or tensor.nbytes == 0:
            continue
        storage = tensor.untyped_storage()
        begin = tensor.data_ptr()
        spans.setdefault((str(tensor.device), storage.data_ptr()), []).append((begin, begin + tensor.nbytes, name))
    for found in spans.values():
        found.sort()
        for (_, end, name), (begin, _, other) in zip(found, found[1:]):
            if begin < end:
                raise RuntimeError(
                    f"Some tensors share memory, which would be written twice and be apart when loaded: {name!r} and "
                    f"{other!r}. Leave one of them out, or save a .clone() of it."
                )


def _check_torch(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(tensor)}")
        if tensor.layout != torch.strided:
            raise ValueError(f"You are trying to save a sparse tensor: `{name}`; make it dense with .to_dense()")
    _refuse_shared(tensors)
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(
                f"You are trying to save a non contiguous tensor: `{name}` which is not allowed; call .contiguous()"
            )
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _check_numpy(tensors: dict[str, Any]) -> dict[str, Any]:
    import numpy

    checked = {}
    for name, array in tensors.items():
        if not isinstance(array, numpy.ndarray):
            raise ValueError(f"Key `{name}` is invalid, expected numpy.ndarray but received {type(array)}")
        if array.dtype.byteorder == (">" if sys.byteorder == "little" else "="):
            array = array.astype(array.dtype.newbyteorder("<"))
        checked[name] = array if array.flags.c_contiguous else numpy.ascontiguousarray(array).reshape(array.shape)
    return checked


def _lay_out(tensors: dict[str, Any], metadata: dict[str, str] | None) -> list[Any]:
    """The plain file, as a list of buffers."""
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of names to tensors but received {type(tensors)}")
    tensors = (_check_torch if any(map(is_tensor, tensors.values())) else _check_numpy)(tensors)
    header: dict[str, Any] = {}
    if metadata is not None:
        if not all(isinstance(text, str) for item in metadata.items() for text in item):
            raise TypeError("metadata is a dict of str to str")
        header["__metadata__"] = dict(metadata)
    codes: dict[str, str] = {}
    for name, tensor in tensors.items():
        code = code_of(tensor.dtype)
        if not isinstance(name, str) or name == "__metadata__":
            raise ValueError(f"{name!r} is no name of a tensor")
        if code is None:
            raise SafetensorError(f"tensor {name!r}: safetensors has no dtype for {tensor.dtype}")
        codes[name] = code
    buffers, at = [], 0
    for name in sorted(tensors, key=lambda name: (ORDER[codes[name]], name)):
        buffer = as_buffer(tensors[name])[0]
        shape = list(tensors[name].shape)
        if codes[name] == "F4":
            shape[-1] *= 2
        size = memoryview(buffer).nbytes
        header[name] = {"dtype": codes[name], "shape": shape, "data_offsets": [at, at + size]}
        buffers.append(buffer)
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)) + text, *buffers]


def save(tensors: dict[str, Any], metadata: dict[str, str] | None = None, *, level: int = 3, threads: int = 1) -> bytes:
    """A compressed .safetensors file of the tensors, as bytes.

    tensors: a dict of names to torch tensors, or to numpy arrays; dense, and torch's contiguous and not sharing memory.
    metadata: a dict of str to str, or None.
    level, threads: as for znn.compress.

    decompress_file of the result gives what the safetensors package writes. Raises ValueError, RuntimeError (shared
    memory) and SafetensorError (a dtype without a name) as that package does.
    """
    check(level, threads)
    with naming(None):
        return cast(bytes, _core.Safetensors(_lay_out(tensors, metadata), level, threads, True).compress(-1, None))


def save_file(
    tensors: dict[str, Any],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    level: int = 3,
    threads: int = 1,
) -> None:
    """As save, into a file, which appears at once and whole, replacing one of that name. Takes no memory for a copy of
    the tensors."""
    check(level, threads)
    with naming(filename):
        core = _core.Safetensors(_lay_out(tensors, metadata), level, threads, True)
        with replacing(filename) as file:
            core.compress(file.fileno(), None)
