"""A finished run as one HTML file that loads nothing, and its pictures as PNG files beside it.

No script runs in it; text from the run's files is escaped, and the Content-Security-Policy lets nothing be loaded.
"""

import base64
import hashlib
import html
import json
import statistics
import struct
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from fastcifar.data.dataset import Dataset
from fastcifar.data.load import load_dataset
from fastcifar.errors import InputError
from fastcifar.report import run_tables
from fastcifar.report.figures import DARK, LIGHT, certainty, percent
from fastcifar.report.run_figures import Picture, Tested, pictures, tested, transformed
from fastcifar.report.run_tables import seconds
from fastcifar.training.log import EpochLog
from fastcifar.training.predictions import wilson
from fastcifar.training.run_directory import require_folder_of, write_whole
from fastcifar.training.saved import Saved, open_run


def write_report(
    run: Path,
    out: Path | None = None,
    data: Path | None = None,
    *,
    dataset: Dataset | None = None,
    found: Tested | None = None,
) -> Path:
    """Write index.html and its PNG files into `out`, by default `run`/report; return the path of index.html.

    `run` is the folder of a finished run. Its images are `dataset` where they are in memory already, else they are
    loaded, CIFAR-10 from `data` (see `load_cifar10`). The weights are tested again for what the log does not hold,
    unless that is `found` already (`tested`).
    Raises `InputError`, one line, where the run is not finished, its images are others, or a file cannot be written.
    """
    folder = run / "report" if out is None else out
    saved = open_run(run)
    require_folder_of(folder)
    log = read_log(saved)
    dataset = load_dataset(saved.recipe, data) if dataset is None else dataset
    _require_same_images(saved, dataset)
    page, drawn = _page(saved, log, dataset, tested(saved, dataset) if found is None else found)
    try:
        folder.mkdir(exist_ok=True)
        for name, png in drawn.items():
            write_whole(folder / f"{name}.png", png)
        write_whole(folder / "index.html", page.encode())
    except OSError as error:
        raise InputError(f"{folder}: the report cannot be written: {error.strerror}") from error
    return folder / "index.html"


def read_log(saved: Saved) -> list[EpochLog]:
    """The epochs of a run, from its events.jsonl. Raises `InputError` where they are not as a run writes them."""
    file = saved.path / "events.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    log = []
    for number, line in enumerate(lines, 1):
        try:
            log.append(EpochLog(**json.loads(line)))
            finite = all(np.isfinite(value) for value in asdict(log[-1]).values())
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{file}: line {number} is not an epoch as a run writes it: {error}") from error
        if not finite:
            raise InputError(f"{file}: line {number} holds a value that is not finite")
    if not log:
        raise InputError(f"{file}: no epoch in it, although the run is finished")
    return log


def _require_same_images(saved: Saved, dataset: Dataset) -> None:
    found = {
        "name": dataset.name,
        "train_images": len(dataset.train_images),
        "test_images": len(dataset.test_images),
    }
    if saved.run.get("dataset") != found:
        raise InputError(f"{saved.path / 'run.json'}: dataset: is not the one here: {dataset.describe()}")


