"""The two plots of docs/BENCHMARKS.md, as SVG."""

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "znn", "font.family": "sans-serif", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white"})

import matplotlib.pyplot as plt  # noqa: E402
import report  # noqa: E402

ZNN, PEER, MEMCPY = "#c2410c", "#475569", "#94a3b8"


def colour(result):
    return ZNN if result["contender"].startswith("znn") else MEMCPY if result["contender"] == "memcpy" else PEER


def save(figure, path):
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def size_against_speed(run, path):
    """BF16, one thread: right and low is good."""
    results = [r for r in report.select(run, input="bf16", threads=1) if "absent" not in r]
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    taken = []
    low, high = (f([r["decompress_mb_s"] for r in results]) for f in (min, max))
    for r in sorted(results, key=lambda r: (r["size_percent"], r["decompress_mb_s"])):
        speed = r["decompress_mb_s"] / 1000
        if r["contender"] == "memcpy":
            axes.axvline(speed, color=MEMCPY, linestyle="--", linewidth=1)
            axes.annotate("memcpy", (speed, 97), xytext=(4, 0), textcoords="offset points", color=MEMCPY)
            continue
        axes.plot(speed, r["size_percent"], "o", color=colour(r), markersize=7 if colour(r) == ZNN else 5)
        # Above the point, and a line higher for each earlier label that it would lie on.
        rise = 7
        while any(abs(rise - other_rise) < 11 and abs(r["size_percent"] - size) < 1.5 and
                  0.6 < speed / other < 1.7 for other, size, other_rise in taken):
            rise += 12
        taken.append((speed, r["size_percent"], rise))
        axes.annotate(r["label"], (speed, r["size_percent"]), xytext=(0, rise), textcoords="offset points",
                      ha="center", color=colour(r), weight="bold" if colour(r) == ZNN else "normal")
    axes.set_xscale("log")
    axes.set_xlim(low / 1000 * 0.7, high / 1000 * 1.5)
    axes.set_ylim(60, 105)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low / 1000 * 0.7 <= t <= high / 1000 * 1.5]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("decompression, GB/s (log scale; right is better)")
    axes.set_ylabel("size, % of the original (low is better)")
    axes.set_title("BF16 weights, one thread", loc="left")
    axes.grid(color="#e2e8f0", linewidth=0.6)
    axes.set_axisbelow(True)
    save(figure, path)


def speed_by_threads(run, path):
    """BF16, both directions: a bar for one thread and a lighter one for two."""
    one = {r["contender"]: r for r in report.select(run, input="bf16", threads=1) if "absent" not in r}
    two = {r["contender"]: r for r in report.select(run, input="bf16", threads=2) if "absent" not in r}
    names = list(reversed([name for name in one if name in two]))
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.6), sharey=True)
    for axes, key, title in zip(panels, ("decompress_mb_s", "compress_mb_s"), ("Decompression", "Compression")):
        for y, name in enumerate(names):
            for results, offset, alpha in ((one, 0.2, 1), (two, -0.2, 0.55)):
                speed = results[name][key]
                if speed is not None:
                    axes.barh(y + offset, speed / 1000, 0.38, color=colour(results[name]), alpha=alpha)
                    axes.annotate(f"{speed / 1000:.2g}", (speed / 1000, y + offset), xytext=(3, 0), fontsize=8,
                                  textcoords="offset points", va="center", color="#334155")
        axes.set_yticks(range(len(names)), [one[name]["label"] for name in names])
        axes.set_xlabel("GB/s")
        axes.set_title(f"{title}, BF16", loc="left")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
    figure.text(0.5, -0.02, "dark: one thread; light: two", ha="center", color="#334155")
    figure.tight_layout()
    save(figure, path)
