""".venv-zipnn, where the package zipnn is: made when a test first needs it."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv-zipnn"
REQUIREMENTS = Path(__file__).with_name("zipnn_requirements.txt")
WORKER = Path(__file__).with_name("zipnn_worker.py")


@functools.cache
def interpreter():
    """Its Python, or the reason why there is none."""
    python, stamp = VENV / "bin" / "python", VENV / "znn-setup"
    if stamp.is_file() and stamp.read_bytes() == REQUIREMENTS.read_bytes():
        return python, None
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    done = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--cache-dir",
                           ROOT / ".cache" / "pip", "-r", REQUIREMENTS], capture_output=True, text=True)
    if done.returncode:
        return None, "zipnn cannot be installed: " + (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    shutil.copy(REQUIREMENTS, stamp)
    return python, None


def run_worker(*arguments):
    """zipnn_worker.py in that venv; skips the test where there is no zipnn."""
    python, reason = interpreter()
    if not python:
        pytest.skip(reason)
    done = subprocess.run([python, WORKER, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
