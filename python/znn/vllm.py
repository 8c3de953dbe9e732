"""vLLM loads models compressed by znn: it finds this as a plugin (vllm.general_plugins) and calls register().

    vllm serve compressed-model --load-format znn

The weights are decompressed while they are read; what runs is the plain model. "znn" is registered as a quantization,
which config.json names and which quantizes nothing, and as a load format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from . import _models


def _make_quantization() -> Any:
    import torch
    from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
    from vllm.model_executor.layers.quantization.base_config import QuantizationConfig

    class ZnnQuantization(QuantizationConfig):
        """No quantization: the loader hands on plain weights."""

        def get_name(self) -> str:
            return _models.METHOD

        def get_supported_act_dtypes(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16, torch.float32]

        @classmethod
        def get_min_capability(cls) -> int:
            return 0

        @staticmethod
        def get_config_filenames() -> list[str]:
            return []

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> ZnnQuantization:
            return cls()

        def get_quant_method(self, layer: Any, prefix: str) -> Any:
            return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None

    return ZnnQuantization


def _make_loader() -> Any:
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    from .transformers._tensors import restore

    class ZnnLoader(DefaultModelLoader):
        """vLLM's own loader of safetensors; each compressed tensor is decompressed as it passes."""

        def __init__(self, load_config: Any) -> None:
            super().__init__(dataclasses.replace(load_config, load_format="safetensors"))
            self._entries: dict[str, _models.Entry] = {}

        def _prepare_weights(self, *arguments: Any, **named: Any) -> Any:
            prepared = super()._prepare_weights(*arguments, **named)
            self._entries = {}
            for path in prepared[1]:
                if str(path).endswith(".safetensors"):
                    found = _models.compressed_tensors(_models.opened(path))
                    self._entries.update({name: entry for name, (_, entry) in found.items()})
            return prepared

        def _get_weights_iterator(self, source: Any) -> Iterator[tuple[str, Any]]:
            # Names come with the source's prefix, and the files are known once the iterator has been made.
            weights = super()._get_weights_iterator(source)
            entries = self._entries
            for name, tensor in weights:
                stored = name.removeprefix(source.prefix)
                yield name, restore(tensor, stored, entries.get(stored), None)

    return ZnnLoader


def register() -> None:
    """Make "znn" known to this process's vLLM, and to its Transformers. May be called again."""
    import znn.transformers  # noqa: F401
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, register_quantization_config
    from vllm.model_executor.model_loader import register_model_loader

    if _models.METHOD in QUANTIZATION_METHODS:
        return
    register_quantization_config(_models.METHOD)(_make_quantization())
    register_model_loader(_models.METHOD)(_make_loader())
