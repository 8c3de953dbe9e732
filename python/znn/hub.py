"""znn-hub: the models in the Hub's cache, compressed where they are.

    znn-hub ls                  what is cached, and what compressing it would save
    znn-hub compress MODEL      and decompress MODEL, verify MODEL

A compressed model loads with znn.transformers imported, offline and online, at the same revisions; its original files
come back byte for byte, under the same names.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from . import _models
from ._cache import Busy, CachedModel
from ._estimate import estimate
from .safetensors import SafetensorError


Sizes: TypeAlias = dict[str, tuple[int, int]]  # {dtype: (bytes, bytes compressed)}


def readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            break
        size /= 1000
    else:
        unit = "TB"
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _bar(total: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=None, leave=False)


# ---- ls ----


def _cached_models(cache_dir: str | None) -> tuple[list[tuple[str, Path]], list[Any]]:
    """(name, folder of the newest snapshot) of every model in the cache, by name; and what the scan warned of."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        info = scan_cache_dir(cache_dir)
    except CacheNotFound:
        return [], []
    models = [
        (repo.repo_id, max(repo.revisions, key=lambda r: ("main" in r.refs, r.last_modified)).snapshot_path)
        for repo in info.repos
        if repo.repo_type == "model" and repo.revisions
    ]
    return sorted(models), info.warnings


def _look(folder: Path) -> tuple[str, Sizes]:
    """(state, {dtype: (bytes, bytes compressed)}) of a snapshot."""
    try:
        if _models.is_compressed(folder):
            names = [name for name in _models.read_manifest(folder) if name.endswith(".safetensors")]
            return "compressed", estimate([folder / name for name in names])
        weights, _ = _models.weight_files(folder)
        return "plain", estimate([folder / name for name in weights])
    except (_models.NotCompressible, SafetensorError, OSError) as error:
        return str(error).removeprefix(f"{folder}: "), {}


def _list(options: argparse.Namespace) -> int:
    models, warnings = _cached_models(options.cache_dir)
    rows = [(name, *_look(folder)) for name, folder in _with_bar(models)]
    width = max([len(name) for name, _, _ in rows] + [5])
    print(f"{'MODEL':{width}}  {'WEIGHTS':>9}  {'COMPRESSED':>10}  {'SAVES':>7}")
    all_before = all_now = all_after = 0
    for name, state, sizes in rows:
        before, after = (sum(pair[i] for pair in sizes.values()) for i in (0, 1))
        if not sizes:
            print(f"{name:{width}}  {state}")
            continue
        note = "" if state == "plain" else "  (compressed)"
        print(
            f"{name:{width}}  {readable(before):>9}  {readable(after):>10}  {_percent(before - after, before):>7}{note}"
        )
        all_before, all_after = all_before + before, all_after + after
        all_now += after if state == "compressed" else before
    print(
        f"{len(rows)} models: {readable(all_before)} of weights that znn can compress, on disk {readable(all_now)}; "
        f"compressing the rest would save about {readable(all_now - all_after)}"
    )
    for warning in warnings:
        print(f"znn-hub: {warning}", file=sys.stderr)
    if options.plot:
        plot(rows, options.plot)
        print(f"{options.plot}: the picture")
    return 0


def _with_bar(models: list[tuple[str, Path]]) -> Any:
    from tqdm import tqdm

    return tqdm(models, desc="sampling", unit="model", disable=None, leave=False)


