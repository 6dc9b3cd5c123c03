"""`python -m benchmarks`: run every benchmark in full and keep what it measured under benchmarks/results/."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from fastcifar.cli import main
from fastcifar.measure.environment import environment

RESULTS = Path(__file__).parent / "results"
WIDTHS = (8, 16, 32, 64)


def suite(arguments: list[str]) -> int:
    """Run `fastcifar bench` loaders, step at full width, and train at several; `arguments` (--dataset synthetic, say)
    go to each of them, after its own."""
    found = environment()
    machine = f"{found['gpu'] or found['cpu']}-{found['cores']}-cores"
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{re.sub(r'[^A-Za-z0-9]+', '-', machine)}"
    # A step of the full network on 512 images takes a CPU up to 20 seconds.
    smaller = [] if found["gpu"] else ["--batch-size", "64"]
    benches = {
        "loaders": ["loaders"],
        "step": ["step", "--width", "64", *smaller],
        **{f"train-width-{width}": ["train", "--width", str(width)] for width in WIDTHS},
    }
    RESULTS.mkdir(exist_ok=True)
    for name, bench in benches.items():
        command = ["bench", *bench, *arguments]
        print(f"fastcifar {' '.join(command)}", flush=True)
        file = RESULTS / f"{stem}-{name}.json"
        code = main([*command, "--json", str(file), "--figure", str(file.with_suffix(".png"))])
        if code:
            return code
        print(f"kept in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(suite(sys.argv[1:]))
