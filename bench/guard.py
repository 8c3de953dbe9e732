"""A guard on speed: fails if decompression has fallen far behind memcpy.

    bench/guard.py build/znn [--ratio 0.7]

BF16, default level, one thread, in memory, beside memcpy in the same process: the
figure is a ratio within one run. A noisy machine gets several tries, and one is enough.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import inputs
import numpy as np
from contenders import Memcpy, Znn
from worker import content, copies_for, same, timed

# Of the ratio asked of AVX-512: about what is left of its speed without it.
PART = {"avx512": 1.0, "avx2": 0.5, "neon": 0.4, "scalar": 0.02}
BUFFER = 256_000_000
ROUNDS, TRIES, PAUSE = 7, 5, 3


def ratio(znn, memcpy):
    """Decompression against memcpy, by the medians of rounds in turns."""
    times = [(timed(memcpy.decompress), timed(znn.decompress)) for _ in range(ROUNDS)]
    copy, decode = (statistics.median(column) for column in zip(*times))
    return copy / decode


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("znn", type=Path, help="the command; libznn.so beside it is measured")
    parser.add_argument("--ratio", type=float, default=0.7,
                        help="of memcpy, to be reached with AVX-512; less is asked of others (default %(default)s)")
    args = parser.parse_args()
    build = args.znn.resolve().parent
    item = {"path": str(inputs.bf16_file(build / "bench" / "inputs")), "dtype": "bf16", "znn_dtype": "bf16"}
    file = content(item["path"])
    src = np.tile(file, copies_for(file.size, BUFFER))
    znn, memcpy = Znn(item, 1, build / "libznn.so", 3), Memcpy(item, 1)
    for contender in (znn, memcpy):
        contender.load(src, file.size)
        contender.compress()
        contender.decompress()
        if not same(contender, src):
            print("guard: FAILED: does not restore the original")
            return 1

    wanted = args.ratio * PART.get(znn.isa, PART["scalar"])
    found = []
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        found.append(ratio(znn, memcpy))
        if found[-1] >= wanted:
            break
    passed = max(found) >= wanted
    tries = ", ".join(f"{value:.2f}" for value in found)
    print(f"guard: {'ok' if passed else 'FAILED'}: BF16 decompression is {max(found):.2f} of memcpy, "
          f"{wanted:.2f} wanted with {znn.isa} (tries: {tries}; size {100 * znn.packed_size() / src.size:.2f} %)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
