"""`python -m benchmarks.gpu_tests --json FILE`: run tests/gpu, and keep after every test how it ended.

A file of our own and not pytest's XML, which is written at the very end only, and says the machine's name.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fastcifar.bench.environment import environment
from fastcifar.files import write_whole

TESTS = Path(__file__).parents[1] / "tests" / "gpu"


class Keeper:
    """A pytest plugin that writes `file` after every test: name, outcome, seconds, and why where it did not pass."""

    def __init__(self, file: Path) -> None:
        self._file, self._environment = file, environment()
        self._tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called after the set-up, the call and the end of each test."""
        name = report.nodeid.split("/")[-1]
        one = self._tests.setdefault(name, {"outcome": "passed", "seconds": 0.0, "why": None})
        one["seconds"] += report.duration
        if report.outcome != "passed":
            one["outcome"] = report.outcome
            one["why"] = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
        values = {"format": 1, "environment": self._environment, "tests": self._tests}
        write_whole(self._file, json.dumps(values, indent=2).encode())


def main() -> int:
    """The command line. Returns pytest's exit code."""
    parser = argparse.ArgumentParser(description="Run tests/gpu.")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    return int(pytest.main([str(TESTS), "-q", "--durations=10", "--timeout=300"], plugins=[Keeper(given.json)]))


if __name__ == "__main__":
    sys.exit(main())
