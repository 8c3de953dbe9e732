"""Loading with Transformers 5: every tensor of the checkpoint goes through a converter of ours.

Transformers reads the names and stored tensors of all files, gives each to the first matching weight converter of the
model, and lets the converter make parameters of them. A compressed tensor is stored as a row of bytes, so

- a model's own converters (those that merge experts, say) are replaced by ones that do the same after decompression;
- one more, which comes last and takes every name as it is, decompresses all the others.
"""

from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming
from transformers.quantizers.base import HfQuantizer

from .. import _models
from ._tensors import restore


class _AsItIs(ConversionOps):
    def convert(self, input_dict, **kwargs):
        return input_dict

    @property
    def reverse_op(self):
        return self


class _Table(dict):
    """{tensor name: what it was before compression}. Shared by all converters, which Transformers copies deeply."""

    def __deepcopy__(self, memo):
        return self


class _Decompressing(WeightConverter):
    """A model's converter that takes compressed tensors. `table` is set by the quantizer; PEFT makes ones without."""

    __slots__ = ("original", "pending_dtype", "sources", "table")

    def __init__(self, source_patterns, target_patterns, operations, force_cpu=True):
        # force_cpu: compressed bytes are of no use on the device; what they decompress to is moved there.
        super().__init__(source_patterns, target_patterns, operations, force_cpu=force_cpu)
        self.original = None
        self.pending_dtype = None
        self.sources = {}
        self.table = None

    @classmethod
    def of(cls, original, table):
        made = cls(list(original._original_source_patterns), list(original._original_target_patterns),
                   original.operations)
        made.scope_prefix, made.base_model_prefix = original.scope_prefix, original.base_model_prefix
        made.original, made.table = original, table
        return made

    def add_tensor(self, target_key, source_key, source_pattern, future):
        # Tensors of a merge are collected in the order of their names: what belongs to each is kept beside it.
        self.sources.setdefault(source_pattern, []).append((source_key, self.pending_dtype))
        super().add_tensor(target_key, source_key, source_pattern, future)

    def materialize_tensors(self):
        collected = super().materialize_tensors()
        if self.table is None:
            return collected
        for pattern, tensors in collected.items():
            for i, (name, dtype) in enumerate(self.sources.pop(pattern)):
                tensors[i] = restore(tensors[i], name, self.table.get(name), dtype)
        return collected

    def reverse_transform(self):
        # What save_pretrained undoes is the merge alone.
        return super().reverse_transform() if self.original is None else self.original.reverse_transform()


class _EveryOther(_Decompressing):
    """Takes any name, last of all, and changes nothing but the bytes."""

    __slots__ = ()
    PATTERN = r"\Aznn(?#takes what no other converter took)\Z"

    def __init__(self, table):
        super().__init__(self.PATTERN, "znn", [_AsItIs()])
        self.table = table

    def rename_source_key(self, source_key):
        return source_key, self.source_patterns[0]

    def convert(self, layer_name, **kwargs):
        ((tensor,),) = self.materialize_tensors().values()
        return {layer_name: tensor}

    def was_used(self):
        return False  # nothing that save_pretrained would have to undo


class _Restore(ConversionOps):
    """For one tensor that Transformers takes under its own name after all, past every converter."""

    def __init__(self, name, entry, dtype):
        self.name, self.entry, self.dtype = name, entry, dtype

    def convert(self, input_dict, **kwargs):
        return {target: restore(tensor[0] if isinstance(tensor, list) else tensor, self.name, self.entry, self.dtype)
                for target, tensor in input_dict.items()}


class ZnnQuantizer(HfQuantizer):
    def __init__(self, quantization_config, **kwargs):
        super().__init__(quantization_config, **kwargs)
        self.table = _Table()

    def is_serializable(self):
        return True

    @property
    def is_trainable(self):
        return True

    def update_attn_implementation(self, config):
        # The first hook that sees the configuration: take out the words for those who load without znn.
        if getattr(config, "transformers_weights", None) == _models.HINT:
            delattr(config, "transformers_weights")
        return config

    def _process_model_before_weight_loading(self, model, checkpoint_files=None, **kwargs):
        if getattr(model.config, "distributed_config", None) is not None:
            raise NotImplementedError("a model compressed by znn cannot be loaded by tensor-parallel or FSDP plans, which "
                                      "read parts of the stored tensors; decompress it first (znn.transformers.decompress_model)")
        for path in checkpoint_files or ():
            if str(path).endswith(".safetensors"):
                self.table.update(_models.compressed_tensors(path))

    def update_weight_conversions(self, weight_conversions, model):
        converted = [_Decompressing.of(entry, self.table) if isinstance(entry, WeightConverter) else entry
                     for entry in weight_conversions]
        return [*converted, _EveryOther(self.table)]

    def get_new_dtype(self, converter, param, dtype):
        """Called for each stored tensor before it is read, with the dtype that its parameter shall have."""
        if isinstance(converter, _Decompressing):
            if converter.table is None:
                return dtype
            converter.pending_dtype = dtype
            return None  # the bytes as they are stored; restore() casts
        name = converter._original_source_patterns[0]
        if isinstance(converter, WeightRenaming) and name in self.table:
            converter.quantization_operation = _Restore(name, self.table[name], dtype)
            return None
        return dtype
