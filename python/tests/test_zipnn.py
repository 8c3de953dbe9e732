"""znn.zipnn.ZipNN in the place of zipnn.ZipNN, with zipnn 0.5.4 as the judge."""

import hashlib
import inspect
import json
import sys
from pathlib import Path

import pytest

import znn
from znn.zipnn import SafeOpen, ZipNN

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import zipnn_cases  # noqa: E402
import zipnn_venv  # noqa: E402

CASES = {name: (dtype, size, kind) for name, dtype, size, kind in zipnn_cases.cases()}


def normal(*shape, dtype=torch.bfloat16, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(0.05).to(dtype)


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def bytes_of(result):
    if isinstance(result, torch.Tensor):
        return raw(result)
    return result.tobytes() if isinstance(result, np.ndarray) else bytes(result)


def given(content, dtype, kind):
    """(a ZipNN for it, the content as that kind)."""
    if kind in ("byte", "streaming"):
        return ZipNN(bytearray_dtype=dtype, is_streaming=kind == "streaming"), content
    if kind == "numpy":
        return ZipNN(input_format="numpy"), np.frombuffer(content, dtype)
    real = getattr(torch, dtype)
    tensor = torch.frombuffer(bytearray(content), dtype=real) if content else torch.empty(0, dtype=real)
    return ZipNN(input_format="torch"), tensor


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    zipnn_venv.run_worker("matrix", folder)
    return folder


@pytest.fixture(scope="module")
def digests(matrix, tmp_path_factory):
    """Of what zipnn makes of what we write, each kind."""
    folder = tmp_path_factory.mktemp("ours")
    for name, (dtype, _, kind) in CASES.items():
        compressor, data = given((matrix / f"{name}.raw").read_bytes(), dtype, kind)
        (folder / f"{name}.znn").write_bytes(compressor.compress(data))
    zipnn_venv.run_worker("read", folder)
    return json.loads((folder / "digests.json").read_text())


@pytest.fixture(scope="module")
def safetensors_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safetensors")
    zipnn_venv.run_worker("safetensors", folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_zipnn_reads_what_is_written(matrix, digests, name):
    assert digests[name] == hashlib.sha256((matrix / f"{name}.raw").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_what_zipnn_wrote_comes_back_as_it_was_given(matrix, name):
    if name in zipnn_cases.CANNOT_WRITE:
        pytest.skip("zipnn cannot write it")
    dtype, _, kind = CASES[name]
    result = ZipNN().decompress((matrix / f"{name}.znn").read_bytes())
    assert bytes_of(result) == (matrix / f"{name}.raw").read_bytes()
    if kind == "torch":
        assert result.dtype == getattr(torch, dtype)
    elif kind == "numpy":
        assert result.dtype == np.dtype(dtype)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (300, 70), (1, 2, 3, 4), (5, 0, 3), (70000,)])
@pytest.mark.parametrize("dtype", list(zipnn_cases.WIDTHS))
def test_shapes_come_back(shape, dtype):
    tensor = normal(*shape, dtype=getattr(torch, dtype))
    back = ZipNN(input_format="torch").decompress(ZipNN(input_format="torch").compress(tensor))
    assert back.shape == tensor.shape and back.dtype == tensor.dtype and raw(back) == raw(tensor)


def test_the_input_is_never_changed():
    tensor = normal(1000, 100)
    before = raw(tensor)
    ZipNN(input_format="torch").compress(tensor)
    assert raw(tensor) == before
    content = bytearray(before)
    ZipNN().compress(content)
    assert content == before
    array = np.random.default_rng(1).normal(size=(100, 100)).astype("f4")
    copy = array.copy()
    ZipNN(input_format="numpy").compress(array)
    assert (array == copy).all()


def test_a_tensor_with_gaps_is_taken():
    tensor = normal(100, 60).t()
    back = ZipNN(input_format="torch").decompress(ZipNN(input_format="torch").compress(tensor))
    assert torch.equal(back, tensor)


def test_what_is_decompressed_can_be_written_to():
    stream = ZipNN(input_format="torch").compress(normal(100))
    back = ZipNN(input_format="torch").decompress(stream)
    back += 1
    assert isinstance(ZipNN().decompress(ZipNN().compress(b"1234")), bytearray)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["byte", "file"])
