"""The znn command as people and scripts use it: one behaviour a test."""

import contextlib
import errno
import json
import os
import pty
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

MIB = 1 << 20


def bf16_bytes(count, seed=1):
    """Numbers as weights have them: normal, so that the exponents compress."""
    values = np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


def safetensors_bytes(tensors):
    """tensors: {name: (dtype, bytes)}, each one-dimensional."""
    header, data = {}, b""
    for name, (dtype, content) in tensors.items():
        size = {"F32": 4, "BF16": 2, "I64": 8, "U8": 1}[dtype]
        header[name] = {"dtype": dtype, "shape": [len(content) // size],
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "weights.raw"
    path.write_bytes(bf16_bytes(150_000))
    return path


@pytest.fixture
def packed(run_znn, weights_file):
    """weights.raw.znn, next to weights.raw."""
    run_znn(weights_file)
    return weights_file.with_name("weights.raw.znn")


def with_sanitizer(options):
    """The environment, with AddressSanitizer, if it is in, set so that it does not disturb what is tested."""
    return {**os.environ, "ASAN_OPTIONS": ":".join([os.environ.get("ASAN_OPTIONS", ""), options]).lstrip(":")}


def names_in(folder):
    return sorted(os.listdir(folder))


def last_message(done):
    return done.stderr.decode().strip().splitlines()[-1]


# ---- Compressing and restoring ----


def test_compress_writes_a_smaller_file_beside_and_keeps_the_source(run_znn, weights_file, tmp_path):
    before = weights_file.read_bytes()
    done = run_znn(weights_file)
    assert names_in(tmp_path) == ["weights.raw", "weights.raw.znn"]
    assert weights_file.read_bytes() == before
    assert (tmp_path / "weights.raw.znn").stat().st_size < 0.7 * len(before)
    assert done.stdout == b"" and done.stderr == b""


def test_decompress_restores_every_byte(run_znn, weights_file, packed):
    before = weights_file.read_bytes()
    weights_file.unlink()
    run_znn("-d", packed)
    assert weights_file.read_bytes() == before
    assert packed.exists()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 255, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 2 * MIB])
