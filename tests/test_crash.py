"""Whatever happens to the command or the disk, the source or the complete result is there, and nothing else.

The command is killed at every system call that changes something and at random moments, its calls are made to fail,
its disk is filled, and its source changes under its hands. ZNN_KILLS is the number of random moments (`make soak` takes
hundreds).
"""

import contextlib
import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from test_cli import bf16_bytes, last_message, names_in, safetensors_bytes, with_sanitizer

KILLS = int(os.environ.get("ZNN_KILLS", "40"))
CALLS = ["create", "flock", "read", "write", "ftruncate", "fchown", "fchmod", "futimens", "fsync", "close", "rename",
         "unlink"]


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """crash/shim.c, compiled."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim is for Linux")
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC",
                    "-o", path, ROOT / "tests/crash/shim.c", "-ldl"], check=True)
    return path


def shimmed(shim, order=None, **more):
    environment = with_sanitizer("verify_asan_link_order=0:detect_leaks=0")
    environment["LD_PRELOAD"] = str(shim)
    if order:
        environment["ZNN_SHIM"] = order
    return {**environment, **{name: str(value) for name, value in more.items()}}


class Case:
    """A use of the command in a folder of its own, and what an undisturbed run of it gives."""

    def __init__(self, znn, work, name, arguments, source, target, files):
        self.name, self.source, self.target, self.files = name, source, target, files
        self.command = [znn, *arguments, source]
        self.work = work / name
        self.removes = "--rm" in arguments
        self.fresh()
        begun = time.monotonic()
        subprocess.run(self.command, cwd=self.work, check=True)
        self.seconds = time.monotonic() - begun
        self.result = (self.work / target).read_bytes()
        self.calls = {}

    def fresh(self):
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for name, content in self.files.items():
            (self.work / name).write_bytes(content)

    def run(self, **kwargs):
        return subprocess.run(self.command, cwd=self.work, capture_output=True, timeout=600, **kwargs)

    def count(self, shim, call):
        """How often an undisturbed run calls it."""
        if not self.calls:
            self.fresh()
            log = self.work.with_suffix(".log")
            assert self.run(env=shimmed(shim, ZNN_SHIM_LOG=log)).returncode == 0
            self.calls = {name: log.read_text().splitlines().count(name) for name in CALLS}
        return sum(self.calls.values()) if call == "any" else self.calls[call]

    def has_result(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.work / self.target).read_bytes() == self.result
        return False

    def check(self, leftovers=0):
        """The source is whole or the result is; other names are as before; so many temporary files at most."""
        names = names_in(self.work)
        temporary = [name for name in names if name.startswith(".znn-") and name.endswith(".tmp")]
        assert len(temporary) <= leftovers, names
        assert set(names) - set(temporary) <= {*self.files, self.target}, names
        for name in set(names) - set(temporary):
            allowed = [self.files[name]] if name in self.files else []
            allowed += [self.result] if name == self.target else []
            assert (self.work / name).read_bytes() in allowed, name
        assert self.source in names or self.has_result()

    def check_second_run(self):
        """A second run leaves the result, and nothing of the first."""
        done = self.run()
        self.check()
        assert self.has_result(), done.stderr


@pytest.fixture(scope="session")
def cases(znn, tmp_path_factory):
    """{name: Case}; the content is small, but larger than the command's buffers."""
    content = bf16_bytes(700_000)
    model = safetensors_bytes({"a": ("BF16", content), "b": ("I64", bytes(800))})
    made = tmp_path_factory.mktemp("made")

    def make(name, content, *arguments):
        (made / "x").write_bytes(content)
        subprocess.run([znn, *arguments, "-o", made / name, made / "x"], check=True)
        return (made / name).read_bytes()

    packed = make("packed", content, "-T2")
    zipnn = make("zipnn", content, "--format=zipnn")
    compressed = make("compressed", model, "--safetensors")
    table = [
        ("compress", [], "w", "w.znn", {"w": content}),
        ("compress-rm", ["--rm", "-T2"], "w", "w.znn", {"w": content}),
        ("compress-over", ["-f"], "w", "w.znn", {"w": content, "w.znn": b"an older one"}),
        ("decompress", ["-d"], "w.znn", "w", {"w.znn": packed}),
        ("decompress-rm", ["-d", "--rm"], "w.znn", "w", {"w.znn": packed}),
        ("safetensors-rm", ["--safetensors", "--rm"], "m.safetensors", "m.znn.safetensors", {"m.safetensors": model}),
        ("safetensors-back", ["-d", "--rm"], "m.znn.safetensors", "m.safetensors", {"m.znn.safetensors": compressed}),
        ("convert-in-place", ["--convert", "--rm"], "w.znn", "w.znn", {"w.znn": zipnn}),
        ("to-zipnn", ["--format=zipnn", "--rm"], "w", "w.znn", {"w": content}),
    ]
    work = tmp_path_factory.mktemp("work")
    return {row[0]: Case(znn, work, *row) for row in table}