def test_deltas_come_back_with_their_base(tmp_path, kind, streaming):
    base = raw(normal(600_001))
    content = bytearray(base)
    content[5] ^= 1
    (tmp_path / "base").write_bytes(base)
    second = base if kind == "byte" else str(tmp_path / "base")
    judge = ZipNN(delta_compressed_type=kind, is_streaming=streaming)
    stream = judge.compress(content, delta_second_data=second)
    assert len(stream) < 0.1 * len(base)
    assert judge.decompress(stream, delta_second_data=second) == content
    with pytest.raises(ValueError, match="delta"):
        ZipNN().decompress(stream)


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "brotli"},
        {"input_format": "file"},
        {"compression_chunk": 100_000},
        {"streaming_chunk": 3},
        {"is_streaming": True, "input_format": "torch"},
        {"lossy_compressed_type": "integer"},
        {"delta_compressed_type": "tensor"},
        {"byte_reorder": 9},
    ],
    ids=str,
)
def test_arguments_that_are_not_supported_are_refused(arguments):
    with pytest.raises(ValueError):
        ZipNN(**arguments)


def signatures(cls):
    """{method: [(parameter, default)]} of what a class offers; the default as JSON has it."""
    return {
        name: [[p.name, None if p.default is inspect.Parameter.empty else p.default]
               for p in list(inspect.signature(method).parameters.values())[1:]]
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if name in ("__init__", "__metadata__", "__version__") or not name.startswith("_")
    }


def test_every_method_of_zipnns_class_is_there_with_its_parameters():
    theirs, ours = json.loads(zipnn_venv.run_worker("class", "-")), signatures(ZipNN)
    assert sorted(theirs) == sorted(ours)
    own = {"compress_bin", "compress_method", "decompress_method", "lossy_compress", "decompress_lossy",
           "compress_delta"}  # which raise, whatever they are given
    for name in set(theirs) - own:
        assert ours[name] == theirs[name]
    for name in own:
        with pytest.raises(NotImplementedError):
            getattr(ZipNN(), name)(*[None] * len(theirs[name]))


def test_a_header_is_described_as_by_zipnn(matrix):
    names = ["bfloat16-4096-byte", "float32-4096-numpy", "float16-64-torch", "float8_e5m2-several-streaming"]
    theirs = json.loads(zipnn_venv.run_worker("describe", matrix))
    for name in names:
        ours = ZipNN().metadata(str(matrix / f"{name}.znn"))
        assert json.loads(json.dumps(ours)) == theirs[name]
    assert ZipNN().__metadata__()["ZipNN version"] == theirs[names[0]]["zipnn version"]


def test_data_that_is_not_supported_is_refused():
    with pytest.raises(ValueError, match="int64"):
        ZipNN(input_format="torch").compress(torch.arange(5))
    with pytest.raises(ValueError, match="uint16"):
        ZipNN(bytearray_dtype="uint16").compress(b"1234")
    with pytest.raises(TypeError, match="torch"):
        ZipNN(input_format="torch").compress(b"1234")
    with pytest.raises(ValueError, match="delta"):
        ZipNN().compress(b"1234", delta_second_data=b"1234")


@pytest.mark.parametrize("cut", [0, 1, 31, 40, -1])
def test_a_damaged_stream_raises(cut):
    stream = ZipNN().compress(raw(normal(100_000)))
    with pytest.raises(znn.ZnnError):
        ZipNN().decompress(stream[:cut])


def test_no_memory_is_taken_for_what_a_header_claims_and_the_stream_cannot_hold():
    stream = bytearray(ZipNN().compress(bytes(200_000)))
    stream[14] = 62  # one chunk
    stream[16:24] = (1 << 62).to_bytes(8, "little")
    with pytest.raises(znn.ZnnError):
        ZipNN().decompress(stream)


def test_compress_and_decompress_know_the_format():
    content = raw(normal(300_000))
    stream = znn.compress(content, dtype="bf16", format="zipnn")
    assert stream[:2] == b"ZN" and isinstance(stream, bytes)
    assert znn.content_size(stream) == len(content)
    assert znn.decompress(stream) == content
    out = bytearray(len(content))
    assert znn.decompress(stream, out=out) == len(content) and out == content
    with pytest.raises(ValueError, match="format"):
        znn.compress(content, format="zip")


@pytest.mark.parametrize("name", ["with", "without"])
def test_safetensors_load_with_metadata_and_without(safetensors_files, name):
    safetensors = pytest.importorskip("safetensors")
    folder = safetensors_files
    with SafeOpen(folder / f"{name}.znn.safetensors", "pt") as ours:
        with safetensors.safe_open(folder / f"{name}.safetensors", "pt") as plain:
            assert sorted(ours.keys()) == sorted(plain.keys())
            for key in plain.keys():
                expected, tensor = plain.get_tensor(key), ours.get_tensor(key)
                assert tensor.dtype == expected.dtype and torch.equal(tensor, expected)
