"""Reading: safe_open, load_file, load."""

from __future__ import annotations

import json
import math
import mmap
import numbers
import os
from typing import TYPE_CHECKING, Any

from .. import _core
from .._buffers import as_buffer, check
from ._errors import SafetensorError, SliceError, naming
from ._frameworks import framework_named

if TYPE_CHECKING:
    from .._buffers import Data

_BACKENDS = ("mmap", "pread")
_LARGE = 1 << 20  # bytes
# A slice that leaves out columns is made of blocks of rows of so many bytes; where it leaves out more than _GAP in a
# row, which is larger than a chunk, of each row by itself. So are rows by a list, with no more than _GAP between them.
_BLOCK = 8 << 20
_GAP = 512 << 10
_READ = 4 << 20  # bytes of a whole tensor that are read in the time that a read of rows takes by itself


class _Tensor:
    """Where a tensor is, and what."""

    __slots__ = ("index", "name", "dtype", "shape", "size", "stored_offset", "stored_size")

    def __init__(self, index: int, description: tuple[str, str, tuple[int, ...], int, int, int, int]) -> None:
        self.index = index
        self.name, self.dtype, self.shape, self.size, self.stored_offset, self.stored_size, _ = description

    @property
    def is_compressed(self) -> bool:
        return self.stored_size < self.size


class _Source:
    """An open file. Slices keep it alive after the safe_open that made them is closed."""

    def __init__(self, filename: object, memory: mmap.mmap | None, core: _core.Safetensors, framework: Any) -> None:
        self.filename = filename
        self.memory = memory  # None: not in memory
        self.core = core
        self.framework = framework
        self.tensors: dict[str, _Tensor] = {}
        for index, description in enumerate(core.tensors()):
            tensor = _Tensor(index, description)
            self.tensors[tensor.name] = tensor

    def is_mapped(self, tensor: _Tensor) -> bool:
        return self.memory is not None and not tensor.is_compressed

    def read(self, tensor: _Tensor, shape: tuple[int, ...], begin: int) -> Any:
        """The elements of that shape from byte `begin` of the tensor on."""
        if self.is_mapped(tensor):
            return self.framework.over(self.memory, tensor.stored_offset + begin, tensor.dtype, shape)
        with naming(self.filename):
            if tensor.size >= _LARGE:
                self.core.check(tensor.index)  # before memory is taken for what the header claims
            result, buffer = self.framework.empty(tensor.dtype, shape)
            self.core.read_into(tensor.index, buffer, begin)
        return result

    def read_blocks(self, tensor: _Tensor, shape: tuple[int, ...], begin: int, items: tuple[Any, ...]) -> Any:
        """read(...)[items], of which the first is a slice, in memory for the result and for a block."""
        # The framework itself says what the index makes of an array, which takes no memory here; or raises its error.
        wanted = tuple(self.framework.stand_in(tensor.dtype, shape)[items].shape)
        with naming(self.filename):
            self.core.check(tensor.index)  # before memory is taken for what the header claims
            result, _ = self.framework.empty(tensor.dtype, wanted)
            if math.prod(wanted):
                _Blocks(self, tensor).fill(result, begin, shape, items)
        return result

    def read_rows(self, tensor: _Tensor, rows: list[int]) -> Any | None:
        """The rows, ascending, in memory for them and for a block; None if to read all would be less work."""
        row = tensor.size // tensor.shape[0]
        groups = _groups(rows, row)
        if sum((last + 1 - first) * row + _READ for first, last, _ in groups) > tensor.size:
            return None
        with naming(self.filename):
            self.core.check(tensor.index)  # before memory is taken for what the header claims
            result, buffer = self.framework.empty(tensor.dtype, (len(rows), *tensor.shape[1:]))
            _Blocks(self, tensor).fill_rows(result, memoryview(buffer), rows, groups)
        return result


