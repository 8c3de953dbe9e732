"""The reference decoder's own XXH3 agrees with xxHash's, on both sides of every boundary in its specification."""

import random
import sys
from pathlib import Path

import xxhash

sys.path.insert(0, str(Path(__file__).parent / "reference"))
import xxh3  # noqa: E402


def test_xxh3_agrees_with_xxhash():
    data = random.Random(1).randbytes(5000)
    for size in [*range(0, 300), 511, 512, 513, 1023, 1024, 1025, 1088, 2047, 2048, 2049, 5000]:
        assert xxh3.xxh3_64(data[:size]) == xxhash.xxh3_64_intdigest(data[:size]), size
