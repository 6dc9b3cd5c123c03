"""The pictures of a run's epochs, each with what it shows in words (`fastcifar.report.drawing`)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from fastcifar.recipe import Recipe
from fastcifar.report.drawing import GROUND, QUIET, SERIES, Picture, in_style, line, new_figure
from fastcifar.report.text import percent
from fastcifar.runs.steps import Steps
from fastcifar.training.log import EpochLog


def curves(recipe: Recipe, log: Sequence[EpochLog], steps: Steps | None = None) -> dict[str, Picture]:
    """All of them by the names of their files, in the order of the page; without `steps` by epoch alone."""
    drawn = loss(recipe, log, steps), accuracy(recipe, log), learning_rate(log, steps), throughput(log)
    return {one.name: one for one in drawn}


@in_style
def loss(recipe: Recipe, log: Sequence[EpochLog], steps: Steps | None = None) -> Picture:
    """Training and test loss by epoch, and in training step by step behind them."""
    figure, axis = new_figure(2.35)
    tests = [one.test_loss for one in log if one.test_loss is not None]
    if steps:
        line(axis, steps.ends, steps.losses, SERIES[1], marker="", alpha=0.35, linewidth=0.6, label="step")
    _train_and_test(axis, log, [one.train_loss for one in log], tests)
    axis.set(ylabel="cross-entropy", ylim=(0, None))
    first, last, smoothing = log[0], log[-1], recipe.label_smoothing
    return Picture(
        "loss",
        figure,
        f"Line chart of the loss by epoch: training from {first.train_loss:.3f} to {last.train_loss:.3f}, test "
        f"from {tests[0]:.3f} to {tests[-1]:.3f}.",
        f"Loss by epoch; in training a running mean over the epoch{', and of each step' if steps else ''}"
        + (f", with label smoothing {smoothing:g}, which the test loss is without." if smoothing else "."),
    )


@in_style
def accuracy(recipe: Recipe, log: Sequence[EpochLog]) -> Picture:
    """Training and test accuracy by epoch, in per cent, and the target as a line."""
    figure, axis = new_figure(2.35)
    train = [100 * one.train_accuracy for one in log]
    test = [100 * one.test_accuracy for one in log if one.test_accuracy is not None]
    target = 100 * recipe.target
    axis.axhline(target, color=QUIET, linewidth=0.9, linestyle=":", label=f"target {target:g} %")
    _train_and_test(axis, log, train, test)
    axis.set(ylabel="accuracy, %")
    first, last = log[0], log[-1]
    return Picture(
        "accuracy",
        figure,
        f"Line chart of the accuracy by epoch: training from {percent(first.train_accuracy)} to "
        f"{percent(last.train_accuracy)}, test from {test[0]:.2f} % to {test[-1]:.2f} %.",
        "Accuracy by epoch; in training on transformed images, while the weights change.",
    )


@in_style
def learning_rate(log: Sequence[EpochLog], steps: Steps | None = None) -> Picture:
    """Learning rate of each step, or at the end of each epoch."""
    figure, axis = new_figure(2.35)
    rates = steps.learning_rates if steps else [one.learning_rate for one in log]
    line(axis, steps.ends if steps else [one.epoch for one in log], rates, SERIES[0], marker="" if steps else "o")
    axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axis.ticklabel_format(axis="y", scilimits=(-3, 4))
    return Picture(
        "learning-rate",
        figure,
        f"Line chart of the learning rate, at most {max(rates):.3g}.",
        "Learning rate, step by step." if steps else "Learning rate of the last step of each epoch.",
    )


@in_style
def throughput(log: Sequence[EpochLog]) -> Picture:
    """Images trained on a second, by epoch, with their median as a line."""
    figure, axis = new_figure(2.35)
    rates = [one.images_per_second for one in log]
    median = float(np.median(rates))
    axis.axhline(median, color=QUIET, linewidth=0.9, linestyle=":", label=f"median {median:,.0f}")
    line(axis, [one.epoch for one in log], rates, SERIES[0])
    axis.set(xlabel="epoch", ylabel="images/s", ylim=(0, 1.12 * max(rates)))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.legend(loc="lower right")
    return Picture(
        "throughput",
        figure,
        f"Line chart of images a second by epoch, from {min(rates):,.0f} to {max(rates):,.0f}.",
        "Images trained on a second, loading and transforms included.",
    )


@in_style
def seconds(result: Mapping[str, object]) -> Picture | None:
    """Where the seconds of the whole process went, as one bar; None where the result does not say."""
    named = {"setting up": "setup_seconds", "training": "train_seconds", "testing": "eval_seconds"}
    found = {name: value for name, key in named.items() if isinstance(value := result.get(key), int | float)}
    whole = result.get("wall_seconds")
    if len(found) < len(named) or not isinstance(whole, int | float) or whole <= 0:
        return None
    # Starting Python and reading the images; where a run was interrupted, what was lost too.
    found["the rest"] = max(whole - sum(found.values()), 0.0)
    figure, axis = new_figure(1.2)
    left = 0.0
    for (name, spent), colour, hatch in zip(found.items(), SERIES, ("", "", "//////", "....."), strict=False):
        label = f"{name} {spent:,.1f} s"
        axis.barh([""], [spent], left=left, height=0.6, color=colour, label=label, hatch=hatch, edgecolor=GROUND)
        left += spent
    axis.set(xlabel="seconds", xlim=(0, left))
    axis.grid(visible=False)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2)
    said = ", ".join(f"{name} {spent:,.1f}" for name, spent in found.items())
    return Picture("time", figure, f"One bar of {left:,.1f} seconds: {said}.", "Where the seconds went.")


def _train_and_test(axis: Axes, log: Sequence[EpochLog], train: Sequence[float], test: Sequence[float]) -> None:
    epochs = [one.epoch for one in log]
    line(axis, epochs, train, SERIES[1], label="train", linestyle="--", marker="s")
    line(axis, [one.epoch for one in log if one.test_loss is not None], test, SERIES[0], label="test")
    axis.set_xlabel("epoch")
    axis.legend()
