"""Benchmarks for people: a table and a picture of bars, the limit and the yardstick in both."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fastcifar.measure.throughput import Measurement

TITLES = {
    "loaders": "loaders: images/s, limit = a copy of the same bytes",
    "step": "one training step: images/s, limit = matrix products at the same precision",
    "train": "training with each loader: images/s, limit = the step with its data there",
}
WIDE = 120
_SCALES = {"bytes/s": (1e9, "GB/s"), "flop/s": (1e12, "Tflop/s"), "images/s": (1.0, "images/s")}


def print_tables(console: Console, measurements: Sequence[Measurement]) -> None:
    """A table a benchmark, the fastest first."""
    for bench, title in TITLES.items():
        rows = [one for one in measurements if one.bench == bench]
        if not rows:
            continue
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for heading in ("", "median", "quartiles", "of limit", "x plain"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        wide = console.width >= WIDE  # else what is to be remarked stands below the table
        if wide:
            table.add_column("")
        for one in sorted(rows, key=lambda one: (one.limit is not None, -one.median)):
            scale, unit = _SCALES[one.unit]
            number = (lambda value: f"{value:,.0f}") if scale == 1 else (lambda value: f"{value:,.2f}")
            table.add_row(
                one.name,
                f"{number(one.median / scale)}{'' if scale == 1 else f' {unit}'}",
                f"{number(one.q1 / scale)} – {number(one.q3 / scale)}",
                "" if one.limit is None else f"{one.median / one.limit:.1%}",
                "" if one.ratio_to_plain is None else f"{one.ratio_to_plain:,.2f}",
                *([_remarks(one)] if wide else []),
            )
        console.print(table)
        for one in rows if not wide else []:
            if said := _remarks(one):
                console.print(f"{one.name}: {said}", highlight=False, soft_wrap=True)
        console.print()


def _remarks(one: Measurement) -> str:
    said = []
    if one.details.get("stall") is not None:
        said.append(f"stall {one.details['stall']:.2%}")
    if "tflops" in one.details:
        said.append(f"{one.details['tflops']:.3g} Tflop/s")
    if one.details.get("peak_memory"):
        said.append(f"{one.details['peak_memory'] / 2**20:,.0f} MiB")
    if one.name.startswith("compiled"):
        said.append(f"first step {one.details['first_step_seconds']:.0f} s")
    if one.details.get("auto"):
        said.append("<- auto")
    return ", ".join(said)


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Bars of the medians with their quartiles, the limit as a mark, the ratio to the yardstick as text; PNG or SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [one for one in measurements if one.unit == "images/s"]
    benches = [bench for bench in TITLES if any(one.bench == bench for one in shown)]
    counts = [sum(one.bench == bench for one in shown) for bench in benches]
    figure, axes = pyplot.subplots(
        len(benches), 1, figsize=(8, 1.2 * len(benches) + 0.34 * sum(counts)), height_ratios=counts, squeeze=False
    )
    for bench, axis in zip(benches, axes[:, 0], strict=True):
        rows = sorted((one for one in shown if one.bench == bench), key=lambda one: one.median)
        names = [one.name for one in rows]
        medians = [one.median for one in rows]
        spread = [[one.median - one.q1 for one in rows], [one.q3 - one.median for one in rows]]
        axis.barh(names, medians, xerr=spread, color="#4477aa", ecolor="#222222", height=0.65)
        axis.scatter(
            [one.limit for one in rows],
            names,
            marker="|",
            s=220,
            linewidths=2,
            color="#cc3311",
            label="limit",
            zorder=3,
        )
        axis.set_xscale("log")
        axis.margins(x=0.18)
        for one in rows:
            if one.ratio_to_plain is not None:
                axis.annotate(
                    f"{one.ratio_to_plain:,.3g} x",
                    (max(one.q3, one.median), one.name),
                    xytext=(5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
        axis.set_title(TITLES[bench], fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=8, frameon=False, loc="lower right")
    axes[-1, 0].set_xlabel("images/s (log scale); the text is the ratio to plain PyTorch", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
