"""Where results are kept, and what they are called after the machine they are of."""

import re
import sys
from pathlib import Path
from typing import Any

from fastcifar.errors import InputError

RESULTS = Path(__file__).parent / "results"


def machine(found: dict[str, Any]) -> str:
    """GPU, or else CPU, and cores of what `environment` found, as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{found['gpu'] or found['cpu']}-{found['cores']}-cores")


def require_clean(found: dict[str, Any], *, allow_dirty: bool) -> None:
    """Raises `InputError` where `environment` found changes that are in no commit, so that nobody could measure again
    what is measured now. Where there is no git, that is said: the results will be marked."""
    if found["dirty"] and not allow_dirty:
        raise InputError("the checkout has changes that are not committed; commit them, or give --allow-dirty")
    if found["dirty"] is None:
        print("benchmarks: no git here that knows the commit: what is measured will be marked so", file=sys.stderr)
