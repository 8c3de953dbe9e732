#!/usr/bin/env python3
"""The demo: a real model through the znn command and back, and what it saved.

Usage: demo.py ZNN, where ZNN is the command. Everything it makes lies in .cache/demo.
"""

import filecmp
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "data"))

import weights  # noqa: E402

WORK = ROOT / ".cache" / "demo"


def make_models():
    """[(what it is, file)]: the model as its authors ship it, and cast to BF16."""
    shipped = weights.minilm()
    cast = WORK / "all-MiniLM-L6-v2-bf16.safetensors"
    tensors = weights.read_safetensors(shipped)
    weights.write_safetensors(
        cast, {name: weights.to_bf16(t) if weights.is_float(t) else t for name, t in tensors.items()})
    as_is = WORK / "all-MiniLM-L6-v2.safetensors"
    if as_is.exists():
        as_is.unlink()
    as_is.hardlink_to(shipped)
    return [("FP32, as shipped", as_is), ("BF16, cast", cast)]


def round_trip(znn, model):
    """Compress and decompress by files; the compressed size. Stops the demo if a byte differs."""
    packed = model.with_name(model.name + ".znn")
    restored = model.with_name("restored-" + model.name)
    subprocess.run([znn, "-q", "-f", "-o", packed, model], check=True)
    subprocess.run([znn, "-q", "-f", "-d", "-o", restored, packed], check=True)
    if not filecmp.cmp(model, restored, shallow=False):
        sys.exit(f"demo: {restored} differs from {model}")
    restored.unlink()
    return packed.stat().st_size


def speeds(znn, model):
    """The command's own benchmark, in memory, on one core."""
    out = subprocess.run([znn, "-b", "--json", model], check=True, capture_output=True).stdout
    return json.loads(out)


def main():
    znn = Path(sys.argv[1]).resolve()
    WORK.mkdir(parents=True, exist_ok=True)
    print("Fetching all-MiniLM-L6-v2, and casting a copy to BF16 ...", flush=True)
    models = make_models()
    rows = []
    for what, model in models:
        print(f"znn {model.name}; znn -d {model.name}.znn; comparing every byte ...", flush=True)
        size, packed = model.stat().st_size, round_trip(znn, model)
        bench = speeds(znn, model)
        rows.append((what, f"{size / 1e6:.1f} MB", f"{packed / 1e6:.1f} MB", f"{100 - 100 * packed / size:.1f} %",
                     f"{bench['compress_mb_s']:.0f} MB/s", f"{bench['decompress_mb_s']:.0f} MB/s",
                     f"{bench['memcpy_mb_s']:.0f} MB/s"))
    titles = ("weights", "original", "compressed", "saved", "compress", "decompress", "memcpy")
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    print()
    for row in [titles, tuple("-" * width for width in widths), *rows]:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))
    print("\nEvery byte came back equal. Speeds: one core, in memory, MB of original a second;"
          "\nmemcpy is what merely copying the same bytes takes. The files are in .cache/demo.")


if __name__ == "__main__":
    main()
