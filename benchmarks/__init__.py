"""The project's own suite: `python -m benchmarks`."""
