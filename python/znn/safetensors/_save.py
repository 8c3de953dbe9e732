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


def overlapping(tensors: dict[str, Any]) -> list[list[str]]:
    """Groups of names of torch tensors that share memory, byte for byte or in part; in the order of their memory."""
    spans: dict[tuple[str, int], list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if tensor.device.type == "meta" or tensor.nbytes == 0:
            continue
        storage = tensor.untyped_storage()
        begin = tensor.data_ptr()
        spans.setdefault((str(tensor.device), storage.data_ptr()), []).append((begin, begin + tensor.nbytes, name))
    groups: list[list[str]] = []
    for found in spans.values():
        end, group = 0, [""]
        for begin, end_of_this, name in sorted(found):
            if begin < end:
                group.append(name)
            else:
                group = [name]
                groups.append(group)
            end = max(end, end_of_this)
    return [group for group in groups if len(group) > 1]


def _refuse_shared(tensors: dict[str, Any]) -> None:
    """Raise RuntimeError if torch tensors overlap in memory: each would be written on its own."""
    for group in overlapping(tensors):
        raise RuntimeError(
            "Some tensors share memory, which would be written twice and be apart when loaded: "
            f"{', '.join(map(repr, group))}. Leave all but one of them out, save a .clone() of them, or use save_model."
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
    return {name: tensor.detach().cpu().resolve_conj().resolve_neg() for name, tensor in tensors.items()}


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


def _lay_out(tensors: dict[str, Any], metadata: dict[str, str] | None, framework: str | None) -> list[Any]:
    """The plain file, as a list of buffers. framework: "pt" or "np"; None for what the tensors are."""
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of names to tensors but received {type(tensors)}")
    for name in tensors:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no name of a tensor: it is not a str")
    is_torch = framework == "pt" or (framework is None and any(map(is_tensor, tensors.values())))
    tensors = (_check_torch if is_torch else _check_numpy)(tensors)
    header: dict[str, Any] = {}
    if metadata is not None:
        is_dict = isinstance(metadata, dict)
        if not is_dict or not all(isinstance(text, str) for item in metadata.items() for text in item):
            raise TypeError("metadata is a dict of str to str")
        header["__metadata__"] = dict(metadata)
    codes: dict[str, str] = {}
    for name, tensor in tensors.items():
        code = code_of(tensor.dtype)
        if name == "__metadata__":
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


def save(
    tensors: dict[str, Any],
    metadata: dict[str, str] | None = None,
    *,
    level: int = 3,
    threads: int = 1,
    framework: str | None = None,
) -> bytes:
    """A compressed .safetensors file of the tensors, as bytes.

    tensors: a dict of names to torch tensors, or to numpy arrays; dense, and torch's contiguous and not sharing memory.
    metadata: a dict of str to str, or None.
    level, threads: as for znn.compress.
    framework: "pt" or "np", which all tensors must be of; None for either.

    decompress_file of the result gives what the safetensors package writes. Raises ValueError, TypeError, RuntimeError
    (shared memory) and SafetensorError (a dtype without a name) as that package does.
    """
    check(level, threads)
    with naming(None):
        file = _core.Safetensors(_lay_out(tensors, metadata, framework), level, threads, True)
        return cast(bytes, file.compress(-1, None))


def save_file(
    tensors: dict[str, Any],
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    *,
    level: int = 3,
    threads: int = 1,
    framework: str | None = None,
) -> None:
    """As save, into a file, which appears at once and whole, replacing one of that name. Takes no memory for a copy of
    the tensors. Raises OSError, too."""
    check(level, threads)
    with naming(filename):
        core = _core.Safetensors(_lay_out(tensors, metadata, framework), level, threads, True)
        with replacing(filename) as file:
            core.compress(file.fileno(), None)
