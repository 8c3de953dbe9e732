"""The documents of one run: docs/BENCHMARKS.md, and the block of README.md."""

import re

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
MODEL_GB, DISK_GB_S = 16, 1.0
LOADERS = ["znn-1", "znn", "znn-9", "zipnn", "zstd-3", "blosc2", "lmz", "z4ai"]
SIZES = ["zstd-3", "blosc2", "zipnn", "lmz", "z4ai", "znn-1", "znn", "znn-9"]

INTRODUCTION = """\
# Benchmarks

Written by `make bench` from one run; not edited by hand. Size is compressed size as % of the original, lower is better.
"""

LOADING = """\
Computed from the BF16 figures above, not measured: reading takes the size on the disk divided by the disk's speed,
decoding the model's size divided by the decompression speed. *One after the other* adds the two; *overlapped* decodes
what has arrived while the rest is read, and takes the longer of the two. Plain weights are taken to need nothing but
the reading.
"""

METHOD = """\
Each contender ran in a process of its own, on as many copies of the file as make {buffer} MB or more, every copy
compressed by itself. In that same process memcpy of the same buffer took turns with it; *of memcpy* is the ratio of the
two and is what to compare, since a busy machine slows both. memcpy has one thread there, whatever the contender has.
*x zipnn* is the quotient of two such ratios. Speeds are medians, in MB (10^6 bytes) of uncompressed data a second, of
the rounds that begin within {seconds} s, three at least, after one that warms up. Contenders too slow for that had one
copy, or fewer rounds: the last column says so.

Every restored byte was compared with the original, in the first round and in the last, and so was the input. Memory is
how far resident memory grew during one call on one copy, beside its input and its result. A result that a peer returns
as a new object is written to memory that the process kept from earlier rounds, so that no peer pays for new pages in
each round.

What the contenders were given:
- znn: `znn_compress` and `znn_decompress` of libznn.so, checksums on, as always by default. It was told the dtype of
  raw numbers, and nothing about files; the other contenders that take a dtype were told that of files too.
- zipnn changes its input in place: it was handed a copy, made outside the timed part. Told the dtype.
- zipnn, new pages: the same without that kept memory, as a program meets it that changes nothing: each result then
  lies in pages that the system must first provide. *x zipnn* is never of this one.
- zstd, lz4, snappy: each copy in two halves, for one thread and for two alike; two threads share the halves.
- blosc2: shuffle and zstd at its level 1, item size told.
- lmz works on files only: these lay in memory (/dev/shm), and their reading and writing is in its figures. One copy
  of the file. For raw numbers it got a safetensors header that tells the dtype.
- z4ai: its defaults, dtype told.
"""


def number(value, form):
    return "" if value is None else format(value, form)


def of_memcpy(result, key="decompress_mb_s"):
    return result[key] / result["memcpy_mb_s"]


def times(result, other, key):
    """How many times as fast as the other, each by its own memcpy; "" if that says nothing."""
    if other is None or other is result or result[key] is None or other[key] is None:
        return ""
    return f"{of_memcpy(result, key) / of_memcpy(other, key):.1f}"


def line(result):
    """One line of progress."""
    if "absent" in result:
        return f"{result['label']:16} absent: {result['absent']}"
    return (f"{result['label']:16} {result['size_percent']:6.2f} %  "
            f"compress {number(result['compress_mb_s'], '6.0f'):>6}  "
            f"decompress {result['decompress_mb_s']:6.0f} MB/s, {of_memcpy(result):.2f} of memcpy")


def select(run, **wanted):
    """The results that match, e.g. input="bf16", threads=1; those of the best path unless path is given."""
    wanted.setdefault("path", run["isa"])
    return [r for r in run["results"] if all(r[key] == value for key, value in wanted.items())]


def find(run, contender, **wanted):
    """The one result, or None if it is absent."""
    found = [r for r in select(run, contender=contender, **wanted) if "absent" not in r]
    return found[0] if found else None


def megabytes(value):
    return "" if value is None else f"{value / 1e6:.0f}" if value >= 10e6 else f"{value / 1e6:.1f}"


