"""Importing this module registers znn with fsspec as a compression:

    import znn.fsspec
    fsspec.open("s3://bucket/weights.znn", compression="znn")    # or "infer", by the suffix

fsspec has no entry points for compressions, so that the import is needed.
"""

from __future__ import annotations

from typing import IO, Any

from fsspec.compression import register_compression

from ._files import ZnnFile


def _open(file: IO[bytes], mode: str = "rb", **options: Any) -> ZnnFile:
    return ZnnFile(file, mode, **options)


register_compression("znn", _open, "znn", force=True)
