"""A custom augmentation, in the place it has: after the loader's transforms, before the network."""

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from fastcifar.errors import InputError
from fastcifar.execution import compiled
from fastcifar.own import AugmentationFunction, called


class OwnAugmentation:
    """Gives batches as `function`, which a person calls `name`, makes them.

    `compiled`: by torch.compile, where that takes the whole of it (a torch.Generator it takes in no version so far);
    `notes` says where it does not. Raises `InputError` where a batch comes back with another shape, dtype or device.
    """

    def __init__(
        self, function: AugmentationFunction, name: str, device: torch.device, *, compiled: bool, rank: int = 0
    ) -> None:
        self._function, self._name, self._device = function, name, device
        self._compiled, self._rank = compiled, rank
        self._checked: set[torch.Size] = set()
        self.notes: list[str] = []

    def batches(
        self, loaded: Generator[tuple[Tensor, Tensor]], seed: int, epoch: int, first: int
    ) -> Generator[tuple[Tensor, Tensor]]:
        """`loaded` are the batches of epoch `epoch`, from 0, from number `first` on, images (B, 3, 32, 32)."""
        try:
            for number, (images, labels) in enumerate(loaded, first):
                yield self._made(images, _generator(self._device, seed, epoch, number, self._rank)), labels
        finally:
            loaded.close()

    def _made(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if images.shape in self._checked:
            return self._function(images, generator)
        if self._compiled:
            self._compile(images)
        made = called(self._name, lambda: self._function(images, generator))
        if not isinstance(made, Tensor):
            raise InputError(f"{self._name}: gives a {type(made).__name__}, not a batch of images")
        for what in ("shape", "dtype", "device"):
            before, after = getattr(images, what), getattr(made, what)
            if before != after:
                before, after = (tuple(one) if what == "shape" else one for one in (before, after))
                raise InputError(f"{self._name}: changes a batch's {what} from {before} to {after}")
        self._checked.add(images.shape)
        return made

    def _compile(self, images: Tensor) -> None:
        """Take the compiled function's place of the plain one, if there is one, of which there is one try."""
        from torch._dynamo.exc import TorchDynamoException

        self._compiled = False
        function = compiled(self._function, fullgraph=True)
        try:
            function(images, _generator(self._device, 0, 0, 0))
            self._function = function
        except TorchDynamoException:
            self.notes.append(f"{self._name}: torch.compile does not take it whole: it runs eagerly")


def _generator(device: torch.device, seed: int, epoch: int, batch: int, rank: int = 0) -> torch.Generator:
    """Keyed by these, so that any batch is made without those before it, and each rank's rows by draws of their own."""
    (key,) = np.random.SeedSequence([seed, epoch, batch, *([rank] if rank else [])]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(key >> np.uint64(1)))
