"""Measure one contender on one input, in a process of its own; run.py starts it.

    worker.py SPEC.json RESULT.json

memcpy of the same buffer takes turns with the contender, in this same process, so
that a machine that slows down slows both.
"""

import ctypes
import json
import re
import statistics
import sys
import time

import numpy as np
from contenders import CONTENDERS, Memcpy


def resident(field):
    """VmRSS or VmHWM in bytes; None where there is no /proc."""
    try:
        with open("/proc/self/status") as file:
            return int(re.search(rf"{field}:\s+(\d+) kB", file.read())[1]) * 1024
    except OSError:
        return None


def peak_of(work):
    """How far resident memory grows while work() runs, in bytes; None if it cannot be known."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else the free memory of earlier work would be used unseen
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # VmHWM begins anew
    except (AttributeError, OSError):
        work()
        return None
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def less(peak, result_size):
    return None if peak is None else max(0, peak - result_size)


def content(path, limit=None):
    """The file, or its first `limit` bytes."""
    return np.fromfile(path, np.uint8, limit or -1)


def copies_for(size, bytes_wanted):
    return max(1, -(-bytes_wanted // size))


def same(contender, src):
    """Whether every restored byte is the original's."""
    begin = 0
    for part in contender.results():
        part = np.frombuffer(part, np.uint8)
        if not np.array_equal(part, src[begin:begin + part.size]):
            return False
        begin += part.size
    return begin == src.size


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def first_call(contender, file):
    """(peak memory of compress(), of decompress(), seconds of both), on one copy, verified."""
    contender.load(file, file.size)
    try:
        contender.before_compress()
        begun = time.perf_counter()
        packing, unpacking = peak_of(contender.compress), peak_of(contender.decompress)
        seconds = time.perf_counter() - begun
        if not same(contender, file):
            raise RuntimeError("does not restore the original")
        return (less(packing, contender.packed_size() if contender.new_packed else 0),
                less(unpacking, file.size if contender.new_restored else 0), seconds)
    finally:
        contender.close()


def rounds(contender, copy, src, budget):
    """The seconds of each round of memcpy, compress and decompress, in turns: {name: [seconds]}."""
    seconds = {"memcpy": [], "compress": [], "decompress": []}

    def spent():
        return sum(seconds["compress"]) + sum(seconds["decompress"])

    while spent() < budget or (len(seconds["memcpy"]) < 3 and spent() < 3 * budget):
        seconds["memcpy"].append(timed(copy.decompress))
        contender.before_compress()
        seconds["compress"].append(timed(contender.compress))
        seconds["decompress"].append(timed(contender.decompress))
    while len(seconds["memcpy"]) < 3:
        seconds["memcpy"].append(timed(copy.decompress))
    if not same(contender, src):
        raise RuntimeError("restores the original at first and not in a later round")
    return seconds


def measure(spec):
    def make():
        return CONTENDERS[spec["contender"]][2](spec["item"], spec["threads"], spec["library"])

    file = content(spec["item"]["path"], spec["limit"])
    contender = make()
    compress_memory, decompress_memory, first = first_call(contender, file)
    copies = copies_for(file.size, spec["buffer"])
    if contender.one_copy or first * copies > 3 * spec["seconds"]:
        copies = 1
    src = np.tile(file, copies)
    copy, contender = Memcpy(spec["item"], 1), make()
    copy.load(src, file.size)
    contender.load(src, file.size)
    try:
        copy.decompress()
        if copies > 1 or first < spec["seconds"]:  # else the first call was warming up enough
            contender.before_compress()
            contender.compress()
            contender.decompress()
        seconds = rounds(contender, copy, src, spec["seconds"])
        packed = contender.packed_size()
    finally:
        contender.close()
    if not np.array_equal(src, np.tile(content(spec["item"]["path"], spec["limit"]), copies)):
        raise RuntimeError("changes its input")

    speed = {name: src.size / 1e6 / statistics.median(values) for name, values in seconds.items()}
    return {
        "version": contender.version, "isa": getattr(contender, "isa", None),
        "file_bytes": file.size, "copies": copies, "packed_bytes": packed,
        "rounds": len(seconds["compress"]), "seconds": seconds,
        "size_percent": 100 * packed / src.size,
        "compress_mb_s": None if spec["contender"] == "memcpy" else speed["compress"],
        "decompress_mb_s": speed["decompress"], "memcpy_mb_s": speed["memcpy"],
        "compress_memory": compress_memory, "decompress_memory": decompress_memory,
    }


def main():
    spec_path, result_path = sys.argv[1:]
    with open(spec_path) as file:
        spec = json.load(file)
    try:
        result = measure(spec)
    except Exception as error:  # any failure of a peer is a result: it is reported
        result = {"absent": f"{type(error).__name__}: {error}"}
    with open(result_path, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
