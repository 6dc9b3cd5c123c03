"""A result that can be checked: a JSON file of recipe, environment and every run's log, from which all else follows.

`schema` is its JSON Schema; records of earlier versions are read by way of `fastcifar.records.migrate`. Nothing in a
record is trusted: text is kept free of control characters, sizes are bounded, and a figure that does not follow from
the log is refused by name.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fastcifar.recipe import Recipe
from fastcifar.recipe.tables import UNSEEN
from fastcifar.records.protocol import ProtocolName

SCHEMA_VERSION: Literal[9] = 9

# One line of text: nothing that is not seen.
Line = Annotated[str, StringConstraints(max_length=200, pattern=rf"^[^{UNSEEN}]*$")]
# Any lines: of what is not seen tabs, and the ends of lines and pages.
Text = Annotated[str, StringConstraints(max_length=2**20, pattern=rf"^([^{UNSEEN}]|[\t\n\f\r])*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Accuracy = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Bounds are far beyond what there is, and near enough that no sum or product of such figures is past every float.
LONGEST = 1e9  # seconds, 30 years
Seconds = Annotated[float, Field(ge=0, le=LONGEST)]
SomeSeconds = Annotated[float, Field(gt=0, le=LONGEST)]
Operations = Annotated[float, Field(ge=0, le=1e30)]
Quantity = Annotated[float, Field(gt=0, le=1e9)]  # of watts or GiB
Number = Annotated[int, Field(ge=1, le=100_000)]  # of cores, say
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Epoch(_Strict):
    """An epoch's line of the log: as `fastcifar.training.log.EpochLog`; None where a program says nothing."""

    epoch: Annotated[int, Field(ge=1)]
    train_seconds: SomeSeconds
    eval_seconds: Seconds | None = None
    train_loss: NonNegative | None = None
    train_accuracy: Accuracy | None = None
    test_loss: NonNegative | None = None
    test_accuracy: Accuracy | None = None
    learning_rate: NonNegative | None = None
    images_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    other_cores: Annotated[float, Field(ge=0, le=100_000)] | None = None


class Run(_Strict):
    """One run of the recipe. `started` is UTC; `wall_seconds` is how long it took from then, set-up not included.

    A run that was interrupted and resumed so many times has the seconds of all its sessions, not those between them;
    `lost_seconds` of them went into what was trained and tested after the last checkpoint before an interruption, and
    done again: they are in no epoch's. `worker` is the number of the process that made it, where several made runs at
    once; each makes one after another.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    started: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00$")]
    setup_seconds: Seconds
    wall_seconds: SomeSeconds
    interruptions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    lost_seconds: Seconds = 0.0
    worker: Number | None = None
    epochs: Annotated[list[Epoch], Field(min_length=1, max_length=100_000, fail_fast=True)]

    @property
    def final_accuracy(self) -> float:
        """Of the last epoch, which is always tested; 0 in a record that says nothing of it, and is refused."""
        return self.epochs[-1].test_accuracy or 0.0

    @property
    def best_accuracy(self) -> float:
        """The highest of a tested epoch."""
        return max(epoch.test_accuracy or 0.0 for epoch in self.epochs)


class Interval(_Strict):
    """Mean over the runs and its 95 % confidence interval (Student's t), None for a single run."""

    mean: Finite
    low: Finite | None
    high: Finite | None


class Summary(_Strict):
    """What follows from the log. `seconds` by the record's protocol, None unless every run has a time; `petaflops`
    (1e15) of training in the same epochs, None without `work`; `p` of the one-sided t-test that the mean final accuracy
    is above the target, None where there is none (`p_below`); `reached`: the claim holds."""

    runs: Annotated[int, Field(ge=1)]
    seconds: Interval | None
    final_accuracy: Interval
    images_per_second: Interval
    petaflops: Interval | None
    p: Accuracy | None
    reached: bool


class Source(_Strict):
    """A custom file that the recipe names. It is there to be read: nothing in a record is ever executed."""

    file: Line
    sha256: Sha256
    text: Text


class Work(_Strict):
    """Floating-point operations: of training on an image, forward and backward, in each epoch of the recipe; and of a
    step of the optimizer, which are reported beside those. Counted by `fastcifar.bench.flops`."""

    flops_per_image: Annotated[list[Operations], Field(min_length=1, max_length=100_000, fail_fast=True)]
    optimizer_flops_per_step: Operations


class Images(_Strict):
    """Images trained on in an epoch, and tested on."""

    train: Annotated[int, Field(ge=1, le=10**9)]
    test: Annotated[int, Field(ge=1, le=10**9)]


class Environment(_Strict):
    """Machine and software: `fastcifar.bench.environment`, where `gpu` and `gpus` are those that each run used.

    `processes` trained it together, on so many `machines`; `sharing` is how many runs were made at once on its GPU, or
    on its machine's cores, where it was more than one. Any field may be missing: a program that came before it did not
    write it.
    """

    fastcifar: Line | None = None
    commit: Line | None = None
    dirty: bool | None = None
    gpu: Line | None = None
    gpus: Annotated[int, Field(ge=0, le=100_000)] | None = None
    gpu_power_limit_watts: Quantity | None = None
    processes: Number | None = None
    machines: Number | None = None
    sharing: Annotated[int, Field(ge=2, le=100_000)] | None = None
    driver: Line | None = None
    cuda: Line | None = None
    cudnn: Annotated[int, Field(ge=0, le=10**9)] | None = None
    torch: Line | None = None
    torchvision: Line | None = None
    dali: Line | None = None
    python: Line | None = None
    os: Line | None = None
    cpu: Line | None = None
    cores: Number | None = None
    threads: Number | None = None
    cpu_capability: Line | None = None
    cpu_bfloat16: Line | None = None
    memory_gib: Quantity | None = None
    compiler: Line | None = None


class Executed(_Strict):
    """How the runs were executed: a resolved `fastcifar.execution.Execution` of its day, whose names may be gone."""

    device: Literal["cuda", "cpu"]
    loader: Line
    precision: Line
    compile: Line
    sync_batchnorm: bool
    checkpoint_seconds: Seconds | None


class Record(_Strict):
    """A result: n runs of one recipe on one machine.

    `recipe`, `execution` and `work` are None for a rival's program, and `evaluation` says what of it was tested, as
    the recipe does elsewhere. `sources` are the custom files that the recipe names.
    """

    schema_version: Literal[9]
    program: Line
    name: Annotated[Line, StringConstraints(min_length=1, max_length=60)]
    protocol: ProtocolName
    target: Annotated[float, Field(gt=0, le=1)]
    recipe: Recipe | None
    recipe_hash: Line | None
    sources: Annotated[list[Source], Field(max_length=10, fail_fast=True)]
    execution: Executed | None
    evaluation: Line | None
    images: Images
    work: Work | None
    environment: Environment
    runs: Annotated[list[Run], Field(min_length=1, max_length=10_000, fail_fast=True)]
    summary: Summary

    @property
    def date(self) -> str:
        """Day of the last run, YYYY-MM-DD."""
        return max(run.started for run in self.runs)[:10]


def recipe_hash(recipe: dict[str, Any]) -> str:
    """sha256 of the recipe's JSON with sorted keys and no spaces."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def to_json(record: Record) -> bytes:
    """The record's file."""
    return (record.model_dump_json(indent=1) + "\n").encode()


def schema() -> dict[str, Any]:
    """The JSON Schema of a record."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}
