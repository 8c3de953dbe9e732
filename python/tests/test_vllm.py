"""The plugin for vLLM, against a stand-in for what it uses of vLLM 0.33. vLLM itself is not run."""

import dataclasses
import importlib.metadata
import sys
import types

import pytest

for needed in ("torch", "transformers"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.hf

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import znn  # noqa: E402
import znn.transformers  # noqa: E402
import znn.vllm  # noqa: E402
from hf_models import bits, make  # noqa: E402


@dataclasses.dataclass
class LoadConfig:
    load_format: str = "auto"


@dataclasses.dataclass
class Source:
    model_or_path: str
    prefix: str = ""


class DefaultModelLoader:
    """The two methods that the plugin extends, with what they take and give."""

    Source = Source

    def __init__(self, load_config):
        self.load_config = load_config

    def _prepare_weights(self, model_name_or_path, subfolder, revision, fall_back_to_pt, allow_patterns_overrides):
        if self.load_config.load_format != "safetensors":
            raise ValueError(f"Unknown load_format: {self.load_config.load_format}")
        files = sorted(str(path) for path in model_name_or_path.glob("*.safetensors"))
        return str(model_name_or_path), files, True, "model.safetensors.index.json"

    def _get_weights_iterator(self, source):
        _, files, _, _ = self._prepare_weights(source.model_or_path, None, None, True, None)

        def weights():
            for path in files:
                with safe_open(path, "pt") as file:
                    for name in file.keys():
                        yield name, file.get_tensor(name)

        return ((source.prefix + name, tensor) for name, tensor in weights())


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in's modules, as sys.modules has them."""
    modules = {}

    def module(name, **contents):
        modules[name] = types.ModuleType(name)
        vars(modules[name]).update(contents)
        monkeypatch.setitem(sys.modules, name, modules[name])

    def registry(known, method):
        def register(name):
            def keep(cls):
                known[name] = cls
                if method is not None:
                    method.append(name)
                return cls

            return keep

        return register

    quantizations, loaders, methods = {}, {}, []
    for package in ("vllm", "vllm.model_executor", "vllm.model_executor.layers"):
        module(package)
    module(
        "vllm.model_executor.layers.linear",
        LinearBase=type("LinearBase", (), {}),
        UnquantizedLinearMethod=type("UnquantizedLinearMethod", (), {}),
    )
    module(
        "vllm.model_executor.layers.quantization",
        QUANTIZATION_METHODS=methods,
        register_quantization_config=registry(quantizations, methods),
    )
    module("vllm.model_executor.layers.quantization.base_config", QuantizationConfig=type("QuantizationConfig", (), {}))
    module("vllm.model_executor.model_loader", register_model_loader=registry(loaders, None))
    module("vllm.model_executor.model_loader.default_loader", DefaultModelLoader=DefaultModelLoader)
    return types.SimpleNamespace(
        quantizations=quantizations,
        loaders=loaders,
        methods=methods,
        linear=modules["vllm.model_executor.layers.linear"],
    )


@pytest.fixture(params=["llama in shards", "mixed"])
def folders(request, tmp_path):
    plain = make(request.param, tmp_path / "plain")
    znn.transformers.compress_model(plain, tmp_path / "compressed")
    return plain, tmp_path / "compressed"


@pytest.mark.parametrize("prefix", ["", "draft."])
def test_the_loader_hands_on_every_weight_as_it_was(vllm, folders, prefix):
    plain, compressed = folders
    znn.vllm.register()
    loader = vllm.loaders["znn"](LoadConfig("znn"))
    found = dict(loader._get_weights_iterator(Source(compressed, prefix)))
    expected = {}
    for path in plain.glob("*.safetensors"):
        expected.update(load_file(path))
    assert set(found) == {prefix + name for name in expected}
    for name, tensor in expected.items():
        assert (found[prefix + name].dtype, found[prefix + name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(bits(found[prefix + name]), bits(tensor))


def test_the_loader_reads_plain_folders_too(vllm, folders):
    plain, _ = folders
    znn.vllm.register()
    names = {name for name, _ in vllm.loaders["znn"](LoadConfig("znn"))._get_weights_iterator(Source(plain))}
    assert names


def test_the_quantization_quantizes_nothing(vllm):
    znn.vllm.register()
    config = vllm.quantizations["znn"].from_config({"quant_method": "znn", "version": 1})
    assert config.get_name() == "znn"
    assert isinstance(config.get_quant_method(vllm.linear.LinearBase(), "q_proj"), vllm.linear.UnquantizedLinearMethod)
    assert config.get_quant_method(object(), "embed_tokens") is None
    assert torch.bfloat16 in config.get_supported_act_dtypes()


def test_registering_again_does_nothing(vllm):
    znn.vllm.register()
    first = dict(vllm.quantizations), dict(vllm.loaders)
    znn.vllm.register()
    assert (vllm.quantizations, vllm.loaders) == first
    assert vllm.methods == ["znn"]


def test_vllm_finds_the_plugin():
    found = [
        point.value for point in importlib.metadata.entry_points(group="vllm.general_plugins") if point.name == "znn"
    ]
    assert found == ["znn.vllm:register"]
