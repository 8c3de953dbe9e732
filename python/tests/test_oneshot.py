"""compress and decompress, from and into every kind of buffer."""

import array
import mmap
import sys
import subprocess

import pytest

import znn

CONTENT = bytes(range(256)) * 300


def test_bytes_come_back():
    assert znn.decompress(znn.compress(CONTENT)) == CONTENT


def test_nothing_comes_back_as_nothing():
    assert znn.decompress(znn.compress(b"")) == b""


@pytest.mark.parametrize(
    "kind", [bytearray, memoryview, lambda b: memoryview(b).toreadonly(), lambda b: array.array("d", b)]
)
def test_any_buffer_is_taken(kind):
    assert znn.decompress(znn.compress(kind(CONTENT))) == CONTENT


def test_a_buffer_with_gaps_is_refused():
    with pytest.raises(ValueError, match="contiguous"):
        znn.compress(memoryview(CONTENT)[::2])


@pytest.mark.parametrize("data", ["text", 7, None, [1, 2]])
def test_what_is_no_buffer_is_refused(data):
    with pytest.raises(TypeError):
        znn.compress(data)


def test_out_of_the_right_size_is_filled():
    out = bytearray(len(CONTENT))
    assert znn.decompress(znn.compress(CONTENT), out=out) == len(CONTENT)
    assert out == CONTENT


def test_out_may_be_larger_and_keeps_the_rest():
    out = bytearray(b"x" * (len(CONTENT) + 5))
    assert znn.decompress(znn.compress(CONTENT), out=out) == len(CONTENT)
    assert out[len(CONTENT) :] == b"xxxxx"


def test_out_may_be_a_map_of_memory():
    with mmap.mmap(-1, len(CONTENT)) as out:
        znn.decompress(znn.compress(CONTENT), out=out)
        assert out[:] == CONTENT


def test_a_smaller_out_is_refused():
    with pytest.raises(znn.ZnnError, match="destination"):
        znn.decompress(znn.compress(CONTENT), out=bytearray(len(CONTENT) - 1))


def test_a_read_only_out_is_refused():
    with pytest.raises(TypeError, match="read-only"):
        znn.decompress(znn.compress(CONTENT), out=bytes(len(CONTENT)))


def test_frames_in_a_row_are_one_content():
    assert znn.decompress(znn.compress(b"one") + znn.compress(b"two")) == b"onetwo"


def test_content_size_is_known_without_decompressing():
    assert znn.content_size(znn.compress(CONTENT)) == len(CONTENT)


@pytest.mark.parametrize("damaged", [b"", b"\x89ZNN", CONTENT])
def test_what_is_no_frame_is_refused(damaged):
    with pytest.raises(znn.ZnnError):
        znn.decompress(damaged)


