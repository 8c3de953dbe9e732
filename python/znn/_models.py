"""Folders that hold a Transformers model: which files are its weights, and what compressing them changes.

A compressed folder differs from the original in
- the weights, model*.safetensors: compressed tensors in files of the same names;
- config.json: quantization_config, which makes Transformers call znn;
- model.safetensors.index.json: the sizes;
- znn.json, which is added: the digests of all these files, and the text of those that are not weights. From it the
  folder is restored byte for byte.

Neither Transformers nor PyTorch is imported here.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from . import _core, _memory
from ._temporary import temporary_folder
from .safetensors import SafetensorError, compress_file, decompress_file
from .safetensors._errors import naming

METHOD = "znn"
MANIFEST = "znn.json"
CONFIG = "config.json"

Entry: TypeAlias = tuple[str, tuple[int, ...], int]  # a tensor's dtype, shape and bytes before compression

# Transformers takes a model's weights from the file that config.json names as transformers_weights, and raises
# ValueError with the name if no file of weights could be called so. Transformers 5 lets a quantizer drop it first.
HINT = (
    "compressed by znn; to load it: pip install 'znn[hf]' 'transformers>=5', and import znn.transformers before "
    "from_pretrained"
)

_ABOUT = (
    "The weights are compressed by znn. To load them: pip install 'znn[hf]', then import znn.transformers before "
    "from_pretrained. To restore the original files: znn.transformers.decompress_model."
)

_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

_SINGLE = re.compile(r"model(\.[\w-]+)?\.safetensors")
_INDEX = re.compile(r"model\.safetensors\.index(\.[\w-]+)?\.json")
_BLOCK = 1 << 20


class NotCompressible(ValueError):
    """The folder is no model that Transformers could load compressed; the message says why."""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotCompressible(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise NotCompressible(f"{path}: not a JSON object")
    return value


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_compressed(folder: str | os.PathLike[str]) -> bool:
    return (Path(folder) / MANIFEST).is_file()


def weight_files(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """(weights, indexes): names in the folder that Transformers would read a model's weights from, sorted.

    Raises NotCompressible if there are none, a shard is missing, or the configuration leaves no room for znn's.
    """
    folder = Path(folder)
    if is_compressed(folder):
        raise NotCompressible(f"{folder}: already compressed by znn")
    if not (folder / CONFIG).is_file():
        raise NotCompressible(f"{folder}: no {CONFIG}, so no model that Transformers would load")
    config = _read_json(folder / CONFIG)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if part.get("quantization_config") is not None:
            method = part["quantization_config"]
            method = method.get("quant_method", "unknown") if isinstance(method, dict) else "unknown"
            raise NotCompressible(f"{folder}: quantized ({method}); Transformers takes one quantizer for a model")

    names = {entry.name for entry in folder.iterdir() if entry.is_file()}
    indexes = sorted(name for name in names if _INDEX.fullmatch(name))
    weights = {name for name in names if _SINGLE.fullmatch(name)}
    for index in indexes:
        weight_map = _read_json(folder / index).get("weight_map")
        shards = set(weight_map.values()) if isinstance(weight_map, dict) else None
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise NotCompressible(f"{folder / index}: no weight_map")
        for shard in sorted(shards):
            if shard not in names or not shard.endswith(".safetensors"):
                raise NotCompressible(f"{folder}: {index} names {shard!r}, which is not there")
        weights |= shards
    if not weights:
        raise NotCompressible(f"{folder}: no model.safetensors (other kinds of weights are not loaded compressed)")
    return sorted(weights), indexes


def _record(path: Path, with_text: bool) -> dict[str, Any]:
    data = path.read_bytes() if with_text else None
    record: dict[str, Any] = {
        "size": path.stat().st_size,
        "sha256": file_digest(path) if data is None else hashlib.sha256(data).hexdigest(),
    }
    if data is not None:
        try:
            record["text"] = data.decode()
        except UnicodeDecodeError:
            record["base64"] = base64.b64encode(data).decode()
    return record


def _text_of(record: dict[str, Any]) -> bytes:
    text = record.get("text")
    try:
        return text.encode() if isinstance(text, str) else base64.b64decode(record["base64"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise NotCompressible(f"{MANIFEST}: a file's text is damaged") from error


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """{name: record} of the files as they were. Raises NotCompressible if the folder is not one that znn compressed."""
    folder = Path(folder)
    if not is_compressed(folder):
        raise NotCompressible(f"{folder}: not compressed by znn (no {MANIFEST})")
    manifest = _read_json(folder / MANIFEST)
    files = manifest.get("files")
    if manifest.get("version") != 1:
        raise NotCompressible(f"{folder / MANIFEST}: version {manifest.get('version')!r}, this znn knows version 1")
    if not isinstance(files, dict) or not files:
        raise NotCompressible(f"{folder / MANIFEST}: names no files")
    for name, record in files.items():
        # Names come from the file, and files of these names are written.
        if not name or name in (".", "..", MANIFEST) or re.search(r"[/\\\0:]", name):
            raise NotCompressible(f"{folder / MANIFEST}: {name!r} is not the name of a file in the folder")
        if not isinstance(record, dict) or not re.fullmatch(r"[0-9a-f]{64}", str(record.get("sha256"))):
            raise NotCompressible(f"{folder / MANIFEST}: no SHA-256 of {name}")
    return files


def opened(path: str | os.PathLike[str], threads: int = 1, *, may_map: bool = False) -> _core.Safetensors:
    """The file as the library has it; its tensors are (name, dtype, shape, size, stored offset, stored size, place).

    may_map: it may be read through a map, where that is quicker."""
    with open(path, "rb") as file, naming(path):
        memory = _memory.mapped_if_quicker(file.fileno()) if may_map else None
        return _core.Safetensors(file.fileno() if memory is None else [memory], 3, threads, True)


def compressed_tensors(weights: _core.Safetensors) -> dict[str, tuple[int, Entry]]:
    """{name: (index, (dtype, shape, bytes) before compression)} of an opened file's compressed tensors. A plain file
    has none."""
    return {
        name: (index, (dtype, shape, size))
        for index, (name, dtype, shape, size, _, stored, _) in enumerate(weights.tensors())
        if stored < size
    }


def _stored_size(path: Path) -> int:
    return sum(tensor[5] for tensor in opened(path).tensors())


def _restored_digest(path: Path, threads: int) -> str:
    """SHA-256 of the file that a compressed one decompresses to, without writing it."""
    weights = opened(path, threads)
    digest = hashlib.sha256(len(weights.header()).to_bytes(8, "little"))
    digest.update(weights.header())
    room = memoryview(bytearray(16 * _BLOCK))
    with naming(path):
        for index, (_, _, _, size, _, _, _) in enumerate(weights.tensors()):
            for offset in range(0, size, len(room)):
                piece = room[: min(len(room), size - offset)]
                weights.read_into(index, piece, offset)
                digest.update(piece)
    return digest.hexdigest()


def _dtype_found(path: Path) -> str | None:
    """The dtype that Transformers finds in a plain file where config.json has none: that of the first float by name."""
    for _, dtype, *_ in sorted(opened(path).tensors()):
        if dtype in _FLOATS:
            return _FLOATS[dtype]
    return None


def _has_transformers4() -> bool:
    try:
        return importlib.metadata.version("transformers").startswith("4.")
    except importlib.metadata.PackageNotFoundError:
        return False


def compress_into(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    level: int = 3,
    threads: int = 0,
    hint: bool | None = None,
    advance: Callable[[int], object] | None = None,
    done: dict[Path, Path] | None = None,
    blobs: dict[str, str] | None = None,
) -> list[str]:
    """Write into `out` those files of a compressed `folder` that differ from its own; return their names.

    Each compressed file is decompressed again and compared by digest before it counts.
    advance: called with the bytes of weights done. done: {real path of a weight file: its compressed file}, for folders
        that share files. blobs: {file: name of its blob}, to be kept in znn.json.
    """
    folder, out = Path(folder), Path(out)
    weights, indexes = weight_files(folder)
    records = {name: _record(folder / name, True) for name in (CONFIG, *indexes)}
    for name in weights:
        source = Path(os.path.realpath(folder / name))
        if done is not None and source in done:
            os.link(done[source], out / name)
            records[name] = _record(source, False)
        else:
            compress_file(source, out / name, level=level, threads=threads)
            records[name] = _record(source, False)
            if _restored_digest(out / name, threads) != records[name]["sha256"]:
                raise RuntimeError(
                    f"{folder / name}: does not come back as it was; nothing was changed. Please report this"
                )
            if done is not None:
                done[source] = out / name
        if advance:
            advance(records[name]["size"])

    config = json.loads(_text_of(records[CONFIG]))
    config["quantization_config"] = {"quant_method": METHOD, "version": 1, "about": _ABOUT}
    found = _dtype_found(folder / weights[0])
    if found and config.get("dtype") is None and config.get("torch_dtype") is None:
        config["dtype"] = found  # since what is stored is bytes, the loader could not find it any longer
    if not _has_transformers4() if hint is None else hint:
        config["transformers_weights"] = HINT
    (out / CONFIG).write_bytes(_json_bytes(config))
    for name in indexes:
        index = json.loads(_text_of(records[name]))
        metadata = index.get("metadata")
        index["metadata"] = dict(metadata) if isinstance(metadata, dict) else {}
        index["metadata"]["total_size"] = sum(_stored_size(out / shard) for shard in set(index["weight_map"].values()))
        (out / name).write_bytes(_json_bytes(index))
    for name, blob in (blobs or {}).items():
        records[name]["blob"] = blob
    (out / MANIFEST).write_bytes(_json_bytes({"version": 1, "about": _ABOUT, "files": records}))
    return [*records, MANIFEST]


def restore_into(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    threads: int = 0,
    advance: Callable[[int], object] | None = None,
    done: dict[Path, Path] | None = None,
) -> list[str]:
    """Write into `out` the files that compress_into changed, as they were; return their names.

    Raises ZnnError if a file is damaged, or is not byte for byte what it was.
    """
    folder, out = Path(folder), Path(out)
    records = read_manifest(folder)
    for name, record in records.items():
        if "text" in record or "base64" in record:
            (out / name).write_bytes(_text_of(record))
        else:
            source = Path(os.path.realpath(folder / name))
            if done is not None and source in done:
                os.link(done[source], out / name)
            else:
                decompress_file(source, out / name, threads=threads)
                if done is not None:
                    done[source] = out / name
        if file_digest(out / name) != record["sha256"]:
            raise SafetensorError(f"{folder / name}: does not decompress to the file that was compressed")
        if advance and "size" in record:
            advance((folder / name).stat().st_size)
    return list(records)


def verify_model(
    folder: str | os.PathLike[str], *, threads: int = 0, advance: Callable[[int], object] | None = None
) -> None:
    """Decompress every weight of a compressed folder, without writing it, and compare it with its digest.

    Raises ZnnError that names the file (and the tensor, where it is one) if anything is not as it was compressed.
    """
    folder = Path(folder)
    for name, record in read_manifest(folder).items():
        if "text" in record or "base64" in record:
            digest = hashlib.sha256(_text_of(record)).hexdigest()
        else:
            digest = _restored_digest(folder / name, threads)
        if digest != record["sha256"]:
            raise SafetensorError(f"{folder / name}: does not decompress to the file that was compressed")
        if advance and "size" in record:
            advance((folder / name).stat().st_size)


def find_model(
    source: str | os.PathLike[str], revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """A model's folder: the path itself, or the snapshot of a repository in the Hub's cache. Nothing is downloaded."""
    if os.path.isdir(source):
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(source), revision=revision, cache_dir=cache_dir, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(f"{source}: neither a folder nor a repository in the cache") from error


def _ignore_downloads(folder: str | os.PathLike[str], names: Iterable[str]) -> set[str]:
    # Downloads into a folder keep their state there; the copy is no download.
    return {".cache"} & set(names) if (Path(folder) / ".cache" / "huggingface").is_dir() else set()


def _write_folder(
    source: Path, target: str | os.PathLike[str], without: set[str], write: Callable[[Path], object]
) -> None:
    """Make `target` of `source`'s files but those named, and of what write(folder) puts there; all of it or nothing."""
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target}: is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target) as work:
        made = work / "folder"

        def ignore(folder: str, names: list[str]) -> set[str]:
            return (without if Path(folder) == source else set()) | _ignore_downloads(folder, names)

        shutil.copytree(source, made, ignore=ignore)
        write(made)
        os.replace(made, target)


