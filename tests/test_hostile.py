"""Files made to do harm, with right checksums wherever those would stop them, and folders that others may write to.

Every one is refused before anything is written, in memory that does not depend on what it claims.
"""

import json
import os
import struct
import subprocess
import sys

import pytest
import xxhash

from test_cli import MIB, bf16_bytes, last_message, names_in, peak_memory, safetensors_bytes
from test_crash import shim, shimmed  # noqa: F401, a fixture

U64_MAX = 2**64 - 1
CONSTANT, REPEAT, DELTA = 1, 5, 6
MEMORY_MAX = 64 * MIB


def digest(data):
    return xxhash.xxh3_64_intdigest(data)


def header(size=None, chunk_log=18, extensions=b"", flags=None):
    """Without a flag for checksums, so that content can be claimed that nobody computes."""
    flags = (1 if size is not None else 0) if flags is None else flags
    start = b"\x89ZNN" + struct.pack("<BBHQQI", 1, chunk_log, flags, U64_MAX if size is None else size, 0,
                                     len(extensions))
    return start + struct.pack("<I", digest(start + extensions) & 0xffffffff) + extensions


def block(content_size, payload=b"\0", method=CONSTANT, dtype=1, stored_size=None):
    return struct.pack("<BBBBIIQ", 1, dtype, method, 0, content_size,
                       len(payload) if stored_size is None else stored_size, 0) + payload


def end(entries, content=None, frame_size=0, chunks=None):
    """entries: (content's size, block's size); frame_size: of what comes before."""
    table = b"\2" + bytes(7) + b"".join(struct.pack("<II", *entry) for entry in entries)
    trailer = struct.pack("<QQQQQ", len(entries) if chunks is None else chunks,
                          sum(entry[0] for entry in entries) if content is None else content, 0,
                          frame_size if frame_size > 1 << 40 else frame_size + len(table) + 48, 0)
    return table + trailer + struct.pack("<I", digest(table + trailer) & 0xffffffff) + b"ZNN\x89"


def frame(blocks, size=None, entries=None, **more):
    """blocks: of block(); entries: of the table, where they are not those of the blocks."""
    head = header(size, more.pop("chunk_log", 18), more.pop("extensions", b""), more.pop("flags", None))
    body = head + b"".join(blocks)
    if entries is None:
        entries = [(int.from_bytes(b[4:8], "little"), len(b)) for b in blocks]
    return body + end(entries, frame_size=more.pop("frame_size", len(body)), **more)


