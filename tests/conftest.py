"""What the end-to-end tests share: the command under test, and how to run it.

ZNN names the command to test (default build/znn), so that a sanitized build
can be put through the same tests.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "data"))

# Temporary files stay in the checkout, which may be on a larger disk than /tmp too.
TEMPORARY = ROOT / ".cache" / "tmp"
TEMPORARY.mkdir(parents=True, exist_ok=True)
os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.tempdir = str(TEMPORARY)


@pytest.fixture(scope="session")
def znn():
    """The path of the command."""
    path = Path(os.environ.get("ZNN", ROOT / "build" / "znn")).resolve()
    assert path.is_file(), f"{path} is missing: run make first"
    return str(path)


@pytest.fixture(scope="session")
def run_znn(znn):
    """run_znn("-d", file, ...): the finished process; by default it must have exited with 0."""

    def run(*arguments, status=0, **kwargs):
        done = subprocess.run([znn, *map(str, arguments)], capture_output=True, timeout=600, **kwargs)
        if status is not None:
            assert done.returncode == status, (arguments, done.returncode, done.stderr.decode(errors="replace"))
        return done

    return run
