"""Compressed models through Transformers' own from_pretrained."""

import json
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.hf

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BertForSequenceClassification  # noqa: E402

import znn  # noqa: E402
import znn.transformers  # noqa: E402
from hf_models import FIVE, MODELS, assert_same, contents, make  # noqa: E402
from znn import _memory, _models  # noqa: E402

needs_five = pytest.mark.skipif(not FIVE, reason="Transformers 4 has no way to do it")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """models(name): (plain folder, compressed folder), made once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            plain = make(name, folder / "plain")
            znn.transformers.compress_model(plain, folder / "compressed")
            made[name] = plain, folder / "compressed"
        return made[name]

    return get


def auto(name):
    return AutoModel if name == "bert" else AutoModelForCausalLM


def load_both(models, name, **arguments):
    plain, compressed = models(name)
    one, expected = auto(name).from_pretrained(plain, output_loading_info=True, **arguments)
    other, found = auto(name).from_pretrained(compressed, output_loading_info=True, **arguments)
    assert {key: set(value) for key, value in found.items()} == {key: set(value) for key, value in expected.items()}
    return one, other


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_identical(models, name):
    assert_same(*load_both(models, name, dtype="auto"))


@pytest.mark.parametrize("name", ["llama in shards", "mixtral", "mixed"])
def test_no_key_is_missing_unexpected_or_mismatched(models, name):
    _, found = auto(name).from_pretrained(models(name)[1], output_loading_info=True)
    assert not any(found.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["llama", "mixtral", "mixed", "large"])
def test_casts_are_those_of_the_plain_model(models, name, dtype):
    one, other = load_both(models, name, dtype=dtype)
    assert one.dtype == dtype
    assert_same(one, other)


@pytest.mark.parametrize("name", ["llama", "llama in shards", "mixed"])
def test_a_dtype_that_only_the_weights_tell_is_found(models, name, tmp_path):
    shutil.copytree(models(name)[0], tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_bytes())
    for key in ("dtype", "torch_dtype"):
        config.pop(key, None)
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    znn.transformers.compress_model(tmp_path / "plain", tmp_path / "compressed")
    both = [AutoModelForCausalLM.from_pretrained(tmp_path / folder, dtype="auto") for folder in ("plain", "compressed")]
    assert_same(*both, besides=() if FIVE else ("dtype",))  # Transformers 4 leaves it None


@needs_five
@pytest.mark.parametrize("name", ["llama in shards", "mixtral", "large"])
def test_files_that_may_not_be_mapped_are_loaded(models, name):
    assert_same(*load_both(models, name, disable_mmap=True, dtype=torch.float16))


@needs_five
@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("name", ["llama in shards", "large"])
def test_files_are_read_through_maps_or_not_to_the_same_end(models, name, mapped, monkeypatch):
    asked = []

    def choose(fd):
        asked.append(fd)
        return mmap.mmap(fd, 0, access=mmap.ACCESS_READ) if mapped else None

    monkeypatch.setattr(_memory, "mapped_if_quicker", choose)
    assert_same(*load_both(models, name))
    assert asked


def test_a_map_is_the_file_and_small_files_have_none(tmp_path):
    content = os.urandom(1 << 20) * 20
    (tmp_path / "large").write_bytes(content)
    (tmp_path / "small").write_bytes(b"")
    with open(tmp_path / "large", "rb") as file:
        memory = _memory.mapped_if_quicker(file.fileno())
        assert memory is None or memory[:] == content
        assert not _memory.is_cached(file.fileno(), 0, len(content))  # beyond its end
    with open(tmp_path / "small", "rb") as file:
        assert _memory.mapped_if_quicker(file.fileno()) is None


@needs_five
@pytest.mark.parametrize("name", ["mixtral in shards", "large"])
def test_loading_without_threads_is_the_same(models, name, monkeypatch):
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
    assert_same(*load_both(models, name))


def test_a_variant_is_loaded(models, tmp_path):
    plain, _ = models("llama in shards")
    model = AutoModelForCausalLM.from_pretrained(plain)
    for shards in ("60KB", "100MB"):
        folder = tmp_path / shards
        model.save_pretrained(folder / "plain", variant="fp16", max_shard_size=shards)
        znn.transformers.compress_model(folder / "plain", folder / "compressed")
        assert not list((folder / "compressed").glob("model.safetensors"))
        assert_same(model, AutoModelForCausalLM.from_pretrained(folder / "compressed", variant="fp16"))


@pytest.mark.parametrize("name", ["llama in shards", "mixtral"])
def test_device_maps_are_followed(models, name):
    pytest.importorskip("accelerate")
    assert_same(*load_both(models, name, device_map="auto"))


@needs_five
@pytest.mark.parametrize("name", ["llama in shards", "mixtral in shards"])
def test_layers_can_be_offloaded_to_disk(models, name, tmp_path):
    pytest.importorskip("accelerate")
    plain, compressed = models(name)
    places = {
        "model.embed_tokens": "cpu",
        "model.layers.0": "cpu",
        "model.layers.1": "disk",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    other = AutoModelForCausalLM.from_pretrained(compressed, device_map=places, offload_folder=tmp_path)
    text = torch.arange(12)[None]
    assert torch.equal(AutoModelForCausalLM.from_pretrained(plain)(text).logits, other(text).logits)


def test_a_task_head_is_new_where_the_plain_model_would_have_it_new(models):
    plain, compressed = models("bert")
    _, expected = BertForSequenceClassification.from_pretrained(plain, output_loading_info=True)
    model, found = BertForSequenceClassification.from_pretrained(compressed, output_loading_info=True)
    assert set(found["missing_keys"]) == set(expected["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not found["unexpected_keys"]


@needs_five
def test_sizes_that_do_not_match_are_reported_as_before_compression(models):
    config = AutoConfig.from_pretrained(models("llama")[1])
    config.vocab_size -= 100
    _, found = AutoModelForCausalLM.from_pretrained(
        models("llama")[1], config=config, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {(name, tuple(stored)) for name, stored, _ in found["mismatched_keys"]} == {
        ("model.embed_tokens.weight", (600, 64)),
        ("lm_head.weight", (600, 64)),
    }


@pytest.mark.parametrize("name", ["llama, tied", "mixtral", "bert"])
def test_a_loaded_model_is_saved_plain(models, name, tmp_path):
    one, other = load_both(models, name, dtype="auto")
    one.save_pretrained(tmp_path / "one")
    other.save_pretrained(tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert "znn" not in (tmp_path / "other" / "config.json").read_text()


@pytest.mark.parametrize("name", ["llama in shards", "mixtral"])
def test_adapters_work_on_top(models, name, tmp_path):
    peft = pytest.importorskip("peft")
    plain, compressed = models(name)
    torch.manual_seed(3)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(plain), config).eval()
    adapted.save_pretrained(tmp_path)
    text = torch.arange(12)[None]
    on_top = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(compressed), tmp_path).eval()
    assert torch.equal(adapted(text).logits, on_top(text).logits)

    loaded = []
    for folder in (plain, compressed):
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.load_adapter(str(tmp_path))
        loaded.append(model)
    assert_same(*loaded)


def test_an_adapter_that_names_the_compressed_model_loads(models, tmp_path):
    peft = pytest.importorskip("peft")
    _, compressed = models("llama")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(compressed), peft.LoraConfig()).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert any("lora" in name for name, _ in model.named_parameters())


# ---- Folders ----


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_comes_back_byte_for_byte(models, name, tmp_path):
    plain, compressed = models(name)
    znn.transformers.decompress_model(compressed, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(plain)


def test_config_and_index_keep_their_own_bytes(models, tmp_path):
    shutil.copytree(models("llama in shards")[0], tmp_path / "plain")
    for name in ("config.json", "model.safetensors.index.json"):
        path = tmp_path / "plain" / name
        path.write_bytes(json.dumps(json.loads(path.read_bytes()), indent=7).replace("\n", "\r\n").encode())
    znn.transformers.compress_model(tmp_path / "plain", tmp_path / "compressed")
    znn.transformers.decompress_model(tmp_path / "compressed", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "plain")


def test_other_files_are_copied_as_they_are(models, tmp_path):
    shutil.copytree(models("llama")[0], tmp_path / "plain")
    (tmp_path / "plain" / "onnx").mkdir()
    for name in ("tokenizer.json", "onnx/model.onnx", "onnx/model.safetensors", "adapter_model.safetensors"):
        (tmp_path / "plain" / name).write_bytes(os.urandom(100))
    znn.transformers.compress_model(tmp_path / "plain", tmp_path / "compressed")
    before, after = contents(tmp_path / "plain"), contents(tmp_path / "compressed")
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"config.json", "model.safetensors"}
    assert set(after) - set(before) == {"znn.json"}


def test_the_configuration_names_the_method(models):
    config = json.loads((models("llama")[1] / "config.json").read_bytes())
    assert config["quantization_config"]["quant_method"] == "znn"
    assert "pip install" in config["quantization_config"]["about"]


def test_the_index_has_the_sizes_of_the_stored_tensors(models):
    _, compressed = models("mixtral in shards")
    index = json.loads((compressed / "model.safetensors.index.json").read_bytes())
    stored = 0
    for shard in set(index["weight_map"].values()):
        with safe_open(compressed / shard, "pt") as file:
            assert {name for name, at in index["weight_map"].items() if at == shard} == set(file.keys())
            stored += sum(file.get_tensor(name).nbytes for name in file.keys())
    assert index["metadata"]["total_size"] == stored


def test_a_tensor_that_cannot_be_compressed_is_stored(models):
    with safe_open(models("mixed")[1] / "model.safetensors", "pt") as file:
        assert file.get_slice("lm_head.weight").get_dtype() == "BF16"
        assert file.get_slice("model.embed_tokens.weight").get_dtype() == "U8"


def test_compressing_saves_a_third_of_bf16(models):
    plain, compressed = models("llama")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (plain, compressed)]
    assert sizes[1] < 0.72 * sizes[0]


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: next(folder.glob("*-00002-*")).unlink(), "not there"),
        (lambda folder: [path.unlink() for path in folder.glob("model*")], "no model.safetensors"),
        (lambda folder: (folder / "znn.json").write_text("{}"), "already"),
        (
            lambda folder: (folder / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}'),
            "gptq",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "../b.safetensors"}}'
            ),
            "not there",
        ),
    ],
    ids=["no config", "shard missing", "no weights", "compressed", "quantized", "broken config", "path in index"],
)
def test_what_could_not_be_loaded_is_refused_and_nothing_is_made(models, tmp_path, spoil, why):
    shutil.copytree(models("llama in shards")[0], tmp_path / "plain")
    spoil(tmp_path / "plain")
    with pytest.raises(znn.transformers.NotCompressible, match=why):
        znn.transformers.compress_model(tmp_path / "plain", tmp_path / "compressed")
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize("what", ["compress", "decompress"])
def test_the_next_run_removes_what_a_killed_one_left(models, tmp_path, what):
    source, expected = models("llama") if what == "compress" else reversed(models("llama"))
    code = f"""
