"""All that a run's future depends on, and the two verbs on it: capture, and restore into the same tensors."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from fastcifar.optim.muon import Muon
from fastcifar.training.average import WeightAverage
from fastcifar.training.evaluate import Evaluated
from fastcifar.training.log import EpochLog
from fastcifar.training.selection import ImageLosses


class TrainState:
    """The state of a run: network, optimizers, average of weights, gradient scaler, random generators, where in the
    epochs it is.

    `log`: the epochs finished; `step`: how many steps of the next one are taken, all of them where only its test is
    left; `seconds`: what they took; `other_seconds`: of the CPU, what other programs had meanwhile; `losses` (steps of
    the longest epoch,) float32 and `correct` () int64: its running sums, on the device; `image_losses`: where an epoch
    leaves images out. What is to be kept, put back or begun anew goes through here, and nothing else lists state.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        scaler: torch.amp.GradScaler,
        *,
        device: torch.device,
        steps_per_epoch: int,
        average: WeightAverage | None = None,
        image_losses: ImageLosses | None = None,
    ) -> None:
        self.network, self.optimizers, self.scaler, self.average = network, optimizers, scaler, average
        self.image_losses = image_losses
        self._device = device
        self.log: list[EpochLog] = []
        self.step = 0
        self.seconds = self.other_seconds = 0.0
        self.losses = torch.zeros(steps_per_epoch, device=device)
        self.correct = torch.zeros((), device=device, dtype=torch.int64)

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.log)

    def epoch_log(
        self, *, images: int, batch_size: int, rate: float, test: Evaluated | None, eval_seconds: float
    ) -> EpochLog:
        """The line of the epoch whose last step has been taken, which was of so many images."""
        steps = self.step
        losses = self.losses[:steps]
        weights = torch.full_like(losses, batch_size)
        weights[-1] = images - batch_size * (steps - 1)
        return EpochLog(
            epoch=self.epoch + 1,
            train_seconds=self.seconds,
            eval_seconds=eval_seconds,
            train_loss=(losses @ weights).item() / images,
            train_accuracy=self.correct.item() / images,
            test_loss=test.loss if test else None,
            test_accuracy=test.accuracy if test else None,
            learning_rate=rate,
            images_per_second=images / self.seconds,
            other_cores=self.other_seconds / self.seconds,
        )

    def end_epoch(self, log: EpochLog) -> None:
        """An epoch is over, and the sums of the next one are zero."""
        self.log.append(log)
        self.step, self.seconds, self.other_seconds = 0, 0.0, 0.0
        self.losses.zero_()
        self.correct.zero_()

    def state_dict(self) -> dict[str, Any]:
        """All of it, nested: the live tensors, and besides them only what JSON can hold."""
        return {
            "network": self.network.state_dict(),
            "buffers": _other_buffers(self.network),
            "training": self.network.training,
            "average": self.average.averaged.state_dict() if self.average else None,
            "optimizers": [_kept_of(optimizer) for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "generators": _generators(self._device),
            "log": [asdict(one) for one in self.log],
            "step": self.step,
            "seconds": self.seconds,
            "other_seconds": self.other_seconds,
            "losses": self.losses,
            "correct": self.correct,
            "image_losses": self.image_losses.state_dict() if self.image_losses else None,
        }

    def capture(self) -> dict[str, Any]:
        """A copy of `state_dict`, which training does not change."""
        return copy.deepcopy(self.state_dict())

    def restore(self, captured: dict[str, Any]) -> None:
        """Be again as captured, bit for bit, in the present tensors, whose addresses CUDA graphs hold.

        What an optimizer keeps of a parameter and did not keep then it has as zeros, with which it would begin, so that
        nothing is allocated in training; a custom one forgets it. Gradients are dropped. `captured` may
        be of another device or precision: a scaler, or a GPU's generator, that was not there then stays as it is.
        """
        self.network.load_state_dict(captured["network"])
        for name, buffer in _other_buffers(self.network).items():
            buffer.copy_(captured["buffers"][name])
        self.network.train(captured["training"])
        if self.average:
            self.average.averaged.load_state_dict(captured["average"])
        for optimizer, kept in zip(self.optimizers, captured["optimizers"], strict=True):
            _restore_optimizer(optimizer, kept)
        if self.scaler.is_enabled() and captured["scaler"]:
            self.scaler.load_state_dict(captured["scaler"])
        torch.set_rng_state(captured["generators"]["cpu"])
        if self._device.type == "cuda" and "cuda" in captured["generators"]:
            torch.cuda.set_rng_state(captured["generators"]["cuda"], self._device)
        self.log = [EpochLog(**one) for one in captured["log"]]
        self.step, self.seconds = captured["step"], captured["seconds"]
        self.other_seconds = captured["other_seconds"]
        self.losses.copy_(captured["losses"])
        self.correct.copy_(captured["correct"])
        if self.image_losses:
            self.image_losses.latest.copy_(captured["image_losses"]["latest"])
            self.image_losses.before.copy_(captured["image_losses"]["before"])

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Whatever is trained inside leaves no trace, also where it raises."""
        captured = self.capture()
        try:
            yield
        finally:
            self.restore(captured)


def _other_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Those that state_dict leaves out (persistent=False)."""
    kept = network.state_dict()
    return {name: buffer for name, buffer in network.named_buffers() if name not in kept}


def _generators(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@contextmanager
def random_state_kept(device: torch.device | str) -> Iterator[None]:
    """Inside, torch's generators of the CPU and of this device may be seeded and used; then they are as before."""
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


_EXECUTION = ("foreach", "fused", "capturable")  # how an optimizer computes, here and now
# Those for which to keep zeros of a parameter is as to keep nothing of it yet; SGD, where it dampens no gradient.
_FROM_ZEROS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, Muon)


def _kept_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state, of which the rates are numbers also where it has them on the device."""
    kept = optimizer.state_dict()
    return {**kept, "param_groups": [{**group, "lr": float(group["lr"])} for group in kept["param_groups"]]}


def _restore_optimizer(optimizer: torch.optim.Optimizer, kept: dict[str, Any]) -> None:
    before = {parameter: dict(values) for parameter, values in optimizer.state.items()}
    optimizer.zero_grad(set_to_none=True)
    present = [{key: group[key] for key in _EXECUTION if key in group} for group in optimizer.param_groups]
    groups = [{**group, **here} for group, here in zip(kept["param_groups"], present, strict=True)]
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict({**kept, "param_groups": groups})  # into new tensors
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(rate, Tensor):
            group["lr"] = rate.fill_(group["lr"])
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            place = before.get(parameter, {}).get(name)
            if isinstance(place, Tensor) and isinstance(value, Tensor) and place.shape == value.shape:
                values[name] = place.copy_(value)
    if type(optimizer) in _FROM_ZEROS and not any(group.get("dampening") for group in optimizer.param_groups):
        for parameter, values in before.items():
            if parameter not in optimizer.state:
                places = {name: value.zero_() for name, value in values.items() if isinstance(value, Tensor)}
                optimizer.state[parameter] = places
