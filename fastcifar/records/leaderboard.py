"""Which records may be compared, and in what order; what others have published."""

import csv
import itertools
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from fastcifar.own import own_names
from fastcifar.recipe import Recipe
from fastcifar.recipe.files import load_recipe, shipped_recipes
from fastcifar.records.check import read_record, require_reached
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.quiet import beside, other_cores, unclean
from fastcifar.records.record import Environment, Record
from fastcifar.records.summary import FEW, ends, optimizer_petaflops

Division = Literal["closed", "open"]
# What of a recipe is not looked at when it is held to another: which seeds, when the clock stops, and the images' sum,
# which is filled in when they are read.
_NOT_COMPARED = ("seed", "target", "stop_at_target", "dataset_sha256")
_DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "synthetic": "synthetic"}
_VIEWS = {"none": "plain", "flip+shift-quarter": "flip+shift of 25 %"}


@dataclass(frozen=True)
class Entry:
    """A record on the leaderboard: what its row says, all of it derived from the record."""

    record: Record
    file: str  # the record's file name, without its folder
    division: Division
    hardware: str
    data: str
    recipe: str
    evaluation: str
    loader: str

    @property
    def seconds(self) -> float:
        """Mean seconds by the record's protocol."""
        assert self.record.summary.seconds is not None  # a record without is not reached, and is refused
        return self.record.summary.seconds.mean

    def ends(self, figure: str) -> tuple[float, float] | None:
        """As `fastcifar.records.summary.ends`."""
        return ends(self.record, figure)

    def few(self) -> bool:
        """Whether those are the least and the most, not an interval's."""
        return self.record.summary.runs < FEW

    def optimizer_petaflops(self) -> float | None:
        """As `fastcifar.records.summary.optimizer_petaflops`."""
        return optimizer_petaflops(self.record)

    def other_cores(self) -> float | None:
        """As `fastcifar.records.quiet.other_cores`."""
        return other_cores(self.record)

    def title(self) -> str:
        """The recipe, and what there is against its seconds: a recipe or a source that nobody can have, other work."""
        return ", ".join([self.recipe, *self.remarks()])

    def remarks(self) -> list[str]:
        """What a reader should know before believing the row."""
        unknown = "recipe not given" if self.record.recipe is None else ""
        first = self.record.runs[0].seed
        chosen = f"seeds from {first} on" if first else ""  # the recipes that ship begin with 0
        return list(filter(None, (unknown, chosen, beside(self.record), unclean(self.record.environment))))

    def curve(self) -> list[tuple[float, float]]:
        """Training seconds so far and test accuracy after each tested epoch, means over the runs (to the shortest)."""
        runs = [run.epochs for run in self.record.runs]
        points, seconds = [], 0.0
        for epochs in zip(*runs, strict=False):
            seconds += sum(epoch.train_seconds for epoch in epochs) / len(runs)
            accuracies = [epoch.test_accuracy for epoch in epochs if epoch.test_accuracy is not None]
            if len(accuracies) == len(runs):
                points.append((seconds, sum(accuracies) / len(runs)))
        return points


@dataclass(frozen=True)
class Group:
    """Entries that may be ranked against each other, the fastest first."""

    division: Division
    protocol: ProtocolName
    target: float
    hardware: str
    data: str
    entries: list[Entry]

    def title(self) -> str:
        """One line that says what the entries have in common."""
        return f"{self.division}, {self.protocol}, {100 * self.target:.4g} % on {self.data}, {self.hardware}"


@dataclass(frozen=True)
class Published:
    """A result that others published, to a target from 0 to 1; never measured here. None is what they do not say."""

    name: str
    seconds: float
    target: float
    hardware: str
    year: int
    source: str
    petaflops: float | None = None
    evaluation: str | None = None


@dataclass(frozen=True)
class Curve:
    """A published training log: training seconds and test accuracy (0 to 1) after each epoch."""

    name: str
    source: str
    points: list[tuple[float, float]]


def read_entry(path: Path) -> Entry:
    """The leaderboard's view of a record. Raises `InputError` at one that does not hold, naming file and field."""
    record = read_record(path)
    require_reached(record, path)
    return Entry(
        record=record,
        file=path.name,
        division=division(record.recipe),
        hardware=hardware(record.environment),
        data=_data(record),
        recipe=_recipe_name(record),
        evaluation=evaluation(record),
        loader=record.execution.loader if record.execution else "its own",
    )


def find_records(places: Iterable[Path]) -> list[Path]:
    """Files as they are, and the records in folders: files named *.record.json, at any depth, by name."""
    found: list[Path] = []
    for place in places:
        folder = os.path.isdir(place)  # noqa: PTH112 (Path.is_dir raises at a name that is too long)
        found += sorted(place.rglob("*.record.json")) if folder else [place]
    return found


