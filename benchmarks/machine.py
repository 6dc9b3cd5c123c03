"""Where results are kept, and what they are called after the machine they are of."""

import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine(found: dict[str, Any]) -> str:
    """GPU, or else CPU, and cores of what `environment` found, as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{found['gpu'] or found['cpu']}-{found['cores']}-cores")
