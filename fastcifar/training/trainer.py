"""The training loop: a recipe, a data set and an execution in; a log line an epoch and a result out."""

import contextlib
import itertools
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from fastcifar import __version__, optim
from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import open_loader
from fastcifar.data.plan import EpochPlan, Plans
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.optim.schedule import one_cycle
from fastcifar.own import OwnCode, said
from fastcifar.recipe import Recipe, validated
from fastcifar.training.augment import OwnAugmentation
from fastcifar.training.average import WeightAverage
from fastcifar.training.clock import Clock
from fastcifar.training.evaluate import Evaluated, Evaluator, OnBytes
from fastcifar.training.log import EpochLog, Observer, Result, diverged, epochs_to
from fastcifar.training.memory import release_pages
from fastcifar.training.network import new_network
from fastcifar.training.ranks import Ranks
from fastcifar.training.selection import ImageLosses
from fastcifar.training.state import TrainState
from fastcifar.training.step import DTYPES, TrainingStep
from fastcifar.training.step_graph import FIRST


class Trainer:
    """Everything a run needs, set up and warm: dataset on the device, loader, network, optimizers, schedule.

    `execution` must be resolved (`fastcifar.execution.resolve`); `own` is the code of one's own that `recipe` names,
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
        self.notes: list[str] = []
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

        self.model, self.prepare_seconds = new_network(self.recipe, dataset, self.own.model, self.device)
        optimizers = optim.make(self.model, self.recipe, self.own.optimizer, compile=execution.compile)
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
        self._loaders = {
            size: open_loader(
                execution.loader,
                dataset,
                recipe.augmentation,
                batch_size=self.ranks.rows(size),
                device=self.device,
                dtype=DTYPES[execution.precision],
            )
            for size in sorted(set(sizes))
        }
        self._augment: OwnAugmentation | None = None
        if self.own.augmentation:
            name = recipe.augmentation.own or ""
            self._augment = OwnAugmentation(
                self.own.augmentation, name, self.device, compiled=execution.compile != "off", rank=self.ranks.rank
            )
        network = OnBytes(self.tested_network, dataset.mean, dataset.std, recipe.evaluation.tta)
        tests = [torch.from_numpy(one).to(self.device) for one in (dataset.test_images, dataset.test_labels)]
        self._test = Evaluator(network, *tests, execution=execution, ranks=self.ranks, graphs=self._step.graphs)
        self.state.seconds = self.prepare_seconds
        self._clock: Clock | None = None
        self._plans = Plans(total, recipe.augmentation)
        self._at_start = self.state.capture()
        with self._step.within_memory():
            self.warm_up(steps=1 if execution.compile == "off" else FIRST + 1)
            for _ in range(FIRST + 1 if self.device.type == "cuda" else 0):  # cuDNN chooses its algorithms
                self._evaluate()
        if self._augment:
            self.notes += self._augment.notes
        self.setup_seconds = clock.seconds() - self.prepare_seconds

    @property
    def tested_network(self) -> nn.Module:
        """What is tested after an epoch, and kept: the network, or the average of its weights."""
        averaged = self._average is not None and self.recipe.evaluation.weights == "average"
        return self._average.averaged if averaged and self._average else self.model

    def restart(self, recipe: Recipe) -> None:
        """Be as a new trainer of `recipe`, which may differ in seed and schedule, with what is compiled used again.

        It is so bit for bit; `setup_seconds` becomes what this took.
        """
        clock = Clock(self.device)
        recipe = replace(recipe, dataset=self.recipe.dataset, dataset_sha256=self.recipe.dataset_sha256)
        self.recipe = validated(asdict(recipe))
        self.state.restore(self._at_start)
        network, self.prepare_seconds = new_network(self.recipe, self.dataset, self.own.model, self.device)
        self.model.load_state_dict(network.state_dict())  # into the present tensors
        if self._average:
            self._average.reset()
        self.state.seconds, self._clock = self.prepare_seconds, None
        if self.device.type == "cpu":
            release_pages()  # lest what malloc keeps grows from run to run
            self.warm_up(steps=1)  # takes those it needs again, before the clock starts
        self.setup_seconds = clock.seconds() - self.prepare_seconds

    def leave(self) -> None:
        """No step is taken any more, so that the other ranks may go; of one alone nothing changes."""
        if self.ranks.count > 1:
            del self._step

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
        state, schedule = self.state, self.recipe.schedule
        done, steps = sum(self.steps[: state.epoch]), self.steps[state.epoch]
        epoch, batch_size = state.epoch + 1, self.recipe.batch_size_of(state.epoch)
        rate_of = one_cycle(schedule, self.steps)
        self.model.train()
        self._step.image_size = self.recipe.image_size_of(state.epoch)
        plan = self._plan(state.epoch)
        rows = self.ranks.rows(batch_size)
        if state.image_losses:
            state.image_losses.begin_epoch(self.ranks.part(plan, batch_size))
        for images, labels, batch in self._batches(plan, state.epoch, state.step) if state.step < steps else ():
            rate = rate_of(done + state.step)
            optim.set_rates(state.optimizers, rate, epoch=state.epoch + state.step / steps, peak=schedule.max_lr)
            loss, losses, correct = self._step(images, labels, batch)
            state.losses[state.step] = loss
            state.correct += correct
            if state.image_losses:
                state.image_losses.after_step(state.step * rows, losses)
            state.step += 1
            if self._average:
                self._average.after_step(done + state.step)
            if self.device.type == "cpu" and not loss.isfinite():
                break  # on a GPU, looking at every loss would make the host wait for each step
            for observer in observers:
                observer.step(epoch, state.step)
        if epoch < self.recipe.epochs:  # now, while a GPU has yet to do what was asked of it
            self._plans.draw_ahead(self.recipe.seed, epoch)
        bad = (~state.losses[: state.step].isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            raise RunError(diverged("loss", state.losses[step].item(), epoch, step + 1, rate_of(done + step)))
        self.lap()
        tested = self.recipe.tested_after(epoch)
        test = self._evaluate(observers) if tested else None
        eval_seconds = self._clock.seconds() if tested else 0.0
        self._clock = None
        if test and not math.isfinite(test.loss):
            raise RunError(diverged("test loss", test.loss, epoch, steps, rate_of(done + steps - 1)))
        rates = [state.optimizers[0].param_groups[0]["initial_lr"] * rate_of(done + step) for step in range(steps)]
        for observer in observers:
            observer.epoch_steps(epoch, rates, state.losses[:steps].tolist())
        log = state.epoch_log(
            images=len(plan), batch_size=batch_size, rate=rates[-1], test=test, eval_seconds=eval_seconds
        )
        state.end_epoch(log)
        return log

    def _batches(self, plan: EpochPlan, epoch: int, first: int = 0) -> Generator[tuple[Tensor, Tensor, int]]:
        """This rank's rows of each batch of epoch `epoch` (from 0) by its plan, from step `first` on, and its size."""
        size = self.recipe.batch_size_of(epoch)
        loaded = self._loaders[size].batches(self.ranks.part(plan, size)[first * self.ranks.rows(size) :])
        if self._augment:
            loaded = self._augment.batches(loaded, self.recipe.seed, epoch, first)
        with contextlib.closing(loaded):
            for step, (images, labels) in enumerate(loaded, first):
                yield images, labels, min(size, len(plan) - step * size)

    def _plan(self, epoch: int) -> EpochPlan:
        """What is trained on in epoch `epoch`, from 0."""
        plan, losses = self._plans.of(self.recipe.seed, epoch), self.state.image_losses
        images = self.recipe.images_of(epoch, len(plan))
        return losses.hardest(plan, images) if losses and self.recipe.left_out_of(epoch) else plan[:images]

    def _evaluate(self, observers: Sequence[Observer] = ()) -> Evaluated:
        def between() -> None:
            for observer in observers:
                observer.testing()

        self.ranks.meet()
        self.ranks.share_statistics(self.tested_network)
        return self._test(between)

    def warm_up(self, steps: int) -> None:
        """Start the loaders and take `steps` steps on made-up data of every shape there will be, so that everything is
        compiled and allocated.

        It leaves no trace in the state, bit for bit.
        """
        shapes: dict[tuple[int, int], int] = {}  # (batch size, side): the first epoch that has it
        for epoch in range(self.recipe.epochs):
            shapes.setdefault((self.recipe.batch_size_of(epoch), self.recipe.image_size_of(epoch)), epoch)
        with self.state.untouched():
            for (whole, side), epoch in shapes.items():
                plan = self._plan(epoch)
                with contextlib.closing(self._batches(plan, epoch)) as batches:
                    dtype = next(batches)[0].dtype  # compiled for another, the step would be compiled again in training
                self.model.train()
                self._step.image_size = side
                for batch in dict.fromkeys((whole, len(plan) % whole or whole)):
                    size = self.ranks.rows(batch)
                    images = torch.randn(size, 3, 32, 32, device=self.device)
                    images = images.to(dtype=dtype, memory_format=torch.channels_last)
                    labels = torch.randint(0, len(self.dataset.classes), (size,), device=self.device)
                    for _ in range(steps):
                        self._step(images, labels, batch)
                    if self._average:
                        self._average.after_step(self.recipe.average.every)

    def losses_at(self, rates: Sequence[float], stop: Callable[[float], bool]) -> list[float]:
        """The losses of a step at each of the learning `rates`, in turn from here, up to one of which `stop` is true.

        The batches are those of epoch 1, then of the next ones; with several groups of parameters the others' rates
        go along in proportion. It leaves no trace in the state, bit for bit.
        """
        losses: list[float] = []
        every = (batch for epoch in itertools.count() for batch in self._batches(self._plan(epoch), epoch))
        with self.state.untouched(), contextlib.closing(every) as batches:
            self.model.train()
            self._step.image_size = self.recipe.image_size_of(0)
            for rate, (images, labels, batch) in zip(rates, batches, strict=False):
                optim.set_rates(self.state.optimizers, rate)
                losses.append(self._step(images, labels, batch)[0].item())
                if stop(losses[-1]):
                    break
        return losses
