"""The quantizer "znn", made known to Transformers by its own registry."""

from __future__ import annotations

import importlib.metadata

from .._models import METHOD


def register() -> None:
    """Let from_pretrained load compressed models. Done by importing znn.transformers; again, it does nothing.

    Raises ImportError if Transformers is missing, or is of a version that has no way to do it.
    """
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError("znn.transformers needs Transformers: pip install 'znn[hf]'") from None
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (4, 57):
        raise ImportError(f"znn.transformers needs transformers 4.57 or newer; this is {version}")

    from transformers.quantizers import auto

    if METHOD in auto.AUTO_QUANTIZER_MAPPING:
        return
    from ._config import ZnnConfig

    if major == 4:
        from ._quantizer4 import ZnnQuantizer
    else:
        from transformers.core_model_loading import WeightConverter

        if not hasattr(WeightConverter, "force_cpu"):
            raise ImportError(f"znn.transformers needs transformers 5.16 or newer, or 4.57; this is {version}")
        from ._quantizer5 import ZnnQuantizer
    auto.register_quantization_config(METHOD)(ZnnConfig)
    auto.register_quantizer(METHOD)(ZnnQuantizer)
