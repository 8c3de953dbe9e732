"""The error of this package, and how the library's errors become it."""

import contextlib

from .._core import ZnnError

try:
    from safetensors import SafetensorError as _Theirs
except ImportError:
    _Theirs = Exception


class SafetensorError(ZnnError, _Theirs):
    """No safetensors file, a damaged one, or a tensor that it does not hold. Also the safetensors package's own
    error, where that is installed."""


@contextlib.contextmanager
def naming(filename):
    """Errors within are SafetensorErrors that begin with the file's name (None for what has none)."""
    try:
        yield
    except ZnnError as error:
        raise SafetensorError(f"{filename}: {error}" if filename is not None else str(error)) from None
