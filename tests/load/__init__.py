"""Load on the whole service: what users do, the runner, its judge. See docs/benchmarks.md."""