def test_a_flipped_bit_is_found():
    frame = bytearray(znn.compress(CONTENT))
    frame[len(frame) // 2] ^= 4
    with pytest.raises(znn.ZnnError):
        znn.decompress(frame)


def test_without_checksums_frames_are_smaller_or_equal():
    plain = znn.compress(CONTENT, checksum=False)
    assert len(plain) <= len(znn.compress(CONTENT)) and znn.decompress(plain) == CONTENT


@pytest.mark.parametrize(
    "arguments", [{"level": 0}, {"level": 10}, {"threads": -1}, {"threads": 257}, {"dtype": "f31"}]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError):
        znn.compress(CONTENT, **arguments)


def test_threads_do_not_change_the_bytes():
    assert znn.compress(CONTENT * 20, threads=3) == znn.compress(CONTENT * 20)


def test_is_frame_tells_frames_from_others():
    assert znn.is_frame(znn.compress(b"")) and not znn.is_frame(CONTENT)


def test_importing_znn_imports_neither_numpy_nor_torch():
    code = "import sys, znn; sys.exit(bool({'numpy', 'torch', 'safetensors'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_errors_have_a_module_that_exists():
    assert znn.ZnnError.__module__ == "znn"


class Dlpack:
    """What shows its memory by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class TestNumpy:
    np = pytest.importorskip("numpy")

    @pytest.mark.parametrize(
        "dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16", ">f4"]
    )
    def test_arrays_come_back(self, dtype):
        data = self.np.arange(5000).reshape(50, 100).astype(dtype)
        out = self.np.empty_like(data)
        assert znn.decompress(znn.compress(data), out=out) == data.nbytes
        assert out.tobytes() == data.tobytes()

    def test_an_array_says_its_dtype(self):
        data = self.np.random.default_rng(1).standard_normal(20000).astype("f2")
        assert znn.compress(data) == znn.compress(data.tobytes(), dtype="f16")

    def test_a_dtype_may_be_numpys(self):
        data = self.np.random.default_rng(1).standard_normal(20000).astype("f2").tobytes()
        assert znn.compress(data, dtype=self.np.float16) == znn.compress(data, dtype="f16")
        assert znn.compress(data, dtype=self.np.dtype("f2")) == znn.compress(data, dtype="f16")

    def test_bfloat16_of_ml_dtypes_comes_back(self):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        data = self.np.random.default_rng(1).standard_normal(20000).astype(ml_dtypes.bfloat16)
        assert znn.compress(data) == znn.compress(data.tobytes(), dtype="bf16")

    def test_a_scalar_array_comes_back(self):
        out = self.np.zeros((), "f8")
        znn.decompress(znn.compress(self.np.float64(2.5).reshape(())), out=out)
        assert out == 2.5

    def test_an_array_with_gaps_is_refused(self):
        with pytest.raises(ValueError, match="contiguous"):
            znn.compress(self.np.zeros((4, 4))[:, ::2])

    def test_an_array_with_gaps_as_out_is_refused(self):
        with pytest.raises(ValueError, match="contiguous"):
            znn.decompress(znn.compress(bytes(64)), out=self.np.zeros((4, 4))[:, ::2])

    def test_read_only_arrays_are_taken(self):
        data = self.np.arange(100.0)
        data.flags.writeable = False
        assert znn.decompress(znn.compress(data)) == data.tobytes()

    def test_memory_by_dlpack_is_read_and_filled(self):
        data, out = self.np.arange(1000, dtype="f4"), self.np.zeros(1000, "f4")
        assert znn.compress(Dlpack(data)) == znn.compress(data)
        assert znn.decompress(znn.compress(data), out=Dlpack(out)) == data.nbytes
        assert self.np.array_equal(out, data)

    def test_an_out_that_would_be_copied_is_refused(self):
        class Copied:
            dtype = self.np.dtype("f4")

            def __array__(_self, *arguments, **named):
                return self.np.arange(1000, dtype="f4")

        frame = znn.compress(Copied())
        assert frame == znn.compress(self.np.arange(1000, dtype="f4"))
        with pytest.raises(TypeError, match="Copied"):
            znn.decompress(frame, out=Copied())

    def test_arrays_of_objects_are_refused(self):
        with pytest.raises(TypeError):
            znn.compress(self.np.array([object()]))


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    @pytest.mark.parametrize(
        "dtype", ["bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "int64", "uint8", "bool"]
    )
    def test_tensors_come_back(self, dtype):
        torch = self.torch
        data = torch.randn(50, 100).to(getattr(torch, dtype))
        out = torch.empty_like(data)
        assert znn.decompress(znn.compress(data), out=out) == data.nbytes
        assert torch.equal(out.view(torch.uint8), data.view(torch.uint8))

    def test_a_tensor_says_its_dtype(self):
        data = self.torch.randn(20000).to(self.torch.bfloat16)
        raw = data.view(self.torch.uint8).numpy().tobytes()
        assert znn.compress(data) == znn.compress(raw, dtype=self.torch.bfloat16) == znn.compress(raw, dtype="bf16")

    def test_a_parameter_is_taken(self):
        data = self.torch.nn.Parameter(self.torch.randn(10))
        assert znn.decompress(znn.compress(data)) == data.detach().numpy().tobytes()

    def test_a_scalar_tensor_comes_back(self):
        out = self.torch.zeros(())
        znn.decompress(znn.compress(self.torch.tensor(2.5)), out=out)
        assert out.item() == 2.5

    def test_a_transposed_tensor_is_refused(self):
        with pytest.raises(ValueError, match="contiguous"):
            znn.compress(self.torch.zeros(3, 4).T)

    def test_a_tensor_elsewhere_is_refused(self):
        with pytest.raises(TypeError, match="meta"):
            znn.compress(self.torch.zeros(3, device="meta"))

    def test_an_empty_tensor_is_taken(self):
        assert znn.decompress(znn.compress(self.torch.zeros(0, 3))) == b""

    def test_memory_by_dlpack_is_read_and_filled(self):
        data = self.torch.randn(1000).to(self.torch.bfloat16)
        out = self.torch.empty_like(data)
        assert znn.compress(Dlpack(data)) == znn.compress(data)
        znn.decompress(znn.compress(data), out=Dlpack(out))
        assert self.torch.equal(out, data)

    def test_numpy_is_not_needed(self):
        code = """
import sys
sys.modules["numpy"] = None
import torch, znn
for shape in ((50, 100), (0, 3)):
    data = torch.randn(shape).to(torch.bfloat16)
    out = torch.zeros_like(data)
    assert znn.decompress(znn.compress(data), out=out) == data.nbytes
    assert torch.equal(out, data)
"""
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
