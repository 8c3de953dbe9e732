"""The znn command that comes with the package, on .safetensors files."""

import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

import znn.safetensors as zs  # noqa: E402
import znn.safetensors.numpy  # noqa: E402

COMMAND = Path(sys.executable).with_name("znn")


@pytest.fixture
def run():
    def run(*arguments, status=0):
        done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stderr

    return run


@pytest.fixture
def files(tmp_path):
    """compressed.safetensors, and plain.safetensors of the same content."""
    weights = np.random.default_rng(1).standard_normal((300, 400)).astype("f2")
    zs.save_file({"layer.w": weights, "scalar": np.array(1.0)}, tmp_path / "compressed.safetensors", {"a": "b"})
    zs.decompress_file(tmp_path / "compressed.safetensors", tmp_path / "plain.safetensors")
    return tmp_path


def test_it_is_the_packages_version(run):
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"znn {znn.__version__} ")


def test_it_makes_the_file_that_python_makes(run, files):
    run("--safetensors", files / "plain.safetensors")
    assert (files / "plain.znn.safetensors").read_bytes() == (files / "compressed.safetensors").read_bytes()


def test_it_restores_the_plain_file(run, files):
    (files / "compressed.safetensors").rename(files / "c.znn.safetensors")
    run("--safetensors", "-d", files / "c.znn.safetensors")
    assert (files / "c.safetensors").read_bytes() == (files / "plain.safetensors").read_bytes()


def test_rm_removes_the_source_after_verifying(run, files):
    before = (files / "plain.safetensors").read_bytes()
    run("--safetensors", "--rm", files / "plain.safetensors")
    assert not (files / "plain.safetensors").exists()
    run("--safetensors", "--rm", "-d", files / "plain.znn.safetensors")
    assert (files / "plain.safetensors").read_bytes() == before and not (files / "plain.znn.safetensors").exists()


def test_an_existing_file_is_kept_unless_forced(run, files):
    (files / "plain.znn.safetensors").write_bytes(b"old")
    assert "already exists" in run("--safetensors", files / "plain.safetensors", status=1)
    assert (files / "plain.znn.safetensors").read_bytes() == b"old"
    run("--safetensors", "-f", files / "plain.safetensors")
    assert zs.is_compressed(files / "plain.znn.safetensors")


def test_testing_names_the_damaged_tensor_and_writes_nothing(run, files):
    path = files / "compressed.safetensors"
    run("--safetensors", "-t", path)
    damaged = bytearray(path.read_bytes())
    damaged[-1000] ^= 1
    path.write_bytes(damaged)
    assert "tensor 'layer.w'" in run("--safetensors", "-t", path, status=1)
    assert "tensor 'layer.w'" in run("--safetensors", "-d", path, "-o", files / "out", status=1)
    assert sorted(p.name for p in files.iterdir()) == ["compressed.safetensors", "plain.safetensors"]


@pytest.mark.parametrize("arguments", [["-c"], ["-r"], ["-b"]])
def test_what_does_not_go_with_it_is_wrong_usage(run, files, arguments):
    assert "--safetensors" in run("--safetensors", *arguments, files / "plain.safetensors", status=2)


def test_compressed_and_plain_are_not_taken_for_one_another(run, files):
    assert "compressed already" in run("--safetensors", files / "compressed.safetensors", status=1)
    assert "plain" in run("--safetensors", "-d", files / "plain.safetensors", "-o", files / "out", status=1)
