"""ZnnCompressor, ZnnDecompressor, ZnnFile and open."""

import io
import os
import random

import pytest

import znn

random.seed(1)
CONTENT = random.randbytes(3000) * 400  # 1.2 MB
FRAME = znn.compress(CONTENT)


def pieces(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


# ---- ZnnCompressor ----


@pytest.mark.parametrize("size", [1000, 262144, 10**7])
def test_pieces_compress_to_the_same_content(size):
    compressor = znn.ZnnCompressor()
    out = b"".join(map(compressor.compress, pieces(CONTENT, size))) + compressor.flush()
    assert znn.decompress(out) == CONTENT


def test_the_frame_does_not_depend_on_the_pieces():
    frames = set()
    for size in (999, 10**5, 10**7):
        compressor = znn.ZnnCompressor()
        frames.add(b"".join(map(compressor.compress, pieces(CONTENT, size))) + compressor.flush())
    assert len(frames) == 1


def test_a_flushed_block_can_be_read_at_once():
    compressor, decompressor = znn.ZnnCompressor(), znn.ZnnDecompressor()
    assert decompressor.decompress(compressor.compress(b"one") + compressor.flush(compressor.FLUSH_BLOCK)) == b"one"
    assert not decompressor.eof


def test_a_compressor_goes_on_with_another_frame():
    compressor = znn.ZnnCompressor()
    out = compressor.compress(b"one", compressor.FLUSH_FRAME) + compressor.compress(b"two") + compressor.flush()
    assert znn.decompress(out) == b"onetwo"


def test_last_mode_tells_the_last_mode():
    compressor = znn.ZnnCompressor()
    assert compressor.last_mode == compressor.FLUSH_FRAME
    compressor.compress(b"one")
    assert compressor.last_mode == compressor.CONTINUE


def test_a_pledged_size_is_in_the_frame():
    compressor = znn.ZnnCompressor()
    compressor.set_pledged_input_size(len(CONTENT))
    assert compressor.compress(CONTENT) + compressor.flush() == FRAME


def test_a_broken_pledge_is_an_error():
    compressor = znn.ZnnCompressor()
    compressor.set_pledged_input_size(5)
    with pytest.raises(ValueError):
        compressor.compress(b"four", compressor.FLUSH_FRAME)


def test_a_pledge_within_a_frame_is_refused():
    compressor = znn.ZnnCompressor()
    compressor.compress(b"one")
    with pytest.raises(ValueError):
        compressor.set_pledged_input_size(5)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError):
        znn.ZnnCompressor().compress(b"", 3)
    with pytest.raises(ValueError):
        znn.ZnnCompressor().flush(0)


# ---- ZnnDecompressor ----


@pytest.mark.parametrize("size", [1, 1000, 10**7])
def test_pieces_of_a_frame_decompress(size):
    frame = FRAME if size > 1 else znn.compress(CONTENT[:5000])
    decompressor = znn.ZnnDecompressor()
    out = b"".join(map(decompressor.decompress, pieces(frame, size)))
    assert out == CONTENT[: len(out)] and len(out) == znn.content_size(frame) and decompressor.eof


@pytest.mark.parametrize("most", [100, 5000, 10**7])
def test_max_length_bounds_every_answer(most):
    frame = FRAME if most > 100 else znn.compress(CONTENT[:5000])
    decompressor = znn.ZnnDecompressor()
    out = [decompressor.decompress(frame, most)]
    while not decompressor.eof:
        assert not decompressor.needs_input
        out.append(decompressor.decompress(b"", most))
    assert max(map(len, out)) <= most and b"".join(out) == CONTENT[: znn.content_size(frame)]


def test_max_length_nought_gives_nothing_and_loses_nothing():
    decompressor = znn.ZnnDecompressor()
    assert decompressor.decompress(FRAME, 0) == b"" and not decompressor.needs_input
    assert decompressor.decompress(b"") == CONTENT


def test_what_waits_is_not_the_callers_memory():
    data = bytearray(FRAME)
    decompressor = znn.ZnnDecompressor()
    out = decompressor.decompress(data, 10)
    data[:] = bytes(len(data))
    assert out + decompressor.decompress(b"") == CONTENT


def test_input_is_needed_until_the_frame_is_whole():
    decompressor = znn.ZnnDecompressor()
    decompressor.decompress(FRAME[:-1])
    assert decompressor.needs_input and not decompressor.eof and decompressor.unused_data == b""


