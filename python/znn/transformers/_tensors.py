"""One stored tensor, back to what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import ZnnError, _core
from .._buffers import as_writable
from .._models import Entry
from ..safetensors._frameworks import empty_tensor

# Smaller ones are decompressed before further threads would have begun.
_WORTH_THREADS = 1 << 20

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


# docs/FORMAT.md: the dtype of a chunk. 1, bytes, says nothing.
_OF_FRAMES = {
    2: torch.bool,
    3: torch.int8,
    5: torch.int16,
    6: torch.uint16,
    7: torch.int32,
    8: torch.uint32,
    9: torch.int64,
    10: torch.uint64,
    11: torch.float8_e4m3fn,
    12: torch.float8_e5m2,
    13: torch.float16,
    14: torch.bfloat16,
    15: torch.float32,
    16: torch.float64,
}


def frame_dtype(frame: torch.Tensor, otherwise: torch.dtype) -> torch.dtype:
    """The torch dtype of a frame's first number, for a loader that says nothing more; `otherwise` if it has none."""
    data = frame[:32].numpy().tobytes()
    first = 32 + int.from_bytes(data[24:28], "little")
    return _OF_FRAMES.get(int(frame[first + 1]) if frame.numel() > first + 1 else 0, otherwise)


def decompressed(
    stored: torch.Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...], threads: int = 0
) -> torch.Tensor:
    """The tensor in a frame.

    stored: its bytes, a tensor of uint8 on any device. dtype: torch's. Returns a CPU tensor.
    Raises ZnnError that names the tensor if the frame is damaged or holds something else.
    """
    out: torch.Tensor = empty_tensor(dtype, shape)
    frame = stored.cpu().contiguous().numpy()
    try:
        size = _core.content_size(frame)
        if size != out.nbytes:
            raise ZnnError(f"its frame holds {size} bytes, its shape needs {out.nbytes}")
        if size:
            _core.decompress_into(
                frame, out.reshape(-1).view(torch.uint8).numpy(), threads if size >= _WORTH_THREADS else 1, True
            )
    except ZnnError as error:
        raise ZnnError(f"tensor {name!r}: {error}") from error
    return out


def _dtype_named(spelled: str, name: str) -> torch.dtype:
    if spelled not in _DTYPES:
        raise ZnnError(f"tensor {name!r}: PyTorch has no {spelled}")
    dtype: torch.dtype = getattr(torch, _DTYPES[spelled])
    return dtype


def restore(
    stored: torch.Tensor, name: str, entry: Entry | None, dtype: torch.dtype | None, threads: int = 0
) -> torch.Tensor:
    """What Transformers would have read from the model before compression.

    entry: its dtype, shape and bytes then; None if it was stored as it is.
    dtype: the parameter's torch dtype; None to keep the tensor's.
    """
    tensor = stored
    if entry is not None:
        spelled, shape, _ = entry
        tensor = decompressed(stored, name, _dtype_named(spelled, name), shape, threads)
    return tensor if dtype is None else tensor.to(dtype)


def read(
    weights: _core.Safetensors,
    index: int,
    name: str,
    entry: Entry,
    dtype: torch.dtype | None,
    scratch: Callable[[int], torch.Tensor],
) -> Any:
    """restore() of a compressed tensor of an opened file, which is read as far as it is decoded.

    scratch: a function that gives a tensor of so many bytes, for what is cast afterwards.
    """
    spelled, shape, size = entry
    own = _dtype_named(spelled, name)
    weights.check(index)  # before memory is taken for what the header claims
    cast = dtype is not None and dtype != own
    tensor = scratch(size).view(own).reshape(shape) if cast else empty_tensor(own, shape)
    weights.read_into(index, as_writable(tensor), 0)
    return empty_tensor(dtype, shape).copy_(tensor) if cast else tensor
