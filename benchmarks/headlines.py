"""What the record of each part of the GPU suite comes to, in a line; a damaged one makes them raise."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcifar.peers.compare import OURS, Outcome, ratios, seconds_to_target
from fastcifar.records.check import read_record

FAST = ("dali-gpu", "dali-cpu", "dali", "fused")


def tests(file: Path) -> str:
    """How many of tests/gpu passed."""
    ended = Counter(one["outcome"] for one in json.loads(file.read_bytes())["tests"].values())
    return ", ".join(f"{ended[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))


def compiled(file: Path) -> str:
    """How long it took until the last recipe was set up."""
    seconds = json.loads(file.read_bytes())["seconds"]
    return f"{len(seconds)} set up at once, the last after {max(seconds.values()):.0f} s"


def _measurements(file: Path) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(file.read_bytes())["measurements"] if one["unit"] == "images/s"}


def loaders(file: Path) -> str:
    """Images/s of the fast loaders, and their ratios to plain torchvision."""
    return ", ".join(
        f"{name} {one['median']:,.0f}/s ({one['ratio_to_plain']:,.3g} x)"
        for name, one in _measurements(file).items()
        if name in FAST
    )


def step(file: Path) -> str:
    """Images/s of the step that `auto` picks."""
    name, auto = next((name, one) for name, one in _measurements(file).items() if one["details"]["auto"])
    return (
        f"{name} {auto['median']:,.0f}/s ({auto['ratio_to_plain']:,.3g} x), "
        f"{auto['median'] / auto['limit']:.1%} of the matrix product rate"
    )


def train(file: Path) -> str:
    """Images/s and stall of training with the fast loaders."""
    return ", ".join(
        f"{name} {one['median']:,.0f}/s, stall {one['details']['stall']:.2%}"
        for name, one in _measurements(file).items()
        if name in FAST
    )


def accuracy(file: Path) -> str:
    """Seconds to the target, runs, final accuracy."""
    record = read_record(file)
    seconds = seconds_to_target(record)
    reached = "not reached" if seconds is None else f"after {seconds:,.2f} s"
    summary = record.summary
    return (
        f"{record.target:.1%} {reached}, n = {summary.runs}, final {summary.final_accuracy.mean:.2%}, "
        f"{summary.images_per_second.mean:,.0f}/s"
    )


def peers(folder: Path, asked: Sequence[str]) -> str:
    """Images/s of every program, its seconds over ours, and which of those `asked` has no record."""
    found = {file.name.removesuffix(".record.json"): read_record(file) for file in folder.glob("*.record.json")}
    over = ratios([Outcome(name, record) for name, record in found.items()])
    absent = [f"{name}: no record" for name in asked if name not in found]
    return ", ".join(
        f"{name} {found[name].summary.images_per_second.mean:,.0f}/s"
        + ("" if ratio.seconds is None or name == OURS else f" ({ratio.seconds:,.3g} x our seconds)")
        for name, ratio in sorted(over.items(), key=lambda item: item[0] != OURS)
    ) + "".join(f", {one}" for one in absent)


def profile(file: Path) -> str:
    """The share of the matrix product rate, of matrix products, of gaps."""
    found = json.loads(file.read_bytes())["profile"]
    return (
        f"{found['efficiency']:.1%} of the matrix product rate end to end, {found['matmul_share']:.0%} of the busy time"
        f" in matrix products, gaps {found['gap_share']:.1%}"
    )
