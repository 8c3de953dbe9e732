"""Loading with Transformers 4.57: the quantizer makes each parameter from the stored tensor, name by name.

This version tells a quantizer neither the files nor the stored names. What a tensor was is taken from the model that it
is loaded into, and from its frame.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers.quantizers.quantizers_utils as utils
from transformers.quantizers.base import HfQuantizer

import znn

from ._tensors import decompressed, frame_dtype


class ZnnQuantizer(HfQuantizer):
    def __init__(self, quantization_config: Any, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        # Names of stored tensors that the model has, and that are still to be read.
        self.expected: set[str] | None = None
        self.reading = False

    def is_serializable(self, safe_serialization: Any = None) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        if isinstance(device_map, dict) and "disk" in device_map.values():
            raise NotImplementedError("with Transformers 4, a model compressed by znn cannot be offloaded to disk")

    def get_accelerator_warm_up_factor(self) -> int:
        return 2  # what a plain model of 16-bit weights takes

    def update_expected_keys(self, model: Any, expected_keys: list[str], loaded_keys: list[str]) -> list[str]:
        # Called twice. In between, with ignore_mismatched_sizes, what is compressed is taken to be of another size.
        self.reading = self.expected is not None
        if not self.reading:
            self.expected = set(expected_keys) & set(loaded_keys)
        return expected_keys

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        return True

    def create_quantized_param(
        self, model: Any, param_value: torch.Tensor, param_name: str, target_device: Any, **kwargs: Any
    ) -> None:
        if "device_mesh" in kwargs:
            raise NotImplementedError("a model compressed by znn cannot be loaded by a tensor-parallel plan")
        module, name = utils.get_module_from_name(model, param_name)
        old = getattr(module, name)
        tensor = param_value
        if tensor.dtype == torch.uint8 and tensor.ndim == 1 and znn.is_frame(tensor.cpu()):
            tensor = decompressed(tensor, param_name, frame_dtype(tensor.cpu(), old.dtype), tuple(old.shape))
            if tensor.is_floating_point() and tensor.dtype != torch.float8_e4m3fn:
                tensor = tensor.to(old.dtype)
        if self.reading and self.expected is not None:
            self.expected.discard(param_name)
        module.load_state_dict({name: tensor.to(target_device)}, strict=False, assign=True)

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        return model

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        if self.expected:
            raise ValueError(
                "with Transformers 4, a model compressed by znn cannot be loaded with ignore_mismatched_sizes: "
                f"{min(self.expected)!r} was not read"
            )
        self.remove_quantization_config(model)
        return model