NAMES = ["compress", "compress-rm", "compress-over", "decompress", "decompress-rm", "safetensors-rm",
         "safetensors-back", "convert-in-place", "to-zipnn"]


@pytest.fixture(params=NAMES)
def case(request, cases):
    return cases[request.param]


# ---- Killed ----


@pytest.mark.parametrize("action", ["kill", "kill-after"])
def test_killed_at_any_call(case, shim, action):
    count = case.count(shim, "any")
    assert count > 10
    for number in range(1, count + 1):
        case.fresh()
        done = case.run(env=shimmed(shim, f"any:{number}:{action}"))
        if case.name != "compress-rm":  # whose threads share the counting out differently each time
            assert done.returncode == -signal.SIGKILL, number
        case.check(leftovers=1)
        if case.has_result() and case.source != case.target and not (case.work / case.source).exists():
            continue  # there is nothing left to do
        case.check_second_run() if "-f" in case.command or not case.has_result() else case.run()
        case.check()


def test_killed_at_random_moments(cases):
    """By SIGKILL, each use in turn; a killed one is run again."""
    rng = random.Random(7)
    killed = 0
    for number in range(KILLS):
        case = cases[NAMES[number % len(NAMES)]]
        case.fresh()
        process = subprocess.Popen(case.command, cwd=case.work, stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * case.seconds)
        process.kill()
        was_killed = process.wait() == -signal.SIGKILL
        killed += was_killed
        case.seconds *= 1.2 if was_killed else 0.6  # the machine may be busier now than it was, or less
        case.check(leftovers=1)
        case.run()
        case.check()
        assert case.has_result()
    print(f"{KILLS} runs, {killed} killed before they ended")
    assert killed > KILLS // 8


def waiting_run(znn, folder, target):
    """A run that has made its temporary file, and waits for more of its source: (process, the pipe's end)."""
    os.mkfifo(folder / "pipe")
    process = subprocess.Popen([znn, "-f", "-o", target, folder / "pipe"], stderr=subprocess.PIPE)
    pipe = open(folder / "pipe", "wb")
    pipe.write(b"x" * 100_000)
    pipe.flush()
    deadline = time.monotonic() + 60
    while not [name for name in names_in(folder) if name.endswith(".tmp")] and time.monotonic() < deadline:
        time.sleep(0.005)
    return process, pipe


def test_what_a_running_command_writes_is_left_alone(znn, run_znn, tmp_path):
    process, pipe = waiting_run(znn, tmp_path, tmp_path / "result")
    other = tmp_path / "other"
    other.write_bytes(b"y" * 5000)
    assert "another znn is writing it" in last_message(run_znn("-f", "-o", tmp_path / "result", other, status=1))
    pipe.write(b"z" * 1000)
    pipe.close()
    assert process.wait(timeout=60) == 0
    assert run_znn("-dc", tmp_path / "result").stdout == b"x" * 100_000 + b"z" * 1000
    assert names_in(tmp_path) == ["other", "pipe", "result"]