def test_any_size_comes_back(run_znn, tmp_path, size):
    path = tmp_path / "some"
    content = bf16_bytes(size // 2 + 1)[:size]
    path.write_bytes(content)
    run_znn(path)
    run_znn("-d", "-o", tmp_path / "back", tmp_path / "some.znn")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize("name", ["with space", "-dash", "ünï", "new\nline", "a" * 251, "*?[x]",
                                  os.fsdecode(b"not UTF-8: \xff\xfe")], ids=ascii)
def test_unusual_names(run_znn, tmp_path, name):
    (tmp_path / name).write_bytes(b"some content" * 20)
    run_znn("--", name, cwd=tmp_path)
    assert names_in(tmp_path) == sorted([name, name + ".znn"])
    (tmp_path / name).unlink()
    run_znn("-d", "--", name + ".znn", cwd=tmp_path)
    assert (tmp_path / name).read_bytes() == b"some content" * 20


def test_a_control_character_in_a_name_does_not_reach_the_terminal(run_znn, tmp_path):
    done = run_znn("-d", tmp_path / "\x1b[2Jx.znn", status=1)
    assert b"\x1b" not in done.stderr and b"x.znn" in done.stderr


def test_levels_come_back_and_the_bytes_do_not_depend_on_threads(run_znn, tmp_path):
    content = safetensors_bytes({"a": ("BF16", bf16_bytes(3_000_000)), "b": ("U8", bytes(5000))})
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for level in range(1, 10):
        results = [run_znn(f"-{level}", f"-T{threads}", "-c", path).stdout for threads in (0, 1, 2, 5)]
        assert all(result == results[0] for result in results)
        assert run_znn("-dcT2", "-", input=results[0]).stdout == content


def test_a_given_dtype_is_used(run_znn, tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(bf16_bytes(200_000))

    def dtypes():
        return [found["dtype"] for found in json.loads(run_znn("-l", "--json", f"{path}.znn").stdout)["dtypes"]]

    run_znn("--dtype", "bf16", path)
    assert dtypes() == ["bf16"]
    run_znn("-f", "--dtype=float64", path)
    assert dtypes() == ["f64"]
    assert run_znn("-dc", f"{path}.znn").stdout == path.read_bytes()


def test_frames_that_follow_one_another_restore_as_one(run_znn, tmp_path):
    for name, text in (("a", b"first"), ("b", b"second" * 1000)):
        (tmp_path / name).write_bytes(text)
    both = run_znn("-c", "a", "b", cwd=tmp_path).stdout
    assert run_znn("-dc", input=both).stdout == b"first" + b"second" * 1000


def test_no_check_leaves_checksums_out(run_znn, weights_file):
    frame = run_znn("-c", "--no-check", weights_file).stdout
    assert run_znn("-dc", input=frame).stdout == weights_file.read_bytes()
    run_znn("--no-check", "--rm", weights_file, status=2)
    assert weights_file.exists()


# ---- Where the result goes ----


def test_output_name(run_znn, weights_file, tmp_path):
    run_znn("-o", tmp_path / "elsewhere", weights_file)
    run_znn("-d", tmp_path / "elsewhere", f"-o{tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == weights_file.read_bytes()


def test_stdout(run_znn, weights_file, tmp_path):
    frame = run_znn("-c", weights_file).stdout
    assert names_in(tmp_path) == ["weights.raw"]
    (tmp_path / "x.znn").write_bytes(frame)
    assert run_znn("-d", "--stdout", tmp_path / "x.znn").stdout == weights_file.read_bytes()
    assert names_in(tmp_path) == ["weights.raw", "x.znn"]


@pytest.mark.parametrize("arguments", [(), ("-",), ("-c",), ("-o", "-")])
def test_pipes(run_znn, arguments):
    content = bf16_bytes(700_001)
    frame = run_znn(*arguments, input=content).stdout
    assert len(frame) < 0.7 * len(content)
    assert run_znn("-d", *arguments, input=frame).stdout == content


def test_stdin_to_a_named_file(run_znn, tmp_path):
    run_znn("-", "-o", tmp_path / "x.znn", input=b"piped")
    assert run_znn("-dc", tmp_path / "x.znn").stdout == b"piped"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x.znn").stat().st_mode) == 0o666 & ~mask


def test_a_named_pipe_is_read(znn, run_znn, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen([znn, "-c", tmp_path / "pipe"], stdout=subprocess.PIPE)
    (tmp_path / "pipe").write_bytes(b"through a pipe")
    frame, _ = process.communicate(timeout=60)
    assert run_znn("-dc", input=frame).stdout == b"through a pipe"


def test_output_to_a_device_is_written_in_place(run_znn, weights_file):
    run_znn(weights_file, "-o", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_device_has_room_for_everything(run_znn, tmp_path):
    (tmp_path / "zeros.znn").write_bytes(4 * run_znn("-c", input=bytes(64 * MIB)).stdout)
    run_znn("-d", tmp_path / "zeros.znn", "-o", "/dev/null")


def test_an_existing_target_is_refused_without_force(run_znn, weights_file, tmp_path):
    target = tmp_path / "weights.raw.znn"
    target.write_bytes(b"precious")
    done = run_znn(weights_file, status=1)
    assert target.read_bytes() == b"precious"
    assert last_message(done) == f"znn: {target}: already exists; -f overwrites it"
    run_znn("-f", weights_file)
    assert run_znn("-dc", target).stdout == weights_file.read_bytes()


def test_an_existing_target_stays_when_forced_work_fails(run_znn, packed, weights_file):
    damaged = bytearray(packed.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    packed.write_bytes(damaged)
    before = weights_file.read_bytes()
    run_znn("-d", "-f", packed, status=1)
    assert weights_file.read_bytes() == before


def test_a_file_is_not_its_own_result(run_znn, weights_file):
    before = weights_file.read_bytes()
    done = run_znn("-f", weights_file, "-o", weights_file, status=1)
    assert b"its own result" in done.stderr
    assert weights_file.read_bytes() == before


def test_a_folder_is_no_result(run_znn, weights_file, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "-o takes a file's name" in last_message(run_znn("-f", weights_file, "-o", tmp_path / "folder", status=1))
    assert names_in(tmp_path) == ["folder", "weights.raw"]


def test_a_target_that_is_a_link_is_replaced_and_not_followed(run_znn, weights_file, tmp_path):
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "weights.raw.znn").symlink_to("other")
    run_znn(weights_file, status=1)
    run_znn("-f", weights_file)
    assert (tmp_path / "other").read_bytes() == b"precious"
    assert not (tmp_path / "weights.raw.znn").is_symlink()


def test_a_dangling_link_is_an_existing_target(run_znn, weights_file, tmp_path):
    (tmp_path / "weights.raw.znn").symlink_to("nowhere")
    run_znn(weights_file, status=1)
    assert names_in(tmp_path) == ["weights.raw", "weights.raw.znn"]


def test_a_missing_folder_is_reported(run_znn, weights_file, tmp_path):
    done = run_znn(weights_file, "-o", tmp_path / "no" / "x", status=1)
    assert str(tmp_path / "no" / "x") in last_message(done) and os.strerror(errno.ENOENT) in last_message(done)


def test_an_unknown_suffix_is_refused(run_znn, weights_file, packed, tmp_path):
    odd = packed.rename(tmp_path / "weights.zn")
    done = run_znn("-d", odd, status=1)
    assert "unknown suffix" in last_message(done)
    assert run_znn("-dc", odd).stdout == weights_file.read_bytes()
    (tmp_path / ".znn").write_bytes(odd.read_bytes())
    run_znn("-d", tmp_path / ".znn", status=1)


# ---- Permissions, times, removal ----


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o755, 0o400, 0o444])
def test_permissions_and_times_are_kept(run_znn, weights_file, tmp_path, mode):
    when = 1_234_567_890_123_456_789
    os.utime(weights_file, ns=(when, when))
    weights_file.chmod(mode)
    run_znn(weights_file)
    target = tmp_path / "weights.raw.znn"
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.stat().st_mtime_ns == when
    run_znn("-d", target, "-o", tmp_path / "back")
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == mode
    assert (tmp_path / "back").stat().st_mtime_ns == when


def test_the_owner_is_kept(run_znn, weights_file, tmp_path):
    owner = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())  # only root may give files away
    os.chown(weights_file, *owner)
    run_znn(weights_file)
    status = (tmp_path / "weights.raw.znn").stat()
    assert (status.st_uid, status.st_gid) == owner


def test_rm_removes_the_source_both_ways(run_znn, weights_file, tmp_path):
    before = weights_file.read_bytes()
    run_znn("--rm", weights_file)
    assert names_in(tmp_path) == ["weights.raw.znn"]
    run_znn("-d", "--rm", tmp_path / "weights.raw.znn")
    assert names_in(tmp_path) == ["weights.raw"]
    assert weights_file.read_bytes() == before


def test_keep_undoes_rm(run_znn, weights_file, tmp_path):
    run_znn("--rm", "-k", weights_file)
    assert names_in(tmp_path) == ["weights.raw", "weights.raw.znn"]


def test_rm_keeps_the_source_of_what_fails(run_znn, packed, weights_file, tmp_path):
    run_znn("--rm", weights_file, status=1)  # the target exists
    damaged = bytearray(packed.read_bytes())
    damaged[-60] ^= 1
    (tmp_path / "bad.znn").write_bytes(damaged)
    run_znn("-d", "--rm", tmp_path / "bad.znn", status=1)
    assert names_in(tmp_path) == ["bad.znn", "weights.raw", "weights.raw.znn"]


def test_rm_syncs_the_result_before_the_source_goes(znn, weights_file, tmp_path):
    strace = shutil.which("strace")
    if not strace:
        # Without strace the order cannot be seen; that both go well can.
        subprocess.run([znn, "--rm", weights_file], check=True)
        assert names_in(tmp_path) == ["weights.raw.znn"]
        return
    log = tmp_path / "log"
    traced = "trace=fsync,?rename,?renameat,?renameat2,?link,?unlink,linkat,unlinkat"
    subprocess.run([strace, "-f", "-o", log, "-e", traced, znn, "--rm", weights_file], check=True,
                   env=with_sanitizer("detect_leaks=0"))
    calls = [line.split(None, 1)[1] for line in log.read_text().splitlines() if "(" in line]
    syncs = [i for i, call in enumerate(calls) if call.startswith("fsync")]
    named = next(i for i, call in enumerate(calls) if call.startswith(("link", "rename")))
    removed = next(i for i, call in enumerate(calls) if call.startswith("unlink") and "weights.raw\"" in call)
    assert syncs[0] < named < syncs[1] < removed


# ---- Links, directories, devices ----


def test_a_symbolic_link_is_ignored_unless_forced(run_znn, weights_file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(weights_file)
    done = run_znn(link, status=1)
    assert b"symbolic link" in done.stderr
    assert names_in(tmp_path) == ["link", "weights.raw"]
    run_znn("-f", link)
    assert run_znn("-dc", tmp_path / "link.znn").stdout == weights_file.read_bytes()


def test_a_link_among_files_is_only_a_note(run_znn, weights_file, tmp_path):
    (tmp_path / "link").symlink_to(weights_file)
    run_znn(tmp_path / "link", weights_file)
    assert names_in(tmp_path) == ["link", "weights.raw", "weights.raw.znn"]


def test_a_directory_needs_recursion(run_znn, tmp_path):
    folder = tmp_path / "models"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"a" * 100)
    (folder / "deep" / "b").write_bytes(b"b" * 100)
    (folder / "link").symlink_to("a")
    done = run_znn(folder, status=1)
    assert "is a directory" in last_message(done)
    run_znn("-r", folder)
    assert names_in(folder) == ["a", "a.znn", "deep", "link"]
    assert names_in(folder / "deep") == ["b", "b.znn"]
    (folder / "a").unlink()
    (folder / "deep" / "b").unlink()
    (folder / "link").unlink()
    run_znn("-t", "-r", folder)
    run_znn("-dr", "--rm", folder)
    assert names_in(folder) == ["a", "deep"]
    assert (folder / "deep" / "b").read_bytes() == b"b" * 100


def test_recursion_compresses_no_frame_again(run_znn, tmp_path):
    (tmp_path / "a").write_bytes(b"a" * 100)
    run_znn("-r", ".", cwd=tmp_path)
    run_znn("-rf", ".", cwd=tmp_path)
    assert names_in(tmp_path) == ["a", "a.znn"]


def test_a_folder_with_nothing_to_test_is_noted(run_znn, tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    assert last_message(run_znn("-tr", tmp_path)) == f"znn: {tmp_path}: has no compressed files"


def test_recursion_survives_a_link_to_itself(run_znn, tmp_path):
    (tmp_path / "a").write_bytes(b"a" * 100)
    (tmp_path / "loop").symlink_to(".")
    run_znn("-rf", tmp_path)
    assert names_in(tmp_path) == ["a", "a.znn", "loop"]


def test_a_device_is_refused(run_znn):
    assert "not a regular file" in last_message(run_znn("-c", "/dev/zero", status=1))
    run_znn("-cf", "/dev/null")


def test_a_hard_link_is_an_ordinary_file(run_znn, weights_file, tmp_path):
    os.link(weights_file, tmp_path / "second")
    run_znn("--rm", tmp_path / "second")
    assert names_in(tmp_path) == ["second.znn", "weights.raw"]


def test_one_bad_file_does_not_stop_the_others(run_znn, weights_file, tmp_path):
    done = run_znn(tmp_path / "missing", weights_file, status=1)
    assert last_message(done) == f"znn: {tmp_path / 'missing'}: cannot open: No such file or directory"
    assert (tmp_path / "weights.raw.znn").exists()


# ---- Bad input ----


def check_bad(run_znn, tmp_path, content, reason=None, name="bad.znn", modes=("-d", "-t", "-dc")):
    """Refused with exit 1 by every mode that reads frames, in the same words, and no file written."""
    path = tmp_path / name
    path.write_bytes(content)
    messages = [last_message(run_znn(mode, path, status=1)) for mode in modes]
    assert len(set(messages)) == 1 and messages[0].startswith(f"znn: {path}: ")
    assert reason is None or reason in messages[0]
    assert names_in(tmp_path) == [name]
    done = run_znn("-dc", input=content, status=1)
    # A name's suffix tells more than a pipe does.
    assert name != "bad.znn" or last_message(done).split(": ", 2)[2] == messages[0].split(": ", 2)[2]
    return messages[0]


ALL_MODES = ("-d", "-t", "-dc", "-l")


def test_empty_input_is_no_frame(run_znn, tmp_path):
    check_bad(run_znn, tmp_path, b"", "not a znn file: it is empty", modes=ALL_MODES)


@pytest.mark.parametrize("content", [b"x", b"hello, world\n" * 100, bytes(1000), b"\xff" * 1000,
                                     b"\x28\xb5\x2f\xfd" + bytes(200), b"\x1f\x8b\x08" + bytes(200)],
                         ids=["a letter", "text", "zeros", "ones", "zstd", "gzip"])
def test_what_is_not_ours_is_refused(run_znn, tmp_path, content):
    assert check_bad(run_znn, tmp_path, content, modes=ALL_MODES).endswith(": not a znn file")


def test_truncation_is_refused_anywhere(run_znn, tmp_path):
    frame = run_znn("-c", input=bf16_bytes(30_000)).stdout
    for size in [1, 3, 4, 8, 31, 32, 33, 52, 60, 1000, len(frame) // 2, len(frame) - 48, len(frame) - 1]:
        check_bad(run_znn, tmp_path, frame[:size], f"truncated: the file ends too early (at byte {size} ",
                  modes=ALL_MODES)


@pytest.mark.parametrize("threads", ["-T1", "-T2", "-T5"])
def test_a_damaged_byte_is_refused_and_its_place_told(run_znn, tmp_path, threads):
    frame = bytearray(run_znn("-c", input=bf16_bytes(3_000_000)).stdout)
    place = len(frame) * 3 // 4
    frame[place] ^= 0x10
    check_bad(run_znn, tmp_path, bytes(frame), "at byte ")
    message = last_message(run_znn("-d", threads, tmp_path / "bad.znn", status=1))
    assert names_in(tmp_path) == ["bad.znn"]
    told = int(message.split("at byte ")[1].split()[0])
    assert place - 4 * MIB < told <= place  # the begin of the chunk


def test_what_follows_the_frames_is_refused(run_znn, tmp_path):
    frame = run_znn("-c", input=b"content" * 100).stdout
    for tail in (b"x", b"garbage" * 100, bytes(512)):
        check_bad(run_znn, tmp_path, frame + tail, f"something else follows (at byte {len(frame)} ", modes=ALL_MODES)
    check_bad(run_znn, tmp_path, frame + frame[:-1], f"truncated: the file ends too early (at byte {2 * len(frame) - 1} ",
              modes=ALL_MODES)


def test_damage_to_the_structure_is_told_alike_by_all_modes(run_znn, tmp_path):
    frame = run_znn("-c", input=bf16_bytes(30_000)).stdout
    for place, reason in [(4, "newer version of znn, or damaged (at byte 0 "), (29, "checksum (at byte 0 "),
                          (len(frame) - 20, f"checksum (at byte {len(frame) - 48} "),
                          (len(frame) - 1, f"structure is broken (at byte {len(frame) - 48} ")]:
        damaged = bytearray(frame)
        damaged[place] ^= 0x40
        check_bad(run_znn, tmp_path, bytes(damaged), reason, modes=ALL_MODES)


def test_only_sound_content_goes_to_stdout_before_damage_is_met(run_znn, tmp_path):
    content = bf16_bytes(3_000_000)
    frame = bytearray(run_znn("-c", input=content).stdout)
    frame[len(frame) * 3 // 4] ^= 0x10
    (tmp_path / "x.znn").write_bytes(frame)
    shown = run_znn("-dc", tmp_path / "x.znn", status=1).stdout
    assert 0 < len(shown) < len(content) and content.startswith(shown)


def test_a_bad_file_writes_nothing_to_stdout(run_znn, tmp_path):
    frame = run_znn("-c", input=bf16_bytes(3_000_000)).stdout
    (tmp_path / "x.znn").write_bytes(frame[:-100])
    assert run_znn("-dc", tmp_path / "x.znn", status=1).stdout == b""


def test_random_mutations_are_refused_or_restore_the_content(run_znn, tmp_path):
    content = safetensors_bytes({"a": ("BF16", bf16_bytes(2000)), "b": ("I64", bytes(800))})
    frame = run_znn("-c", input=content).stdout
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(60):
        mutated = bytearray(frame)
        for _ in range(random.integers(1, 5)):
            mutated[random.integers(len(mutated))] = random.integers(256)
        done = run_znn("-dc", input=bytes(mutated), status=None)
        assert done.returncode in (0, 1)
        assert done.returncode == 1 or done.stdout == content
        refused += done.returncode
    assert refused > 40


def test_content_larger_than_the_disk_is_refused_before_it_is_written(run_znn, tmp_path):
    # What is free may grow meanwhile; the disk does not.
    size = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    # A frame of zeros, so often that its content exceeds the disk.
    frame = run_znn("-c", input=bytes(64 * MIB)).stdout
    copies = size // (64 * MIB) + 2
    if copies * len(frame) > 64 * MIB:
        frame, copies = run_znn("-c", input=bytes(1024 * MIB)).stdout, size // (1024 * MIB) + 2
    path = tmp_path / "huge.znn"
    with open(path, "wb") as file:
        for _ in range(copies):
            file.write(frame)
    done = run_znn("-d", path, status=1)
    assert "free there" in last_message(done)
    assert names_in(tmp_path) == ["huge.znn"]


@pytest.mark.parametrize("device", [path for path in ["/dev/full"] if os.path.exists(path)])
def test_a_full_disk_is_reported(znn, weights_file, packed, device):
    for arguments in (["-c", weights_file], ["-dc", packed], ["-l", packed], ["--help"]):
        with open(device, "wb") as full:
            done = subprocess.run([znn, *arguments], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1 and b"cannot write: " + os.strerror(errno.ENOSPC).encode() in done.stderr


@pytest.mark.parametrize("threads", ["-T1", "-T2", "-T5"])
@pytest.mark.parametrize("kills", [False, True], ids=["ignored", "killed"])
def test_a_file_that_may_not_grow_is_reported_and_leaves_nothing(znn, run_znn, tmp_path, threads, kills):
    """As on a full disk, in the middle of a large file; SIGXFSZ may be left to end the command."""
    source, compressed = tmp_path / "weights", tmp_path / "weights.znn"
    source.write_bytes(bf16_bytes(6_000_000))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_001, 3_000_001))

    def fails(*arguments):
        done = subprocess.run([znn, threads, "--rm", *arguments], stderr=subprocess.PIPE, preexec_fn=limit, timeout=60)
        assert done.returncode == (-signal.SIGXFSZ if kills else 1)
        assert kills or "cannot write: " + os.strerror(errno.EFBIG) in last_message(done)

    fails(source)
    assert names_in(tmp_path) == ["weights"]
    run_znn("--rm", source)
    fails("-d", compressed)
    assert names_in(tmp_path) == ["weights.znn"]


@pytest.mark.parametrize("threads", ["-T1", "-T2"])
@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="nothing here that fails to be read")
def test_a_failed_read_is_reported_and_leaves_nothing(run_znn, tmp_path, threads):
    done = run_znn(threads, "-o", tmp_path / "result", "/proc/self/mem", status=1)
    assert last_message(done).startswith("znn: /proc/self/mem: cannot read: ")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("threads", ["-T1", "-T2"])
def test_a_reader_that_goes_away_ends_the_work(znn, tmp_path, threads):
    path = tmp_path / "weights"
    path.write_bytes(bf16_bytes(6_000_000))
    process = subprocess.Popen([znn, threads, "-c", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert len(process.stdout.read(100_000)) == 100_000
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGPIPE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="space is had in advance on Linux only")
@pytest.mark.parametrize("threads", ["-T1", "-T2"])
def test_no_space_is_kept_beyond_the_result(run_znn, weights_file, tmp_path, threads):
    run_znn(threads, weights_file)
    run_znn(threads, "-d", f"{weights_file}.znn", "-o", tmp_path / "back")
    for name in [f"{weights_file}.znn", tmp_path / "back"]:
        assert os.stat(name).st_blocks * 512 < os.stat(name).st_size + MIB


# ---- Signals, memory ----


@pytest.mark.parametrize("threads", ["-T1", "-T2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_source_and_nothing_else(znn, tmp_path, number, threads):
    os.mkfifo(tmp_path / "source")
    # As a user starts it: whoever runs the tests may ignore signals, which children inherit.
    process = subprocess.Popen([znn, threads, "--rm", "-f", "-o", tmp_path / "result", tmp_path / "source"],
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    content = bf16_bytes(4_000_000)
    with open(tmp_path / "source", "wb") as pipe:
        pipe.write(content)  # so large that work is under way once it is through
        deadline = time.monotonic() + 60
        while not [name for name in names_in(tmp_path) if name.endswith(".tmp")] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(names_in(tmp_path)) == 2
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    assert names_in(tmp_path) == ["source"]


def test_an_ignored_signal_stays_ignored(znn, tmp_path):
    os.mkfifo(tmp_path / "source")
    process = subprocess.Popen([znn, "-o", tmp_path / "result", tmp_path / "source"],
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    with open(tmp_path / "source", "wb") as pipe:
        pipe.write(b"x" * 100_000)
        process.send_signal(signal.SIGHUP)
        pipe.write(b"y")
    assert process.wait(timeout=60) == 0
    assert names_in(tmp_path) == ["result", "source"]


# Prints the most memory that a command held, run by a process so small that what it held before exec counts little.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak_memory(znn, *arguments):
    command = [sys.executable, "-S", "-c", PEAK, znn, *map(str, arguments)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE,
                              env=with_sanitizer("quarantine_size_mb=1")).stdout)


@pytest.mark.parametrize("threads", [0, 1, 2, 4, 12])
def test_memory_stays_bounded(znn, tmp_path, threads):
    path = tmp_path / "large"
    block = bf16_bytes(8 * MIB)
    with open(path, "wb") as file:
        for _ in range(24 if threads == 12 else 12):
            file.write(block)
            file.write(bytes(9 * MIB + 1))

    def peak(*arguments):
        return peak_memory(znn, f"-T{threads}", *arguments)

    limit = (64 + 4 * (threads or os.cpu_count())) * MIB
    assert path.stat().st_size > 3 * limit
    assert peak(path) < limit
    assert peak("-t", f"{path}.znn") < limit
    assert peak("-l", f"{path}.znn") < limit
    assert peak("-d", f"{path}.znn", "-o", tmp_path / "back") < limit
    assert subprocess.run(["cmp", path, tmp_path / "back"]).returncode == 0


@pytest.mark.parametrize("values", ['"%x":0,', '"%x":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]},', '"%x":[{}],'],
                         ids=["numbers", "tensors", "objects"])
def test_a_header_of_nothing_but_values_takes_bounded_memory(znn, run_znn, tmp_path, values):
    """Of 8 MiB, which a parser would turn into hundreds."""
    parts, size = [], 0
    while size < 8 * MIB - 200:
        i = len(parts)
        parts.append(values % ((i, i, i + 1)[:values.count("%")]))
        size += len(parts[-1])
    header = b"{" + "".join(parts).rstrip(",").encode() + b"}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(1000))
    assert peak_memory(znn, path) < 64 * MIB
    assert peak_memory(znn, "-l", f"{path}.znn") < 64 * MIB
    assert run_znn("-dc", f"{path}.znn").stdout == path.read_bytes()


# ---- Testing, listing, measuring ----


def test_test_says_nothing_of_a_whole_file(run_znn, packed):
    done = run_znn("-t", packed)
    assert done.stdout == b"" and done.stderr == b""
    assert b"is whole" in run_znn("-tv", packed).stderr


def test_test_refuses_damage(run_znn, packed):
    damaged = bytearray(packed.read_bytes())
    damaged[len(damaged) // 3] ^= 4
    packed.write_bytes(damaged)
    assert str(packed) in last_message(run_znn("-t", packed, status=1))


def test_list_tells_of_dtypes_and_tensors(run_znn, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"layer.weight": ("BF16", bf16_bytes(500_000)),
                                        "layer.bias": ("F32", bytes(40_000)), "empty": ("F32", b"")}))
    run_znn(path)
    packed = tmp_path / "model.safetensors.znn"
    listing = json.loads(run_znn("-l", "--json", packed).stdout)
    assert listing["original_size"] == path.stat().st_size
    assert listing["stored_size"] == packed.stat().st_size
    tensors = {tensor["name"]: tensor for tensor in listing["tensors"]}
    assert set(tensors) == {"layer.weight", "layer.bias", "empty"}
    assert tensors["layer.weight"]["original_size"] == 1_000_000
    assert 25 < tensors["layer.weight"]["saved_percent"] < 40
    assert tensors["layer.bias"]["saved_percent"] > 90
    assert sum(d["original_size"] for d in listing["dtypes"]) == listing["original_size"]
    assert sum(sum(d["methods"].values()) for d in listing["dtypes"]) == listing["original_size"]
    text = run_znn("-l", packed).stdout.decode()
    for word in ("dtype", "tensor", "layer.weight", "BF16", "bf16", "saved", "method"):
        assert word in text


def test_list_counts_in_plain_english(run_znn, tmp_path):
    frames = run_znn("-c", input=b"").stdout, run_znn("-c", input=b"some").stdout
    (tmp_path / "x.znn").write_bytes(frames[1])
    assert ", 1 frame, 1 chunk, " in run_znn("-l", tmp_path / "x.znn").stdout.decode()
    (tmp_path / "x.znn").write_bytes(frames[0] + frames[0])
    assert ", 2 frames, 0 chunks, " in run_znn("-l", tmp_path / "x.znn").stdout.decode()


def test_list_of_what_has_no_tensors(run_znn, packed):
    listing = json.loads(run_znn("--json", "-l", packed).stdout)
    assert listing["tensors"] == [] and listing["dtypes"][0]["original_size"] == 300_000


def test_list_of_several_files_is_an_array(run_znn, packed):
    assert len(json.loads(run_znn("-l", "--json", packed, packed).stdout)) == 2


@pytest.mark.parametrize("header", [
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,0]}}',
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-8,4]}}',
    b'{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}',
    b'{"a":[],"b":null}', b'{"a":', b"{" * 3000])
def test_list_survives_a_hostile_header_in_the_content(run_znn, tmp_path, header):
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    run_znn(tmp_path / "x")
    assert json.loads(run_znn("-l", "--json", tmp_path / "x.znn").stdout)["tensors"] == []


def test_list_refuses_a_pipe(run_znn, packed):
    assert "regular file" in last_message(run_znn("-l", input=packed.read_bytes(), status=1))
    assert "regular file" in last_message(run_znn("-l", stdin=subprocess.DEVNULL, status=1))


def test_list_reads_a_file_as_standard_input(run_znn, packed):
    with open(packed, "rb") as source:
        assert json.loads(run_znn("-l", "--json", stdin=source).stdout)["original_size"] == 300_000


def test_benchmark_measures_and_writes_nothing(run_znn, weights_file, tmp_path):
    done = run_znn("-b", "--json", "-i", "0", "--bench-size", "4", "--dtype", "bf16", "-T2", weights_file)
    result = json.loads(done.stdout)
    packed_size = len(run_znn("-c", "--dtype", "bf16", weights_file).stdout)
    assert result["ratio_percent"] == pytest.approx(100 * packed_size / 300_000, rel=1e-5)
    assert result["dtype"] == "bf16" and result["threads"] == 2 and result["buffer_size"] >= 4_000_000
    for speed in ("compress_mb_s", "decompress_mb_s", "memcpy_mb_s"):
        assert result[speed] > 0
    assert names_in(tmp_path) == ["weights.raw"]
    text = run_znn("-b", "-i0", "--bench-size=4", weights_file).stdout.decode()
    assert "MB/s" in text and "saved" in text


def test_benchmark_of_a_tiny_file_takes_bounded_memory(znn, tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    assert peak_memory(znn, "-b", "-i0", "--bench-size=1", tmp_path / "x") < 64 * MIB


def test_benchmark_of_nothing_is_refused(run_znn, tmp_path):
    (tmp_path / "empty").touch()
    assert "empty" in last_message(run_znn("-b", tmp_path / "empty", status=1))


# ---- Usage ----


@pytest.mark.parametrize("arguments", [
    ("-Z",), ("--nonsense",), ("-T",), ("-T", "x"), ("-T257",), ("-0",), ("-10",), ("--dtype", "f33"), ("--dtype",),
    ("-o",), ("-o", "x", "a", "b"), ("-o", "x", "-c", "a"), ("-c", "--rm", "a"), ("--json", "a"),
    ("-t", "-o", "x", "a"), ("-i",), ("--bench-size=x", "a"), ("-d", "-t", "a"), ("-ld", "a"), ("--convert", "-d", "a"),
    ("-b", "--test", "a"), ("-z", "-d", "a"), ("--level=12", "a"), ("--level", "x", "a"), ("-3x", "a"),
    ("",), ("a", ""), ("-c", "-", "a", "-"), ("--safetensors", "--dtype", "bf16", "a"), ("--safetensors", "--convert", "a"), ("--safetensors", "-c", "a")],
    ids=" ".join)
def test_wrong_usage_exits_with_2_and_says_why(run_znn, tmp_path, arguments):
    done = run_znn(*arguments, status=2, cwd=tmp_path)
    assert done.stderr.startswith(b"znn: ") and done.stdout == b""
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("arguments", [("-dkf", "{}"), ("{}", "-f", "-d"), ("-f", "{}", "--decompress", "--keep"),
                                       ("-dfT2", "{}"), ("-df", "-T", "2", "{}"), ("-df", "--threads=2", "--", "{}")],
                         ids=" ".join)
def test_options_and_files_in_any_order(run_znn, packed, weights_file, arguments):
    before = weights_file.read_bytes()
    weights_file.write_bytes(b"older")
    run_znn(*(argument.format(packed) for argument in arguments))
    assert weights_file.read_bytes() == before


def test_modes_that_contradict_are_named(run_znn):
    assert last_message(run_znn("-d", "--test", "a", status=2)) == "znn: -d and -t exclude one another"


def test_a_mode_given_twice_and_options_of_other_tools_are_understood(run_znn, weights_file):
    frame = run_znn("-c", "-9", weights_file).stdout
    assert run_znn("-c", "--best", weights_file).stdout == run_znn("-c", "--level=9", weights_file).stdout == frame
    assert run_znn("-c", "--fast", weights_file).stdout == run_znn("-c", "-1", weights_file).stdout != frame
    assert run_znn("-d", "-dc", input=frame).stdout == weights_file.read_bytes()


def test_dtype_overrides_the_header_of_safetensors_and_says_so(run_znn, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"a": ("BF16", bf16_bytes(200_000))}))
    done = run_znn("--dtype", "float", path)
    assert "--dtype overrides" in last_message(done)
    dtypes = json.loads(run_znn("-l", "--json", f"{path}.znn").stdout)["dtypes"]
    assert [found["dtype"] for found in dtypes] == ["f32"]
    assert run_znn("-dc", f"{path}.znn").stdout == path.read_bytes()
    assert run_znn("-f", path).stderr == b""


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_teaches(run_znn, option):
    text = run_znn(option).stdout.decode()
    for word in ("-d", "-t", "-l", "-c", "-o", "-k", "--rm", "-f", "-r", "-q", "-v", "-T N", "-1", "-9", "--dtype",
                 "-b", "--json", "bf16", "znn model.safetensors"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 100


def test_version(run_znn):
    assert run_znn("--version").stdout.startswith(b"znn ")


def test_quiet_and_verbose(run_znn, packed, tmp_path):
    assert b"saved" in run_znn("-dfv", packed).stderr
    (tmp_path / "link").symlink_to(packed)
    assert run_znn("-q", tmp_path / "link", status=1).stderr == b""
    assert run_znn("-q", tmp_path / "missing", status=1).stderr != b""
    assert run_znn("-qq", tmp_path / "missing", status=1).stderr == b""


# ---- Terminals ----


def on_terminal(command, feed=None):
    """Run with a terminal as stdin, stdout and stderr; (exit status, what it showed)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], [str(argument) for argument in command])
    shown = b""
    while True:
        if feed:
            feed(shown)
        ready, _, _ = select.select([terminal], [], [], 0.05 if feed else 60)
        if not ready:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_compressed_data_does_not_go_to_a_terminal(znn, weights_file):
    status, shown = on_terminal([znn, "-c", weights_file])
    assert status == 2 and b"terminal" in shown and len(shown) < 300


def test_no_file_on_a_terminal_is_wrong_usage(znn):
    status, shown = on_terminal([znn])
    assert status == 2 and b"--help" in shown


def test_progress_shows_on_a_terminal_for_longer_work(znn, tmp_path):
    """The source is a pipe that is fed until progress shows, for at most a minute."""
    source = tmp_path / "source"
    os.mkfifo(source)
    writer = os.open(source, os.O_RDWR | os.O_NONBLOCK)
    block = bf16_bytes(100_000)
    state = {"open": True, "until": time.monotonic() + 60}

    def feed(shown):
        if state["open"] and (b"MB/s" in shown or time.monotonic() > state["until"]):
            os.close(writer)
            state["open"] = False
        elif state["open"]:
            with contextlib.suppress(BlockingIOError):
                os.write(writer, block)

    status, shown = on_terminal([znn, "-o", tmp_path / "result", source], feed)
    assert status == 0
    assert b"source: " in shown and b"MB/s" in shown


def test_no_progress_without_a_terminal(znn, tmp_path):
    source = tmp_path / "source"
    os.mkfifo(source)
    process = subprocess.Popen([znn, "-o", tmp_path / "result", source], stderr=subprocess.PIPE)
    with open(source, "wb") as pipe:
        block, until = bf16_bytes(600_000), time.monotonic() + 1.5
        while time.monotonic() < until:
            pipe.write(block)
            time.sleep(0.1)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


# ---- Compressed safetensors ----


@pytest.fixture
def model(run_znn, tmp_path):
    """model.znn.safetensors alone, and the content of the file that it was made of."""
    content = safetensors_bytes({"a": ("BF16", bf16_bytes(200_000)), "b": ("I64", bytes(800)), "c": ("U8", b"xyz"),
                                 "d": ("BF16", bf16_bytes(200_000, 2))})
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    run_znn("--safetensors", path)
    path.unlink()
    return tmp_path / "model.znn.safetensors", content


def stored_places(path):
    """{name: (begin, end)} in the file."""
    packed = path.read_bytes()
    size = struct.unpack("<Q", packed[:8])[0]
    header = json.loads(packed[8:8 + size])
    return {name: tuple(8 + size + place for place in header[name]["data_offsets"])
            for name in header if name != "__metadata__"}


def test_d_and_t_know_compressed_safetensors_without_being_told(run_znn, model, tmp_path):
    packed, content = model
    run_znn("-t", packed)
    run_znn("-d", packed)
    assert (tmp_path / "model.safetensors").read_bytes() == content
    run_znn("-d", packed, "-o", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == content


@pytest.mark.parametrize("threads", ["-T1", "-T2"])
def test_compressed_safetensors_through_pipes(run_znn, model, tmp_path, threads):
    packed, content = model
    assert run_znn(threads, "-dc", packed).stdout == content
    assert run_znn(threads, "-d", input=packed.read_bytes()).stdout == content
    run_znn(threads, "-t", input=packed.read_bytes())
    assert names_in(tmp_path) == ["model.znn.safetensors"]


def test_recursion_takes_compressed_safetensors_for_compressed(run_znn, model, tmp_path):
    packed, content = model
    run_znn("-r", tmp_path)
    assert names_in(tmp_path) == ["model.znn.safetensors"]
    run_znn("-dr", "--rm", tmp_path)
    assert names_in(tmp_path) == ["model.safetensors"] and (tmp_path / "model.safetensors").read_bytes() == content


def test_list_tells_the_tensors_of_compressed_safetensors(run_znn, model):
    packed, content = model
    listing = json.loads(run_znn("-l", "--json", packed).stdout)
    assert listing["format"] == "safetensors" and listing["compressed"] is True
    assert (listing["original_size"], listing["stored_size"]) == (len(content), packed.stat().st_size)
    tensors = {tensor["name"]: tensor for tensor in listing["tensors"]}
    assert list(tensors) == ["a", "b", "c", "d"]
    assert [tensors[name]["original_size"] for name in "abcd"] == [400_000, 800, 3, 400_000]
    assert [tensors[name]["dtype"] for name in "abcd"] == ["BF16", "I64", "U8", "BF16"]
    assert [tensors[name]["compressed"] for name in "abcd"] == [True, True, False, True]
    assert tensors["a"]["shape"] == [200_000]
    for name, (begin, end) in stored_places(packed).items():
        assert tensors[name]["stored_size"] == end - begin
    dtypes = {row["dtype"]: row for row in listing["dtypes"]}
    assert dtypes["BF16"]["tensors"] == 2 and dtypes["BF16"]["original_size"] == 800_000
    assert dtypes["BF16"]["stored_size"] == tensors["a"]["stored_size"] + tensors["d"]["stored_size"]
    text = run_znn("-l", packed).stdout.decode()
    for word in ("compressed safetensors, 4 tensors", "BF16", "200000", "400.0 kB", "800.0 kB"):
        assert word in text


def test_list_says_that_a_safetensors_file_is_plain(run_znn, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"a": ("BF16", bf16_bytes(20_000)), "empty": ("F32", b"")}))
    listing = json.loads(run_znn("-l", "--json", path).stdout)
    assert listing["compressed"] is False and listing["original_size"] == listing["stored_size"] == path.stat().st_size
    assert [(row["name"], row["compressed"]) for row in listing["tensors"]] == [("a", False), ("empty", False)]
    assert "plain safetensors, not compressed, 2 tensors" in run_znn("-l", path).stdout.decode()
    for arguments in (["-t"], ["-d"], ["-dc"], ["--safetensors", "-t"]):
        assert "plain safetensors" in last_message(run_znn(*arguments, path, status=1))


@pytest.mark.parametrize("part", ["data", "header", "length"])
def test_truncated_safetensors_say_so_and_where(run_znn, model, tmp_path, part):
    packed, _ = model
    content = packed.read_bytes()
    packed.unlink()
    size = {"data": len(content) - 100, "header": 100, "length": 5}[part]
    message = check_bad(run_znn, tmp_path, content[:size], "truncated: ", packed.name, ALL_MODES)
    assert str(size) in message


@pytest.mark.parametrize("threads", ["-T1", "-T2"])
def test_a_damaged_tensor_is_named_and_its_place_told(run_znn, model, tmp_path, threads):
    packed, _ = model
    begin, end = stored_places(packed)["d"]
    content = bytearray(packed.read_bytes())
    packed.unlink()
    content[(begin + end) // 2] ^= 1
    message = check_bad(run_znn, tmp_path, bytes(content), "tensor 'd': ", packed.name)
    assert message == last_message(run_znn(threads, "-t", packed, status=1))
    assert begin <= int(message.split("at byte ")[1].split()[0]) <= (begin + end) // 2


def test_chunks_that_changed_places_in_a_tensor_are_found(run_znn, tmp_path):
    """Each is sound by itself: only the frame's own checksum tells."""
    path = tmp_path / "m.safetensors"
    half = bf16_bytes(1 << 20)
    path.write_bytes(safetensors_bytes({"a": ("BF16", half + half[::-1])}))
    run_znn("--safetensors", path)
    packed = tmp_path / "m.znn.safetensors"
    begin, end = stored_places(packed)["a"]
    content = bytearray(packed.read_bytes())
    (tmp_path / "frame.znn").write_bytes(content[begin:end])
    listing = json.loads(run_znn("-l", "--json", tmp_path / "frame.znn").stdout)
    assert listing["chunks"] > 1
    chunks, at = [], begin + 32
    for _ in range(listing["chunks"]):
        size = 20 + struct.unpack("<I", content[at + 8:at + 12])[0]
        chunks.append(bytes(content[at:at + size]))
        at += size
    table = at + 8
    sizes = [bytes(content[table + 8 * i:table + 8 * i + 8]) for i in range(len(chunks))]
    content[begin + 32:at] = b"".join([chunks[1], chunks[0], *chunks[2:]])
    content[table:table + 8 * len(sizes)] = b"".join([sizes[1], sizes[0], *sizes[2:]])
    packed.write_bytes(content)
    assert "tensor 'a': " in last_message(run_znn("-t", packed, status=1))


@pytest.mark.parametrize("change", ["word", "begin"])
def test_a_damaged_header_of_safetensors_is_no_foreign_file(run_znn, model, tmp_path, change):
    packed, _ = model
    content = bytearray(packed.read_bytes())
    packed.unlink()
    place = {"word": content.index(b'"data_offsets"') + 14, "begin": 7}[change]
    content[place] ^= 0x20
    message = check_bad(run_znn, tmp_path, bytes(content), None, packed.name, ALL_MODES)
    assert "safetensors" in message and ("damaged" in message or f"from byte {place}" in message)


def test_what_follows_the_tensors_is_refused(run_znn, model, tmp_path):
    packed, _ = model
    content = packed.read_bytes()
    packed.unlink()
    check_bad(run_znn, tmp_path, content + b"junk", f"last 4 bytes, from byte {len(content)} on", packed.name, ALL_MODES)


@pytest.mark.parametrize("threads", ["-T1", "-T3"])
def test_many_tensors_of_all_dtypes_and_sizes_come_back(run_znn, tmp_path, threads):
    """One encoder makes all their frames, some of which it gives up, as no smaller."""
    random = np.random.default_rng(3)
    tensors = {}
    for i in range(300):
        dtype, size = [("F32", 4), ("BF16", 2), ("I64", 8), ("U8", 1)][i % 4]
        count = int(random.integers(0, 30_000)) if i % 3 else int(random.integers(0, 200))
        content = random.bytes(count * size) if i % 5 == 0 else bf16_bytes(count * size // 2 + 1, i)[:count * size]
        tensors[f"t{i}"] = dtype, content
    tensors["large"] = "BF16", bf16_bytes(6_000_000)
    tensors["noise"] = "F32", random.bytes(12_000_000)
    tensors["after"] = "BF16", bf16_bytes(100_000)
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    run_znn(threads, "--safetensors", path)
    packed = tmp_path / "m.znn.safetensors"
    assert run_znn(threads, "-dc", packed).stdout == path.read_bytes()
    # Each frame is what compressing that tensor alone makes.
    content, places = packed.read_bytes(), stored_places(packed)
    compressed = [name for name, (begin, end) in places.items() if end - begin < len(tensors[name][1])]
    assert "large" in compressed and "after" in compressed and "noise" not in compressed and len(compressed) > 100
    for name in ["large", "after", *compressed[:20]]:
        dtype, plain = tensors[name]
        (tmp_path / "one").write_bytes(plain)
        begin, end = places[name]
        assert run_znn("--dtype", dtype, "-c", tmp_path / "one").stdout == content[begin:end]
