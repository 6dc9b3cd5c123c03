"""The recipe's network trained as people write it: `python -m fastcifar.peers.plain_pytorch --recipe FILE.toml`.

float32, NCHW, eager; a DataLoader with a worker a core, over PIL images and torchvision's transforms; Adam and
LambdaLR; a test after every epoch. It prints a line of JSON when set up and one an epoch.

It follows the recipe, but draws random numbers of its own, image by image. The crop is RandomCrop(32, padding=pad), and
the cutout RandomErasing with the recipe's square, which after Normalize is filled with the mean colour: both are
distributed as the recipe's (but RandomErasing leaves out a square of the whole image, cutout = 32). An alternating
flip is a random one here. What is the project's own: reading the recipe and the images, the network, the learning rate
of each step (torch's LambdaLR over `fastcifar.optim.schedule.one_cycle`), and the clock, so that a second means the
same as in fastcifar.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from fastcifar import models
from fastcifar.bench.environment import cores, environment
from fastcifar.bench.plain import PilImages, normalised
from fastcifar.data.load import load_dataset
from fastcifar.errors import RunError
from fastcifar.optim.schedule import one_cycle
from fastcifar.own import sealed
from fastcifar.peers.peer import Job, Peer
from fastcifar.peers.program import Output, run_own
from fastcifar.recipe import Adam, Augmentation, Recipe
from fastcifar.recipe.files import load_recipe, to_toml
from fastcifar.records.measure import sources_of
from fastcifar.records.record import Epoch, Images, Record, Run
from fastcifar.records.summary import make_record
from fastcifar.training.clock import Clock


def train_transform(augmentation: Augmentation, bare: transforms.Compose) -> transforms.Compose:
    """RandomCrop, RandomHorizontalFlip, `bare` (to a normalised tensor) and RandomErasing, as the recipe has them."""
    steps: list[Any] = []
    if augmentation.pad:
        mode = "reflect" if augmentation.pad_mode == "reflect" else "constant"
        steps.append(transforms.RandomCrop(32, padding=augmentation.pad, padding_mode=mode))
    if augmentation.flip != "none":
        steps.append(transforms.RandomHorizontalFlip())
    steps.append(bare)
    if augmentation.cutout:
        area = augmentation.cutout**2 / 32**2
        steps.append(transforms.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0)))
    return transforms.Compose(steps)


def train(recipe: Recipe, data: Path | None, device: torch.device, workers: int) -> None:
    """Train, test after every epoch, and print how it goes."""
    setting_up = Clock(device)
    recipe, own = sealed(recipe)
    dataset = load_dataset(recipe, data)
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.benchmark = True
    options: dict[str, Any] = {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": device.type == "cuda",
    }
    bare = normalised(dataset)
    train_set = PilImages(dataset.train_images, dataset.train_labels, train_transform(recipe.augmentation, bare))
    test_set = PilImages(dataset.test_images, dataset.test_labels, bare)
    train_loader = DataLoader(train_set, recipe.batch_size, shuffle=True, drop_last=recipe.drop_last, **options)
    test_loader = DataLoader(test_set, batch_size=1000, **options)

    model = models.build(recipe.model, len(dataset.classes), own.model)
    images = torch.stack([bare(Image.fromarray(image)) for image in dataset.train_images[: models.PREPARED_BY]])
    models.prepare(model, images)
    model = model.to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    assert isinstance(recipe.optimizer, Adam)  # see missing
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=recipe.schedule.max_lr,
        betas=(recipe.optimizer.beta1, recipe.optimizer.beta2),
        eps=recipe.optimizer.eps,
        weight_decay=recipe.optimizer.weight_decay,
    )
    rate_of = one_cycle(recipe.schedule, [len(train_loader)] * recipe.epochs)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_of(step) / recipe.schedule.max_lr)
    train_images = len(train_loader) * recipe.batch_size if recipe.drop_last else len(train_set)
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    images_of = {"train": train_images, "test": len(test_set)}
    seen = {"dataset": dataset.name, "dataset_sha256": dataset.sha256}
    show(images=images_of, recipe=seen, setup_seconds=setting_up.seconds(), started=started)
    begun = time.perf_counter()
    for epoch in range(1, recipe.epochs + 1):
        clock = Clock(device)
        model.train()
        total_loss, correct, rate = 0.0, 0, 0.0
        for images, labels in train_loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            outputs = model(images)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            rate = float(scheduler.get_last_lr()[0])
            scheduler.step()
            total_loss += loss.item() * len(labels)
            correct += (outputs.argmax(dim=1) == labels).sum().item()
        train_seconds = clock.seconds()
        if not math.isfinite(total_loss):
            sys.exit(f"the loss is {total_loss} in epoch {epoch}")

        clock = Clock(device)
        tested = recipe.tested_after(epoch)
        test_loss, test_accuracy = evaluate(model, test_loader, device) if tested else (None, None)
        show(
            epoch=epoch,
            train_seconds=train_seconds,
            eval_seconds=clock.seconds() if tested else 0.0,
            train_loss=total_loss / train_images,
            train_accuracy=correct / train_images,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            learning_rate=rate,
            images_per_second=train_images / train_seconds,
            wall_seconds=time.perf_counter() - begun,
        )
        if recipe.stop_at_target and (test_accuracy or 0) >= recipe.target:
            break


@torch.no_grad()
def evaluate(model: nn.Module, loader: "DataLoader[tuple[Tensor, int]]", device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and share of right answers (0 to 1) on the test images."""
    model.eval()
    loss, correct, seen = 0.0, 0, 0
    for images, labels in loader:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        outputs = model(images)
        loss += nn.functional.cross_entropy(outputs, labels, reduction="sum").item()
        correct += (outputs.argmax(dim=1) == labels).sum().item()
        seen += len(labels)
    return loss / seen, correct / seen


