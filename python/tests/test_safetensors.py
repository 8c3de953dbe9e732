"""znn.safetensors against the safetensors package, which is the judge of what a file holds."""

import gc
import inspect
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from random import Random

import pytest

np = pytest.importorskip("numpy")
theirs = pytest.importorskip("safetensors")
xxhash = pytest.importorskip("xxhash")

import safetensors.numpy  # noqa: E402

import znn  # noqa: E402
import znn.safetensors as ours  # noqa: E402
import znn.safetensors.numpy  # noqa: E402


def weights(*shape, dtype="f4", seed=1):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.02).astype(dtype)


TENSORS = {
    "layer.1.weight": weights(300, 200),
    "layer.0.weight": weights(64, 128, dtype="f2"),
    "scalar": np.array(2.5, "f8"),
    "empty": np.zeros((0, 7), "i4"),
    "no.rows.left": np.zeros((5, 0), "f4"),
    "noise": np.random.default_rng(2).integers(0, 256, 5000, "u1"),
    "ids": np.arange(3000).reshape(30, 100),
    "mask": np.arange(1000) % 3 == 0,
    "tied": weights(300, 200),
    'ünïcode "quoted" \\ \n\t': weights(17),
    "": weights(1000),
}


def plain_file(path, tensors=TENSORS, metadata=None):
    safetensors.numpy.save_file(tensors, path, metadata)
    return path


def by_hand(path, header, data):
    """A file of that header, a dict or the bytes themselves."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def header_of(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


@pytest.fixture
def plain(tmp_path):
    return plain_file(tmp_path / "plain.safetensors", metadata={"format": "np", "ü": '{"a": [1, 2]}'})


@pytest.fixture
def compressed(plain, tmp_path):
    ours.compress_file(plain, tmp_path / "compressed.safetensors")
    return tmp_path / "compressed.safetensors"


def comes_back(path):
    compressed, back = path.with_suffix(".c"), path.with_suffix(".back")
    ours.compress_file(path, compressed)
    ours.decompress_file(compressed, back)
    return back.read_bytes() == path.read_bytes()


# ---- Whole files ----


@pytest.mark.parametrize(
    "metadata", [None, {}, {"a": "b"}, {"znn": "mine"}, {"znn": '{"version": 1}'}, {"": "\0 \x7f é"}]
)
def test_files_come_back_whatever_their_metadata(tmp_path, metadata):
    assert comes_back(plain_file(tmp_path / "m.safetensors", metadata=metadata))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}        ',
        b'{ "a" : { "shape":[ 2 ],\n"data_offsets": [0, 8],"dtype":"F32" } }\n',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":[1,{"x":null}]}}',
        b'{"\\u0061\\u00e9":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"\\u0061":"\\n"}}',
        b'{"a":{"dtype":"F7_NEW","shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_files_come_back_however_their_header_is_written(tmp_path, header):
    assert comes_back(by_hand(tmp_path / "h.safetensors", header, bytes(8)))


def test_a_file_without_tensors_comes_back(tmp_path):
    assert comes_back(plain_file(tmp_path / "none.safetensors", {}))


def test_data_in_another_order_than_the_names_comes_back(tmp_path):
    header = {
        "b": {"dtype": "F32", "shape": [1000], "data_offsets": [4000, 8000]},
        "a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]},
    }
    path = by_hand(tmp_path / "o.safetensors", header, weights(2000).tobytes())
    assert comes_back(path)
    assert [name for name in header_of(path.with_suffix(".c"))[0] if name != "__metadata__"] == ["b", "a"]


def test_a_header_of_many_tensors_comes_back(tmp_path):
    header = {f"model.layers.{i}.w": {"dtype": "I8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(20000)}
    assert comes_back(by_hand(tmp_path / "many.safetensors", header, bytes(20000)))


def test_threads_do_not_change_the_file(plain, tmp_path):
    ours.compress_file(plain, tmp_path / "1", threads=1)
    ours.compress_file(plain, tmp_path / "3", threads=3)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


def test_compressing_makes_weights_smaller(plain, compressed):
    assert compressed.stat().st_size < 0.95 * plain.stat().st_size


def test_other_tools_list_the_same_names_in_the_same_order(plain, compressed):
    names = list(header_of(plain)[0])
    with theirs.safe_open(compressed, "np") as file:
        assert file.offset_keys() == theirs.safe_open(plain, "np").offset_keys()
    assert [name for name in header_of(compressed)[0] if name != "__metadata__"] == names[1:]


def test_other_tools_see_frames_as_bytes_and_the_rest_as_it_was(compressed):
    with theirs.safe_open(compressed, "np") as file:
        assert np.array_equal(file.get_tensor("noise"), TENSORS["noise"])
        frame = file.get_tensor("layer.1.weight")
        assert frame.dtype == np.uint8 and znn.decompress(frame) == TENSORS["layer.1.weight"].tobytes()


def test_the_metadata_say_what_to_install_and_hold_the_plain_header(plain, compressed):
    metadata = header_of(compressed)[0]["__metadata__"]
    note = json.loads(metadata.pop("znn"))
    assert metadata == header_of(plain)[0]["__metadata__"]
    assert note["about"] == "compressed by znn: pip install znn" and note["version"] == 1
    size = struct.unpack("<Q", plain.read_bytes()[:8])[0]
    assert note["header"].encode() == plain.read_bytes()[8 : 8 + size]


def test_a_compressed_file_is_not_compressed_again(compressed, tmp_path):
    with pytest.raises(ours.SafetensorError, match="compressed already"):
        ours.compress_file(compressed, tmp_path / "twice")


def test_a_plain_file_is_not_decompressed(plain, tmp_path):
    with pytest.raises(ours.SafetensorError, match="plain"):
        ours.decompress_file(plain, tmp_path / "twice")


def test_is_compressed_tells_them_apart(plain, compressed):
    assert ours.is_compressed(compressed) and not ours.is_compressed(plain)


def test_a_file_may_be_compressed_in_place(plain):
    before = plain.read_bytes()
    ours.compress_file(plain, plain)
    assert ours.is_compressed(plain)
    ours.decompress_file(plain, plain)
    assert plain.read_bytes() == before


def test_permissions_are_the_sources(plain, tmp_path):
    plain.chmod(0o640)
    ours.compress_file(plain, tmp_path / "c")
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o640


def test_a_failure_leaves_the_old_file_and_no_other(plain, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"old")

    def stop(done):
        raise KeyboardInterrupt

    before = sorted(os.listdir(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        ours.compress_file(plain, target, progress=stop)
    assert target.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == before


def killed_while(call):
    """A process of its own that is killed as soon as the call, which is given `die`, reports progress."""
    code = f"""
