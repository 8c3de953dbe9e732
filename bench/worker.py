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


def peak_of(work, result_size):
    """How far resident memory grows while work() runs, less its new result; None if it cannot be known."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else the free memory of earlier work would be used unseen
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # VmHWM begins anew
    except (AttributeError, OSError):
        work()
        return None
    before = resident("VmRSS")
    work()
    return max(0, resident("VmHWM") - before - result_size())


def fill(path, limit, bytes_wanted, one_copy):
    """(the buffer, the size of one copy): the file, or its first `limit` bytes, repeated."""
    content = np.fromfile(path, np.uint8, limit or -1)
    copies = 1 if one_copy else max(1, -(-bytes_wanted // content.size))
    return np.tile(content, copies), content.size


def same(contender, src, size):
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


def measure(spec):
    label, _, make = CONTENDERS[spec["contender"]]
    contender = make(spec["item"], spec["threads"], spec["library"])
    src, size = fill(spec["item"]["path"], spec["limit"], spec["buffer"], contender.one_copy)
    copy = Memcpy(spec["item"], 1)
    copy.load(src, size)
    contender.load(src, size)
    try:
        contender.before_compress()
        begun = time.perf_counter()
        compress_memory = peak_of(contender.compress, lambda: contender.packed_size() if contender.allocates else 0)
        middle = time.perf_counter()
        decompress_memory = peak_of(contender.decompress, lambda: src.size if contender.allocates else 0)
        end = time.perf_counter()
        if not same(contender, src, size):
            raise RuntimeError("does not restore the original")

        # The first round only warms up, unless it took so long that it must do.
        seconds = {"memcpy": [], "compress": [], "decompress": []}
        slow = end - begun > spec["seconds"]
        if slow:
            seconds["compress"], seconds["decompress"] = [middle - begun], [end - middle]
        while len(seconds["memcpy"]) < 3 or (not slow and sum(map(sum, seconds.values())) < spec["seconds"]):
            seconds["memcpy"].append(timed(copy.decompress))
            if not slow:
                contender.before_compress()
                seconds["compress"].append(timed(contender.compress))
                seconds["decompress"].append(timed(contender.decompress))
        if not same(contender, src, size):
            raise RuntimeError("restores the original at first and not in a later round")
        if not np.array_equal(src[:size], np.fromfile(spec["item"]["path"], np.uint8, spec["limit"] or -1)):
            raise RuntimeError("changes its input")
        packed = contender.packed_size()
    finally:
        contender.close()

    speed = {name: src.size / 1e6 / statistics.median(values) for name, values in seconds.items()}
    return {
        "label": label, "version": contender.version, "isa": getattr(contender, "isa", None),
        "note": contender.note, "file_bytes": size, "buffer_bytes": src.size, "packed_bytes": packed,
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
