"""python -m znn run PROGRAM ...: let a Python program that nobody can edit load compressed models."""

from __future__ import annotations

import os
import runpy
import sys

USAGE = """usage: python -m znn run script.py [argument ...]
       python -m znn run -m module [argument ...]

Runs a Python program as python itself would, so that Transformers loads models compressed by znn.
The command that compresses files is called znn; the one for the Hub's cache, znn-hub."""


def main(arguments: list[str]) -> int:
    if arguments[:1] != ["run"] or len(arguments) < 2 or (arguments[1] == "-m" and len(arguments) < 3):
        print(USAGE, file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    import znn.autoload  # noqa: F401

    if arguments[1] == "-m":
        sys.argv = arguments[2:]
        runpy.run_module(arguments[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments[1:]
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[1]))
        runpy.run_path(arguments[1], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
