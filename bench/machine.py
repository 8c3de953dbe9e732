"""What machine, library and tools a run was made with: a dict for the report."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

# Those that matter to a codec, of the many that a processor lists.
FLAGS = ["sse4_1", "avx", "avx2", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512vbmi",
         "avx512_vbmi2", "asimd", "sve", "sve2"]


def text(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def output(*command, cwd=None):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def field(pattern, content, default="not known"):
    found = re.search(pattern, content, re.M)
    return found[1].strip() if found else default


def caches():
    """"32 KB L1d, 1024 KB L2, 32768 KB L3", of the first core."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (text(folder / name).strip() for name in ("type", "level", "size"))
        if kind != "Instruction":
            found.append(f"{size.replace('K', ' KB')} L{level}{'d' if kind == 'Data' else ''}")
    return ", ".join(found) or "not known"


def compiler(build):
    """The compiler of the build, with its flags."""
    cache = text(build / "CMakeCache.txt")
    path = field(r"^CMAKE_C_COMPILER:\w+=(.*)$", cache, "")
    kind = field(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", cache, "")
    version = output(path, "--version").splitlines() if path else []
    return f"{version[0] if version else 'not known'}, {kind or 'no build type'}"


def commit(root):
    """"1a2b3c4", with a word if the C code differs from it; "" outside git."""
    name = output("git", "rev-parse", "--short", "HEAD", cwd=root)
    changed = output("git", "status", "--porcelain", "--", "lib", "include", "CMakeLists.txt", "cmake", cwd=root)
    return name + (" with changes" if name and changed else "")


def describe(root, build):
    cpuinfo = text("/proc/cpuinfo")
    flags = field(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, "").split()
    memory = int(field(r"^MemTotal:\s+(\d+) kB", text("/proc/meminfo"), "0")) * 1024
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = field(r"^model name\s*:(.*)$", cpuinfo, platform.processor() or platform.machine())
    family, number = (field(rf"^{name}\s*:(.*)$", cpuinfo, "") for name in ("cpu family", "model"))
    if family:
        model += f" (family {family}, model {number})"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": model,
        "instruction sets": " ".join(flag for flag in FLAGS if flag in flags) or platform.machine(),
        "cores": f"{cores}",
        "caches": caches(),
        "memory": f"{memory / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "huge pages": field(r"\[(\w+)\]", text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "compiler": compiler(build),
        "C library": " ".join(part for part in platform.libc_ver() if part) or "not known",
        "Python": platform.python_version(),
        "commit": commit(root) or "not known",
    }


def memory_as_usual():
    """The environment of a measuring process that leaves glibc alone."""
    return dict(os.environ, NUMPY_MADVISE_HUGEPAGE="0", PYTHONDONTWRITEBYTECODE="1")


def same_memory_for_all():
    """The environment of a measuring process: glibc keeps the memory that is freed, so that a peer which returns
    new objects does not pay for new pages in every round, and numpy asks for no huge pages for buffers that the
    peers' own memory would not have."""
    return dict(memory_as_usual(), MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_=str(1 << 34))
