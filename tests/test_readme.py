"""What README.md shows of the command and of the library is typed as it stands, from top to bottom.

Its Python is run by python/tests/test_documents.py.
"""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from test_cli import bf16_bytes, safetensors_bytes
from test_install import installed  # noqa: F401: a fixture

README = (ROOT / "README.md").read_text()


def section(title):
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    return text


def commands(title):
    """The indented lines, comments and all: a shell reads those as we do."""
    return re.findall(r"^    (.+)$", re.sub(r"^```.*?^```$", "", section(title), flags=re.M | re.S), re.M)


def type_in(lines, folder, **environment):
    """Into a shell that stops at the first that fails, and tells which it was."""
    script = "set -euo pipefail\nset -x\n" + "\n".join(lines)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=600,
                          stdin=subprocess.DEVNULL, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def clone(znn, tmp_path):
    """A folder as `make demo` leaves it, with a small model."""
    weights = np.random.default_rng(1).normal(0, 0.02, 300_000).astype("<f4").tobytes()
    content = safetensors_bytes({"a": ("F32", weights), "b": ("BF16", bf16_bytes(1000))})
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "znn").symlink_to(znn)
    (tmp_path / ".cache" / "demo").mkdir(parents=True)
    (tmp_path / ".cache" / "demo" / "all-MiniLM-L6-v2.safetensors").write_bytes(content)
    return tmp_path, content


def test_the_commands_run_from_top_to_bottom(clone, run_znn):
    root, content = clone
    lines = commands("The command")
    assert sum(line.startswith("znn ") for line in lines) > 10
    # Numbers of the demo's model, which is larger than the one here.
    lines = [line.replace("tail -c 40000000", "tail -c 400000") for line in lines]
    shown = type_in(lines, root)
    assert "all-MiniLM" not in shown.stderr.split("znn model.safetensors")[1], "the demo's file is left alone"
    folder = root / ".cache" / "try"
    assert (root / ".cache/demo/all-MiniLM-L6-v2.safetensors").read_bytes() == content
    left = {path.name: path for path in folder.iterdir()}
    assert "model.safetensors" not in left, "--rm"
    for name, plain in [("model.safetensors.znn", content), ("smallest.znn", content), ("old.znn", content[-400_000:]),
                        ("weights.raw.znn", content[-400_000:])]:
        assert run_znn("-dc", left[name]).stdout == plain
        assert b"XXH3 checksum" in run_znn("-l", left[name]).stdout, "a frame of znn's"
    assert run_znn("-dc", left["model.znn.safetensors"]).stdout == content
    assert "memcpy" in shown.stdout and "method" in shown.stdout


def test_the_demo_makes_what_the_commands_begin_with():
    first = re.search(r"cp \.\./demo/(\S+)", section("The command")).group(1)
    assert f'"{first}"' in (ROOT / "scripts/demo.py").read_text()


def test_what_the_readme_asks_make_for_is_there():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"^    make (\w+)", README, re.M):
        assert target in targets


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="pkg-config is not here")
def test_the_c_program_builds_and_runs_as_shown(installed, tmp_path):  # noqa: F811
    (program,) = re.findall(r"^```c\n(.*?)^```$", README, re.M | re.S)
    (tmp_path / "example.c").write_text(program)
    install, *lines = commands("The library")
    assert install.split("#")[0].strip() == "make install PREFIX=$HOME/.local"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".local").symlink_to(installed)  # what that line does is test_install.py's
    shown = type_in(lines, tmp_path, HOME=str(tmp_path / "home"), CFLAGS="-Wall -Werror").stdout
    assert re.fullmatch(r"200000 bytes in \d+: success\n", shown)
    assert int(shown.split()[3].rstrip(":")) < 1000
