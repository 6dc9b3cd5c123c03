"""The training loop: a recipe, a data set and an execution in; a log line an epoch and a result out."""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Protocol

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import open_loader
from fastcifar.data.plan import draw_plan
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.model import ResNet
from fastcifar.recipe import Recipe, validated
from fastcifar.training.clock import Clock
from fastcifar.training.evaluate import TestSet
from fastcifar.training.log import EpochLog, Result
from fastcifar.training.schedule import one_cycle
from fastcifar.training.step import DTYPES, TrainingStep


class Observer(Protocol):
    """Who is told how a run goes: the console, the run directory."""

    def step(self, epoch: int, step: int) -> None:
        """Step `step` (from 1) of epoch `epoch` (from 1) has been asked of the device."""
        ...

    def epoch(self, log: EpochLog) -> None:
        """An epoch is over."""
        ...


class Trainer:
    """Everything a run needs, set up and warm: dataset on the device, loader, network, optimizer, schedule.

    `execution` must be resolved (`fastcifar.execution.resolve`). `setup_seconds` is what the making took. Raises
    `InputError` at a recipe that is out of range or does not fit the data set.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, execution: Execution) -> None:
        self.device = torch.device(execution.device)
        clock = Clock(self.device)
        self.recipe = validated(asdict(recipe))
        self.images_per_epoch = len(dataset.train_images)
        self.test_images = len(dataset.test_images)
        if recipe.batch_size > self.images_per_epoch:
            raise InputError(
                f"batch_size: {recipe.batch_size:,} is more than the {self.images_per_epoch:,} training images"
            )
        if recipe.drop_last:
            self.images_per_epoch -= self.images_per_epoch % recipe.batch_size
        self._total = len(dataset.train_images)
        self.steps_per_epoch = math.ceil(self.images_per_epoch / recipe.batch_size)

        torch.manual_seed(recipe.seed)
        self.model = ResNet(recipe.model).to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),  # the schedule sets the rate
            betas=(recipe.optimizer.beta1, recipe.optimizer.beta2),
            eps=recipe.optimizer.eps,
            weight_decay=recipe.optimizer.weight_decay,
            fused=True,
        )
        self._schedule_from_start()
        self._step = TrainingStep(
            self.model,
            self.optimizer,
            batch_size=recipe.batch_size,
            device=self.device,
            precision=execution.precision,
            compile=execution.compile,
            label_smoothing=recipe.label_smoothing,
        )
        self._loader = open_loader(
            execution.loader,
            dataset,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            device=self.device,
            dtype=DTYPES[execution.precision],
        )
        self._test_set = TestSet(dataset.test_images, dataset.test_labels, self.device)
        self._scaler_at_start = self._step.scaler.state_dict()
        self.warm_up(steps=1 if execution.compile == "off" else 3)
        if self.device.type == "cuda":
            self._test_set.evaluate(self.model, self._step.autocast)  # cuDNN chooses its algorithms for these shapes
        self.setup_seconds = clock.seconds()

    def restart(self, seed: int) -> None:
        """Be as a new trainer of this recipe with `seed`, bit for bit, with what is compiled and allocated used again.

        `setup_seconds` becomes what this took.
        """
        clock = Clock(self.device)
        self.recipe = replace(self.recipe, seed=seed)
        torch.manual_seed(seed)
        # Copied into the present tensors, whose addresses CUDA graphs hold.
        self.model.load_state_dict(ResNet(self.recipe.model).state_dict())
        self.optimizer.state.clear()
        self._schedule_from_start()
        self._step.scaler.load_state_dict(self._scaler_at_start)
        self.setup_seconds = clock.seconds()

    def _schedule_from_start(self) -> None:
        self.schedule = one_cycle(
            self.optimizer, self.recipe.schedule, epochs=self.recipe.epochs, steps_per_epoch=self.steps_per_epoch
        )

    def run(self, observers: Sequence[Observer] = ()) -> Result:
        """Train all epochs, testing after each. Raises `RunError` at a loss that is NaN or infinite."""
        logs: list[EpochLog] = []
        time_to_target = None
        for epoch in range(1, self.recipe.epochs + 1):
            log = self.train_epoch(epoch, observers)
            logs.append(log)
            for observer in observers:
                observer.epoch(log)
            if time_to_target is None and log.test_accuracy >= self.recipe.target:
                time_to_target = sum(past.train_seconds for past in logs)
                if self.recipe.stop_at_target:
                    break
        return Result(
            final_accuracy=logs[-1].test_accuracy,
            best_accuracy=max(log.test_accuracy for log in logs),
            time_to_target=time_to_target,
            epochs=len(logs),
            setup_seconds=self.setup_seconds,
            train_seconds=sum(log.train_seconds for log in logs),
            eval_seconds=sum(log.eval_seconds for log in logs),
        )

    def train_epoch(self, epoch: int, observers: Sequence[Observer] = ()) -> EpochLog:
        """Train on the plan of epoch `epoch` (from 1), then test."""
        clock = Clock(self.device)
        plan = draw_plan(self._total, self.recipe.augmentation, seed=self.recipe.seed, epoch=epoch - 1)
        plan = plan[: self.images_per_epoch]
        losses = torch.zeros(self.steps_per_epoch, device=self.device)
        rates: list[float] = []
        correct = torch.zeros((), device=self.device, dtype=torch.int64)
        self.model.train()
        for step, (images, labels) in enumerate(self._loader.batches(plan)):
            if epoch > 1 or step > 0:
                self.schedule.step()
            rates.append(float(self.schedule.get_last_lr()[0]))
            loss, logits = self._step(images, labels)
            losses[step] = loss
            correct += (logits.argmax(dim=1) == labels).sum()
            if self.device.type == "cpu" and not loss.isfinite():
                break  # on a GPU, looking at every loss would make the host wait for each step
            for observer in observers:
                observer.step(epoch, step + 1)
        _require_finite(losses, epoch, rates)
        train_seconds = clock.seconds()

        clock = Clock(self.device)
        test = self._test_set.evaluate(self.model, self._step.autocast)
        if not math.isfinite(test.loss):
            raise RunError(_diverged("test loss", test.loss, epoch, len(rates), rates[-1]))
        weights = torch.full_like(losses, self.recipe.batch_size)
        weights[-1] = self.images_per_epoch - self.recipe.batch_size * (self.steps_per_epoch - 1)
        return EpochLog(
            epoch=epoch,
            train_seconds=train_seconds,
            eval_seconds=clock.seconds(),
            train_loss=(losses @ weights).item() / self.images_per_epoch,
            train_accuracy=correct.item() / self.images_per_epoch,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            learning_rate=rates[-1],
            images_per_second=self.images_per_epoch / train_seconds,
        )

    def warm_up(self, steps: int) -> None:
        """Start the loader and take `steps` steps on made-up data, so that everything is compiled and allocated.

        It leaves no trace: weights, batch statistics, optimizer, gradient scale and random number generators are as
        before, bit for bit.
        """
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        scale = self._step.scaler.state_dict()
        sizes = {self.recipe.batch_size, self.images_per_epoch % self.recipe.batch_size or self.recipe.batch_size}
        plan = draw_plan(self._total, self.recipe.augmentation, seed=self.recipe.seed, epoch=0)
        with torch.random.fork_rng():
            with contextlib.closing(self._loader.batches(plan[: self.images_per_epoch])) as batches:
                dtype = next(batches)[0].dtype  # compiled for another, the step would be compiled again in training
            self.model.train()
            for size in sizes:
                images = torch.randn(size, 3, 32, 32, device=self.device)
                images = images.to(dtype=dtype, memory_format=torch.channels_last)
                labels = torch.randint(0, 10, (size,), device=self.device)
                for _ in range(steps):
                    self._step(images, labels)
        self.model.load_state_dict(weights)
        self.optimizer.state.clear()
        self._step.scaler.load_state_dict(scale)

    def losses_at(self, rates: Sequence[float], stop: Callable[[float], bool]) -> list[float]:
        """The losses of a step at each of the learning `rates`, in turn from here, up to one of which `stop` is true.

        The batches are those of epoch 1, then of the next ones. Afterwards weights, batch statistics, optimizer,
        gradient scale and random number generators are as before, bit for bit.
        """
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        scale, training = self._step.scaler.state_dict(), self.model.training
        plans = (
            draw_plan(self._total, self.recipe.augmentation, seed=self.recipe.seed, epoch=epoch)
            for epoch in itertools.count()
        )
        batches = (batch for plan in plans for batch in self._loader.batches(plan[: self.images_per_epoch]))
        losses: list[float] = []
        self.model.train()
        try:
            with torch.random.fork_rng():
                for rate, (images, labels) in zip(rates, batches, strict=False):
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    losses.append(self._step(images, labels)[0].item())
                    if stop(losses[-1]):
                        break
        finally:
            batches.close()
            self.model.load_state_dict(weights)
            self.model.train(training)
            self.optimizer.load_state_dict(optimizer)
            self._step.scaler.load_state_dict(scale)
        return losses


def _require_finite(losses: Tensor, epoch: int, rates: list[float]) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        raise RunError(_diverged("loss", losses[step].item(), epoch, step + 1, rates[step]))


def _diverged(what: str, value: float, epoch: int, step: int, rate: float) -> str:
    return (
        f"the {what} is {value} in epoch {epoch}, step {step}, at learning rate {rate:.3g}; try a lower schedule.max_lr"
    )