def show(**values: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(values), flush=True)


class PlainPytorch(Peer):
    """This program as a rival, which runs wherever fastcifar does."""

    name = "plain_pytorch"

    def missing(self, job: Job) -> str | None:
        """Why it cannot run here: what people write every day has no more than this."""
        recipe = job.recipe
        plain = Recipe(
            model=recipe.model,
            optimizer=recipe.optimizer if isinstance(recipe.optimizer, Adam) else Adam(),
            augmentation=replace(recipe.augmentation, brightness=0.0, contrast=0.0, own=None, own_sha256=None),
        )
        for table in ("optimizer", "augmentation", "selection", "average", "evaluation", "batch_sizes", "image_sizes"):
            if getattr(recipe, table) != getattr(plain, table):
                return f"it has no such {table.replace('_', ' ')} as this recipe's"
        return None

    def run(self, job: Job) -> Record:
        """One run, of the recipe's seed."""
        with tempfile.TemporaryDirectory(prefix="fastcifar-") as folder:
            recipe = Path(folder, "recipe.toml")
            recipe.write_text(to_toml(job.recipe), encoding="utf-8")
            flags = ["--recipe", str(recipe), "--device", job.device, *(["--data", str(job.data)] if job.data else [])]
            return read(run_own("fastcifar.peers.plain_pytorch", flags, Path(folder), seconds=job.seconds), job)


def read(output: Output, job: Job) -> Record:
    """The record of what the program printed: `train`'s lines."""
    if output.cut:
        raise RunError(f"it did not finish its run within {job.patience:g} s")
    try:
        about, *epochs = (json.loads(line.text) for line in output.lines)
        walls = [epoch.pop("wall_seconds") for epoch in epochs]
        images = Images(**about.pop("images"))
        recipe = replace(job.recipe, **about.pop("recipe"))
        epochs = [Epoch(**epoch) for epoch in epochs]
        run = Run(seed=job.recipe.seed, wall_seconds=walls[-1], epochs=epochs, **about)
    except (LookupError, ValueError, TypeError) as error:
        raise RunError(f"its lines cannot be read: {type(error).__name__}") from error
    recipe, own = sealed(recipe)
    return make_record(
        program=PlainPytorch.name,
        name=job.name,
        protocol=job.protocol,
        target=job.recipe.target,
        recipe=recipe,
        sources=sources_of(own),
        execution=None,
        images=images,
        environment=environment(job.device),
        runs=[run],
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a recipe's network as people write it.")
    parser.add_argument("--recipe", required=True, help="a TOML file, or the name of a recipe that ships")
    parser.add_argument("--data", type=Path, help="folder of the images, as fastcifar's --data")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=cores(), help="default: one a core")
    given = parser.parse_args()
    train(load_recipe(given.recipe), given.data, torch.device(given.device), given.workers)


if __name__ == "__main__":
    main()
