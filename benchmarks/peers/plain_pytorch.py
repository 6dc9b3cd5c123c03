"""The recipe's network trained as people write it: `python -m benchmarks.peers.plain_pytorch --recipe FILE.toml`.

float32, NCHW, eager; a DataLoader with a worker a core, over PIL images and torchvision's transforms; Adam and
OneCycleLR; a test after every epoch. It prints a line of JSON when set up and one an epoch.

It follows the recipe, but draws random numbers of its own, image by image. The crop is RandomCrop(32, padding=pad), and
the cutout RandomErasing with the recipe's square, which after Normalize is filled with the mean colour: both are
distributed as the recipe's (but RandomErasing leaves out a square of the whole image, cutout = 32). An alternating
flip is a random one here. What is the project's own: reading the recipe and the images, the schedule (which is
torch's OneCycleLR) and the clock, so that a second means the same as in fastcifar.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fastcifar.data.dataset import MEAN, STD
from fastcifar.data.load import load_dataset
from fastcifar.errors import RunError
from fastcifar.measure.environment import environment
from fastcifar.measure.peers import Job
from fastcifar.measure.program import Output, run_program
from fastcifar.measure.record import Epoch, Images, Record, Run, make_record
from fastcifar.recipe import Augmentation, Model, Recipe, load_recipe, to_toml, validated
from fastcifar.training.clock import Clock
from fastcifar.training.schedule import one_cycle


def conv_block(channels_in: int, channels_out: int, bias: bool, pool: bool = False) -> nn.Sequential:
    """Convolution, pooling if asked for, batch normalisation, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=bias)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    layers += [nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PlainResNet(nn.Module):
    """The network of `fastcifar.model`, written out: images (B, 3, 32, 32), normalised, to logits (B, 10)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        width, bias = config.width, config.conv_bias
        self.prep = conv_block(3, width, bias)
        self.layer1 = conv_block(width, 2 * width, bias, pool=True)
        self.res1 = nn.Sequential(conv_block(2 * width, 2 * width, bias), conv_block(2 * width, 2 * width, bias))
        self.layer2 = conv_block(2 * width, 4 * width, bias, pool=True)
        self.res2: nn.Module | None = None
        if config.layer2_residual:
            self.res2 = nn.Sequential(conv_block(4 * width, 4 * width, bias), conv_block(4 * width, 4 * width, bias))
        self.layer3 = conv_block(4 * width, 8 * width, bias, pool=True)
        self.res3 = nn.Sequential(conv_block(8 * width, 8 * width, bias), conv_block(8 * width, 8 * width, bias))
        self.classifier = nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.prep(x))
        x = x + self.res1(x)
        x = self.layer2(x)
        if self.res2 is not None:
            x = x + self.res2(x)
        x = self.layer3(x)
        x = x + self.res3(x)
        return self.classifier(x)


class PilImages(Dataset[tuple[Tensor, int]]):
    """What torchvision.datasets.CIFAR10 does with an item, over any images (n, 32, 32, 3) uint8."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: transforms.Compose) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def plain_transform() -> transforms.Compose:
    """ToTensor and Normalize."""
    mean, std = [value / 255 for value in MEAN], [value / 255 for value in STD]
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])


def train_transform(augmentation: Augmentation) -> transforms.Compose:
    """RandomCrop, RandomHorizontalFlip, ToTensor, Normalize, RandomErasing, as far as the recipe has them."""
    steps: list[Any] = []
    if augmentation.pad:
        mode = "reflect" if augmentation.pad_mode == "reflect" else "constant"
        steps.append(transforms.RandomCrop(32, padding=augmentation.pad, padding_mode=mode))
    if augmentation.flip != "none":
        steps.append(transforms.RandomHorizontalFlip())
    steps.append(plain_transform())
    if augmentation.cutout:
        area = augmentation.cutout**2 / 32**2
        steps.append(transforms.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0)))
    return transforms.Compose(steps)


