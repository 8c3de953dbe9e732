"""What config.json says of a compressed model, as Transformers holds it while it loads."""

from __future__ import annotations

from typing import Any

from transformers.utils.quantization_config import QuantizationConfigMixin

from .._models import METHOD


class ZnnConfig(QuantizationConfigMixin):
    def __init__(self, **other: Any) -> None:
        self.quant_method = METHOD
        # Loading ends with plain weights: Transformers then drops this configuration from the model.
        self.dequantize = True
        for name, value in other.items():
            if name not in ("quant_method", "dequantize"):
                setattr(self, name, value)
