"""ZipNN's files, exchanged with the package zipnn 0.5.4 by the command: what it writes is read, and the other way."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import zipnn_cases
import zipnn_venv

CASES = {name: (dtype, size, kind) for name, dtype, size, kind in zipnn_cases.cases()}


def made_by_zipnn(what, factory):
    folder = factory.mktemp(what)
    zipnn_venv.run_worker(what, folder)
    return folder


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return made_by_zipnn("matrix", tmp_path_factory)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return made_by_zipnn("others", tmp_path_factory)


@pytest.fixture(scope="module")
def safetensors_files(tmp_path_factory):
    return made_by_zipnn("safetensors", tmp_path_factory)


@pytest.fixture
def tensors(safetensors_files, tmp_path):
    """with.znn.safetensors and without.znn.safetensors, beside the files they were made of."""
    return shutil.copytree(safetensors_files, tmp_path, dirs_exist_ok=True)


# ---- The matrix ----


@pytest.mark.parametrize("name", CASES)
def test_what_zipnn_wrote_is_read(run_znn, matrix, name):
    if name in zipnn_cases.CANNOT_WRITE:
        pytest.skip("zipnn cannot write it")
    assert run_znn("-dc", matrix / f"{name}.znn").stdout == (matrix / f"{name}.raw").read_bytes()


@pytest.fixture(scope="module")
def read_by_zipnn(run_znn, matrix, tmp_path_factory):
    """The digests of what zipnn makes of our files: {name: sha256}."""
    folder = tmp_path_factory.mktemp("ours")
    for name, (dtype, _, kind) in CASES.items():
        if kind == "streaming":
            run_znn("--format", "zipnn", "--dtype", dtype, "-o", folder / f"{name}.znn", matrix / f"{name}.raw")
    zipnn_venv.run_worker("read", folder)
    return folder, json.loads((folder / "digests.json").read_text())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] == "streaming"])
def test_zipnn_reads_what_the_command_writes(matrix, read_by_zipnn, name):
    _, digests = read_by_zipnn
    assert digests[name] == hashlib.sha256((matrix / f"{name}.raw").read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", zipnn_cases.WIDTHS)
def test_our_streams_are_no_larger_than_zipnns_by_more_than_a_fifth_of_a_percent(matrix, read_by_zipnn, dtype):
    folder, _ = read_by_zipnn
    # float32 of that size is one that zipnn cannot write as bytes
    theirs = matrix / (f"{dtype}-several-torch.znn" if dtype == "float32" else f"{dtype}-several-streaming.znn")
    ours = folder / f"{dtype}-several-streaming.znn"
    size = zipnn_cases.SIZES["several"]
    assert ours.stat().st_size < size
    assert ours.stat().st_size <= theirs.stat().st_size + 0.002 * size


def test_the_dtype_is_found_if_none_is_given(run_znn, matrix):
    for dtype in ("bfloat16", "float16", "float32", "float8_e4m3fn"):
        source = matrix / f"{dtype}-several-byte.raw"
        given = run_znn("--format=zipnn", "--dtype", dtype, "-c", source).stdout
        assert len(run_znn("--format=zipnn", "-c", source).stdout) <= len(given) + 0.002 * source.stat().st_size


# ---- Other streams ----


@pytest.mark.parametrize("name", ["zstd-byte", "zstd-streaming", "lz4-byte", "lz4-streaming", "chunk-4096",
                                  "chunk-1048576", "streaming-65536"])
def test_other_layouts_are_read(run_znn, others, name):
    done = run_znn("-dc", others / f"{name}.znn", status=None)
    if name.startswith("lz4") and b"not supported" in done.stderr:
        pytest.skip("this build has no liblz4")
    assert done.stdout == (others / "content").read_bytes()


@pytest.mark.parametrize("name", [f"delta-{delta}-{kind}" for delta in ("byte", "file")
                                  for kind in ("byte", "streaming")])
def test_a_delta_is_read_with_its_base(run_znn, others, name):
    done = run_znn("-dc", "--base", others / "base", others / f"{name}.znn")
    assert done.stdout == (others / "content").read_bytes()


@pytest.mark.parametrize("name", [f"delta-{delta}-{kind}" for delta in ("byte", "file")
                                  for kind in ("byte", "streaming")])
def test_a_delta_is_tested_listed_and_converted_with_its_base(run_znn, others, tmp_path, name):
    source = shutil.copy(others / f"{name}.znn", tmp_path / "delta.znn")
    run_znn("-t", "--base", others / "base", source)
    run_znn("-t", source, status=1)
    listing = json.loads(run_znn("-l", "--json", source).stdout)
    assert listing["needs_base"] and listing["original_size"] == (others / "content").stat().st_size
    run_znn("--convert", "--rm", "--base", others / "base", source)
    assert not is_zipnn(tmp_path / "delta.znn")
    assert run_znn("-dc", tmp_path / "delta.znn").stdout == (others / "content").read_bytes()


@pytest.mark.parametrize("name", ["zstd-byte", "lz4-byte", "chunk-4096", "streaming-65536"])
def test_other_layouts_are_tested_listed_and_converted(run_znn, others, tmp_path, name):
    source = shutil.copy(others / f"{name}.znn", tmp_path / "other.znn")
    done = run_znn("-t", source, status=None)
    if name.startswith("lz4") and b"not supported" in done.stderr:
        pytest.skip("this build has no liblz4")
    assert done.returncode == 0
    listing = json.loads(run_znn("-l", "--json", source).stdout)
    assert listing["original_size"] == (others / "content").stat().st_size
    run_znn("--convert", "--rm", source)
    assert run_znn("-dc", tmp_path / "other.znn").stdout == (others / "content").read_bytes()


def test_a_delta_without_its_base_is_refused(run_znn, others):
    done = run_znn("-dc", others / "delta-byte-byte.znn", status=1)
    assert done.stdout == b"" and b"--base" in done.stderr


def test_a_base_of_another_size_is_refused(run_znn, others):
    done = run_znn("-dc", "--base", others / "zstd-byte.znn", others / "delta-byte-byte.znn", status=1)
    assert done.stdout == b"" and b"base" in done.stderr


# ---- The command ----


@pytest.fixture
def ours(run_znn, tmp_path):
    """weights.znn, ZipNN's, next to weights."""
    values = np.random.default_rng(1).normal(0, 0.02, 700_001).astype("<f4")
    (tmp_path / "weights").write_bytes((values.view("<u4") >> 16).astype("<u2").tobytes() + b"x")
    run_znn("--format", "zipnn", tmp_path / "weights")
    return tmp_path / "weights.znn"


