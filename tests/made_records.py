"""Records to try things on, made up: a machine that never was, whose runs cross 90 % in their last epochs."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fastcifar.execution import Execution
from fastcifar.recipe import OwnModel, Recipe, Schedule
from fastcifar.records.check import CIFAR10_SHA256
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import Epoch, Images, Record, Run, Source, Work
from fastcifar.records.summary import make_record

ENVIRONMENT: dict[str, Any] = {
    "fastcifar": "0.1.0",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "gpu": None,
    "gpus": 0,
    "gpu_power_limit_watts": None,
    "processes": 1,
    "machines": 1,
    "sharing": None,
    "driver": None,
    "cuda": "13.0",
    "cudnn": None,
    "torch": "2.15.0",
    "torchvision": "0.29.2",
    "dali": "2.4.0",
    "python": "3.11.7",
    "os": "Linux",
    "cpu": "Machine",
    "cores": 2,
    "threads": 2,
    "cpu_capability": "AVX512",
    "cpu_bfloat16": None,
    "memory_gib": 24.0,
    "compiler": "g++",
}


def run(seed: int, accuracies: Sequence[float], seconds: float = 10.0, train: int = 50_000) -> Run:
    """A run with these test accuracies, each epoch `seconds` of training and 1 s of evaluation."""
    return Run(
        seed=seed,
        started=f"2026-11-22T{seed % 24:02}:00:00.000+00:00",
        setup_seconds=1.0,
        wall_seconds=len(accuracies) * (seconds + 1) + 1,
        epochs=[
            Epoch(
                epoch=number,
                train_seconds=seconds,
                eval_seconds=1.0,
                train_loss=1.0,
                train_accuracy=0.5,
                test_loss=1.0,
                test_accuracy=accuracy,
                learning_rate=0.01,
                images_per_second=train / seconds,
            )
            for number, accuracy in enumerate(accuracies, start=1)
        ],
    )


def record(
    accuracies: Sequence[Sequence[float]] = ((0.5, 0.91), (0.6, 0.92), (0.7, 0.9123)),
    *,
    protocol: ProtocolName = "first-crossing",
    seconds: float = 10.0,
    name: str = "mine",
    recipe: Recipe | None = None,
    sources: Sequence[Source] = (),
    work: Work | None = None,
    **environment: Any,
) -> Record:
    """A record of runs with these test accuracies after each epoch."""
    recipe = recipe or replace(Recipe(), epochs=len(accuracies[0]), schedule=replace(Recipe().schedule, peak_epoch=1))
    images = Images(train=50_000 - (recipe.validation or 0), test=recipe.validation or 10_000)
    return make_record(
        program="fastcifar 0.1.0",
        name=name,
        protocol=protocol,
        target=recipe.target,
        recipe=recipe,
        execution=Execution(
            device="cuda" if environment.get("gpu") else "cpu", loader="dali", precision="float32", compile="off"
        ),
        images=images,
        environment={**ENVIRONMENT, **environment},
        runs=[run(recipe.seed + number, one, seconds, images.train) for number, one in enumerate(accuracies)],
        sources=sources,
        work=work,
    )


def recipe_of(found: Record) -> dict[str, Any]:
    """The recipe's fields."""
    assert found.recipe is not None
    return asdict(found.recipe)


OWN = "class Net:  # </pre><script>alert(1)</script>\n\tpass\n"


def record_of_own(text: str = OWN, **changes: Any) -> Record:
    """A record of a custom network, whose file has this text."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    recipe = Recipe(
        epochs=2,
        schedule=Schedule(peak_epoch=1),
        model=OwnModel("net.py:Net", {"width": 4}, sha256),
        dataset_sha256=CIFAR10_SHA256,
    )
    return record(recipe=recipe, sources=[Source(file="net.py", sha256=sha256, text=text)], **changes)