def groups(
    entries: Sequence[Entry],
    *,
    target: float | None = None,
    hardware: str | None = None,
    protocol: ProtocolName | None = None,
) -> list[Group]:
    """Entries by what makes them comparable, closed before open; `hardware` is any part of its name."""

    def common(entry: Entry) -> tuple[Division, ProtocolName, float, str, str]:
        return entry.division, entry.record.protocol, entry.record.target, entry.hardware, entry.data

    asked = [
        entry
        for entry in entries
        if target in (None, entry.record.target)
        and protocol in (None, entry.record.protocol)
        and (hardware or "").lower() in entry.hardware.lower()
    ]
    asked.sort(key=lambda entry: (common(entry), entry.seconds))
    return [Group(*key, list(found)) for key, found in itertools.groupby(asked, common)]


def division(recipe: Recipe | None) -> Division:
    """Closed: `seed`'s recipe in all that changes the result (either published form of its network), so that only the
    system differs. Open: anything else. Which seeds, the target and when to stop are not looked at."""
    if recipe is None:
        return "open"
    seed = Recipe()
    forms = [_compared(seed), _compared(seed)]
    forms[1]["model"]["layer2_residual"] = True
    return "closed" if _compared(recipe) in forms else "open"


def hardware(environment: Environment) -> str:
    """GPUs by name and number, or CPU and cores, on how many machines: what must be equal for times to be compared."""
    machines = f" on {count} machines" if (count := environment.machines or 1) > 1 else ""
    if environment.gpu and environment.gpus != 0:
        number = environment.gpus or 1
        return (f"{number} x {environment.gpu}" if number > 1 else environment.gpu) + machines
    cpu = re.sub(r"\((R|TM)\)|CPU|Processor", "", environment.cpu or "unknown")
    cores = f"{environment.cores or 'unknown'} cores"
    processes = f"{count} processes{machines}" if (count := environment.processes or 1) > 1 else ""
    instructions = (environment.cpu_capability, environment.cpu_bfloat16)
    return ", ".join(filter(None, (" ".join(cpu.split()), cores, *instructions, processes)))


def evaluation(record: Record) -> str:
    """What was tested: each image as it is ("plain") or several views of it, by the network or an average of it."""
    if record.recipe is None:
        return record.evaluation or ""
    asked, average = record.recipe.evaluation, record.recipe.average.name
    views = _VIEWS.get(asked.tta, asked.tta)
    if average == "none" or asked.weights != "average":
        return views
    return f"{views}{',' if '%' in views else ''} of {average.upper() if average == 'ema' else average}"


def _data(record: Record) -> str:
    recipe, images = record.recipe, record.images
    if recipe and recipe.dataset not in _DATA:
        # One's own: what has the same name need not be the same.
        name, whole = f"{recipe.dataset} {(recipe.dataset_sha256 or 'unknown')[:8]}", False
    else:
        name = _DATA[recipe.dataset if recipe else "cifar10"]
        whole = (images.train, images.test) == (50_000, 10_000)
        # Who leaves out an epoch's last, short batch still has the whole of the data.
        if images.test == 10_000 and (recipe is None or recipe.limit_train is None):
            whole = whole or 49_000 <= images.train <= 50_000
    if recipe and recipe.validation:
        return f"{name} ({images.train:,} training images, {images.test:,} more to test on)"
    return name if whole else f"{name} ({images.train:,} + {images.test:,} images)"


def _recipe_name(record: Record) -> str:
    """The recipe's name; what of it is custom is said, and of one that shares a shipped recipe's name and not
    its fields that it is changed. A rival's program is named before it."""
    name, recipe = record.name, record.recipe
    if recipe and (own := list(own_names(recipe))):
        name = f"{name} (own {', '.join(own)})".replace("model", "network")
    elif recipe and name in shipped_recipes() and _compared(recipe) != _compared(load_recipe(name)):
        name = f"{name} (changed)"
    rival = not record.program.startswith("fastcifar ") and record.program != name
    return f"{record.program}: {name}" if rival else name


def _compared(recipe: Recipe) -> dict[str, Any]:
    return {field: value for field, value in asdict(recipe).items() if field not in _NOT_COMPARED}


def read_published() -> tuple[list[Published], list[Curve]]:
    """What others published: published.toml, by target and seconds, and the logs (TSV) that it names."""
    folder = resources.files("fastcifar.records")
    values = tomllib.loads((folder / "published.toml").read_text(encoding="utf-8"))
    results = [Published(**one) for one in values["results"]]
    curves = [
        Curve(one["name"], one["source"], _points((folder / one["log"]).read_text(encoding="utf-8")))
        for one in values["curves"]
    ]
    return sorted(results, key=lambda one: (one.target, one.seconds)), curves


def _points(log: str) -> list[tuple[float, float]]:
    """A log's tab-separated columns train_seconds (of an epoch) and test_accuracy (percent); # begins a remark."""
    lines = (line for line in log.splitlines() if not line.startswith("#"))
    points, seconds = [], 0.0
    for row in csv.DictReader(lines, delimiter="\t"):
        seconds += float(row["train_seconds"])
        points.append((seconds, float(row["test_accuracy"]) / 100))
    return points
