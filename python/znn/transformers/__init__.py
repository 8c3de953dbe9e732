"""Transformers loads models compressed by znn, once this module is imported.

    import znn.transformers
    model = AutoModel.from_pretrained("compressed-model")  # nothing else changes

    znn.transformers.compress_model("model", "compressed-model")
    znn.transformers.decompress_model("compressed-model", "model")  # byte for byte

Importing it registers a quantizer named "znn" through Transformers' own register_quantizer; nothing is patched. A
loaded model holds plain weights and no trace of znn: save_pretrained writes what loads without it.
"""

from .._models import NotCompressible, compress_model, decompress_model, verify_model
from ._register import register

__all__ = ["NotCompressible", "compress_model", "decompress_model", "register", "verify_model"]

register()
