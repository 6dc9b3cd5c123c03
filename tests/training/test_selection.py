"""Epochs that leave the easiest images out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fastcifar.bench.flops import work_of
from fastcifar.data.dataset import Dataset
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.peers.peer import Job
from fastcifar.peers.plain_pytorch import PlainPytorch
from fastcifar.recipe import Augmentation, Recipe, Selection, validated
from fastcifar.records.check import read_record
from fastcifar.records.measure import Watcher, bench_accuracy
from fastcifar.records.record import Record, recipe_hash, to_json
from fastcifar.training.log import Observer
from fastcifar.training.selection import ImageLosses
from fastcifar.training.trainer import Trainer

CPU = Execution("cpu", "fused", "float32", "off")


def test_the_hardest_stay_in_the_sequence_of_the_plan() -> None:
    plan = draw_plan(6, Augmentation(brightness=0.2, contrast=0.2), seed=3, epoch=0)
    losses = ImageLosses(6, torch.device("cpu"))
    logits = torch.tensor([[9.0, 0], [0, 9], [9, 0], [0, 1], [2, 0]])
    indices = torch.from_numpy(plan.indices)
    losses.after_step(indices[:2], cross_entropy(logits[:2], torch.zeros(2, dtype=torch.int64), reduction="none"))
    losses.after_step(indices[2:5], cross_entropy(logits[2:], torch.zeros(3, dtype=torch.int64), reduction="none"))
    losses.end_epoch()

    def hardest(images: int) -> EpochPlan:
        return plan.where(losses.hardest(images).numpy()[plan.indices])

    # Right in the first, third and fifth; the sixth was not trained on, which counts as the hardest.
    for name, array in vars(hardest(3)).items():
        np.testing.assert_array_equal(array, getattr(plan, name)[[1, 3, 5]], name)
    np.testing.assert_array_equal(hardest(4).indices, plan.indices[[1, 3, 4, 5]])
    np.testing.assert_array_equal(hardest(6).indices, plan.indices)


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({}, [300, 300, 300]),
        ({"selection": {"leave_out": 0.25, "after_epoch": 1}}, [300, 200, 200]),  # 225, in whole batches
        ({"selection": {"leave_out": 0.25, "after_epoch": 2}, "batch_sizes": [100, 100, 50]}, [300, 300, 200]),
        ({"selection": {"leave_out": 0.25, "last_epochs": 1}}, [300, 200, 300]),
        ({"selection": {"leave_out": 0.25, "last_epochs": 4}}, [300, 300, 300]),
        ({"selection": {"leave_out": 0.9}}, [300, 100, 100]),  # a batch at the least
        ({"drop_last": True, "batch_size": 128}, [256, 256, 256]),
        ({"drop_last": True, "batch_size": 64, "selection": {"leave_out": 0.1}}, [256, 192, 192]),
    ],
)
def test_how_many_images_an_epoch_is_of(changes: dict[str, object], images: list[int]) -> None:
    recipe = validated({"epochs": 3, "batch_size": 100, "schedule": {"peak_epoch": 1}, **changes})
    assert [recipe.images_of(epoch, 300) for epoch in range(3)] == images
    assert [recipe.images_of(epoch, images[0]) for epoch in range(3)] == images  # as a record has their number


class Chosen(Observer):
    """What was known of the images when the second epoch began, and after its first step."""

    def __init__(self, trainer: Trainer) -> None:
        self._losses = trainer.state.image_losses
        self.steps: list[tuple[int, int]] = []

    def step(self, epoch: int, step: int) -> None:
        self.steps.append((epoch, step))
        if (epoch, step) == (2, 1):
            assert self._losses
            self.before = self._losses.before.clone()
            self.changed = (self._losses.latest != self.before).nonzero().flatten()


def test_later_epochs_are_of_the_images_whose_loss_was_greatest(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, batch_size=100, selection=Selection(leave_out=1 / 3))
    trainer = Trainer(recipe, small, CPU)
    watched = Chosen(trainer)
    trainer.run([watched])
    assert watched.steps == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert watched.before.isfinite().all()
    assert 90 <= len(watched.changed) <= 100  # of a batch of 100, unless a loss is what it was
    assert watched.before[watched.changed].min() >= watched.before.sort(descending=True).values[199]
    for log, images in zip(trainer.state.log, (300, 200), strict=True):
        assert log.images_per_second == pytest.approx(images / log.train_seconds)
        assert 0 < log.train_accuracy <= 1

    before = [one.train_loss for one in trainer.state.log]
    trainer.restart(recipe)
    trainer.run()
    assert [one.train_loss for one in trainer.state.log] == before


def test_images_have_been_chosen_before_the_first_epoch(
    small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the batches of such epochs have the shape of all others: on a GPU kernels are loaded then."""
    chosen: list[int] = []
    hardest = ImageLosses.hardest
    monkeypatch.setattr(ImageLosses, "hardest", lambda self, images: chosen.append(images) or hardest(self, images))
    Trainer(replace(quick, batch_size=50, selection=Selection(leave_out=0.5, after_epoch=1)), small, CPU)
    assert chosen == [150]


def test_a_record_counts_what_was_trained_on(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    recipe = replace(quick, batch_size=100, target=0.01, selection=Selection(leave_out=1 / 3))
    recipe = replace(recipe, dataset=small.name, limit_train=300, limit_test=200)
    kept: list[Record] = []
    options = {"protocol": "fixed-budget", "runs": 2, "earlier": None, "keep": kept.append, "watcher": Watcher()}
    record = bench_accuracy("toy", recipe, small, CPU, **options)  # type: ignore[arg-type]
    (tmp_path / "toy.record.json").write_bytes(to_json(record))
    assert read_record(tmp_path / "toy.record.json") == record
    assert record.images.train == 300
    by_epoch, _ = work_of(recipe, classes=10, own=OwnCode(), device=torch.device("cpu"))
    assert record.summary.petaflops is not None
    assert record.summary.petaflops.mean == pytest.approx((300 * by_epoch[0] + 200 * by_epoch[1]) / 1e15)

    other = json.loads(to_json(record))
    other["recipe"]["selection"]["leave_out"] = 0.0
    other["recipe_hash"] = recipe_hash(other["recipe"])
    (tmp_path / "toy.record.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"runs\.0\.epochs\.1\.images_per_second"):
        read_record(tmp_path / "toy.record.json")


def test_plain_pytorch_has_no_selection() -> None:
    recipe = Recipe(selection=Selection(leave_out=0.2))
    assert (
        PlainPytorch().missing(Job("toy", recipe, "fixed-budget", "cpu", None, None))
        == "it has no such selection as this recipe's"
    )
