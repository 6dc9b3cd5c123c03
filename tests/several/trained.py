"""Run by torchrun in each process: trains, and rank 0 writes what all came to, as JSON, into the file it is given."""

import copy
import hashlib
import json
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

import fastcifar
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.models import build
from fastcifar.recipe import Recipe, Resnet, Schedule
from fastcifar.training import ranks
from fastcifar.training.log import Observer
from fastcifar.training.ranks import joined, present

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")
BATCH = 91  # of which 3 ranks have different numbers
RECIPE = Recipe(
    dataset="synthetic",
    epochs=2,
    batch_size=BATCH,
    limit_train=500,
    limit_test=203,
    schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1),
)


class Net(torch.nn.Module):
    """Without batch statistics."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(images).relu().mean(dim=(2, 3)))


class Logging(Net):
    """As `Net`, but that the first process keeps count."""

    seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if present(CPU).first:
            self.seen += 1
        return super().forward(images)


def told(recipe: Recipe, execution: Execution = CPU, **about: Any) -> dict[str, Any]:
    """What a training came to, and a digest of its network."""
    trained = fastcifar.train(recipe, execution=execution, **about)
    state = b"".join(tensor.numpy().tobytes() for tensor in trained.model.state_dict().values())
    return {
        "losses": [one.train_loss for one in trained.log],
        "accuracies": [one.train_accuracy for one in trained.log],
        "test_losses": [one.test_loss for one in trained.log],
        "test_accuracies": [one.test_accuracy for one in trained.log],
        "digest": hashlib.sha256(state).hexdigest(),
    }


def answers() -> dict[str, Any]:
    """Of this process."""
    plain, logging = told(RECIPE, model=Net), told(RECIPE, model=Logging, observers=[Observer()])
    selected = told(
        RECIPE,
        model=Net,
        selection={"leave_out": 0.25, "after_epoch": 1},
        evaluation={"tta": "flip+shift-quarter"},
        average={"name": "ema", "decay": 0.5},
    )
    normed = told(RECIPE, model={"name": "resnet", "width": 2})
    synchronised = told(RECIPE, replace(CPU, sync_batchnorm=True), model={"name": "resnet", "width": 2})
    return {"plain": plain, "logging": logging, "selected": selected, "normed": normed, "synchronised": synchronised}


def off() -> float:
    """By how much the loss, gradients and running statistics of a batch, its statistics synchronised and float64, are
    not those of one process."""
    torch.manual_seed(0)
    network = build(Resnet(width=2), 10).double()
    alone = copy.deepcopy(network)
    images, labels = torch.randn(BATCH, 3, 32, 32, dtype=torch.float64), torch.arange(BATCH) % 10
    here = present(replace(CPU, sync_batchnorm=True))
    mine = slice(here.rank, None, here.count)
    together = here.together(network)
    whole = F.cross_entropy(alone(images), labels)
    whole.backward()
    loss = F.cross_entropy(together(images[mine]), labels[mine])
    (loss * here.weight(BATCH)).backward()
    sums, _ = here.of_batch(loss.detach(), torch.zeros(()), BATCH)
    pairs = [(sums, whole.detach().float()), *zip(network.buffers(), alone.buffers(), strict=True)]
    pairs += [(one.grad, other.grad) for one, other in zip(network.parameters(), alone.parameters(), strict=True)]
    return max(float((one - other).abs().max()) for one, other in pairs)


def main(file: Path) -> None:
    with joined(CPU) as here:
        found = answers() | {"off": off()}
        try:
            fastcifar.train(RECIPE, model=Net, execution=CPU, epochs=1 + here.rank)
        except InputError as error:
            found["another recipe"] = str(error)
        for last, batch in (("enough", 497), ("too few", 498)):
            found[last] = None
            try:
                fastcifar.train(RECIPE, model=Net, execution=CPU, batch_size=batch, epochs=1)
            except InputError as error:
                found[last] = str(error)
        try:
            fastcifar.train(RECIPE, model=Net, execution=replace(CPU, sync_batchnorm=True))
        except InputError as error:
            found["no batch norm"] = str(error)
        of_all: list[dict[str, Any]] = [{} for _ in range(here.count)]
        dist.all_gather_object(of_all, found)
        ranks.PATIENCE = timedelta(seconds=1)
        if here.rank != 1:  # which does not come
            try:
                here.meet()
            except RunError as error:
                found["alone"] = str(error)
        else:
            time.sleep(2)  # nor goes, while the others look for it
        if here.first:
            file.write_text(json.dumps({"ranks": of_all, "alone": found["alone"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
