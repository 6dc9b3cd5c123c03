"""The tables of a run's page, as HTML. Every text that comes from outside is escaped in `table`."""

import html
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastcifar.data.plan import EpochPlan
from fastcifar.recipe import Augmentation
from fastcifar.report.figures import certainty, percent
from fastcifar.training.log import EpochLog
from fastcifar.training.predictions import Calibration, accuracy_by_class, precision_by_class


def table(
    name: str,
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    texts: Collection[int] = (0,),
    total: Sequence[str] = (),
) -> str:
    """A table `name` in a box of its own that scrolls sideways where it must; the first cell of a row is its heading.

    `texts`: the columns that are no numbers; `total`: a last row set apart. No headings: a table of names and values.
    """
    kinds = ["" if column in texts else ' class="number"' for column in range(len(rows[0]) if rows else len(headings))]

    def row(cells: Sequence[str]) -> str:
        first, *others = (html.escape(cell) for cell in cells)
        tail = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], others, strict=True))
        return f'<tr><th scope="row"{kinds[0]}>{first}</th>{tail}</tr>'

    titles = "".join(
        f'<th scope="col"{kind}>{html.escape(heading)}</th>' for kind, heading in zip(kinds, headings, strict=False)
    )
    head = f"<thead><tr>{titles}</tr></thead>" if headings else ""
    foot = f"<tfoot>{row(total)}</tfoot>" if total else ""
    return (
        f'<div class="scroll" role="group" tabindex="0" aria-labelledby="{name}-caption"><table id="{name}">'
        f'<caption id="{name}-caption">{html.escape(caption)}</caption>{head}'
        f"<tbody>{''.join(row(cells) for cells in rows)}</tbody>{foot}</table></div>"
    )


def values(name: str, caption: str, found: Mapping[str, Any]) -> str:
    """Names and values, nested ones by their dotted names."""
    return table(name, caption, (), list(flat(found)), texts=(0, 1))


def epochs(log: Sequence[EpochLog]) -> str:
    """The log, a row an epoch."""
    headings = ("epoch", "train s", "test s", "loss", "accuracy", "test loss", "test accuracy", "learning rate")
    rows = [
        (
            str(one.epoch),
            f"{one.train_seconds:,.2f}",
            f"{one.eval_seconds:,.2f}",
            f"{one.train_loss:.4f}",
            percent(one.train_accuracy),
            f"{one.test_loss:.4f}",
            percent(one.test_accuracy),
            f"{one.learning_rate:.3g}",
            f"{one.images_per_second:,.0f}",
        )
        for one in log
    ]
    return table("log", "Every epoch", (*headings, "images/s"), rows, texts=())


def classes(confusion: NDArray[np.int64], names: Sequence[str]) -> str:
    """Accuracy and precision of each class, and the class it is most often taken for."""
    accuracy, precision = accuracy_by_class(confusion), precision_by_class(confusion)
    rows = []
    for k, name in enumerate(names):
        others = confusion[k].copy()
        others[k] = 0
        worst = int(others.argmax())
        taken = (
            f"{names[worst]} ({percent(others[worst] / confusion[k].sum(), 1)})".replace(" %", "\N{NO-BREAK SPACE}%")
            if others[worst]
            else "none"
        )
        rows.append((name, f"{confusion[k].sum():,}", _share(accuracy[k]), _share(precision[k]), taken))
    whole = _share(confusion.trace() / max(int(confusion.sum()), 1))
    headings = ("class", "images", "accuracy", "precision", "most often taken for")
    total = ("all", f"{confusion.sum():,}", whole, "", "")
    return table("by-class", "Accuracy by class", headings, rows, texts=(0, 4), total=total)


