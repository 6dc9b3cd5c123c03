"""The flags of the subcommands that make and compare records: time to accuracy, profile, rivals, leaderboard."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from fastcifar.execution import Execution
from fastcifar.measure.time_to_accuracy import ProtocolName
from fastcifar.recipe import Recipe


@dataclass(frozen=True)
class Accuracy:
    """Train a recipe with several seeds and report the time to its target, in a record that can be checked."""

    name: Annotated[str, arg(name="recipe", metavar="NAME|FILE.toml")]
    """A recipe that ships (see `fastcifar recipes`) or a TOML file; auto: seed on a GPU, laptop on a CPU."""
    recipe: Annotated[Recipe, arg(name="")]
    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    runs: int = 3
    """How many runs, with the seeds seed, seed + 1 and so on."""
    minutes: float | None = None
    """Begin no further run once this many minutes have passed."""
    protocol: ProtocolName = "first-crossing"
    """Training seconds to the first epoch at the target; or of the whole recipe, if its mean accuracy is above it."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """The record; default runs/<utc time>-<recipe>-<protocol>.record.json. Kept after every run."""
    resume: bool = False
    """Go on with the record that --json names, up to --runs."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""


@dataclass(frozen=True)
class Profile:
    """Profile a recipe's training: kernels by time, the gaps between them, the share of matrix products."""

    name: Annotated[str, arg(name="recipe", metavar="NAME|FILE.toml")]
    """A recipe that ships (see `fastcifar recipes`) or a TOML file; auto: seed on a GPU, laptop on a CPU."""
    recipe: Annotated[Recipe, arg(name="")]
    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    steps: int = 50
    """How many steps the profiler sees, of the third epoch."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write what was found to this file."""
    trace: Annotated[Path | None, arg(metavar="FILE.json.gz")] = None
    """Write the profiler's trace, for Perfetto or chrome://tracing."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""


@dataclass(frozen=True)
class Peers:
    """Run fastcifar and its rivals in turn, each program in its own process, and print the ratios."""

    name: Annotated[str, arg(name="recipe", metavar="NAME|FILE.toml")]
    """What fastcifar and plain_pytorch train; a rival's program has a recipe of its own."""
    recipe: Annotated[Recipe, arg(name="")]
    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    runs: int = 1
    """How many runs of each program."""
    minutes: float | None = None
    """End a program after this many minutes; of its runs those count that it has finished."""
    protocol: ProtocolName = "first-crossing"
    """As in `fastcifar bench accuracy`."""
    peer: Annotated[tuple[str, ...], arg(metavar="NAME=PATH")] = ()
    """A rival and the checkout of its program: airbench=DIR hlb-CIFAR10=DIR."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Keep each program's record in this folder."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder that holds cifar-10-batches-py; see `fastcifar train --help`."""


Records = Annotated[tuple[Path, ...], tyro.conf.Positional, arg(metavar="FILE|DIR")]


@dataclass(frozen=True)
class Check:
    """Recompute every figure of the records from their logs; refuse by name what does not hold."""

    files: Records
    """Records, or folders of them (*.record.json)."""


@dataclass(frozen=True)
class Show:
    """Print the leaderboard: what may be compared in one table, the fastest first."""

    files: Records = ()
    """Records, or folders of them; by default the checkout's benchmarks/results."""
    target: float | None = None
    """Only records to this accuracy (0 to 1)."""
    hardware: str | None = None
    """Only hardware whose name has this in it."""
    protocol: ProtocolName | None = None
    """Only this protocol."""


@dataclass(frozen=True)
class Page:
    """Write the leaderboard as a page: one file, no server."""

    out: Annotated[Path, arg(metavar="DIR")]
    """Folder of index.html."""
    files: Records = ()
    """Records, or folders of them; by default the checkout's benchmarks/results."""
    markdown: Annotated[Path | None, arg(metavar="FILE.md")] = None
    """Write the tables as Markdown too."""


@dataclass(frozen=True)
class Export:
    """Write a record as the JSON and TSV pair of DAWNBench's submission format."""

    files: Records
    """Records."""
    dawnbench: Annotated[Path, arg(metavar="DIR")]
    """Folder of the pairs."""
    author: str
    """Who submits."""
    author_email: str
    """Where to reach them."""
    code_url: str
    """Where the code is."""
