"""Where results are kept, and what they are called after the machine they are of."""

import re
from pathlib import Path

from fastcifar.measure.environment import environment

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """GPU, or else CPU, and cores, as a part of a file's name."""
    found = environment()
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{found['gpu'] or found['cpu']}-{found['cores']}-cores")
