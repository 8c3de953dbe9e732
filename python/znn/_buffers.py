"""What callers hand over as data, as plain buffers; and what its numbers are.

Neither numpy nor torch is imported here: their arrays bring the methods needed.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from . import _core

if TYPE_CHECKING:
    from typing_extensions import Buffer

    class Array(Protocol):
        """A numpy array, a torch tensor, or what is like them."""

        @property
        def dtype(self) -> Any: ...
        @property
        def shape(self) -> Any: ...

    Data: TypeAlias = Buffer | Array
    DType: TypeAlias = Any  # a name, numpy's or torch's dtype, or None

_AUTO = 0

# Names that the library does not know, by a type whose numbers are laid out alike.
_ALIKE = {
    "complex64": "f32",
    "complex128": "f64",
    "float8_e4m3fnuz": "f8_e4m3",
    "float8_e4m3b11fnuz": "f8_e4m3",
    "float8_e5m2fnuz": "f8_e5m2",
}


def _name_of(dtype: DType) -> str:
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, type):  # numpy.float32
        return dtype.__name__
    return getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")


def dtype_code(dtype: DType) -> int:
    """The library's number for a name, a numpy or a torch dtype; None is AUTO. ValueError if unknown."""
    if dtype is None:
        return _AUTO
    name = _name_of(dtype)
    code = _core.dtype_from_name(_ALIKE.get(name, name))
    if code < 0:
        raise ValueError(f"unknown dtype {name!r}")
    return code


def _inferred(dtype: DType) -> int:
    # Arrays of bytes are often other numbers' bytes; big-endian numbers are none that the library knows.
    name = _name_of(dtype)
    if name in ("uint8", "int8") or getattr(dtype, "byteorder", "=") == (">" if sys.byteorder == "little" else "="):
        return _AUTO
    return max(_core.dtype_from_name(_ALIKE.get(name, name)), _AUTO)


def is_tensor(data: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(data, torch.Tensor)


def _tensor_bytes(tensor: Any) -> Any:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise TypeError(f"the tensor is on {tensor.device}; call .cpu() first")
    if tensor.layout != torch.strided or not tensor.is_contiguous():
        raise ValueError("the tensor is not contiguous; call .contiguous() first")
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError("the tensor is a lazy view; call .resolve_conj().resolve_neg() first")
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    try:
        return flat.numpy()
    except RuntimeError:  # numpy is not installed
        kind = ctypes.c_ubyte * flat.numel()
        array = kind.from_address(flat.data_ptr()) if flat.numel() else kind()
        array.owner = flat  # kept alive by it
        return array


def _from_dlpack(data: Any) -> Any:
    """The same memory, as a tensor where torch is at hand, which knows more dtypes, or else as an array."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.from_dlpack(data)
    import numpy

    return numpy.from_dlpack(data)


def _has_memory(data: Any) -> bool:
    """Whether it is of the kinds that as_buffer() takes the memory of, rather than a copy."""
    if is_tensor(data) or hasattr(data, "flags"):
        return True
    try:
        memoryview(data)
    except TypeError:
        return False
    return True


def as_buffer(data: Any) -> tuple[Any, int]:
    """(buffer, dtype code): the same memory, as something with the buffer protocol.

    Raises TypeError for what is no buffer, and for tensors that are not in main memory; ValueError for arrays that
    are not contiguous (the bytes in order of the elements, last dimension fastest).
    """
    if isinstance(data, (bytes, bytearray)):
        return data, _AUTO
    if is_tensor(data):
        return _tensor_bytes(data), _inferred(data.dtype)
    dtype = getattr(data, "dtype", None)
    if not _has_memory(data):
        if dtype is not None and hasattr(data, "__array__"):  # jax and others
            data = data.__array__()
        elif hasattr(data, "__dlpack__"):
            return as_buffer(_from_dlpack(data))
        dtype = getattr(data, "dtype", None)
    if dtype is not None and hasattr(data, "flags"):  # numpy, whose newer dtypes have no buffer protocol
        if not data.flags.c_contiguous:
            raise ValueError("the array is not contiguous; use numpy.ascontiguousarray first")
        if getattr(dtype, "hasobject", False):
            raise TypeError("arrays of Python objects have no bytes to compress")
        return data.reshape(-1).view("u1"), _inferred(dtype)
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError("the buffer is not contiguous")
    return view, _AUTO


def as_writable(out: Data) -> Buffer:
    """The same memory, as a writable buffer. TypeError if it cannot be written to."""
    if not _has_memory(out):
        if not hasattr(out, "__dlpack__"):
            raise TypeError(f"out is a {type(out).__name__}, whose memory cannot be written to")
        out = _from_dlpack(out)
    buffer: Buffer = as_buffer(out)[0]
    if memoryview(buffer).readonly:
        raise TypeError("out is read-only")
    return buffer


def check(level: int = 3, threads: int = 1) -> None:
    if not 1 <= level <= 9:
        raise ValueError(f"level is {level}; levels go from 1 to 9")
    if not 0 <= threads <= 256:
        raise ValueError(f"threads is {threads}; it goes from 0 (all cores) to 256")
