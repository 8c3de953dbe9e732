"""The error of this package, and how the library's errors become it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .._core import ZnnError

try:
    from safetensors import SafetensorError as _Theirs
except ImportError:
    _Theirs = Exception  # type: ignore[misc, assignment, unused-ignore]


class SafetensorError(ZnnError, _Theirs):  # type: ignore[misc, valid-type, unused-ignore]
    """No safetensors file, a damaged one, or a tensor that it does not hold. Also the safetensors package's own
    error, where that is installed."""


class SliceError(SafetensorError, IndexError):
    """An index that does not fit the tensor: for numpy the safetensors package raises its own error, for torch
    IndexError; this is both."""


@contextlib.contextmanager
def naming(filename: object) -> Iterator[None]:
    """Errors within are SafetensorErrors that begin with the file's name (None for what has none)."""
    try:
        yield
    except ZnnError as error:
        raise SafetensorError(f"{filename}: {error}" if filename is not None else str(error)) from None
