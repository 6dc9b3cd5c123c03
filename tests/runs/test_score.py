"""Test scores of a trained network, with and without test-time augmentation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from finished import dataset, finished_run

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.models.resnet import ResNet
from fastcifar.recipe import Resnet
from fastcifar.runs.predictions import probabilities, score
from fastcifar.runs.saved import open_run
from fastcifar.training.evaluate import TTA, OnBytes, evaluate, normalise


def test_scores_are_the_runs_own() -> None:
    """To the bit: loss and accuracy of a run read back are those of its last epoch."""
    path, trained = finished_run()
    saved = open_run(path)
    scores = score(saved.on_bytes(), dataset().test_images, dataset().test_labels)
    assert scores.accuracy == saved.final_accuracy == trained.final_accuracy
    assert scores.loss == trained.log[-1].test_loss
    assert scores.images == 1100
    assert scores.images_per_second == 1100 / scores.seconds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_are_those_of_the_test_after_an_epoch(precision: str) -> None:
    """To the bit, in every precision."""
    images, labels = dataset().test_images, dataset().test_labels
    wanted = evaluate(OnBytes(network()), torch.from_numpy(images), torch.from_numpy(labels), precision=precision)
    scores = score(OnBytes(network()), images, labels, precision=precision)
    assert (scores.loss, scores.accuracy) == (wanted.loss, wanted.accuracy)


def network() -> ResNet:
    """Untrained, in evaluation mode, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ResNet(Resnet(width=4)).eval()


@torch.inference_mode()
def test_answers_by_class(small: Dataset) -> None:
    images, labels = small.test_images, small.test_labels
    scores = score(OnBytes(network()), images, labels)
    logits = network()(normalise(torch.from_numpy(images))).double()
    answers = logits.argmax(dim=1).numpy()
    for label in range(10):
        for answer in range(10):
            assert scores.answers[label, answer] == ((labels == label) & (answers == answer)).sum()
    assert scores.accuracy == (answers == labels).mean()
    assert scores.loss == pytest.approx(F.cross_entropy(logits, torch.from_numpy(labels)).item(), rel=1e-5)


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """By hand: pixel (y, x) comes from (y - down, x - right), mirrored at the border without repeating it."""
    out = np.empty_like(images)
    for y in range(32):
        for x in range(32):
            row, column = abs(y - down), abs(x - right)
            row, column = min(row, 62 - row), min(column, 62 - column)
            out[:, y, x] = images[:, row, column]
    return out


@torch.inference_mode()
def test_averages_are_those_by_hand(small: Dataset) -> None:
    images = small.test_images[:40]

    def logits(pixels: np.ndarray) -> np.ndarray:
        return network()(normalise(torch.from_numpy(np.ascontiguousarray(pixels)))).numpy()

    def flip(pixels: np.ndarray) -> np.ndarray:
        return (logits(pixels) + logits(pixels[:, :, ::-1])) / 2

    def found(tta: TTA) -> np.ndarray:
        return OnBytes(network(), tta=tta)(torch.from_numpy(images)).numpy()

    np.testing.assert_array_equal(found("none"), logits(images))
    np.testing.assert_allclose(found("flip"), flip(images), atol=1e-5)
    wanted = flip(images) / 2 + flip(shifted(images, 1, 1)) / 4 + flip(shifted(images, -1, -1)) / 4
    np.testing.assert_allclose(found("flip+shift"), wanted, atol=1e-5)
    assert np.abs(wanted - logits(images)).max() > 1e-3  # it does something


def test_augmented_scores_are_of_the_mean_logits(small: Dataset) -> None:
    scores = score(OnBytes(network(), tta="flip"), small.test_images, small.test_labels)
    with torch.inference_mode():
        logits = OnBytes(network(), tta="flip")(torch.from_numpy(small.test_images))
    assert scores.accuracy == (logits.argmax(dim=1).numpy() == small.test_labels).mean()


def test_probabilities(small: Dataset) -> None:
    found = probabilities(OnBytes(network()), small.test_images)
    assert found.shape == (200, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    with torch.inference_mode():
        wanted = network()(normalise(torch.from_numpy(small.test_images))).softmax(dim=1)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    mean, std = (100.0, 110.0, 120.0), (40.0, 50.0, 60.0)
    other = probabilities(OnBytes(network(), mean, std), small.test_images)
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(small.test_images), mean, std)
        np.testing.assert_allclose(other, network()(pixels).softmax(dim=1), atol=1e-6)
    assert np.abs(other - found).max() > 1e-3


@pytest.mark.parametrize("tensor", ["weight", "running_var"])
def test_what_is_no_probability_is_refused(small: Dataset, tensor: str) -> None:
    """Weights that are finite and overflow; a variance below 0."""
    broken = network()
    for name, value in broken.state_dict().items():
        if name.endswith(tensor):
            value.fill_(3e38 if tensor == "weight" else -1.0)
    for answer in (
        lambda: probabilities(OnBytes(broken), small.test_images),
        lambda: score(OnBytes(broken), small.test_images, small.test_labels),
    ):
        with pytest.raises(InputError, match=r"^the network outputs NaN or infinity for 200 of 200 images"):
            answer()