def test_what_follows_the_frame_is_left():
    decompressor = znn.ZnnDecompressor()
    assert decompressor.decompress(FRAME + b"more") == CONTENT
    assert decompressor.eof and not decompressor.needs_input and decompressor.unused_data == b"more"


def test_after_the_end_there_is_an_error():
    decompressor = znn.ZnnDecompressor()
    decompressor.decompress(FRAME)
    with pytest.raises(EOFError):
        decompressor.decompress(b"")


def test_damage_is_found_with_its_place():
    damaged = bytearray(FRAME)
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(znn.ZnnError, match="byte"):
        znn.ZnnDecompressor().decompress(damaged)


# ---- ZnnFile and open ----


@pytest.fixture
def path(tmp_path):
    (tmp_path / "content.znn").write_bytes(FRAME)
    return tmp_path / "content.znn"


def test_files_written_are_read(tmp_path):
    with znn.open(tmp_path / "f", "wb") as file:
        assert file.write(CONTENT) == len(CONTENT) and file.tell() == len(CONTENT)
    with znn.open(tmp_path / "f") as file:
        assert file.read() == CONTENT and file.read() == b""


def test_a_file_without_content_is_read_as_that(tmp_path):
    znn.open(tmp_path / "f", "wb").close()
    assert znn.open(tmp_path / "f").read() == b""


def test_appending_adds_to_the_content(path):
    with znn.open(path, "ab") as file:
        file.write(b"more")
    assert znn.open(path).read() == CONTENT + b"more"


def test_x_does_not_overwrite(path):
    with pytest.raises(FileExistsError):
        znn.open(path, "xb")


def test_text_is_written_and_read(tmp_path):
    with znn.open(tmp_path / "f", "wt", encoding="latin-1") as file:
        file.write("zwölf\nBoxkämpfer\n")
    with znn.open(tmp_path / "f", "rt", encoding="latin-1") as file:
        assert list(file) == ["zwölf\n", "Boxkämpfer\n"]


def test_lines_are_read(tmp_path):
    (tmp_path / "f").write_bytes(znn.compress(b"one\ntwo\nthree"))
    with znn.open(tmp_path / "f") as file:
        assert file.readline() == b"one\n" and list(file) == [b"two\n", b"three"]


def test_parts_are_read(path):
    with znn.open(path) as file:
        assert file.peek(5)[:5] == CONTENT[:5]
        assert file.read(10) == CONTENT[:10] and file.read1(5) == CONTENT[10:15]
        buffer = bytearray(5)
        assert file.readinto(buffer) == 5 and buffer == CONTENT[15:20] and file.tell() == 20


