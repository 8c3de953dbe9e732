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


def label(axes, results, point_of):
    """Each result's name at its point: above, below or further off, where it hides no other name or point."""
    points = {r["contender"]: axes.transData.transform(point_of(r)) for r in results}
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in points.values()]
    for r in results:
        x, y = points[r["contender"]]
        half = 4.2 * len(r["label"])
        for rise in (16, -17, 32, -33, 48):
            box = (x - half, y + rise - 8, x + half, y + rise + 8)
            if not any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
                       for other in boxes):
                break
        boxes.append(box)
        axes.annotate(r["label"], point_of(r), xytext=(0, rise * 72 / axes.figure.dpi), textcoords="offset points",
                      ha="center", va="center", color=colour(r),
                      weight="bold" if colour(r) == ZNN else "normal")


def size_against_speed(run, path):
    """BF16, one thread: right and low is good."""
    results = [r for r in report.select(run, input="bf16", threads=1)
               if "absent" not in r and r["contender"] not in ("memcpy", "zipnn-new")]
    figure, axes = plt.subplots(figsize=(7.5, 4.6))
    speeds = [report.of_memcpy(r) for r in results]
    low, high = min(speeds, default=0.1) * 0.6, max(speeds + [1]) * 1.5
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(60, 105)
    ticks = [t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low <= t <= high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.axvline(1, color=MEMCPY, linestyle="--", linewidth=1)
    axes.annotate("memcpy", (1, 84), xytext=(4, 0), textcoords="offset points", color=MEMCPY, rotation=90, va="center")
    for r in results:
        axes.plot(report.of_memcpy(r), r["size_percent"], "o", color=colour(r), markersize=7 if colour(r) == ZNN else 5)
    label(axes, results, lambda r: (report.of_memcpy(r), r["size_percent"]))
    axes.set_xlabel("decompression, times the speed of memcpy (log scale; right is better)")
    axes.set_ylabel("size, % of the original (low is better)")
    axes.set_title("BF16 weights, one thread", loc="left")
    axes.grid(color="#e2e8f0", linewidth=0.6)
    axes.set_axisbelow(True)
    save(figure, path)


def speed_by_threads(run, path):
    """BF16, both directions: a bar for one thread and a lighter one for two."""
    one = {r["contender"]: r for r in report.select(run, input="bf16", threads=1) if "absent" not in r}
    two = {r["contender"]: r for r in report.select(run, input="bf16", threads=2) if "absent" not in r}
    names = list(reversed([name for name in one if name in two and name != "zipnn-new"]))
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.6), sharey=True)
    for axes, key, title in zip(panels, ("decompress_mb_s", "compress_mb_s"), ("Decompression", "Compression")):
        for y, name in enumerate(names):
            for results, offset, alpha in ((one, 0.2, 1), (two, -0.2, 0.55)):
                r = results[name]
                if r[key] is not None:
                    speed = report.of_memcpy(r, key)
                    axes.barh(y + offset, speed, 0.38, color=colour(r), alpha=alpha)
                    axes.annotate(f"{speed:.2g}", (speed, y + offset), xytext=(3, 0), fontsize=8,
                                  textcoords="offset points", va="center", color="#334155")
        axes.set_yticks(range(len(names)), [one[name]["label"] for name in names])
        axes.set_xlabel("times the speed of memcpy with one thread")
        axes.set_title(f"{title}, BF16", loc="left")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
    figure.text(0.5, -0.02, "dark: one thread; light: two", ha="center", color="#334155")
    figure.tight_layout()
    save(figure, path)
