"""The steps of an epoch: from its plan and the rates to each step's loss in the state."""

import contextlib
from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from fastcifar import optim
from fastcifar.data.dataset import Dataset
from fastcifar.data.fused import FusedLoader
from fastcifar.data.loader import open_loader
from fastcifar.data.plan import EpochPlan
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe
from fastcifar.training.augment import OwnAugmentation
from fastcifar.training.ranks import Ranks
from fastcifar.training.state import TrainState
from fastcifar.training.step import DTYPES, TrainingStep
from fastcifar.training.step_graph import CudaGraphs, Graphed, Outputs


class EpochSteps:
    """Takes the steps of epochs of `recipe`, and counts them in `state`.

    With `graphs` a step is one CUDA graph: it looks up the step's learning rates, trains, and writes the loss to its
    place among the epoch's. With the `fused` loader and no custom augmentation the graph makes its batch too, so that
    all the host does is replay it. Else a batch is loaded first and copied to where the graph begins. `notes` are lines
    for a person.
    """

    def __init__(
        self,
        step: TrainingStep,
        state: TrainState,
        *,
        recipe: Recipe,
        dataset: Dataset,
        execution: Execution,
        own: OwnCode,
        device: torch.device,
        ranks: Ranks,
        graphs: CudaGraphs | None,
    ) -> None:
        self._step, self._state, self._ranks, self._recipe = step, state, ranks, recipe
        self._loaders = {
            size: open_loader(
                execution.loader,
                dataset,
                recipe.augmentation,
                batch_size=ranks.rows(size),
                device=device,
                dtype=DTYPES[execution.precision],
            )
            for size in sorted({recipe.batch_size_of(epoch) for epoch in range(recipe.epochs)})
        }
        self._augment: OwnAugmentation | None = None
        if own.augmentation:
            name = recipe.augmentation.own or ""
            self._augment = OwnAugmentation(
                own.augmentation, name, device, compiled=execution.compile != "off", rank=ranks.rank
            )
        # Those whose batches a step's graph makes, by batch size.
        self._placing = {
            size: loader
            for size, loader in self._loaders.items()
            if graphs and not self._augment and isinstance(loader, FusedLoader)
        }
        self._in_place: tuple[FusedLoader, EpochPlan] | None = None
        self._number = torch.zeros(1, dtype=torch.int64, device=device)  # of the step, in its epoch
        self._rates: Tensor | None = None
        self._graphed: Graphed | None = None
        if graphs:
            self._graphed = Graphed(self._taken, graphs)
            self._rates = optim.capturable(state.optimizers)
            self._rates_of_steps = torch.zeros(len(state.losses), len(self._rates), device=device)

    @property
    def prepare_seconds(self) -> float:
        """What the loaders took to prepare the images, which is training."""
        return sum(loader.prepare_seconds for loader in self._loaders.values())

    @property
    def notes(self) -> list[str]:
        """What is to be known of the run's own augmentation."""
        return self._augment.notes if self._augment else []

    def prepare(self, plan: EpochPlan, epoch: int) -> None:
        """Copy `plan`, of epoch `epoch` (from 0), to the device ahead of time, while it is busy with another epoch."""
        loader = self._placing.get(self._recipe.batch_size_of(epoch))
        if loader and not (self._in_place and self._in_place[0] is loader and self._in_place[1] is plan):
            loader.place(plan)
            self._in_place = loader, plan

    def of(
        self, plan: EpochPlan, seed: int, epoch: int, rates: Sequence[Sequence[float]], *, first: int = 0
    ) -> Generator[Tensor]:
        """Take the steps of epoch `epoch` (from 0), beginning with step `first`.

        `plan` is the epoch's, of all training images; those that the recipe leaves out are skipped. `rates` has for
        each step the learning rate of every group of parameters; with fewer rates there are fewer steps. A custom
        augmentation draws by `seed`, which need not be the recipe's.

        Yields the loss () of each step once it is taken, to be read before the next one.
        """
        if first >= len(rates):
            return
        size, total = self._recipe.batch_size_of(epoch), self._recipe.images_of(epoch, len(plan))
        losses = self._state.image_losses
        chosen = losses.hardest(total) if losses and self._recipe.left_out_of(epoch) else None
        self._number.fill_(first)
        if self._rates is not None:
            self._rates_of_steps[: len(rates)].copy_(torch.tensor(rates, dtype=torch.float32), non_blocking=True)
        batches = [min(size, total - number * size) for number in range(first, -(-total // size))]
        shapes = [{"batch": batch, "size": size, "side": self._recipe.image_size_of(epoch)} for batch in batches]
        if loader := self._placing.get(size):
            self.prepare(plan, epoch)
            if chosen is not None:
                loader.choose(chosen, total)
                self._in_place = None
            yield from self._made_in_graph(shapes[: len(rates) - first])
        else:
            plan = plan[:total] if chosen is None else plan.where(chosen.cpu().numpy()[plan.indices])
            yield from self._loaded(plan, shapes, seed, epoch, rates[first:], first)

    def _made_in_graph(self, shapes: Sequence[dict[str, int]]) -> Generator[Tensor]:
        """Steps whose batches the graph makes from what `loader.place` has put on the device."""
        assert self._graphed
        for shape in shapes:
            yield self._graphed(**shape)[0]

    def _loaded(
        self,
        plan: EpochPlan,
        shapes: Sequence[dict[str, int]],
        seed: int,
        epoch: int,
        rates: Sequence[Sequence[float]],
        first: int,
    ) -> Generator[Tensor]:
        """Steps whose batches a loader makes, and a custom augmentation changes: this rank's rows of each."""
        size, take = shapes[0]["size"], self._graphed or self._taken
        rows = self._ranks.rows(size)
        mine = self._ranks.part(plan, size)[first * rows :]
        batches = self._loaders[size].batches(mine)
        if self._augment:
            batches = self._augment.batches(batches, seed, epoch, first)
        indices = torch.from_numpy(mine.indices).to(self._number.device).split(rows)
        with contextlib.closing(batches):
            for now, shape, which, (images, labels) in zip(rates, shapes, indices, batches, strict=False):
                if self._rates is None:
                    optim.set_rates(self._state.optimizers, now)
                yield take(images, labels, which, **shape)[0]

    def _taken(self, *given: Tensor, batch: int, size: int, side: int) -> Outputs:
        """A step on a batch of `batch` images, resized to `side` pixels.

        `given` are this rank's images, their labels and which training images they are; without, the loader of batch
        size `size` makes them from what it has in place.
        """
        if self._rates is not None:
            self._rates.copy_(self._rates_of_steps.index_select(0, self._number)[0])
        images, labels, indices = given or self._placing[size].placed(self._number, batch)
        self._step.image_size = side
        loss, losses, correct = self._step(images, labels, batch)
        self._state.losses.index_copy_(0, self._number, loss[None].to(self._state.losses.dtype))
        self._state.correct.add_(correct)
        if self._state.image_losses:
            self._state.image_losses.after_step(indices, losses)
        self._number += 1
        return (loss,)
