"""A finished run as one HTML file that loads nothing, and its pictures as PNG files beside it. No script runs in it."""

import shlex
import statistics
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchinfo
from torch import nn

from fastcifar.data.dataset import Dataset
from fastcifar.data.images import RULE
from fastcifar.data.load import given_or_loaded
from fastcifar.errors import InputError
from fastcifar.files import require_folder_of, require_no_link
from fastcifar.own import NetworkFactory, own_files, unnamed
from fastcifar.recipe import DATASETS
from fastcifar.report.class_figures import FEW
from fastcifar.report.figures import curves, seconds
from fastcifar.report.pages import render, write_page
from fastcifar.report.run_figures import answers, transformed, transforms
from fastcifar.report.text import percent
from fastcifar.runs.predictions import Tested, accuracy_by_class, precision_by_class, tested, wilson
from fastcifar.runs.saved import Finished, open_run, read_log
from fastcifar.runs.steps import read_steps


def write_report(
    run: str | Path,
    out: str | Path | None = None,
    data: str | Path | None = None,
    *,
    dataset: str | Path | Dataset | None = None,
    found: Tested | None = None,
    model: NetworkFactory | None = None,
    trust_code: bool = False,
) -> Path:
    """Write index.html and its PNG files into `out`, by default `run`/report; return the path of index.html.

    >>> fastcifar.write_report("runs/mine").as_posix()
    'runs/mine/report/index.html'

    `run` is the directory of a finished run. Its images are `dataset` (in memory or a folder), or are loaded again,
    CIFAR-10 from `data` (see `load_cifar10`). The weights are tested again for what the log does not hold, unless you
    pass what `evaluate` returned as `found`. `model` and `trust_code` are those of `load`.
    Raises `InputError`, one line, if the run is not finished, has other images, or a file cannot be written.
    """
    folder = Path(run) / "report" if out is None else Path(out)
    if out is None:
        require_no_link(folder)
    saved = open_run(run, model=model, trust_code=trust_code)
    require_folder_of(folder)
    recipe, log = saved.recipe, read_log(saved)
    dataset = given_or_loaded(dataset, recipe, data)
    here = {"name": dataset.name, "train_images": len(dataset.train_images), "test_images": len(dataset.test_images)}
    there = saved.run["dataset"]
    if not here.items() <= there.items():
        about = f"{there['name']}, {there['train_images']:,} training and {there['test_images']:,} test images"
        raise InputError(f"{saved.path / 'run.json'}: dataset: {about}; here is another: {dataset.describe()}")
    if there.get("sha256") not in (None, dataset.sha256):
        raise InputError(f"{saved.path / 'run.json'}: dataset: other images are here: their sha256 is {dataset.sha256}")
    found = tested(saved, dataset) if found is None else found
    images = np.array([len(dataset.test_labels)])
    seen = transformed(recipe, dataset, len(log))
    drawn = curves(recipe, log, read_steps(saved.path, len(log))) | answers(found, dataset)
    drawn["transforms"] = transforms(recipe, seen)
    if spent := seconds(saved.run["result"]):
        drawn[spent.name] = spent
    low, high = wilson(np.array([round(saved.final_accuracy * images[0])]), images)
    so_far = accumulate(one.train_seconds for one in log)
    tested_at = ((one.epoch, spent, one.test_accuracy) for one, spent in zip(log, so_far, strict=True))
    reached = ((epoch, spent) for epoch, spent, right in tested_at if right is not None and right >= recipe.target)
    environment = saved.run.get("environment")
    page = render(
        "run.html",
        styles=("base.css", "run.css"),
        name=saved.name,
        started=str(saved.run.get("started")),
        recipe=recipe,
        settings=asdict(recipe),
        execution=saved.run["execution"],
        environment=environment if isinstance(environment, dict) else {},
        result=saved.run["result"],
        dataset=dataset,
        log=log,
        accuracy=saved.final_accuracy,
        interval=(low[0], high[0]),
        crossing=next(reached, None),
        rate=statistics.median(one.images_per_second for one in log),
        epoch_seconds=statistics.median(one.train_seconds for one in log),
        tested=found,
        classes=_by_class(found),
        seen=seen,
        again=_again(saved, dataset),
        folded=len(found.classes) > FEW,
        pictures=drawn,
        sources=saved.sources(),
        **_layers(saved.model),
    )
    return write_page(folder, page, {name: one.png() for name, one in drawn.items()})


def _again(saved: Finished, dataset: Dataset) -> str | None:
    """The command line that trains the same again, in the run's folder; DIR is where the images of a folder are. None
    where no command does: of arrays in memory, and of code without a source."""
    recipe, execution = saved.recipe, saved.run["execution"]
    ships, folder = recipe.dataset in DATASETS, dataset.source.endswith(RULE)  # as a folder's says of each file
    if not (ships or folder) or unnamed(recipe) or None in own_files(recipe).values():
        return None
    parts = [part for part in ("device", "loader", "precision", "compile") if part in execution]
    flags = [word for part in parts for word in (f"--{part}", str(execution[part]))]
    flags += ["--sync-batchnorm"] if execution.get("sync_batchnorm") else []
    flags += [] if ships else ["--data", "DIR"]
    return shlex.join(["fastcifar", "train", "--recipe", f"{saved.name}.toml", *flags])


def _by_class(found: Tested) -> list[tuple[str, ...]]:
    """Name, images, accuracy and precision of each class, and the class it is most often taken for."""
    shares = accuracy_by_class(found.confusion), precision_by_class(found.confusion)
    rows: list[tuple[str, ...]] = []
    for k, (name, accuracy, precision) in enumerate(zip(found.classes, *shares, strict=True)):
        others = found.confusion[k].copy()  # a row at a time: of many classes the matrix takes most of the memory
        others[k] = 0
        images, worst = found.confusion[k].sum(), int(others.argmax())
        taken = f"{found.classes[worst]} ({percent(others[worst] / max(images, 1), 1)})"
        taken = taken.replace(" %", "\N{NO-BREAK SPACE}%") if others[worst] else "none"
        rows.append((name, f"{images:,}", percent(accuracy, 1), percent(precision, 1), taken))
    return rows


def _layers(model: nn.Module) -> dict[str, Any]:
    """The layers in the order in which they run, for one image, and the sums of their parameters and multiply-adds."""
    image = torch.zeros(1, 3, 32, 32, device=next(model.parameters()).device)
    summary = torchinfo.summary(model, input_data=image, depth=99, verbose=0)
    rows = []
    for one in summary.summary_list:
        if one.is_leaf_layer:
            names, above = [one.var_name], one.parent_info
            while above is not None and above.depth:
                names, above = [above.var_name, *names], above.parent_info
            sides = [one.kernel_size] * 2 if isinstance(one.kernel_size, int) else one.kernel_size or []
            kind = f"{one.class_name} {' × '.join(map(str, sides))}".strip()
            shape = " × ".join(map(str, one.output_size[1:]))
            numbers = (f"{number:,}" if number else "" for number in (one.num_params, one.macs))
            rows.append((".".join(names), kind, shape, *numbers))
    return {"layers": rows, "parameters": summary.total_params, "multiply_adds": summary.total_mult_adds}
