"""The training loop: a recipe, a data set and an execution in; a log line an epoch and a result out."""

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from fastcifar import models, optim
from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import open_loader
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.optim.schedule import one_cycle
from fastcifar.recipe import Recipe, validated
from fastcifar.training.clock import Clock
from fastcifar.training.evaluate import Evaluation, OnBytes, evaluate
from fastcifar.training.log import EpochLog, Observer, Result
from fastcifar.training.state import TrainState
from fastcifar.training.step import DTYPES, TrainingStep


class Trainer:
    """Everything a run needs, set up and warm: dataset on the device, loader, network, optimizers, schedule.

    `execution` must be resolved (`fastcifar.execution.resolve`). `setup_seconds` is what the making took. Raises
    `InputError` at a recipe that is out of range or does not fit the data set.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, execution: Execution) -> None:
        self.device = torch.device(execution.device)
        clock = Clock(self.device)
        self.recipe = validated(asdict(recipe))
        self.dataset, self.execution = dataset, execution
        self.images_per_epoch = len(dataset.train_images)
        self.test_images = len(dataset.test_images)
        if recipe.batch_size > self.images_per_epoch:
            raise InputError(
                f"batch_size: {recipe.batch_size:,} is more than the {self.images_per_epoch:,} training images"
            )
        if recipe.drop_last:
            self.images_per_epoch -= self.images_per_epoch % recipe.batch_size
        self.steps_per_epoch = math.ceil(self.images_per_epoch / recipe.batch_size)

        self.model = self._new_network(recipe.seed).to(self.device).to(memory_format=torch.channels_last)
        optimizers = optim.make(self.model, self.recipe)
        self._step = TrainingStep(
            self.model,
            optimizers,
            batch_size=recipe.batch_size,
            device=self.device,
            precision=execution.precision,
            compile=execution.compile,
            label_smoothing=recipe.label_smoothing,
        )
        self.state = TrainState(
            self.model, optimizers, self._step.scaler, device=self.device, steps_per_epoch=self.steps_per_epoch
        )
        self._loader = open_loader(
            execution.loader,
            dataset,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            device=self.device,
            dtype=DTYPES[execution.precision],
        )
        self._on_bytes = OnBytes(self.model, dataset.mean, dataset.std)
        self._test_images = torch.from_numpy(dataset.test_images).to(self.device)
        self._test_labels = torch.from_numpy(dataset.test_labels).to(self.device)
        self._at_start = self.state.capture()
        self.warm_up(steps=1 if execution.compile == "off" else 3)
        if self.device.type == "cuda":
            self._evaluate()  # cuDNN chooses its algorithms for these shapes
        self.setup_seconds = clock.seconds()

    def restart(self, recipe: Recipe) -> None:
        """Be as a new trainer of `recipe`, which may differ in seed and schedule, with what is compiled used again.

        It is so bit for bit; `setup_seconds` becomes what this took.
        """
        clock = Clock(self.device)
        self.recipe = validated(asdict(recipe))
        self.state.restore(self._at_start)
        for ours, fresh in zip(self.state.optimizers, optim.make(self.model, self.recipe), strict=True):
            for group, other in zip(ours.param_groups, fresh.param_groups, strict=True):
                group["lr"] = group["initial_lr"] = other["initial_lr"]
        self.model.load_state_dict(self._new_network(recipe.seed).state_dict())  # into the present tensors
        self.setup_seconds = clock.seconds()

    def _new_network(self, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return models.build(self.recipe.model, len(self.dataset.classes))

    def run(self, observers: Sequence[Observer] = ()) -> Result:
        """Train the epochs that are left, testing after each. Raises `RunError` at a loss that is NaN or infinite."""
        log, target = self.state.log, self.recipe.target
        reached = None
        while self.state.epoch < self.recipe.epochs and not (reached and self.recipe.stop_at_target):
            self.train_epoch(observers)
            log = self.state.log
            reached = next((number for number, one in enumerate(log, 1) if one.test_accuracy >= target), None)
            for observer in observers:
                observer.epoch(log[-1])
        return Result(
            final_accuracy=log[-1].test_accuracy,
            best_accuracy=max(one.test_accuracy for one in log),
            time_to_target=sum(one.train_seconds for one in log[:reached]) if reached else None,
            epochs=len(log),
            setup_seconds=self.setup_seconds,
            train_seconds=sum(one.train_seconds for one in log),
            eval_seconds=sum(one.eval_seconds for one in log),
        )

    def train_epoch(self, observers: Sequence[Observer] = ()) -> EpochLog:
        """Train the epoch that comes next, or the rest of it, then test."""
        clock = Clock(self.device)
        state, batch_size = self.state, self.recipe.batch_size
        epoch = state.epoch + 1
        rate_of = one_cycle(self.recipe.schedule, epochs=self.recipe.epochs, steps_per_epoch=self.steps_per_epoch)
        rate = 0.0
        self.model.train()
        for images, labels in self._loader.batches(self._plan(state.epoch)[state.step * batch_size :]):
            rate = rate_of(state.epoch * self.steps_per_epoch + state.step)
            optim.set_rates(state.optimizers, rate, self.recipe.schedule.max_lr)
            loss, logits = self._step(images, labels)
            state.losses[state.step] = loss
            state.correct += (logits.argmax(dim=1) == labels).sum()
            state.step += 1
            if self.device.type == "cpu" and not loss.isfinite():
                break  # on a GPU, looking at every loss would make the host wait for each step
            for observer in observers:
                observer.step(epoch, state.step)
        bad = (~state.losses[: state.step].isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            rate = rate_of((epoch - 1) * self.steps_per_epoch + step)
            raise RunError(_diverged("loss", state.losses[step].item(), epoch, step + 1, rate))
        train_seconds = clock.seconds()

        clock = Clock(self.device)
        test = self._evaluate()
        if not math.isfinite(test.loss):
            raise RunError(_diverged("test loss", test.loss, epoch, state.step, rate))
        weights = torch.full_like(state.losses, batch_size)
        weights[-1] = self.images_per_epoch - batch_size * (self.steps_per_epoch - 1)
        log = EpochLog(
            epoch=epoch,
            train_seconds=train_seconds,
            eval_seconds=clock.seconds(),
            train_loss=(state.losses @ weights).item() / self.images_per_epoch,
            train_accuracy=state.correct.item() / self.images_per_epoch,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            learning_rate=rate,
            images_per_second=self.images_per_epoch / train_seconds,
        )
        state.end_epoch(log)
        return log

    def _plan(self, epoch: int) -> EpochPlan:
        """What is trained on in epoch `epoch`, from 0."""
        total = len(self.dataset.train_images)
        plan = draw_plan(total, self.recipe.augmentation, seed=self.recipe.seed, epoch=epoch)
        return plan[: self.images_per_epoch]

    def _evaluate(self) -> Evaluation:
        return evaluate(self._on_bytes, self._test_images, self._test_labels, precision=self.execution.precision)

    def warm_up(self, steps: int) -> None:
        """Start the loader and take `steps` steps on made-up data, so that everything is compiled and allocated.

        It leaves no trace in the state, bit for bit.
        """
        sizes = {self.recipe.batch_size, self.images_per_epoch % self.recipe.batch_size or self.recipe.batch_size}
        with self.state.untouched():
            with contextlib.closing(self._loader.batches(self._plan(0))) as batches:
                dtype = next(batches)[0].dtype  # compiled for another, the step would be compiled again in training
            self.model.train()
            for size in sizes:
                images = torch.randn(size, 3, 32, 32, device=self.device)
                images = images.to(dtype=dtype, memory_format=torch.channels_last)
                labels = torch.randint(0, len(self.dataset.classes), (size,), device=self.device)
                for _ in range(steps):
                    self._step(images, labels)

    def losses_at(self, rates: Sequence[float], stop: Callable[[float], bool]) -> list[float]:
        """The losses of a step at each of the learning `rates`, in turn from here, up to one of which `stop` is true.

        The batches are those of epoch 1, then of the next ones; with several groups of parameters the others' rates
        go along in proportion. It leaves no trace in the state, bit for bit.
        """
        plans = (self._plan(epoch) for epoch in itertools.count())
        losses: list[float] = []
        with (
            self.state.untouched(),
            contextlib.closing(batch for plan in plans for batch in self._loader.batches(plan)) as batches,
        ):
            self.model.train()
            for rate, (images, labels) in zip(rates, batches, strict=False):
                optim.set_rates(self.state.optimizers, rate, self.recipe.schedule.max_lr)
                losses.append(self._step(images, labels)[0].item())
                if stop(losses[-1]):
                    break
        return losses


def _diverged(what: str, value: float, epoch: int, step: int, rate: float) -> str:
    return (
        f"the {what} is {value} in epoch {epoch}, step {step}, at learning rate {rate:.3g}; try a lower schedule.max_lr"
    )