def test_runs_for_other_targets_do_not_meet(znn, run_znn, tmp_path):
    process, pipe = waiting_run(znn, tmp_path, tmp_path / "result")
    (tmp_path / "other").write_bytes(b"y" * 5000)
    run_znn(tmp_path / "other")
    pipe.close()
    assert process.wait(timeout=60) == 0
    assert names_in(tmp_path) == ["other", "other.znn", "pipe", "result"]


def test_the_next_run_removes_what_a_killed_one_left(znn, run_znn, tmp_path):
    process, pipe = waiting_run(znn, tmp_path, tmp_path / "result")
    process.kill()
    process.wait()
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    assert len([name for name in names_in(tmp_path) if name.endswith(".tmp")]) == 1
    (tmp_path / "other").write_bytes(b"y" * 5000)
    run_znn("-o", tmp_path / "result", tmp_path / "other")
    assert names_in(tmp_path) == ["other", "pipe", "result"]


def test_a_run_that_is_refused_cleans_up_too(znn, run_znn, tmp_path):
    process, pipe = waiting_run(znn, tmp_path, tmp_path / "result")
    process.kill()
    process.wait()
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    (tmp_path / "result").write_bytes(b"made by somebody meanwhile")
    (tmp_path / "other").write_bytes(b"y" * 5000)
    run_znn("-o", tmp_path / "result", tmp_path / "other", status=1)
    assert names_in(tmp_path) == ["other", "pipe", "result"]
    assert (tmp_path / "result").read_bytes() == b"made by somebody meanwhile"


def test_many_runs_for_one_target_end_with_one_whole_result(znn, tmp_path):
    """Some are killed meanwhile; nobody's file is lost to another's cleaning."""
    content = bf16_bytes(100_000)
    (tmp_path / "w").write_bytes(content)
    subprocess.run([znn, "-o", "expected", "w"], cwd=tmp_path, check=True)
    rng, ended = random.Random(3), []
    for _ in range(KILLS):
        runs = [subprocess.Popen([znn, "-f", "w"], cwd=tmp_path, stderr=subprocess.PIPE) for _ in range(3)]
        time.sleep(rng.random() * 0.02)
        runs[0].kill()
        for run in runs:
            message = run.communicate(timeout=60)[1].decode()
            ended.append(run.returncode)
            assert run.returncode in (0, -signal.SIGKILL) or "another znn is writing it" in message, message
        if (tmp_path / "w.znn").exists():
            assert (tmp_path / "w.znn").read_bytes() == (tmp_path / "expected").read_bytes()
    assert ended.count(0) > 0
    subprocess.run([znn, "-f", "w"], cwd=tmp_path, check=True)
    assert names_in(tmp_path) == ["expected", "w", "w.znn"]