class _Blocks:
    """Takes parts out of a tensor, block by block."""

    def __init__(self, source: _Source, tensor: _Tensor) -> None:
        self._source, self._tensor = source, tensor
        self._width = tensor.size // math.prod(tensor.shape)
        self._room: tuple[Any, memoryview] | None = None  # elements in a row, and their bytes

    def _read(self, shape: tuple[int, ...], begin: int) -> Any:
        count = math.prod(shape)
        if self._room is None or len(self._room[1]) < count * self._width:
            array, buffer = self._source.framework.empty(self._tensor.dtype, (max(count, _BLOCK // self._width),))
            self._room = array, memoryview(buffer)
        array, room = self._room
        self._source.core.read_into(self._tensor.index, room[: count * self._width], begin)
        return array[:count].reshape(shape)

    def fill(self, out: Any, begin: int, shape: tuple[int, ...], items: tuple[Any, ...]) -> None:
        """Let `out` be the elements of that shape from byte `begin` on, indexed by items."""
        skipped, shape, items = _narrow(shape, items)
        begin += skipped * self._width
        if math.prod(shape) * self._width <= _BLOCK or not _begins_with_rows(items):
            out[...] = self._source.framework.part(self._read(shape, begin), items)
            return
        step = items[0].step
        rows = range(0, shape[0], step)
        row = math.prod(shape[1:]) * self._width
        needed = math.prod(_narrow(shape[1:], items[1:])[1]) * self._width
        if row > _BLOCK or row - needed > _GAP or row * (step - 1) > _GAP:
            for i, at in enumerate(rows):
                self.fill(out[i, ...], begin + at * row, shape[1:], items[1:])
            return
        count = _BLOCK // (row * step) or 1
        for i in range(0, len(rows), count):
            some = rows[i : i + count]
            block = self._read((some[-1] + 1 - some[0], *shape[1:]), begin + some[0] * row)
            out[i : i + count] = block[(slice(None, None, step), *items[1:])]

    def fill_rows(self, out: Any, memory: memoryview, rows: list[int], groups: list[tuple[int, int, int]]) -> None:
        """Let `out`, which lies in `memory`, be rows that _groups() has put together."""
        row_shape = self._tensor.shape[1:]
        row, at = math.prod(row_shape) * self._width, 0
        for first, last, count in groups:
            if count == last + 1 - first:  # neighbours
                self._source.core.read_into(self._tensor.index, memory[at * row : (at + count) * row], first * row)
            else:
                block = self._read((last + 1 - first, *row_shape), first * row)
                out[at : at + count] = block[[i - first for i in rows[at : at + count]]]
            at += count


def _groups(rows: list[int], row: int) -> list[tuple[int, int, int]]:
    """(first, last, number of rows) of runs of rows (ascending, of so many bytes) that are best read in one go."""
    groups: list[tuple[int, int, int]] = []
    for i in rows:
        if groups:
            first, last, count = groups[-1]
            is_neighbour = i == last + 1 and count == i - first
            if is_neighbour or ((i - last - 1) * row <= _GAP and (i + 1 - first) * row <= _BLOCK):
                groups[-1] = first, i, count + 1
                continue
        groups.append((i, i, 1))
    return groups


def _listed_rows(index: Any, count: int) -> list[int] | None:
    """The rows that an index names one by one, in a list or an array that comes first; None for any other."""
    item = index[0] if isinstance(index, tuple) and index else index
    if hasattr(item, "tolist") and getattr(item, "ndim", 0) == 1:
        item = item.tolist()
    if not isinstance(item, list) or not all(map(_is_integer, item)):
        return None
    rows = [int(i) for i in item]
    return [i % count for i in rows] if all(-count <= i < count for i in rows) else None


def _is_simple(item: object) -> bool:
    return item is None or item is Ellipsis or isinstance(item, slice) or _is_integer(item)


def _is_integer(item: Any) -> bool:
    # numpy's integers are indices as any; its arrays, and torch's tensors, are not.
    return isinstance(item, numbers.Integral) and not isinstance(item, bool)


def _narrow(shape: tuple[int, ...], index: Any) -> tuple[int, tuple[int, ...], Any]:
    """(rows skipped in elements, shape, index): the smallest run of elements an index needs, and what is left of it.

    Leading integers and one slice after them are followed; what comes then is the framework's to do, and so is every
    error.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    only_simple = all(map(_is_simple, items))
    if only_simple and items.count(Ellipsis) == 1 and len(shape) > 1:
        at, named = items.index(Ellipsis), sum(item is not None for item in items) - 1
        if len(shape) > named:
            items[at : at + 1] = [slice(None)] * (len(shape) - named)
    left, skipped = list(shape), 0
    while items and left:
        item, rows, rest = items[0], left[0], math.prod(left[1:])
        if _is_integer(item) and -rows <= int(item) < rows:
            skipped += int(item) % rows * rest
            if not only_simple:  # numpy counts an integer beside an array of indices as one of those
                left[0] = 1
                items[0] = 0
                break
            del left[0], items[0]
            continue
        if isinstance(item, slice) and (item.step is None or item.step > 0):
            start, stop, step = item.indices(rows)
            stop = max(start, stop)
            skipped += start * rest
            left[0] = stop - start
            items[0] = slice(0, stop - start, step)
        break
    return skipped, tuple(left), tuple(items)


def _begins_with_rows(items: tuple[Any, ...]) -> bool:
    """Whether an index begins with a slice that goes upwards, as _narrow() leaves it."""
    return bool(items) and isinstance(items[0], slice) and items[0].step is not None and items[0].step > 0


def _leaves_out(shape: tuple[int, ...], items: tuple[Any, ...]) -> bool:
    """Whether an index that begins with a slice of rows needs a part of them only, in their order."""
    if not _begins_with_rows(items) or not all(map(_is_simple, items)):
        return False
    return items[0].step > 1 or any(item not in (slice(None), None) for item in items[1:])


class _Slice:
    """A tensor that is read as far as it is indexed."""

    def __init__(self, source: _Source, tensor: _Tensor) -> None:
        self._source = source
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        """The tensor's shape, a list of counts of elements."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """safetensors' name of its dtype: "BF16"."""
        return self._tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        """The part that the framework's own indexing gives, in numpy always an array. Integers, slices and a list of
        rows are decoded as far as they reach: what the first dimensions leave out is not decoded, nor what the others
        leave out if it is more than a chunk in a row; and no more memory is taken than for the result and some MB.

        An index that does not fit is an IndexError that is a SafetensorError too."""
        try:
            return self._source.framework.finish(self._part(index))
        except IndexError as error:
            raise SliceError(str(error)) from None

    def _part(self, index: Any) -> Any:
        tensor, source = self._tensor, self._source
        if tensor.dtype == "F4":  # counted in bytes by torch, in halves of them by the file
            return source.framework.part(source.read(tensor, tensor.shape, 0), index)
        if not source.is_mapped(tensor) and tensor.size > _GAP:
            rows = _listed_rows(index, tensor.shape[0])
            needed = sorted(set(rows)) if rows is not None else []
            found = source.read_rows(tensor, needed) if rows is not None else None
            if rows is not None and found is not None:
                place = {row: i for i, row in enumerate(needed)}
                places = [place[row] for row in rows]
                return source.framework.part(found, (places, *index[1:]) if isinstance(index, tuple) else places)
        skipped, shape, rest = _narrow(tensor.shape, index)
        elements = math.prod(tensor.shape)
        begin = skipped * (tensor.size // elements) if elements else 0
        is_large = elements and math.prod(shape) * (tensor.size // elements) > _BLOCK
        if is_large and not source.is_mapped(tensor) and _leaves_out(shape, rest):
            return source.read_blocks(tensor, shape, begin, rest)
        return source.framework.part(source.read(tensor, shape, begin), rest)


class safe_open:
    """Open a plain or compressed .safetensors file, and read tensors as they are asked for.

    filename: str or os.PathLike.
    framework: "pt" or "numpy" (also "torch", "pytorch", "np"): what the tensors are to be.
    device: where they are to be, for pt; decoding is done in main memory.
    backend: "mmap" maps the file, and plain tensors are that memory (changing them changes no file); "pread" reads it.
    threads: 1 to 256 threads that decode a tensor, or 0 for one a core.

    Raises FileNotFoundError and other OSErrors, and SafetensorError for what is no safetensors file. Damage to a tensor
    is found when that is read, and named.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        framework: str,
        device: Any = "cpu",
        *,
        backend: str = "mmap",
        threads: int = 1,
    ) -> None:
        check(threads=threads)
        if backend not in _BACKENDS:
            raise SafetensorError(f'backend "{backend}" is invalid (expected one of: "mmap", "pread")')
        tensors_of = framework_named(framework, device)
        with open(os.fspath(filename), "rb") as file, naming(filename):
            size = os.fstat(file.fileno()).st_size
            memory = None
            if backend == "mmap" and size:
                # Private pages: torch wants memory that can be written to, and the file stays as it is.
                flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
                memory = mmap.mmap(file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            core = _core.Safetensors(file.fileno() if memory is None else [memory], 3, threads, True)
        self._file: _Source | None = _Source(filename, memory, core, tensors_of)

    def _open_file(self) -> _Source:
        if self._file is None:
            raise SafetensorError("File is closed")
        return self._file

    def _tensor(self, name: str) -> _Tensor:
        if not isinstance(name, str):
            raise TypeError(f"name is a {type(name).__name__}, not a str")
        tensor = self._open_file().tensors.get(name)
        if tensor is None:
            raise SafetensorError(f"File does not contain tensor {name}")
        return tensor

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, _exc_type: object, _exc_value: object, _traceback: object) -> None:
        self._file = None

    def keys(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._open_file().tensors)

    def offset_keys(self) -> list[str]:
        """The tensors' names, in the order of their data."""
        return list(self._open_file().tensors)

    def metadata(self) -> dict[str, str] | None:
        """The metadata of the plain file, a dict of str to str; None if it has none."""
        metadata: dict[str, str] | None = json.loads(self._open_file().core.header()).get("__metadata__")
        return metadata

    def get_tensor(self, name: str) -> Any:
        """The whole tensor. SafetensorError if there is none of that name, or it is damaged."""
        file, tensor = self._open_file(), self._tensor(name)
        return file.framework.finish(file.read(tensor, tensor.shape, 0))

    def get_tensors(self) -> dict[str, Any]:
        """Every tensor by its name."""
        return {name: self.get_tensor(name) for name in self.offset_keys()}

    def get_slice(self, name: str) -> _Slice:
        """A view of the tensor with get_shape(), get_dtype() and indexing, which reads what it needs."""
        return _Slice(self._open_file(), self._tensor(name))


def _default_framework() -> str:
    try:
        import torch  # noqa: F401
    except ImportError:
        return "np"
    return "pt"


def load_file(
    filename: str | os.PathLike[str],
    device: Any = "cpu",
    *,
    backend: str = "mmap",
    framework: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Every tensor of a plain or compressed file, by its name. framework: "pt" or "numpy"; None for torch, if it is
    installed. The rest is as for safe_open."""
    with safe_open(filename, framework or _default_framework(), device, backend=backend, threads=threads) as file:
        return file.get_tensors()


def load(data: Data, *, framework: str | None = None, threads: int = 1) -> dict[str, Any]:
    """Every tensor of a plain or compressed file whose bytes `data` (any contiguous buffer) holds. Tensors are copies
    of it. framework: as for load_file. Raises SafetensorError."""
    check(threads=threads)
    with naming(None):
        core = _core.Safetensors([as_buffer(data)[0]], 3, threads, True)
    source = _Source(None, None, core, framework_named(framework or _default_framework(), "cpu"))
    return {name: source.read(tensor, tensor.shape, 0) for name, tensor in source.tensors.items()}
