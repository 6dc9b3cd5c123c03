"""`python -m benchmarks`: run every benchmark in full and keep what it measured under benchmarks/results/."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from fastcifar.cli import main
from fastcifar.measure.environment import environment

RESULTS = Path(__file__).parent / "results"


def suite(arguments: list[str]) -> int:
    """Run `fastcifar bench` loaders, step and train; `arguments` (--dataset synthetic, say) go to each of them."""
    found = environment()
    machine = f"{found['gpu'] or found['cpu']}-{found['cores']}-cores"
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{re.sub(r'[^A-Za-z0-9]+', '-', machine)}"
    RESULTS.mkdir(exist_ok=True)
    for bench in ("loaders", "step", "train"):
        print(f"fastcifar bench {' '.join([bench, *arguments])}", flush=True)
        file = RESULTS / f"{stem}-{bench}.json"
        code = main(["bench", bench, *arguments, "--json", str(file), "--figure", str(file.with_suffix(".png"))])
        if code:
            return code
        print(f"kept in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(suite(sys.argv[1:]))