def is_zipnn(path):
    return path.read_bytes()[:2] == b"ZN"


def test_a_pipe_is_read_too(run_znn, ours):
    assert run_znn("-d", input=ours.read_bytes()).stdout == ours.with_suffix("").read_bytes()


def test_a_pipe_can_be_written(run_znn, ours):
    content = ours.with_suffix("").read_bytes()
    assert run_znn("-c", "--format", "zipnn", "-", input=content).stdout == ours.read_bytes()


def test_both_formats_are_tested_and_listed_by_their_first_bytes(run_znn, ours, tmp_path):
    run_znn("-o", tmp_path / "native.znn", tmp_path / "weights")
    run_znn("-t", ours, tmp_path / "native.znn")
    zipnn, native = json.loads(run_znn("-l", "--json", ours, tmp_path / "native.znn").stdout)
    assert zipnn["format"] == "zipnn" and "format" not in native
    assert zipnn["original_size"] == native["original_size"] == (tmp_path / "weights").stat().st_size
    assert zipnn["stored_size"] == ours.stat().st_size
    assert [row["dtype"] for row in zipnn["dtypes"]] == ["bf16"]


def test_rm_removes_the_source_once_zipnns_form_is_verified(run_znn, ours, tmp_path):
    content = (tmp_path / "weights").read_bytes()
    ours.unlink()
    run_znn("--rm", "--format", "zipnn", tmp_path / "weights")
    assert os.listdir(tmp_path) == ["weights.znn"] and is_zipnn(ours)
    run_znn("-d", "--rm", ours)
    assert os.listdir(tmp_path) == ["weights"] and (tmp_path / "weights").read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "sizes", "version"])