BLOCK = block(1000)
FRAMES = {
    "a content of 2^63 in the header": frame([BLOCK], size=2**63),
    "a content of 2^64 - 2 in the header": frame([BLOCK], size=U64_MAX - 1),
    "a content of 2^63 in the trailer": frame([BLOCK], content=2**63),
    "a content of 2^63 in both": frame([BLOCK], size=2**63, content=2**63),
    "2^61 chunks": frame([BLOCK], chunks=2**61),
    "a frame of 2^63 bytes": frame([BLOCK], frame_size=2**63),
    "a frame that begins before the file": frame([BLOCK], frame_size=len(BLOCK) + 33),
    "a block beyond the file": frame([block(1000, stored_size=900)], entries=[(1000, 920)]),
    "a block into the end block": frame([block(1000, stored_size=40)], entries=[(1000, 60)]),
    "a payload larger than its content": frame([block(1, bytes(40))]),
    "a chunk of nothing": frame([block(0)]),
    "a chunk larger than the header allows": frame([block((1 << 18) + 1)]),
    "a chunk of 2^32 - 1": frame([block(2**32 - 1)]),
    "blocks that overlap by the table": frame([BLOCK, BLOCK], entries=[(1000, len(BLOCK)), (1000, len(BLOCK) - 1)]),
    "two entries for one block": frame([BLOCK], entries=[(1000, len(BLOCK)), (1000, len(BLOCK))]),
    "an entry of size 0": frame([BLOCK], entries=[(1000, len(BLOCK)), (1000, 0)]),
    "a table of other content": frame([BLOCK], entries=[(999, len(BLOCK))]),
    "a reference to earlier content": frame([BLOCK, block(1000, bytes(16), REPEAT)]),
    "a reference to itself": frame([block(1000, bytes(16), REPEAT)]),
    "a delta": frame([block(1000, bytes(16), DELTA)], flags=4),
    "chunks of 2^63 by the header": frame([BLOCK], chunk_log=63),
    "extensions beyond the file": frame([])[:24] + struct.pack("<I", 65536) + frame([])[28:],
    "an extension that leaves its room": frame([BLOCK], extensions=struct.pack("<HH", 2, 60000)),
    "an element type of no size": frame([block(1000, dtype=0)]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_hostile_frame_is_refused(znn, run_znn, tmp_path, name):
    path = tmp_path / "x.znn"
    path.write_bytes(FRAMES[name])
    for arguments in (["-d"], ["-t"], ["-d", "-f"], ["-dc"], ["-d", "-T2"]):
        done = run_znn(*arguments, path, status=1)
        assert done.stdout == b"" and done.stderr
    assert run_znn("-d", "-o", tmp_path / "out", input=FRAMES[name], status=1).stderr
    run_znn("-l", path, status=None)  # it need not look at payloads
    assert names_in(tmp_path) == ["x.znn"]


def test_the_frames_made_here_are_sound_where_nothing_is_wrong(run_znn, tmp_path):
    (tmp_path / "x.znn").write_bytes(frame([BLOCK, block(7, b"a")], size=1007))
    assert run_znn("-dc", tmp_path / "x.znn").stdout == bytes(1000) + b"a" * 7


# ---- Bombs ----


def disk_size(path):
    """All of it, since what is free may grow meanwhile."""
    return os.statvfs(path).f_blocks * os.statvfs(path).f_frsize


def test_a_bomb_is_refused_before_it_is_written_and_measured_in_little_memory(znn, run_znn, tmp_path):
    """A small file of more zeros than the disk holds: 1 TiB in 7 MB."""
    count, size = 1 << 18, 1 << 22
    if count * size <= disk_size(tmp_path):
        pytest.skip("a larger disk")
    path = tmp_path / "bomb.znn"
    path.write_bytes(frame([block(size)] * count, size=count * size, chunk_log=22))
    assert path.stat().st_size < 8e6
    assert "more than" in last_message(run_znn("-d", path, status=1))
    assert json.loads(run_znn("-l", "--json", path).stdout)["original_size"] == count * size
    assert peak_memory(znn, "-l", path) < MEMORY_MAX
    assert names_in(tmp_path) == ["bomb.znn"]


def test_a_bomb_in_compressed_safetensors_is_refused_before_it_is_written(run_znn, tmp_path):
    size = 1 << 22
    count = disk_size(tmp_path) // size + 2
    tensor = frame([block(size)] * count, size=count * size, chunk_log=22)
    plain = json.dumps({"a": {"dtype": "U8", "shape": [count * size], "data_offsets": [0, count * size]}})
    path = tmp_path / "m.znn.safetensors"
    path.write_bytes(compressed_safetensors(plain, {"a": ("U8", tensor)}))
    assert "more than" in last_message(run_znn("-d", path, status=1))
    assert names_in(tmp_path) == ["m.znn.safetensors"]


def test_the_memory_limit_refuses_large_chunks(run_znn, tmp_path):
    path = tmp_path / "x.znn"
    path.write_bytes(frame([block(1 << 22)], chunk_log=22))
    for arguments in (["-t"], ["-dc"], ["-l"]):
        run_znn("--memory=16M", *arguments, path)
        for limit, named in (("16383K", "16.8 MB"), ("1", "1 B"), ("0", "0 B")):
            told = last_message(run_znn(f"--memory={limit}", *arguments, path, status=1))
            assert f"the limit of {named} a thread allows; --memory raises it" in told
    assert "limit of 8.4 MB" in last_message(run_znn("--memory", "8M", "-d", "-c", input=path.read_bytes(), status=1))
    model = tmp_path / "m.znn.safetensors"
    model.write_bytes(compressed_safetensors(f'{{"a":{entry(0, 1 << 22)}}}', {"a": ("U8", path.read_bytes())}))
    run_znn("-t", model)
    assert "limit of 1 B" in last_message(run_znn("--memory=1", "-t", model, status=1))


def test_a_listing_tells_some_dtypes_apart_however_many_a_header_names(run_znn, tmp_path):
    """Or it would look through all of them for each tensor: a minute for 10 MB."""
    path = tmp_path / "many.safetensors"
    header = {f"t{i}": {"dtype": f"X{i}", "shape": [0], "data_offsets": [0, 0]} for i in range(1000)}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    listing = json.loads(run_znn("-l", "--json", path).stdout)
    assert len(listing["tensors"]) == 1000 and len(listing["dtypes"]) == 64
    assert [row["tensors"] for row in listing["dtypes"]] == [1] * 63 + [1000 - 63]
    assert listing["dtypes"][0]["dtype"] == "X0" and listing["dtypes"][-1]["dtype"] == "others"


@pytest.mark.parametrize("value", ["", "M", "-1", "1T", "1MM", "99999999999", "x"])
def test_a_memory_limit_that_is_none_is_wrong_usage(run_znn, tmp_path, value):
    run_znn(f"--memory={value}", "-t", tmp_path, status=2)


# ---- Safetensors, plain and compressed ----


def compressed_safetensors(plain_header, tensors):
    """With the plain file's header as text, whatever it says."""
    entries, data = {"__metadata__": {"znn": json.dumps({"version": 1, "header": plain_header, "about": ""})}}, b""
    for name, (dtype, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": [len(content)], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(first, last, shape=None, dtype="U8"):
    return f'{{"dtype":"{dtype}","shape":{json.dumps([last - first] if shape is None else shape)},' \
           f'"data_offsets":[{first},{last}]}}'


SMALL = frame([BLOCK], size=1000)
PLAIN_HEADERS = {
    "a tensor of 2^63": f'{{"a":{entry(0, 2**63)}}}',
    "a tensor of 2^64 - 1": f'{{"a":{entry(0, 2**64 - 1)}}}',
    "a shape whose product overflows": f'{{"a":{entry(0, 1000, [2**32, 2**32, 1000])}}}',
    "a shape whose product overflows to its size": f'{{"a":{entry(0, 1000, [2**61, 8, 1000])}}}',
    "another tensor of that name": f'{{"a":{entry(0, 1000)},"a":{entry(0, 1000)}}}',
    "tensors that overlap": f'{{"a":{entry(0, 1000)},"b":{entry(500, 1500)}}}',
    "a gap": f'{{"a":{entry(8, 1008)}}}',
    "offsets that run backwards": f'{{"a":{entry(1000, 0, [1000])}}}',
    "negative offsets": f'{{"a":{entry(-1000, 0)}}}',
    "a tensor that is not there": f'{{"a":{entry(0, 1000)},"b":{entry(1000, 2000)}}}',
    "content of another size": f'{{"a":{entry(0, 1001)}}}',
    "nested without end": '{"a":' * 50000,
}


@pytest.mark.parametrize("name", PLAIN_HEADERS)
def test_hostile_compressed_safetensors_are_refused(znn, run_znn, tmp_path, name):
    path = tmp_path / "m.znn.safetensors"
    tensors = {"a": ("U8", SMALL)}
    if "overlap" in name:
        tensors["b"] = ("U8", SMALL)
    path.write_bytes(compressed_safetensors(PLAIN_HEADERS[name], tensors))
    for arguments in (["-d", "--safetensors"], ["-d", "-f", "--safetensors"], ["-t", "--safetensors"]):
        assert run_znn(*arguments, path, status=1).stderr
    assert names_in(tmp_path) == ["m.znn.safetensors"]


def test_the_compressed_safetensors_made_here_are_sound_where_nothing_is_wrong(run_znn, tmp_path):
    path = tmp_path / "m.znn.safetensors"
    path.write_bytes(compressed_safetensors(f'{{"a":{entry(0, 1000)}}}', {"a": ("U8", SMALL)}))
    run_znn("-d", path)
    assert (tmp_path / "m.safetensors").read_bytes()[-1000:] == bytes(1000)


@pytest.mark.parametrize("size", [2**63, U64_MAX, U64_MAX - 7, 10**9])
def test_a_header_beyond_the_file_is_content_like_any_other(run_znn, tmp_path, size):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", size) + b'{"a":' + bytes(5000))
    assert run_znn("--safetensors", path, status=1).stderr
    run_znn(path)
    assert run_znn("-dc", f"{path}.znn").stdout == path.read_bytes()


# ---- ZipNN's streams ----


@pytest.mark.parametrize("offset", [16, 24, 32 + 4, 32 + 20])
@pytest.mark.parametrize("value", [2**63, U64_MAX, 2**40])
def test_sizes_in_zipnn_streams_are_not_believed(znn, run_znn, tmp_path, offset, value):
    """Of the content, of the stream, and of two pieces."""
    stream = bytearray(run_znn("-c", "--format=zipnn", "--dtype=bf16", input=bf16_bytes(300_000)).stdout)
    stream[offset:offset + 8] = struct.pack("<Q", value)
    path = tmp_path / "x.znn"
    path.write_bytes(stream)
    for arguments in (["-d"], ["-t"], ["--convert"]):
        assert run_znn(*arguments, path, status=1).stderr
    assert names_in(tmp_path) == ["x.znn"]


# ---- Names ----


def test_names_inside_files_name_no_files(run_znn, tmp_path):
    """The format has no paths; tensors may be called anything."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("../climbed", "/climbed", "..", "work/../../climbed"):
        (work / "m.safetensors").write_bytes(safetensors_bytes({name: ("BF16", bf16_bytes(5000))}))
        for arguments in (["--safetensors"], []):
            run_znn("-f", *arguments, work / "m.safetensors")
        before = (work / "m.safetensors").read_bytes()
        for packed in ("m.znn.safetensors", "m.safetensors.znn"):
            run_znn("-d", "-f", work / packed)
            assert (work / "m.safetensors").read_bytes() == before
        assert names_in(work) == ["m.safetensors", "m.safetensors.znn", "m.znn.safetensors"]
    assert names_in(tmp_path) == ["work"]


def test_recursion_does_not_leave_the_folder(run_znn, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"x" * 1000)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "folder").symlink_to(outside)
    (inside / "file").symlink_to(outside / "x")
    (inside / "own").write_bytes(b"y" * 1000)
    for arguments in (["-r"], ["-r", "--rm"], ["-d", "-r"], ["--convert", "-r"]):
        run_znn(*arguments, inside, status=None)
        assert names_in(outside) == ["x"] and (outside / "x").read_bytes() == b"x" * 1000


# ---- Folders that others may write to ----


def derived_name(target):
    """Of the temporary file, as cli/output.c has it."""
    value = 0xcbf29ce484222325
    for byte in target.encode():
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return f".znn-{value:016x}.tmp"


@pytest.mark.parametrize("planted", ["link", "dangling link", "hard link", "pipe", "folder", "file"])
def test_what_lies_at_the_temporary_name_is_never_written_to(run_znn, tmp_path, planted):
    victim, spot = tmp_path / "victim", tmp_path / derived_name("w.znn")
    victim.write_bytes(b"precious")
    content = bf16_bytes(50_000)
    (tmp_path / "w").write_bytes(content)
    held = None
    if planted == "link":
        spot.symlink_to(victim)
    elif planted == "dangling link":
        spot.symlink_to(tmp_path / "nowhere")
    elif planted == "hard link":
        os.link(victim, spot)
    elif planted == "pipe":
        os.mkfifo(spot)
    elif planted == "folder":
        spot.mkdir()
    else:
        held = os.open(spot, os.O_RDWR | os.O_CREAT)
    run_znn(tmp_path / "w")
    assert victim.read_bytes() == b"precious" and not (tmp_path / "nowhere").exists()
    assert run_znn("-dc", tmp_path / "w.znn").stdout == content
    assert not (tmp_path / "w.znn").is_symlink()
    if held is not None:  # who made the file could write to the result
        assert os.fstat(held).st_size == 0 and not os.path.samestat(os.fstat(held), os.stat(tmp_path / "w.znn"))
        os.close(held)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the shim is for Linux")
@pytest.mark.parametrize("force", [False, True])
def test_a_link_planted_at_the_last_moment_is_not_followed(znn, tmp_path, shim, force):  # noqa: F811
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "w").write_bytes(bf16_bytes(50_000))
    done = subprocess.run([znn, *["-f"] * force, "w"], cwd=tmp_path, capture_output=True,
                          env=shimmed(shim, "rename:1:plant", ZNN_SHIM_FILE=tmp_path / "w.znn"))
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert done.returncode == (0 if force else 1)
    assert (tmp_path / "w.znn").is_symlink() == (not force)
    assert names_in(tmp_path) == ["victim", "w", "w.znn"]
