"""What ships learns from CIFAR-10: small forms of two recipes, two epochs each, pass what they have always passed."""

from typing import Any

import pytest

from fastcifar.data.dataset import Dataset
from fastcifar.execution import Execution, resolve
from fastcifar.recipe.changes import merged
from fastcifar.recipe.files import load_recipe
from fastcifar.training.trainer import Trainer

SMALL = {"epochs": 2, "image_sizes": [16, 24], "limit_train": 20_000, "limit_test": 2_000}


@pytest.mark.parametrize(
    ("name", "changes", "floor"),
    [
        ("sprint90", {"model": {"widths": [16, 64, 64]}, "batch_size": 500}, 0.57),  # seeds 0 to 3: 0.621 to 0.643
        ("laptop", {"model": {"width": 8}}, 0.46),  # seeds 0 to 3: 0.516 to 0.547
    ],
)
def test_two_epochs_of_cifar10_reach(cifar10: Dataset, name: str, changes: dict[str, Any], floor: float) -> None:
    execution, _ = resolve(Execution(device="cpu"))
    trainer = Trainer(merged(load_recipe(name), SMALL | changes), cifar10.limited(20_000, 2_000), execution)
    assert trainer.run().final_accuracy > floor