# ---- Calls that fail ----


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(case, shim, call):
    count = case.count(shim, call)
    numbers = range(1, count + 1) if count <= 12 else [1, 2, count // 2, count - 1, count]
    for number in numbers:
        error = errno.ENOSPC if call in ("create", "write", "ftruncate", "rename") else errno.EIO
        case.fresh()
        done = case.run(env=shimmed(shim, f"{call}:{number}:{error}"))
        assert done.returncode in (0, 1), (number, done)
        # What could not be removed stays, and only that.
        case.check(leftovers=1 if call == "unlink" else 0)
        if done.returncode == 0:
            assert case.has_result(), number
            assert call in ("flock", "fchown", "close", "read"), (number, "must not go unnoticed")
        else:
            assert done.stderr, number
            assert (case.work / case.source).exists(), number


def test_a_write_that_fails_late_is_noticed(case, shim):
    """As network file systems report it: when a file is closed."""
    case.fresh()
    case.count(shim, "close")
    failed = []
    for number in range(1, case.count(shim, "close") + 1):
        case.fresh()
        failed.append(case.run(env=shimmed(shim, f"close:{number}:{errno.EDQUOT}")).returncode)
        case.check()
    assert 1 in failed


@pytest.mark.parametrize("action", ["short", errno.EINTR])
def test_a_write_that_is_cut_short_is_finished(case, shim, action):
    for number in range(1, case.count(shim, "write") + 1):
        case.fresh()
        assert case.run(env=shimmed(shim, f"write:{number}:{action}")).returncode == 0
        case.check()
        assert case.has_result()


def test_without_locks_two_runs_do_not_meet(znn, shim, tmp_path):
    """Some network file systems have none: another name is taken then, and what is there is left alone."""
    content = bf16_bytes(50_000)
    (tmp_path / "w").write_bytes(content)
    environment = shimmed(shim, f"flock:0:{errno.ENOSYS}")
    killed = subprocess.run([znn, "w"], cwd=tmp_path, env=shimmed(shim, "write:1:kill"), stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    (left,) = [name for name in names_in(tmp_path) if name.endswith(".tmp")]
    subprocess.run([znn, "w"], cwd=tmp_path, env=environment, check=True)
    assert names_in(tmp_path) == sorted([left, "w", "w.znn"])
    subprocess.run([znn, "-f", "w"], cwd=tmp_path, check=True)
    assert names_in(tmp_path) == ["w", "w.znn"]


# ---- A full disk ----


@contextlib.contextmanager
def small_disk(path, size):
    """A tmpfs, where this may be mounted."""
    path.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip(f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield path
    finally:
        assert libc.umount2(os.fsencode(path), 2) == 0


@pytest.mark.parametrize("arguments", [[], ["--rm"], ["-d", "-f"], ["-d", "-f", "--rm"]], ids=" ".join)
def test_a_full_disk_leaves_the_source_and_nothing_else(znn, run_znn, tmp_path, arguments):
    content = bf16_bytes(500_000)
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        if "-d" in arguments:
            name, content = "w.znn", run_znn("-c", input=content).stdout
        else:
            name = "w"
        (disk / name).write_bytes(content)
        done = run_znn(*arguments, disk / name, status=1)
        assert "No space left" in last_message(done)
        assert names_in(disk) == [name]
        assert (disk / name).read_bytes() == content


def test_more_content_than_the_disk_holds_is_refused_before_it_is_written(run_znn, tmp_path):
    zeros = safetensors_bytes({"a": ("F32", bytes(4 << 20))})
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (tmp_path / "m.safetensors").write_bytes(zeros)
        run_znn("-o", disk / "m.safetensors.znn", tmp_path / "m.safetensors")
        run_znn("--safetensors", "-o", disk / "m.znn.safetensors", tmp_path / "m.safetensors")
        for name in ("m.safetensors.znn", "m.znn.safetensors"):
            done = run_znn("-d", disk / name, status=1)
            assert "more than" in last_message(done) and "free there" in last_message(done)
            assert "No space left" in last_message(run_znn("-d", "-f", disk / name, status=1))
        assert names_in(disk) == ["m.safetensors.znn", "m.znn.safetensors"]


def test_content_of_unknown_size_stops_cleanly_when_the_disk_is_full(run_znn, tmp_path):
    """From a pipe, through which nothing can be known beforehand."""
    frame = run_znn("-c", input=bytes(4 << 20)).stdout
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        assert "No space left" in last_message(run_znn("-d", "-o", disk / "out", input=frame, status=1))
        assert names_in(disk) == []


@pytest.mark.parametrize("ignored", [False, True], ids=["signal", "error"])
def test_a_limit_on_file_sizes_leaves_the_source_and_nothing_else(case, ignored):
    """The system says so by a signal, or where that is ignored by an error."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if ignored else signal.SIG_DFL)

    case.fresh()
    done = case.run(preexec_fn=limit)
    assert done.returncode == (1 if ignored else -signal.SIGXFSZ)
    case.check()
    assert (case.work / case.source).read_bytes() == case.files[case.source]


# ---- A source that changes ----


@pytest.mark.parametrize("change", ["shrink", "grow", "change"])
@pytest.mark.parametrize("when", ["create:1", "write:1"])
def test_a_source_that_changes_while_it_is_read_has_no_result(case, shim, when, change):
    case.fresh()
    done = case.run(env=shimmed(shim, f"{when}:{change}", ZNN_SHIM_FILE=case.work / case.source))
    assert done.returncode == 1 and done.stderr
    names = names_in(case.work)
    assert case.source in names and not [name for name in names if name.endswith(".tmp")]
    if case.target != case.source and case.target in names:
        assert (case.work / case.target).read_bytes() == case.files[case.target]  # the older one


def test_a_source_that_changes_after_it_was_read_is_not_removed(cases, shim):
    for name in NAMES:
        case = cases[name]
        if case.removes:
            case.fresh()
            done = case.run(env=shimmed(shim, "fchmod:1:change", ZNN_SHIM_FILE=case.work / case.source))
            assert done.returncode == 1 and b"changed meanwhile" in done.stderr
            assert (case.work / case.source).read_bytes()[1000:1006] == b"change"


# ---- A result that is not what was written ----


def test_a_source_stays_where_its_result_does_not_verify(cases, shim):
    for case in cases.values():
        if case.removes:
            case.fresh()
            done = case.run(env=shimmed(shim, "write:0:spoil"))
            assert done.returncode == 1 and done.stderr, case.name
            assert {name: (case.work / name).read_bytes() for name in names_in(case.work)} == case.files


# ---- The Hub's cache ----


def test_znn_hub_killed_at_random_moments(tmp_path):
    """The snapshot has the plain files or the compressed ones, whole, and the next run goes on from there."""
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("znn")
    content = safetensors_bytes({"a": ("BF16", bf16_bytes(2_000_000)), "b": ("I64", bytes(800))})
    commit = "c" * 40

    def command(*arguments):
        return [sys.executable, "-m", "znn.hub", *arguments, "--cache-dir", str(tmp_path / "cache")]

    def fresh():
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        folder = tmp_path / "cache" / "models--a--b"
        for name in ("blobs", "refs", f"snapshots/{commit}"):
            (folder / name).mkdir(parents=True)
        (folder / "refs/main").write_text(commit)
        for name, blob, data in (("config.json", "1" * 39, b'{"model_type": "bert"}'),
                                 ("model.safetensors", "2" * 39, content)):
            (folder / "blobs" / blob).write_bytes(data)
            (folder / "snapshots" / commit / name).symlink_to(f"../../blobs/{blob}")
        return folder

    rng, killed = random.Random(11), 0
    fresh()
    begun = time.monotonic()
    subprocess.run(command("compress", "a/b"), check=True)
    seconds = time.monotonic() - begun
    for number in range(max(KILLS // 8, 4)):
        folder = fresh()
        back = number % 2
        if back:
            subprocess.run(command("compress", "a/b"), check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen(command("decompress" if back else "compress", "a/b"), stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL)
        time.sleep(seconds * (0.3 + 0.7 * rng.random()))
        process.kill()
        was_killed = process.wait() == -signal.SIGKILL
        killed += was_killed
        seconds *= 1.1 if was_killed else 0.7
        snapshot = folder / "snapshots" / commit
        if (snapshot / "znn.json").exists():
            subprocess.run(command("verify", "a/b"), check=True, stdout=subprocess.DEVNULL)
        else:
            assert (snapshot / "model.safetensors").read_bytes() == content
        subprocess.run(command("compress", "a/b"), check=True, stdout=subprocess.DEVNULL)
        subprocess.run(command("decompress", "a/b"), check=True, stdout=subprocess.DEVNULL)
        assert (snapshot / "model.safetensors").read_bytes() == content
        assert names_in(folder) == ["blobs", "refs", "snapshots"]
        assert sorted(names_in(folder / "blobs")) == ["1" * 39, "2" * 39]
    print(f"znn-hub: {killed} killed")
    assert killed
