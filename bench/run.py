"""Measure znn beside its peers on real weights and write docs/BENCHMARKS.md, all from this one run.

    .venv-bench/bin/python bench/run.py build/znn [--quick] [--update-readme] [--from RUN.json]

Every contender runs in a process of its own (worker.py) and takes turns there with memcpy.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import inputs
import machine
import plots
import report
from contenders import CONTENDERS

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
BUFFER = 256_000_000     # far larger than caches
QUICK_BUFFER = 8_000_000
SECONDS = 1.0            # of rounds, for each contender
QUICK_SECONDS = 0.05
TIMEOUT = 90             # for one contender on one input
MEMORY = Path("/dev/shm")
PATHS = ["scalar", "neon", "avx2", "avx512"]
ISA = "import sys; sys.path.insert(0, sys.argv[1]); from contenders import Library; " \
      "print(Library(sys.argv[2]).isa())"


def isa_of(library, wanted=None):
    """The path that the library takes in a fresh process, asked for `wanted`."""
    env = machine.same_memory_for_all()
    env.pop("ZNN_ISA", None)
    if wanted:
        env["ZNN_ISA"] = wanted
    return subprocess.run([sys.executable, "-c", ISA, str(HERE), str(library)], env=env, check=True,
                          capture_output=True, text=True).stdout.strip()


def plan(items, best, paths):
    """The cases, the most wanted first, since what exceeds the time is not run."""
    cases = [(items[0], name, threads, best) for threads in (1, 2) for name in CONTENDERS]
    cases += [(items[0], name, 1, path) for path in paths if path != best for name in ("znn-1", "znn", "znn-9")]
    cases += [(item, name, 1, best) for item in items[1:] for name in CONTENDERS]
    cases += [(item, name, 2, best) for item in items[1:2] for name in CONTENDERS]
    return cases


def absent_packages():
    """{package: reason}, as bench/setup noted."""
    path = Path(sys.prefix) / "absent.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split(": ", 1) for line in lines)


def run_case(case, paths_of_inputs, library, quick, uninstalled):
    """One contender's figures, or {"absent": why}."""
    item, name, threads, isa = case
    label, package, _ = CONTENDERS[name]
    if package in uninstalled:
        return {"absent": uninstalled[package]}
    spec = {
        "contender": name, "threads": threads, "library": str(library), "seconds": QUICK_SECONDS if quick else SECONDS,
        "buffer": QUICK_BUFFER if quick else BUFFER, "limit": QUICK_BUFFER if quick else None,
        "item": {"path": str(paths_of_inputs[item.key]), "dtype": item.dtype, "znn_dtype": item.znn_dtype},
    }
    # In memory, for the contender that works on files; removed even if that one crashes.
    with tempfile.TemporaryDirectory(prefix="znn-bench-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        memory = machine.memory_as_usual() if name == "zipnn-new" else machine.same_memory_for_all()
        env = dict(memory, ZNN_ISA=isa, TMPDIR=folder)
        spec_path, result_path = Path(folder) / "spec.json", Path(folder) / "result.json"
        spec_path.write_text(json.dumps(spec))
        try:
            process = subprocess.run([sys.executable, str(HERE / "worker.py"), str(spec_path), str(result_path)],
                                     env=env, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return {"absent": f"took more than {TIMEOUT} s"}
        if not result_path.exists():
            last = process.stderr.strip().splitlines()[-1:] or ["no message"]
            how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit {process.returncode}"
            return {"absent": f"crashes: {how}, {last[0]}"}
        return json.loads(result_path.read_text())


def measure(args):
    begun = time.monotonic()
    build = args.znn.resolve().parent
    library = next((path for path in (build / "libznn.so", build / "libznn.dylib") if path.exists()), None)
    if library is None:
        raise SystemExit(f"bench: no libznn.so beside {args.znn}")
    run = {"machine": machine.describe(ROOT, build), "quick": args.quick,
           "buffer_bytes": QUICK_BUFFER if args.quick else BUFFER,
           "round_seconds": QUICK_SECONDS if args.quick else SECONDS}
    best = isa_of(library)
    paths = [path for path in PATHS if isa_of(library, path) == path]
    items = inputs.INPUTS[:1] if args.quick else inputs.INPUTS
    print("bench: weights", flush=True)
    files = {item.key: inputs.path_of(item, args.work / "inputs") for item in items}
    run["isa"], run["paths"] = best, paths
    run["inputs"] = {item.key: {"title": item.title, "dtype": item.dtype, "bytes": files[item.key].stat().st_size}
                     for item in items}

    cases = plan(items, best, paths)
    uninstalled = absent_packages()
    run["results"] = []
    for number, case in enumerate(cases, 1):
        item, name, threads, isa = case
        elapsed = time.monotonic() - begun
        if elapsed > args.minutes * 60:
            result = {"absent": f"not run: {args.minutes:g} minutes were over"}
        else:
            result = run_case(case, files, library, args.quick, uninstalled)
        if result.get("isa") not in (None, isa):
            result = {"absent": f"the library took the path {result['isa']} and not {isa}"}
        result |= {"contender": name, "label": CONTENDERS[name][0], "input": item.key, "threads": threads, "path": isa}
        run["results"].append(result)
        print(f"[{number:3}/{len(cases)} {elapsed // 60:2.0f}:{elapsed % 60:02.0f}] {item.key:9} "
              f"{threads} thread{'s' if threads > 1 else ' '} {isa:6} {report.line(result)}", flush=True)
    run["minutes"] = (time.monotonic() - begun) / 60
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("znn", type=Path, help="the command; libznn.so beside it is measured")
    parser.add_argument("--quick", action="store_true",
                        help="a trial of this script: small buffers, BF16 only; writes only under the build folder")
    parser.add_argument("--update-readme", action="store_true",
                        help="also replace what stands between bench:begin and bench:end in README.md")
    parser.add_argument("--from", dest="source", type=Path, metavar="RUN.json",
                        help="write the documents again from that run, without measuring")
    parser.add_argument("--minutes", type=float, default=9.5, help="begin no case after so many (default %(default)s)")
    args = parser.parse_args()
    args.work = args.znn.resolve().parent / "bench"
    args.work.mkdir(parents=True, exist_ok=True)

    if args.source:
        run = json.loads(args.source.read_text())
    else:
        run = measure(args)
        raw = args.work / ("quick.json" if args.quick else "run.json")
        raw.write_text(json.dumps(run, indent=1) + "\n")
        print(f"bench: figures in {raw}")
    folder = args.work if run["quick"] else ROOT / "docs"
    (folder / "BENCHMARKS.md").write_text(report.document(run))
    plots.size_against_speed(run, folder / "bench-size-speed.svg")
    plots.speed_by_threads(run, folder / "bench-threads.svg")
    print(f"bench: wrote {folder}/BENCHMARKS.md and its two plots")
    if args.update_readme:
        if run["quick"]:
            raise SystemExit("bench: a quick run says nothing for README.md")
        report.update_readme(ROOT / "README.md", run)


if __name__ == "__main__":
    main()
