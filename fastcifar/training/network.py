"""A new network, as it is before the first step."""

import contextlib
import copy

import torch
from torch import nn

from fastcifar import models
from fastcifar.data.dataset import Dataset
from fastcifar.own import NetworkFactory, called
from fastcifar.recipe import OwnModel, Recipe
from fastcifar.training.clock import Clock
from fastcifar.training.evaluate import normalise


def new_network(
    recipe: Recipe, dataset: Dataset, own: NetworkFactory | None, device: torch.device
) -> tuple[nn.Module, float]:
    """The network of the recipe's seed on the device, channels_last: weights drawn, and what follows from images
    prepared; and the seconds that the preparing took, which is training.

    Raises `InputError` where a custom network does not give logits (B, classes).
    """
    torch.manual_seed(recipe.seed)
    classes = len(dataset.classes)
    network = models.build(recipe.model, classes, own).to(device)
    network = network.to(memory_format=torch.channels_last)
    sides = sorted({32, *(recipe.image_size_of(epoch) for epoch in range(recipe.epochs))})
    if isinstance(recipe.model, OwnModel) or len(sides) > 1:
        models.require_logits(network, recipe.model.name, classes, sides, device)
    if not models.prepares(network):
        return network, 0.0
    images = torch.from_numpy(dataset.train_images[: models.PREPARED_BY]).to(device)
    name = f"{recipe.model.name}: prepare"
    if device.type == "cuda":  # loads the libraries that it calls, for a copy, if it can be copied
        with torch.random.fork_rng(devices=[device]), contextlib.suppress(Exception):
            models.prepare(copy.deepcopy(network), normalise(images, dataset.mean, dataset.std))
    clock = Clock(device)
    called(name, lambda: models.prepare(network, normalise(images, dataset.mean, dataset.std)))
    return network, clock.seconds()