def opened(path, kind):
    return znn.open(path if kind == "path" else io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_seeking_goes_anywhere(path, kind):
    with opened(path, kind) as file:
        for at in (1000000, 5, 600000, len(CONTENT) - 3, 0):
            assert file.seek(at) == at and file.read(100) == CONTENT[at : at + 100]
        assert file.seek(-7, io.SEEK_END) == len(CONTENT) - 7 and file.read() == CONTENT[-7:]
        assert file.seek(10) == 10 and file.seek(5, io.SEEK_CUR) == 15 and file.read(1) == CONTENT[15:16]


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_seeking_beyond_the_end_reads_nothing(path, kind):
    with opened(path, kind) as file:
        file.seek(len(CONTENT) + 10)
        assert file.read() == b""


def test_seeking_in_a_file_decodes_only_what_is_read(path):
    """Damage at its begin does not matter to who reads the end."""
    damaged = bytearray(FRAME)
    damaged[80] ^= 1
    path.write_bytes(damaged)
    with znn.open(path) as file:
        file.seek(-10, io.SEEK_END)
        assert file.read() == CONTENT[-10:]
    with pytest.raises(znn.ZnnError):
        znn.open(path).read()


def test_frames_in_a_row_are_one_content(path):
    path.write_bytes(FRAME + znn.compress(b"") + FRAME)
    assert znn.open(path).read() == CONTENT * 2


@pytest.mark.parametrize("left", [1, 60, len(FRAME) - 1])
def test_a_file_that_is_cut_is_an_error(path, left):
    path.write_bytes(FRAME[:-left])
    with pytest.raises((EOFError, znn.ZnnError)):
        znn.open(path).read()


def test_an_empty_file_is_an_error(path):
    path.write_bytes(b"")
    with pytest.raises(EOFError):
        znn.open(path).read()


def test_what_follows_a_frame_and_is_none_is_an_error(path):
    path.write_bytes(FRAME + b"garbage")
    with pytest.raises(znn.ZnnError):
        znn.open(path).read()


def test_a_file_object_is_not_closed(path):
    with open(path, "rb") as outer:
        with znn.open(outer) as file:
            assert file.read() == CONTENT
        assert not outer.closed


def test_pipes_are_written_and_read():
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb") as target:
        with znn.open(target, "wb") as file:
            file.write(b"content")
        target.close()
        file = znn.open(source)
        assert file.read() == b"content"


def test_flushing_makes_what_was_written_readable(tmp_path):
    with znn.open(tmp_path / "f", "wb") as file:
        file.write(b"content")
        file.flush()
        decompressor = znn.ZnnDecompressor()
        assert decompressor.decompress((tmp_path / "f").read_bytes()) == b"content"


def test_closed_files_say_so(path):
    file = znn.open(path)
    file.close()
    file.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_files_do_what_their_mode_says(path, tmp_path):
    with znn.open(path) as file:
        assert file.readable() and not file.writable() and file.mode == "rb" and file.name == str(path)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
    with znn.open(tmp_path / "w", "wb") as file:
        assert file.writable() and not file.readable() and not file.seekable() and file.mode == "wb"
        with pytest.raises(io.UnsupportedOperation):
            file.read()


@pytest.mark.parametrize(
    "arguments",
    [{"mode": "rw"}, {"mode": "rbt"}, {"mode": "q"}, {"mode": "rb", "encoding": "utf-8"}, {"mode": "wb", "level": 0}],
)
def test_bad_arguments_are_refused_before_a_file_is_touched(path, arguments):
    with pytest.raises(ValueError):
        znn.open(path, **arguments)
    assert path.read_bytes() == FRAME


def test_arrays_are_written_by_their_bytes(tmp_path):
    np = pytest.importorskip("numpy")
    data = np.arange(1000.0).reshape(10, 100)
    with znn.open(tmp_path / "f", "wb", dtype=data.dtype) as file:
        assert file.write(data) == data.nbytes
    with znn.open(tmp_path / "f") as file:
        assert np.array_equal(np.frombuffer(file.read()).reshape(10, 100), data)


def test_numpy_saves_to_and_loads_from_it(tmp_path):
    np = pytest.importorskip("numpy")
    data = np.arange(1000.0).reshape(10, 100)
    with znn.open(tmp_path / "f", "wb") as file:
        np.save(file, data)
    with znn.open(tmp_path / "f") as file:
        assert np.array_equal(np.load(file), data)


# ---- Others ----


@pytest.mark.parametrize("compression", ["znn", "infer"])
def test_fsspec_writes_and_reads_it(compression):
    fsspec = pytest.importorskip("fsspec")
    import znn.fsspec  # noqa: F401

    with fsspec.open("memory://there/w.znn", "wb", compression=compression) as file:
        file.write(CONTENT)
    with fsspec.open("memory://there/w.znn", "rb") as file:
        assert znn.is_frame(file.read())
    with fsspec.open("memory://there/w.znn", "rb", compression=compression) as file:
        assert file.read() == CONTENT


class TestNumcodecs:
    np = pytest.importorskip("numpy")

    @pytest.fixture
    def codec(self):
        return pytest.importorskip("numcodecs").get_codec({"id": "znn", "level": 5})

    def test_it_is_found_by_its_entry_point_and_keeps_its_config(self, codec):
        assert codec.get_config()["level"] == 5 and codec.get_config()["id"] == "znn"

    def test_arrays_come_back(self, codec):
        data = self.np.random.default_rng(1).standard_normal((50, 40)).astype("f4")
        assert self.np.array_equal(self.np.frombuffer(codec.decode(codec.encode(data)), "f4").reshape(50, 40), data)

    def test_arrays_say_their_dtype(self, codec):
        data = self.np.random.default_rng(1).standard_normal(10000).astype("f2")
        assert codec.encode(data) == znn.compress(data, "f16", level=5)

    def test_out_is_filled(self, codec):
        data = self.np.arange(1000, dtype="i8")
        out = self.np.empty_like(data)
        codec.decode(codec.encode(data), out)
        assert self.np.array_equal(out, data)

    def test_out_of_another_size_is_refused(self, codec):
        with pytest.raises(ValueError):
            codec.decode(codec.encode(bytes(100)), bytearray(101))
