"""Compressed .safetensors files, read and written as the safetensors package does plain ones.

    from znn.safetensors import safe_open, compress_file, decompress_file
    from znn.safetensors.torch import load_file, save_file   # or znn.safetensors.numpy

A compressed file is a valid .safetensors file whose tensors are znn frames (docs/FORMAT.md, "Compressed
safetensors"). Everything here reads plain and compressed files alike, and decodes a tensor, or a slice of one, without
the rest. The safetensors package need not be installed.
"""

from ._errors import SafetensorError
from ._files import compress_file, decompress_file, is_compressed
from ._open import load, load_file, safe_open
from ._save import save, save_file

__all__ = [
    "SafetensorError",
    "compress_file",
    "decompress_file",
    "is_compressed",
    "load",
    "load_file",
    "safe_open",
    "save",
    "save_file",
]
