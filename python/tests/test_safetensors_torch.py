"""znn.safetensors with torch, against safetensors.torch."""

import copy
import gc
import inspect
import pickle

import pytest

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("safetensors.torch")

import safetensors  # noqa: E402

import znn.safetensors as ours  # noqa: E402
import znn.safetensors.numpy  # noqa: E402
import znn.safetensors.torch as ours_torch  # noqa: E402

DTYPES = (
    "bfloat16 float16 float32 float64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu "
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64"
).split()


def tensors():
    torch.manual_seed(1)
    made = {}
    for name in DTYPES:
        dtype = getattr(torch, name)
        base = torch.randn(60, 50) * (1 if dtype.is_floating_point or dtype.is_complex else 100)
        made[name] = (base.abs() if name.startswith("uint") or "e8m0" in name else base).to(dtype)
    made["scalar"] = torch.tensor(1.5, dtype=torch.bfloat16)
    made["empty"] = torch.zeros(0, 3)
    return made


def same(a, b):
    raw = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


@pytest.fixture
def files(tmp_path):
    theirs.save_file(tensors(), tmp_path / "plain", {"format": "pt"})
    ours.compress_file(tmp_path / "plain", tmp_path / "compressed")
    return tmp_path


@pytest.mark.parametrize("backend", ["mmap", "pread"])
@pytest.mark.parametrize("kind", ["plain", "compressed"])
def test_every_dtype_is_loaded_as_it_was(files, kind, backend):
    found = ours_torch.load_file(files / kind, backend=backend)
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert same(found[name], tensor), name


def test_every_dtype_comes_back(files):
    ours.decompress_file(files / "compressed", files / "back")
    assert (files / "back").read_bytes() == (files / "plain").read_bytes()


def test_saved_files_are_those_of_safetensors_compressed(files):
    ours_torch.save_file(tensors(), files / "saved", {"format": "pt"})
    assert (files / "saved").read_bytes() == (files / "compressed").read_bytes()


def test_packed_four_bit_tensors_come_back(tmp_path):
    dtype = getattr(torch, "float4_e2m1fn_x2", None)
    if dtype is None:
        pytest.skip("this torch has no such dtype")
    data = (torch.arange(4096) % 7).to(torch.uint8).reshape(64, 64).view(dtype)
    theirs.save_file({"t": data}, tmp_path / "plain")
    ours.compress_file(tmp_path / "plain", tmp_path / "compressed")
    assert (tmp_path / "compressed").stat().st_size < (tmp_path / "plain").stat().st_size
    for kind in ("plain", "compressed"):
        assert same(ours_torch.load_file(tmp_path / kind)["t"], data)


@pytest.mark.parametrize("kind", ["plain", "compressed"])
@pytest.mark.parametrize(
    "index",
    [
        "3",
        "-1, 2",
        "2:9",
        "::4, 1:3",
        "...",
        "..., 1",
        ":, [2, 0]",
        "torch.tensor([1, 2])",
        "None",
        "4, [1, 2]",
        "torch.tensor(3)",
    ],
)
def test_slices_are_torchs_own(files, kind, index):
    data = tensors()["bfloat16"]  # noqa: F841
    part = ours.safe_open(files / kind, "pt").get_slice("bfloat16")  # noqa: F841
    scope = {"torch": torch, "data": data, "part": part}
    assert same(eval(f"part[{index}]", scope), eval(f"data[{index}]", scope))


@pytest.mark.parametrize("index", ["60", "0, 0, 0", "::-1"])
def test_bad_indices_are_torchs_errors(files, index):
    expected = safetensors.safe_open(files / "plain", "pt").get_slice("bfloat16")
    with pytest.raises(Exception) as error:
        eval(f"part[{index}]", {"part": expected})
    with pytest.raises(error.type):
        eval(f"part[{index}]", {"part": ours.safe_open(files / "compressed", "pt").get_slice("bfloat16")})


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_the_device_may_be_named_or_given(files, device):
    assert ours_torch.load_file(files / "compressed", device=device)["float32"].device.type == "cpu"


def test_a_device_that_does_not_exist_is_an_error(files):
    with pytest.raises(safetensors.SafetensorError, match="device foo"):
        ours.safe_open(files / "compressed", "pt", device="foo")


def test_bytes_are_loaded():
    found = ours_torch.load(ours.save(tensors()))
    assert all(same(found[name], tensor) for name, tensor in tensors().items())


def test_tensors_that_share_memory_are_refused():
    data = torch.zeros(100)
    with pytest.raises(RuntimeError, match="share memory"):
        ours.save({"a": data, "b": data[10:]})


def test_parts_of_one_memory_that_do_not_overlap_are_saved():
    data = torch.arange(100.0)
    found = ours_torch.load(ours.save({"a": data[:50], "b": data[50:]}))
    assert torch.equal(torch.cat([found["a"], found["b"]]), data)


@pytest.mark.parametrize("data", [torch.zeros(4, 5).T, torch.zeros(3).to_sparse()])
def test_tensors_that_are_not_dense_and_contiguous_are_refused(data):
    with pytest.raises(ValueError, match="`t`"):
        ours.save({"t": data})