def _page(saved: Saved, log: Sequence[EpochLog], dataset: Dataset, found: Tested) -> tuple[str, dict[str, bytes]]:
    """The text of index.html, and its pictures in light colours by name."""
    seen = transformed(saved.recipe, dataset)
    drawn = pictures(saved.recipe, log, dataset, found, seen)
    light = {name: one.draw(theme=LIGHT) for name, one in drawn.items()}
    layers, parameters = run_tables.layers(saved.model)
    again = f"The final weights on the {len(dataset.test_labels):,} test images, in {found.precision}."
    if abs(found.accuracy - saved.final_accuracy) > 1e-9:  # other hardware rounds differently
        again += f" Tested again for this page they get {percent(found.accuracy)}, of which the rest of this page is."
    style, recipe, run = asset("run.css"), saved.recipe, saved.run
    replaced = {
        "policy": policy(style),
        "style": style,
        "title": html.escape(f"{saved.name}, seed {recipe.seed}"),
        "lede": html.escape(_lede(saved, log, dataset)),
        "facts": _facts(saved, log, found, parameters),
        "again": html.escape(again),
        "surest": html.escape(f"The surest of them: {certainty(found.confidence[0])}.") if len(found.wrong) else "",
        "log": run_tables.epochs(log),
        "by_class": run_tables.classes(found.confusion, found.classes),
        "bins": run_tables.bins(found.calibration),
        "wrong": run_tables.mistakes(found.wrong.tolist(), found.true, found.predicted, found.confidence),
        "plans": run_tables.plans(seen.plans, recipe.augmentation),
        "layers": layers,
        "recipe": run_tables.values("recipe-values", "Recipe", asdict(recipe)),
        "times": run_tables.times(run["result"], log, recipe.target),
        "execution": run_tables.values("execution-values", "Execution", run["execution"]),
        "environment": run_tables.values("environment-values", "Environment", _environment(saved)),
    }
    for name, one in drawn.items():
        replaced[f"figure_{name.replace('-', '_')}"] = figure_html(one, light[name], one.draw(theme=DARK))
    # One pass over the template alone, so that a $ in a run's text stays one.
    return Template(asset("run.html")).substitute(replaced), light


def _lede(saved: Saved, log: Sequence[EpochLog], dataset: Dataset) -> str:
    environment, execution = _environment(saved), saved.run["execution"]
    machine = environment.get("gpu") or environment.get("cpu") or execution.get("device")
    images = "CIFAR-10" if dataset.name == "cifar10" else dataset.source
    return (
        f"{images}: {len(log)} epochs of {len(dataset.train_images):,} training images, "
        f"{len(dataset.test_images):,} test images; {machine}, {saved.precision}, loader {execution.get('loader')}; "
        f"begun {_moment(str(saved.run.get('started')))}."
    )


def _moment(started: str) -> str:
    try:
        return f"{datetime.fromisoformat(started).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return started


def _facts(saved: Saved, log: Sequence[EpochLog], found: Tested, parameters: int) -> str:
    """The figures at the head of the page."""
    images = np.array([int(found.confusion.sum())])
    low, high = wilson(np.array([round(saved.final_accuracy * images[0])]), images)
    target, total = saved.recipe.target, 0.0
    time, remark = "not reached", f"best {percent(max(one.test_accuracy for one in log))}"
    for one in log:
        total += one.train_seconds
        if one.test_accuracy >= target:
            time, remark = seconds(total), f"of training, in epoch {one.epoch}"
            break
    facts = (
        ("Test accuracy", percent(saved.final_accuracy), f"95 % interval {100 * low[0]:.2f} – {percent(high[0])}"),
        (f"Time to {100 * target:g} %", time, remark),
        ("Training", seconds(sum(one.train_seconds for one in log)), f"{len(log)} epochs"),
        ("Images/s", f"{statistics.median(one.images_per_second for one in log):,.0f}", "median epoch"),
        ("Parameters", f"{parameters:,}", f"{saved.recipe.model.width} wide"),
        ("Calibration error", percent(found.calibration.error), f"ECE, {len(found.calibration.count)} bins"),
    )
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)} <small>{html.escape(more)}</small></dd></div>"
        for name, value, more in facts
    )


def _environment(saved: Saved) -> dict[str, Any]:
    found = saved.run.get("environment")
    return found if isinstance(found, dict) else {}


def figure_html(one: Picture, light: bytes, dark: bytes) -> str:
    """A picture as a figure that holds both of its PNGs, of which the browser shows the one for its scheme."""
    width, height = struct.unpack(">II", light[16:24])  # of the PNG's header
    return (
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{_uri(dark)}">'
        f'<img src="{_uri(light)}" width="{width}" height="{height}" alt="{html.escape(one.alt)}"></picture>'
        f"<figcaption>{html.escape(one.caption)}</figcaption></figure>"
    )


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def asset(name: str) -> str:
    """The text of a file of this package."""
    return resources.files("fastcifar.report").joinpath(name).read_text(encoding="utf-8")


def policy(style: str) -> str:
    """The Content-Security-Policy of a page that has this style, pictures of its own, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
