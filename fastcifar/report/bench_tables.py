"""What is printed of the benchmarks and of a profile: tables, and plain lines below them."""

from collections.abc import Sequence

from fastcifar.bench.profile import MATMUL, Kernel, Profile
from fastcifar.bench.throughput import Measurement
from fastcifar.records.quiet import busy
from fastcifar.report.console import Console
from fastcifar.report.tables import table

TITLES = {
    "loaders": "loaders: images/s, limit = a copy of the same bytes",
    "step": "one training step: images/s, limit = matrix products at the same precision",
    "train": "training with each loader: images/s, limit = the step with its data there",
}
"""What each benchmark measures."""
WIDE = 120
KERNELS = 15
KERNEL_NAME = 70  # characters; templates make them hundreds long
_SCALES = {"bytes/s": (1e9, " GB/s"), "flop/s": (1e12, " Tflop/s"), "images/s": (1.0, "")}


def print_tables(console: Console, measurements: Sequence[Measurement]) -> None:
    """A table a benchmark, the fastest first."""
    for bench, title in TITLES.items():
        rows = [one for one in measurements if one.bench == bench]
        rows.sort(key=lambda one: (one.limit is not None, -one.median))
        if not rows:
            continue
        columns = 6 if console.width >= WIDE else 5  # else what is to be remarked stands below the table
        headings = ("", "median", "quartiles", "of limit", "x plain", "")
        console.print(table(headings[:columns], [_measured(one)[:columns] for one in rows], title=title))
        if columns == 5:
            console.say(*(f"{one.name}: {said}" for one in rows if (said := _remarks(one))))
        console.print()


def _measured(one: Measurement) -> tuple[str, ...]:
    scale, unit = _SCALES[one.unit]
    form = ",.2f" if unit else ",.0f"
    return (
        one.name,
        f"{one.median / scale:{form}}{unit}",
        f"{one.q1 / scale:{form}} – {one.q3 / scale:{form}}",
        "" if one.limit is None else f"{one.median / one.limit:.1%}",
        "" if one.ratio_to_plain is None else f"{one.ratio_to_plain:,.2f}",
        _remarks(one),
    )


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
    return ", ".join([*said, *filter(None, [busy(one.other_cores)])])


def print_profile(console: Console, found: Profile) -> None:
    """The kinds of kernels and the longest of them, times in microseconds a step, and what they come to."""
    _print_kernels(console, "kind", found.kinds)
    _print_kernels(console, f"kernel (the longest {min(KERNELS, len(found.kernels))})", found.kernels[:KERNELS])
    inside = "" if found.matmul_efficiency is None else f", at {found.matmul_efficiency:.1%} of the matrix product rate"
    console.say(
        f"a step of {found.batch_size} images: {1e3 * found.step_seconds:,.3f} ms"
        f" ({1e3 * found.profiled_step_seconds:,.3f} ms under the profiler, {found.steps} steps);"
        f" {found.images_per_second:,.0f} images/s",
        f"device busy: {1e3 * found.busy_seconds:,.3f} ms; gaps: {found.gap_share:.1%} of the time,"
        f" {found.gaps} a step, median {1e6 * found.gap_median_seconds:,.1f} µs,"
        f" longest {1e6 * found.gap_longest_seconds:,.0f} µs",
        f"{MATMUL}: {found.matmul_share:.1%} of the busy time{inside} ({found.matmul_rate / 1e12:,.3g} Tflop/s)",
        f"end to end: {found.efficiency:.1%} of the matrix product rate",
    )


def _print_kernels(console: Console, heading: str, kernels: Sequence[Kernel]) -> None:
    rows = [
        (
            f"{1e6 * kernel.seconds:,.1f}",
            f"{kernel.share:.1%}",
            f"{kernel.calls:,.3g}",
            kernel.name if len(kernel.name) <= KERNEL_NAME else f"{kernel.name[: KERNEL_NAME - 1]}…",
        )
        for kernel in kernels
    ]
    console.print(table(("µs", "share", "calls", heading), rows, left=(heading,)))