def table(head, rows):
    """Markdown; head is (title, "l" or "r") each."""
    lines = ["| " + " | ".join(title for title, _ in head) + " |",
             "|" + "|".join("---" if side == "l" else "---:" for _, side in head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def bold(text, znn):
    return f"**{text}**" if znn and text else text


def speed_table(run, results, name=lambda result: result["label"], one_thread=False):
    """A row a result. znn's are bold; absent ones give their reason below. one_thread: compare with one thread too."""
    head = [("", "l"), ("size %", "r"), ("compress MB/s", "r"), ("decompress MB/s", "r"), ("of memcpy", "r"),
            ("compress x zipnn", "r"), ("decompress x zipnn", "r")]
    if one_thread:
        head += [("compress x one thread", "r"), ("decompress x one thread", "r")]
    head += [("memory MB, compress / decompress", "r"), ("", "l")]
    rows, absent = [], []
    for r in results:
        if "absent" in r:
            absent.append(f"{name(r)} is absent: {r['absent']}.")
            continue
        znn, memcpy = r["contender"].startswith("znn"), r["contender"] == "memcpy"
        zipnn = None if memcpy else find(run, "zipnn", input=r["input"], threads=r["threads"])
        row = [bold(name(r), znn), "" if memcpy else f"{r['size_percent']:.2f}", number(r["compress_mb_s"], ".0f"),
               f"{r['decompress_mb_s']:.0f}", bold(f"{of_memcpy(r):.2f}", znn)]
        others = [zipnn] + ([find(run, r["contender"], input=r["input"], threads=1)] if one_thread else [])
        row += [times(r, other, key) for other in others for key in ("compress_mb_s", "decompress_mb_s")]
        row.append("" if memcpy else " / ".join(megabytes(r[key]) for key in ("compress_memory", "decompress_memory")))
        notes = ["1 copy"] if r["copies"] == 1 else []
        if r["rounds"] < 3:
            notes.append(f"{r['rounds']} round{'s' if r['rounds'] > 1 else ''}")
        rows.append(row + [", ".join(notes)])
    return table(head, rows) + "".join(f"\n{text}\n" for text in absent)


def load_seconds(size_percent, mb_a_second):
    """(reading, decoding) of the model, in seconds."""
    return MODEL_GB * size_percent / 100 / DISK_GB_S, MODEL_GB * 1000 / mb_a_second


def load_table(run):
    head = [("", "l"), ("on disk, GB", "r"), ("read, s", "r"), ("decode, 1 thread, s", "r"),
            ("load, one after the other, s", "r"), ("load, overlapped, s", "r"), ("decode, 2 threads, s", "r"),
            ("load, overlapped, 2 threads, s", "r")]
    plain = MODEL_GB / DISK_GB_S
    rows = [["plain", f"{MODEL_GB:.2f}", f"{plain:.1f}", "", f"{plain:.1f}", f"{plain:.1f}", "", f"{plain:.1f}"]]
    for name in LOADERS:
        one, two = (find(run, name, input="bf16", threads=n) for n in (1, 2))
        if not one:
            continue
        read, decode = load_seconds(one["size_percent"], one["decompress_mb_s"])
        row = [bold(one["label"], name.startswith("znn")), f"{read * DISK_GB_S:.2f}", f"{read:.1f}", f"{decode:.1f}",
               f"{read + decode:.1f}", f"{max(read, decode):.1f}"]
        if two:
            decode = load_seconds(two["size_percent"], two["decompress_mb_s"])[1]
            row += [f"{decode:.1f}", f"{max(read, decode):.1f}"]
        rows.append(row + [""] * (len(head) - len(row)))
    return table(head, rows)


def size_table(run):
    """Sizes of every input by every contender of SIZES that ran; the smallest is bold."""
    names = [name for name in SIZES if any(find(run, name, input=key, threads=1) for key in run["inputs"])]
    labels = {r["contender"]: r["label"] for r in run["results"]}
    rows = []
    for key, item in run["inputs"].items():
        found = [find(run, name, input=key, threads=1) for name in names]
        texts = [number(r["size_percent"], ".2f") if r else "" for r in found]
        best = min((text for text in texts if text), key=float, default="")
        rows.append([item["title"], f"{item['bytes'] / 1e6:.1f}", *(bold(text, text == best) for text in texts)])
    return table([("", "l"), ("MB", "r"), *((labels[name], "r") for name in names)], rows)


def machine_line(run):
    m = run["machine"]
    return f"{m['processor']}, {m['cores']} cores, {m['instruction sets']}; {m['compiler']}; {m['date'][:10]}"


def memcpy_range(run):
    """Over the whole run, as each contender's process saw it."""
    speeds = sorted(r["memcpy_mb_s"] for r in run["results"] if "absent" not in r)
    if not speeds:
        return "not measured"
    low, middle, high = (speeds[i] / 1000 for i in (0, len(speeds) // 2, -1))
    return (f"{middle:.1f} GB/s in the middle process, from {low:.1f} to {high:.1f}"
            f"{'; so wide a range says that the machine was busy' if high > 1.5 * low else ''}")


def document(run):
    versions = {r["label"]: r["version"] for r in run["results"] if "absent" not in r}
    znn = versions.get("znn", "?")
    others = ("znn", "memcpy", "zipnn,")
    peers = [(label, version) for label, version in versions.items() if not label.startswith(others)]
    absent = {}
    for r in run["results"]:
        if "absent" in r:
            absent.setdefault((r["label"], r["absent"]), []).append(f"{r['input']}, {r['path']}, -T{r['threads']}")

    out = [INTRODUCTION]
    if run["quick"]:
        out.append("**A quick trial of the script on small buffers: its speeds mean nothing.**\n")
    out.append("## The machine\n")
    facts = run["machine"] | {
        "znn": f"{znn}, instruction set {run['isa']}; the library has here: {', '.join(run['paths'])}",
        "peers": "; ".join(f"{label} {version}" for label, version in peers),
        "memcpy, one thread": memcpy_range(run),
        "the run": f"{run['minutes']:.1f} minutes"}
    out.append(table([("", "l"), ("", "l")], [[key, str(value)] for key, value in facts.items()]))
    out.append("## How it was measured\n")
    out.append(METHOD.format(buffer=f"{run['buffer_bytes'] / 1e6:.0f}", seconds=run["round_seconds"]))
    if absent:
        out.append("Absent from this run:\n" + "".join(
            f"- {label}: {why} ({'; '.join(where) if len(where) < 4 else f'{len(where)} cases'})\n"
            for (label, why), where in absent.items()))
    out.append("## Sizes\n")
    out.append(size_table(run))
    out.append("![Size against decompression speed](bench-size-speed.svg)\n")
    out.append("## One thread\n")
    for key, item in run["inputs"].items():
        out.append(f"### {item['title']}, {item['bytes'] / 1e6:.1f} MB\n")
        out.append(speed_table(run, select(run, input=key, threads=1)))
    out.append("## Two threads\n")
    out.append("*of memcpy* is still of memcpy with one thread.\n")
    for key, item in run["inputs"].items():
        results = select(run, input=key, threads=2)
        if results:
            out.append(f"### {item['title']}\n")
            out.append(speed_table(run, results, one_thread=True))
    out.append("![Speed by threads](bench-threads.svg)\n")
    out.append("## znn by instruction set\n")
    first = next(iter(run["inputs"]))
    out.append(f"{run['inputs'][first]['title']}, one thread. The bytes are the same for all. "
               "`ZNN_ISA` chooses a path.\n")
    by_path = [r for path in reversed(run["paths"]) for r in select(run, input=first, threads=1, path=path)
               if r["contender"].startswith("znn")]
    out.append(speed_table(run, by_path, lambda r: f"{r['label']}, {r['path']}"))
    out.append(f"## To load a model of {MODEL_GB} GB in BF16 from a disk of {DISK_GB_S:g} GB/s\n")
    out.append(LOADING)
    out.append(load_table(run))
    return "\n".join(out)


def readme_block(run):
    head = [("BF16, one thread", "l"), ("size %", "r"), ("compress MB/s", "r"), ("decompress MB/s", "r"),
            ("of memcpy", "r"), (f"load {MODEL_GB} GB, s", "r")]
    plain = MODEL_GB / DISK_GB_S
    rows = []
    for r in select(run, input="bf16", threads=1):
        if "absent" in r or r["contender"] == "zipnn-new":
            continue
        memcpy = r["contender"] == "memcpy"
        znn = r["contender"].startswith("znn")
        load = plain if memcpy else max(load_seconds(r["size_percent"], r["decompress_mb_s"]))
        rows.append([bold("plain, memcpy" if memcpy else r["label"], znn), f"{r['size_percent']:.2f}",
                     number(r["compress_mb_s"], ".0f"), f"{r['decompress_mb_s']:.0f}", bold(f"{of_memcpy(r):.2f}", znn),
                     bold(f"{load:.1f}", znn)])
    return (f"Size, % of the original:\n\n{size_table(run)}\nSpeed, in memory:\n\n{table(head, rows)}\n"
            f"*Load* is the time to have a model of {MODEL_GB} GB in memory from a disk of {DISK_GB_S:g} GB/s, "
            f"computed:\ndecoding overlaps reading, and the slower of the two counts.\n"
            f"Measured on {machine_line(run)}.\n"
            f"[docs/BENCHMARKS.md](docs/BENCHMARKS.md) has the rest, and how it was measured.\n")


def update_readme(path, run):
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        print(f"bench: {path.name} has no {BEGIN} and {END}: left as it is")
        return
    block = f"{BEGIN}\n{readme_block(run)}{END}"
    path.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, text, flags=re.S))
    print(f"bench: updated {path.name}")