def test_a_damaged_file_is_refused_and_nothing_is_written(run_znn, ours, tmp_path, damage):
    data = bytearray(ours.read_bytes())
    if damage == "cut":
        del data[-1]
    elif damage == "sizes":
        data[16:24] = (1 << 60).to_bytes(8, "little")
    else:
        data[3] = 77
    ours.write_bytes(data)
    for arguments in (["-d", "-o", tmp_path / "new"], ["-t"], ["-l"], ["--convert", "--rm"]):
        done = run_znn(*arguments, ours, status=1)
        assert b"weights.znn: " in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["weights", "weights.znn"] and ours.read_bytes() == data


# ---- safetensors ----


def tensors_of(path):
    """{name: (dtype, shape, bytes)} and the metadata."""
    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    metadata = header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[begin + entry["data_offsets"][0]:begin + entry["data_offsets"][1]])
            for name, entry in header.items()}, metadata


@pytest.mark.parametrize("name", ["with", "without"])
def test_compressed_safetensors_are_restored_with_metadata_and_without(run_znn, tensors, name):
    original = tensors / f"{name}.safetensors"
    before = original.read_bytes()
    original.unlink()
    run_znn("-d", tensors / f"{name}.znn.safetensors")
    # zipnn's script keeps tensors and metadata; where the library wrote the original, it is the same to the byte
    assert original.read_bytes() == before


def test_compressed_safetensors_are_listed_by_tensor(run_znn, tensors):
    listing = json.loads(run_znn("-l", "--json", tensors / "with.znn.safetensors").stdout)
    rows = {row["name"]: row for row in listing["tensors"]}
    originals, _ = tensors_of(tensors / "with.safetensors")
    assert {name: row["original_size"] for name, row in rows.items()} == {
        name: len(content) for name, (_, _, content) in originals.items()}
    assert rows["layer.0.bfloat16"]["stored_size"] < rows["layer.0.bfloat16"]["original_size"]


# ---- --convert ----


def test_convert_brings_a_folder_to_the_current_format(run_znn, ours, tensors):
    folder = tensors  # which is that of `ours` too
    content = (folder / "weights").read_bytes()
    plain = (folder / "with.safetensors").read_bytes()
    (folder / "deeper").mkdir()
    ours.rename(folder / "deeper" / "weights.znn")
    run_znn("-o", folder / "native.znn", folder / "weights")
    native = (folder / "native.znn").read_bytes()

    run_znn("--convert", "-r", "--rm", folder)

    assert sorted(path.name for path in folder.rglob("*.znn*")) == [
        "native.znn", "weights.znn", "with.safetensors.znn", "without.safetensors.znn"]
    assert not any(is_zipnn(path) for path in folder.rglob("*.znn"))
    assert run_znn("-dc", folder / "deeper" / "weights.znn").stdout == content
    assert run_znn("-dc", folder / "with.safetensors.znn").stdout == plain
    assert (folder / "native.znn").read_bytes() == native


def test_convert_without_rm_keeps_the_source(run_znn, ours, tmp_path):
    before = ours.read_bytes()
    run_znn("--convert", ours)
    assert ours.read_bytes() == before
    assert run_znn("-dc", tmp_path / "weights.new.znn").stdout == (tmp_path / "weights").read_bytes()


def test_convert_says_what_is_not_zipnns(run_znn, tmp_path):
    (tmp_path / "x.znn").write_bytes(b"something else altogether")
    done = run_znn("--convert", tmp_path / "x.znn", status=1)
    assert b"not a ZipNN file" in done.stderr