def plot(rows: Iterable[tuple[str, str, Sizes]], path: str | os.PathLike[str]) -> None:
    """Write a picture of where the bytes are: a bar for each model, by dtype, with what would be saved set off.

    rows: [(name, state, {dtype: (bytes, bytes compressed)})].
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError("--plot needs matplotlib: pip install 'znn[plot]'") from None
    rows = sorted((row for row in rows if row[2]), key=lambda row: sum(pair[0] for pair in row[2].values()))
    rows = rows[-40:]
    dtypes = sorted(
        {dtype for _, _, sizes in rows for dtype in sizes},
        key=lambda dtype: -sum(sizes.get(dtype, (0, 0))[0] for _, _, sizes in rows),
    )
    palette = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
    figure = Figure(figsize=(10, 1.6 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    largest = max((sum(pair[0] for pair in sizes.values()) for _, _, sizes in rows), default=0)
    unit, name = (1e9, "GB") if largest >= 1e9 else (1e6, "MB")
    left = [0.0] * len(rows)
    for i, dtype in enumerate(dtypes):
        colour = palette[min(i, len(palette) - 1)]
        pairs = [sizes.get(dtype, (0, 0)) for _, _, sizes in rows]
        kept, saved = [after / unit for _, after in pairs], [(before - after) / unit for before, after in pairs]
        axes.barh(range(len(rows)), kept, left=left, color=colour, label=dtype)
        left = [a + b for a, b in zip(left, kept)]
        axes.barh(
            range(len(rows)),
            saved,
            left=left,
            facecolor="white",
            edgecolor=colour,
            hatch="////",
            linewidth=0.8,
            label=f"{dtype}, saved" if any(saved) else None,
        )
        left = [a + b for a, b in zip(left, saved)]
    axes.set_yticks(
        range(len(rows)), [model + (" (compressed)" if state == "compressed" else "") for model, state, _ in rows]
    )
    axes.set_xlabel(f"{name} of weights")
    axes.set_title("Weights in the cache by dtype; hatched: what compressing saves")
    axes.spines[["top", "right"]].set_visible(False)
    if dtypes:
        figure.legend(frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=120)


# ---- One model ----


def _change(
    options: argparse.Namespace,
    work: Callable[[CachedModel, Callable[[int], object]], int],
    total: Callable[[CachedModel], int],
    done: str,
) -> int:
    """Run work(model, advance) with a bar, and print what changed."""
    model = CachedModel(options.model, options.cache_dir)
    before = model.size()
    with _bar(total(model), f"{options.command} {options.model}") as bar:
        count = work(model, bar.update)
    if not count:
        print(f"{options.model}: nothing to {options.command}")
        return 0
    after = model.size()
    change = f"{readable(before)} -> {readable(after)}"
    if before > after:
        change += f", {_percent(before - after, before)} saved"
    print(f"{options.model}: {done} {count} snapshot{'s' if count > 1 else ''}, {change}")
    return 0


def _weights(folders: Iterable[Path], names: Callable[[Path], Iterable[str]]) -> int:
    return sum((folder / name).stat().st_size for folder in folders for name in names(folder))


def _plain_total(model: CachedModel) -> int:
    return _weights(model.plain_snapshots()[0], lambda folder: _models.weight_files(folder)[0])


def _compressed_total(model: CachedModel) -> int:
    return _weights(model.compressed_snapshots(), _models.read_manifest)


def _compress(options: argparse.Namespace) -> int:
    return _change(
        options,
        lambda model, advance: model.compress(options.level, options.threads, advance),
        _plain_total,
        "compressed",
    )


def _decompress(options: argparse.Namespace) -> int:
    return _change(
        options, lambda model, advance: model.decompress(options.threads, advance), _compressed_total, "decompressed"
    )


def _verify(options: argparse.Namespace) -> int:
    model = CachedModel(options.model, options.cache_dir)
    with _bar(_compressed_total(model), f"verify {options.model}") as bar:
        count = model.verify(options.threads, bar.update)
    print(f"{options.model}: whole; {count} compressed snapshot{'' if count == 1 else 's'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("znn-hub", description="The models in the Hub's cache, compressed where they are.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--cache-dir", help="the cache; otherwise what HF_HUB_CACHE or HF_HOME say")
        added.set_defaults(run=run)
        return added

    listing = command("ls", _list, "what is cached, and what compressing it would save, by sampling")
    listing.add_argument("--plot", metavar="FILE.png", help="also draw where the bytes are, by dtype")
    for name, run, text in (
        ("compress", _compress, "replace a model's weights by their compressed form"),
        ("decompress", _decompress, "bring a model's original files back, byte for byte"),
        ("verify", _verify, "read a model whole, and compare it with its digests"),
    ):
        added = command(name, run, text)
        added.add_argument("model", metavar="MODEL", help="such as sentence-transformers/all-MiniLM-L6-v2")
        added.add_argument(
            "--threads", type=int, default=0, choices=range(257), metavar="N", help="0, the default: one a core"
        )
        if name == "compress":
            added.add_argument(
                "--level", type=int, default=3, choices=range(1, 10), metavar="1-9", help="1 fastest, 9 smallest; 3"
            )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 done, 1 not done, 2 wrong use."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except (Busy, _models.NotCompressible, SafetensorError, OSError, ModuleNotFoundError) as error:
        message = str(error)
        if isinstance(error, ModuleNotFoundError) and error.name:
            message = f"{error.name} is missing: pip install 'znn[hf]'"
        print(f"znn-hub: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("znn-hub: interrupted; the model is as it was", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
