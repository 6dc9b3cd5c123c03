"""A profile on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastcifar.measure.profile import MATMUL, Kernel, Profile

SHOWN = 15
NAME = 70  # characters of a kernel's name; templates make them hundreds long


def print_profile(console: Console, found: Profile) -> None:
    """The kinds of kernels and the longest of them, times in microseconds a step, and what they come to."""
    console.print(_table("kind", found.kinds))
    console.print(_table(f"kernel (the longest {min(SHOWN, len(found.kernels))})", found.kernels[:SHOWN]))
    inside = "" if found.matmul_efficiency is None else f", at {found.matmul_efficiency:.1%} of the matrix product rate"
    for line in (
        f"a step of {found.batch_size} images: {1e3 * found.step_seconds:,.3f} ms"
        f" ({1e3 * found.profiled_step_seconds:,.3f} ms under the profiler, {found.steps} steps);"
        f" {found.images_per_second:,.0f} images/s",
        f"device busy: {1e3 * found.busy_seconds:,.3f} ms; gaps: {found.gap_share:.1%} of the time,"
        f" {found.gaps} a step, median {1e6 * found.gap_median_seconds:,.1f} µs,"
        f" longest {1e6 * found.gap_longest_seconds:,.0f} µs",
        f"{MATMUL}: {found.matmul_share:.1%} of the busy time{inside} ({found.matmul_rate / 1e12:,.3g} Tflop/s)",
        f"end to end: {found.efficiency:.1%} of the matrix product rate",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(heading: str, kernels: list[Kernel]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("µs", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column(heading)
    for kernel in kernels:
        name = kernel.name if len(kernel.name) <= NAME else f"{kernel.name[: NAME - 1]}…"
        numbers = (f"{1e6 * kernel.seconds:,.1f}", f"{kernel.share:.1%}", f"{kernel.calls:,.3g}")
        table.add_row(*numbers, Text(name))
    return table