def bins(calibration: Calibration) -> str:
    """The reliability curve in numbers: the bins that hold images."""
    width = 1 / len(calibration.count)
    rows = [
        (
            f"{k * width:.3f} – {(k + 1) * width:.3f}",
            f"{count:,}",
            f"{calibration.confidence[k]:.3f}",
            f"{calibration.accuracy[k]:.3f}",
        )
        for k, count in enumerate(calibration.count)
        if count
    ]
    return table("bins", "Reliability, bin by bin", ("confidence", "images", "mean confidence", "accuracy"), rows)


def mistakes(
    indices: Sequence[int], true: Sequence[str], predicted: Sequence[str], probabilities: Sequence[float]
) -> str:
    """The most confident mistakes by their index among the test images."""
    rows = [
        (f"{index:,}", is_, said, certainty(probability))
        for index, is_, said, probability in zip(indices, true, predicted, probabilities, strict=True)
    ]
    headings = ("test image", "true", "predicted", "probability")
    return table("wrong", "The same, most confident first", headings, rows, texts=(1, 2))


def plans(drawn: EpochPlan, augmentation: Augmentation) -> str:
    """What the plans of epochs 1, 2, ... do to one image."""
    rows = [
        (
            str(k + 1),
            f"{drawn.crop[k, 0]}, {drawn.crop[k, 1]}" if augmentation.pad else "none",
            "yes" if drawn.flip[k] else "no",
            f"{drawn.cutout[k, 0]}, {drawn.cutout[k, 1]}" if augmentation.cutout else "none",
        )
        for k in range(len(drawn))
    ]
    return table("plans", "Its plans", ("epoch", "crop at y, x", "mirrored", "cutout at y, x"), rows, texts=())


def layers(model: nn.Module) -> tuple[str, int]:
    """The layers in the order in which they run, for one image; and the parameters of all of them."""
    rows: list[tuple[str, ...]] = []
    products = 0

    def noted(name: str, module: nn.Module, output: Tensor) -> None:
        nonlocal products
        weight = module.weight if isinstance(module, nn.Conv2d | nn.Linear) else None
        # A convolution's weights are each used at every place of its output.
        work = 0 if weight is None else weight.numel() * int(np.prod(output.shape[2:]))
        products += work
        size = getattr(module, "kernel_size", None)
        side = size[0] if isinstance(size, tuple) else size
        kind = type(module).__name__ + (f" {side} × {side}" if side else "")
        own = sum(parameter.numel() for parameter in module.parameters())
        shape = " × ".join(str(length) for length in output.shape[1:])
        rows.append((name, kind, shape, f"{own:,}" if own else "", f"{work:,}" if work else ""))

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: noted(name, module, output))
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, 32, 32, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    headings = ("layer", "kind", "output", "parameters", "multiply-adds")
    total = ("all", "", "", f"{parameters:,}", f"{products:,}")
    caption = "Layers, for one image"
    return table("network", caption, headings, rows, texts=(0, 1), total=total), parameters


def times(result: Mapping[str, Any], log: Sequence[EpochLog], target: float) -> str:
    """Where the seconds went: `result` as run.json has it."""

    def said(key: str) -> str:
        value = result.get(key)
        return seconds(value) if isinstance(value, int | float) else "none"

    rows = [
        (f"training to {100 * target:g} % accuracy", said("time_to_target").replace("none", "not reached")),
        ("training", said("train_seconds")),
        ("testing", said("eval_seconds")),
        ("setting up", said("setup_seconds")),
        ("whole process", said("wall_seconds")),
        ("training of an epoch, median", seconds(statistics.median(one.train_seconds for one in log))),
        ("images/s, median", f"{statistics.median(one.images_per_second for one in log):,.0f}"),
    ]
    return table("seconds", "Times", (), rows)


def seconds(value: float) -> str:
    """Seconds, with their unit."""
    return f"{value:,.2f} s" if value < 10 else f"{value:,.1f} s"


def flat(found: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values as they are written on a page."""
    rows: list[tuple[str, str]] = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _said(value)))
    return rows


def _said(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _share(share: float) -> str:
    return "none" if np.isnan(share) else percent(share, 1)