def compress_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    level: int = 3,
    threads: int = 0,
    hint: bool | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    advance: Callable[[int], object] | None = None,
) -> None:
    """Make the folder `target`, a compressed copy of a model, for from_pretrained with znn.transformers imported.

    source: a model's folder, or the name of a repository in the Hub's cache (at a revision). It is only read.
    target: a folder that does not exist, or is empty. It appears when it is whole.
    level: 1 (fastest) to 9 (smallest). threads: 0 for one a core. advance: called with bytes done, for a progress bar.
    hint: let config.json say what to install, which Transformers 5 shows where znn is not imported. Transformers 4
        cannot load the folder then, not even with znn. The default: unless Transformers 4 is what is installed.

    Raises NotCompressible if the folder is no model that could be loaded so: no safetensors, quantized already.
    """
    source = find_model(source, revision, cache_dir)
    weights, indexes = weight_files(source)
    _write_folder(
        source,
        target,
        {*weights, *indexes, CONFIG},
        lambda folder: compress_into(source, folder, level=level, threads=threads, hint=hint, advance=advance),
    )


def decompress_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    threads: int = 0,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    advance: Callable[[int], object] | None = None,
) -> None:
    """Make the folder `target` as it was before compress_model, byte for byte; the arguments are as there.

    Raises ZnnError if a file is damaged, NotCompressible if the source is not compressed.
    """
    source = find_model(source, revision, cache_dir)
    _write_folder(
        source,
        target,
        {*read_manifest(source), MANIFEST},
        lambda folder: restore_into(source, folder, threads=threads, advance=advance),
    )
