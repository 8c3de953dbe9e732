"""How long Transformers takes to load a model, plain and compressed by znn.

    .venv-hf/bin/python bench/loading.py FOLDER [--runs 5] [--disk 500] [--only WORD]

Makes a Llama of 1.07 GB in FOLDER, once (BF16, normal with a deviation of its own for every tensor), and its compressed
form, and prints a table for docs/PYTHON.md. Every loading has a process of its own, forked from one that has imported
all modules, after it has loaded a small model; plain and compressed take turns; the table has medians.

- from_pretrained: that call. It maps plain files, and reads little of them.
- every weight read: and each weight summed up after it.
- a whole program: a new Python that imports what it needs, loads, and ends.
- a first answer: and one pass forward over 8 tokens.
- cast: from_pretrained to another dtype.
- disable_mmap=True: files are read instead of mapped, every weight read.
- disk: every weight read, with the files out of the page cache and the disk limited by the kernel to so many MB/s.
  That takes root and the blkio controller of cgroup v1; without, the lines are left out.
"""

import argparse
import gc
import mmap
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

KINDS = ("plain", "compressed")
CONTROLLER = Path("/sys/fs/cgroup/blkio/znn-bench")


def make_models(folder, layers, width):
    """folder/plain and folder/compressed, with each weight its own deviation about 0.02, as trained models have it."""
    import torch
    import transformers
    import znn.transformers

    if (folder / "compressed").exists():
        return
    if not (folder / "plain").exists():
        torch.manual_seed(1)
        config = transformers.LlamaConfig(
            vocab_size=16 * width,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=max(width // 256, 1),
            dtype=torch.bfloat16,
        )
        with torch.device("meta"):
            model = transformers.LlamaForCausalLM(config)
        model = model.to(torch.bfloat16).to_empty(device="cpu")
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.02 * 2 ** torch.randn(()).item())
        model.save_pretrained(folder / "plain")
    znn.transformers.compress_model(folder / "plain", folder / "compressed")


def weight_files(folder):
    return sorted(folder.glob("*.safetensors"))


def in_memory(folder):
    """Read from the disk, as most files in the page cache once were; those just written lie there in other parts."""
    out_of_memory(folder)
    for path in weight_files(folder):
        with open(path, "rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def out_of_memory(folder):
    for path in weight_files(folder):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def blocks_read():
    """Bytes that the system fetched from disks for this process."""
    text = Path("/proc/self/io").read_text()
    return int(text.partition("\nread_bytes: ")[2].split()[0])


def back_memory(size):
    """Have free memory that the host of a virtual machine backs: what it took back, it gives again slowly."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(14)  # MADV_HUGEPAGE
        memory.madvise(23)  # MADV_POPULATE_WRITE


def touch(model):
    import torch

    for parameter in model.parameters():
        parameter.detach().view(torch.int64).sum()


def loading(folder, small, then=None, **arguments):
    """Seconds to load the model in folder, and to do `then` with it, in a new process."""
    from transformers import AutoModelForCausalLM

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # What is only done once in a process, none of which is about these weights.
            model = AutoModelForCausalLM.from_pretrained(small, **arguments)
            (then or touch)(model)
            del model
            gc.collect()
            back_memory(3 << 30)
            before = blocks_read()
            begin = time.perf_counter()
            model = AutoModelForCausalLM.from_pretrained(folder, **arguments)
            if then:
                then(model)
            seconds = time.perf_counter() - begin
            os.write(writing, f"{seconds} {blocks_read() - before}".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read().split()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("a loading failed")
    return float(answer[0]), int(answer[1])


def program(folder):
    """Seconds that a program takes whose one purpose is to load the model."""
    lines = ["from transformers import AutoModelForCausalLM", f"AutoModelForCausalLM.from_pretrained({str(folder)!r})"]
    if folder.name == "compressed":
        lines.insert(0, "import znn.transformers")
    back_memory(3 << 30)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def forward(model):
    import torch

    with torch.no_grad():
        model(torch.arange(8)[None])


class Limited:
    """A group of processes that read from the disk of `path` at so many bytes a second."""

    def __init__(self, path, rate):
        device = os.stat(path).st_dev
        CONTROLLER.mkdir()
        (CONTROLLER / "blkio.throttle.read_bps_device").write_text(f"{os.major(device)}:{os.minor(device)} {rate}\n")

    def __enter__(self):
        (CONTROLLER / "tasks").write_text(str(os.getpid()))

    def __exit__(self, *exception):
        (CONTROLLER.parent / "tasks").write_text(str(os.getpid()))
        CONTROLLER.rmdir()


def rows(options, folder):
    """(what, function of a kind that gives seconds)."""
    import torch

    def small(kind):
        return options.folder / "small" / kind

    def warm(then=None, **arguments):
        return lambda kind: loading(folder / kind, small(kind), then, **arguments)[0]

    def cold(kind):
        out_of_memory(folder / kind)
        seconds, read = loading(folder / kind, small(kind), touch)
        size = sum(path.stat().st_size for path in weight_files(folder / kind))
        if read < 0.98 * size:
            raise RuntimeError(f"only {read} of {size} bytes came from the disk")
        return seconds

    yield "from_pretrained", warm()
    yield "and every weight read", warm(touch)
    yield "a whole program", lambda kind: program(folder / kind)
    yield "disable_mmap=True, every weight read", warm(touch, disable_mmap=True)
    yield "and a first answer", warm(forward)
    yield "cast to FP16, every weight read", warm(touch, dtype=torch.float16)
    if CONTROLLER.parent.is_dir() and os.geteuid() == 0:
        yield f"disk of {options.disk} MB/s, every weight read", cold


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--disk", type=int, default=500, metavar="MB/s")
    parser.add_argument("--only", default="", metavar="WORD", help="only lines with this word")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"

    import torch
    import transformers
    import znn.transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    make_models(options.folder / "small", 1, 128)
    make_models(options.folder, 7, 2048)
    sizes = [sum(path.stat().st_size for path in weight_files(options.folder / kind)) for kind in KINDS]
    print(f"{sizes[0] / 1e9:.2f} GB, compressed {sizes[1] / 1e9:.2f} GB; {os.cpu_count()} cores, {znn._core.isa()}, "
          f"torch {torch.__version__}, transformers {transformers.__version__}; medians of {options.runs}")
    print("\n| | plain | compressed | ratio |\n|---|---:|---:|---:|")
    for what, seconds in rows(options, options.folder):
        if options.only not in what:
            continue
        for kind in KINDS:
            in_memory(options.folder / kind)
        found = {kind: [] for kind in KINDS}
        limit = Limited(options.folder, options.disk * 10**6) if what.startswith("disk") else None
        if limit:
            limit.__enter__()
        try:
            for _ in range(options.runs):
                for kind in KINDS:
                    found[kind].append(seconds(kind))
        finally:
            if limit:
                limit.__exit__()
        plain, compressed = (statistics.median(found[kind]) for kind in KINDS)
        print(f"| {what} | {plain:.2f} | {compressed:.2f} | {compressed / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