def test_parameters_are_saved():
    found = ours_torch.load(ours.save({"p": torch.nn.Parameter(torch.ones(3))}))
    assert torch.equal(found["p"], torch.ones(3))


def test_the_weights_of_a_model_load_into_it(tmp_path):
    model, other = torch.nn.Linear(30, 40), torch.nn.Linear(30, 40)
    ours_torch.save_file(model.state_dict(), tmp_path / "m")
    other.load_state_dict(ours_torch.load_file(tmp_path / "m"))
    assert torch.equal(model.weight, other.weight) and torch.equal(model.bias, other.bias)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 60)
        self.head = torch.nn.Linear(60, 50, bias=False)
        self.other = torch.nn.Linear(60, 3)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize("saved, loaded", [(ours_torch, ours_torch), (ours_torch, theirs), (theirs, ours_torch)])
def test_a_model_with_tied_weights_is_saved_and_loaded(tmp_path, saved, loaded):
    model, other = Tied(), Tied()
    saved.save_model(model, tmp_path / "m", {"a": "b"})
    if saved is ours_torch and loaded is theirs:
        ours.decompress_file(tmp_path / "m", tmp_path / "plain")
        theirs.save_model(model, tmp_path / "original", {"a": "b"})
        files = [safetensors.safe_open(tmp_path / name, "pt") for name in ("plain", "original")]
        assert files[0].metadata() == files[1].metadata() and "head.weight" in files[0].metadata()
        assert files[0].keys() == files[1].keys()
        (tmp_path / "plain").rename(tmp_path / "m")
    assert [list(names) for names in loaded.load_model(other, tmp_path / "m")] == [[], []]
    assert other.head.weight is other.embed.weight
    assert all(same(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


def test_a_file_that_does_not_fit_a_model_is_an_error_unless_told(tmp_path):
    ours_torch.save_file({"other.bias": torch.zeros(3), "nope": torch.zeros(4)}, tmp_path / "m")
    ours.decompress_file(tmp_path / "m", tmp_path / "p")
    for package, path in ((ours_torch, tmp_path / "m"), (theirs, tmp_path / "p")):
        with pytest.raises(RuntimeError, match="nope"):
            package.load_model(Tied(), path)
        missing, unexpected = package.load_model(Tied(), path, strict=False)
        assert "other.weight" in missing and list(unexpected) == ["nope"]


def test_lazy_conjugates_are_saved_as_what_they_are():
    data = torch.randn(100, dtype=torch.complex64)
    assert torch.equal(ours_torch.load(ours_torch.save({"t": data.conj()}))["t"], data.conj().resolve_conj())


def test_each_module_takes_its_own_tensors():
    with pytest.raises(ValueError, match="torch.Tensor"):
        ours_torch.save({"a": torch.zeros(2).numpy()})
    with pytest.raises(ValueError, match="numpy.ndarray"):
        znn.safetensors.numpy.save({"a": torch.zeros(2)})


def test_arguments_have_the_names_the_order_and_the_defaults_of_safetensors():
    for name in ("load", "load_file", "load_model", "save", "save_file", "save_model"):
        mine, original = (inspect.signature(getattr(m, name)).parameters.values() for m in (ours_torch, theirs))
        begin = [(p.name, p.kind, p.default) for p in original]
        assert [(p.name, p.kind, p.default) for p in mine][: len(begin)] == begin, name
        assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in list(mine)[len(begin) :])


# ---- Large tensors, which have pages of their own ----


@pytest.fixture
def large(tmp_path):
    """(a tensor of 10 MB and a bit, a compressed file that holds it as "t")."""
    torch.manual_seed(2)
    data = torch.randn(1234, 4321).to(torch.bfloat16)
    ours_torch.save_file({"t": data}, tmp_path / "large")
    return data, tmp_path / "large"


def test_a_large_tensor_is_as_any_other(large, tmp_path):
    data, path = large
    tensor = ours_torch.load_file(path)["t"]
    assert same(tensor, data)
    assert tensor.untyped_storage().nbytes() == data.nbytes  # or torch.save would write more than the tensor
    torch.save(tensor, tmp_path / "saved")
    assert same(torch.load(tmp_path / "saved"), data)
    assert same(copy.deepcopy(tensor), data) and same(pickle.loads(pickle.dumps(tensor)), data)
    tensor.mul_(2)
    assert same(tensor, data * 2)
    tensor.share_memory_()
    assert same(tensor, data * 2)


def test_the_memory_of_a_large_tensor_is_given_back(large):
    data, path = large

    def anonymous():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))

    with ours.safe_open(path, "pt") as file:
        for _ in range(3):
            file.get_tensor("t")
        before = anonymous()
        kept = [file.get_tensor("t") for _ in range(10)]
        assert anonymous() - before > 9 * data.nbytes
        del kept
        gc.collect()
        assert anonymous() - before < 2 * data.nbytes