def train(recipe: Recipe, data: Path | None, device: torch.device, workers: int) -> None:
    """Train, test after every epoch, and print how it goes."""
    setting_up = Clock(device)
    dataset = load_dataset(recipe, data)
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.benchmark = True
    options: dict[str, Any] = {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": device.type == "cuda",
    }
    train_set = PilImages(dataset.train_images, dataset.train_labels, train_transform(recipe.augmentation))
    test_set = PilImages(dataset.test_images, dataset.test_labels, plain_transform())
    train_loader = DataLoader(train_set, recipe.batch_size, shuffle=True, drop_last=recipe.drop_last, **options)
    test_loader = DataLoader(test_set, batch_size=1000, **options)

    model = PlainResNet(recipe.model).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimizer = torch.optim.Adam(
        model.parameters(),  # the schedule sets the rate
        betas=(recipe.optimizer.beta1, recipe.optimizer.beta2),
        eps=recipe.optimizer.eps,
        weight_decay=recipe.optimizer.weight_decay,
    )
    scheduler = one_cycle(optimizer, recipe.schedule, epochs=recipe.epochs, steps_per_epoch=len(train_loader))
    train_images = len(train_loader) * recipe.batch_size if recipe.drop_last else len(train_set)
    show(
        train_images=train_images,
        test_images=len(test_set),
        setup_seconds=setting_up.seconds(),
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
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
        test_loss, test_accuracy = evaluate(model, test_loader, device)
        show(
            epoch=epoch,
            train_seconds=train_seconds,
            eval_seconds=clock.seconds(),
            train_loss=total_loss / train_images,
            train_accuracy=correct / train_images,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            learning_rate=rate,
            wall_seconds=time.perf_counter() - begun,
        )
        if recipe.stop_at_target and test_accuracy >= recipe.target:
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


class PlainPytorch:
    """This program as a rival."""

    name = "plain_pytorch"
    url: str | None = None

    def missing(self, job: Job) -> str | None:
        """It runs wherever fastcifar does."""
        return None

    def repeats(self, job: Job) -> bool:
        """It makes one run."""
        return True

    def run(self, job: Job) -> Record:
        """One run, of the recipe's seed."""
        with tempfile.TemporaryDirectory(prefix="fastcifar-") as folder:
            recipe = Path(folder, "recipe.toml")
            recipe.write_text(to_toml(job.recipe), encoding="utf-8")
            command = [sys.executable, "-m", "benchmarks.peers.plain_pytorch", "--recipe", str(recipe)]
            command += ["--device", job.device, *(["--data", str(job.data)] if job.data else [])]
            return read(run_program(command, Path(__file__).parents[2], seconds=job.seconds), job)


def read(output: Output, job: Job) -> Record:
    """The record of what the program printed: `train`'s lines."""
    if output.cut:
        raise RunError(f"it did not finish its run within {job.seconds:g} s")
    try:
        about, *epochs = (json.loads(line.text) for line in output.lines)
        walls = [epoch.pop("wall_seconds") for epoch in epochs]
        images = Images(train=about["train_images"], test=about["test_images"])
        run = Run(
            seed=job.recipe.seed,
            started=about["started"],
            setup_seconds=about["setup_seconds"],
            wall_seconds=walls[-1],
            epochs=[Epoch(**epoch, images_per_second=images.train / epoch["train_seconds"]) for epoch in epochs],
        )
    except (LookupError, ValueError, TypeError) as error:
        raise RunError(f"its lines cannot be read: {type(error).__name__}") from error
    return make_record(
        program=PlainPytorch.name,
        name=job.name,
        protocol=job.protocol,
        target=job.recipe.target,
        recipe=job.recipe,
        execution=None,
        images=images,
        environment=environment(),
        runs=[run],
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a recipe's network as people write it.")
    parser.add_argument("--recipe", required=True, help="a TOML file, or the name of a recipe that ships")
    parser.add_argument("--data", type=Path, help="folder that holds cifar-10-batches-py")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    given = parser.parse_args()
    recipe = load_recipe(given.recipe)
    if given.seed is not None:
        recipe = validated({**asdict(recipe), "seed": given.seed}, prefix="--")
    train(recipe, given.data, torch.device(given.device), given.workers)


if __name__ == "__main__":
    main()
