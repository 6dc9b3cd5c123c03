"""A learning-rate range test for people: two rates and their rule, the picture, the values."""

import json
import math
from pathlib import Path

from rich.console import Console

from fastcifar.training.lr_finder import LrRange
from fastcifar.training.run_directory import write_whole


def print_lr(console: Console, found: LrRange) -> None:
    """LRMIN and LRMAX, the rule that chose them, and how far the test went."""
    lines = (
        f"LRMIN {found.min_lr:g}",
        f"LRMAX {found.max_lr:g}",
        f"rule  {found.rule}",
        f"test  {len(found.losses)} steps from {found.learning_rates[0]:.2g} to {found.learning_rates[-1]:.2g}, seed "
        f"{found.seed}, {found.seconds:,.1f} s; loss {found.smoothed[0]:.3g} at first, "
        f"{found.smoothed[found.lowest]:.3g} at the lowest",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def values_json(found: LrRange) -> str:
    """What was found, and each step's learning rate, loss and smoothed loss (null where it is not finite), as JSON."""
    steps = [
        {"learning_rate": rate, "loss": _finite(loss), "smoothed": _finite(smoothed)}
        for rate, loss, smoothed in zip(found.learning_rates, found.losses, found.smoothed, strict=True)
    ]
    return json.dumps({"format": 1, **found.note(), "values": steps}, indent=2, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def keep_lr(found: LrRange, folder: Path) -> tuple[Path, Path]:
    """Write the picture (lr_range.png) and the values (lr_range.json) into `folder`, which is there; their paths."""
    picture, values = folder / "lr_range.png", folder / "lr_range.json"
    draw_lr(found, picture)
    write_whole(values, values_json(found).encode())
    return picture, values


def draw_lr(found: LrRange, path: Path) -> None:
    """Loss against the learning rate (log scale), with LRMIN and LRMAX marked; PNG or SVG by the name of `path`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4.5))
    axis.plot(found.learning_rates, found.losses, color="#4477aa", alpha=0.35, linewidth=1, label="loss of each step")
    axis.plot(found.learning_rates, found.smoothed, color="#4477aa", linewidth=2, label="smoothed")
    lowest = found.learning_rates[found.lowest], found.smoothed[found.lowest]
    axis.plot(*lowest, "o", color="#4477aa", markersize=7, label=f"lowest, at {lowest[0]:.2g}")
    axis.set_xscale("log")
    # A diverged loss would press all that matters to the floor.
    bottom = min(loss for loss in found.losses if math.isfinite(loss))
    top = max(found.smoothed[: found.lowest + 1])
    axis.set_ylim(bottom - 0.1 * (top - bottom), top + 0.35 * (top - bottom))
    axis.axvspan(found.min_lr, found.max_lr, color="#cc3311", alpha=0.06, linewidth=0)
    for name, rate in (("LRMIN", found.min_lr), ("LRMAX", found.max_lr)):
        axis.axvline(rate, color="#cc3311", linewidth=1.5)
        axis.annotate(
            f"{name} {rate:g}",
            (rate, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
            color="#cc3311",
            rotation=90,
        )
    axis.set_xlabel("learning rate (log scale)", fontsize=9)
    axis.set_ylabel("training loss", fontsize=9)
    axis.set_title(f"learning-rate range test, seed {found.seed}\n{found.rule}", fontsize=9, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