import os, signal
from znn._models import {what}_model
{what}_model({str(source)!r}, {str(tmp_path / "made")!r}, advance=lambda n: os.kill(os.getpid(), signal.SIGKILL))
"""
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code]).returncode == -9
        assert len(os.listdir(tmp_path)) == 1 and not (tmp_path / "made").exists()
    getattr(znn.transformers, f"{what}_model")(source, tmp_path / "made")
    assert os.listdir(tmp_path) == ["made"]
    assert contents(tmp_path / "made") == contents(expected)


def test_a_folder_that_has_files_is_not_overwritten(models, tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(FileExistsError):
        znn.transformers.compress_model(models("llama")[0], tmp_path)
    assert contents(tmp_path) == contents(tmp_path) and (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/b", "..", "znn.json"])
def test_a_manifest_cannot_name_files_elsewhere(models, tmp_path, name):
    shutil.copytree(models("llama")[1], tmp_path / "compressed")
    manifest = json.loads((tmp_path / "compressed" / "znn.json").read_bytes())
    manifest["files"][name] = {"sha256": "0" * 64, "text": "?"}
    (tmp_path / "compressed" / "znn.json").write_text(json.dumps(manifest))
    with pytest.raises(znn.transformers.NotCompressible, match="not the name"):
        znn.transformers.decompress_model(tmp_path / "compressed", tmp_path / "back")
    assert not (tmp_path / "back").exists()


# ---- Errors ----


@pytest.fixture
def damaged(models, tmp_path):
    """A compressed folder, one bit of one tensor wrong; and the tensor's name."""
    shutil.copytree(models("llama")[1], tmp_path / "damaged")
    path = tmp_path / "damaged" / "model.safetensors"
    data = bytearray(path.read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    name = "model.layers.1.mlp.up_proj.weight"
    first, last = header[name]["data_offsets"]
    data[8 + int.from_bytes(data[:8], "little") + (first + last) // 2] ^= 4
    path.write_bytes(data)
    return tmp_path / "damaged", name


def test_loading_damaged_data_names_the_tensor(damaged):
    folder, name = damaged
    with pytest.raises(znn.ZnnError, match=name):
        AutoModelForCausalLM.from_pretrained(folder)


def test_restoring_and_verifying_damaged_data_names_the_tensor(damaged, tmp_path):
    folder, name = damaged
    with pytest.raises(znn.ZnnError, match=name):
        znn.transformers.verify_model(folder)
    with pytest.raises(znn.ZnnError, match=name):
        znn.transformers.decompress_model(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def run_python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )


LOAD = """
import sys
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
print("loaded", model.num_parameters())
"""


@needs_five
def test_without_znn_the_loader_says_what_to_install(models):
    done = run_python("-c", LOAD, models("llama")[1])
    assert done.returncode != 0
    assert "pip install 'znn[hf]'" in done.stderr.splitlines()[-1]
    assert "import znn.transformers" in done.stderr.splitlines()[-1]


def test_importing_patches_nothing():
    done = run_python(
        "-c",
        """
import safetensors, safetensors.torch, transformers, transformers.modeling_utils, transformers.quantizers.auto as auto
import transformers.configuration_utils
modules = (safetensors, safetensors.torch, transformers.modeling_utils, auto, transformers.configuration_utils)
classes = (transformers.PreTrainedModel, transformers.quantizers.auto.AutoHfQuantizer)
def look():
    return {(owner.__name__, name): id(value) for owner in (*modules, *classes) for name, value in vars(owner).items()}
before = look()
import znn.transformers
changed = {key for key, value in look().items() if before.get(key, value) != value}
assert not changed, changed
assert "znn" in auto.AUTO_QUANTIZER_MAPPING
""",
    )
    assert done.returncode == 0, done.stderr


def test_registering_again_does_nothing():
    znn.transformers.register()
    znn.transformers.register()


# ---- Programs that nobody can edit ----


def test_run_lets_a_program_load_compressed_models(models, tmp_path):
    (tmp_path / "program.py").write_text(LOAD + "assert __name__ == '__main__' and sys.argv[2:] == ['--flag', 'x']\n")
    done = run_python("-m", "znn", "run", tmp_path / "program.py", models("mixtral")[1], "--flag", "x")
    assert done.returncode == 0, done.stderr
    assert "loaded" in done.stdout


def test_a_line_in_sitecustomize_lets_all_programs_load_compressed_models(models, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import znn.autoload\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run_python("-c", LOAD, models("llama")[1], PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


def test_autoload_imports_nothing_large():
    done = run_python(
        "-c", "import sys, znn.autoload; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_run_passes_on_the_programs_exit_status(tmp_path):
    (tmp_path / "program.py").write_text("import sys; sys.exit(7)\n")
    assert run_python("-m", "znn", "run", tmp_path / "program.py").returncode == 7
    assert run_python("-m", "znn").returncode == 2


# ---- A real model ----


@pytest.mark.weights
def test_minilm_comes_back_and_loads(tmp_path):
    pytest.importorskip("ml_dtypes")
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "data"))
    import weights

    folder = weights.minilm().parent
    znn.transformers.compress_model(folder, tmp_path / "compressed")
    sizes = [(where / "model.safetensors").stat().st_size for where in (folder, tmp_path / "compressed")]
    assert sizes[1] < 0.83 * sizes[0]
    one, other = AutoModel.from_pretrained(folder), AutoModel.from_pretrained(tmp_path / "compressed")
    assert_same(one, other)
    znn.transformers.decompress_model(tmp_path / "compressed", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_old_transformers_are_refused_by_name(monkeypatch):
    from znn.transformers import _register

    monkeypatch.setattr(_register.importlib.metadata, "version", lambda name: "4.40.1")
    with pytest.raises(ImportError, match="4.40.1"):
        _register.register()


@pytest.mark.skipif(FIVE, reason="what Transformers 4 does")
def test_transformers_4_says_so_if_the_folder_is_for_5(models, tmp_path):
    znn.transformers.compress_model(models("llama")[0], tmp_path / "compressed", hint=True)
    with pytest.raises(ValueError, match="transformers>=5"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "compressed")


@pytest.mark.skipif(FIVE, reason="what Transformers 4 does")
def test_transformers_4_does_not_lose_weights_with_ignore_mismatched_sizes(models):
    with pytest.raises(ValueError, match="ignore_mismatched_sizes"):
        AutoModelForCausalLM.from_pretrained(models("llama")[1], ignore_mismatched_sizes=True)


def test_the_words_for_those_without_znn_do_not_stay_in_a_configuration(models):
    assert not hasattr(AutoModelForCausalLM.from_pretrained(models("llama")[1]).config, "transformers_weights")
    assert _models.HINT not in (models("llama")[0] / "config.json").read_text()
