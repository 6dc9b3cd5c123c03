"""The subcommands that use a finished run: report, compare, eval, predict, export."""

import sys

from rich.console import Console

from fastcifar.arguments_runs import Compare, Eval, ExportModel, Predict, Report
from fastcifar.errors import InputError
from fastcifar.execution import Execution, resolve

# torch is imported where it is first needed: see cli.py.


def report(command: Report, console: Console) -> None:
    """`fastcifar report`"""
    from fastcifar.report.run_page import write_report

    with console.status("drawing"):
        page = write_report(command.run, command.out, command.data)
    console.print(f"written: {page}", highlight=False, markup=False, soft_wrap=True)


def compare(command: Compare, console: Console) -> None:
    """`fastcifar compare`"""
    from fastcifar.report.compare_page import write_comparison

    with console.status("drawing"):
        page = write_comparison(command.runs, command.out)
    console.print(f"written: {page}", highlight=False, markup=False, soft_wrap=True)


def evaluate(command: Eval, console: Console) -> None:
    """`fastcifar eval`"""
    from fastcifar.data.images import RULE, printable, read_folder
    from fastcifar.data.load import load_dataset
    from fastcifar.report.evaluation import print_scores
    from fastcifar.training.saved import open_run
    from fastcifar.training.scores import score

    saved = open_run(command.run)
    execution, _ = resolve(Execution(device=command.device, precision=command.precision, compile="off"))
    device = execution.device
    precision: str = execution.precision
    if command.precision == "auto":
        precision = "float32" if (device, saved.precision) == ("cpu", "float16") else saved.precision
    if command.images is None:
        dataset = load_dataset(saved.recipe, command.data)
        images, labels = dataset.test_images, dataset.test_labels
        where = f"{len(images):,} test images of {dataset.name} ({dataset.source})"
    else:
        images, labels = read_folder(command.images, saved.classes)
        where = f"{len(images):,} images of {printable(command.images)}; of each, {RULE}"
    for line in (f"{saved.name}, {device}, {precision}, test-time augmentation {command.tta}", where):
        console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)
    scores = score(saved.model.to(device), images, labels, precision=precision, tta=command.tta)
    print_scores(console, scores, saved.classes)
    if command.images is None:
        said = f"the run's own last test: {saved.final_accuracy:.2%} ({saved.precision})"
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def predict(command: Predict, console: Console) -> None:
    """`fastcifar predict`"""
    import numpy as np

    from fastcifar.data.images import read_image
    from fastcifar.report.evaluation import predictions_json, print_predictions
    from fastcifar.training.saved import open_run
    from fastcifar.training.scores import probabilities

    if not command.images:
        raise InputError("IMAGE: name at least one image file")
    saved = open_run(command.run)
    files, images = [], []
    for file in command.images:
        try:
            images.append(read_image(file))
            files.append(file)
        except InputError as error:
            print(f"fastcifar: {' '.join(str(error).split())}", file=sys.stderr)
    found = probabilities(saved.model, np.stack(images)) if images else np.empty((0, 10), np.float32)
    if command.json:
        console.out(predictions_json(files, found, saved.classes), highlight=False)
    else:
        print_predictions(console, files, found, saved.classes)
    if refused := len(command.images) - len(files):
        raise InputError(f"{refused} of {len(command.images)} files refused")


def export(command: ExportModel, console: Console) -> None:
    """`fastcifar export`"""
    from fastcifar.data.load import load_dataset
    from fastcifar.training.export import export, require_packages
    from fastcifar.training.run_directory import require_folder_of
    from fastcifar.training.saved import open_run

    require_folder_of(command.out)
    if command.out.is_dir():
        raise InputError(f"--out {command.out}: is a folder; name a file")
    require_packages(command.format)
    saved = open_run(command.run)
    dataset = load_dataset(saved.recipe, command.data)
    with console.status("exporting"):
        checked = export(saved.model, command.format, command.out, dataset.test_images)
    said = (
        f"agrees with the network on {checked.images:,} test images of {dataset.name} (logits differ by at most "
        f"{checked.difference:.1g})\nwritten: {command.out}"
    )
    console.print(said, highlight=False, markup=False, emoji=False, soft_wrap=True)
