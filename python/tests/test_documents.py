"""What README.md and docs/PYTHON.md show is run as it stands: every block of Python, and the commands of README.md."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

for needed in ("torch", "transformers"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.hf

import znn  # noqa: E402
import znn.safetensors  # noqa: E402
from hf_models import contents, make  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))

BEFORE = """
import numpy
array = numpy.random.default_rng(1).standard_normal((300, 200)).astype("f4")
other_array = numpy.zeros_like(array)
"""
# What the documents promise of what they show.
AFTER = """
import torch
from transformers import AutoModelForCausalLM
assert data == array.tobytes() and len(frame) < len(data)
one, other = (AutoModelForCausalLM.from_pretrained(name).state_dict() for name in ("model", "compressed"))
assert one and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
"""
AFTER_PYTHON_MD = """
assert (other_array == array).all()
assert torch.equal(rows, one["lm_head.weight"][:16])
"""


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make("llama", tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def files(made, tmp_path):
    """A folder with a model's weights."""
    shutil.copy(made / "model.safetensors", tmp_path)
    return tmp_path


@pytest.fixture
def model(made, files):
    """And with the whole model beside them."""
    shutil.copytree(made, files / "model")
    return files


def run(command, folder, **environment):
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        **environment,
    }
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document, more", [("README.md", ""), ("docs/PYTHON.md", AFTER_PYTHON_MD)])
def test_the_python_of_the_documents_runs(model, document, more):
    plain = contents(model / "model")
    program = [block for block in blocks(document, "python") if "autoload" not in block]
    assert program
    run([sys.executable, "-W", "ignore", "-c", "\n".join([BEFORE, *program, AFTER, more])], model)
    assert contents(model / "model") == plain
    assert (model / "compressed" / "model.safetensors").stat().st_size < (model / "model.safetensors").stat().st_size
    if (model / "original").exists():
        assert contents(model / "original") == plain


def commands():
    (section,) = re.findall(r"^## The command\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    return [line.partition("  #")[0].strip() for line in re.findall(r"^    (.+)$", section, re.M)]


def test_the_commands_are_found():
    assert len(commands()) > 9 and "znn model.safetensors" in commands()


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_readme_run(files, command):
    """Each in a folder that has the files it names, and nothing that is in its way; what it restores is as it was."""
    plain = (files / "model.safetensors").read_bytes()
    forms = {
        "model.safetensors.znn": lambda path: path.write_bytes(znn.compress(plain)),
        "model.znn.safetensors": lambda path: znn.safetensors.compress_file(files / "model.safetensors", path),
        "model.znn": lambda path: path.write_bytes(znn.compress(plain, format="zipnn")),
        "weights.raw": lambda path: path.write_bytes(plain),
        "FOLDER": lambda path: (path.mkdir(), (path / "model.znn").write_bytes(znn.compress(plain, format="zipnn"))),
    }
    for word in shlex.split(command.partition(" > ")[0]):
        if word in forms:
            forms[word](files / word)
    restores = " -d " in command
    if restores:
        (files / "model.safetensors").unlink()
    before = set(os.listdir(files))
    printed = run(["bash", "-c", command], files)
    if restores:
        (restored,) = set(os.listdir(files)) - before
        assert (files / restored).read_bytes() == plain
    elif "FOLDER" in command:
        (path,) = (files / "FOLDER").iterdir()
        assert znn.is_frame(path.read_bytes()) and znn.decompress(path.read_bytes()) == plain
    else:
        assert printed or set(os.listdir(files)) != before or " -t " in command


def test_the_commands_for_the_hubs_cache_run(model):
    """As docs/PYTHON.md has them, one after the other."""
    pytest.importorskip("matplotlib")
    commit, plain = "0123456789abcdef0123456789abcdef01234567", contents(model / "model")
    folder = model / "cache" / "models--org--model"
    snapshot = folder / "snapshots" / commit
    for path in (folder / "blobs", folder / "refs", snapshot):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    for name, digest in plain.items():
        shutil.copy(model / "model" / name, folder / "blobs" / digest)
        os.symlink(f"../../blobs/{digest}", snapshot / name)
    (section,) = re.findall(r"^## The Hub's cache\n(.*)", (ROOT / "docs/PYTHON.md").read_text(), re.M | re.S)
    shown = [line.partition("  #")[0].strip() for line in re.findall(r"^    (znn-hub .+)$", section, re.M)]
    assert {line.split()[1] for line in shown} == {"ls", "compress", "decompress", "verify"}
    for command in shown:
        assert run(["bash", "-c", command], model, HF_HUB_CACHE=str(model / "cache"))
        if command.startswith("znn-hub compress"):
            assert contents(snapshot) != plain and (snapshot / "znn.json").exists()
    assert contents(snapshot) == plain and (model / "cache.png").exists()
