"""`python -m tests.benchmarks [name …]`: list the benchmarks, or run some."""

import ast
import importlib
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


def main(names: list[str]) -> int:
    """Run the named benchmarks; 1 if one missed its goal, 2 for a name that is none."""
    known = available()
    if not names:
        for name, text in known.items():
            print(f"{name:<20} {text}")
        return 0
    if unknown := [name for name in names if name not in known]:
        print(f"No such benchmark: {', '.join(unknown)}. Known: {', '.join(known) or 'none'}")
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    missed = []
    for name in names:
        print(f"\n{name}: {known[name]}\n", flush=True)
        began = time.monotonic()
        if importlib.import_module(f"tests.benchmarks.{name}").main():
            missed.append(name)
        print(f"\n{name} took {time.monotonic() - began:.1f} s")
    if missed:
        print(f"Goals were missed in: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
