"""What the library writes is decoded by a decoder that was written from docs/FORMAT.md alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xxhash

sys.path.insert(0, str(Path(__file__).parent / "reference"))
import znn_reference  # noqa: E402


def weights(count, seed=1):
    return (np.random.default_rng(seed).standard_normal(count) * 0.05).astype("<f4")


def bf16(values):
    return (values.view("<u4") >> 16).astype("<u2")


def clean(values):
    return values.view("<u4") & np.uint32(0xFFFF0000)


def sparse(values):
    return np.where(np.arange(len(values)) % 3 == 0, values, np.float32(0)).astype("<f4")


def many_exponents(count):
    rng = np.random.default_rng(3)
    return (rng.integers(60, 180, count) << 7 | rng.integers(0, 128, count)).astype("<u2")


N = 20_000
CASES = {
    "bf16": ("bf16", bf16(weights(N)).tobytes(), {3}),
    "bf16_odd": ("bf16", bf16(weights(N)).tobytes()[:-3] + b"abcde", {3}),
    "bf16_sparse": ("bf16", bf16(sparse(weights(N))).tobytes(), {3}),
    "bf16_many_exponents": ("bf16", many_exponents(N).tobytes(), {3}),
    "bf16_small": ("bf16", bf16(weights(77)).tobytes(), {0, 3}),
    "f16": ("f16", weights(N).astype("<f2").tobytes(), {3}),
    "f32": ("f32", weights(N).tobytes(), {3}),
    "f32_clean": ("f32", clean(weights(N)).tobytes(), {3}),
    "f32_half": ("f32", weights(N).astype("<f2").astype("<f4").tobytes(), {3}),
    "f64": ("f64", weights(N).astype("<f8").tobytes(), {3}),
    "f8": ("f8_e4m3", (bf16(weights(N)) >> 4).astype("u1").tobytes(), {0, 3}),
    "outliers": ("bf16", bf16(weights(N) * np.where(np.arange(N) % 5000, 1, 1e30).astype("<f4")).tobytes(), {3}),
    "i64": ("i64", np.arange(N, dtype="<i8").tobytes(), {2, 4}),
    "i8": ("i8", (weights(N) * 400).astype("i1").tobytes(), {4}),
    "zeros": ("f32", bytes(4 * N), {1}),
    "text": ("bytes", b"the quick brown fox " * 500, {2}),
    "noise": ("bytes", np.random.default_rng(2).bytes(5000), {0}),
    "empty": ("bytes", b"", set()),
}


@pytest.mark.parametrize("level", ["-1", "-3", "-9"])
@pytest.mark.parametrize("name", CASES)
def test_reference_decoder_reads_what_the_library_writes(znn, tmp_path, name, level):
    dtype, content, methods = CASES[name]
    source = tmp_path / name
    source.write_bytes(content)
    subprocess.run([znn, level, f"--dtype={dtype}", str(source)], check=True)
    frame = (tmp_path / (name + ".znn")).read_bytes()
    decoded, seen, _ = znn_reference.decode(frame, xxhash.xxh3_64_intdigest)
    assert decoded == content
    assert seen <= methods
    assert bool(seen) == bool(content)


@pytest.mark.parametrize("level, name, coder", [("-3", "bf16", 0), ("-9", "bf16_many_exponents", 1), ("-9", "bf16", 2)])
def test_every_coder_of_floats_is_met(znn, tmp_path, level, name, coder):
    source = tmp_path / name
    source.write_bytes(CASES[name][1])
    subprocess.run([znn, level, "--dtype=bf16", str(source)], check=True)
    _, _, coders = znn_reference.decode((tmp_path / (name + ".znn")).read_bytes(), xxhash.xxh3_64_intdigest)
    assert coder in coders


def test_reference_decoder_notices_damage(znn, tmp_path):
    source = tmp_path / "damaged"
    source.write_bytes(CASES["bf16_small"][1])
    subprocess.run([znn, "--dtype=bf16", str(source)], check=True)
    frame = bytearray((tmp_path / "damaged.znn").read_bytes())
    for at in range(0, len(frame), 7):
        damaged = frame.copy()
        damaged[at] ^= 0x10
        with pytest.raises(Exception):
            znn_reference.decode(bytes(damaged), xxhash.xxh3_64_intdigest)
