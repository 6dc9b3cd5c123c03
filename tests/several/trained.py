"""Run by torchrun in each process: trains, and rank 0 writes what all came to, as JSON, into the file it is given."""

import hashlib
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import fastcifar
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, Schedule
from fastcifar.training import ranks
from fastcifar.training.ranks import joined

CPU = Execution(device="cpu", loader="fused", precision="float32", compile="off")
BATCH = 90  # of which 4 ranks have different numbers
RECIPE = Recipe(
    dataset="synthetic",
    epochs=3,
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


def told(recipe: Recipe, **about: Any) -> dict[str, Any]:
    """What a training came to, and a digest of its network."""
    trained = fastcifar.train(recipe, execution=CPU, **about)
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
    plain = told(RECIPE, model=Net)
    selected = told(
        RECIPE,
        model=Net,
        selection={"leave_out": 0.25, "after_epoch": 1},
        evaluation={"tta": "flip+shift-quarter"},
        average={"name": "ema", "decay": 0.5},
    )
    return {"plain": plain, "selected": selected, "normed": told(RECIPE, model={"name": "resnet", "width": 2})}


def main(file: Path) -> None:
    with joined(CPU) as here:
        found = answers()
        try:
            fastcifar.train(RECIPE, model=Net, execution=CPU, epochs=1 + here.rank)
        except InputError as error:
            found["another recipe"] = str(error)
        try:
            fastcifar.train(RECIPE, model=Net, execution=CPU, batch_size=498)
        except InputError as error:
            found["too few"] = str(error)
        of_all: list[dict[str, Any]] = [{} for _ in range(here.count)]
        dist.all_gather_object(of_all, found)
        ranks.PATIENCE = timedelta(seconds=1)
        if here.rank != 1:  # which does not come
            try:
                here.meet()
            except RunError as error:
                found["alone"] = str(error)
        if here.first:
            file.write_text(json.dumps({"ranks": of_all, "alone": found["alone"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