import os, signal
import znn.safetensors as zs
die = lambda done: os.kill(os.getpid(), signal.SIGKILL)
{call}
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9


@pytest.mark.parametrize("what", ["compress", "decompress"])
def test_a_killed_run_leaves_the_old_file_and_the_next_cleans_up(plain, compressed, tmp_path, what):
    source, target = (plain, tmp_path / "target") if what == "compress" else (compressed, tmp_path / "target")
    target.write_bytes(b"old")
    before = sorted(os.listdir(tmp_path))
    for _ in range(2):
        killed_while(f"zs.{what}_file({str(source)!r}, {str(target)!r}, progress=die)")
        assert target.read_bytes() == b"old"
        assert len(os.listdir(tmp_path)) == len(before) + 1
    getattr(ours, f"{what}_file")(source, target)
    assert sorted(os.listdir(tmp_path)) == before
    assert target.read_bytes() == (compressed if what == "compress" else plain).read_bytes()


def test_what_another_run_writes_is_left_alone(plain, compressed, tmp_path):
    def again(_):
        if not seen:
            seen.append(1)
            ours.compress_file(plain, tmp_path / "c")

    seen = []
    ours.compress_file(plain, tmp_path / "c", progress=again)
    assert seen and (tmp_path / "c").read_bytes() == compressed.read_bytes()
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_a_link_at_the_temporary_name_is_not_followed(plain, tmp_path):
    killed_while(f"zs.compress_file({str(plain)!r}, {str(tmp_path / 'c')!r}, progress=die)")
    (spot,) = (tmp_path / name for name in os.listdir(tmp_path) if name.startswith(".znn-"))
    spot.unlink()
    (tmp_path / "victim").write_bytes(b"precious")
    spot.symlink_to(tmp_path / "victim")
    ours.compress_file(plain, tmp_path / "c")
    assert (tmp_path / "victim").read_bytes() == b"precious" and not (tmp_path / "c").is_symlink()
    assert ours.is_compressed(tmp_path / "c")


