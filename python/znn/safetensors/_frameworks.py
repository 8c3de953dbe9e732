"""Tensors as numpy and torch have them: allocated, made over memory, and sized as safetensors counts."""

from __future__ import annotations

import math
from typing import Any

from .. import _memory
from .._buffers import as_writable
from ._dtypes import CODES, NAMES
from ._errors import SafetensorError


def _unsupported(code: str, framework: str) -> SafetensorError:
    return SafetensorError(f"{framework} has no dtype for safetensors' {code}")


class Numpy:
    name = "numpy"

    def __init__(self, device: Any) -> None:
        import numpy

        if device is not None and str(device) != "cpu":
            raise SafetensorError(f"Device {device} is not supported for framework numpy")
        self._numpy = numpy

    def _dtype(self, code: str) -> Any:
        name = NAMES.get(code)
        if name is None or name.startswith("float4"):
            raise _unsupported(code, "numpy")
        if name == "bfloat16" or name.startswith("float8"):
            try:
                import ml_dtypes
            except ImportError:
                raise TypeError(f"numpy has no {name}; install ml_dtypes, or read it with framework='pt'") from None
            return self._numpy.dtype(getattr(ml_dtypes, name))
        return self._numpy.dtype(name)

    def empty(self, code: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """A new array, and its bytes to be filled."""
        dtype = self._dtype(code)
        size = math.prod(shape) * dtype.itemsize
        memory = _memory.large(size) if size >= _memory.LARGE else None
        array = self._numpy.empty(shape, dtype) if memory is None else self.over(*memory, code, shape)
        return array, as_writable(array)

    def over(self, buffer: Any, offset: int, code: str, shape: tuple[int, ...]) -> Any:
        """An array over memory that is there."""
        return self._numpy.frombuffer(buffer, self._dtype(code), math.prod(shape), offset).reshape(shape)

    def stand_in(self, code: str, shape: tuple[int, ...]) -> Any:
        """An array of that shape which takes no memory, and holds nothing."""
        return self._numpy.broadcast_to(self._numpy.empty((), self._dtype(code)), shape)

    def part(self, array: Any, index: Any) -> Any:
        """array[index], an array in memory of its own order, so that it does not keep more than itself alive."""
        result = self._numpy.asarray(array[index])
        return result if result.flags.c_contiguous else self._numpy.ascontiguousarray(result)

    def finish(self, array: Any) -> Any:
        return array


def empty_tensor(dtype: Any, shape: tuple[int, ...]) -> Any:
    """A new torch tensor, to be filled."""
    import torch

    count = math.prod(shape)
    size = count * dtype.itemsize
    memory = _memory.large(size) if size >= _memory.LARGE else None
    if memory is None:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory[0], dtype=dtype, count=count, offset=memory[1]).reshape(shape)


class Torch:
    name = "torch"

    def __init__(self, device: Any) -> None:
        import torch

        self._torch = torch
        is_number = isinstance(device, int) and device >= 0  # of an accelerator, which there may not be
        try:
            self._device = torch.device("cpu" if device is None else device)
        except (RuntimeError, TypeError):
            if is_number:
                raise
            raise SafetensorError(f"device {device} is invalid") from None

    def _layout(self, code: str, shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
        dtype = getattr(self._torch, NAMES.get(code, ""), None)
        if dtype is None:
            raise _unsupported(code, "torch")
        if code == "F4":  # two in a byte, which torch counts as one
            shape = (*shape[:-1], shape[-1] // 2)
        return dtype, shape

    def empty(self, code: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        tensor = empty_tensor(*self._layout(code, shape))
        return tensor, as_writable(tensor)

    def over(self, buffer: Any, offset: int, code: str, shape: tuple[int, ...]) -> Any:
        dtype, shape = self._layout(code, shape)
        count = math.prod(shape)
        if count == 0:
            return self._torch.empty(shape, dtype=dtype)
        return self._torch.frombuffer(buffer, dtype=dtype, count=count, offset=offset).reshape(shape)

    def stand_in(self, code: str, shape: tuple[int, ...]) -> Any:
        return self._torch.empty((), dtype=self._layout(code, shape)[0]).expand(shape)

    def part(self, tensor: Any, index: Any) -> Any:
        return tensor[index].contiguous()

    def finish(self, tensor: Any) -> Any:
        return tensor if self._device.type == "cpu" else tensor.to(self._device)


_NAMES: dict[str, type[Numpy] | type[Torch]] = {
    "pt": Torch,
    "torch": Torch,
    "pytorch": Torch,
    "np": Numpy,
    "numpy": Numpy,
}


def framework_named(name: str, device: Any) -> Numpy | Torch:
    if not isinstance(name, str):
        raise TypeError(f"framework is a {type(name).__name__}, not a str")
    kind = _NAMES.get(name)
    if kind is None:
        raise SafetensorError(f"framework {name} is not supported: znn reads into pt and numpy")
    return kind(device)


def code_of(dtype: Any) -> str | None:
    """safetensors' name for a numpy or torch dtype; None if it has none."""
    return CODES.get(getattr(dtype, "name", None) or str(dtype).removeprefix("torch."))
