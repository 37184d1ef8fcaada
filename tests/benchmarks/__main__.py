"""List the benchmarks, or run some.

./run bench                      list them
./run bench NAME ...             run them; the exit code is 1 if one missed its goal
./run bench NAME --option ...    run one with options of its own; NAME --help lists those
"""

import ast
import importlib
import inspect
import itertools
import os
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
NOT_BENCHMARKS = {"__init__", "__main__", "harness"}


def available() -> dict[str, str]:
    """Return the names of the benchmarks with the first line of what they say of themselves."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem not in NOT_BENCHMARKS:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = text.partition("\n")[0]
    return found


def main(arguments: list[str]) -> int:
    """Run the named benchmarks; 1 if one missed its goal, 2 for what cannot be run."""
    known = available()
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    options = arguments[len(names) :]
    if not names and (not options or options[0] in {"-h", "--help"}):
        if options:
            print(__doc__)
        for name, text in known.items():
            print(f"{name:<20} {text}")
        return 0
    if unknown := [name for name in names if name not in known]:
        print(f"No such benchmark: {', '.join(unknown)}. Known: {', '.join(known) or 'none'}")
        return 2
    if options and len(names) != 1:
        print(f"Options go to one benchmark: name it before {options[0]}.")
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    return _run(names, known, options)


def _run(names: list[str], known: dict[str, str], options: list[str]) -> int:
    missed = []
    for name in names:
        run = importlib.import_module(f"tests.benchmarks.{name}").main
        if options and not inspect.signature(run).parameters:
            print(f"{name} has no options.")
            return 2
        print(f"\n{name}: {known[name]}\n", flush=True)
        began = time.monotonic()
        if run(options) if options else run():
            missed.append(name)
        print(f"\n{name} took {time.monotonic() - began:.1f} s")
    if missed:
        print(f"Goals were missed in: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