def test_more_than_the_disk_holds_is_refused_before_it_is_written(compressed, tmp_path, monkeypatch):
    before = sorted(os.listdir(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="more than the 1000 that are free"):
        ours.decompress_file(compressed, tmp_path / "back")
    assert sorted(os.listdir(tmp_path)) == before


def test_progress_ends_at_the_size_of_the_tensors(plain, tmp_path):
    seen = []
    ours.compress_file(plain, tmp_path / "c", progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == sum(t.nbytes for t in TENSORS.values())


def test_a_full_disk_is_an_oserror(plain):
    core = znn._core.Safetensors([plain.read_bytes()], 3, 1, True)
    with open("/dev/full", "wb") as full, pytest.raises(OSError, match="space"):
        core.compress(full.fileno(), None)


def test_memory_does_not_grow_with_the_tensor(tmp_path):
    """A tensor of 400 MB, both ways, in a process that may have 250 MB of data."""
    path = tmp_path / "large.safetensors"
    size = 400 << 20
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + weights(1 << 20).tobytes())
        file.truncate(8 + len(header) + size)
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (250 << 20, 250 << 20))
import znn.safetensors as zs
zs.compress_file({str(path)!r}, {str(path) + ".c"!r})
zs.decompress_file({str(path) + ".c"!r}, {str(path) + ".back"!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert os.path.getsize(f"{path}.c") < 10 << 20 and os.path.getsize(f"{path}.back") == os.path.getsize(path)
    for name in (path, f"{path}.c", f"{path}.back"):
        os.unlink(name)


# ---- Reading ----


@pytest.fixture(params=["plain", "compressed"])
def either(request, plain, compressed):
    return {"plain": plain, "compressed": compressed}[request.param]


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_tensors_are_what_safetensors_reads(plain, either, backend):
    expected = safetensors.numpy.load_file(plain)
    with ours.safe_open(either, "np", backend=backend) as file:
        for name, tensor in expected.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype and found.shape == tensor.shape and found.tobytes() == tensor.tobytes()


def test_names_and_metadata_are_what_safetensors_reads(plain, either):
    expected = theirs.safe_open(plain, "np")
    with ours.safe_open(either, "np") as file:
        assert file.keys() == expected.keys()
        assert file.offset_keys() == expected.offset_keys()
        assert file.metadata() == expected.metadata()


def test_no_metadata_are_none(tmp_path):
    ours.compress_file(plain_file(tmp_path / "p"), tmp_path / "c")
    assert ours.safe_open(tmp_path / "p", "np").metadata() is None
    assert ours.safe_open(tmp_path / "c", "np").metadata() is None


INDICES = (
    "0", "-1", "5, 3", "-2, -1", "...", ":", "()", "None", "2:5", "-7:-2", "7:3", "0:1000", "::3", "1::7", "5, 2:9",
    "5, ::2", ":, 3", ":, 2:4", "..., 0", "3, ..., 1", "[0, 2]", ":, [1, 0]", "3, [1, 2]", "2:4, [0, 5, 1]", "True",
    "np.array([1, 3])", "np.int64(4)", "None, 2", "4, None", "2:9, 5:1", "slice(None, None, 2), 1",
)  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_slices_are_the_frameworks_own(either, index):
    expected = eval(f"TENSORS['layer.1.weight'][{index}]")
    found = eval(
        "ours.safe_open(either, 'np').get_slice('layer.1.weight')[" + index + "]", globals() | {"either": either}
    )
    assert type(found) is np.ndarray  # not numpy's scalars: the safetensors package gives arrays, too
    assert found.dtype == expected.dtype and found.shape == expected.shape and np.array_equal(found, expected)


THEIR_INDICES = (
    "0", "-1", "5, 3", "...", ":", "()", "2:5", "2:293:3", "::7", "5, 2:9", ":, 3", ":, 2:4", "..., 0", "3, ..., 1",
    "np.int64(4)", "300", "-301", "0, 0, 0", "'a'", "0.5", "..., ...", "0, None, 5, 6", "slice(1.0, 2)",
)  # fmt: skip


@pytest.mark.parametrize("index", THEIR_INDICES)
def test_slices_and_their_errors_are_those_of_safetensors(plain, either, index):
    def outcome(file):
        try:
            return eval(f"part[{index}]", globals() | {"part": file.get_slice("layer.1.weight")})
        except Exception as error:
            return error

    expected, found = outcome(theirs.safe_open(plain, "np")), outcome(ours.safe_open(either, "np"))
    if isinstance(expected, Exception):
        assert isinstance(found, type(expected))
    else:
        assert type(found) is type(expected) and found.dtype == expected.dtype and found.shape == expected.shape
        assert np.array_equal(found, expected)


def test_slices_of_three_dimensions_keep_numpys_order_of_mixed_indices(tmp_path):
    data = weights(4, 50, 60)
    znn.safetensors.numpy.save_file({"t": data}, tmp_path / "t")
    part = ours.safe_open(tmp_path / "t", "np").get_slice("t")
    assert np.array_equal(part[1, :, [2, 5]], data[1, :, [2, 5]])
    assert np.array_equal(part[1, 3, [2, 5]], data[1, 3, [2, 5]])
    assert np.array_equal(part[1, 3:7, ::9], data[1, 3:7, ::9])


@pytest.mark.parametrize("index", ["300", "-301", "0, 0, 0", "0.5", "'a'"])
def test_bad_indices_are_the_frameworks_errors(either, index):
    with pytest.raises(IndexError):
        eval("ours.safe_open(either, 'np').get_slice('layer.1.weight')[" + index + "]", globals() | {"either": either})


def test_slices_tell_shape_and_dtype(plain, either):
    expected = theirs.safe_open(plain, "np")
    file = ours.safe_open(either, "np")
    for name in TENSORS:
        assert file.get_slice(name).get_shape() == expected.get_slice(name).get_shape()
        assert file.get_slice(name).get_dtype() == expected.get_slice(name).get_dtype()


def test_slices_of_scalars_and_of_nothing(either):
    file = ours.safe_open(either, "np")
    assert file.get_slice("scalar")[...] == 2.5 and file.get_slice("scalar")[()] == 2.5
    assert file.get_slice("empty")[:].shape == (0, 7) and file.get_slice("no.rows.left")[1:3].shape == (2, 0)


def test_a_slice_decodes_only_its_chunks(tmp_path):
    """Damage elsewhere in the tensor does not matter to a slice that does not need it."""
    data = weights(4096, 1024)
    znn.safetensors.numpy.save_file({"t": data}, tmp_path / "t")
    damaged = bytearray((tmp_path / "t").read_bytes())
    damaged[len(damaged) * 3 // 4] ^= 1
    (tmp_path / "t").write_bytes(damaged)
    file = ours.safe_open(tmp_path / "t", "np")
    assert np.array_equal(file.get_slice("t")[100:200, 5:9], data[100:200, 5:9])
    with pytest.raises(ours.SafetensorError, match="'t'"):
        file.get_tensor("t")


def some_index(random, shape):
    """An index of integers, slices, None and an ellipsis, for an array of that shape; a wrong one at times."""
    items = []
    for n in shape[: random.randint(1, len(shape))]:
        a, b, step = random.randrange(-n, n), random.randrange(-n, n), random.randint(1, n)
        slices = [slice(None), slice(a, b), slice(a, None, step), slice(None, None, step), slice(a, b, -1)]
        items.append(random.choice([a, np.int64(a), *slices]))
    if random.random() < 0.3:
        items.insert(random.randint(0, len(items)), None)
    if random.random() < 0.3:
        items.insert(random.randint(0, len(items)), Ellipsis)
    if random.random() < 0.05:
        items.append(random.choice([99, [0, 1], "a"]))
    return tuple(items)


@pytest.mark.parametrize("block, gap", [(1, 0), (64, 8), (1000, 100), (300, 10**9)])
def test_slices_made_of_blocks_are_the_frameworks_own(tmp_path, monkeypatch, block, gap):
    monkeypatch.setattr(ours._open, "_BLOCK", block)
    monkeypatch.setattr(ours._open, "_GAP", gap)
    arrays = {"2": weights(40, 30), "3": weights(7, 20, 30), "4": weights(3, 5, 11, 6), "1": weights(1000)}
    znn.safetensors.numpy.save_file(arrays, tmp_path / "t")
    file, random = ours.safe_open(tmp_path / "t", "np"), Random(block)
    for _ in range(1000):
        name = random.choice(list(arrays))
        index = some_index(random, arrays[name].shape)
        try:
            expected = arrays[name][index]
        except IndexError:
            with pytest.raises(IndexError):
                file.get_slice(name)[index]
            continue
        found = file.get_slice(name)[index]
        assert found.dtype == expected.dtype and found.shape == expected.shape, (name, index)
        assert np.array_equal(found, expected), (name, index)


def test_columns_of_long_rows_decode_only_their_chunks(tmp_path):
    data = weights(4, 1 << 20)  # rows of 4 MB
    znn.safetensors.numpy.save_file({"t": data}, tmp_path / "t")
    damaged = bytearray((tmp_path / "t").read_bytes())
    for eighth in (1, 3, 5, 7):  # the middles of the rows
        damaged[len(damaged) * eighth // 8] ^= 1
    (tmp_path / "t").write_bytes(damaged)
    part = ours.safe_open(tmp_path / "t", "np").get_slice("t")
    assert np.array_equal(part[:, 100:5000], data[:, 100:5000])
    assert np.array_equal(part[::3, -7], data[::3, -7])
    with pytest.raises(ours.SafetensorError, match="'t'"):
        part[:, 1 << 19]


@pytest.mark.parametrize("index", ["[:, 5:9]", "[..., 7]", "[3::1000]", "[100:, ::100]"])
def test_columns_take_no_memory_for_the_rest(tmp_path, index):
    """Of a tensor of 400 MB, in a process that may have 250 MB of data."""
    size = 400 << 20
    path = by_hand(tmp_path / "p", {"w": entry(0, size, "F32", [100 << 10, 1 << 10])}, b"")
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size + size)
    ours.compress_file(path, tmp_path / "c")
    code = f"""
import resource
import numpy
import znn.safetensors as zs
resource.setrlimit(resource.RLIMIT_DATA, (250 << 20, 250 << 20))
part = zs.safe_open({str(tmp_path / "c")!r}, "np").get_slice("w")
assert not part{index}.any()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("block, gap", [(1, 0), (640, 240), (10**6, 500), (300, 10**9)])
@pytest.mark.parametrize("framework", ["np", "pt"])
def test_rows_by_a_list_are_the_frameworks_own(tmp_path, monkeypatch, framework, block, gap):
    if framework == "pt":
        torch = pytest.importorskip("torch")
    monkeypatch.setattr(ours._open, "_BLOCK", block)
    monkeypatch.setattr(ours._open, "_GAP", gap)
    monkeypatch.setattr(ours._open, "_READ", gap)
    data = {"1": weights(1000), "2": weights(400, 30), "3": weights(70, 20, 30)}
    znn.safetensors.numpy.save_file(data, tmp_path / "t")
    file, random = ours.safe_open(tmp_path / "t", framework), Random(gap)
    if framework == "pt":
        data = {name: torch.from_numpy(array) for name, array in data.items()}
    for _ in range(300):
        name = random.choice(list(data))
        whole, n = data[name], len(data[name])
        rows = [random.randrange(-n, n) for _ in range(random.randrange(7))]
        if random.random() < 0.4:
            first = random.randrange(n - 9)
            rows = list(range(first, first + 9))
        index = random.choice([rows, np.array(rows, int) if framework == "np" else torch.tensor(rows, dtype=int)])
        more = [Ellipsis, slice(3, 9), slice(None, None, 4), 5, -1, [0] * len(rows)][: 6 if whole.ndim > 1 else 1]
        if random.random() < 0.5:
            index = index, random.choice(more)
        expected, found = np.asarray(whole[index]), np.asarray(file.get_slice(name)[index])
        assert found.dtype == expected.dtype and np.array_equal(found, expected), (name, index)
        if random.random() < 0.1:
            with pytest.raises(IndexError):
                file.get_slice(name)[[*rows, n]]


def test_rows_by_a_list_decode_only_their_chunks(tmp_path):
    data = weights(4096, 1024)
    znn.safetensors.numpy.save_file({"t": data}, tmp_path / "t")
    damaged = bytearray((tmp_path / "t").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "t").write_bytes(damaged)
    part = ours.safe_open(tmp_path / "t", "np").get_slice("t")
    rows = [4000, 7, -4096, 7, 8, 9, 1500]
    assert np.array_equal(part[rows], data[rows])
    assert np.array_equal(part[np.array(rows), 5:9], data[rows, 5:9])
    with pytest.raises(ours.SafetensorError, match="'t'"):
        part[[0, 2048]]


def test_many_rows_by_a_list_are_decoded_once(tmp_path, monkeypatch):
    """Where the rows are all over the tensor, it is decoded in one go, rather than its chunks again and again."""
    data = weights(4096, 1024)
    znn.safetensors.numpy.save_file({"t": data}, tmp_path / "t")
    calls = []
    read = ours._open._Source.read
    monkeypatch.setattr(ours._open._Source, "read", lambda self, *a: (calls.append(a), read(self, *a))[1])
    rows = list(range(0, 4096, 3))
    assert np.array_equal(ours.safe_open(tmp_path / "t", "np").get_slice("t")[rows], data[rows])
    assert len(calls) == 1


def test_changing_a_loaded_tensor_changes_no_file(either):
    before = either.read_bytes()
    ours.safe_open(either, "np").get_tensor("noise")[:] = 0
    gc.collect()
    assert either.read_bytes() == before


def test_a_slice_outlives_its_file(either):
    with ours.safe_open(either, "np") as file:
        part = file.get_slice("ids")
    assert np.array_equal(part[3], TENSORS["ids"][3])


@pytest.mark.parametrize(
    "use", [lambda f: f.keys(), lambda f: f.metadata(), lambda f: f.get_tensor("ids"), lambda f: f.get_slice("ids")]
)
def test_a_closed_file_gives_nothing(either, use):
    with ours.safe_open(either, "np") as file:
        pass
    with pytest.raises(theirs.SafetensorError, match="closed"):
        use(file)


def test_a_name_that_is_not_there_is_an_error(either):
    with pytest.raises(theirs.SafetensorError, match="nope"):
        ours.safe_open(either, "np").get_tensor("nope")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ours.safe_open(tmp_path / "nope", "np")


@pytest.mark.parametrize(
    "arguments", [{"framework": "foo"}, {"framework": "np", "device": "cuda:0"}, {"framework": "np", "backend": "x"}]
)
def test_unknown_frameworks_devices_and_backends_are_errors(either, arguments):
    with pytest.raises(theirs.SafetensorError):
        ours.safe_open(either, **arguments)


@pytest.mark.parametrize(
    "arguments", [("p", None), ("p", 1), (3, "np"), (None, "np"), (b"p", 2)], ids=lambda arguments: repr(arguments)
)
def test_arguments_of_other_types_are_type_errors(tmp_path, arguments):
    plain_file(tmp_path / "p")
    filename, framework = arguments
    filename = tmp_path / "p" if filename == "p" else filename
    for package in (theirs, ours):
        with pytest.raises(TypeError):
            package.safe_open(filename, framework)


@pytest.mark.parametrize("name", [None, 1])
def test_names_of_other_types_are_type_errors(plain, either, name):
    for file in (theirs.safe_open(plain, "np"), ours.safe_open(either, "np")):
        for method in (file.get_tensor, file.get_slice):
            with pytest.raises(TypeError):
                method(name)


@pytest.mark.parametrize("framework", ["tf", "flax", "mlx", "paddle"])
def test_other_frameworks_are_refused_with_what_there_is(either, framework):
    with pytest.raises(ours.SafetensorError, match=f"{framework} .* pt and numpy"):
        ours.safe_open(either, framework)


def test_the_device_may_be_left_to_the_default(either):
    assert ours.safe_open(either, "np", device=None).get_tensor("scalar") == 2.5


def signatures(package, numpy):
    functions = [getattr(numpy, name) for name in ("load", "load_file", "save", "save_file")]
    return [inspect.signature(function).parameters.values() for function in (*functions, package.safe_open)]


def test_arguments_have_the_names_the_order_and_the_defaults_of_safetensors():
    for mine, original in zip(signatures(ours, znn.safetensors.numpy), signatures(theirs, safetensors.numpy)):
        begin = [(p.name, p.kind) for p in original]
        assert [(p.name, p.kind) for p in mine][: len(begin)] == begin
        for a, b in zip(mine, original):
            assert a.default == b.default or b.default is ...
        for p in list(mine)[len(begin) :]:  # ours alone
            assert p.kind is p.KEYWORD_ONLY and p.default is not p.empty


def test_tensors_can_be_loaded_from_bytes(either):
    found = znn.safetensors.numpy.load(either.read_bytes())
    assert {name: tensor.tobytes() for name, tensor in found.items()} == {n: t.tobytes() for n, t in TENSORS.items()}


def test_threads_may_share_a_file(compressed):
    from concurrent.futures import ThreadPoolExecutor

    file = ours.safe_open(compressed, "np")
    with ThreadPoolExecutor(4) as pool:
        for name, tensor in zip(TENSORS, pool.map(file.get_tensor, TENSORS)):
            assert tensor.tobytes() == TENSORS[name].tobytes()


# ---- Saving ----


@pytest.mark.parametrize("metadata", [None, {}, {"ü": "\n \x7f"}])
def test_saved_files_are_those_of_safetensors_compressed(tmp_path, metadata):
    znn.safetensors.numpy.save_file(TENSORS, tmp_path / "c", metadata)
    ours.decompress_file(tmp_path / "c", tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == safetensors.numpy.save(TENSORS, metadata)


def test_save_gives_the_bytes_of_save_file(tmp_path):
    ours.save_file(TENSORS, tmp_path / "c", {"a": "b"})
    assert ours.save(TENSORS, {"a": "b"}) == (tmp_path / "c").read_bytes()


def test_saving_does_not_change_tensors():
    before = {name: tensor.tobytes() for name, tensor in TENSORS.items()}
    ours.save(TENSORS)
    assert before == {name: tensor.tobytes() for name, tensor in TENSORS.items()}


def test_arrays_of_any_order_are_saved_by_their_elements():
    data = weights(30, 40)
    loaded = znn.safetensors.numpy.load(ours.save({"t": data.T, "b": data.astype(">f4")}))
    assert np.array_equal(loaded["t"], data.T) and np.array_equal(loaded["b"], data)


@pytest.mark.parametrize(
    "tensors, error",
    [
        ([1], ValueError),
        ({"a": 1}, ValueError),
        ({1: weights(2)}, TypeError),
        ({"a": np.zeros(2, "c16")}, ours.SafetensorError),
    ],
)
def test_what_is_no_tensor_is_not_saved(tensors, error):
    with pytest.raises(error):
        ours.save(tensors)


def test_metadata_that_are_no_texts_are_refused():
    with pytest.raises(TypeError):
        ours.save(TENSORS, {"a": 1})


# ---- Hostile files ----


def entry(begin, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header, data, words",
    [
        (b"", b"", "short"),
        (b"[1, 2, 3]", b"", "begin"),
        (b'{"a": ', b"", "JSON"),
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            b"1",
            "JSON",
        ),
        ({"a": entry(0, 9)}, b"12345", "'a'.*truncated"),
        ({"a": entry(0, 3)}, b"12345", "2 bytes"),
        ({"a": entry(0, 2), "b": entry(3, 5)}, b"12345", "'b'.*begins"),
        ({"a": entry(0, 3), "b": entry(2, 5)}, b"12345", "'b'.*begins"),
        ({"a": entry(0, 5, shape=[4])}, b"12345", "'a'.*shape"),
        ({"a": entry(0, 5, shape=[2**40, 2**40])}, b"12345", "'a'.*shape"),
        ({"a": entry(0, 5, "F32", [1])}, b"12345", "'a'.*F32"),
        ({"a": entry(0, 5, shape=[-5])}, b"12345", "'a'"),
        ({"a": entry(0, 5, shape=[5.0])}, b"12345", "'a'"),
        ({"a": entry(0, 5, shape="5")}, b"12345", "'a'"),
        ({"a": entry(5, 0, shape=[5])}, b"12345", "'a'"),
        ({"a": {"dtype": "U8", "shape": [5]}}, b"12345", "'a'"),
        ({"a": {"dtype": 8, "shape": [5], "data_offsets": [0, 5]}}, b"12345", "'a'"),
        ({"a": [1]}, b"", "'a'"),
        ({"__metadata__": {"a": 1}}, b"", "metadata"),
        ({"__metadata__": [1]}, b"", "metadata"),
        (b'{"a":[' + b"0," * 100000 + b"0]}", b"", "too many"),
        (b'{"a":' + b"[" * 100000, b"", ""),
    ],
)
def test_bad_headers_are_refused_with_reasons(tmp_path, header, data, words):
    path = by_hand(tmp_path / "bad", header, data)
    for use in (lambda: ours.safe_open(path, "np"), lambda: ours.compress_file(path, tmp_path / "out")):
        with pytest.raises(ours.SafetensorError, match=f"bad: .*{words}"):
            use()
    assert not (tmp_path / "out").exists()


def test_a_header_that_is_cut_is_refused(tmp_path, plain):
    (tmp_path / "cut").write_bytes(plain.read_bytes()[:100])
    with pytest.raises(ours.SafetensorError, match="ends before its header"):
        ours.safe_open(tmp_path / "cut", "np")


def forged(path, plain_header, header, data, version=1, **note):
    note = {
        "version": version,
        "header": plain_header if isinstance(plain_header, str) else json.dumps(plain_header),
    } | note
    return by_hand(path, {"__metadata__": {"znn": json.dumps(note)}, **header}, data)


FRAME = znn.compress(bytes(1000))
N = len(FRAME)


@pytest.mark.parametrize(
    "plain_header, header, data, words",
    [
        ({"a": entry(0, 999)}, {"a": entry(0, N)}, FRAME, "'a'.*holds 1000.*999"),
        ({"a": entry(0, 10**15)}, {"a": entry(0, N)}, FRAME, "'a'.*holds 1000"),
        ({"a": entry(0, 1000)}, {"a": entry(0, N)}, bytes(N), "'a'"),
        ({"a": entry(0, 1000)}, {"a": entry(0, N - 1)}, FRAME[:-1], "'a'"),
        ({"a": entry(0, 1000)}, {"a": entry(0, N, "I8")}, FRAME, "'a'.*I8"),
        ({"a": entry(0, 1000)}, {"a": entry(0, N, shape=[1, N])}, FRAME, "'a'"),
        ({"a": entry(0, N - 1)}, {"a": entry(0, N)}, FRAME, "'a'"),
        ({"a": entry(0, 8, "F32", [2])}, {"a": entry(0, 8, "I32", [2])}, bytes(8), "'a'.*I32"),
        ({"a": entry(0, 8, "F32", [2])}, {"a": entry(0, 8, "F32", [1, 2])}, bytes(8), "'a'"),
        ({"b": entry(0, 1000)}, {"a": entry(0, N)}, FRAME, "'a'"),
        ({}, {"a": entry(0, N)}, FRAME, "1 tensors.*0"),
        ("[]", {"a": entry(0, N)}, FRAME, "header"),
        ("", {"a": entry(0, N)}, FRAME, "header"),
        ('{"a": 1}', {"a": entry(0, N)}, FRAME, "'a'"),
    ],
)
def test_forged_compressed_files_are_refused_with_reasons(tmp_path, plain_header, header, data, words):
    path = forged(tmp_path / "forged", plain_header, header, data)
    with pytest.raises(ours.SafetensorError, match=f"forged: .*{words}"):
        ours.decompress_file(path, tmp_path / "out")
    with pytest.raises(ours.SafetensorError, match=words):
        ours.load_file(path, framework="np")
    assert sorted(os.listdir(tmp_path)) == ["forged"]


def test_a_later_layout_is_refused(tmp_path):
    path = forged(tmp_path / "later", {}, {}, b"", version=2)
    with pytest.raises(ours.SafetensorError, match="later version"):
        ours.safe_open(path, "np")


def test_a_frame_that_claims_much_is_refused_before_memory_is_taken(tmp_path):
    """A tensor of a petabyte, as the header has it, and a frame of a kilobyte."""
    path = forged(tmp_path / "huge", {"a": entry(0, 10**15)}, {"a": entry(0, N)}, FRAME)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ours.SafetensorError, match="'a'"):
        ours.decompress_file(path, tmp_path / "out")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_damage_names_the_tensor(compressed):
    header, _ = header_of(compressed)
    data = bytearray(compressed.read_bytes())
    begin, end = header["layer.0.weight"]["data_offsets"]
    data[8 + struct.unpack("<Q", data[:8])[0] + (begin + end) // 2] ^= 1
    compressed.write_bytes(data)
    file = ours.safe_open(compressed, "np")
    assert np.array_equal(file.get_tensor("layer.1.weight"), TENSORS["layer.1.weight"])
    with pytest.raises(ours.SafetensorError, match="compressed.safetensors: tensor 'layer.0.weight'"):
        file.get_tensor("layer.0.weight")


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_chunks_of_one_size_that_changed_places_name_the_tensor(tmp_path, backend):
    """Each is what its own checksum says, and the table fits as before."""
    chunk = 256 << 10
    data = weights(2 * chunk)  # 8 chunks, which shrink; the table's entries of equal sizes are found below
    noise = np.random.default_rng(5).standard_normal(chunk // 2).astype("f8") * 1e-3
    znn.safetensors.numpy.save_file({"t": data, "u": noise}, tmp_path / "c")
    header, _ = header_of(tmp_path / "c")
    file = bytearray((tmp_path / "c").read_bytes())
    begin, end = (8 + struct.unpack("<Q", file[:8])[0] + at for at in header["t"]["data_offsets"])
    chunks = struct.unpack_from("<Q", file, end - 48)[0]
    sizes = [struct.unpack_from("<II", file, end - 48 - 8 * (chunks - i)) for i in range(chunks)]
    places = [begin + 32 + sum(stored for _, stored in sizes[:i]) for i in range(chunks)]
    a, b = chunks - 3, chunks - 2
    assert sizes[a][0] == sizes[b][0] and chunks >= 4
    first, second = (file[places[i] : places[i] + sizes[i][1]] for i in (a, b))
    file[places[a] : places[b] + sizes[b][1]] = second + first
    for i, (content, stored) in ((a, sizes[b]), (b, sizes[a])):
        struct.pack_into("<II", file, end - 48 - 8 * (chunks - i), content, stored)
    table = bytes(file[end - 48 - 8 * chunks - 8 : end - 8])
    struct.pack_into("<I", file, end - 8, xxhash.xxh3_64_intdigest(table) & 0xFFFFFFFF)
    (tmp_path / "c").write_bytes(file)

    opened = ours.safe_open(tmp_path / "c", "np", backend=backend)
    assert opened.get_tensor("u").tobytes() == noise.tobytes()
    for read in (lambda: opened.get_tensor("t"), lambda: opened.get_slice("t")[:]):
        with pytest.raises(ours.SafetensorError, match="'t': .*checksum"):
            read()
    with pytest.raises(ours.SafetensorError, match="'t': .*checksum"):
        ours.decompress_file(tmp_path / "c", tmp_path / "back")
    with pytest.raises(ours.SafetensorError, match="'t': .*checksum"):
        ours.load(bytes(file), framework="np")


def test_no_damage_to_frames_passes(plain, compressed, tmp_path):
    good = compressed.read_bytes()
    data = 8 + struct.unpack("<Q", good[:8])[0]
    before, after = header_of(plain)[0], header_of(compressed)[0]
    frames = [after[name]["data_offsets"] for name in TENSORS if after[name]["shape"] != before[name]["shape"]]
    path, out = tmp_path / "d", tmp_path / "o"
    for begin, end in frames:
        for at in range(data + begin, data + end, 499):
            damaged = bytearray(good)
            damaged[at] ^= 1 << at % 8
            path.write_bytes(damaged)
            try:
                ours.decompress_file(path, out)
            except ours.SafetensorError as error:
                assert "tensor '" in str(error)
            else:
                assert out.read_bytes() == plain.read_bytes()


def test_random_damage_to_the_header_is_an_error_or_a_sound_file(compressed, tmp_path):
    good = compressed.read_bytes()
    size = struct.unpack("<Q", good[:8])[0]
    path, out = tmp_path / "d", tmp_path / "o"
    for at in range(0, 8 + size, 13):
        damaged = bytearray(good)
        damaged[at] ^= 1 << at % 7
        path.write_bytes(damaged)
        try:
            ours.load_file(path, framework="np")
            if ours.is_compressed(path):
                ours.decompress_file(path, out)
        except (ours.SafetensorError, TypeError, UnicodeDecodeError):
            continue
