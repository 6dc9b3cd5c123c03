"""The training loop: a recipe, a data set and an execution in; a log line an epoch and a result out."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from fastcifar import __version__, optim
from fastcifar.data.dataset import Dataset
from fastcifar.data.plan import Plans
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.optim.schedule import one_cycle
from fastcifar.own import OwnCode, said
from fastcifar.recipe import Recipe, validated
from fastcifar.training.average import WeightAverage
from fastcifar.training.clock import Clock
from fastcifar.training.epoch_steps import EpochSteps
from fastcifar.training.evaluate import Evaluated, Evaluator, OnBytes
from fastcifar.training.log import EpochLog, Observer, Result, diverged, epochs_to
from fastcifar.training.memory import release_pages
from fastcifar.training.network import new_network
from fastcifar.training.ranks import Ranks
from fastcifar.training.selection import ImageLosses
from fastcifar.training.state import TrainState
from fastcifar.training.step import TrainingStep
from fastcifar.training.step_graph import FIRST, CudaGraphs
from fastcifar.training.warming import Unseen, shapes_of, tried


class Trainer:
    """Everything a run needs, set up and warm: dataset on the device, loader, network, optimizers, schedule.

    `execution` must be resolved (`fastcifar.execution.resolve`); `own` is the custom code that `recipe` names,
    both as `fastcifar.own.sealed` gives them. `setup_seconds` is what the making took, but for `prepare_seconds`, which
    are the first epoch's (`models.prepare`); `notes` are lines for a person; `recipe` has the name and sha256 of the
    data set. Raises `InputError` at a recipe that is out of range or does not fit the data set, and at code that does
    not do what it should.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        execution: Execution,
        own: OwnCode | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.device = self.ranks.device(execution.device)
        clock = Clock(self.device)
        recipe = replace(recipe, dataset=dataset.name, dataset_sha256=dataset.sha256)
        self.recipe = validated(asdict(recipe))
        self.dataset, self.execution, self.own = dataset, execution, own or OwnCode()
        self.test_images = len(dataset.test_images)
        sizes = [recipe.batch_size_of(epoch) for epoch in range(recipe.epochs)]
        if max(sizes) > (total := len(dataset.train_images)):
            raise InputError(f"batch_size: {max(sizes):,} is more than the {total:,} training images")
        images = [recipe.images_of(epoch, total) for epoch in range(recipe.epochs)]
        self.steps = [math.ceil(number / size) for number, size in zip(images, sizes, strict=True)]
        """Of each epoch."""
        rests = [number % size or size for number, size in zip(images, sizes, strict=True)]
        if (least := min(rests)) < self.ranks.count:
            raise InputError(f"batch_size: a batch of {least} images, fewer than the {self.ranks.count} processes")
        facts = {f"recipe.{name}": str(value) for name, value in asdict(self.recipe).items()}
        self.ranks.require_same({"fastcifar": __version__, **facts})
        self._set_up(clock)

    def _set_up(self, clock: Clock, warm: bool = True) -> None:
        """Make everything, in place of what there was, and warm it up; `clock` was begun with it."""
        for name in ("_step", "_epoch_steps", "_test", "_average", "_at_start", "state", "model"):
            vars(self).pop(name, None)
        release_pages()
        recipe, dataset, execution = self.recipe, self.dataset, self.execution
        sizes, total = [recipe.batch_size_of(epoch) for epoch in range(recipe.epochs)], len(dataset.train_images)
        self.model, of_network = new_network(self.recipe, dataset, self.own.model, self.device)
        optimizers = optim.make(self.model, self.recipe, self.own.optimizer, compile=execution.compile)
        graphs = CudaGraphs(self.device) if execution.compile == "cuda-graph" else None
        self._step = TrainingStep(
            self.model,
            optimizers,
            batch_sizes={self.ranks.rows(size) for size in sizes},
            device=self.device,
            precision=execution.precision,
            compile=execution.compile,
            label_smoothing=recipe.label_smoothing,
            ranks=self.ranks,
        )
        self._average = None
        if recipe.average.name != "none":
            self._average = WeightAverage(self.model, recipe.average, sum(self.steps))
        self.state = TrainState(
            self.model,
            optimizers,
            self._step.scaler,
            device=self.device,
            steps_per_epoch=max(self.steps),
            average=self._average,
            image_losses=ImageLosses(total, self.device, self.ranks) if recipe.selection.leave_out else None,
        )
        self._epoch_steps = EpochSteps(
            self._step,
            self.state,
            recipe=recipe,
            dataset=dataset,
            execution=execution,
            own=self.own,
            device=self.device,
            ranks=self.ranks,
            graphs=graphs,
        )
        network = OnBytes(self.tested_network, dataset.mean, dataset.std, recipe.evaluation.tta)
        tests = [torch.from_numpy(one).to(self.device) for one in (dataset.test_images, dataset.test_labels)]
        self._test = Evaluator(network, *tests, execution=execution, ranks=self.ranks, graphs=graphs)
        self.prepare_seconds = of_network + self._epoch_steps.prepare_seconds
        self.state.seconds = self.prepare_seconds
        self._clock: Clock | None = None
        self._plans = Plans(total, recipe.augmentation)
        self._follow_schedule()
        self._at_start = self.state.capture()
        if not warm:
            return
        unseen = Unseen(self.model, self.state.optimizers) if self.own.steps else None
        with self._step.within_memory():
            self.warm_up(steps=1 if execution.compile == "off" else FIRST + 1)
            for _ in range(FIRST + 1 if self.device.type == "cuda" else 0):  # cuDNN chooses its algorithms
                self._evaluate()
        if self.device.type == "cuda":
            self.warm_up(steps=1)  # the memory that the last capture has given back, page-locked too
        self.notes = [*self._epoch_steps.notes]
        if self.own.optimizer and getattr(self.model, "trained_epochs", None):
            self.notes.append(f"{recipe.optimizer.name}: trains to the end what the network's trained_epochs names")
        if unseen and (left := self.ranks.any_of(unseen.changed())):
            self._set_up(clock, warm=False)  # as it was before
            self.notes.append(f"custom code changes what no state_dict holds, {left}: a resumed run may differ")
        self.setup_seconds = clock.seconds() - self.prepare_seconds

    def _follow_schedule(self) -> None:
        """All steps' rates, before any clock runs: the schedule's, and of each epoch's steps those of every group."""
        schedule = self.recipe.schedule
        self._rate_of = one_cycle(schedule, self.steps)
        self._rates = optim.rates_of_epochs(self.state.optimizers, self._rate_of, self.steps, schedule.max_lr)

    @property
    def tested_network(self) -> nn.Module:
        """What is tested after an epoch, and kept: the network, or the average of its weights."""
        averaged = self._average is not None and self.recipe.evaluation.weights == "average"
        return self._average.averaged if averaged and self._average else self.model

    def restart(self, recipe: Recipe) -> None:
        """Be as a new trainer of `recipe`, which may differ in seed and schedule, with what is compiled used again.

        It is so bit for bit; `setup_seconds` becomes what this took. A custom network or optimizer is made
        anew, and all with it, since it may keep things where nobody knows of them.
        """
        clock = Clock(self.device)
        recipe = replace(recipe, dataset=self.recipe.dataset, dataset_sha256=self.recipe.dataset_sha256)
        self.recipe = validated(asdict(recipe))
        if self.own.steps:
            self._set_up(clock)
            return
        self.state.restore(self._at_start)
        network, of_network = new_network(self.recipe, self.dataset, self.own.model, self.device)
        self.prepare_seconds = of_network + self._epoch_steps.prepare_seconds  # as if the images were padded again
        self.model.load_state_dict(network.state_dict())  # into the present tensors
        if self._average:
            self._average.reset()
        self._follow_schedule()
        self.state.seconds, self._clock = self.prepare_seconds, None
        if self.device.type == "cpu":
            release_pages()  # lest what malloc keeps grows from run to run
            self.warm_up(steps=1)  # takes those it needs again, before the clock starts
        self.setup_seconds = clock.seconds() - of_network

    def leave(self) -> None:
        """No step is taken any more, so that the other ranks may go; of one alone nothing changes."""
        if self.ranks.count > 1:
            del self._step, self._epoch_steps

    def restore(self, captured: dict[str, Any]) -> None:
        """Go on from a state that a trainer of an equal recipe was in (`TrainState.state_dict`), not trained here.

        Raises `InputError` where it does not fit; then only `restart` or another `restore` leaves a state to use.
        """
        try:
            self.state.restore(captured)
            if not (0 <= self.state.step <= [*self.steps, 0][self.state.epoch] and self.state.seconds >= 0):
                raise ValueError(f"step {self.state.step} of epoch {self.state.epoch + 1}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InputError(f"not a state of this recipe: {said(error)[:100]}") from error
        self.setup_seconds += self.prepare_seconds  # for nothing: the state has what was prepared at first
        self.prepare_seconds = 0.0

    @property
    def spent_seconds(self) -> float:
        """Of training and testing so far, without waiting for the device."""
        known = sum(one.train_seconds + one.eval_seconds for one in self.state.log) + self.state.seconds
        return known + (self._clock.asked() if self._clock else 0.0)

    def lap(self) -> None:
        """In the middle of an epoch: bring `state.seconds` up to this moment."""
        if self._clock:
            self.state.seconds += self._clock.seconds()
            self.state.other_seconds += self._clock.others()
            self._clock = Clock(self.device)

    def run(self, observers: Sequence[Observer] = ()) -> Result:
        """Train the epochs that are left, testing after each. Raises `RunError` at a loss that is NaN or infinite."""
        self.ranks.require_same({"the state": f"step {self.state.step} of epoch {self.state.epoch + 1}"})
        while not self.over:
            with self._step.within_memory():
                self.train_epoch(observers)
            for observer in observers:
                observer.epoch(self.state.log[-1])
        return Result.of(self.state.log, self.recipe.target, self.setup_seconds)

    @property
    def over(self) -> bool:
        """Whether all is trained and tested."""
        reached = self.recipe.stop_at_target and epochs_to(self.recipe.target, self.state.log) is not None
        return reached or self.state.epoch >= self.recipe.epochs

    def train_epoch(self, observers: Sequence[Observer] = ()) -> EpochLog:
        """Train the epoch that comes next, or the rest of it, then test."""
        self._clock = Clock(self.device)
        state, epoch, steps = self.state, self.state.epoch + 1, self.steps[self.state.epoch]
        done, seed, of_groups = sum(self.steps[: state.epoch]), self.recipe.seed, self._rates[state.epoch]
        plan = self._plans.of(seed, state.epoch)
        self.model.train()
        optim.set_mode(self.state.optimizers, training=True)
        for now in self._epoch_steps.of(plan, seed, state.epoch, of_groups, first=state.step):
            state.step += 1
            if self._average:
                self._average.after_step(done + state.step)
            if self.device.type == "cpu" and not now.isfinite():
                break  # on a GPU, looking at every loss would make the host wait for each step
            for observer in observers:
                observer.step(epoch, state.step)
        if state.image_losses:
            state.image_losses.end_epoch()
        if epoch < self.recipe.epochs:  # now, while a GPU has yet to do what was asked of it
            self._epoch_steps.prepare(self._plans.drawn_ahead(seed, epoch), epoch)
        self.lap()
        losses = state.losses[: state.step].tolist()
        for step, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise RunError(diverged("loss", loss, epoch, step + 1, self._rate_of(done + step)))
        tested = self.recipe.tested_after(epoch)
        optim.set_mode(self.state.optimizers, training=False)
        test = self._evaluate(observers) if tested else None
        eval_seconds = self._clock.seconds() if tested else 0.0
        self._clock = None
        if test and not math.isfinite(test.loss):
            raise RunError(diverged("test loss", test.loss, epoch, steps, self._rate_of(done + steps - 1)))
        initial = state.optimizers[0].param_groups[0]["initial_lr"]
        rates = [initial * self._rate_of(done + step) for step in range(steps)]
        for observer in observers:
            observer.epoch_steps(epoch, rates, losses)
        images, batch_size = self.recipe.images_of(state.epoch, len(plan)), self.recipe.batch_size_of(state.epoch)
        log = state.epoch_log(
            images=images, batch_size=batch_size, rate=rates[-1], test=test, eval_seconds=eval_seconds
        )
        state.end_epoch(log)
        return log

    def _evaluate(self, observers: Sequence[Observer] = ()) -> Evaluated:
        def between() -> None:
            for observer in observers:
                observer.testing()

        self.ranks.meet()
        self.ranks.share_statistics(self.tested_network)
        return self._test(between)

    def warm_up(self, steps: int) -> None:
        """Take `steps` steps of each shape of batch and images that there will be, so that everything is compiled and
        allocated, and the loaders have begun.

        It leaves no trace in the state, bit for bit.
        """
        shapes = shapes_of(self.recipe, self.steps, len(self._plans))
        seed = self.recipe.seed
        with self.state.untouched():
            self.model.train()
            optim.set_mode(self.state.optimizers, training=True)
            for epoch, step in shapes:
                plan, rates = self._plans.of(seed, epoch), self._rates[epoch]
                for _ in range(steps):
                    with contextlib.closing(self._epoch_steps.of(plan, seed, epoch, rates, first=step)) as taken:
                        tried(self.recipe, self.own, partial(next, taken))
                    if self._average:
                        self._average.after_step(self.recipe.average.every)

    def losses_at(self, rates: Sequence[float], stop: Callable[[float], bool]) -> list[float]:
        """The losses of a step at each of the learning `rates`, in turn from here, up to one of which `stop` is true.

        The batches are those of epoch 1, then of the next ones, of its size and its images' size; with several groups
        of parameters the others' rates go along in proportion. It leaves no trace in the state, bit for bit.
        """
        losses: list[float] = []
        of_groups, seed = [optim.rates_at(self.state.optimizers, rate) for rate in rates], self.recipe.seed
        with self.state.untouched():
            self.model.train()
            optim.set_mode(self.state.optimizers, training=True)
            for epoch, first in enumerate(range(0, len(rates), self.steps[0])):
                plan = self._plans.of(seed, epoch)
                now = of_groups[first : first + self.steps[0]]
                with contextlib.closing(self._epoch_steps.of(plan, seed, 0, now)) as taken:
                    for loss in taken:
                        losses.append(loss.item())
                        if stop(losses[-1]):
                            return losses
        return losses
