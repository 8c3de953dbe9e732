"""The Python that README.md and docs/PYTHON.md show is run as it stands, and the commands of the latter.

The rest of README.md is run by tests/test_readme.py.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

for needed in ("torch", "transformers"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.hf

from hf_models import contents, make  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))

# What docs/PYTHON.md takes for granted; README.md stands by itself.
BEFORE_PYTHON_MD = """
import numpy
array = numpy.random.default_rng(1).standard_normal((300, 200)).astype("f4")
other_array = numpy.zeros_like(array)
"""
# What the documents promise of what they show.
AFTER = """
import torch
from transformers import AutoModel
assert data == array.tobytes() and len(frame) < len(data)
one, other = (AutoModel.from_pretrained(name).state_dict() for name in ("model", "compressed"))
assert one and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
"""
AFTER_README_MD = """
assert (same == array).all()
assert all(torch.equal(tensor, one[name]) for name, tensor in model.state_dict().items())
"""
AFTER_PYTHON_MD = """
from transformers import AutoModelForCausalLM
assert (other_array == array).all()
assert torch.equal(rows, AutoModelForCausalLM.from_pretrained("model").state_dict()["lm_head.weight"][:16])
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


def test_the_python_of_the_readme_runs_in_an_empty_folder(tmp_path):
    program = blocks("README.md", "python")
    assert len(program) == 2
    run([sys.executable, "-W", "ignore", "-c", "\n".join([*program, AFTER, AFTER_README_MD])], tmp_path)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("model", "compressed")]
    assert sizes[1] < 0.9 * sizes[0]


def test_the_python_of_the_manual_runs(model):
    plain = contents(model / "model")
    program = [block for block in blocks("docs/PYTHON.md", "python") if "autoload" not in block]
    assert program
    program = [BEFORE_PYTHON_MD, *program, AFTER, AFTER_PYTHON_MD]
    run([sys.executable, "-W", "ignore", "-c", "\n".join(program)], model)
    assert contents(model / "model") == plain
    assert (model / "compressed" / "model.safetensors").stat().st_size < (model / "model.safetensors").stat().st_size
    assert contents(model / "original") == plain


def test_what_the_readme_has_pip_install_is_there():
    extras = re.findall(r"^    pip install '\.\[(\w+)\]'", (ROOT / "README.md").read_text(), re.M)
    assert extras == ["hf"]
    assert set(extras) <= set(importlib.metadata.metadata("znn").get_all("Provides-Extra"))


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
