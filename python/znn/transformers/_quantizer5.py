"""Loading with Transformers 5: every tensor of the checkpoint goes through a converter of ours.

Transformers reads the names and stored tensors of all files, gives each to the first matching weight converter of the
model, and lets the converter make parameters of them. A compressed tensor is stored as a row of bytes, so

- a model's own converters (those that merge experts, say) are replaced by ones that do the same after decompression;
- one more, which comes last and takes every name as it is, decompresses all the others.
"""

from __future__ import annotations

import collections
import concurrent.futures
import os
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from transformers.core_model_loading import ConversionOps, SkipParameters, WeightConverter, WeightRenaming
from transformers.quantizers.base import HfQuantizer

from .. import _core, _memory, _models
from ..safetensors._errors import naming
from ._tensors import read, restore


# Older versions do not tell a quantizer the dtype that a parameter shall have, nor compare sizes where there is one.
_TELLS_MORE = hasattr(HfQuantizer, "get_new_dtype")


def _parameter(model: Any, name: str) -> Any:
    try:
        return model.get_parameter_or_buffer(name)
    except AttributeError:
        return None  # a module's extra state


class _AsItIs(ConversionOps):
    def convert(self, input_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return input_dict

    @property
    def reverse_op(self) -> _AsItIs:
        return self


# Bytes that may be decompressed before the loader asks for them. It asks in the order of the names.
_AHEAD = 256 << 20
_STEP = 8 << 20

Place: TypeAlias = tuple[Path | str, _core.Safetensors, int]  # a file, as it is opened, and the tensor's index


class _Checkpoint:
    """The compressed tensors of one from_pretrained, decompressed by a few threads a little ahead of the loader.

    Shared by all converters, which Transformers copies deeply.
    """

    def __init__(self) -> None:
        self.entries: dict[str, _models.Entry] = {}  # {stored name: (dtype, shape, bytes) before compression}
        self.places: dict[str, Place] = {}  # {stored name: (file, index)}, as read() has them
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = min(self.cores, 8)
        self.model: Any = None
        self.plan: Any = None
        self.pool: concurrent.futures.ThreadPoolExecutor | None = None
        self.waiting: collections.deque[_Job] = collections.deque()  # jobs that no thread has been asked to do
        self.ahead = 0
        self.local = threading.local()

    def __deepcopy__(self, memo: Any) -> _Checkpoint:
        return self

    def expect(self, model: Any, dtype: torch.dtype | None) -> None:
        self.model = model
        self.plan = {
            re.compile(pattern.replace("*", ".*")): fixed for pattern, fixed in model._get_dtype_plan(dtype).items()
        }

    def dtype_of(self, target: str) -> Any:
        """The dtype of a parameter to be, where it is not told."""
        for pattern, fixed in self.plan.items():
            if pattern.search(target):
                return fixed
        parameter = _parameter(self.model, target)
        return None if parameter is None else parameter.dtype

    def open(self, path: Path | str) -> None:
        weights = _models.opened(path, self.cores // self.workers, may_map=True)
        for name, (index, entry) in _models.compressed_tensors(weights).items():
            self.entries[name] = entry
            self.places[name] = path, weights, index

    def add(self, stored: Any, name: str, dtype: torch.dtype | None, in_memory: bool) -> _Job:
        job = _Job(stored, name, self.entries.get(name), dtype, None if in_memory else self.places.get(name))
        self.waiting.append(job)
        if self.ahead < _AHEAD:
            self._start()
        return job

    def _start(self) -> None:
        job = self.waiting.popleft()
        if job.future is None:
            self.pool = self.pool or concurrent.futures.ThreadPoolExecutor(self.workers, "znn")
            job.future = self.pool.submit(job.run, self)
            self.ahead += job.size

    def scratch(self, size: int) -> torch.Tensor:
        """Memory that the calling thread has until its next call."""
        room: torch.Tensor | None = getattr(self.local, "room", None)
        if room is None or room.numel() < size:
            self.local.room = None
            self.local.room = room = torch.empty(size, dtype=torch.uint8)
        return room[:size]

    def take(self, jobs: Iterable[_Job]) -> list[torch.Tensor]:
        """The tensors of the jobs."""
        while self.waiting and (self.ahead < _AHEAD or any(job.future is None for job in jobs)):
            self._start()
        tensors = []
        for job in jobs:
            tensors.append(job.future.result())
            self.ahead -= job.size
            job.future = None
        return tensors

    def read_ahead(self, paths: Iterable[Path | str]) -> None:
        """Let the system begin to read files, in the order of their bytes; tensors are asked for in another."""
        if not hasattr(os, "posix_fadvise"):
            return

        def advise() -> None:
            for path in paths:
                with open(path, "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    for begin in range(0, size, _STEP):
                        # To be told to read what it has takes the system a while, too.
                        if not _memory.is_cached(file.fileno(), begin, min(begin + _STEP, size) - 1):
                            os.posix_fadvise(file.fileno(), begin, _STEP, os.POSIX_FADV_WILLNEED)

        threading.Thread(target=advise, name="znn-read", daemon=True).start()

    def close(self) -> None:
        self.model = None
        self.places = {}
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = None


class _Job:
    """One stored tensor. stored: a future of it, or a function that reads it. place: where its file has it, to be
    decoded from there, straight into the memory that it shall have."""

    def __init__(
        self, stored: Any, name: str, entry: _models.Entry | None, dtype: torch.dtype | None, place: Place | None
    ) -> None:
        self.stored, self.name, self.entry, self.dtype, self.place = stored, name, entry, dtype, place
        self.size = entry[2] if entry else 0
        self.future: Any = None

    def run(self, checkpoint: _Checkpoint) -> torch.Tensor:
        if self.place is not None:
            path, weights, index = self.place
            with naming(path):
                return read(weights, index, self.name, cast(_models.Entry, self.entry), self.dtype, checkpoint.scratch)
        stored = self.stored() if callable(self.stored) else self.stored.result()
        self.stored = None
        return restore(stored, self.name, self.entry, self.dtype, checkpoint.cores // checkpoint.workers)


class _Decompressing(WeightConverter):
    """A model's converter that takes compressed tensors.

    PEFT makes some of these, and save_pretrained the reverse ones, with no checkpoint: they convert as any.
    """

    def __init__(
        self, source_patterns: Any, target_patterns: Any, operations: list[Any], force_cpu: bool = True
    ) -> None:
        # force_cpu: compressed bytes are of no use on the device; what they decompress to is moved there.
        super().__init__(source_patterns, target_patterns, operations, force_cpu=force_cpu)
        self.checkpoint: _Checkpoint | None = None
        # Of the next parameter, once the loader has told it:
        self.dtype: Any = ...
        self.in_memory = True  # the stored tensor; False if its file is to be read

    @classmethod
    def of(cls, original: Any, checkpoint: _Checkpoint) -> _Decompressing:
        made = cls(
            list(original._original_source_patterns), list(original._original_target_patterns), original.operations
        )
        made.scope_prefix, made.base_model_prefix = original.scope_prefix, original.base_model_prefix
        made.checkpoint = checkpoint
        return made

    def add_tensor(self, target_key: str, source_key: str, source_pattern: str, future: Any) -> None:
        if self.checkpoint is not None:
            dtype = self.checkpoint.dtype_of(target_key) if self.dtype is ... else self.dtype
            future = self.checkpoint.add(future, source_key, dtype, self.in_memory)
        super().add_tensor(target_key, source_key, source_pattern, future)

    def materialize_tensors(self) -> Any:
        if self.checkpoint is None:
            return super().materialize_tensors()
        collected = dict(self.collected_tensors)
        self.collected_tensors.clear()
        tensors = iter(self.checkpoint.take([job for jobs in collected.values() for job in jobs]))
        return {pattern: [next(tensors) for _ in jobs] for pattern, jobs in collected.items()}


class _EveryOther(_Decompressing):
    """Takes any name, last of all, and changes nothing but the bytes."""

    PATTERN = r"\Aznn(?#takes what no other converter took)\Z"

    def __init__(self, checkpoint: _Checkpoint) -> None:
        super().__init__(self.PATTERN, "znn", [_AsItIs()])
        self.checkpoint = checkpoint

    def rename_source_key(self, source_key: str) -> tuple[str, str]:
        return source_key, self.source_patterns[0]

    def convert(self, layer_name: str, model: Any = None, loading_info: Any = None, **kwargs: Any) -> dict[str, Any]:
        ((tensor,),) = self.materialize_tensors().values()
        old = _parameter(model, layer_name)
        if not _TELLS_MORE and old is not None and tensor.shape != old.shape:
            loading_info.missing_keys.discard(layer_name)
            loading_info.mismatched_keys.add((layer_name, tensor.shape, old.shape))
            raise SkipParameters
        return {layer_name: tensor}

    def was_used(self) -> bool:
        return False  # nothing that save_pretrained would have to undo


class _Restore(ConversionOps):
    """For one tensor that Transformers takes under its own name after all, past every converter."""

    def __init__(self, name: str, entry: _models.Entry | None, dtype: torch.dtype | None) -> None:
        self.name, self.entry, self.dtype = name, entry, dtype

    def convert(self, input_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {
            target: restore(tensor[0] if isinstance(tensor, list) else tensor, self.name, self.entry, self.dtype)
            for target, tensor in input_dict.items()
        }


class ZnnQuantizer(HfQuantizer):
    def __init__(self, quantization_config: Any, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.checkpoint = _Checkpoint()

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True

    def update_tp_plan(self, config: Any) -> Any:
        # The first hook that sees the configuration: take out the words for those who load without znn.
        if getattr(config, "transformers_weights", None) == _models.HINT:
            delattr(config, "transformers_weights")
        return config

    update_attn_implementation = update_tp_plan  # where newer versions have that hook instead

    def _process_model_before_weight_loading(
        self, model: Any, dtype: Any = None, checkpoint_files: Any = None, **kwargs: Any
    ) -> None:
        self.checkpoint.expect(model, dtype)
        if getattr(model.config, "distributed_config", None) is not None:
            raise NotImplementedError(
                "a model compressed by znn cannot be loaded by tensor-parallel or FSDP plans, which "
                "read parts of the stored tensors; decompress it first (znn.transformers.decompress_model)"
            )
        paths = [path for path in checkpoint_files or () if str(path).endswith(".safetensors")]
        for path in paths:
            self.checkpoint.open(path)
        if self.checkpoint.entries:
            self.checkpoint.read_ahead(paths)

    def update_weight_conversions(self, weight_conversions: Iterable[Any], model: Any = None) -> list[Any]:
        converted = [
            _Decompressing.of(entry, self.checkpoint) if isinstance(entry, WeightConverter) else entry
            for entry in weight_conversions
        ]
        return [*converted, _EveryOther(self.checkpoint)]

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        self.checkpoint.close()
        return model

    def get_new_dtype(self, converter: Any, param: Any, dtype: Any) -> Any:
        """Called for each stored tensor before it is read, with the dtype that its parameter shall have."""
        if isinstance(converter, _Decompressing):
            if converter.checkpoint is None:
                return dtype
            converter.dtype = dtype
            converter.in_memory = isinstance(param, torch.Tensor)
            return None  # the bytes as they are stored; restore() casts
        name = converter._original_source_patterns[0]
        if isinstance(converter, WeightRenaming) and name in self.checkpoint.entries:
            converter.quantization_operation = _Restore(name, self.checkpoint.entries[name], dtype)
            return None
        return dtype
