"""Benchmarks: one module each, with a `main()` and a first line that says what it measures.

`./run bench` lists them, `./run bench name` runs one. They print ratios to a floor, because
absolute times belong to a machine.
"""
