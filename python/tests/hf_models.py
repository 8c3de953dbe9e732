"""Small random models on the spot, and what it means that two loaded models are the same."""

import hashlib
from pathlib import Path

import torch
import transformers

SMALL = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
FIVE = int(transformers.__version__.split(".")[0]) >= 5


def llama(**more):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SMALL, "num_key_value_heads": 2, **more}))


def mixtral():
    return transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4)
    )


def bert():
    return transformers.BertModel(transformers.BertConfig(**SMALL))


def mixed():
    """A Llama of BF16 whose norms are FP32, as some checkpoints keep them; and numbers that no coder shrinks."""
    model = llama().to(torch.bfloat16)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.float().weight.uniform_()
        noise = torch.randint(-(2**15), 2**15, model.lm_head.weight.shape, dtype=torch.int16)
        model.lm_head.weight.copy_(noise.view(torch.bfloat16))
    return model


# name: (model, dtype or None to leave it, arguments of save_pretrained)
MODELS = {
    "llama": (llama, torch.bfloat16, {}),
    "llama in shards": (llama, torch.bfloat16, {"max_shard_size": "160KB"}),
    "llama, tied": (lambda: llama(tie_word_embeddings=True), torch.float16, {}),
    "mixtral": (mixtral, torch.bfloat16, {}),
    "mixtral in shards": (mixtral, torch.bfloat16, {"max_shard_size": "60KB"}),
    "bert": (bert, torch.float32, {}),
    "mixed": (mixed, None, {}),
    "large": (lambda: llama(vocab_size=30000), torch.bfloat16, {}),
}


def make(name, folder):
    """Save the model of that name in a new folder, which is returned."""
    build, dtype, arguments = MODELS[name]
    torch.manual_seed(7)
    model = build()
    if dtype is not None:
        model.to(dtype)
    model.save_pretrained(folder, **arguments)
    return Path(folder)


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def assert_same(one, other, besides=()):
    """The same parameters and buffers, bit for bit, and the same configuration besides some keys."""
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert (tensor.dtype, tensor.shape, tensor.device) == (
            theirs[name].dtype,
            theirs[name].shape,
            theirs[name].device,
        )
        assert torch.equal(bits(tensor), bits(theirs[name])), name
    plain = [
        {key: value for key, value in model.config.to_dict().items() if key not in ("_name_or_path", *besides)}
        for model in (one, other)
    ]
    assert plain[0] == plain[1]


def contents(folder):
    """{relative path: SHA-256} of all files of a folder."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
